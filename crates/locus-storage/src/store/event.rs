//! What a record of the journal means. Records carry outcomes, never commands to decide again: replay under other
//! settings gives the same state.
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::{collections::BTreeMap, ops::Range};

use locus_core::{
    Area, Checksum, Epoch, Error, FileKey, Limit, LogicalDir, Lsn, Owner, Remember, Result, Scope, Seal,
    StoragePath, StoreTime, TenantId, Timestamp, VolumeId, VolumeStanding,
};
use postcard::ser_flavors::{Flavor, Size};
use serde::{Deserialize, Serialize};

use crate::time::Stamp;

/// The version byte that every body begins with.
const VERSION: u8 = 1;

/// A record's body.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) enum Record {
    /// Changes to files, tenant by tenant: all or none.
    Files { wall: Timestamp, time: StoreTime, groups: Vec<(TenantId, Vec<Change>)> },
    /// The store was opened: later tokens carry this epoch.
    Opened { wall: Timestamp, time: StoreTime, epoch: Epoch },
    /// A limit was set or reset at run time.
    LimitSet { scope: Scope, limit: Limit },
    /// A tenant without files was removed: limits that were set for it and its idempotency keys are forgotten, so that a
    /// later one of its name inherits nothing.
    TenantGone { tenant: TenantId },
    /// Something was decided about a volume.
    VolumeStands { volume: VolumeId, standing: VolumeStanding },
}

/// What happened to files of one tenant.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) enum Change {
    Accepted(Accepted),
    Leased {
        keys: Vec<FileKey>,
        deadline: StoreTime,
        ttl_micros: u64,
        owner: Owner,
        by: Option<String>,
    },
    Renewed {
        key: FileKey,
        deadline: StoreTime,
        ttl_micros: u64,
    },
    Released {
        key: FileKey,
    },
    Completed {
        keys: Vec<FileKey>,
    },
    /// A worker failed; without a due time it was the last failure.
    Failed {
        key: FileKey,
        error: String,
        available_at: Option<StoreTime>,
    },
    /// Leases ran out.
    TimedOut {
        keys: Vec<FileKey>,
        given_up: Vec<FileKey>,
    },
    /// Leases ended with the process that held them.
    Interrupted {
        keys: Vec<FileKey>,
        given_up: Vec<FileKey>,
    },
    /// Leases of outsiders got their full time again, because the store was closed.
    Resumed {
        leases: Vec<(FileKey, StoreTime)>,
    },
    Reset {
        key: FileKey,
    },
    Deleted {
        key: FileKey,
    },
    /// The content rests elsewhere now, durably; what is said of it here replaces what was said before.
    Moved {
        key: FileKey,
        place: Resting,
        size: u64,
        checksum: Checksum,
    },
    /// The bytes are durably gone, so the records go.
    Reaped {
        keys: Vec<FileKey>,
    },
    /// An idempotency key is no longer remembered.
    Forgotten {
        hash: u128,
    },
    /// An upload began. Its end is [`Accepted`](Self::Accepted) with its key, or [`UploadEnded`](Self::UploadEnded).
    UploadBegun(UploadBegun),
    /// From now on its bytes are put together here; nothing of them is confirmed.
    UploadStaged {
        key: FileKey,
        staging: FileKey,
    },
    /// These ranges are there, durably.
    UploadConfirmed {
        key: FileKey,
        ranges: Vec<Range<u64>>,
    },
    /// It was aborted, or nothing came for too long.
    UploadEnded {
        key: FileKey,
    },
    /// A file that failed for the last time is a dead letter, and its content rests among those of this volume, durably.
    DeadLettered {
        key: FileKey,
        volume: VolumeId,
    },
    /// A dead letter is pending again, with fresh counts, and its content rests among the files of the queue on this volume,
    /// durably.
    Requeued {
        key: FileKey,
        volume: VolumeId,
    },
    /// The content is about to be written under this name as well, for a move. Unless a record says that it rests there, it is a
    /// copy that nobody names.
    Announced {
        key: FileKey,
        volume: VolumeId,
        area: Area,
    },
    /// A copy that nobody named is gone, durably.
    CopyRemoved {
        key: FileKey,
        volume: VolumeId,
        area: Area,
    },
    /// A file that this very record accepts was tried to be written here first: what that left is a copy that nobody names.
    Astray {
        key: FileKey,
        volume: VolumeId,
    },
    /// The content that this very record speaks of is sealed, in this way.
    Sealed {
        key: FileKey,
        seal: Seal,
    },
    /// As [`Announced`](Self::Announced), under the name of a content that is sealed on its way.
    AnnouncedSealed {
        key: FileKey,
        volume: VolumeId,
        area: Area,
        turn: u32,
    },
    /// As [`Moved`](Self::Moved), of a content that was sealed anew on its way: name and properties are part of the seal from now on.
    Resealed {
        key: FileKey,
        place: Resting,
        size: u64,
        checksum: Checksum,
        seal: Seal,
        error: Option<String>,
    },
}

/// A new upload.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct UploadBegun {
    pub(crate) key: FileKey,
    /// `None` when it is the tenant's own id.
    pub(crate) owner: Option<StoragePath>,
    pub(crate) directory: LogicalDir,
    pub(crate) original_name: Option<String>,
    pub(crate) properties: BTreeMap<String, String>,
    pub(crate) size: u64,
    pub(crate) expected: Option<Checksum>,
    pub(crate) volume: VolumeId,
}

/// A new file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Accepted {
    pub(crate) key: FileKey,
    /// `None` when it is the tenant's own id.
    pub(crate) owner: Option<StoragePath>,
    pub(crate) directory: LogicalDir,
    pub(crate) original_name: Option<String>,
    pub(crate) properties: BTreeMap<String, String>,
    pub(crate) size: u64,
    pub(crate) checksum: Checksum,
    pub(crate) place: Resting,
    pub(crate) idempotency: Option<(u128, Remember)>,
}

/// Where content rests, as records say it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Resting {
    /// A blob on a volume, synced before the record or not.
    Volume { id: VolumeId, synced: bool },
    /// In the attachment of this very record, from this position on.
    Inline { at: u32 },
}

impl Record {
    /// The body as bytes.
    pub(crate) fn encode(&self) -> Vec<u8> {
        encode(self)
    }

    /// A record of changes to one tenant's files.
    pub(crate) fn files(stamp: Stamp, tenant: &TenantId, changes: Vec<Change>) -> Self {
        Record::Files { wall: stamp.wall, time: stamp.time, groups: vec![(tenant.clone(), changes)] }
    }

    /// Reads a body. Its checksum was good, so anything unreadable is damage or a newer version.
    pub(crate) fn decode(body: &[u8], lsn: Lsn) -> Result<Self> {
        let place = || format!("journal record {lsn}");
        match body.split_first() {
            Some((&VERSION, rest)) => postcard::from_bytes(rest).map_err(|why| Error::Corrupt {
                place: place(),
                why: format!("it cannot be decoded: {why}").into(),
            }),
            Some((&found, _)) => {
                Err(Error::NewerFormat { place: place(), found: found.into(), supported: VERSION.into() })
            }
            None => Err(Error::Corrupt { place: place(), why: "it is empty".into() }),
        }
    }
}

/// [`Record::Files`] of what others own: the same bytes, and nothing is copied to say them.
#[derive(Serialize)]
enum Borrowed<'a> {
    Files { wall: Timestamp, time: StoreTime, groups: &'a [(&'a TenantId, &'a [Change])] },
}

/// The body of a record of changes to files, tenant by tenant.
pub(crate) fn encode_files(stamp: Stamp, groups: &[(&TenantId, &[Change])]) -> Vec<u8> {
    encode(&Borrowed::Files { wall: stamp.wall, time: stamp.time, groups })
}

fn encode(record: &impl Serialize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(192);
    bytes.push(VERSION);
    postcard::serialize_with_flavor(record, Body(bytes)).expect("because every field can be said in postcard")
}

/// Where a body is put together. (`postcard::to_extend` adds even what is at hand as a slice byte by byte.)
struct Body(Vec<u8>);

impl Flavor for Body {
    type Output = Vec<u8>;

    #[inline]
    fn try_push(&mut self, byte: u8) -> postcard::Result<()> {
        self.0.push(byte);
        Ok(())
    }

    #[inline]
    fn try_extend(&mut self, bytes: &[u8]) -> postcard::Result<()> {
        self.0.extend_from_slice(bytes);
        Ok(())
    }

    fn finalize(self) -> postcard::Result<Vec<u8>> {
        Ok(self.0)
    }
}

/// Most bytes that a body takes beside its changes, for one tenant.
pub(crate) const FRAME_BYTES: usize = 128;
/// Most bytes that a key takes in a list, or as a change of its own.
pub(crate) const KEY_BYTES: usize = 20;
/// Most bytes that a change takes beside its keys and texts.
pub(crate) const CHANGE_BYTES: usize = 64;
/// Most bytes that a move takes, the name of a volume included.
pub(crate) const MOVED_BYTES: usize = 160;

/// Most bytes of a body with a change to so many files of a tenant, or with one for each of them that says its key alone.
#[expect(clippy::arithmetic_side_effects, reason = "batches are bounded")]
pub(crate) const fn keys_bound(keys: usize) -> usize {
    FRAME_BYTES + CHANGE_BYTES + keys * KEY_BYTES
}

/// Most bytes of a body with these changes to one tenant's files.
#[expect(clippy::arithmetic_side_effects, reason = "batches are bounded")]
pub(crate) fn body_bound(changes: &[Change]) -> usize {
    let size = postcard::serialize_with_flavor(changes, Size::default());
    FRAME_BYTES + size.expect("because every field can be said in postcard")
}

#[cfg(test)]
#[allow(clippy::arithmetic_side_effects)]
mod tests {
    use locus_core::SealKeyId;
    use rstest::rstest;

    use super::*;

    /// As long as they come.
    fn body(changes: Vec<Change>) -> Vec<u8> {
        let tenant = TenantId::parse(&"a".repeat(63)).unwrap();
        let stamp = Stamp { wall: Timestamp::from_micros(i64::MIN), time: StoreTime::from_micros(u64::MAX) };
        let bytes = encode_files(stamp, &[(&tenant, &changes)]);
        let record = Record::files(stamp, &tenant, changes);
        assert_eq!(Record::decode(&bytes, Lsn(1)).unwrap(), record);
        assert_eq!(record.encode(), bytes);
        bytes
    }

    /// Room is reserved by the bound: too little of it is never there, and too much of it refuses what would fit.
    #[track_caller]
    fn bounds(bound: usize, body: &[u8]) {
        assert!(
            (body.len()..=body.len() + body.len() * 3 / 4 + 512).contains(&bound),
            "{bound} for {}",
            body.len()
        );
    }

    #[rstest]
    fn a_record_survives_its_encoding_within_its_bound(#[values(1, 64, 4_096)] files: usize) {
        let keys = vec![FileKey::from_bytes([0xff; 16]); files];
        let leased = body(vec![Change::Leased {
            keys: keys.clone(),
            deadline: StoreTime::from_micros(u64::MAX),
            ttl_micros: u64::MAX,
            owner: Owner::Outside,
            by: Some("w".repeat(128)),
        }]);
        bounds(keys_bound(files) + 128, &leased);
        for (keys, given_up) in [(keys.clone(), vec![]), (vec![], keys.clone())] {
            bounds(keys_bound(files), &body(vec![Change::TimedOut { keys, given_up }]));
        }
        bounds(keys_bound(files), &body(vec![Change::Completed { keys: keys.clone() }]));
        bounds(keys_bound(files), &body(keys.iter().map(|key| Change::Released { key: *key }).collect()));
        bounds(keys_bound(files), &body(keys.iter().map(|key| Change::UploadEnded { key: *key }).collect()));
    }

    #[test]
    fn a_new_file_fits_its_bound_whatever_it_is_called() {
        for text in [0_usize, 1, 1_024] {
            let accepted = Change::Accepted(Accepted {
                key: FileKey::from_bytes([0xff; 16]),
                owner: Some(StoragePath::parse("a+0000000f").unwrap()),
                directory: LogicalDir::parse(&"d".repeat(text.saturating_sub(1))).unwrap(),
                original_name: Some("n".repeat(text)),
                properties: [("p".repeat(text), "v".repeat(text))].into(),
                size: u64::MAX,
                checksum: Checksum::of(b""),
                place: Resting::Inline { at: u32::MAX },
                idempotency: Some((u128::MAX, Remember::UntilForgotten)),
            });
            let bound = body_bound(std::slice::from_ref(&accepted));
            bounds(bound, &body(vec![accepted]));
        }
    }

    #[test]
    fn what_is_said_of_one_file_fits_the_bound_for_one() {
        let (key, ends) = (FileKey::from_bytes([0xff; 16]), StoreTime::from_micros(u64::MAX));
        let checksum = Checksum::of(b"");
        for change in [
            Change::Renewed { key, deadline: ends, ttl_micros: u64::MAX },
            Change::Failed { key, error: String::new(), available_at: Some(ends) },
            Change::Resumed { leases: vec![(key, ends)] },
            Change::Moved { key, place: Resting::Inline { at: u32::MAX }, size: u64::MAX, checksum },
            Change::Forgotten { hash: u128::MAX },
            Change::DeadLettered { key, volume: VolumeId::parse("v").unwrap() },
            Change::Requeued { key, volume: VolumeId::parse("v").unwrap() },
            Change::Announced { key, volume: VolumeId::parse("v").unwrap(), area: Area::DeadLetters },
            Change::CopyRemoved { key, volume: VolumeId::parse("v").unwrap(), area: Area::Live },
            Change::Astray { key, volume: VolumeId::parse("v").unwrap() },
            Change::Sealed {
                key,
                seal: Seal { key: SealKeyId::from_bytes([0xff; 16]), details: Box::new([]), turn: u32::MAX },
            },
            Change::AnnouncedSealed {
                key,
                volume: VolumeId::parse("v").unwrap(),
                area: Area::DeadLetters,
                turn: u32::MAX,
            },
        ] {
            bounds(keys_bound(1), &body(vec![change]));
        }
    }

    #[test]
    fn b68_a_newer_body_is_refused_by_name_and_an_unreadable_one_is_damage() {
        assert!(matches!(Record::decode(&[9, 0], Lsn(7)), Err(Error::NewerFormat { found: 9, .. })));
        assert!(matches!(Record::decode(&[VERSION, 0xff], Lsn(7)), Err(Error::Corrupt { .. })));
        assert!(matches!(Record::decode(&[], Lsn(7)), Err(Error::Corrupt { .. })));
    }
}
