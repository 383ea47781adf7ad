//! Sealing everything again by the active key.
//!
//! Nothing is kept of how far it came: what names the active key is done, wherever an earlier run stopped.

use std::{collections::BTreeMap, time::Duration};

use locus_core::Clock;
use locus_fs::LockGuard;

use super::{
    known::Seen,
    seal::{self, Draft},
    store::{Inner, Vault},
};
use crate::{
    blobs::{ListCursor, Unreadable},
    error::{Result, VaultError},
    id::EntityId,
    keyring::KeyId,
    metadata::{EntityMetadata, SealedBy},
};

/// Most failures that a report names.
pub const FAILURES_NAMED_MAX: usize = 1_024;

const NANOS: u128 = 1_000_000_000;

/// How fast [`Vault::rewrap`] goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[must_use = "options do nothing until something is rewrapped by them"]
pub struct RewrapOptions {
    bytes_per_second: Option<u64>,
    entities_per_second: Option<u64>,
}

impl RewrapOptions {
    /// Most bytes of content that are sealed in a second, at least 1; `None`: as many as can be (the default).
    pub fn bytes_per_second(self, bytes_per_second: Option<u64>) -> Self {
        Self { bytes_per_second, ..self }
    }

    /// Most entities that are sealed in a second, at least 1; `None`: as many as can be (the default). Each costs two syncs.
    pub fn entities_per_second(self, entities_per_second: Option<u64>) -> Self {
        Self { entities_per_second, ..self }
    }

    fn check(&self) -> Result<()> {
        let rates =
            [("bytes_per_second", self.bytes_per_second), ("entities_per_second", self.entities_per_second)];
        match rates.into_iter().find(|(_, rate)| *rate == Some(0)) {
            Some((name, _)) => {
                Err(VaultError::InvalidArgument { name, why: "is 0: nothing would be rewrapped" })
            }
            None => Ok(()),
        }
    }
}

/// How far a rewrap is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct RewrapProgress {
    /// Entities that were looked at, those that were deleted and those that failed included.
    pub looked_at: u64,
    /// Entities that it sealed again.
    pub rewrapped: u64,
    /// Their contents, in bytes.
    pub bytes: u64,
    /// Entities that it could not.
    pub failed: u64,
    /// How many of the vault's 256 directories, which are about equally full, lie behind it. Rises by steps of some
    /// hundred entities.
    pub directories: u16,
}

/// Who is told how far a rewrap is, after each entity.
pub type OnRewrap<'a> = &'a mut (dyn FnMut(&RewrapProgress) + Send);

/// What a rewrap did.
#[derive(Debug)]
pub struct RewrapReport {
    /// The active key.
    pub key: KeyId,
    /// Entities that it sealed again.
    pub rewrapped: u64,
    /// Their contents, in bytes.
    pub bytes: u64,
    /// Entities that named the active key already.
    pub already: u64,
    /// What somebody else sealed, and stays as it is.
    pub foreign: u64,
    /// Entities that it could not.
    pub failed: u64,
    /// The first [`FAILURES_NAMED_MAX`] of these.
    pub failures: Vec<Unreadable>,
    /// By how many of these each other key is still named. Of one whose file cannot be read nobody knows.
    pub left: BTreeMap<KeyId, u64>,
}

/// When the next entity may be sealed.
#[derive(Debug)]
struct Pace {
    options: RewrapOptions,
    next: Duration,
}

impl Pace {
    /// Counts an entity that was sealed. Says until when to wait before the next one.
    fn spend(&mut self, bytes: u64, now: Duration) -> Duration {
        let time = |amount: u64, rate: Option<u64>| {
            let nanos = rate.map_or(0, |rate| u128::from(amount) * NANOS / u128::from(rate.max(1)));
            Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
        };
        let costs = time(bytes, self.options.bytes_per_second).max(time(1, self.options.entities_per_second));
        // What was not used is not saved up.
        self.next = self.next.max(now).saturating_add(costs);
        self.next
    }
}

/// What became of an entity.
enum Rewrapped {
    Sealed { bytes: u64 },
    Already,
    Foreign,
    Gone,
}

impl Vault {
    /// Seals every entity that names another key than the active one again, by the active key: deleted ones too, each under
    /// its own lock. What an entity says of itself stays as it is, its version too: who expects that version still finds it,
    /// and who keeps its content opens it once more. An entity that somebody holds is waited for, as a change would.
    ///
    /// Any number of processes may do it at a time. Run again, it does what is left. A process that does not know of the
    /// active key yet opens nothing of what was rewrapped: see [`VaultOptions::keyring_file`](super::VaultOptions::keyring_file)
    /// and [`set_keyring`](Self::set_keyring).
    ///
    /// # Errors
    /// [`VaultError::InvalidArgument`]; [`VaultError::ReadFailed`] when a directory cannot be listed;
    /// [`VaultError::ReadOnly`]; [`VaultError::ShuttingDown`]; with a keyring's file those of
    /// [`KeyringFile::refresh`](crate::KeyringFile::refresh). Of an entity that could not be rewrapped (it does not open,
    /// or somebody held it all the time) the report tells; it is as it was.
    ///
    /// # Cancel safety
    /// What was rewrapped is; the next run does the rest.
    pub async fn rewrap(&self, options: RewrapOptions, progress: OnRewrap<'_>) -> Result<RewrapReport> {
        options.check()?;
        self.inner.blobs.check_writable()?;
        // By a key that is active no more it would all have to be done again.
        self.run(|inner| inner.renew_ring(&inner.ring())).await?;
        let mut report = RewrapReport {
            key: self.keyring().active().0,
            rewrapped: 0,
            bytes: 0,
            already: 0,
            foreign: 0,
            failed: 0,
            failures: Vec::new(),
            left: BTreeMap::new(),
        };
        let mut pace = Pace { options, next: Duration::ZERO };
        let (mut from, mut directories) = (None, 0);
        loop {
            let page = self.run(move |inner| inner.blobs.shelf().list(from, true)).await?;
            for unreadable in page.unreadable {
                report.fail(unreadable);
                progress(&report.progress(directories));
            }
            for metadata in page.entries {
                self.clock().sleep_until(pace.next).await;
                match self.rewrap_one(&metadata).await {
                    Ok(Rewrapped::Sealed { bytes }) => {
                        report.rewrapped += 1;
                        report.bytes = report.bytes.saturating_add(bytes);
                        pace.spend(bytes, self.clock().monotonic());
                    }
                    Ok(Rewrapped::Already) => report.already += 1,
                    Ok(Rewrapped::Foreign) => report.foreign += 1,
                    Ok(Rewrapped::Gone) => continue,
                    Err(stop @ (VaultError::ShuttingDown | VaultError::ReadOnly { .. })) => return Err(stop),
                    Err(why) => {
                        if let SealedBy::Suite { key, .. } = metadata.sealed {
                            *report.left.entry(key).or_default() += 1;
                        }
                        report.fail(Unreadable { path: self.inner.blobs.shelf().path(&metadata.id), why });
                    }
                }
                progress(&report.progress(directories));
            }
            from = page.next;
            directories = from.map_or(256, ListCursor::directories);
            progress(&report.progress(directories));
            if from.is_none() {
                return Ok(report);
            }
        }
    }

    /// `listed` is what was seen of it without its lock.
    async fn rewrap_one(&self, listed: &EntityMetadata) -> Result<Rewrapped> {
        match listed.sealed {
            SealedBy::Foreign { .. } => return Ok(Rewrapped::Foreign),
            SealedBy::Suite { key, .. } if key == self.keyring().active().0 => return Ok(Rewrapped::Already),
            SealedBy::Suite { .. } => {}
        }
        let (id, lock) = (listed.id.clone(), self.hold(&listed.id).await?);
        self.run(move |inner| inner.rewrap(&lock, &id)).await
    }

    fn clock(&self) -> &dyn Clock {
        &*self.inner.blobs.options().clock
    }
}

impl RewrapReport {
    fn fail(&mut self, what: Unreadable) {
        self.failed += 1;
        if self.failures.len() < FAILURES_NAMED_MAX {
            self.failures.push(what);
        }
    }

    fn progress(&self, directories: u16) -> RewrapProgress {
        RewrapProgress {
            looked_at: self.rewrapped + self.already + self.foreign + self.failed,
            rewrapped: self.rewrapped,
            bytes: self.bytes,
            failed: self.failed,
            directories,
        }
    }
}

impl Inner {
    fn rewrap(&self, lock: &LockGuard, id: &EntityId) -> Result<Rewrapped> {
        let before = self.seen(id);
        let Some(found) = self.blobs.shelf().read(id)? else { return Ok(Rewrapped::Gone) };
        match found.metadata.sealed {
            SealedBy::Foreign { .. } => return Ok(Rewrapped::Foreign),
            SealedBy::Suite { key, .. } if key == self.ring().active().0 => return Ok(Rewrapped::Already),
            SealedBy::Suite { .. } => {}
        }
        let (key, read) = (self.with_ring(|ring| seal::content_key(&found, ring))?, Seen::of(&found));
        let (metadata, content) = seal::open(found, &key)?;
        self.believe(id, before, read)?;
        let EntityMetadata { version, schema, writer, written_at, is_deleted, .. } = metadata;
        let writer = &writer;
        self.publish(lock, Draft { id, version, schema, writer, written_at, is_deleted, content: &content })?;
        Ok(Rewrapped::Sealed { bytes: content.len() as u64 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sealing_is_paid_for_by_waiting_and_idle_time_is_not_saved_up() {
        let millis = Duration::from_millis;
        let both = RewrapOptions::default().bytes_per_second(Some(1_000)).entities_per_second(Some(10));
        let mut pace = Pace { options: both, next: Duration::ZERO };
        assert_eq!(pace.spend(500, millis(0)), millis(500));
        assert_eq!(pace.spend(0, millis(500)), millis(600));
        assert_eq!(pace.spend(1_000, millis(5_000)), millis(6_000));
        let mut pace = Pace { options: RewrapOptions::default(), next: Duration::ZERO };
        assert_eq!(pace.spend(u64::MAX, millis(7)), millis(7));
    }
}
