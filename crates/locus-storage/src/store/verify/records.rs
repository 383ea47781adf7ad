//! Records: checkpoints and segments, read again from the disk.

use std::{collections::BTreeMap, error::Error as _, sync::Arc};

use locus_core::{Error, Result};
use locus_fs::off_thread;

use super::{Finding, Verifying};
use crate::store::checkpoint;

impl Verifying<'_> {
    /// What is read from now on comes from the device. A system that cannot do this reads what it has cached.
    pub(super) async fn drop_caches(&self) {
        for number in self.store.journal.kept_numbers() {
            if let Some(segment) = self.store.journal.kept_segment(number) {
                let _ = off_thread(&*self.store.config.disk, move || segment.drop_cache()).await;
            }
        }
    }

    pub(super) async fn read_checkpoints(&mut self) -> Result<()> {
        let dir = checkpoint::journal_dir(&self.store.config.dir);
        for number in self.store.checkpoints.numbers() {
            self.check()?;
            let (disk, at, id) = (Arc::clone(&self.store.config.disk), dir.clone(), self.store.id);
            let checked = off_thread(&*self.store.config.disk, move || {
                checkpoint::check_entries(&*disk, &at, number, &id)
            })
            .await;
            // One that made room for a newer one is no finding.
            if !self.store.checkpoints.numbers().contains(&number) {
                continue;
            }
            self.report.checkpoints += 1;
            match checked {
                Ok(good) => self.tell_more(0, good.bytes),
                Err(why) => {
                    let path = checkpoint::checkpoint_path(&dir, number);
                    self.report.find(Finding::CheckpointDamaged { path, why: said(&why) });
                }
            }
        }
        Ok(())
    }

    /// `reached` says how far living contents reach in each segment.
    pub(super) async fn read_segments(&mut self, reached: &BTreeMap<u64, u64>) -> Result<()> {
        for number in self.store.journal.kept_numbers() {
            self.check()?;
            let Some(segment) = self.store.journal.kept_segment(number) else { continue };
            let (last, is_last_known, size) = (segment.last, segment.is_last_known, segment.size);
            let (id, path) = (self.store.id, segment.pin.file().1.to_owned());
            let checked = off_thread(&*self.store.config.disk, move || segment.check(&id)).await;
            self.report.segments += 1;
            self.tell_more(0, size);
            let segment = number;
            let check = match checked {
                Ok(check) => check,
                Err(why) => {
                    self.report.find(Finding::SegmentUnreadable { segment, path, why: said(&why) });
                    continue;
                }
            };
            self.report.records += check.records;
            if check.header_bad {
                self.report.find(Finding::HeaderDamaged { segment, path: path.clone() });
            }
            // Where nobody knows the last record, what lives shows how far the log reaches at least: behind it may lie what an
            // earlier recovery dropped.
            let lives_behind = |at: u64| reached.get(&number).is_some_and(|end| *end > at);
            for (lsn, offset) in check.attachments_bad {
                if is_last_known || lives_behind(offset) {
                    self.report.find(Finding::AttachmentDamaged { segment, path: path.clone(), offset, lsn });
                }
            }
            if if is_last_known { check.next <= last } else { lives_behind(check.reached) } {
                let (offset, lsn) = (check.end, check.next);
                self.report.find(Finding::RecordDamaged { segment, path, offset, lsn });
            }
        }
        Ok(())
    }
}

/// What went wrong, with what the system said about it.
pub(super) fn said(why: &Error) -> String {
    why.source().map_or_else(|| why.to_string(), |source| format!("{why}: {source}"))
}
