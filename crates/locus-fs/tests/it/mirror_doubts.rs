//! A mirror whose members cannot all be believed: what each of them says counts for as much as it knows.

use std::{collections::BTreeSet, fs, sync::Arc};

use locus_core::{Durability, Error, Staging};
use locus_fs::{OsDisk, VolumeSpec};
use locus_testkit::{Failing, VolumeOp};
use rstest::rstest;

use crate::{
    local_volume::{blob, on, write},
    mirror::{Pair, put_back, read},
};

#[rstest]
#[tokio::test]
async fn a_sync_that_the_only_member_with_a_content_failed_is_no_success(#[values(true, false)] goes: bool) {
    let dir = tempfile::tempdir().unwrap();
    let pair = Pair::new(dir.path(), 1);
    let (mirror, volume) = pair.open().await;
    let at = blob("acme", "");
    pair.faults[0].set_away(true);
    volume.write(&at, &mut "here".into(), Durability::Buffered).await.unwrap();
    pair.faults[0].set_away(false);
    if goes {
        pair.faults[1].set_away(true);
    } else {
        pair.faults[1].fail(VolumeOp::Sync, 0, Failing::Refused);
    }
    volume.sync().await.unwrap_err();
    // Once the other one has it, and durably, the failure costs nothing.
    pair.faults[1].heal();
    mirror.scrub(|_| {}).await.unwrap();
    pair.faults[1].fail(VolumeOp::Sync, 0, Failing::Refused);
    volume.sync().await.unwrap();
}

#[tokio::test]
async fn a_member_that_left_after_a_sync_is_not_doubted() {
    let dir = tempfile::tempdir().unwrap();
    let pair = Pair::new(dir.path(), 1);
    let (mirror, volume) = pair.open().await;
    volume.write(&blob("acme", ""), &mut "here".into(), Durability::Buffered).await.unwrap();
    volume.sync().await.unwrap();
    pair.faults[1].set_away(true);
    volume.sync().await.unwrap();
    assert_eq!(mirror.report().unwrap().unknown, 0);
}

#[rstest]
#[tokio::test]
async fn a_write_that_is_refused_because_the_name_is_taken_leaves_what_has_it(#[values(1, 2)] quorum: usize) {
    let dir = tempfile::tempdir().unwrap();
    let pair = Pair::new(dir.path(), quorum);
    let (mirror, volume) = pair.open().await;
    let at = blob("acme", "");
    write(&volume, &at, b"the same").await;
    let path = pair.copies("one").into_iter().next().unwrap();
    fs::remove_file(dir.path().join("one").join(path)).unwrap();
    volume.write(&at, &mut "the same".into(), Durability::Durable).await.unwrap_err();
    assert_eq!(read(&volume, &at).await.unwrap(), b"the same");
    mirror.mend().await.unwrap();
    assert_eq!(pair.copies("one").len(), 1);
}

#[tokio::test]
async fn a_new_disk_is_no_witness_of_a_deletion() {
    let dir = tempfile::tempdir().unwrap();
    let pair = Pair::new(dir.path(), 1);
    let at = blob("acme", "");
    {
        let (_, volume) = pair.open().await;
        write(&volume, &at, b"moved away").await;
        pair.faults[1].fail(VolumeOp::Delete, 0, Failing::Refused);
        assert!(volume.delete(&at).await.unwrap());
        // The same file comes back to this volume, where a member still has to delete it.
        write(&volume, &at, b"moved away").await;
        volume.close().await.unwrap();
    }
    pair.faults[1].heal();
    fs::remove_dir_all(dir.path().join("one")).unwrap();
    let (mirror, volume) = pair.open().await;
    mirror.scrub(|_| {}).await.unwrap();
    assert_eq!(read(&volume, &at).await.unwrap(), b"moved away");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sync_that_fails_during_a_scrub_is_a_new_doubt() {
    let dir = tempfile::tempdir().unwrap();
    let pair = Pair::new(dir.path(), 1);
    let (mirror, volume) = pair.open().await;
    write(&volume, &blob("acme", ""), b"here").await;
    pair.faults[1].fail(VolumeOp::Sync, 0, Failing::Refused);
    volume.sync().await.unwrap();
    assert_eq!(mirror.report().unwrap().unknown, 1);
    let sync = || tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(volume.sync()));
    let mut told = 0;
    let scrubbed = mirror.scrub(|_| {
        told += 1;
        if told == 1 {
            sync().unwrap();
        }
    });
    scrubbed.await.unwrap();
    assert_eq!(mirror.report().unwrap().unknown, 1, "what that sync did not cover was not looked at");
    pair.faults[1].heal();
    mirror.scrub(|_| {}).await.unwrap();
    assert_eq!(mirror.report().unwrap().unknown, 0);
}

#[tokio::test]
async fn a_damaged_copy_is_no_corruption_while_the_good_one_is_away() {
    let dir = tempfile::tempdir().unwrap();
    let pair = Pair::new(dir.path(), 1);
    let (_, volume) = pair.open().await;
    let at = blob("acme", "");
    let content = vec![7; 600_000];
    write(&volume, &at, &content).await;
    let path = dir.path().join("one").join(pair.copies("one").into_iter().next().unwrap());
    let mut bytes = fs::read(&path).unwrap();
    for place in [300_000, bytes.len() - 1] {
        bytes[place] ^= 1;
        put_back(&path, &bytes);
        pair.faults[1].set_away(true);
        let unknown = read(&volume, &at).await;
        assert!(matches!(unknown, Err(Error::VolumeUnavailable { .. })), "{unknown:?}");
        pair.faults[1].set_away(false);
        assert!(read(&volume, &at).await.unwrap() == content);
    }
}

#[cfg(unix)]
#[rstest]
#[case::fifo("mkfifo")]
#[case::directory("mkdir")]
#[case::link("link")]
#[tokio::test]
async fn what_is_no_file_in_the_place_of_a_copy_is_read_past_and_replaced(#[case] what: &str) {
    let dir = tempfile::tempdir().unwrap();
    let pair = Pair::new(dir.path(), 1);
    let (mirror, volume) = pair.open().await;
    let at = blob("acme", "");
    write(&volume, &at, b"here").await;
    let path = dir.path().join("one").join(pair.copies("one").into_iter().next().unwrap());
    fs::remove_file(&path).unwrap();
    match what {
        "link" => std::os::unix::fs::symlink("/etc/passwd", &path).unwrap(),
        program => assert!(std::process::Command::new(program).arg(&path).status().unwrap().success()),
    }
    assert_eq!(read(&volume, &at).await.unwrap(), b"here");
    let done = mirror.scrub(|_| {}).await.unwrap();
    if what == "mkdir" {
        assert!(
            done.repaired_damaged == 0 && done.postponed > 0,
            "it is nothing of ours to remove: {done:?}"
        );
        return;
    }
    assert_eq!((done.repaired_damaged, done.postponed), (1, 0), "{done:?}");
    pair.assert_alike();
}

#[tokio::test]
async fn a_member_that_lost_its_own_notes_is_filled_again() {
    let dir = tempfile::tempdir().unwrap();
    let pair = Pair::new(dir.path(), 1);
    let ats = [blob("acme", ""), blob("acme", "")];
    for lost in ["one", "two"] {
        let (_, volume) = pair.open().await;
        let _ = volume.delete(&ats[1]).await;
        write(&volume, &ats[usize::from(lost == "two")], b"here").await;
        volume.close().await.unwrap();
        fs::remove_dir_all(dir.path().join(lost).join("locus.mirror+00000000")).unwrap();
        let (mirror, volume) = pair.open().await;
        volume.probe().await.unwrap();
        assert_eq!(mirror.report().unwrap().away, 0, "{:?}", volume.status());
        mirror.scrub(|_| {}).await.unwrap();
        assert_eq!(mirror.report().unwrap().unknown, 0);
        pair.assert_alike();
        volume.close().await.unwrap();
    }
}

#[tokio::test]
async fn a_listing_is_whole_when_a_member_is_brought_up_to_date_meanwhile() {
    let dir = tempfile::tempdir().unwrap();
    let pair = Pair::new(dir.path(), 1);
    let (mirror, volume) = pair.open().await;
    let mut written = BTreeSet::new();
    for n in 0..6 {
        let at = blob("acme", "");
        pair.faults[0].set_away(n == 0);
        write(&volume, &at, b"here").await;
        written.insert(at);
    }
    let mut page = volume.list(None, None, 1).await.unwrap();
    let mut listed = Vec::new();
    mirror.mend().await.unwrap();
    loop {
        listed.extend(page.blobs.into_iter().map(|blob| blob.path));
        let Some(next) = page.next else { break };
        page = volume.list(None, Some(&next), 1).await.unwrap();
    }
    assert_eq!(listed.iter().cloned().collect::<BTreeSet<_>>(), written);
    assert_eq!(listed.len(), written.len());
}

#[tokio::test]
async fn notes_that_could_not_be_written_do_not_pile_up() {
    let dir = tempfile::tempdir().unwrap();
    let pair = Pair::new(dir.path(), 1);
    let (mirror, volume) = pair.open().await;
    let ats: Vec<_> = (0..5).map(|_| blob("acme", "")).collect();
    for at in &ats {
        write(&volume, at, b"here").await;
    }
    pair.faults[1].set_away(true);
    pair.faults[0].fail(VolumeOp::Write, 0, Failing::Refused);
    for at in &ats {
        volume.delete(at).await.unwrap_err();
    }
    pair.faults[0].heal();
    volume.delete(&ats[0]).await.unwrap();
    assert_eq!(mirror.report().unwrap().behind, 1, "the other deletions were not confirmed");
}

#[tokio::test]
async fn a_new_disk_of_a_mirror_that_exists_is_taken_when_it_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let pair = Pair::new(dir.path(), 1);
    let (_, volume) = pair.open().await;
    write(&volume, &blob("acme", ""), b"here").await;
    volume.close().await.unwrap();
    fs::remove_dir_all(dir.path().join("two")).unwrap();
    let mut spec = pair.spec().new_disk("two");
    spec.expect_existing();
    let mirror = spec.handle();
    let volume = Box::new(spec).open(on(Arc::new(OsDisk))).await.unwrap();
    mirror.scrub(|_| {}).await.unwrap();
    assert!(volume.status().takes_writes() && mirror.report().unwrap().unknown == 0);
    pair.assert_alike();
    let refused = Box::new(pair.spec().new_disk("three")).open(on(Arc::new(OsDisk))).await;
    assert!(matches!(refused, Err(Error::InvalidArgument { name: "new_disk", .. })), "{refused:?}");
}

#[tokio::test]
async fn a_note_that_was_overtaken_while_its_member_was_away_makes_nothing_absent() {
    let dir = tempfile::tempdir().unwrap();
    let pair = Pair::new(dir.path(), 1);
    let at = blob("acme", "");
    {
        let (_, volume) = pair.open().await;
        write(&volume, &at, b"here").await;
        pair.faults[1].set_away(true);
        volume.delete(&at).await.unwrap(); // the first one notes that the second has to delete it
        volume.close().await.unwrap();
    }
    pair.faults[0].set_away(true);
    pair.faults[1].heal();
    {
        let (_, volume) = pair.open().await;
        volume.delete(&at).await.unwrap();
        write(&volume, &at, b"here").await; // the second one alone has it
        volume.close().await.unwrap();
    }
    pair.faults[0].heal();
    pair.faults[1].set_away(true);
    {
        let (_, volume) = pair.open().await;
        for unknown in [read(&volume, &at).await.map(drop), volume.sync_blob(&at).await] {
            assert!(matches!(unknown, Err(Error::VolumeUnavailable { .. })), "{unknown:?}");
        }
        volume.close().await.unwrap();
    }
    pair.faults[1].heal();
    let (mirror, volume) = pair.open().await;
    mirror.scrub(|_| {}).await.unwrap();
    assert_eq!(read(&volume, &at).await.unwrap(), b"here");
    pair.assert_alike();
}

/// The first member makes the place of an upload and does not come to say so: the pieces go to the second one.
#[tokio::test]
async fn a_place_that_a_member_made_without_saying_so_stands_for_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let pair = Pair::new(dir.path(), 1);
    let (_mirror, volume) = pair.open().await;
    let (place, to) = (blob("acme", ""), blob("acme", ""));
    pair.faults[0].fail(VolumeOp::Stage, 0, Failing::AnswerLost);
    let staged = volume.stage(&place, Staging::New).await.unwrap();
    pair.faults[0].heal();
    staged.write_at(3, "lo".into()).await.unwrap();
    staged.sync().await.unwrap();

    pair.faults[1].set_away(true);
    let refused = volume.stage(&place, Staging::Resume).await.unwrap_err();
    assert!(matches!(refused, Error::VolumeUnavailable { .. }), "{refused}");
    pair.faults[1].heal();
    volume.probe().await.unwrap();
    let staged = volume.stage(&place, Staging::Resume).await.unwrap();
    assert_eq!(staged.read_at(3, 9).await.unwrap(), "lo");
    staged.write_at(0, "hel".into()).await.unwrap();
    staged.sync().await.unwrap();
    staged.publish(&to, 5).await.unwrap();
    for _ in 0..2 {
        let again = Staging::Published { key: to.key, extension: to.extension };
        let staged = volume.stage(&place, again).await.unwrap();
        assert_eq!(staged.read_at(0, 9).await.unwrap(), "hello");
        staged.publish(&to, 5).await.unwrap();
        assert_eq!(read(&volume, &to).await.unwrap(), b"hello");
    }
    assert!(volume.discard(&place).await.unwrap());
    assert_eq!(volume.staged(None, 9).await.unwrap().blobs.len(), 0);
}
