//! A sealed pool: all of it works, and nothing of what it was told lies on a disk as it is.

use std::{
    io::Write,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use locus::{
    Builder, Checksum, FileInfo, FileWatcherConfig, LocalVolume, MirroredVolume, Settings, SystemClock,
    SystemEntropy, VerifyLevel, VolumeId, encryption::SealOptions, prelude::*,
};
use locus_fs::OsDisk;
use locus_vault::{Argon2Cost, Keyring, KeyringFile, NewRecipient, Passphrase, Unlock, VaultError};
use tokio::io::{AsyncReadExt, AsyncSeekExt};

use crate::support::{files_below, in_time};

/// What must never be found in a directory.
const SECRET: &str = "the-planted-plaintext";

fn keyring_file(dir: &Path) -> KeyringFile {
    let (disk, clock, entropy) = (Arc::new(OsDisk), Arc::new(SystemClock::new()), Arc::new(SystemEntropy));
    KeyringFile::new(disk, clock, entropy, dir.join("keyring"))
}

fn passphrase() -> Passphrase {
    Passphrase::new(b"sesame").unwrap()
}

async fn ring(dir: &Path) -> Arc<Keyring> {
    std::fs::create_dir_all(dir).unwrap();
    let cost = Argon2Cost { memory_kib: 64, passes: 1, lanes: 1 };
    Arc::new(
        keyring_file(dir)
            .create(NewRecipient::passphrase("operator", passphrase()).cost(cost))
            .await
            .unwrap(),
    )
}

fn plain(dir: &Path) -> Builder {
    Locus::builder()
        .data_dir(dir.join("data"))
        .add_volume(LocalVolume::new("vol-1", dir.join("vol-1")))
        .add_volume(LocalVolume::new("vol-2", dir.join("vol-2")))
        .add_tenant("acme")
        .retry_policy(RetryPolicy { max_retries: 1, ..RetryPolicy::default() })
}

async fn open(builder: Builder) -> (Locus, TenantContext) {
    let locus = builder.build().await.unwrap();
    let acme = locus.tenants().get("acme").await.unwrap();
    (locus, acme)
}

/// A content of so many bytes that says the secret again and again.
fn content(bytes: usize) -> Vec<u8> {
    SECRET.bytes().cycle().take(bytes).collect()
}

fn options() -> WriteOptions {
    WriteOptions::new()
        .original_name(format!("{SECRET}.pdf"))
        .directory("/in")
        .property("source", SECRET)
        .property(SECRET, "x")
}

fn put(path: &Path, bytes: &[u8]) {
    std::fs::File::create(path).unwrap().write_all(bytes).unwrap();
}

/// Files below `dir` in which the secret stands as it is, or whose name tells what kind of content it was.
fn betrayed(dir: &Path) -> Vec<PathBuf> {
    let files = files_below(dir);
    assert!(files.len() > 3, "{files:?}");
    betraying(files)
}

/// Those of these files.
fn betraying(mut files: Vec<PathBuf>) -> Vec<PathBuf> {
    files.retain(|path| {
        let bytes = std::fs::read(path).unwrap();
        let begins = SECRET.as_bytes();
        path.extension().is_some_and(|extension| extension == "pdf")
            || bytes.windows(begins.len()).any(|window| window == begins)
    });
    files
}

/// Around the lengths at which something changes: a segment, a chunk, the limit of what the journal takes.
const LENGTHS: [usize; 12] =
    [0, 1, 21, 65_463, 65_464, 65_465, 65_536, 65_537, 983_040, 983_041, 1_048_577, 3_000_001];

#[tokio::test]
async fn what_goes_into_a_sealed_pool_comes_out_and_is_nowhere_to_be_read() {
    let dir = tempfile::tempdir().unwrap();
    let ring = ring(&dir.path().join("keys")).await;
    let (locus, acme) = open(plain(dir.path()).encrypt_with(Arc::clone(&ring))).await;
    let mut keys = Vec::new();
    for (n, length) in LENGTHS.into_iter().enumerate() {
        let bytes = content(length);
        let source = match n % 3 {
            0 => Content::from(bytes),
            1 => Content::reader(std::io::Cursor::new(bytes)),
            _ => {
                let path = dir.path().join("source");
                put(&path, &bytes);
                Content::from(std::fs::File::open(path).unwrap())
            }
        };
        keys.push((locus.pool().write(&acme, source, options()).await.unwrap(), length));
    }
    std::fs::remove_file(dir.path().join("source")).unwrap();
    for (key, length) in &keys {
        let expected = content(*length);
        let mut reader = locus.pool().read(&acme, key).await.unwrap();
        assert_eq!((reader.len(), reader.info().checksum), (*length as u64, Checksum::of(&expected)));
        let mut read = Vec::new();
        reader.read_to_end(&mut read).await.unwrap();
        assert!(read == expected, "{length}");
        for (from, to) in
            [(0, 1), (length / 2, *length), (*length, length + 9), (70_000, 70_001), (0, *length)]
        {
            let part = locus.pool().read_range(&acme, key, from as u64..to as u64).await.unwrap();
            let (from, to) = (from.min(*length), to.min(*length));
            assert!(part == expected[from..to], "{from}..{to} of {length}");
        }
        let mut reader = locus.pool().read(&acme, key).await.unwrap();
        reader.seek(std::io::SeekFrom::Start(*length as u64 / 3)).await.unwrap();
        let mut read = Vec::new();
        reader.read_to_end(&mut read).await.unwrap();
        assert!(read == expected[length / 3..], "{length}");
        let info = locus.pool().info(&acme, key).await.unwrap().unwrap();
        assert_eq!(info.original_name.as_deref(), Some("the-planted-plaintext.pdf"));
        assert_eq!((info.size, info.properties[SECRET].as_str()), (*length as u64, "x"));
        let location = locus.pool().location(&acme, key).await.unwrap().unwrap();
        assert_eq!((&location.info, location.physical_path), (&info, None));
        let refused = locus.pool().materialize(&acme, key).await.unwrap_err();
        assert!(matches!(refused, Error::NotMaterializable { .. }), "{refused}");
    }
    let wrong = WriteOptions::new().expected_checksum(Checksum::of(b"other"));
    for length in [9, 200_000] {
        let refused = locus.pool().write(&acme, content(length), wrong.clone()).await.unwrap_err();
        let actual = Checksum::of(&content(length));
        assert!(
            matches!(refused, Error::ChecksumMismatch { actual: found, .. } if found == actual),
            "{refused}"
        );
    }
    let right = WriteOptions::new().expected_checksum(Checksum::of(b"this"));
    locus.pool().write(&acme, "this", right).await.unwrap();

    // What a worker says is sealed as well, and shown again.
    let file = locus.scheduler().next(&acme).await.unwrap().unwrap();
    assert_eq!(file.location().info.original_name.as_deref(), Some("the-planted-plaintext.pdf"));
    let told = format!("{SECRET}: {}", "é".repeat(2_000));
    locus.scheduler().fail(&file.lease, &told).await.unwrap();
    let error = locus.pool().location(&acme, &file.key).await.unwrap().unwrap().last_error.unwrap();
    assert!(told.starts_with(&error) && (690..=698).contains(&error.len()), "{}", error.len());
    assert!(locus.pool().dead_letter(acme.id(), &file.key).await.unwrap());
    let filter = locus::DeadLetterFilter::new().error_contains(SECRET).name_contains("plaintext.pdf");
    assert_eq!(locus.dead_letters().count(&acme, &filter).await.unwrap(), 1);
    assert_eq!(locus.dead_letters().requeue_all(&acme, &filter).await.unwrap().requeued, 1);

    // What is moved, checked and copied is sealed all the while.
    let vol = VolumeId::parse("vol-1").unwrap();
    locus.pool().drain(&vol).await.unwrap();
    let found = locus.verify(VerifyLevel::Contents).await.unwrap();
    assert!(found.findings.is_empty(), "{:?}", found.findings);
    locus.backup(dir.path().join("backup")).await.unwrap();
    for (key, length) in &keys {
        let bytes = locus.pool().read(&acme, key).await.unwrap().bytes().await.unwrap();
        assert!(bytes == content(*length), "{length}");
    }
    locus.shutdown().await.unwrap();
    assert_eq!(betrayed(dir.path()), Vec::<PathBuf>::new());

    // The ring as it is read again opens what was sealed.
    let again = keyring_file(&dir.path().join("keys")).open(Unlock::Passphrase(passphrase())).await.unwrap();
    let (locus, acme) = open(plain(dir.path()).encrypt_with(again)).await;
    for (key, length) in &keys {
        let bytes = locus.pool().read(&acme, key).await.unwrap().bytes().await.unwrap();
        assert!(bytes == content(*length), "{length}");
    }
    locus.shutdown().await.unwrap();
}

/// What the store moves by itself: copied forward in the journal, spilled to a mirror, taken in from a folder, put into quarantine.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_sealed_pool_moves_by_itself_is_nowhere_to_be_read() {
    let dir = tempfile::tempdir().unwrap();
    let (ring, inbox) = (ring(&dir.path().join("keys")).await, dir.path().join("inbox"));
    std::fs::create_dir_all(&inbox).unwrap();
    let watcher = FileWatcherConfig::new(&inbox).id("in").tenant("acme").age_min(Duration::ZERO);
    let mut settings = Settings::default();
    settings.cleanup.orphans.age = Duration::ZERO;
    let members = ["a", "b"].map(|member| dir.path().join(member));
    let mirror = MirroredVolume::new("both")
        .add_member(LocalVolume::new("a", &members[0]))
        .add_member(LocalVolume::new("b", &members[1]));
    let builder = Locus::builder()
        .settings(settings)
        .on_request()
        .data_dir(dir.path().join("data"))
        .add_volume(mirror)
        .add_tenant("acme")
        .add_file_watcher(watcher.stability_delay(Duration::ZERO))
        .segment_size(1 << 20)
        .landing_zone_max(4 << 20)
        .encrypt_with(ring);
    let (locus, acme) = open(builder).await;
    let mut kept = Vec::new();
    in_time("something is copied forward, and something spilled", async {
        for n in 1.. {
            let statistics = locus.statistics();
            if statistics.copied_forward > 0 && statistics.spilled > 0 {
                break;
            }
            let key = locus.pool().write(&acme, content(40_000 + n), options()).await.unwrap();
            // First mostly what goes again, so that segments are freed around what stays; then what stays.
            if statistics.copied_forward > 0 || n % 20 == 0 {
                kept.push((key, 40_000 + n));
            } else {
                locus.pool().delete(&acme, &key).await.unwrap();
            }
        }
    })
    .await;

    put(&inbox.join("scan.pdf"), &content(300_000)); // a ledger says the names of sources
    assert_eq!(locus.watchers().look("in").await.unwrap().imported, 1);
    assert_eq!(files_below(&inbox), Vec::<PathBuf>::new());

    let stray = locus.pool().write(&acme, content(100_000), options()).await.unwrap();
    let copies: Vec<PathBuf> = members.iter().flat_map(|member| files_below(member)).collect();
    let copies: Vec<_> = copies.iter().filter(|path| path.ends_with(stray.to_string())).collect();
    let sealed = std::fs::read(copies[0]).unwrap();
    locus.pool().delete(&acme, &stray).await.unwrap();
    locus.cleanup().settled().await.unwrap();
    assert_eq!(copies.len(), 2);
    for copy in copies {
        assert!(!copy.exists());
        put(copy, &sealed);
    }
    let done = locus.cleanup().orphans().await.unwrap();
    assert!(done.orphans_quarantined > 0 && done.errors == 0, "{done:?}");

    for (key, length) in kept {
        let bytes = locus.pool().read(&acme, &key).await.unwrap().bytes().await.unwrap();
        assert!(bytes == content(length), "{length}");
    }
    locus.shutdown().await.unwrap();
    assert_eq!(betrayed(dir.path()), Vec::<PathBuf>::new());
}

#[tokio::test]
async fn a_sealed_pool_opens_with_its_own_ring_alone_and_says_which_key_is_missing() {
    let dir = tempfile::tempdir().unwrap();
    let own = ring(&dir.path().join("keys")).await;
    let (locus, acme) = open(plain(dir.path()).encrypt_with(Arc::clone(&own))).await;
    let key = locus.pool().write(&acme, SECRET, options()).await.unwrap();
    locus.shutdown().await.unwrap();

    let wanted = own.active().0.to_string();
    let other = ring(&dir.path().join("other")).await;
    for builder in [plain(dir.path()), plain(dir.path()).encrypt_with(other)] {
        let refused = builder.build().await.unwrap_err();
        assert!(matches!(refused, Error::UnknownKey { key } if key.to_string() == wanted), "{refused}");
    }
    // Nothing was changed by that.
    let (locus, acme) = open(plain(dir.path()).encrypt_with(own)).await;
    assert_eq!(locus.pool().read(&acme, &key).await.unwrap().bytes().await.unwrap(), SECRET);
    let file = locus.scheduler().next(&acme).await.unwrap().unwrap();
    locus.scheduler().complete(&file.lease).await.unwrap();
    locus.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_pool_that_is_sealed_later_still_reads_what_was_there_and_seals_what_comes() {
    let dir = tempfile::tempdir().unwrap();
    let (locus, acme) = open(plain(dir.path())).await;
    let before = [9, 200_000].map(content);
    let mut keys = Vec::new();
    for bytes in &before {
        keys.push(locus.pool().write(&acme, bytes.clone(), options()).await.unwrap());
    }
    locus.shutdown().await.unwrap();
    let ring = ring(&dir.path().join("keys")).await;
    let (locus, acme) = open(plain(dir.path()).encrypt_with(ring)).await;
    let sealed = locus.pool().write(&acme, SECRET, options()).await.unwrap();
    for (key, bytes) in keys.iter().zip(&before) {
        let read = locus.pool().read(&acme, key).await.unwrap().bytes().await.unwrap();
        assert!(read == bytes[..]);
        let info = locus.pool().info(&acme, key).await.unwrap().unwrap();
        assert_eq!(info.original_name.as_deref(), Some("the-planted-plaintext.pdf"));
        assert!(locus.pool().materialize(&acme, key).await.is_ok());
    }
    assert!(locus.pool().materialize(&acme, &sealed).await.is_err());
    locus.shutdown().await.unwrap();
}

/// All that tells of a file what its owner may know.
async fn told(
    locus: &Locus,
    acme: &TenantContext,
    key: &locus::FileKey,
) -> (Vec<u8>, FileInfo, Option<String>) {
    let bytes = locus.pool().read(acme, key).await.unwrap().bytes().await.unwrap();
    let location = locus.pool().location(acme, key).await.unwrap().unwrap();
    (bytes.to_vec(), location.info, location.last_error)
}

#[tokio::test]
async fn what_was_there_before_the_keys_is_sealed_beside_running_work_and_stays_what_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let (locus, acme) = open(plain(dir.path())).await;
    let mut keys = Vec::new();
    // With and without an extension, in the store and on volumes, at lengths at which something changes.
    for (n, length) in LENGTHS.into_iter().enumerate() {
        let name = [format!("{SECRET}.pdf"), SECRET.to_owned(), format!("{SECRET}.1")];
        let options = options().original_name(name[n % 3].clone());
        keys.push(locus.pool().write(&acme, content(length), options).await.unwrap());
    }
    let dead = locus.scheduler().next(&acme).await.unwrap().unwrap();
    locus.scheduler().fail(&dead.lease, SECRET).await.unwrap();
    let again = locus.scheduler().next(&acme).await.unwrap().unwrap();
    locus.scheduler().fail(&again.lease, SECRET).await.unwrap();
    assert!(locus.pool().dead_letter(acme.id(), &dead.key).await.unwrap());
    let mut before = Vec::new();
    for key in &keys {
        before.push(told(&locus, &acme, key).await);
    }
    let upload = locus.pool().upload(&acme, UploadOptions::new(6)).await.unwrap();
    upload.write_at(0, "pie").await.unwrap();
    let upload = upload.id();
    locus.shutdown().await.unwrap();

    let ring = ring(&dir.path().join("keys")).await;
    let file = keyring_file(&dir.path().join("keys"));
    let (locus, acme) = open(plain(dir.path()).encrypt_with(ring)).await;
    let encryption = locus.encryption().unwrap();
    assert_eq!(encryption.keys_in_use(), []);
    let fast = || SealOptions::new().bytes_per_second(None);
    let leased = locus.scheduler().next(&acme).await.unwrap().unwrap();
    let seen = std::sync::Mutex::new(Vec::new());
    let report = {
        let sealing = encryption.seal_all(fast(), |progress| seen.lock().unwrap().push(progress));
        tokio::pin!(sealing);
        let worker = async {
            while encryption.keys_in_use().first().is_none_or(|(_, count)| *count < 11) {
                tokio::task::yield_now().await;
            }
            locus.scheduler().fail(&leased.lease, SECRET).await.unwrap();
        };
        let (report, ()) = in_time("all to be sealed", async { tokio::join!(&mut sealing, worker) }).await;
        report.unwrap()
    };
    assert_eq!((report.sealed, report.damaged.len()), (12, 0));
    let last = *seen.lock().unwrap().last().unwrap();
    assert_eq!((last.sealed, last.files, last.damaged), (12, 12, 0));
    assert_eq!(last.sealed_bytes, LENGTHS.iter().sum::<usize>() as u64);
    let (old, _) = encryption.keyring().active();
    assert_eq!(encryption.keys_in_use(), [(old, 12)]);
    for (key, before) in keys.iter().zip(&before).filter(|(key, _)| **key != leased.key) {
        assert!(told(&locus, &acme, key).await == *before, "{key}");
        assert!(locus.pool().materialize(&acme, key).await.is_err());
    }
    // Its pieces came before the keys, and so does what is put together of them.
    let upload = locus.pool().resume_upload(&acme, &upload).await.unwrap();
    upload.write_at(3, "ces").await.unwrap();
    let uploaded = upload.finish().await.unwrap();
    assert_eq!(encryption.seal_all(fast(), |_| ()).await.unwrap().sealed, 1);
    assert_eq!(encryption.seal_all(fast(), |_| ()).await.unwrap().sealed, 0);

    // The same way leads from one key to the next.
    for _ in 0..2 {
        let (old, _) = encryption.keyring().active();
        encryption.rotate(&file).await.unwrap();
        assert!(matches!(encryption.retire(&file, old).await, Err(VaultError::KeyInUse { .. })));
        in_time("what was sealed before to be removed", async {
            while encryption.seal_all(fast(), |_| ()).await.unwrap().sealed > 0 {}
        })
        .await;
        encryption.retire(&file, old).await.unwrap();
    }
    let found = locus.verify(VerifyLevel::Contents).await.unwrap();
    assert!(found.findings.is_empty(), "{:?}", found.findings);
    locus.backup(dir.path().join("backup")).await.unwrap();
    let ring = encryption.keyring();
    locus.shutdown().await.unwrap();

    let (locus, acme) = open(plain(dir.path()).encrypt_with(ring)).await;
    for (key, before) in keys.iter().zip(&before).filter(|(key, _)| **key != leased.key) {
        assert!(told(&locus, &acme, key).await == *before, "{key}");
    }
    assert_eq!(told(&locus, &acme, &uploaded).await.0, b"pieces");
    assert_eq!(told(&locus, &acme, &leased.key).await.2.as_deref(), Some(SECRET));
    in_time("what was there before to be removed", async {
        while ["vol-1", "vol-2"]
            .into_iter()
            .any(|volume| !betraying(files_below(&dir.path().join(volume))).is_empty())
        {
            tokio::task::yield_now().await;
        }
    })
    .await;
    locus.shutdown().await.unwrap();
    assert_eq!(betrayed(&dir.path().join("backup/volumes")), Vec::<PathBuf>::new());
}

#[tokio::test]
async fn without_keys_nothing_is_sealed_and_bad_options_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (locus, _) = open(plain(dir.path())).await;
    let refused = locus.pool().seal_all(SealOptions::new(), |_| ()).await.unwrap_err();
    assert!(matches!(refused, Error::InvalidArgument { name: "seal_all", .. }), "{refused}");
    let refused = locus.pool().seal_all(SealOptions::new().at_once(0), |_| ()).await.unwrap_err();
    assert!(matches!(refused, Error::InvalidArgument { name: "at_once", .. }), "{refused}");
    locus.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_content_that_was_changed_on_its_volume_does_not_open() {
    let dir = tempfile::tempdir().unwrap();
    let ring = ring(&dir.path().join("keys")).await;
    let (locus, acme) = open(plain(dir.path()).encrypt_with(ring)).await;
    let key = locus.pool().write(&acme, content(200_000), options()).await.unwrap();
    let path = files_below(dir.path()).into_iter().find(|path| path.ends_with(key.to_string())).unwrap();
    let good = std::fs::read(&path).unwrap();
    for at in [0, 6, 7, 8, 24, 55, 56, 70_000, good.len() - 1] {
        let mut bad = good.clone();
        bad[at] ^= 1;
        put(&path, &bad);
        let read = async { locus.pool().read(&acme, &key).await?.bytes().await };
        let refused = read.await.unwrap_err();
        let by_key = (8..24).contains(&at);
        let expected = if by_key {
            matches!(refused, Error::UnknownKey { .. })
        } else {
            matches!(refused, Error::Tampered { .. })
        };
        assert!(expected, "byte {at}: {refused}");
    }
    put(&path, &good[..good.len() - 1]);
    assert!(locus.pool().read(&acme, &key).await.is_err());
    put(&path, &good);
    assert!(locus.pool().read(&acme, &key).await.unwrap().bytes().await.unwrap() == content(200_000));
    locus.shutdown().await.unwrap();
}

#[tokio::test]
async fn an_upload_to_a_sealed_pool_comes_in_any_order_over_restarts_and_lies_nowhere_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let ring = ring(&dir.path().join("keys")).await;
    let builder = || plain(dir.path()).encrypt_with(Arc::clone(&ring));
    let (mut locus, mut acme) = open(builder()).await;
    let whole = content(3_000_001);
    let given = UploadOptions::new(whole.len() as u64)
        .original_name(format!("{SECRET}.pdf"))
        .property("source", SECRET)
        .expected_checksum(Checksum::of(&whole));
    let id = locus.pool().upload(&acme, given).await.unwrap().id();
    let pieces = [2_999_990..3_000_001, 0..5, 1_000_000..2_999_990, 4..70_000, 70_000..1_000_000];
    for (n, piece) in pieces.into_iter().enumerate() {
        let upload = locus.pool().resume_upload(&acme, &id).await.unwrap();
        let info = upload.info().unwrap();
        assert_eq!(
            (info.size, info.original_name.unwrap().as_str()),
            (3_000_001, "the-planted-plaintext.pdf")
        );
        assert_eq!(info.expected_checksum, Some(Checksum::of(&whole)));
        assert_eq!(info.confirmed.len(), [0, 1, 2, 2, 2][n], "{:?}", info.confirmed);
        upload.write_at(piece.start as u64, whole[piece.clone()].to_vec()).await.unwrap();
        upload.write_at(piece.start as u64, whole[piece.clone()].to_vec()).await.unwrap();
        let mut other = whole[piece.clone()].to_vec();
        other[0] ^= 1;
        assert!(
            upload.write_at(piece.start as u64, other).await.is_err(),
            "it differs from what is confirmed"
        );
        drop(upload);
        assert_eq!(betrayed(dir.path()), Vec::<PathBuf>::new());
        if n != 3 {
            locus.shutdown().await.unwrap();
            (locus, acme) = open(builder()).await;
        }
    }
    let refused = locus.pool().resume_upload(&acme, &id).await.unwrap().write_at(3_000_001, "x").await;
    assert!(matches!(refused, Err(Error::InvalidArgument { .. })), "beyond its size: {refused:?}");
    let key = locus.pool().finish_upload(&acme, &id).await.unwrap();
    assert_eq!(locus.pool().finish_upload(&acme, &id).await.unwrap(), key);
    assert!(locus.pool().read(&acme, &key).await.unwrap().bytes().await.unwrap() == whole[..]);
    let info = locus.pool().info(&acme, &key).await.unwrap().unwrap();
    assert_eq!((info.size, info.properties["source"].as_str()), (3_000_001, SECRET));
    let found = locus.verify(VerifyLevel::Contents).await.unwrap();
    assert!(found.findings.is_empty(), "{:?}", found.findings);

    let empty = locus.pool().upload(&acme, UploadOptions::new(0)).await.unwrap().finish().await.unwrap();
    assert!(locus.pool().read(&acme, &empty).await.unwrap().bytes().await.unwrap().is_empty());
    let wrong = UploadOptions::new(6).expected_checksum(Checksum::of(b"other"));
    let wrong = locus.pool().upload(&acme, wrong).await.unwrap();
    wrong.write_at(0, "secret").await.unwrap();
    let refused = wrong.finish().await.unwrap_err();
    assert!(matches!(refused, Error::ChecksumMismatch { .. }), "{refused}");
    assert!(wrong.abort().await.unwrap());
    locus.shutdown().await.unwrap();
    assert_eq!(betrayed(dir.path()), Vec::<PathBuf>::new());
}

#[tokio::test]
async fn a_key_is_followed_by_another_and_retired_when_nothing_needs_it() {
    let dir = tempfile::tempdir().unwrap();
    let first = ring(&dir.path().join("keys")).await;
    let file = keyring_file(&dir.path().join("keys"));
    let (locus, acme) = open(plain(dir.path()).encrypt_with(Arc::clone(&first))).await;
    let encryption = locus.encryption().unwrap();
    let (old, _) = first.active();
    let key = locus.pool().write(&acme, "old", options()).await.unwrap();
    let upload = locus.pool().upload(&acme, UploadOptions::new(6)).await.unwrap();
    upload.write_at(0, "pie").await.unwrap();
    encryption.rotate(&file).await.unwrap();
    let (new, _) = encryption.keyring().active();
    assert_ne!(new, old);
    let fresh = locus.pool().write(&acme, "new", options()).await.unwrap();
    upload.write_at(3, "ces").await.unwrap();
    assert_eq!(encryption.keys_in_use(), [(old, 2), (new, 1)]);
    let count = |error| match error {
        VaultError::KeyInUse { id, entities, .. } if id == old => entities,
        other => panic!("{other}"),
    };
    assert_eq!(count(encryption.retire(&file, old).await.unwrap_err()), 2);
    let file_of_old = locus.scheduler().next(&acme).await.unwrap().unwrap();
    assert_eq!(file_of_old.key, key);
    locus.scheduler().complete(&file_of_old.lease).await.unwrap();
    in_time("its bytes to go", async {
        while encryption.keys_in_use() != [(old, 1), (new, 1)] {
            locus.cleanup().completed().await.unwrap();
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert_eq!(count(encryption.retire(&file, old).await.unwrap_err()), 1, "an upload was begun with it");
    let uploaded = upload.finish().await.unwrap();
    assert_eq!(encryption.keys_in_use(), [(new, 2)]);
    encryption.retire(&file, old).await.unwrap();
    for (key, content) in [(fresh, "new"), (uploaded, "pieces")] {
        assert_eq!(locus.pool().read(&acme, &key).await.unwrap().bytes().await.unwrap(), content);
    }
    let other = ring(&dir.path().join("other")).await;
    assert!(matches!(encryption.set_keyring(other), Err(VaultError::UnknownKey { id, .. }) if id == new));
    locus.shutdown().await.unwrap();
    assert!(
        plain(dir.path()).encrypt_with(first).build().await.is_err(),
        "it is as it was before the rotation"
    );
}
