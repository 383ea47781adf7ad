//! What a data directory holds, seen from outside: also while a run has it open.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use locus::{BoxError, Inspection, Locus, TenantCounts, VolumeId};
use serde::Serialize;
use sysinfo::Disks;

use crate::table::{align_numbers, size, table};

/// Files by state.
#[derive(Debug, Default, Clone, Copy, Serialize)]
struct Files {
    pending: u64,
    /// Of the pending ones, those that wait for a due time.
    delayed: u64,
    processing: u64,
    completed: u64,
    permanently_failed: u64,
    deleted: u64,
    bytes: u64,
}

/// A volume and the disk that it lies on.
#[derive(Debug, Serialize)]
struct Volume {
    id: VolumeId,
    path: Option<PathBuf>,
    files: u64,
    total_bytes: Option<u64>,
    available_bytes: Option<u64>,
    disk: Option<String>,
}

#[derive(Debug, Serialize)]
struct Status {
    data: PathBuf,
    store: String,
    tenants: BTreeMap<String, Files>,
    /// Of all tenants.
    total: Files,
    /// Files whose content rests in the journal: they have no path.
    in_journal: u64,
    /// Files whose content rests on volumes: each has a path.
    on_volumes: u64,
    volumes: Vec<Volume>,
    journal_bytes: u64,
    checkpoint_bytes: u64,
}

/// Prints tables, or one JSON object.
pub(crate) async fn show(data: &Path, json: bool) -> Result<(), BoxError> {
    let status = Status::of(data, &Locus::inspect(data).await?);
    if json {
        println!("{}", serde_json::to_string(&status)?);
    } else {
        status.print();
    }
    Ok(())
}

impl Status {
    fn of(data: &Path, found: &Inspection) -> Self {
        // A tenant without files is known by its name only.
        let named = found.tenants.iter().map(|tenant| (tenant.id.to_string(), Files::default()));
        let mut tenants: BTreeMap<_, _> = named.collect();
        tenants.extend(found.store.tenants.iter().map(|(id, counts)| (id.to_string(), counts.into())));
        Self {
            data: data.to_owned(),
            store: found.store.store.to_string(),
            total: tenants.values().fold(Files::default(), Files::plus),
            tenants,
            in_journal: found.store.in_journal,
            on_volumes: found.store.volumes.values().sum(),
            volumes: volumes(found),
            journal_bytes: found.store.journal_bytes,
            checkpoint_bytes: found.store.checkpoint_bytes,
        }
    }

    fn print(&self) {
        let mut files =
            table(["tenant", "pending", "delayed", "leased", "completed", "given up", "deleted", "bytes"]);
        let total = [("all".to_owned(), &self.total)];
        for (name, Files { pending, delayed, processing, completed, permanently_failed, deleted, bytes }) in
            self.tenants.iter().map(|(name, files)| (name.clone(), files)).chain(total)
        {
            let counts = [pending, delayed, processing, completed, permanently_failed, deleted];
            let numbers = counts.map(ToString::to_string);
            files.add_row([name].into_iter().chain(numbers).chain([size(*bytes)]));
        }
        align_numbers(&mut files, 1);
        println!("{files}");

        let mut volumes = table(["files rest on", "path", "disk", "files", "free", "of"]);
        for volume in &self.volumes {
            let path = volume.path.as_ref().map(|path| path.display().to_string());
            volumes.add_row([
                volume.id.to_string(),
                path.unwrap_or_else(|| "not mounted".to_owned()),
                volume.disk.clone().unwrap_or_default(),
                volume.files.to_string(),
                volume.available_bytes.map(size).unwrap_or_default(),
                volume.total_bytes.map(size).unwrap_or_default(),
            ]);
        }
        let [in_journal, none] = [self.in_journal.to_string(), String::new()];
        let without = "small contents: no paths of their own".to_owned();
        volumes.add_row(["the journal".to_owned(), without, none.clone(), in_journal, none.clone(), none]);
        align_numbers(&mut volumes, 3);
        println!("{volumes}");
        let (journal, checkpoint) = (size(self.journal_bytes), size(self.checkpoint_bytes));
        println!("journal {journal}, checkpoint {checkpoint}, in {}", self.data.display());
    }
}

impl Files {
    fn plus(self, other: &Self) -> Self {
        Self {
            pending: self.pending + other.pending,
            delayed: self.delayed + other.delayed,
            processing: self.processing + other.processing,
            completed: self.completed + other.completed,
            permanently_failed: self.permanently_failed + other.permanently_failed,
            deleted: self.deleted + other.deleted,
            bytes: self.bytes + other.bytes,
        }
    }
}

impl From<&TenantCounts> for Files {
    fn from(counts: &TenantCounts) -> Self {
        Self {
            pending: counts.pending,
            delayed: counts.delayed,
            processing: counts.processing,
            completed: counts.completed,
            permanently_failed: counts.permanently_failed,
            deleted: counts.deleted,
            bytes: counts.bytes,
        }
    }
}

/// The volumes that were mounted, and those that files rest on though they were not.
fn volumes(found: &Inspection) -> Vec<Volume> {
    let disks = Disks::new_with_refreshed_list();
    let mounted = found.volumes.iter().map(|volume| Volume {
        id: volume.id.clone(),
        path: Some(volume.path.clone()),
        files: found.store.volumes.get(&volume.id).copied().unwrap_or(0),
        total_bytes: volume.space.map(|(total, _)| total),
        available_bytes: volume.space.map(|(_, available)| available),
        disk: disk_of(&disks, &volume.path),
    });
    let is_mounted = |id: &VolumeId| found.volumes.iter().any(|volume| volume.id == *id);
    let absent = found.store.volumes.iter().filter(|(id, files)| **files > 0 && !is_mounted(id));
    let absent = absent.map(|(id, files)| Volume {
        id: id.clone(),
        path: None,
        files: *files,
        total_bytes: None,
        available_bytes: None,
        disk: None,
    });
    mounted.chain(absent).collect()
}

/// The disk of the host that a path lies on, for example `ext4 on /home`.
fn disk_of(disks: &Disks, path: &Path) -> Option<String> {
    let path = std::fs::canonicalize(path).ok()?;
    let holding = disks.iter().filter(|disk| path.starts_with(disk.mount_point()));
    let disk = holding.max_by_key(|disk| disk.mount_point().components().count())?;
    let system = disk.file_system().to_string_lossy().into_owned();
    Some(format!("{system} on {}", disk.mount_point().display()))
}
