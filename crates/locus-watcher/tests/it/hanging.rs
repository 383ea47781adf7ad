//! Folders of a file system that never answers.

#![cfg(target_os = "linux")]

use std::{
    fs::{self, File},
    path::PathBuf,
    process::{Command, Stdio},
};

use locus_core::Error;
use locus_watcher::FileWatcherConfig;

use crate::world::{World, as_time_goes, at_once, in_time, put};

/// A FUSE mount behind which nobody is; whoever asks it anything waits until it goes.
pub(crate) struct Hanging {
    path: PathBuf,
    nobody: Option<File>,
}

impl Hanging {
    /// `None` where this may not be mounted: that needs root, and a system with FUSE.
    pub(crate) fn at(world: &World, folder: &str) -> Option<Self> {
        let path = world.path(folder);
        fs::create_dir(&path).expect("a folder of the test's own");
        let nobody = File::options().read(true).write(true).open("/dev/fuse").ok()?;
        let mut mount = Command::new("mount");
        mount.args(["-i", "-t", "fuse", "-o", "fd=0,rootmode=40000,user_id=0,group_id=0", "nobody"]);
        mount.arg(&path).stdin(nobody.try_clone().ok()?).stderr(Stdio::null());
        mount.status().is_ok_and(|status| status.success()).then_some(Self { path, nobody: Some(nobody) })
    }

    /// From now on whoever asks it anything is told that it failed.
    pub(crate) fn die(&mut self) {
        self.nobody = None;
    }

    fn watcher(&self) -> FileWatcherConfig {
        at_once(FileWatcherConfig::new(&self.path).id("hanging").tenant("acme"))
    }
}

impl Drop for Hanging {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.path).status();
    }
}

#[tokio::test]
async fn b85_a_folder_that_hangs_is_named_in_time_and_delays_neither_others_nor_changes_nor_the_end() {
    let world = World::new();
    let Some(hanging) = Hanging::at(&world, "hanging") else { return };
    let watchers = world.open(Vec::new()).await.unwrap();
    let registering = tokio::spawn({
        let (watchers, watcher) = (watchers.clone(), hanging.watcher());
        async move { watchers.register(watcher).await }
    });
    tokio::task::yield_now().await; // it waits for the folder by now
    in_time("a change of another", watchers.register(world.eager())).await.unwrap();
    world.drop_file("a", "x");
    in_time("a scan of another", watchers.scan_now("in")).await.unwrap();
    assert_eq!(world.arrived(), ["a"]);
    let refused = as_time_goes(&world, registering).await.unwrap().unwrap_err();
    let named = matches!(&refused, Error::FolderUnavailable { path, .. } if *path == hanging.path);
    assert!(named, "{refused}");

    // Nor does it keep a store from its start, for it may come back.
    watchers.stop().await;
    let opened = as_time_goes(&world, world.open(vec![hanging.watcher(), world.eager()])).await;
    let watchers = opened.unwrap();
    for _ in 0..2 {
        let scanned = as_time_goes(&world, watchers.scan_now("hanging")).await.unwrap_err();
        assert!(matches!(scanned, Error::FolderUnavailable { .. }), "{scanned}");
    }
    let explained = as_time_goes(&world, watchers.explain(hanging.path.join("x"))).await.unwrap_err();
    assert!(matches!(explained, Error::FolderUnavailable { .. }), "{explained}");
    in_time("a scan of another", watchers.scan_now("in")).await.unwrap();
    in_time("a change of itself", watchers.disable("hanging")).await.unwrap();
    in_time("the end", watchers.stop()).await;
}

#[tokio::test]
async fn b85_a_folder_that_begins_to_hang_is_let_go_at_the_end() {
    let world = World::new();
    fs::create_dir(world.path("hanging")).unwrap();
    let config = at_once(FileWatcherConfig::new(world.path("hanging")).id("in").tenant("acme"));
    let watchers = world.run(config).await;
    in_time("a scan", watchers.scan_now("in")).await.unwrap();
    fs::remove_dir(world.path("hanging")).unwrap();
    let Some(hanging) = Hanging::at(&world, "hanging") else { return };
    let scanning = tokio::spawn({
        let watchers = watchers.clone();
        async move { watchers.scan_now("in").await }
    });
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    in_time("the end", watchers.stop()).await;
    assert!(matches!(in_time("the scan", scanning).await.unwrap(), Err(Error::ShuttingDown)));
    drop(hanging);
    put(&world.path("hanging/a"), "x"); // it is a folder again
}

/// As an operator may do who does not see that they are the same.
#[tokio::test]
async fn b86_a_second_mount_of_a_directory_of_the_store_is_not_watched_and_not_eaten() {
    for part in ["volume", "volume/acme"] {
        let world = World::new();
        fs::create_dir_all(world.path("volume/acme")).unwrap();
        put(&world.path("volume/acme/blob"), "of the store");
        world.intake.set_own_places(vec![world.path("volume")]);
        let watchers = world.run(world.eager()).await;
        in_time("a scan", watchers.scan_now("in")).await.unwrap();
        let mut mount = Command::new("mount");
        mount.arg("--bind").args([world.path(part), world.path("inbox")]).stderr(Stdio::null());
        if !mount.status().is_ok_and(|status| status.success()) {
            return; // that needs root
        }
        let scanned = in_time("a scan", watchers.scan_now("in")).await;
        let deep = world.eager_in("inbox/deep").id("new");
        let registered = in_time("a change", watchers.register(deep)).await;
        let _ = Command::new("umount").arg("-l").arg(world.path("inbox")).status();
        assert!(matches!(scanned, Err(Error::InvalidSetting { .. })), "{part}: {scanned:?}");
        assert!(matches!(registered, Err(Error::InvalidSetting { .. })), "{part}: {registered:?}");
        assert_eq!(world.files("volume"), ["acme/blob"]);
        assert!(world.arrived().is_empty());
    }
}
