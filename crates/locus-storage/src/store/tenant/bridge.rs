//! Going on behind records that are lost.

use locus_core::{Area, FileKey, FileStatus, Lsn, Owner, StoreTime, Timestamp};

use super::{Change, Delivery, Ended, Entry, TenantState};

impl TenantState {
    /// A record says that something happened, so the file was in the state in which it can: puts the files of `change`
    /// into that state, where the records that led there are lost. A file that is over stays over. Where nothing is lost
    /// this changes nothing. Not while derived things are kept.
    pub(crate) fn bridge(&mut self, lsn: Lsn, change: &Change) {
        debug_assert!(!self.live, "what is derived would not follow");
        match change {
            Change::Leased { keys, .. } => self.bridge_all(lsn, keys, |entry| {
                entry.status = FileStatus::Pending;
            }),
            Change::Renewed { key, .. } | Change::Released { key } | Change::Failed { key, .. } => {
                self.bridge_all(lsn, [key], take);
            }
            Change::TimedOut { keys, given_up } | Change::Interrupted { keys, given_up } => {
                self.bridge_all(lsn, keys.iter().chain(given_up), take);
            }
            Change::Resumed { leases } => self.bridge_all(lsn, leases.iter().map(|(key, _)| key), take),
            Change::Completed { keys } => self.bridge_all(lsn, keys, |entry| {
                hand_out(entry);
            }),
            Change::Reset { key } => self.bridge_all(lsn, [key], |entry| {
                if entry.status == FileStatus::Processing {
                    entry.status = FileStatus::Pending;
                }
            }),
            Change::DeadLettered { key, .. } => self.bridge_all(lsn, [key], |entry| {
                entry.status = FileStatus::PermanentlyFailed;
            }),
            Change::Requeued { key, .. } => self.bridge_all(lsn, [key], |entry| {
                (entry.status, entry.area) = (FileStatus::DeadLettered, Area::DeadLetters);
            }),
            Change::Accepted(_)
            | Change::Deleted { .. }
            | Change::Moved { .. }
            | Change::Reaped { .. }
            | Change::Forgotten { .. }
            | Change::UploadBegun(_)
            | Change::UploadStaged { .. }
            | Change::UploadConfirmed { .. }
            | Change::UploadEnded { .. }
            | Change::Announced { .. }
            | Change::CopyRemoved { .. }
            | Change::Astray { .. }
            | Change::Sealed { .. }
            | Change::AnnouncedSealed { .. }
            | Change::Resealed { .. } => {}
        }
    }

    fn bridge_all<'a>(
        &mut self,
        lsn: Lsn,
        keys: impl IntoIterator<Item = &'a FileKey>,
        bridge: impl Fn(&mut Entry),
    ) {
        for key in keys {
            let Some(at) = self.find(key) else { continue };
            let entry = &mut self.files[at];
            if entry.last < lsn && !entry.status.is_over() {
                bridge(entry);
            }
        }
    }
}

/// It is leased.
fn take(entry: &mut Entry) {
    entry.status = FileStatus::Processing;
    hand_out(entry);
}

/// It was delivered, by a token that nobody knows any more.
fn hand_out(entry: &mut Entry) {
    entry.delivery.get_or_insert_with(|| {
        Box::new(Delivery {
            token: None,
            ended: Ended::Not,
            owner: Owner::Process,
            deadline: StoreTime::ZERO,
            ttl_micros: 0,
            by: None,
            started_at: Timestamp::from_micros(0),
            heartbeat_at: Timestamp::from_micros(0),
            failed_at: None,
            error: None,
        })
    });
}
