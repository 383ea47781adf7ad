//! A local volume on a disk that fails, and writes that are given up.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, mpsc::Sender},
};

use locus_core::{Area, BlobPath, Content, Durability, Error, Extension, Result, Staging, Tidy};
use locus_fs::{LocalVolume, VolumeSpec};
use rstest::rstest;

use crate::{
    faulty::FaultyDisk,
    local_volume::{blob, faulty, files, head, on, open, write},
};

const MIB: usize = 1 << 20;

fn markers_only(vol: &Path) {
    assert_eq!(files(vol), [PathBuf::from(".locus-volume")]);
}

#[rstest]
#[case::create("create_new")]
#[case::write("write_at")]
#[case::publish("rename_new")]
#[tokio::test]
async fn b3_b9_a_full_disk_is_said_with_its_numbers_and_leaves_nothing(#[case] op: &'static str) {
    let dir = tempfile::tempdir().unwrap();
    let (disk, volume) = faulty(dir.path()).await;
    let bytes = vec![3; 3 * MIB];
    let source = dir.path().join("source");
    locus_fs::replace(&locus_fs::OsDisk, &source, &bytes).unwrap();
    let contents: [Content; 3] = [
        bytes.clone().into(),
        fs::File::open(&source).unwrap().into(),
        Content::seekable(io::Cursor::new(bytes.clone())),
    ];
    for mut content in contents {
        let at = blob("acme", "");
        disk.set_space(1 << 40, 1_234);
        disk.fail(
            op,
            "vol",
            usize::from(op == "write_at" && content.as_bytes().is_none()),
            io::ErrorKind::StorageFull,
        );
        let error = volume.write(&at, &mut content, Durability::Durable).await.unwrap_err();
        match error {
            Error::InsufficientStorage { required, available } => {
                assert_eq!(available, 1_234);
                assert!(required <= 3 * MIB as u64, "{required}");
                if content.size_hint().is_some() {
                    assert_eq!(required, 3 * MIB as u64);
                }
            }
            other => panic!("{other:?}"),
        }
        markers_only(&dir.path().join("vol"));

        // The next volume would now get the rewound source; here the same one has room again.
        disk.heal();
        assert!(content.rewind().await.unwrap());
        let stored = volume.write(&at, &mut content, Durability::Durable).await.unwrap();
        assert_eq!(stored.length, 3 * MIB as u64);
        assert!(volume.delete(&at).await.unwrap());
    }
}

#[tokio::test]
async fn b4_residue_that_cannot_be_removed_is_reported_and_removed_later() {
    let dir = tempfile::tempdir().unwrap();
    let (disk, volume) = faulty(dir.path()).await;
    let at = blob("acme", "");
    disk.fail("rename_new", "vol", 0, io::ErrorKind::PermissionDenied);
    disk.fail("remove_file", ".staging", 0, io::ErrorKind::PermissionDenied);
    let error = volume.write(&at, &mut "12345".into(), Durability::Durable).await.unwrap_err();
    assert!(matches!(error, Error::Io { op: "publish", .. }), "{error:?}");
    let report = volume.tidy(Tidy::StaleStaging).await.unwrap();
    assert_eq!((report.removed, report.failed), (0, 1));
    assert!(volume.list(None, None, 9).await.unwrap().blobs.is_empty());

    disk.heal();
    let report = volume.tidy(Tidy::StaleStaging).await.unwrap();
    assert_eq!((report.removed, report.bytes, report.failed), (1, 5, 0));
    let report = volume.tidy(Tidy::StaleStaging).await.unwrap();
    assert_eq!((report.removed, report.failed), (0, 0), "its room is given back once");
    markers_only(&dir.path().join("vol"));
}

#[rstest]
#[case::content("sync_data", ".staging")]
#[case::name("sync_dir", "acme")]
#[case::owner("sync_dir", "vol")]
#[tokio::test]
async fn a_failed_sync_ends_writes_until_the_volume_is_opened_again(
    #[case] op: &'static str,
    #[case] part: &'static str,
) {
    let dir = tempfile::tempdir().unwrap();
    let (disk, volume) = faulty(dir.path()).await;
    let (early, failed, later) = (blob("b", ""), blob("acme", ""), blob("acme", ""));
    write(&volume, &early, b"early").await;
    disk.fail(op, part, 0, io::ErrorKind::Other);
    let error = volume.write(&failed, &mut "x".into(), Durability::Durable).await.unwrap_err();
    assert!(matches!(error, Error::Io { op: "sync", .. }), "{error:?}");
    disk.heal();
    disk.asked();

    for how in [Durability::Durable, Durability::Buffered] {
        let error = volume.write(&later, &mut "x".into(), how).await.unwrap_err();
        assert!(
            matches!(&error, Error::VolumeUnavailable { why, .. } if why.contains("sync failed")),
            "{error:?}"
        );
    }
    assert!(volume.sync().await.is_err() && volume.sync_names().await.is_err());
    let asked = disk.asked();
    assert!(
        asked.iter().all(|asked| !asked.op.starts_with("sync")),
        "a failed sync is never retried: {asked:?}"
    );
    let status = volume.probe().await.unwrap();
    assert!(status.is_healthy && status.read_only && status.why.is_some(), "{status:?}");

    assert_eq!(head(&volume, &early).await, b"early");
    assert!(volume.open(&failed, 0..1).await.is_err(), "what failed is not visible");
    assert!(volume.delete(&early).await.unwrap());
    drop(volume);
    let volume = open(disk, &dir.path().join("vol")).await.unwrap();
    write(&volume, &later, b"later").await;
    assert_eq!(files(&dir.path().join("vol")).len(), 2, "marker and blob");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sync_that_succeeds_after_another_one_failed_confirms_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (disk, volume) = faulty(dir.path()).await;
    let first = blob("acme", "");
    let [waits, fails] =
        ["x.a", "x.b"].map(|name| BlobPath { extension: Extension::of(name), ..first.clone() });
    let waits = BlobPath { key: blob("acme", "").key, ..waits };
    write(&volume, &first, b"x").await;
    write(&volume, &BlobPath { extension: Extension::NONE, ..waits.clone() }, b"x").await;
    let (came, go) = disk.hold("sync_dir");
    let waiting = tokio::spawn({
        let (volume, at) = (volume.clone(), waits.clone());
        async move { volume.write(&at, &mut "x".into(), Durability::Durable).await }
    });
    came.recv().unwrap();
    disk.fail("sync_dir", "acme", 0, io::ErrorKind::Other);
    volume.write(&fails, &mut "x".into(), Durability::Durable).await.unwrap_err();
    disk.heal();
    go.send(()).unwrap();
    let error = waiting.await.unwrap().unwrap_err();
    assert!(matches!(error, Error::VolumeUnavailable { .. }), "{error:?}");
    assert!(volume.open(&waits, 0..1).await.is_err());
}

#[tokio::test]
async fn b4_a_blob_whose_name_could_neither_be_synced_nor_removed_is_removed_later() {
    let dir = tempfile::tempdir().unwrap();
    let (disk, volume) = faulty(dir.path()).await;
    let at = blob("acme", "");
    disk.fail("sync_dir", "acme/", 0, io::ErrorKind::Other);
    disk.fail("remove_file", "acme/", 0, io::ErrorKind::Other);
    volume.write(&at, &mut "12345".into(), Durability::Durable).await.unwrap_err();
    assert_eq!(volume.tidy(Tidy::StaleStaging).await.unwrap().failed, 1);
    disk.heal();
    let report = volume.tidy(Tidy::StaleStaging).await.unwrap();
    assert_eq!((report.removed, report.bytes, report.failed), (1, 5, 0));
    markers_only(&dir.path().join("vol"));
}

#[cfg(unix)]
#[tokio::test]
async fn what_gets_the_name_of_a_residue_is_none() {
    let dir = tempfile::tempdir().unwrap();
    let (disk, volume) = faulty(dir.path()).await;
    let at = blob("acme", "");
    write(&volume, &blob("acme", ""), b"its neighbour").await; // the directory is there
    disk.fail_by("sync_dir", "acme/", io::Error::from_raw_os_error(24)); // too many open files
    disk.fail("remove_file", "acme/", 0, io::ErrorKind::Other);
    volume.write(&at, &mut "12345".into(), Durability::Durable).await.unwrap_err();
    assert_eq!(volume.tidy(Tidy::StaleStaging).await.unwrap().failed, 1);
    disk.heal();
    assert!(volume.delete(&at).await.unwrap());
    write(&volume, &at, b"new").await;
    assert_eq!(volume.tidy(Tidy::StaleStaging).await.unwrap().removed, 0);
    assert_eq!(head(&volume, &at).await, b"new");
}

#[tokio::test]
async fn a_failed_sync_of_buffered_content_is_an_error_and_ends_writes() {
    let dir = tempfile::tempdir().unwrap();
    let (disk, volume) = faulty(dir.path()).await;
    volume.write(&blob("acme", ""), &mut "x".into(), Durability::Buffered).await.unwrap();
    disk.fail("sync_data", "acme", 0, io::ErrorKind::Other);
    let error = volume.sync().await.unwrap_err();
    assert!(matches!(error, Error::Io { op: "sync", .. }), "{error:?}");
    assert!(!volume.status().takes_writes());
    disk.heal();
    assert!(volume.sync().await.is_err(), "nobody knows what is on the disk");
}

#[tokio::test]
async fn a_sync_that_could_not_begin_is_made_up_for_by_the_next() {
    let dir = tempfile::tempdir().unwrap();
    let (disk, volume) = faulty(dir.path()).await;
    let at = blob("acme", "");
    volume.write(&at, &mut "x".into(), Durability::Buffered).await.unwrap();
    disk.fail("open", "acme", 0, io::ErrorKind::Other); // such as too many open files
    let error = volume.sync().await.unwrap_err();
    assert!(matches!(error, Error::Io { op: "open", .. }), "{error:?}");
    disk.heal();
    disk.asked();
    volume.sync().await.unwrap();
    assert_eq!(disk.asked_for("sync_data"), [volume.local_path(&at).unwrap()]);
}

#[tokio::test]
async fn a_probe_finds_out_that_nothing_can_be_written() {
    let dir = tempfile::tempdir().unwrap();
    let (disk, volume) = faulty(dir.path()).await;
    let at = blob("acme", "");
    write(&volume, &at, b"x").await;
    disk.fail("create_new", ".staging", 0, io::ErrorKind::ReadOnlyFilesystem);
    let status = volume.probe().await.unwrap();
    assert!(status.is_healthy && status.read_only, "{status:?}");
    let error = volume.write(&blob("acme", ""), &mut "y".into(), Durability::Durable).await.unwrap_err();
    assert!(matches!(error, Error::VolumeUnavailable { .. }), "{error:?}");
    assert_eq!(head(&volume, &at).await, b"x");

    disk.heal();
    assert!(volume.probe().await.unwrap().takes_writes());
    disk.fail("create_new", ".staging", 0, io::ErrorKind::StorageFull);
    assert!(volume.probe().await.unwrap().takes_writes(), "a full disk is full, not read-only");
    assert!(files(&dir.path().join("vol/.staging")).is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn b6_a_write_dropped_inside_its_hop_goes_on_to_its_end_and_keeps_its_staging() {
    let dir = tempfile::tempdir().unwrap();
    let (disk, volume) = faulty(dir.path()).await;
    let at = blob("acme", "");
    let (came, go) = disk.hold("rename_new");
    let writing = tokio::spawn({
        let (volume, at) = (volume.clone(), at.clone());
        async move { volume.write(&at, &mut "whole".into(), Durability::Durable).await }
    });
    came.recv().unwrap();
    writing.abort();
    assert!(writing.await.unwrap_err().is_cancelled());
    assert_eq!(volume.tidy(Tidy::StaleStaging).await.unwrap().removed, 0, "the hop still uses its staging");
    go.send(()).unwrap();
    volume.close().await.unwrap(); // waits for the hop
    let path = volume.local_path(&at).unwrap();
    assert_eq!(fs::read(path).unwrap(), b"whole");
    assert!(files(&dir.path().join("vol/.staging")).is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn b6_a_write_dropped_between_its_hops_removes_its_staging() {
    let dir = tempfile::tempdir().unwrap();
    let (disk, volume) = faulty(dir.path()).await;
    let at = blob("acme", "");
    let (mut source, reader) = tokio::io::duplex(MIB);
    tokio::io::AsyncWriteExt::write_all(&mut source, &vec![1; MIB]).await.unwrap();
    let (came, go) = disk.hold("write_at");
    let writing = tokio::spawn({
        let (volume, at) = (volume.clone(), at.clone());
        async move { volume.write(&at, &mut Content::reader(reader), Durability::Durable).await }
    });
    came.recv().unwrap();
    let (removing, remove) = disk.hold("remove_file");
    go.send(()).unwrap(); // the hop ends, and the write waits for more
    writing.abort();
    assert!(writing.await.unwrap_err().is_cancelled());
    removing.recv().unwrap();
    assert_eq!(volume.tidy(Tidy::StaleStaging).await.unwrap().removed, 0, "whoever removes it has it still");
    remove.send(()).unwrap();
    assert!(volume.open(&at, 0..1).await.is_err());
    drop(source);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_lost_with_a_dropped_write_is_never_taken_for_an_empty_one() {
    let dir = tempfile::tempdir().unwrap();
    let (disk, volume) = faulty(dir.path()).await;
    let source = dir.path().join("source");
    locus_fs::replace(&locus_fs::OsDisk, &source, b"precious").unwrap();
    let mut content = Content::from(fs::File::open(&source).unwrap());
    let at = blob("acme", "");
    let (came, go) = disk.hold("rename_new");
    {
        let mut write = volume.write(&at, &mut content, Durability::Durable);
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        assert!(write.as_mut().poll(&mut context).is_pending());
        came.recv().unwrap();
    }
    let again = volume.write(&blob("acme", ""), &mut content, Durability::Durable).await;
    assert!(matches!(again, Err(Error::Source { .. })), "{again:?}");
    go.send(()).unwrap();
    volume.close().await.unwrap();
    assert_eq!(fs::read(volume.local_path(&at).unwrap()).unwrap(), b"precious");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_beyond_the_bound_wait_and_may_be_dropped_while_a_probe_waits_for_none() {
    let dir = tempfile::tempdir().unwrap();
    let disk = FaultyDisk::new();
    let spec = LocalVolume::new("vol-1", dir.path().join("vol")).writes_max(1);
    let volume = Box::new(spec).open(on(disk.clone())).await.unwrap();
    let (first, second, third) = (blob("acme", ""), blob("acme", ""), blob("acme", ""));
    let (came, go) = disk.hold("rename_new");
    let writing = tokio::spawn({
        let (volume, first) = (volume.clone(), first.clone());
        async move { volume.write(&first, &mut "1".into(), Durability::Durable).await }
    });
    came.recv().unwrap();
    disk.asked();
    let mut content = Content::from("2");
    let mut dropped = Box::pin(volume.write(&second, &mut content, Durability::Durable));
    assert!(futures_poll(dropped.as_mut()));
    let mut content = Content::from("3");
    let mut waiting = Box::pin(volume.write(&third, &mut content, Durability::Durable));
    assert!(futures_poll(waiting.as_mut()));
    drop(dropped);
    assert!(disk.asked().is_empty(), "they do not touch the disk");
    assert!(volume.probe().await.unwrap().takes_writes());
    go.send(()).unwrap();
    writing.await.unwrap().unwrap();
    waiting.await.unwrap();
    assert_eq!(head(&volume, &first).await, b"1");
    assert_eq!(head(&volume, &third).await, b"3");
    assert!(volume.open(&second, 0..1).await.is_err());
    for wrong in
        [LocalVolume::new("v", dir.path()).reads_max(0), LocalVolume::new("v", dir.path()).writes_max(2_000)]
    {
        let refused = Box::new(wrong).open(on(disk.clone())).await;
        assert!(matches!(refused, Err(Error::InvalidArgument { .. })), "{refused:?}");
    }
}

/// Polls once; whether it waits.
fn futures_poll<F: Future + ?Sized>(future: std::pin::Pin<&mut F>) -> bool {
    future.poll(&mut std::task::Context::from_waker(std::task::Waker::noop())).is_pending()
}

#[tokio::test]
async fn what_is_staged_is_listed_to_its_end_although_some_of_it_goes_meanwhile() {
    let dir = tempfile::tempdir().unwrap();
    let (disk, volume) = faulty(dir.path()).await;
    for number in 0..5 {
        volume.stage(&blob("acme", &number.to_string()), Staging::New).await.unwrap();
    }
    disk.fail("metadata", "upload=", 1, io::ErrorKind::NotFound); // one was removed just now
    let (mut listed, mut from) = (0, None);
    loop {
        let page = volume.staged(from.as_ref(), 2).await.unwrap();
        disk.heal();
        listed += page.blobs.len();
        from = page.next;
        if from.is_none() {
            break;
        }
    }
    assert_eq!(listed, 4);
}

/// Begins a call, waits until it is stopped at `op`, and gives it up there. It goes on when the answer is dropped.
async fn given_up<T: Send + 'static>(
    disk: &FaultyDisk,
    op: &'static str,
    call: impl Future<Output = T> + Send + 'static,
) -> Sender<()> {
    let (came, go) = disk.hold(op);
    let call = tokio::spawn(call);
    came.recv().unwrap();
    call.abort();
    assert!(call.await.is_err_and(|error| error.is_cancelled()));
    go
}

#[tokio::test(flavor = "multi_thread")]
async fn b17_a_piece_that_nobody_waits_for_keeps_its_place_until_it_is_written() {
    let dir = tempfile::tempdir().unwrap();
    let (disk, volume) = faulty(dir.path()).await;
    let staged = volume.stage(&blob("acme", ""), Staging::New).await.unwrap();
    let again = Arc::clone(&staged);
    let go = given_up(&disk, "write_at", async move { again.write_at(0, "old".into()).await }).await;
    let early = staged.write_at(2, "new".into()).await;
    assert!(matches!(early, Err(Error::VolumeUnavailable { .. })), "{early:?}");
    staged.write_at(3, "new".into()).await.unwrap();
    drop(go);
    while staged.write_at(0, "new".into()).await.is_err() {
        tokio::task::yield_now().await;
    }
    assert_eq!(staged.read_at(0, 10).await.unwrap(), "newnew");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removal_that_nobody_waits_for_removes_nothing_that_gets_the_name_anew() {
    let dir = tempfile::tempdir().unwrap();
    let (disk, volume) = faulty(dir.path()).await;
    let at = blob("acme", "");
    let (again, there) = (Arc::clone(&volume), at.clone());
    let go = given_up(&disk, "remove_file", async move { again.delete(&there).await }).await;
    let taken = volume.write(&at, &mut "new".into(), Durability::Durable).await;
    assert!(taken.is_err_and(|error| error.is_taken()));
    drop(go);
    while volume.write(&at, &mut "new".into(), Durability::Durable).await.is_err() {
        tokio::task::yield_now().await;
    }
    assert_eq!(head(&volume, &at).await, b"new");
}

/// Whether it fails because an earlier call has the name.
fn is_refused<T>(done: &Result<T>) -> bool {
    matches!(done, Err(Error::VolumeUnavailable { why, .. }) if why.contains("earlier call that names the same blob"))
}

#[rstest]
#[case::write("rename_new")]
#[case::copy("link")]
#[case::publish("sync_dir")]
#[case::taken_back("open")]
#[tokio::test(flavor = "multi_thread")]
async fn a_removal_does_not_say_absent_while_a_call_that_nobody_waits_for_has_the_name(
    #[case] held_at: &'static str,
) {
    let dir = tempfile::tempdir().unwrap();
    let (disk, volume) = faulty(dir.path()).await;
    let (at, place) = (blob("acme", ""), blob("acme", ""));
    let to = if held_at == "link" { at.in_area(Area::Quarantine) } else { at.clone() };
    if held_at == "link" {
        write(&volume, &at, b"whole").await;
    }
    let staged = volume.stage(&place, Staging::New).await.unwrap();
    staged.write_at(0, "whole".into()).await.unwrap();
    if held_at == "open" {
        staged.publish(&at, 5).await.unwrap();
    }
    let on = Arc::clone(&volume);
    let call = async move {
        match held_at {
            "link" => on.copy(&at, Area::Quarantine).await,
            "sync_dir" => staged.publish(&at, 5).await,
            "open" => {
                let how = Staging::Published { key: at.key, extension: at.extension };
                on.stage(&place, how).await.map(drop)
            }
            _ => on.write(&at, &mut "whole".into(), Durability::Durable).await.map(drop),
        }
    };
    let go = given_up(&disk, held_at, call).await;
    let early = volume.delete(&to).await;
    assert!(is_refused(&early), "{early:?}");
    assert!(volume.status().takes_writes(), "nothing is wrong with the volume");
    drop(go);
    let removed = loop {
        match volume.delete(&to).await {
            refused if is_refused(&refused) => tokio::task::yield_now().await,
            removed => break removed.unwrap(),
        }
    };
    assert_eq!(removed, held_at != "open");
    volume.close().await.unwrap();
    assert!(!volume.local_path(&to).unwrap().exists(), "it came back");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_removal_does_not_take_what_gets_the_name_anew() {
    let dir = tempfile::tempdir().unwrap();
    let (disk, volume) = faulty(dir.path()).await;
    let at = blob("acme", "");
    write(&volume, &at, b"old").await;
    let (again, there) = (Arc::clone(&volume), at.clone());
    let go = given_up(&disk, "remove_file", async move { again.delete(&there).await }).await;
    let second = volume.delete(&at).await;
    assert!(is_refused(&second), "{second:?}");
    // The same blob in another area is another name.
    assert!(!volume.delete(&at.in_area(Area::DeadLetters)).await.unwrap());
    drop(go);
    while volume.write(&at, &mut "new".into(), Durability::Durable).await.is_err() {
        tokio::task::yield_now().await;
    }
    assert_eq!(head(&volume, &at).await, b"new");
}

#[test]
fn a_call_that_is_queued_for_a_thread_has_its_name_already() {
    let runtime = tokio::runtime::Builder::new_current_thread().max_blocking_threads(1).build().unwrap();
    runtime.block_on(async {
        let dir = tempfile::tempdir().unwrap();
        let (disk, volume) = faulty(dir.path()).await;
        let (at, new, other) = (blob("acme", ""), blob("acme", ""), blob("acme", ""));
        write(&volume, &at, b"old").await;
        let (came, go) = disk.hold("rename_new");
        let mut content = Content::from("other");
        let mut ahead = Box::pin(volume.write(&other, &mut content, Durability::Durable));
        assert!(futures_poll(ahead.as_mut()));
        came.recv().unwrap();
        let mut late = Content::from("new");
        assert!(futures_poll(volume.delete(&at).as_mut()), "it waits for the thread, and is dropped");
        assert!(futures_poll(volume.write(&new, &mut late, Durability::Durable).as_mut()));
        for name in [&at, &new] {
            assert!(!futures_poll(volume.delete(name).as_mut()), "it is refused at once");
            let mut again = Content::from("again");
            assert!(!futures_poll(volume.write(name, &mut again, Durability::Durable).as_mut()));
        }
        drop(go);
        ahead.await.unwrap();
        while volume.write(&at, &mut "again".into(), Durability::Durable).await.is_err() {
            tokio::task::yield_now().await;
        }
        volume.close().await.unwrap();
        assert_eq!(fs::read(volume.local_path(&at).unwrap()).unwrap(), b"again");
        assert_eq!(fs::read(volume.local_path(&new).unwrap()).unwrap(), b"new");
    });
}

#[tokio::test]
async fn what_is_dropped_while_a_disk_hangs_blocks_no_thread_of_the_runtime() {
    let dir = tempfile::tempdir().unwrap();
    let (disk, volume) = faulty(dir.path()).await;
    let at = blob("acme", "");
    write(&volume, &at, b"here").await;
    let reader = volume.open(&at, 0..4).await.unwrap();
    let upload = volume.stage(&blob("acme", ""), Staging::New).await.unwrap();
    disk.hang(true);
    let asking = Arc::clone(&volume);
    let probe = tokio::spawn(async move { asking.probe().await });
    tokio::task::yield_now().await; // it is out, and hangs
    drop((reader, upload));
    disk.hang(false);
    probe.await.unwrap().unwrap();
    volume.close().await.unwrap();
}
