//! One file in memory: compact, cold strings apart.

use locus_core::{
    Area, Checksum, FileInfo, FileKey, FileRecord, FileStatus, LogicalDir, Lsn, Owner, Place, Properties,
    Seal, StoragePath, StoreTime, TenantId, Timestamp, Token,
};

use crate::{journal::LogPlace, time::StoreClock};

/// Number of a volume in the table of [`Places`](super::places::Places).
pub(crate) type VolumeNo = u16;
/// Stands for the journal where the number of a volume is asked for.
pub(crate) const JOURNAL: VolumeNo = VolumeNo::MAX;
/// Number of a directory in its tenant.
pub(crate) type DirNo = u32;

/// Position in the accept order of a tenant: the LSN of the accept and the file's place in that record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Order(u64);

/// Most files that one record accepts.
pub(crate) const ACCEPT_MAX: usize = 4_096;

impl Order {
    pub(crate) fn new(lsn: Lsn, ordinal: usize) -> Self {
        Self(lsn.0 * ACCEPT_MAX as u64 + ordinal as u64)
    }

    /// The LSN of the accept.
    pub(crate) fn lsn(self) -> Lsn {
        Lsn(self.0 / ACCEPT_MAX as u64)
    }

    pub(crate) fn raw(self) -> u64 {
        self.0
    }

    pub(crate) fn from_raw(raw: u64) -> Self {
        Self(raw)
    }
}

/// Where a content rests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rest {
    Volume(VolumeNo),
    Journal(LogPlace),
}

impl Rest {
    /// The volume's number, or [`JOURNAL`]: files that wait are queued by it.
    pub(crate) const fn number(self) -> VolumeNo {
        match self {
            Self::Volume(volume) => volume,
            Self::Journal(_) => JOURNAL,
        }
    }
}

/// A file.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Entry {
    pub(crate) key: FileKey,
    pub(crate) order: Order,
    /// The last record that changed it.
    pub(crate) last: Lsn,
    pub(crate) size: u64,
    pub(crate) checksum: Checksum,
    pub(crate) created_at: Timestamp,
    pub(crate) modified_at: Timestamp,
    /// The store time that matters in its state: when a delayed file is due; since when a file is completed, failed for the
    /// last time or is a dead letter. Zero in every other state.
    pub(crate) moment: StoreTime,
    pub(crate) directory: DirNo,
    pub(crate) retry_count: u32,
    pub(crate) attempts: u32,
    pub(crate) rest: Rest,
    /// The part of its volume that its bytes lie in: the dead letters' from when it becomes one until it is requeued, also when
    /// it is deleted then.
    pub(crate) area: Area,
    pub(crate) status: FileStatus,
    /// How many of the last deliveries in a row ended with the process.
    pub(crate) interrupted: u8,
    pub(crate) original_name: Option<Box<str>>,
    /// What few files have.
    pub(crate) cold: Option<Box<Cold>>,
    /// The last delivery, when there was one.
    pub(crate) delivery: Option<Box<Delivery>>,
}

/// What few files have, and most commands do not touch.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Cold {
    pub(crate) properties: Properties,
    pub(crate) owner: Option<StoragePath>,
    /// The idempotency key that names the file.
    pub(crate) idempotency: Option<u128>,
    /// How its content is sealed, when it is.
    pub(crate) seal: Option<Seal>,
}

/// How a delivery ended, as far as a late call of its holder must know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) enum Ended {
    /// It did not: the file is leased.
    Not,
    /// The worker failed, released or completed.
    ByHolder,
    /// Time ran out, or the process died.
    ByTime,
}

/// A delivery of a file to a worker.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Delivery {
    /// The last issued token; `None` after a reset.
    pub(crate) token: Option<Token>,
    pub(crate) ended: Ended,
    pub(crate) owner: Owner,
    pub(crate) deadline: StoreTime,
    pub(crate) ttl_micros: u64,
    pub(crate) by: Option<Box<str>>,
    pub(crate) started_at: Timestamp,
    pub(crate) heartbeat_at: Timestamp,
    pub(crate) failed_at: Option<Timestamp>,
    pub(crate) error: Option<Box<str>>,
}

/// Most bytes that an entry takes in a checkpoint beside its texts,
const SAVED_BYTES: usize = 208;
/// what is in [`Cold`] (an owner and an idempotency key),
const SAVED_COLD_BYTES: usize = 112;
/// and a delivery.
const SAVED_DELIVERY_BYTES: usize = 96;
/// Where its bytes lie, when that is not where its state says: counted before it is so.
const SAVED_AREA_BYTES: usize = 24;
/// What says how it is sealed, beside the details: at worst in a frame of its own.
pub(crate) const SAVED_SEAL_BYTES: usize = 114;
/// So many interrupted deliveries in a row make a suspect.
const SUSPECT_AFTER: u8 = 2;

/// Where an entry waits, as a pure function of the entry: the queues are derived from this and nothing else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Waits {
    /// To be leased.
    Ready,
    /// To be leased, and not beside another suspect.
    Suspect,
    /// Until it is due.
    Delayed(StoreTime),
    /// Until its lease ends.
    Leased(StoreTime),
    /// To be reaped.
    Over,
    /// For an operator.
    Nowhere,
}

impl Entry {
    pub(crate) fn waits(&self) -> Waits {
        match self.status {
            FileStatus::Pending if self.moment > StoreTime::ZERO => Waits::Delayed(self.moment),
            FileStatus::Pending if self.is_suspect() => Waits::Suspect,
            FileStatus::Pending => Waits::Ready,
            FileStatus::Processing => {
                Waits::Leased(self.delivery.as_ref().map_or(StoreTime::ZERO, |delivery| delivery.deadline))
            }
            status if status.is_over() => Waits::Over,
            _ => Waits::Nowhere,
        }
    }

    /// Whether it matters how long it has been in its state.
    pub(crate) const fn ages(&self) -> bool {
        matches!(
            self.status,
            FileStatus::Completed | FileStatus::PermanentlyFailed | FileStatus::DeadLettered
        )
    }

    /// Whether it counts against quotas: dead letters do not, also while their bytes are removed.
    pub(crate) fn counts(&self) -> bool {
        self.area == Area::Live
    }

    /// Whether the last two deliveries ended with the process.
    pub(crate) fn is_suspect(&self) -> bool {
        self.interrupted >= SUSPECT_AFTER
    }

    pub(crate) fn token(&self) -> Option<Token> {
        self.delivery.as_ref()?.token
    }

    pub(crate) fn owner(&self, tenant: &TenantId) -> StoragePath {
        self.cold.as_ref().and_then(|cold| cold.owner.clone()).unwrap_or_else(|| tenant.into())
    }

    /// Most bytes that it takes in a checkpoint, without the name of its directory.
    pub(crate) fn saved_bytes(&self) -> u64 {
        let text = |text: &Option<Box<str>>| text.as_ref().map_or(0, |text| text.len());
        let cold = self.cold.as_deref().map_or(0, |cold| {
            let properties = cold.properties.iter().map(|(name, value)| name.len() + value.len() + 4);
            let seal = cold.seal.as_ref().map_or(0, |seal| seal.details.len() + SAVED_SEAL_BYTES);
            properties.sum::<usize>() + seal + SAVED_COLD_BYTES
        });
        let name = text(&self.original_name);
        let delivery = self.delivery.as_deref();
        let delivery = delivery.map_or(0, |delivery| text(&delivery.by) + text(&delivery.error));
        // A delivery counts before there is one: leasing must need no room.
        let area = if self.area == Area::Live { 0 } else { SAVED_AREA_BYTES };
        (SAVED_BYTES + SAVED_DELIVERY_BYTES + area + name + cold + delivery) as u64
    }

    /// The record as callers see it.
    pub(crate) fn record(
        &self,
        tenant: &TenantId,
        directory: LogicalDir,
        place: Place,
        clock: &StoreClock,
    ) -> FileRecord {
        let cold = self.cold.as_deref();
        let delivery = self.delivery.as_deref();
        let leased = delivery.filter(|_| self.status == FileStatus::Processing);
        let delayed = self.status == FileStatus::Pending && self.moment > StoreTime::ZERO;
        FileRecord {
            info: FileInfo {
                key: self.key,
                tenant: tenant.clone(),
                size: self.size,
                checksum: self.checksum,
                original_name: self.original_name.as_deref().map(String::from),
                directory,
                properties: cold.map(|cold| cold.properties.clone()).unwrap_or_default(),
                created_at: self.created_at,
                modified_at: self.modified_at,
                status: self.status,
                retry_count: self.retry_count,
                attempts: self.attempts,
            },
            place,
            seal: cold.and_then(|cold| cold.seal.clone()),
            owner: self.owner(tenant),
            area: self.area,
            last_failed_at: delivery.and_then(|delivery| delivery.failed_at),
            last_error: delivery.and_then(|delivery| delivery.error.as_deref().map(String::from)),
            available_at: delayed.then(|| clock.wall_at(self.moment)),
            processing_started_at: leased.map(|delivery| delivery.started_at),
            processing_by: leased.and_then(|delivery| delivery.by.as_deref().map(String::from)),
            last_heartbeat: leased.map(|delivery| delivery.heartbeat_at),
        }
    }
}
