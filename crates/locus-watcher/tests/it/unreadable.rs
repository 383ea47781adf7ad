//! Folders and sources that cannot be read.

#![cfg(target_os = "linux")]

use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Command, Stdio},
};

use locus_core::Error;
use locus_watcher::SkipReason;

use crate::{
    hanging::Hanging,
    world::{S, World, scan},
};

/// Whether this process may read everything. Then it runs the test once more as somebody who may not, where that is possible.
fn is_almighty(test: &str) -> bool {
    const NOBODY: [&str; 3] = ["--reuid=65534", "--regid=65534", "--clear-groups"];
    if !rustix::process::geteuid().is_root() {
        return false;
    }
    let setpriv = |command: &Path, arguments: &[&str]| {
        Command::new("setpriv").args(NOBODY).arg(command).args(arguments).stdout(Stdio::null()).status()
    };
    let this = std::env::current_exe().expect("a test that runs");
    if setpriv(&this, &["--list"]).is_ok_and(|listed| listed.success()) {
        assert!(setpriv(&this, &["--exact", test]).expect("as before").success());
    }
    true
}

fn allow(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).expect("a file of the test's own");
}

#[tokio::test]
async fn b86_what_cannot_be_read_is_told_and_holds_up_nothing_else() {
    if is_almighty("unreadable::b86_what_cannot_be_read_is_told_and_holds_up_nothing_else") {
        return;
    }
    let world = World::new();
    let (locked, secret) = (world.drop_file("locked/a", "x"), world.drop_file("secret", "x"));
    world.drop_file("good", "x");
    let locked = locked.parent().unwrap();
    allow(locked, 0o000);
    allow(&secret, 0o000);
    let watchers = world.run(world.eager()).await;
    assert_eq!(scan(&watchers).await.skipped[&SkipReason::Unreadable], 2);
    assert_eq!(world.arrived(), ["good"]);
    let before = world.disk.ops();
    let report = scan(&watchers).await;
    assert_eq!((report.failed, report.skipped[&SkipReason::Unreadable]), (0, 2));
    assert_eq!(world.disk.ops(), before, "it is noted when it is tried again");
    assert_eq!(watchers.explain(locked.join("a")).await.unwrap().held_by, Some(SkipReason::Unreadable));

    allow(&world.path("inbox"), 0o000);
    let error = watchers.scan_now("in").await.unwrap_err();
    assert!(matches!(error, Error::FolderUnavailable { .. }), "{error}");
    for path in [&world.path("inbox"), locked, &secret] {
        allow(path, 0o700);
    }
    assert_eq!(scan(&watchers).await.imported, 2);
    assert_eq!(world.arrived(), ["a", "good", "secret"]);
}

#[tokio::test]
async fn a_source_that_breaks_off_is_tried_less_and_less_often_and_not_noted_in_between() {
    let world = World::new();
    let path = world.drop_file("bad sector", "x");
    let (asked, seen) = std::sync::mpsc::channel();
    world.intake.refuse_by(move |_| {
        asked.send(()).unwrap();
        Some(Error::Source { source: std::io::Error::other("a bad sector") })
    });
    let watchers = world.run(world.eager()).await;
    for wait in [5, 10, 20] {
        assert_eq!(scan(&watchers).await.skipped[&SkipReason::Unreadable], 1);
        assert_eq!(seen.try_iter().count(), 1);
        let before = world.disk.ops();
        world.clock.advance((wait - 1) * S);
        let report = scan(&watchers).await;
        assert_eq!((report.failed, report.skipped[&SkipReason::Unreadable]), (0, 1));
        assert_eq!((seen.try_iter().count(), world.disk.ops()), (0, before));
        assert_eq!(watchers.explain(&path).await.unwrap().held_by, Some(SkipReason::Unreadable));
        world.clock.advance(S);
    }
    world.intake.refuse_nothing();
    assert_eq!(scan(&watchers).await.imported, 1);
}

#[tokio::test]
async fn b85_a_share_that_died_in_a_watched_folder_is_told_and_holds_up_nothing_else() {
    let world = World::new();
    world.drop_file("good", "x");
    let Some(mut hanging) = Hanging::at(&world, "inbox/dead") else { return };
    hanging.die();
    let watchers = world.run(world.eager()).await;
    assert_eq!(scan(&watchers).await.skipped[&SkipReason::Unreadable], 1);
    assert_eq!(world.arrived(), ["good"]);
}
