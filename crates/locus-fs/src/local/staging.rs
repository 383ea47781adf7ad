//! The staging directory, tidied: what writes left there that no longer run, and blobs that could not be taken back.

use std::path::Path;

use locus_core::{Error, Result, TidyReport};

use crate::{
    disk::EntryKind,
    local::{
        core::{Core, is_absent},
        layout,
    },
    replace::parent_of,
};

impl Core {
    pub(crate) fn remove_stale_staging(&self, dry_run: bool) -> Result<TidyReport> {
        self.may_be_used()?;
        self.check_identity()?;
        let mut report = TidyReport::default();
        if !dry_run {
            self.remove_residue(&mut report);
        }
        let staging = self.layout.staging_dir();
        let entries = match self.disk.read_dir(&staging) {
            Err(error) if is_absent(&error) => return Ok(report),
            other => other.map_err(Error::io("list", &staging))?,
        };
        for entry in entries {
            let entry = entry.map_err(Error::io("list", &staging))?;
            if layout::text(&entry.name).is_some_and(layout::is_upload) {
                continue; // goes with its upload
            }
            // The name is ours while we remove it; a write that has it keeps its staging.
            let path = staging.join(&entry.name);
            let Some(_claim) = self.in_flight.claim(&path) else { continue };
            if entry.kind == EntryKind::Dir {
                continue;
            }
            if dry_run {
                report.removed += 1;
                report.bytes += self.disk.metadata(&path).map_or(0, |found| found.len);
            } else {
                self.remove_counted(&path, &mut report);
            }
        }
        Ok(report)
    }

    fn remove_residue(&self, report: &mut TidyReport) {
        let known = self.residue.lock().clone();
        for path in known {
            // Meanwhile it may have gone otherwise, and another blob have got its name.
            let Some(_claim) = self.in_flight.claim(&path) else { continue };
            if self.residue.lock().contains(&path) && self.remove_counted(&path, report) {
                self.unsynced.removed(&path, parent_of(&path).to_owned());
                self.residue.lock().remove(&path);
            }
        }
    }

    pub(crate) fn remove_counted(&self, path: &Path, report: &mut TidyReport) -> bool {
        let bytes = self.disk.metadata(path).map_or(0, |found| found.len);
        match self.disk.remove_file(path) {
            Ok(()) => {
                report.removed += 1;
                report.bytes = report.bytes.saturating_add(bytes);
            }
            Err(error) if is_absent(&error) => {}
            Err(error) => {
                self.left_behind(path, &error);
                report.failed += 1;
                return false;
            }
        }
        true
    }
}
