//! Directories that earlier formats left, kept for ever: each must be opened by every later version.
//!
//! `LOCUS_WRITE_DATA=1` writes the present format's anew: only while it was never released.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use locus::{VerifyLevel, prelude::*};

use crate::support::number;

/// Segment files are kept without the zeros at their ends.
const SEGMENT_BYTES: u64 = 1 << 20;
/// Small enough for the journal, and too large.
const SIZES: [usize; 4] = [0, 700, 5_000, 70_000];

/// The content of file `n`: by a rule that no version changes.
fn content(n: usize, size: usize) -> Vec<u8> {
    (0..size).map(|at| u8::try_from((at * 31 + n * 7) % 251).unwrap()).collect()
}

fn kept() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("data/v1")
}

async fn open(dir: &Path) -> Locus {
    Locus::builder()
        .data_dir(dir.join("data"))
        .add_volume(LocalVolume::new("vol-001", dir.join("vol-001")))
        .add_volume(LocalVolume::new("vol-002", dir.join("vol-002")))
        .segment_size(1 << 20)
        .landing_zone_max(8 << 20)
        .build()
        .await
        .unwrap()
}

/// Every file below a directory, relative to it.
fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut ahead = vec![PathBuf::new()];
    while let Some(at) = ahead.pop() {
        for entry in fs::read_dir(dir.join(&at)).unwrap() {
            let entry = entry.unwrap();
            let path = at.join(entry.file_name());
            if entry.file_type().unwrap().is_dir() {
                ahead.push(path);
            } else {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

/// Two tenants' files of every kind, some written before a checkpoint and some behind it.
async fn write(dir: &Path) {
    let locus = open(dir).await;
    for name in ["acme", "beta"] {
        let tenant = locus.tenants().create(name).await.unwrap();
        for (n, size) in SIZES.into_iter().enumerate() {
            let options = WriteOptions::new()
                .original_name(format!("{n}.bin"))
                .directory(format!("/{name}/{}", n % 2))
                .property("n", n.to_string())
                .idempotency_key(format!("write-{n}"));
            locus.pool().write(&tenant, content(n, size), options).await.unwrap();
        }
        let leased = locus.scheduler().next(&tenant).await.unwrap().unwrap();
        locus.scheduler().complete(&leased.lease).await.unwrap();
        let leased = locus.scheduler().next(&tenant).await.unwrap().unwrap();
        locus.scheduler().fail(&leased.lease, "the printer burns").await.unwrap();
        locus.cleanup().settled().await.unwrap();
        locus.sync().await.unwrap();
        locus.backup(dir.join(format!("copy-{name}"))).await.unwrap(); // takes a checkpoint
    }
    locus.tenants().suspend("beta").await.unwrap();
    let scope = Scope::Tenant("acme".parse().unwrap());
    locus.quotas().set_limit(scope, Limit::Files(100)).await.unwrap();
    let acme = locus.tenants().get("acme").await.unwrap();
    let options = LeaseOptions::new().owner(Owner::Outside).ttl(Duration::from_secs(3_600));
    locus.scheduler().next_with(&acme, options).await.unwrap().unwrap();
    locus.shutdown().await.unwrap();
}

#[tokio::test]
async fn b68_the_data_of_format_1_is_opened_by_this_version() {
    if number("LOCUS_WRITE_DATA", 0) == 1 {
        let temp = tempfile::tempdir().unwrap();
        write(temp.path()).await;
        let _ = fs::remove_dir_all(kept());
        for path in files(temp.path()) {
            let needless = ["mounts", "LOCK"].iter().any(|name| path.ends_with(name));
            if needless || path.starts_with("copy-acme") || path.starts_with("copy-beta") {
                continue;
            }
            let mut bytes = fs::read(temp.path().join(&path)).unwrap();
            if path.starts_with("data/journal") {
                let len = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |at| at + 1);
                bytes.truncate(len);
                if len == 0 {
                    continue;
                }
            }
            if path.ends_with(".locus-volume") {
                bytes.truncate(512); // behind it stands who used it last
            }
            let to = kept().join(&path);
            fs::create_dir_all(to.parent().unwrap()).unwrap();
            fs::copy(temp.path().join(&path), &to).unwrap();
            fs::OpenOptions::new().write(true).open(&to).unwrap().set_len(bytes.len() as u64).unwrap();
        }
    }

    let temp = tempfile::tempdir().unwrap();
    for path in files(&kept()) {
        let to = temp.path().join(&path);
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        fs::copy(kept().join(&path), &to).unwrap();
        if path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("segment-")) {
            fs::OpenOptions::new().write(true).open(&to).unwrap().set_len(SEGMENT_BYTES).unwrap();
        }
    }
    let locus = open(temp.path()).await;
    assert_eq!(locus.open_report().files, 6);
    assert_eq!(locus.tenants().info("beta").await.unwrap().status, TenantStatus::Suspended);
    let scope = Scope::Tenant("acme".parse().unwrap());
    assert_eq!(locus.quotas().limit(&scope), Some(100));
    locus.tenants().enable("beta").await.unwrap();
    for name in ["acme", "beta"] {
        let tenant = locus.tenants().get(name).await.unwrap();
        for (n, size) in SIZES.into_iter().enumerate().skip(1) {
            // Its name is known: the same write made again gives the file of before.
            let options = WriteOptions::new().idempotency_key(format!("write-{n}"));
            let key = locus.pool().write(&tenant, "something else", options).await.unwrap();
            let bytes = locus.pool().read(&tenant, &key).await.unwrap().bytes().await.unwrap();
            assert_eq!(bytes, content(n, size));
            let info = locus.pool().info(&tenant, &key).await.unwrap().unwrap();
            assert_eq!(info.original_name, Some(format!("{n}.bin")));
            assert_eq!(info.directory.as_str(), format!("/{name}/{}", n % 2));
            assert_eq!(info.properties["n"], n.to_string());
            let expected = match (name, n) {
                (_, 1) => (FileStatus::Pending, 1, 1),
                ("acme", 2) => (FileStatus::Processing, 0, 1),
                _ => (FileStatus::Pending, 0, 0),
            };
            assert_eq!((info.status, info.retry_count, info.attempts), expected, "{name} {n}");
        }
    }
    let verified = locus.verify(VerifyLevel::Contents).await.unwrap();
    assert!(verified.findings.is_empty(), "{:?}", verified.findings);
    locus.shutdown().await.unwrap();
}
