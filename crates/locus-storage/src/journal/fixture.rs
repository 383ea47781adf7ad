//! A log on a simulated disk, for tests of its parts. Nothing runs beside a test: it takes the steps of keeper and
//! committer itself.

use std::{
    path::Path,
    pin::pin,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use bytes::Bytes;
use locus_core::{Lsn, StoreId};
use locus_fs::create_dirs;
use locus_testkit::{ManualClock, SeededEntropy, SimDisk};

use super::{Appended, Attachment, Journal, JournalConfig, Resume};
use crate::time::StoreClock;

pub(super) const MIB: u64 = 1 << 20;

/// An empty log of segments of 1 MiB, in which attachments may live in `zone_bytes_max` bytes of them.
pub(super) fn journal(zone_bytes_max: u64) -> (Arc<SimDisk>, Arc<Journal>) {
    let disk = SimDisk::new(1);
    let dir = Path::new("/journal");
    create_dirs(&*disk, dir).expect("because nothing is wrong with the disk");
    let config = JournalConfig {
        disk: disk.clone(),
        dir: dir.into(),
        store: StoreId::from_bytes([1; 16]),
        entropy: Arc::new(SeededEntropy::new(1)),
        segment_size_min: MIB,
        segment_size: MIB,
        zone_bytes_max,
        pending_bytes_max: MIB,
        max_unsynced_bytes: 64 * MIB,
    };
    let clock = Arc::new(StoreClock::resume(ManualClock::new(), None, Duration::ZERO));
    let resume = Resume { first: Lsn(1), next_index: 1, ..Resume::default() };
    let journal = Journal::start(config, clock, resume).expect("because nothing is wrong with the disk");
    keep(&journal);
    (disk, journal)
}

/// Steps of the keeper until it has nothing to do.
pub(super) fn keep(journal: &Journal) {
    while journal.keep_step() {}
}

/// What rides in a record.
pub(super) fn attachment(bytes: usize) -> Attachment {
    Attachment { parts: smallvec::smallvec![Bytes::from(vec![1; bytes])], checksum: 0 }
}

/// Appends a record with an attachment, durably, and lets the keeper do what is due.
pub(super) fn land(journal: &Arc<Journal>, bytes: usize) -> Appended {
    let mut room = journal.reserve_with(0, bytes as u64).expect("because there is room");
    let appended = journal.append_with(&mut room, Vec::new(), attachment(bytes), 0);
    drop(room);
    journal.flush_here().expect("because nothing is wrong with the disk");
    keep(journal);
    appended.expect("because the log is not poisoned")
}

/// Looks once whether a call is done.
pub(super) fn poll<T>(call: impl Future<Output = T>) -> Poll<T> {
    pin!(call).poll(&mut Context::from_waker(Waker::noop()))
}
