//! Leases: the right to process one file until a deadline, proven by a fencing token.

use std::{fmt, sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{Error, FileKey, Result, TenantId, Timestamp, properties::check_size};

/// A position in the journal: strictly increasing for ever, never used twice. 0 is before the first record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Lsn(pub u64);

impl Lsn {
    /// Before the first record.
    pub const ZERO: Self = Self(0);
    /// Beyond every record.
    pub const MAX: Self = Self(u64::MAX);

    /// The position after this one.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl fmt::Display for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// One opening of a store: its number and 64 random bits, so that an opening that a power cut erased is not imitated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub struct Epoch {
    /// How often the store was opened, this time included.
    pub count: u64,
    /// Drawn at each opening.
    pub random: u64,
}

/// A fencing token (Kleppmann, "How to do distributed locking", 2016): names one lease, never reused, never a clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Token {
    /// The opening of the store that issued it.
    pub epoch: Epoch,
    /// The record that issued it.
    pub lsn: Lsn,
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{:016x}-{}", self.epoch.count, self.epoch.random, self.lsn)
    }
}

/// The right to process one file until a deadline. Can be serialised, so that it can travel to another process.
///
/// A dropped lease runs out by itself; nothing happens at the drop.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// Whose file it is.
    pub tenant: TenantId,
    /// Which file.
    pub key: FileKey,
    /// Proves the right.
    pub token: Token,
    /// When the lease runs out, as the wall clock said when it was issued. For people: the store counts in its own
    /// time.
    pub deadline: Timestamp,
    /// Which delivery of the file this is; 1 is the first.
    pub attempt: u32,
}

/// Who holds a lease, which decides what happens to it when the process ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub enum Owner {
    /// A worker inside this process: the lease is released at the next open.
    #[default]
    Process,
    /// A worker outside this process: the lease gets its full time again at the next open.
    Outside,
}

/// Longest worker name, in bytes.
pub const WORKER_NAME_BYTES_MAX: usize = 128;

/// How a lease is taken.
///
/// ```
/// # use locus_core::{LeaseOptions, Owner};
/// # use std::time::Duration;
/// let options = LeaseOptions::new().ttl(Duration::from_secs(60)).owner(Owner::Outside).name("scanner-7");
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct LeaseOptions {
    /// How long the lease lasts; `None` is the store's visibility timeout.
    pub ttl: Option<Duration>,
    /// Who holds it.
    pub owner: Owner,
    /// The worker's name, shown as `processing_by`. At most 128 bytes.
    pub name: Option<Arc<str>>,
}

impl LeaseOptions {
    /// The defaults: the store's visibility timeout, owned by this process, no name.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets how long the lease lasts.
    #[must_use]
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.ttl = Some(ttl);
        self
    }

    /// Sets who holds the lease.
    #[must_use]
    pub fn owner(mut self, owner: Owner) -> Self {
        self.owner = owner;
        self
    }

    /// Sets the worker's name.
    #[must_use]
    pub fn name(mut self, name: impl Into<Arc<str>>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Refuses a time of zero and a name that is too long.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`], [`Error::TooLarge`].
    pub fn check(&self) -> Result<()> {
        if self.ttl == Some(Duration::ZERO) {
            return Err(Error::InvalidArgument { name: "ttl", why: "must be longer than zero" });
        }
        check_size("worker name", self.name.as_ref().map_or(0, |name| name.len()), WORKER_NAME_BYTES_MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_is_taken_for_some_time_and_under_a_name_of_at_most_128_bytes() {
        let moment = Duration::from_nanos(1);
        for good in [
            LeaseOptions::new(),
            LeaseOptions::new().ttl(moment),
            LeaseOptions::new().name("w".repeat(WORKER_NAME_BYTES_MAX)),
        ] {
            assert!(good.check().is_ok(), "{good:?}");
        }
        let zero = LeaseOptions::new().ttl(Duration::ZERO);
        assert!(matches!(zero.check(), Err(Error::InvalidArgument { name: "ttl", .. })));
        let long = LeaseOptions::new().name("w".repeat(WORKER_NAME_BYTES_MAX + 1));
        assert!(matches!(long.check(), Err(Error::TooLarge { size: 129, limit: 128, .. })));
    }
}
