//! Large content in pieces: confirmed, resumed, finished once, given up.

use std::{ops::Range, time::Duration};

use bytes::Bytes;
use locus_cleanup::SweepOptions;
use locus_core::{
    Checksum, Durability, Error, FileStatus, Limit, MetadataStore, Result, Scope, Staging, TenantManager,
    TenantStatus, UPLOAD_RANGES_MAX, UploadId, VolumeSet,
};
use locus_storage::{Chunk, EngineOptions, Upload, UploadOptions, VerifyLevel};
use locus_testkit::{Fault, OpKind};
use rstest::rstest;

use crate::{
    bench::{Bench, Hang, poll_once, vol},
    world::{End, World},
};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

fn film(size: usize) -> Bytes {
    (0..size).map(|n| (n ^ (n >> 7) ^ (n >> 13)) as u8).collect()
}

impl Bench {
    fn upload(&mut self, options: UploadOptions) -> Result<Upload> {
        let (pool, acme) = (self.pool.clone(), self.acme.clone());
        self.run(async move { pool.upload(&acme, options).await })
    }

    fn begin(&mut self, size: usize) -> Upload {
        self.upload(UploadOptions::new(size as u64)).unwrap()
    }

    fn resume(&mut self, id: UploadId) -> Result<Upload> {
        let (pool, acme) = (self.pool.clone(), self.acme.clone());
        self.run(async move { pool.resume_upload(&acme, &id).await })
    }

    fn send(&mut self, upload: &Upload, offset: u64, chunk: impl Into<Chunk>) -> Result<()> {
        let (upload, chunk) = (upload.clone(), chunk.into());
        self.run(async move { upload.write_at(offset, chunk).await })
    }

    /// Sends what is missing, in pieces.
    fn send_rest(&mut self, upload: &Upload, content: &Bytes, piece: usize) {
        for Range { start, end } in upload.info().unwrap().missing() {
            for at in (start as usize..end as usize).step_by(piece) {
                let bytes = content.slice(at..(at + piece).min(end as usize));
                self.send(upload, at as u64, bytes).unwrap();
            }
        }
    }

    fn end(&mut self, upload: &Upload) -> Result<locus_core::FileKey> {
        let upload = upload.clone();
        self.run(async move { upload.finish().await })
    }

    fn finish_by_id(&mut self, id: UploadId) -> Result<locus_core::FileKey> {
        let (pool, acme) = (self.pool.clone(), self.acme.clone());
        self.run(async move { pool.finish_upload(&acme, &id).await })
    }

    /// Gives a whole upload its name, as a finish does whose record is lost.
    fn name(&mut self, upload: &Upload) {
        let (info, registry) = (upload.info().unwrap(), self.engine.registry.clone());
        self.run(async move {
            let volume = registry.volume(&info.volume_id).unwrap();
            let staged = volume.stage(&info.staged_at().unwrap(), Staging::Resume).await?;
            staged.publish(&info.blob(), info.size).await
        })
        .unwrap();
    }

    fn abort(&mut self, upload: &Upload) -> bool {
        let upload = upload.clone();
        self.run(async move { upload.abort().await }).unwrap()
    }

    /// Files on volumes that belong to uploads under way or left behind.
    fn staged(&mut self) -> usize {
        let registry = self.engine.registry.clone();
        self.run(async move {
            let mut count = 0;
            for volume in registry.all() {
                count += volume.staged(None, 1_000).await.unwrap().blobs.len();
            }
            count
        })
    }

    fn sweep_up(&mut self) -> locus_core::CleanupStatistics {
        let sweeper = self.engine.sweeper.clone();
        self.run(async move { sweeper.leftovers(SweepOptions::default()).await }).unwrap()
    }

    fn sound(&mut self) {
        let report = self.verify(VerifyLevel::Contents);
        assert!(report.findings.is_empty(), "{:?}", report.findings);
    }

    fn used(&self) -> locus_core::Usage {
        self.engine.store.usage(&Scope::Tenant(self.acme.id().clone()))
    }
}

#[test]
fn b17_pieces_in_any_order_and_at_the_same_time_become_one_file() {
    let mut bench = Bench::new();
    let content = film(300_001);
    let options = UploadOptions::new(300_001)
        .original_name("film.MP4")
        .directory("/films")
        .property("reel", "7")
        .expected_checksum(Checksum::of(&content));
    let upload = bench.upload(options).unwrap();
    let pieces: Vec<_> = [200_000..300_001, 0..1, 1..100_000, 100_000..200_000].into_iter().collect();
    let sent: Vec<_> = pieces
        .into_iter()
        .map(|range| {
            let (upload, bytes) = (upload.clone(), content.slice(range.clone()));
            async move {
                let chunk = Chunk::new(bytes.clone()).checksum(Checksum::of(&bytes));
                upload.write_at(range.start as u64, chunk).await
            }
        })
        .collect();
    for done in bench.run(locus_core::join_bounded(sent, 4)) {
        done.unwrap();
    }
    assert_eq!(upload.info().unwrap().confirmed, [Range { start: 0, end: 300_001 }]);
    assert_eq!(bench.blobs(), [], "nothing is visible before it is finished");
    assert_eq!(bench.counts().files(), 0);

    let key = bench.end(&upload).unwrap();
    assert_eq!(key, upload.id().key());
    assert_eq!(bench.read(key).unwrap(), content);
    let (pool, acme) = (bench.pool.clone(), bench.acme.clone());
    let info = bench.run(async move { pool.info(&acme, &key).await }).unwrap().unwrap();
    assert_eq!(
        (info.size, info.checksum, info.status),
        (300_001, Checksum::of(&content), FileStatus::Pending)
    );
    assert_eq!((info.original_name.as_deref(), info.directory.as_str()), (Some("film.MP4"), "/films"));
    assert_eq!(info.properties["reel"], "7");
    assert_eq!(bench.staged(), 0);
    bench.sound();
}

#[rstest]
fn b17_an_upload_goes_on_after_a_restart(#[values(false, true)] checkpointed: bool) {
    let mut bench = Bench::new();
    let content = film(40_000);
    let upload = bench.begin(40_000);
    bench.send(&upload, 30_000, content.slice(30_000..)).unwrap();
    bench.send(&upload, 0, content.slice(..10_000)).unwrap();
    if checkpointed {
        let store = bench.engine.store.clone();
        bench.run(async move { store.checkpoint().await }).unwrap();
    }
    let id = upload.id();
    drop(upload);
    let mut bench = bench.restart();
    bench.sound();
    let upload = bench.resume(id).unwrap();
    assert_eq!(upload.info().unwrap().confirmed, [0..10_000, 30_000..40_000]);
    assert_eq!(upload.info().unwrap().missing(), [Range { start: 10_000, end: 30_000 }]);
    bench.send_rest(&upload, &content, 7_000);
    let key = bench.end(&upload).unwrap();
    assert_eq!(bench.read(key).unwrap(), content);
    let mut bench = bench.restart();
    assert_eq!(bench.read(key).unwrap(), content);
    assert!(matches!(bench.resume(id), Err(Error::UploadNotFound { .. })));
    bench.sound();
}

#[test]
fn b17_finishing_again_gives_the_same_key_until_a_day_after_its_record_went() {
    let mut bench = Bench::new();
    let upload = bench.begin(5);
    let id = upload.id();
    bench.send(&upload, 0, "hello").unwrap();
    let key = bench.end(&upload).unwrap();
    assert_eq!(bench.end(&upload).unwrap(), key);
    let mut bench = bench.restart();
    assert_eq!(bench.finish_by_id(id).unwrap(), key);
    assert_eq!(bench.counts().files(), 1, "there is one file, however often it was finished");
    let (pool, acme, sweeper) = (bench.pool.clone(), bench.acme.clone(), bench.engine.sweeper.clone());
    bench.run(async move { pool.delete(&acme, &key).await }).unwrap();
    bench.run(async move { sweeper.run_all(SweepOptions::default()).await }).unwrap();
    assert_eq!(bench.finish_by_id(id).unwrap(), key);
    bench.world.advance(DAY + Duration::from_secs(1));
    bench.write("something else, so that what is over is forgotten");
    assert!(matches!(bench.finish_by_id(id), Err(Error::UploadNotFound { .. })));
}

#[test]
fn b17_an_aborted_upload_leaves_nothing_and_gives_its_room_back() {
    let mut bench = Bench::new();
    let limit = Limit::FilesAndBytes { files: 1, bytes: 100 };
    let (store, scope) = (bench.engine.store.clone(), Scope::Tenant(bench.acme.id().clone()));
    bench.run(async move { store.set_limit(scope, limit).await }).unwrap();
    let upload = bench.begin(100);
    bench.send(&upload, 0, "begun").unwrap();
    assert!(matches!(bench.upload(UploadOptions::new(1)), Err(Error::TenantQuotaExceeded { .. })));
    assert_eq!(bench.staged(), 1);
    assert!(bench.abort(&upload));
    assert!(!bench.abort(&upload));
    assert_eq!((bench.staged(), bench.used().files), (0, 0));
    for failed in [
        bench.send(&upload, 0, "x").unwrap_err(),
        bench.end(&upload).unwrap_err(),
        upload.info().unwrap_err(),
    ] {
        assert!(matches!(failed, Error::UploadNotFound { upload: id } if id == upload.id()), "{failed}");
    }
    bench.sound();
    bench.begin(100);
}

#[test]
fn the_room_of_an_upload_is_held_over_a_restart() {
    let mut bench = Bench::new();
    let (store, scope) = (bench.engine.store.clone(), Scope::Tenant(bench.acme.id().clone()));
    bench.run(async move { store.set_limit(scope, Limit::Bytes(100)).await }).unwrap();
    let upload = bench.begin(90);
    bench.send(&upload, 0, "begun").unwrap();
    let id = upload.id();
    drop(upload);
    let mut bench = bench.restart();
    match bench.upload(UploadOptions::new(11)) {
        Err(Error::TenantQuotaExceeded { used: 90, limit: 100, .. }) => {}
        other => panic!("{other:?}"),
    }
    let upload = bench.resume(id).unwrap();
    bench.send_rest(&upload, &film(90), 90);
    bench.end(&upload).unwrap();
    assert_eq!(bench.used().bytes, 90);
    assert!(bench.upload(UploadOptions::new(11)).is_err());
    bench.begin(10);
    bench.sound();
}

#[test]
fn b17_abandoned_uploads_are_swept_after_a_set_age_and_others_are_not() {
    let mut bench = Bench::with(EngineOptions { upload_expiry: DAY, ..EngineOptions::default() }, 2);
    let (idle, alive) = (bench.begin(10), bench.begin(10));
    for upload in [&idle, &alive] {
        bench.send(upload, 0, "begun").unwrap();
    }
    bench.world.advance(DAY / 2);
    bench.send(&alive, 5, "more").unwrap();
    assert_eq!((bench.sweep_up().uploads_expired, bench.staged()), (0, 2));
    bench.world.advance(DAY / 2);
    let swept = bench.sweep_up();
    assert_eq!((swept.uploads_expired, swept.staging_removed, bench.staged()), (1, 1, 1));
    assert!(matches!(idle.info(), Err(Error::UploadNotFound { .. })));
    assert_eq!(alive.info().unwrap().confirmed, [Range { start: 0, end: 9 }]);
    bench.sound();
    let (id, mut bench) = (alive.id(), bench.restart());
    assert_eq!(bench.sweep_up().staging_removed, 0);
    let alive = bench.resume(id).unwrap();
    bench.send(&alive, 9, "!").unwrap();
    bench.end(&alive).unwrap();
}

#[test]
fn b17_an_upload_that_is_being_finished_is_not_swept() {
    let mut bench = Bench::with(EngineOptions { upload_expiry: DAY, ..EngineOptions::default() }, 1);
    let hanging = bench.hanging(0);
    let upload = bench.begin(5);
    bench.send(&upload, 0, "hello").unwrap();
    bench.world.advance(DAY - Duration::from_secs(1));
    hanging.hang(Hang::Publish);
    let last = upload.clone();
    let mut finished = Box::pin(async move { last.finish().await });
    bench.still_waits(10, finished.as_mut());
    bench.world.advance(DAY / 2);
    assert_eq!(bench.sweep_up().uploads_expired, 0);
    hanging.go();
    let key = bench.run(finished).unwrap();
    assert_eq!(bench.read(key).unwrap(), b"hello");
    bench.sound();
}

#[test]
fn bad_pieces_are_refused_by_name_and_change_nothing() {
    let mut bench = Bench::new();
    let upload = bench.begin(10);
    bench.send(&upload, 2, "cdef").unwrap();
    let before = upload.info().unwrap();
    for (offset, bytes) in [(10, "x"), (7, "hijk"), (u64::MAX, "x"), (11, "")] {
        let refused = bench.send(&upload, offset, bytes).unwrap_err();
        assert!(matches!(refused, Error::InvalidArgument { name: "offset", .. }), "{offset}: {refused}");
    }
    let wrong = Chunk::new("gh").checksum(Checksum::of(b"hg"));
    assert!(matches!(bench.send(&upload, 6, wrong), Err(Error::ChecksumMismatch { .. })));
    let refused = bench.send(&upload, 0, "abcX").unwrap_err();
    assert!(matches!(refused, Error::InvalidArgument { name: "chunk", .. }), "{refused}");
    assert_eq!(upload.info().unwrap(), before);
    match bench.end(&upload) {
        Err(Error::UploadIncomplete { missing, .. }) => assert_eq!(missing, 0..2),
        other => panic!("{other:?}"),
    }
    // What is confirmed may come again, with what is not.
    bench.send(&upload, 10, "").unwrap();
    bench.send(&upload, 2, "cdef").unwrap();
    bench.send(&upload, 0, "abcd").unwrap();
    bench.send(&upload, 5, "fghij").unwrap();
    let key = bench.end(&upload).unwrap();
    assert_eq!(bench.read(key).unwrap(), b"abcdefghij");
}

#[test]
fn an_upload_longer_than_any_disk_is_refused_by_name_and_takes_no_room() {
    let mut bench = Bench::new();
    bench.write("something that counts already");
    let refused = bench.upload(UploadOptions::new(u64::MAX)).unwrap_err();
    assert!(matches!(refused, Error::GlobalQuotaExceeded { .. }), "{refused}");
    let refused = bench.upload(UploadOptions::new(1 << 63)).unwrap_err();
    assert!(matches!(refused, Error::InsufficientStorage { .. }), "{refused}");
    bench.sound();
}

#[test]
fn a_content_that_is_not_what_was_expected_is_not_queued() {
    let mut bench = Bench::new();
    let options = UploadOptions::new(5).expected_checksum(Checksum::of(b"other"));
    let upload = bench.upload(options).unwrap();
    bench.send(&upload, 0, "hello").unwrap();
    for _ in 0..2 {
        assert!(matches!(bench.end(&upload), Err(Error::ChecksumMismatch { .. })));
    }
    assert_eq!((bench.counts().files(), bench.blobs().len()), (0, 0));
    assert!(bench.abort(&upload));
    bench.write("the volume is none the worse for it");
}

#[test]
fn b13_an_upload_of_another_tenant_looks_like_an_unknown_one() {
    let mut bench = Bench::new();
    let upload = bench.begin(5);
    bench.send(&upload, 0, "hello").unwrap();
    let (pool, other, id) = (bench.pool.clone(), bench.other.clone(), upload.id());
    let (resumed, finished, listed) = bench.run(async move {
        let resumed = pool.resume_upload(&other, &id).await.map(drop);
        let finished = pool.finish_upload(&other, &id).await.map(drop);
        (resumed, finished, pool.uploads(&other, None).await.unwrap())
    });
    assert!(matches!(resumed, Err(Error::UploadNotFound { .. })), "{resumed:?}");
    assert!(matches!(finished, Err(Error::UploadNotFound { .. })), "{finished:?}");
    assert_eq!(listed, []);
    bench.end(&upload).unwrap();
    let (pool, other) = (bench.pool.clone(), bench.other.clone());
    let finished = bench.run(async move { pool.finish_upload(&other, &id).await });
    assert!(matches!(finished, Err(Error::UploadNotFound { .. })), "{finished:?}");
}

#[test]
fn an_empty_upload_is_an_empty_file() {
    let mut bench = Bench::new();
    let upload = bench.begin(0);
    let key = bench.end(&upload).unwrap();
    assert_eq!(bench.read(key).unwrap(), b"");
    assert_eq!(bench.end(&upload).unwrap(), key);
    bench.sound();
}

#[test]
fn uploads_are_told_page_by_page_in_the_order_in_which_they_were_begun() {
    let mut bench = Bench::new();
    let mut ids = Vec::new();
    for _ in 0..1_003 {
        bench.world.advance(Duration::from_millis(1));
        ids.push(bench.begin(1).id());
    }
    let mut told = Vec::new();
    loop {
        let (pool, acme, after) = (bench.pool.clone(), bench.acme.clone(), told.last().copied());
        let page = bench.run(async move { pool.uploads(&acme, after.as_ref()).await }).unwrap();
        if page.is_empty() {
            break;
        }
        told.extend(page.into_iter().map(|info| info.id));
    }
    assert_eq!(told, ids);
    let store = bench.engine.store.clone();
    bench.run(async move { store.checkpoint().await }).unwrap();
    let mut bench = bench.restart();
    assert_eq!(
        bench.engine.store.uploads_on(&vol(0)).uploads + bench.engine.store.uploads_on(&vol(1)).uploads,
        1_003
    );
    bench.sound();
}

#[test]
fn an_upload_has_so_many_separate_ranges_and_no_more() {
    let mut bench = Bench::new();
    let size = 2 * UPLOAD_RANGES_MAX as u64 + 2;
    let upload = bench.begin(size as usize);
    for n in 0..UPLOAD_RANGES_MAX as u64 {
        bench.send(&upload, 2 * n, "x").unwrap();
    }
    let refused = bench.send(&upload, size - 2, "x").unwrap_err();
    assert!(
        matches!(refused, Error::TooLarge { limit, .. } if limit == UPLOAD_RANGES_MAX as u64),
        "{refused}"
    );
    let store = bench.engine.store.clone();
    bench.run(async move { store.checkpoint().await }).unwrap();
    bench.send(&upload, 1, "x").unwrap();
    bench.send(&upload, size - 2, "x").unwrap();
    let (id, mut bench) = (upload.id(), bench.restart());
    assert_eq!(bench.resume(id).unwrap().info().unwrap().confirmed.len(), UPLOAD_RANGES_MAX);
    bench.sound();
}

#[rstest]
fn uploads_wait_while_their_volume_is_away(#[values(false, true)] replaced: bool) {
    let mut bench = Bench::with(EngineOptions::default(), 1);
    let upload = bench.begin(10);
    bench.send(&upload, 0, "hello").unwrap();
    let (pool, id) = (bench.pool.clone(), vol(0));
    let error = bench.run(async move { pool.remove(&id).await }).unwrap_err();
    assert!(matches!(error, Error::VolumeInUse { files: 1, .. }), "{error}");
    let (pool, id) = (bench.pool.clone(), vol(0));
    bench.run(async move { pool.unmount(&id).await }).unwrap();
    assert!(matches!(bench.send(&upload, 5, "world"), Err(Error::VolumeUnavailable { .. })));
    assert!(matches!(bench.end(&upload), Err(Error::UploadIncomplete { .. })));
    let (pool, volume) = (bench.pool.clone(), locus_fs::LocalVolume::new("vol-0", "/vol-0"));
    if replaced {
        bench.run(pool.replace(&vol(0), volume)).unwrap();
    } else {
        bench.run(pool.mount(volume)).unwrap();
    }
    bench.send(&upload, 5, "world").unwrap();
    let key = bench.end(&upload).unwrap();
    assert_eq!(bench.read(key).unwrap(), b"helloworld");
}

#[test]
fn b14_uploads_ask_whether_their_tenant_may() {
    let mut bench = Bench::new();
    let upload = bench.begin(5);
    let id = upload.id();
    bench.send(&upload, 0, "hel").unwrap();
    for (suspended, abortable) in [(false, false), (true, true)] {
        let (directory, acme) = (bench.engine.directory.clone(), bench.acme.id().clone());
        let status = if suspended { TenantStatus::Suspended } else { TenantStatus::Disabled };
        bench.run(async move { directory.set_status(&acme, status).await }).unwrap();
        for refused in [
            bench.upload(UploadOptions::new(1)).unwrap_err(),
            bench.send(&upload, 3, "lo").unwrap_err(),
            bench.end(&upload).unwrap_err(),
            bench.resume(id).unwrap_err(),
        ] {
            assert!(matches!(refused, Error::TenantDisabled { .. }), "{refused}");
        }
        let (pool, acme) = (bench.pool.clone(), bench.acme.clone());
        let told = bench.run(async move { pool.uploads(&acme, None).await });
        assert_eq!(told.is_ok(), abortable);
        assert_eq!(upload.info().is_ok(), abortable);
    }
    assert!(bench.abort(&upload));
}

#[test]
fn b82_a_context_of_an_earlier_tenant_begins_no_upload() {
    let mut bench = Bench::new();
    let (directory, acme) = (bench.engine.directory.clone(), bench.acme.id().clone());
    let again = bench
        .run(async move {
            let removal = directory.begin_removal(&acme)?;
            directory.remove(removal, ()).await?;
            directory.create(&acme, locus_core::Properties::new()).await
        })
        .unwrap();
    assert_ne!(again.storage_path, *bench.acme.storage_path());
    let refused = bench.upload(UploadOptions::new(10)).unwrap_err();
    assert!(matches!(refused, Error::TenantNotFound { .. }), "{refused}");
    assert!(bench.engine.store.holdings(&again.id).is_empty());
}

#[test]
fn a_full_volume_refuses_a_piece_and_takes_it_later() {
    let mut bench = Bench::with(EngineOptions::default(), 1);
    let content = film(20_000);
    let upload = bench.begin(20_000);
    bench.send(&upload, 0, content.slice(..5_000)).unwrap();
    let fault = bench.fault(0, OpKind::Write, Fault::no_space().for_good());
    let refused = bench.send(&upload, 5_000, content.slice(5_000..9_000)).unwrap_err();
    assert!(matches!(refused, Error::InsufficientStorage { .. }), "{refused}");
    bench.world.disk.heal(fault);
    bench.send_rest(&upload, &content, 6_000);
    let key = bench.end(&upload).unwrap();
    assert_eq!(bench.read(key).unwrap(), content);
    bench.sound();
}

#[test]
fn what_is_chosen_for_an_upload_counts_its_bytes_as_taken() {
    let mut bench = Bench::new();
    let available = bench.pool.available_space() / 2;
    let upload = bench.begin(available as usize / 2);
    let first = upload.info().unwrap().volume_id;
    let second = bench.begin(available as usize / 2).info().unwrap().volume_id;
    assert_ne!(first, second, "the one with more left is chosen");
    let refused = bench.upload(UploadOptions::new(available)).unwrap_err();
    assert!(matches!(refused, Error::InsufficientStorage { .. }), "{refused}");
}

/// Whatever a crash comes into, what was confirmed is there: the power is cut, or the process killed, at every operation
/// of the disk.
#[rstest]
fn a_crash_anywhere_loses_nothing_that_was_confirmed(
    #[values(End::Kill, End::PowerCut)] end: End,
    #[values(1, 2, 3)] seed: u64,
    #[values(false, true)] sealed: bool,
) {
    let content = film(9_000);
    let mut at = 0;
    loop {
        let mut bench = Bench::open_at(World::new(seed, EngineOptions::default()).sealed(sealed));
        let upload = bench.begin(9_000);
        let id = upload.id();
        let begin = bench.world.disk.ops();
        bench.world.disk.crash_at(begin + at);
        let mut confirmed = Vec::new();
        let mut finished = None;
        for piece in [3_000..6_000, 0..3_000, 6_000..9_000_u64] {
            let bytes = content.slice(piece.start as usize..piece.end as usize);
            match bench.poll(200, {
                let upload = upload.clone();
                async move { upload.write_at(piece.start, bytes).await }
            }) {
                Some(Ok(())) => confirmed.push(piece),
                _ => break,
            }
        }
        if confirmed.len() == 3 {
            let upload = upload.clone();
            finished = bench.poll(200, async move { upload.finish().await }).and_then(Result::ok);
        }
        let survived = !bench.world.disk.is_down();
        drop(upload);
        let mut bench = bench.restart_after(end);
        let key = match bench.resume(id) {
            Ok(upload) => {
                assert_eq!(finished, None, "a finished upload is under way (operation {at})");
                let told = upload.info().unwrap();
                for piece in &confirmed {
                    assert!(
                        told.confirmed
                            .iter()
                            .any(|range| range.start <= piece.start && piece.end <= range.end),
                        "operation {at}: {piece:?} was confirmed, {:?} is left",
                        told.confirmed
                    );
                }
                bench.send_rest(&upload, &content, 1_500);
                bench.end(&upload).unwrap()
            }
            Err(Error::UploadNotFound { .. }) => bench.finish_by_id(id).unwrap(),
            Err(error) => panic!("operation {at}: {error}"),
        };
        assert_eq!(bench.read(key).unwrap(), content, "operation {at}");
        bench.sweep_up();
        assert_eq!((bench.staged(), bench.blobs().len()), (0, 1), "operation {at}");
        bench.sound();
        if survived {
            assert!(finished.is_some() && at > 20, "the story was short: {at}");
            return;
        }
        at += 1;
    }
}

/// In Buffered mode power loss may forget confirmations, but none behind which the staged file was used up.
#[rstest]
fn b66_power_loss_beside_a_finish_leaves_an_upload_that_goes_on(
    #[values(1, 2, 3)] seed: u64,
    #[values(false, true)] sealed: bool,
) {
    let content = film(9_000);
    let mut at = 0;
    loop {
        let options = EngineOptions { durability: Durability::Buffered, ..EngineOptions::default() };
        let mut bench = Bench::open_at(World::new(seed, options).sealed(sealed));
        let upload = bench.begin(9_000);
        let id = upload.id();
        let store = bench.engine.store.clone();
        bench.run(async move { store.sync().await }).unwrap();
        bench.send_rest(&upload, &content, 3_000);
        bench.world.disk.crash_at(bench.world.disk.ops() + at);
        let last = upload.clone();
        let finished = bench.poll(200, async move { last.finish().await }).and_then(Result::ok);
        let survived = !bench.world.disk.is_down();
        drop(upload);
        let mut bench = bench.restart_after(End::PowerCut);
        let key = match bench.resume(id) {
            Ok(upload) => {
                bench.send(&upload, 0, content.clone()).unwrap();
                bench.end(&upload).unwrap()
            }
            Err(_) => bench.finish_by_id(id).unwrap(),
        };
        assert_eq!(bench.read(key).unwrap(), content, "operation {at}");
        bench.sound();
        if survived {
            assert!(finished.is_some() && at > 5, "the story was short: {at}");
            return;
        }
        at += 1;
    }
}

/// A piece whose future is dropped is confirmed or not, and the upload goes on either way.
/// A record that says that an upload ended may be lost with the power: then it goes on, with all that was confirmed.
#[rstest]
fn b66_nothing_is_removed_of_an_upload_before_its_end_is_durable(
    #[values(Durability::Durable, Durability::Buffered)] durability: Durability,
    #[values(false, true)] expired: bool,
) {
    for seed in 0..40 {
        let mut bench = Bench::open_at(World::new(seed, EngineOptions { durability, ..Default::default() }));
        let upload = bench.begin(5);
        bench.send(&upload, 0, "hello").unwrap();
        let (id, pool) = (upload.id(), bench.pool.clone());
        bench.run(async move { pool.sync().await }).unwrap();
        if expired {
            bench.world.advance(DAY);
            let swept = bench.sweep_up();
            assert_eq!((swept.uploads_expired, swept.staging_removed), (1, 1));
        } else {
            assert!(bench.abort(&upload));
            bench.sweep_up();
        }
        assert_eq!(bench.staged(), 0);
        drop(upload);
        let mut bench = bench.restart_after_power_cut();
        match bench.resume(id) {
            Err(Error::UploadNotFound { .. }) => {}
            resumed => {
                let key = bench.end(&resumed.unwrap()).unwrap();
                assert_eq!(bench.read(key).unwrap(), b"hello", "seed {seed}");
            }
        }
        bench.sound();
    }
}

/// The end of an upload whose record is on its way, and a sweep beside it; a try to finish it may have given it its name.
#[rstest]
fn b66_a_sweep_leaves_what_an_upload_whose_end_is_not_durable_has(#[values(false, true)] named: bool) {
    for seed in 0..40 {
        let options = EngineOptions { durability: Durability::Buffered, ..Default::default() };
        let mut bench = Bench::open_at(World::new(seed, options));
        let upload = bench.begin(5);
        bench.send(&upload, 0, "hello").unwrap();
        if named {
            bench.name(&upload);
        }
        let (id, pool, acme) = (upload.id(), bench.pool.clone(), bench.acme.id().clone());
        bench.run(async move { pool.sync().await }).unwrap();
        // As far as its record: the sync that it waits for does not come.
        let store = bench.engine.store.clone();
        let mut ended = Box::pin(async move { store.end_upload(&acme, &id).await });
        assert!(poll_once(ended.as_mut()).is_pending());
        assert!(upload.info().is_err());
        let swept = bench.sweep_up();
        assert_eq!((swept.staging_removed, swept.orphans_removed), (0, 0));
        drop((ended, upload));
        let mut bench = bench.restart_after_power_cut();
        match bench.resume(id) {
            Err(Error::UploadNotFound { .. }) => {}
            resumed => {
                let key = bench.end(&resumed.unwrap()).unwrap();
                assert_eq!(bench.read(key).unwrap(), b"hello", "seed {seed}");
            }
        }
        bench.sweep_up();
        assert_eq!(bench.staged(), 0, "seed {seed}");
        bench.sound();
    }
}

#[test]
fn b6_a_dropped_piece_and_a_dropped_finish_leave_an_upload_that_goes_on() {
    for polls in 0..12 {
        let mut bench = Bench::new();
        let upload = bench.begin(5);
        let piece = upload.clone();
        bench.poll(polls, async move { piece.write_at(0, "hello").await });
        bench.send(&upload, 0, "hello").unwrap();
        let last = upload.clone();
        bench.poll(polls, async move { last.finish().await });
        let key = bench.end(&upload).unwrap();
        assert_eq!(bench.read(key).unwrap(), b"hello");
        bench.sound();
    }
}

#[test]
fn b65_tries_of_a_first_piece_on_a_full_volume_do_not_pile_up() {
    let mut bench = Bench::with(EngineOptions::default(), 1);
    let upload = bench.begin(5);
    let fault = bench.fault(0, OpKind::Write, Fault::no_space().for_good());
    for _ in 0..5 {
        assert!(matches!(bench.send(&upload, 0, "hello"), Err(Error::InsufficientStorage { .. })));
        assert_eq!(bench.staged(), 1);
    }
    bench.world.disk.heal(fault);
    bench.send(&upload, 0, "hello").unwrap();
    assert_eq!(bench.staged(), 1);
    let key = bench.end(&upload).unwrap();
    assert_eq!((bench.read(key).unwrap(), bench.staged()), (b"hello".to_vec(), 0));
}

/// A try of a place that came to nothing is removed by the next one, and never taken for the one that is used.
#[test]
fn a_place_that_was_given_up_is_not_used_again() {
    let mut bench = Bench::new();
    let upload = bench.begin(5);
    let id = upload.id();
    let fault = bench
        .world
        .disk
        .fail(Fault::io().on(OpKind::Sync).at(|path| path.to_string_lossy().contains("upload=")));
    assert!(bench.send(&upload, 0, "hello").is_err());
    bench.world.disk.heal(fault);
    drop(upload);
    // The volume takes no writes after a failed sync, until it is opened anew.
    let mut bench = bench.restart();
    let upload = bench.resume(id).unwrap();
    assert_eq!((bench.staged(), bench.sweep_up().staging_removed), (1, 0));
    bench.send(&upload, 0, "again").unwrap();
    assert_eq!((bench.staged(), bench.sweep_up().staging_removed), (1, 0));
    let key = bench.end(&upload).unwrap();
    assert_eq!(bench.read(key).unwrap(), b"again");
    let registry = bench.engine.registry.clone();
    let place = locus_core::BlobPath { key: upload.id().key(), ..bench_blob() };
    let resumed = bench.run(async move { registry.all()[0].stage(&place, Staging::Resume).await });
    assert!(resumed.is_err());
}

#[test]
fn a_tenant_with_nothing_but_an_upload_is_told_of_with_its_storage_path() {
    let mut bench = Bench::new();
    bench.begin(10);
    let bench = bench.restart();
    let told = bench.engine.store.tenants_with_files();
    assert_eq!(told, [(bench.acme.id().clone(), bench.acme.storage_path().clone())]);
}

/// What purging a tenant rests upon: its uploads end by their records, and then nothing of them comes any more.
#[rstest]
fn calls_under_way_for_uploads_that_ended_are_waited_for(#[values(Hang::Piece, Hang::Publish)] hang: Hang) {
    let mut bench = Bench::with(EngineOptions::default(), 1);
    let hanging = bench.hanging(0);
    let upload = bench.begin(5);
    if hang == Hang::Publish {
        bench.send(&upload, 0, "hello").unwrap();
    }
    hanging.hang(hang);
    let slow = upload.clone();
    let mut slow = Box::pin(async move {
        match hang {
            Hang::Publish => slow.finish().await.map(drop),
            _ => slow.write_at(0, "hello").await,
        }
    });
    bench.still_waits(10, slow.as_mut());
    let (store, acme) = (bench.engine.store.clone(), bench.acme.clone());
    let id = upload.id();
    assert!(bench.run(async move { store.end_upload(acme.id(), &id).await }).unwrap());

    let (pool, acme, other) = (bench.pool.clone(), bench.acme.clone(), bench.other.clone());
    let mut rest = Box::pin(pool.uploads_rest(acme.id()));
    assert!(poll_once(rest.as_mut()).is_pending());
    bench.run(pool.uploads_rest(other.id()));
    let finished = bench.run(pool.finish_upload(&other, &id));
    assert!(
        matches!(finished, Err(Error::UploadNotFound { .. })),
        "{finished:?}: another tenant waits for nothing"
    );
    hanging.go();
    let refused = bench.run(slow).unwrap_err();
    assert!(matches!(refused, Error::UploadNotFound { .. }), "{refused}");
    bench.run(rest);
    let (sweeper, owner) = (bench.engine.sweeper.clone(), acme.storage_path().clone());
    bench.run(async move { sweeper.leftovers_of(&owner).await }).unwrap();
    assert_eq!((bench.staged(), bench.blobs()), (0, vec![]));
}

#[test]
fn what_a_purge_removed_of_uploads_does_not_come_back_with_the_power() {
    for seed in 0..40 {
        let mut bench = Bench::seeded(seed);
        for _ in 0..2 {
            let upload = bench.begin(5);
            bench.send(&upload, 0, "hello").unwrap();
            assert!(bench.abort(&upload));
        }
        let (sweeper, owner) = (bench.engine.sweeper.clone(), bench.acme.storage_path().clone());
        bench.run(async move { sweeper.leftovers_of(&owner).await }).unwrap();
        let mut bench = bench.restart_after_power_cut();
        assert_eq!(bench.staged(), 0, "seed {seed}");
    }
}

/// Three pieces at the same time, of which the first fails: what the second wrote meanwhile is where the third one goes on.
#[test]
fn b17_a_piece_is_confirmed_only_where_the_upload_is_put_together() {
    let mut bench = Bench::with(EngineOptions::default(), 1);
    let hanging = bench.hanging(0);
    let upload = bench.begin(15);
    hanging.hang(Hang::Piece);
    let slow = upload.clone();
    let mut slow = Box::pin(async move { slow.write_at(5, "slow!").await });
    bench.still_waits(10, slow.as_mut());
    hanging.hang(Hang::No);
    bench.fault(0, OpKind::Write, Fault::io());
    assert!(bench.send(&upload, 0, "fails").is_err());
    bench.send(&upload, 10, "third").unwrap();
    hanging.go();
    bench.run(slow).unwrap();
    bench.send(&upload, 0, "first").unwrap();
    let key = bench.end(&upload).unwrap();
    assert_eq!(bench.read(key).unwrap(), b"firstslow!third");
    bench.sound();
}

/// The same where something is confirmed already: then all go on at one place, also what was opened anew after a failure.
#[rstest]
fn b17_what_is_being_written_when_another_piece_fails_is_there_in_the_end(
    #[values(false, true)] sealed: bool,
) {
    let mut bench = Bench::open_at(World::new(1, EngineOptions::default()).sealed(sealed));
    let hanging = bench.hanging(0);
    let upload = bench.begin(20);
    bench.send(&upload, 15, "known").unwrap();
    hanging.hang(Hang::Piece);
    let slow = upload.clone();
    let mut slow = Box::pin(async move { slow.write_at(5, "slow!").await });
    bench.still_waits(10, slow.as_mut());
    hanging.hang(Hang::No);
    bench.fault(0, OpKind::Write, Fault::io());
    assert!(bench.send(&upload, 0, "fails").is_err());
    bench.send(&upload, 10, "third").unwrap();
    hanging.go();
    bench.run(slow).unwrap();
    bench.send(&upload, 5, "slow!").unwrap(); // compared with what is there
    bench.send(&upload, 0, "first").unwrap();
    let key = bench.end(&upload).unwrap();
    assert_eq!(bench.read(key).unwrap(), b"firstslow!thirdknown");
    bench.sound();
}

fn bench_blob() -> locus_core::BlobPath {
    locus_core::BlobPath {
        area: locus_core::Area::Live,
        owner: locus_core::StoragePath::parse("tenant-0").unwrap(),
        key: locus_core::FileKey::from_bytes([1; 16]),
        extension: locus_core::Extension::NONE,
    }
}

/// A finish whose record was lost left the content under its name: it is compared there, and finished from there.
#[test]
fn what_has_its_name_before_its_record_is_compared_and_finished() {
    let mut bench = Bench::new();
    let upload = bench.begin(10);
    bench.send(&upload, 0, "helloworld").unwrap();
    bench.name(&upload);
    let id = upload.id();
    drop(upload);
    let mut bench = bench.restart();
    bench.sweep_up();
    let upload = bench.resume(id).unwrap();
    bench.send(&upload, 0, "hello").unwrap();
    let refused = bench.send(&upload, 5, "World").unwrap_err();
    assert!(matches!(refused, Error::InvalidArgument { name: "chunk", .. }), "{refused}");
    let key = bench.end(&upload).unwrap();
    assert_eq!(bench.read(key).unwrap(), b"helloworld");
    bench.sound();
}

/// The sync of a name fails, the process is killed, the next one finishes, and power goes: the failed sync left the name
/// looking durable, so it has to be given once more.
#[test]
fn a_name_whose_sync_failed_is_given_again_by_who_finishes() {
    let content = film(5_000);
    for seed in 0..60 {
        let mut bench = Bench::seeded(seed);
        let upload = bench.begin(5_000);
        let id = upload.id();
        bench.send_rest(&upload, &content, 5_000);
        // Its last one is that of the name that was given.
        let before_last = seed % 3;
        bench.world.disk.fail(Fault::interrupted().on(OpKind::SyncDir).after(before_last));
        let finished = bench.end(&upload).is_ok();
        drop(upload);
        let mut bench = bench.restart();
        let key = bench.finish_by_id(id).unwrap();
        let mut bench = bench.restart_after_power_cut();
        assert_eq!(bench.read(key).unwrap(), content, "seed {seed}");
        assert!(!finished || before_last > 0, "seed {seed}: nothing failed");
        bench.sound();
    }
}

/// What a checkpoint keeps of an upload says how it is sealed: the rest goes on as it began.
#[rstest]
fn an_upload_is_sealed_to_its_end_also_after_a_checkpoint(#[values(1, 2)] checkpoints: usize) {
    let mut bench = Bench::open_at(World::new(77, EngineOptions::default()).sealed(true));
    let content = film(200_000);
    let upload = bench.begin(content.len());
    bench.send(&upload, 0, content.slice(..90_000)).unwrap();
    let (id, store) = (upload.id(), bench.engine.store.clone());
    for _ in 0..checkpoints {
        bench.run(store.checkpoint()).unwrap();
    }
    drop((upload, store));
    let mut bench = bench.restart();
    let upload = bench.resume(id).unwrap();
    bench.send_rest(&upload, &content, 30_000);
    let key = bench.end(&upload).unwrap();
    assert_eq!(bench.read(key).unwrap(), content);
    let (store, acme) = (bench.engine.store.clone(), bench.acme.id().clone());
    let record = bench.run(async move { store.get(&acme, &key).await }).unwrap().unwrap();
    assert!(record.seal.is_some());
}
