//! The part of the [volume suite](crate::volume_suite) about blobs that are put together from pieces.

use std::{io, sync::Arc};

use bytes::Bytes;
use locus_core::{BlobPath, Cursor, Durability, Error, Result, Staging, StorageVolume, Tidy};

use crate::volume_suite::{Names, assert_absent, list, pattern, read};

type Volume = Arc<dyn StorageVolume>;

/// Runs every check of this module, each on a new, empty volume that `make` opens.
pub async fn run(make: impl AsyncFn() -> Volume) {
    pieces_in_any_order_become_a_blob(make().await).await;
    what_is_staged_waits_to_be_resumed(make().await).await;
    what_cannot_be_published_stays_staged(make().await).await;
    what_was_published_is_published_again(make().await).await;
    what_is_discarded_is_gone(make().await).await;
    pages_list_everything_staged_once(make().await).await;
    a_closed_volume_stages_nothing(make().await).await;
}

/// Pieces written in any order and at the same time are invisible until they are published, and spared by tidying.
pub async fn pieces_in_any_order_become_a_blob(volume: Volume) {
    let mut names = Names::new(30);
    for size in [0, 1, 3_000, (1 << 20) + 1] {
        let (place, to) = (names.next("acme", ""), names.next("acme", "scan.tif"));
        let bytes = pattern(size);
        let staged = volume.stage(&place, Staging::New).await.expect("a place is staged");
        let (one, two) = (size / 3, size / 3 * 2);
        let (last, first, middle) = tokio::join!(
            staged.write_at(two as u64, bytes.slice(two..)),
            staged.write_at(0, bytes.slice(..one)),
            staged.write_at(one as u64, bytes.slice(one..two)),
        );
        last.and(first).and(middle).expect("pieces are written");
        staged.sync().await.expect("pieces are synced");
        assert_absent(&volume, &to).await;
        assert_absent(&volume, &place).await;
        let tidied = volume.tidy(Tidy::StaleStaging).await.expect("tidying succeeds");
        assert_eq!((tidied.removed, tidied.failed), (0, 0), "what is staged was tidied away");
        let piece = staged.read_at(one as u64, size).await.expect("what is staged is read");
        assert_eq!(piece, bytes.slice(one..));
        assert_eq!(listed(&volume, 10).await, [(place.clone(), size as u64)]);
        staged.publish(&to, size as u64).await.expect("it is published");
        assert!(read(&volume, &to).await == bytes, "{size} bytes in pieces came back changed");
        assert_eq!(listed(&volume, 10).await, []);
        assert_absent(&volume, &place).await;
        assert!(volume.delete(&to).await.expect("a deletion succeeds"));
    }
    assert_eq!(list(&volume, None, 10).await, []);
}

/// What was staged is there for whoever opens it again; a place is new only once.
pub async fn what_is_staged_waits_to_be_resumed(volume: Volume) {
    let mut names = Names::new(31);
    let (place, to) = (names.next("acme", ""), names.next("acme", ""));
    assert_kind(volume.stage(&place, Staging::Resume).await, io::ErrorKind::NotFound, "nothing was resumed");
    let staged = volume.stage(&place, Staging::New).await.expect("a place is staged");
    staged.write_at(3, "lo".into()).await.expect("a piece is written");
    staged.sync().await.expect("a piece is synced");
    drop(staged);
    assert_kind(
        volume.stage(&place, Staging::New).await,
        io::ErrorKind::AlreadyExists,
        "a place was new twice",
    );
    let staged = volume.stage(&place, Staging::Resume).await.expect("it is opened again");
    assert_eq!(staged.read_at(3, 9).await.expect("it is read"), "lo");
    staged.write_at(0, "hel".into()).await.expect("a piece is written");
    staged.sync().await.expect("a piece is synced");
    staged.publish(&to, 5).await.expect("it is published");
    assert_eq!(read(&volume, &to).await, "hello");
    assert_kind(volume.stage(&place, Staging::Resume).await, io::ErrorKind::NotFound, "nothing was resumed");
}

/// A length that is not what was said and a name that is taken are refused, and nothing is lost by that.
pub async fn what_cannot_be_published_stays_staged(volume: Volume) {
    let mut names = Names::new(32);
    let (place, taken, free) = (names.next("acme", ""), names.next("acme", ""), names.next("acme", ""));
    volume.write(&taken, &mut "first".into(), Durability::Durable).await.expect("a write succeeds");
    let staged = volume.stage(&place, Staging::New).await.expect("a place is staged");
    staged.write_at(0, "second".into()).await.expect("a piece is written");
    staged.sync().await.expect("a piece is synced");
    for wrong in [0, 5, 7] {
        let refused = staged.publish(&free, wrong).await;
        assert!(matches!(refused, Err(Error::Corrupt { .. })), "{wrong} bytes: {refused:?}");
        assert_absent(&volume, &free).await;
    }
    assert_kind(staged.publish(&taken, 6).await, io::ErrorKind::AlreadyExists, "a blob was replaced");
    assert_eq!(read(&volume, &taken).await, "first");
    staged.publish(&free, 6).await.expect("it is published");
    assert_eq!(read(&volume, &free).await, "second");
}

/// What was published can be opened to be compared, and published again, any number of times.
pub async fn what_was_published_is_published_again(volume: Volume) {
    let mut names = Names::new(36);
    let (place, to, other) = (names.next("acme", ""), names.next("acme", "scan.tif"), names.next("acme", ""));
    let again = Staging::Published { key: to.key, extension: to.extension };
    assert_kind(volume.stage(&place, again).await, io::ErrorKind::NotFound, "what is not there was opened");
    volume.write(&other, &mut "other".into(), Durability::Durable).await.expect("a write succeeds");
    let staged = volume.stage(&place, Staging::New).await.expect("a place is staged");
    staged.write_at(0, "hello".into()).await.expect("a piece is written");
    staged.sync().await.expect("a piece is synced");
    staged.publish(&to, 5).await.expect("it is published");
    for _ in 0..3 {
        // Whoever opened it may have been killed before it was published.
        drop(volume.stage(&place, again).await.expect("it is opened"));
        let staged = volume.stage(&place, again).await.expect("it is opened again");
        assert_eq!(staged.read_at(1, 9).await.expect("it is read"), "ello");
        assert!(staged.publish(&to, 4).await.is_err(), "it has another length");
        staged.publish(&to, 5).await.expect("it is published again");
        assert_eq!(read(&volume, &to).await, "hello");
        assert_eq!(listed(&volume, 10).await, []);
    }
    // What is staged as well is what counts.
    let staged = volume.stage(&place, Staging::New).await.expect("a place is staged");
    staged.write_at(0, "again".into()).await.expect("a piece is written");
    staged.sync().await.expect("a piece is synced");
    assert_kind(staged.publish(&to, 5).await, io::ErrorKind::AlreadyExists, "a blob was replaced");
    let staged = volume.stage(&place, again).await.expect("it is opened");
    staged.publish(&to, 5).await.expect("it is published");
    assert_eq!(read(&volume, &to).await, "again");
    assert_eq!(listed(&volume, 10).await, []);
    assert_eq!(read(&volume, &other).await, "other");
}

/// Discarding removes what is staged, and nothing else; absent is success.
pub async fn what_is_discarded_is_gone(volume: Volume) {
    let mut names = Names::new(33);
    let (place, other) = (names.next("acme", ""), names.next("acme", ""));
    assert!(!volume.discard(&place).await.expect("absent is success"));
    for at in [&place, &other] {
        let staged = volume.stage(at, Staging::New).await.expect("a place is staged");
        staged.write_at(0, "bytes".into()).await.expect("a piece is written");
    }
    volume.write(&place, &mut "a blob".into(), Durability::Durable).await.expect("a write succeeds");
    assert!(volume.discard(&place).await.expect("it is discarded"));
    assert!(!volume.discard(&place).await.expect("absent is success"));
    assert_eq!(listed(&volume, 10).await, [(other, 5)]);
    assert_eq!(read(&volume, &place).await, "a blob");
}

/// Whatever the size of a page, all pages together list everything once.
pub async fn pages_list_everything_staged_once(volume: Volume) {
    let mut names = Names::new(34);
    let mut all = Vec::new();
    for owner in ["acme", "acme+00000001", "b", "acme", "zoo", "b", "acme"] {
        let at = names.next(owner, "");
        let staged = volume.stage(&at, Staging::New).await.expect("a place is staged");
        staged.write_at(0, pattern(all.len())).await.expect("a piece is written");
        all.push((at, all.len() as u64));
    }
    all.sort();
    for limit in [1, 2, 6, 7, 8] {
        let mut found = listed(&volume, limit).await;
        found.sort();
        assert_eq!(found, all, "in pages of {limit}");
    }
    assert!(volume.staged(None, 0).await.is_err(), "a page of nothing");
}

/// After `close` nothing is staged, listed or discarded.
pub async fn a_closed_volume_stages_nothing(volume: Volume) {
    let mut names = Names::new(35);
    let (place, other) = (names.next("acme", ""), names.next("acme", ""));
    let staged = volume.stage(&place, Staging::New).await.expect("a place is staged");
    volume.close().await.expect("closing succeeds");
    let refusals = [
        ("stage", volume.stage(&other, Staging::New).await.err()),
        ("resume", volume.stage(&place, Staging::Resume).await.err()),
        ("staged", volume.staged(None, 1).await.err()),
        ("discard", volume.discard(&place).await.err()),
        ("write_at", staged.write_at(0, Bytes::from_static(b"x")).await.err()),
        ("sync", staged.sync().await.err()),
        ("publish", staged.publish(&other, 0).await.err()),
    ];
    for (call, refused) in refusals {
        let is_refused = matches!(refused, Some(Error::VolumeUnavailable { .. }));
        assert!(is_refused, "{call} of a closed volume: {refused:?}");
    }
}

fn assert_kind<T: std::fmt::Debug>(done: Result<T>, kind: io::ErrorKind, what: &str) {
    match done {
        Err(Error::Io { source, .. }) if source.kind() == kind => {}
        other => panic!("{what}: {other:?}"),
    }
}

async fn listed(volume: &Volume, limit: usize) -> Vec<(BlobPath, u64)> {
    let (mut all, mut from): (_, Option<Cursor>) = (Vec::new(), None);
    loop {
        let page = volume.staged(from.as_ref(), limit).await.expect("a page is listed");
        assert!(page.blobs.len() <= limit, "a page is longer than {limit}");
        all.extend(page.blobs.into_iter().map(|blob| (blob.path, blob.length)));
        match page.next {
            Some(next) => from = Some(next),
            None => return all,
        }
    }
}
