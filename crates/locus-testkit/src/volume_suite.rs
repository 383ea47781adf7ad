//! What every [`StorageVolume`] must do. An implementation runs the whole suite over itself:
//!
//! ```no_run
//! # use std::sync::Arc;
//! # use locus_core::StorageVolume;
//! # async fn test(open_a_new_empty_one: impl AsyncFn() -> Arc<dyn StorageVolume>) {
//! locus_testkit::volume_suite::run(async || open_a_new_empty_one().await).await;
//! # }
//! ```
//!
//! Each check panics with what is wrong. They need no timer, and no runtime of their own.

use std::{
    future::Future,
    io::{self, Write as _},
    ops::Range,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use locus_core::{
    Area, BlobPath, Checksum, Content, Cursor, Durability, Entropy, Error, Extension, FileKey, ListedBlob,
    Result, Staging, StoragePath, StorageVolume, Tidy, Timestamp,
};
use tokio::{
    io::{AsyncRead, ReadBuf},
    sync::oneshot,
};

use crate::{Failing, SeededEntropy, VolumeFaults, VolumeOp};

type Volume = Arc<dyn StorageVolume>;

/// Runs every check of this module, each on a new, empty volume that `make` opens.
pub async fn run(make: impl AsyncFn() -> Volume) {
    what_is_written_is_read_back(make().await).await;
    a_seekable_source_is_stored_from_its_position(make().await).await;
    ranges_give_exactly_their_bytes(make().await).await;
    a_blob_is_never_overwritten(make().await).await;
    an_absent_blob_is_not_found_and_its_deletion_succeeds(make().await).await;
    an_open_blob_outlives_its_name(make().await).await;
    pages_list_every_blob_once(make().await).await;
    owners_are_apart(make().await).await;
    areas_are_apart(make().await).await;
    a_failing_source_leaves_nothing(make().await).await;
    a_dropped_write_leaves_nothing_visible(make().await).await;
    a_running_write_is_invisible_and_spared_by_tidy(make().await).await;
    writes_run_beside_each_other(make().await).await;
    syncs_and_probes_change_nothing(make().await).await;
    a_listing_refuses_what_is_no_page(make().await).await;
    a_path_lies_in_the_mount_and_leads_to_the_content(make().await).await;
    a_closed_volume_refuses(make().await).await;
    crate::staging_suite::run(make).await;
}

/// Runs the checks of a volume that fails, each on a new, empty volume that `make` opens, with the switches that let it
/// fail. The volume is a [`FaultyVolume`](crate::FaultyVolume), or something over one that passes its failures on.
pub async fn run_failing(make: impl AsyncFn() -> (Volume, VolumeFaults)) {
    for how in [Failing::Refused, Failing::AnswerLost] {
        let (volume, faults) = make().await;
        every_failure_is_told_and_nothing_is_lost_by_it(volume, faults, how).await;
    }
    let (volume, faults) = make().await;
    what_is_away_comes_back_with_all_it_held(volume, faults).await;
}

/// Each call fails while it is told to, is good again afterwards, and what rested on the volume rests there still.
pub async fn every_failure_is_told_and_nothing_is_lost_by_it(
    volume: Volume,
    faults: VolumeFaults,
    how: Failing,
) {
    let mut names = Names::new(16);
    let kept = names.next("acme", "x.txt");
    write(&volume, &kept, "kept".into()).await;
    let other = names.next("acme", "x.txt");
    for op in VolumeOp::ALL {
        let failed = faults.failed();
        faults.fail(op, 0, how);
        let error = match op {
            VolumeOp::Probe => volume.probe().await.err(),
            VolumeOp::Write => volume.write(&other, &mut "new".into(), Durability::Durable).await.err(),
            VolumeOp::Copy => volume.copy(&kept, Area::Quarantine).await.err(),
            VolumeOp::Open => volume.open(&kept, 0..4).await.err(),
            VolumeOp::Read => match volume.open(&kept, 0..0).await {
                Ok(opened) => opened.blob.read_at(0, 4).await.err(),
                Err(error) => Some(error), // it reads when it opens
            },
            VolumeOp::Delete => volume.delete(&other).await.err(),
            VolumeOp::Sync => volume.sync().await.err(),
            VolumeOp::SyncBlob => volume.sync_blob(&kept).await.err(),
            VolumeOp::SyncNames => volume.sync_names().await.err(),
            VolumeOp::List => volume.list(None, None, 1).await.err(),
            VolumeOp::Tidy => volume.tidy(Tidy::StaleStaging).await.err(),
            VolumeOp::ListStaged => volume.staged(None, 1).await.err(),
            VolumeOp::Discard => volume.discard(&other).await.err(),
            VolumeOp::Stage => volume.stage(&names.next("acme", ""), Staging::New).await.err(),
            VolumeOp::StagedWrite | VolumeOp::StagedRead | VolumeOp::StagedSync | VolumeOp::Publish => {
                put_together(&volume, &names.next("acme", ""), &other).await.err()
            }
        };
        let was_asked = faults.failed() > failed;
        faults.heal();
        if error.is_none() && matches!(op, VolumeOp::Publish | VolumeOp::Copy) && !was_asked {
            let made = if op == VolumeOp::Copy { kept.in_area(Area::Quarantine) } else { other.clone() };
            volume.delete(&made).await.expect("a deletion succeeds");
            continue; // a decorator may publish and copy by writing
        }
        let error = error.unwrap_or_else(|| panic!("{op:?} succeeded although it failed ({how:?})"));
        if op == VolumeOp::Copy {
            volume.delete(&kept.in_area(Area::Quarantine)).await.expect("a deletion succeeds"); // the answer was lost
        }
        let says_absent =
            matches!(&error, Error::Io { source, .. } if source.kind() == io::ErrorKind::NotFound);
        assert!(!says_absent, "{op:?} failed ({how:?}) and said that the blob is absent");
        assert_eq!(read(&volume, &kept).await, "kept", "after {op:?} failed ({how:?})");
        volume.delete(&other).await.expect("a deletion succeeds");
        assert_eq!(list(&volume, None, 10).await, [(kept.clone(), 4)], "after {op:?} failed ({how:?})");
    }
}

/// A blob in one piece, by every call that this takes.
async fn put_together(volume: &Volume, place: &BlobPath, to: &BlobPath) -> Result<()> {
    let staged = volume.stage(place, Staging::New).await?;
    staged.write_at(0, "new".into()).await?;
    staged.sync().await?;
    staged.read_at(0, 3).await?;
    staged.publish(to, 3).await
}

/// While a volume is away no call succeeds and nothing is said to be absent; it comes back as it was.
pub async fn what_is_away_comes_back_with_all_it_held(volume: Volume, faults: VolumeFaults) {
    let at = Names::new(17).next("acme", "x.txt");
    write(&volume, &at, "here".into()).await;
    faults.set_away(true);
    assert!(!volume.status().is_healthy);
    for failed in [
        volume.open(&at, 0..1).await.err(),
        volume.delete(&at).await.err(),
        volume.list(None, None, 1).await.err(),
        volume.sync_blob(&at).await.err(),
    ] {
        assert!(matches!(failed, Some(Error::VolumeUnavailable { .. })), "{failed:?}");
    }
    faults.heal();
    volume.probe().await.expect("a probe succeeds");
    assert!(volume.status().takes_writes());
    assert_eq!(read(&volume, &at).await, "here");
}

/// Content of every kind and around every size that matters comes back as it was, with its length and checksum.
pub async fn what_is_written_is_read_back(volume: Volume) {
    const MIB: usize = 1 << 20;
    let mut names = Names::new(1);
    for size in [0, 1, 4_095, MIB - 1, MIB, MIB + 1, 3 * MIB + 7] {
        let bytes = pattern(size);
        let contents = [
            ("bytes", Content::from(bytes.clone())),
            ("a file", Content::from(file_of(&bytes))),
            ("a reader", Content::reader(io::Cursor::new(bytes.clone()))),
            ("a seekable reader", Content::seekable(io::Cursor::new(bytes.clone()))),
        ];
        for (kind, mut content) in contents {
            for how in [Durability::Durable, Durability::Buffered] {
                let at = names.next("acme", "scan.pdf");
                let stored = volume.write(&at, &mut content, how).await.expect("a write succeeds");
                assert_eq!(stored.length, size as u64, "length of {kind}");
                assert_eq!(stored.checksum, Checksum::of(&bytes), "checksum of {kind}");
                assert!(read(&volume, &at).await == bytes, "{size} bytes of {kind} came back changed");
                if !content.rewind().await.expect("the source can be rewound when it says so") {
                    break; // a plain reader is spent
                }
            }
        }
    }
}

/// BEHAVIOUR 7: what lies before the position of a seekable source is not stored, and the source can be rewound.
pub async fn a_seekable_source_is_stored_from_its_position(volume: Volume) {
    let mut names = Names::new(2);
    let mut cursor = io::Cursor::new(b"0123456789".to_vec());
    cursor.set_position(4);
    let mut content = Content::seekable(cursor);
    for _ in 0..2 {
        let at = names.next("acme", "");
        volume.write(&at, &mut content, Durability::Durable).await.expect("a write succeeds");
        assert_eq!(read(&volume, &at).await, "456789");
        assert!(content.rewind().await.expect("a cursor can be rewound"));
    }
}

/// Ranges inside, across and beyond the end, in the head and through the handle.
pub async fn ranges_give_exactly_their_bytes(volume: Volume) {
    let bytes = pattern((2 << 20) + 11);
    let length = bytes.len() as u64;
    let at = Names::new(3).next("acme", "x.bin");
    write(&volume, &at, bytes.clone()).await;
    for range in [
        0..0,
        0..1,
        5..5,
        7..4_000,
        length - 3..length,
        length - 3..length + 9,
        length..length + 1,
        Range { start: 9, end: 2 },
    ] {
        let opened = volume.open(&at, range.clone()).await.expect("the blob opens");
        assert_eq!(opened.length, length);
        assert_eq!(opened.head_offset, range.start);
        let within = clamp(&range, length);
        assert!(opened.head.len() <= within.len(), "the head of {range:?} is too long");
        assert_eq!(opened.head, bytes[within.clone()][..opened.head.len()], "head of {range:?}");
        let len = usize::try_from(range.end.saturating_sub(range.start)).expect("a small range");
        let read = opened.blob.read_at(range.start, len).await.expect("the blob is read");
        assert_eq!(read, bytes[within], "bytes of {range:?}");
    }
}

/// A name that is taken stays with its first content, whatever a later write wants.
pub async fn a_blob_is_never_overwritten(volume: Volume) {
    let at = Names::new(4).next("acme", "x.txt");
    write(&volume, &at, "first".into()).await;
    for how in [Durability::Durable, Durability::Buffered] {
        let refused = volume.write(&at, &mut "second".into(), how).await;
        assert!(refused.is_err(), "a second write of one name succeeded");
        assert_eq!(read(&volume, &at).await, "first");
    }
    volume.tidy(Tidy::StaleStaging).await.expect("tidying succeeds");
    assert_eq!(read(&volume, &at).await, "first");
    assert!(volume.delete(&at).await.expect("a deletion succeeds"));
    write(&volume, &at, "third".into()).await;
    assert_eq!(read(&volume, &at).await, "third");
}

/// Absence is said as such, and deleting what is absent is no error.
pub async fn an_absent_blob_is_not_found_and_its_deletion_succeeds(volume: Volume) {
    let at = Names::new(5).next("acme", "x.txt");
    assert_absent(&volume, &at).await;
    assert!(!volume.delete(&at).await.expect("absent is success"));
    write(&volume, &at, "here".into()).await;
    assert!(volume.delete(&at).await.expect("a deletion succeeds"));
    assert!(!volume.delete(&at).await.expect("absent is success"));
    assert_absent(&volume, &at).await;
    volume.sync_names().await.expect("names are synced");
    assert_absent(&volume, &at).await;
}

/// Who has a blob open reads it to its end, also when it is deleted meanwhile.
pub async fn an_open_blob_outlives_its_name(volume: Volume) {
    let at = Names::new(6).next("acme", "");
    let bytes = pattern(3 << 20);
    write(&volume, &at, bytes.clone()).await;
    let opened = volume.open(&at, 0..1).await.expect("the blob opens");
    assert!(volume.delete(&at).await.expect("a deletion succeeds"));
    let read = opened.blob.read_at(0, bytes.len()).await.expect("the open blob is read");
    assert!(read == bytes, "the open blob changed");
}

/// Whatever the size of a page, all pages together list every blob once, in an order that stays.
pub async fn pages_list_every_blob_once(volume: Volume) {
    let mut names = Names::new(7);
    let mut all = Vec::new();
    for (n, owner) in ["acme", "acme+00000001", "b", "acme", "zoo"].iter().cycle().take(40).enumerate() {
        let at = names.next(owner, if n % 2 == 0 { "x.txt" } else { "" });
        write(&volume, &at, pattern(n)).await;
        all.push((at, n as u64));
    }
    all.sort();
    let whole = list(&volume, None, 1_000).await;
    for limit in [1, 2, 7, 39, 40, 41] {
        let listed = list(&volume, None, limit).await;
        assert_eq!(listed, whole, "in pages of {limit} the order differs");
        let mut sorted = listed;
        sorted.sort();
        assert_eq!(sorted, all, "in pages of {limit}");
    }
    let (first, rest) = whole.split_first().expect("there are 40");
    let page = volume.list(None, None, 1).await.expect("a page is listed");
    assert!(volume.delete(&first.0).await.expect("a deletion succeeds"));
    let mut seen = Vec::new();
    let mut from = page.next;
    while let Some(cursor) = from {
        let page = volume.list(None, Some(&cursor), 3).await.expect("a page is listed");
        seen.extend(page.blobs.into_iter().map(entry));
        from = page.next;
    }
    assert_eq!(seen, rest, "a cursor does not outlive the blob that it stands on");
}

/// An owner's listing, reading and deleting touch nobody else's blobs, not even under the same key.
pub async fn owners_are_apart(volume: Volume) {
    let mine = Names::new(8).next("acme", "x.txt");
    let theirs = BlobPath { owner: owner("acme+00000001"), ..mine.clone() };
    write(&volume, &mine, "mine".into()).await;
    assert_absent(&volume, &theirs).await;
    write(&volume, &theirs, "theirs".into()).await;
    assert_eq!(list(&volume, Some(&mine.owner), 10).await, [(mine.clone(), 4)]);
    assert_eq!(list(&volume, Some(&theirs.owner), 10).await, [(theirs.clone(), 6)]);
    assert_eq!(list(&volume, Some(&owner("nobody")), 10).await, []);
    assert!(volume.delete(&mine).await.expect("a deletion succeeds"));
    assert_eq!(read(&volume, &theirs).await, "theirs");
}

/// A blob has an address in each area, and what is done to it at one changes nothing at the others.
pub async fn areas_are_apart(volume: Volume) {
    let mut names = Names::new(15);
    for (n, content) in [Bytes::new(), "short".into(), pattern((3 << 20) + 1)].into_iter().enumerate() {
        let at = names.next("acme", if n == 1 { "" } else { "x.txt" });
        let [dead, quarantined] = [Area::DeadLetters, Area::Quarantine].map(|area| at.in_area(area));
        for to in [&dead, &quarantined] {
            let absent = volume.copy(&at, to.area).await.expect_err("nothing is there to be copied");
            assert!(absent.is_absent(), "{absent:?}");
            assert_absent(&volume, to).await;
        }
        // Copies are durable whatever they are made of.
        let how = if n == 0 { Durability::Durable } else { Durability::Buffered };
        volume.write(&at, &mut content.clone().into(), how).await.expect("a write succeeds");
        volume.copy(&at, Area::DeadLetters).await.expect("a blob is copied");
        let taken = volume.copy(&at, Area::DeadLetters).await.expect_err("its address is taken");
        assert!(taken.is_taken(), "{taken:?}");
        let length = content.len() as u64;
        assert_eq!(sorted(list(&volume, None, 10).await), [(at.clone(), length), (dead.clone(), length)]);
        assert!(volume.delete(&at).await.expect("a deletion succeeds"));
        assert_absent(&volume, &at).await;
        assert_eq!(read(&volume, &dead).await, content);

        volume.copy(&dead, Area::Quarantine).await.expect("a blob is copied");
        volume.copy(&dead, Area::Live).await.expect("a blob is copied");
        for limit in [1, 2, 3, 10] {
            let all = [&at, &dead, &quarantined].map(|at| (at.clone(), length));
            assert_eq!(sorted(list(&volume, None, limit).await), all, "in pages of {limit}");
            assert_eq!(sorted(list(&volume, Some(&at.owner), limit).await), all, "in pages of {limit}");
            assert_eq!(list(&volume, Some(&owner("acme+00000001")), limit).await, []);
        }
        volume.sync_blob(&quarantined).await.expect("a blob is synced");
        for at in [&at, &dead, &quarantined] {
            assert_eq!(read(&volume, at).await, content);
            assert!(volume.delete(at).await.expect("a deletion succeeds"));
            assert_absent(&volume, at).await;
        }
    }
    let report = volume.tidy(Tidy::StaleStaging).await.expect("tidying succeeds");
    assert_eq!((report.removed, report.failed), (0, 0), "copies left residue");
}

/// BEHAVIOUR 3: a source that fails half-way is told as such; nothing is visible, nothing remains to be tidied, and the
/// name can be used again.
pub async fn a_failing_source_leaves_nothing(volume: Volume) {
    let mut names = Names::new(9);
    for given in [0, 1, 1 << 20, (1 << 20) + 1] {
        let at = names.next("acme", "x.txt");
        let mut content = Content::reader(Spent { left: pattern(given) });
        let failed = volume.write(&at, &mut content, Durability::Durable).await;
        assert!(matches!(failed, Err(Error::Source { .. })), "after {given} bytes: {failed:?}");
        assert_absent(&volume, &at).await;
        let report = volume.tidy(Tidy::StaleStaging).await.expect("tidying succeeds");
        assert_eq!((report.removed, report.failed), (0, 0), "after {given} bytes residue remained");
        write(&volume, &at, "again".into()).await;
        assert_eq!(read(&volume, &at).await, "again");
        assert!(volume.delete(&at).await.expect("a deletion succeeds"));
    }
    assert_eq!(list(&volume, None, 10).await, []);
}

/// BEHAVIOUR 6: a write whose future is dropped half-way leaves nothing visible.
pub async fn a_dropped_write_leaves_nothing_visible(volume: Volume) {
    let at = Names::new(10).next("acme", "x.txt");
    let (source, reached, _release) = Halting::new(pattern(2 << 20));
    let mut content = Content::reader(source);
    {
        let write = volume.write(&at, &mut content, Durability::Durable);
        tokio::select! {
            biased;
            _ = reached => {}
            done = write => panic!("the source had not ended: {done:?}"),
        }
    }
    assert_absent(&volume, &at).await;
    volume.tidy(Tidy::StaleStaging).await.expect("tidying succeeds");
    assert_eq!(list(&volume, None, 10).await, []);
}

/// BEHAVIOUR 2: a write under way is visible to nobody, and tidying leaves its staging alone.
pub async fn a_running_write_is_invisible_and_spared_by_tidy(volume: Volume) {
    let at = Names::new(11).next("acme", "x.txt");
    let bytes = pattern((2 << 20) + 5);
    let (source, reached, release) = Halting::new(bytes.clone());
    let mut content = Content::reader(source);
    let meanwhile = async {
        reached.await.expect("the source is read to its end");
        assert_absent(&volume, &at).await;
        assert_eq!(list(&volume, None, 10).await, [], "a half-written blob is listed");
        let report = volume.tidy(Tidy::StaleStaging).await.expect("tidying succeeds");
        assert_eq!(report.removed, 0, "the staging of a running write was removed");
        release.send(()).expect("the write still waits");
    };
    let (stored, ()) = tokio::join!(volume.write(&at, &mut content, Durability::Durable), meanwhile);
    assert_eq!(stored.expect("the write succeeds").length, bytes.len() as u64);
    assert!(read(&volume, &at).await == bytes, "the blob changed");
}

/// Several writes, and a second write of a name that is being written.
pub async fn writes_run_beside_each_other(volume: Volume) {
    let mut names = Names::new(12);
    let at = [names.next("acme", ""), names.next("acme", ""), names.next("b", ""), names.next("b", "")];
    let mut contents = [1, 2, 3, 4].map(|n| Content::from(pattern(n << 10)));
    let [a, b, c, d] = &mut contents;
    let (a, b, c, d) = tokio::join!(
        volume.write(&at[0], a, Durability::Durable),
        volume.write(&at[1], b, Durability::Buffered),
        volume.write(&at[2], c, Durability::Durable),
        volume.write(&at[3], d, Durability::Buffered),
    );
    for (n, stored) in [a, b, c, d].into_iter().enumerate() {
        assert_eq!(stored.expect("the write succeeds").length, (n as u64 + 1) << 10);
        assert_eq!(read(&volume, &at[n]).await, pattern((n + 1) << 10));
    }
    let same = names.next("acme", "");
    let (mut first, mut second) = (Content::from("first"), Content::from("second"));
    let (first, second) = tokio::join!(
        volume.write(&same, &mut first, Durability::Durable),
        volume.write(&same, &mut second, Durability::Durable),
    );
    let expected = match (&first, &second) {
        (Ok(_), Err(_)) => "first",
        (Err(_), Ok(_)) => "second",
        other => panic!("one of two writes of one name wins: {other:?}"),
    };
    assert_eq!(read(&volume, &same).await, expected);
}

/// A page of nothing, and a cursor that the volume never gave, are refused.
pub async fn a_listing_refuses_what_is_no_page(volume: Volume) {
    write(&volume, &Names::new(15).next("acme", "x.txt"), "here".into()).await;
    let refused = volume.list(None, None, 0).await;
    assert!(matches!(refused, Err(Error::InvalidArgument { .. })), "a page of nothing: {refused:?}");
    for text in ["", "..", "0", "acme/../x", "\u{0}", "99999999999999999999 x"] {
        let refused = volume.list(None, Some(&Cursor(text.into())), 1).await;
        assert!(matches!(refused, Err(Error::InvalidArgument { .. })), "cursor {text:?}: {refused:?}");
    }
}

/// A blob that has a path has it beneath the mount path, every blob its own, and its content lies there.
pub async fn a_path_lies_in_the_mount_and_leads_to_the_content(volume: Volume) {
    let mut names = Names::new(18);
    let (one, two) = (names.next("acme", "x.txt"), names.next("acme", "x.txt"));
    write(&volume, &one, "here".into()).await;
    let (Some(path), Some(other)) = (volume.local_path(&one), volume.local_path(&two)) else { return };
    let mount = volume.mount_path().expect("what has paths lies beneath one");
    assert!(path.starts_with(mount) && other.starts_with(mount) && path != other);
    if mount.exists() {
        assert_eq!(std::fs::read(&path).expect("the path can be read"), b"here"); // else the disk is simulated
    }
}

/// Syncing and probing leave every blob, and nothing else, behind.
pub async fn syncs_and_probes_change_nothing(volume: Volume) {
    let mut names = Names::new(13);
    let kept = names.next("acme", "x.txt");
    let gone = names.next("acme", "x.txt");
    for at in [&kept, &gone] {
        volume.write(at, &mut "here".into(), Durability::Buffered).await.expect("a write succeeds");
    }
    assert!(volume.delete(&gone).await.expect("a deletion succeeds"));
    let (one, two) = tokio::join!(volume.sync(), volume.sync());
    one.and(two).expect("everything is synced");
    let (one, two) = tokio::join!(volume.sync_names(), volume.sync());
    one.and(two).expect("everything is synced");
    let status = volume.probe().await.expect("a probe succeeds");
    assert!(status.takes_writes(), "{status:?}");
    assert!(status.available <= status.total, "{status:?}");
    assert_eq!(volume.status(), status);
    volume.sync_blob(&kept).await.expect("a blob is synced");
    match volume.sync_blob(&gone).await {
        Err(Error::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {}
        other => panic!("an absent blob was synced: {other:?}"),
    }
    assert_eq!(list(&volume, None, 10).await, [(kept, 4)]);
    let report = volume.tidy(Tidy::StaleStaging).await.expect("tidying succeeds");
    assert_eq!(report.removed, 0, "something was left behind");
}

/// After `close` every call but the cached answers is refused with `VolumeUnavailable`.
pub async fn a_closed_volume_refuses(volume: Volume) {
    let at = Names::new(14).next("acme", "x.txt");
    write(&volume, &at, "here".into()).await;
    volume.close().await.expect("closing succeeds");
    volume.close().await.expect("closing again succeeds");
    let refusals = [
        ("write", volume.write(&at, &mut "x".into(), Durability::Durable).await.err()),
        ("open", volume.open(&at, 0..1).await.err()),
        ("delete", volume.delete(&at).await.err()),
        ("copy", volume.copy(&at, Area::DeadLetters).await.err()),
        ("list", volume.list(None, None, 1).await.err()),
        ("tidy", volume.tidy(Tidy::StaleStaging).await.err()),
        ("probe", volume.probe().await.err()),
        ("sync", volume.sync().await.err()),
        ("sync_blob", volume.sync_blob(&at).await.err()),
        ("sync_names", volume.sync_names().await.err()),
    ];
    for (call, refused) in refusals {
        assert!(
            matches!(refused, Some(Error::VolumeUnavailable { .. })),
            "{call} of a closed volume: {refused:?}"
        );
    }
    assert!(!volume.status().is_healthy);
}

/// Addresses that differ.
pub(crate) struct Names {
    entropy: SeededEntropy,
    wall: i64,
}

impl Names {
    pub(crate) fn new(seed: u64) -> Self {
        Self { entropy: SeededEntropy::new(seed), wall: 1_700_000_000_000_000 }
    }

    pub(crate) fn next(&mut self, of: &str, original_name: &str) -> BlobPath {
        let mut random = [0; 10];
        self.entropy.fill(&mut random);
        self.wall += 1_000;
        BlobPath {
            area: Area::Live,
            owner: owner(of),
            key: FileKey::generate(Timestamp::from_micros(self.wall), &random),
            extension: Extension::of(original_name),
        }
    }
}

fn owner(text: &str) -> StoragePath {
    StoragePath::parse(text).expect("because the suite names owners well")
}

/// Bytes in which no two places look alike for long.
pub(crate) fn pattern(len: usize) -> Bytes {
    (0..len).map(|n| (n ^ (n >> 8) ^ (n >> 15)) as u8).collect()
}

fn file_of(bytes: &[u8]) -> std::fs::File {
    let mut file = tempfile::tempfile().expect("a temporary file can be made");
    file.write_all(bytes).expect("a temporary file can be written");
    io::Seek::rewind(&mut file).expect("a temporary file can be rewound");
    file
}

fn clamp(range: &Range<u64>, length: u64) -> Range<usize> {
    let start = range.start.min(length) as usize;
    start..(range.end.min(length) as usize).max(start)
}

async fn write(volume: &Volume, at: &BlobPath, bytes: Bytes) {
    let length = bytes.len() as u64;
    let stored = volume.write(at, &mut bytes.into(), Durability::Durable).await.expect("a write succeeds");
    assert_eq!(stored.length, length);
}

/// All of a blob, through its head and its handle.
pub(crate) async fn read(volume: &Volume, at: &BlobPath) -> Bytes {
    let opened = volume.open(at, 0..u64::MAX).await.expect("the blob opens");
    let mut bytes = opened.head.to_vec();
    while (bytes.len() as u64) < opened.length {
        let more = opened.blob.read_at(bytes.len() as u64, 1 << 20).await.expect("the blob is read");
        assert!(!more.is_empty(), "the blob ends before its length");
        bytes.extend_from_slice(&more);
    }
    assert_eq!(bytes.len() as u64, opened.length);
    bytes.into()
}

pub(crate) async fn assert_absent(volume: &Volume, at: &BlobPath) {
    match volume.open(at, 0..1).await {
        Err(Error::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {}
        other => panic!("{at} is absent, but opening it gave {other:?}"),
    }
}

fn sorted(mut blobs: Vec<(BlobPath, u64)>) -> Vec<(BlobPath, u64)> {
    blobs.sort();
    blobs
}

pub(crate) async fn list(volume: &Volume, under: Option<&StoragePath>, limit: usize) -> Vec<(BlobPath, u64)> {
    let mut listed = Vec::new();
    let mut from = None;
    loop {
        let page = volume.list(under, from.as_ref(), limit).await.expect("a page is listed");
        assert!(page.blobs.len() <= limit, "a page is longer than {limit}");
        listed.extend(page.blobs.into_iter().map(entry));
        match page.next {
            Some(next) => {
                assert_ne!(Some(&next), from.as_ref(), "the cursor stands still");
                from = Some(next);
            }
            None => return listed,
        }
    }
}

fn entry(blob: ListedBlob) -> (BlobPath, u64) {
    (blob.path, blob.length)
}

/// Gives what it has, then fails.
struct Spent {
    left: Bytes,
}

impl AsyncRead for Spent {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.left.is_empty() {
            return Poll::Ready(Err(io::Error::other("the source failed")));
        }
        give(&mut self.left, buf);
        Poll::Ready(Ok(()))
    }
}

/// Gives what it has, says so, and ends when it is released.
struct Halting {
    left: Bytes,
    reached: Option<oneshot::Sender<()>>,
    release: oneshot::Receiver<()>,
}

impl Halting {
    fn new(left: Bytes) -> (Self, oneshot::Receiver<()>, oneshot::Sender<()>) {
        let (reached, has_reached) = oneshot::channel();
        let (release, released) = oneshot::channel();
        (Self { left, reached: Some(reached), release: released }, has_reached, release)
    }
}

impl AsyncRead for Halting {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.left.is_empty() {
            give(&mut self.left, buf);
            return Poll::Ready(Ok(()));
        }
        if let Some(reached) = self.reached.take() {
            let _ = reached.send(()); // nobody may listen
        }
        Pin::new(&mut self.release).poll(cx).map(|_| Ok(()))
    }
}

fn give(left: &mut Bytes, buf: &mut ReadBuf<'_>) {
    let piece = left.split_to(left.len().min(buf.remaining()));
    buf.put_slice(&piece);
}
