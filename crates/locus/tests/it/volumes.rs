//! What is decided about volumes, and holds over restarts.
#![expect(clippy::unwrap_used, reason = "helpers of tests may panic as tests may")]

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use locus::{Adopt, MirroredVolume, Retire, prelude::*};
use locus_fs::{DirEntry, Disk, EntryKind};
use locus_testkit::SimDisk;

use crate::support::{builder, in_time, open_with, open_without_inline, write};

#[tokio::test]
async fn what_lies_on_an_adopted_volume_is_removed_as_leftovers_when_that_was_said() {
    let temp = tempfile::tempdir().unwrap();
    let (theirs, ours) = (temp.path().join("theirs"), temp.path().join("ours"));
    let (locus, acme) = open_without_inline(&theirs).await;
    write(&locus, &acme, "theirs").await;
    locus.shutdown().await.unwrap();

    let (locus, acme) = open_with(builder(&ours).inline_content_max(0)).await;
    let file = write(&locus, &acme, "ours").await;
    let spec = || LocalVolume::new("vol-002", theirs.join("vol-001"));
    for refused in [spec(), spec().adopt(Adopt::Empty)] {
        let error = locus.pool().mount(refused).await.unwrap_err();
        assert!(matches!(error, Error::VolumeUnavailable { .. }), "{error:?}");
    }
    locus.pool().mount(spec().adopt(Adopt::RemoveUnknown)).await.unwrap();
    let swept = locus.cleanup().leftovers().await.unwrap();
    assert_eq!(swept.orphans_removed, 1, "{swept:?}");
    assert_eq!(locus.pool().read(&acme, &file).await.unwrap().bytes().await.unwrap(), "ours");
    locus.shutdown().await.unwrap();
}

#[tokio::test]
async fn b77_a_store_is_not_opened_with_a_retired_volume_until_it_is_unretired_without_it() {
    let temp = tempfile::tempdir().unwrap();
    let (dir, id) = (temp.path(), VolumeId::parse("vol-001").unwrap());
    let (locus, acme) = open_without_inline(dir).await;
    let key = write(&locus, &acme, "waits").await;
    locus.pool().retire(&id, Retire::Keep).await.unwrap();
    locus.shutdown().await.unwrap();
    let refused = builder(dir).build().await.unwrap_err();
    assert!(matches!(&refused, Error::VolumeUnavailable { volume: Some(volume), .. } if *volume == id));
    assert!(refused.to_string().contains("was retired"), "{refused}");

    let without = Locus::builder().data_dir(dir.join("data")).build().await.unwrap();
    assert_eq!(without.pool().retired(), std::slice::from_ref(&id));
    without.pool().unretire(&id).await.unwrap();
    without.shutdown().await.unwrap();
    let (locus, acme) = open_without_inline(dir).await;
    assert_eq!(locus.pool().read(&acme, &key).await.unwrap().bytes().await.unwrap(), "waits");
    locus.shutdown().await.unwrap();
}

/// Every file below a directory of a simulated disk.
fn files_below(disk: &dyn Disk, dir: &Path) -> Vec<PathBuf> {
    let entries = disk.read_dir(dir).unwrap().map(Result::unwrap);
    let below = |entry: DirEntry| {
        let path = dir.join(entry.name);
        if entry.kind == EntryKind::Dir { files_below(disk, &path) } else { vec![path] }
    };
    entries.flat_map(below).collect()
}

/// In Buffered mode both copies of a mirror may be torn when the power goes: the mirror itself says that they are damaged,
/// and the file is lost as a torn file of a local volume is, not the store.
#[tokio::test]
async fn b66_a_content_of_which_no_copy_survived_the_power_is_lost_alone() {
    let disk = SimDisk::new(1);
    let open = async || {
        let mirror = MirroredVolume::new("both")
            .add_member(LocalVolume::new("a", "/a"))
            .add_member(LocalVolume::new("b", "/b"));
        let builder = Locus::builder().disk(disk.clone()).data_dir("/srv/data").add_tenant("acme");
        let builder = builder.durability(Durability::Buffered).max_unsynced(Duration::from_secs(3_600));
        builder.inline_content_max(0).add_volume(mirror).build().await.unwrap()
    };
    let locus = open().await;
    let acme = locus.tenants().get("acme").await.unwrap();
    let kept = write(&locus, &acme, "kept").await;
    let lost = write(&locus, &acme, "lost").await;
    // Nothing of this life reaches the disk any more, and all of it has ended before the next begins.
    disk.crash_at(disk.ops() + 1);
    let _ = in_time("shutdown", locus.shutdown()).await;
    drop(locus);
    disk.kill();
    disk.crash_at(u64::MAX);
    for side in ["/a/acme", "/b/acme"] {
        let copies = files_below(&*disk, Path::new(side));
        let torn = copies.iter().find(|path| path.ends_with(lost.to_string())).unwrap();
        disk.open(torn, true).unwrap().write_at(b"torn", 0).unwrap();
    }
    let locus = open().await;
    assert_eq!(locus.pool().info(&acme, &lost).await.unwrap(), None);
    assert_eq!(locus.pool().read(&acme, &kept).await.unwrap().bytes().await.unwrap(), "kept");
    locus.shutdown().await.unwrap();
}
