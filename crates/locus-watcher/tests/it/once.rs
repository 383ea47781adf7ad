//! Each source is imported once.

use locus_core::Error;
use locus_watcher::{AfterImport, SkipReason};

use crate::world::{S, World, in_time, put, scan, until};

#[tokio::test]
async fn b83_scans_at_the_same_time_import_a_source_once() {
    let world = World::new();
    for number in 0..50 {
        world.drop_file(&format!("{number}"), "x");
    }
    let watchers = world.run(world.eager()).await;
    let asking = (0..8).map(|_| {
        let watchers = watchers.clone();
        tokio::spawn(async move { watchers.scan_now("in").await.unwrap() })
    });
    for asked in asking.collect::<Vec<_>>() {
        in_time("a scan", asked).await.unwrap();
    }
    assert_eq!(world.arrived().len(), 50);
    assert_eq!(watchers.get("in").unwrap().total.imported, 50);
}

#[tokio::test]
async fn b83_what_was_imported_and_not_removed_is_removed_alone() {
    let world = World::new();
    world.drop_file("a", "x");
    world.intake.let_sync_fail(true); // as if the process ended here
    let watchers = world.run(world.eager()).await;
    assert_eq!(scan(&watchers).await.skipped[&SkipReason::AfterImport], 1);
    assert_eq!((world.arrived().len(), world.files("inbox").len()), (1, 1));
    watchers.stop().await;

    world.intake.let_sync_fail(false);
    let watchers = world.run(world.eager()).await;
    let report = scan(&watchers).await;
    // The scan at the start may have come first.
    assert_eq!(report.imported, 0);
    assert_eq!(watchers.get("in").unwrap().total.finished, 1);
    assert_eq!((world.arrived().len(), world.files("inbox").len()), (1, 0));
    assert_eq!(world.intake.remembered(), 0);
}

#[tokio::test]
async fn b83_a_move_that_fails_is_tried_again_alone_and_told_by_reason() {
    let world = World::new();
    world.drop_file("a", "x");
    put(&world.path("done"), "a file where the directory should be");
    let watchers = world.run(world.eager().after_import(AfterImport::Move(world.path("done")))).await;
    let report = scan(&watchers).await;
    let total = watchers.get("in").unwrap().total;
    assert_eq!((total.imported, total.failed, report.skipped[&SkipReason::AfterImport]), (1, 1, 1));
    let explained = watchers.explain(world.path("inbox/a")).await.unwrap();
    assert_eq!(explained.held_by, Some(SkipReason::AfterImport));

    std::fs::remove_file(world.path("done")).unwrap();
    world.clock.advance(5 * S);
    let report = scan(&watchers).await;
    assert_eq!((report.imported, report.skipped.len()), (0, 0));
    assert_eq!((world.files("done"), world.arrived().len()), (vec!["a".to_owned()], 1));
}

#[tokio::test]
async fn b84_a_kept_source_is_imported_once_per_content_over_restarts() {
    let world = World::new();
    let keep = || world.eager().after_import(AfterImport::Keep);
    let path = world.drop_file("a", "first");
    world.drop_file("b", "other");
    for _ in 0..3 {
        let watchers = world.run(keep()).await;
        let report = scan(&watchers).await;
        assert_eq!(
            report.skipped.get(&SkipReason::Imported).copied().unwrap_or(2 - report.imported),
            2 - report.imported
        );
        assert_eq!(world.arrived().len(), 2);
        watchers.stop().await;
    }
    put(&path, "second");
    let watchers = world.run(keep()).await;
    scan(&watchers).await;
    assert_eq!(world.arrived(), ["a", "a", "b"]);
    assert_eq!(world.intake.arrived()[2].bytes, b"second");
}

#[tokio::test]
async fn a_kept_source_is_forgotten_when_it_is_gone() {
    let world = World::new();
    let keep = || world.eager().after_import(AfterImport::Keep);
    for number in 0..700 {
        world.drop_file(&format!("{number}"), "x");
    }
    let watchers = world.run(keep()).await;
    scan(&watchers).await;
    assert_eq!(world.intake.remembered(), 700);
    for number in 0..699 {
        std::fs::remove_file(world.path(&format!("inbox/{number}"))).unwrap();
    }
    put(&world.path("inbox/699"), "changed");
    world.clock.advance(3600 * S); // the ledger is read every hour
    scan(&watchers).await;
    assert_eq!((world.intake.remembered(), world.arrived().len()), (1, 701));
}

#[tokio::test]
async fn a_folder_that_is_another_one_for_a_while_makes_nothing_forgotten() {
    let world = World::new();
    let keep = || world.eager().after_import(AfterImport::Keep);
    world.drop_file("a", "x");
    let watchers = world.run(keep()).await;
    scan(&watchers).await;
    watchers.stop().await;

    // As an empty mount point does.
    std::fs::File::open(world.path("inbox")).unwrap();
    rename(&world, "inbox", "unmounted");
    std::fs::create_dir(world.path("inbox")).unwrap();
    let watchers = world.run(keep()).await;
    scan(&watchers).await;
    watchers.stop().await;
    assert_eq!(world.intake.remembered(), 1);

    std::fs::remove_dir(world.path("inbox")).unwrap();
    rename(&world, "unmounted", "inbox");
    let watchers = world.run(keep()).await;
    scan(&watchers).await;
    assert_eq!(world.arrived(), ["a"]);
}

#[tokio::test]
async fn the_same_file_dropped_again_is_imported_again() {
    let world = World::new();
    let watchers = world.run(world.eager()).await;
    let old = std::time::SystemTime::UNIX_EPOCH;
    for round in 1..=3 {
        // Name, size and time alike, and often enough the inode.
        let path = world.drop_file("a", "x");
        std::fs::File::options().write(true).open(&path).unwrap().set_modified(old).unwrap();
        scan(&watchers).await;
        assert_eq!((world.arrived().len(), world.files("inbox").len()), (round, 0));
        assert_eq!(world.intake.remembered(), 0);
    }
}

#[tokio::test]
async fn a_watcher_that_is_removed_leaves_nothing_remembered() {
    let world = World::new();
    world.drop_file("a", "x");
    let keep = || world.eager().after_import(AfterImport::Keep);
    let watchers = world.run(world.eager().id("other").enabled(false)).await;
    watchers.remove("other").await.unwrap();
    watchers.register(keep()).await.unwrap();
    scan(&watchers).await;
    assert_eq!(world.intake.remembered(), 1);
    watchers.remove("in").await.unwrap();
    assert_eq!(world.intake.remembered(), 0);
    assert!(matches!(watchers.scan_now("in").await, Err(Error::WatcherNotFound { .. })));
}

#[tokio::test]
async fn a_quiet_folder_writes_nothing() {
    let world = World::new();
    let watchers = world.run(world.eager().after_import(AfterImport::Keep)).await;
    for number in 0..100 {
        world.drop_file(&format!("{number}"), "x");
    }
    scan(&watchers).await;
    until("the scan at the start", || world.arrived().len() == 100).await;
    let before = (world.disk.ops(), world.intake.written());
    for _ in 0..10 {
        world.clock.advance(30 * S);
        scan(&watchers).await;
    }
    assert_eq!((world.disk.ops(), world.intake.written()), before);
}

#[expect(clippy::disallowed_methods, reason = "the folder is not the store's")]
fn rename(world: &World, from: &str, to: &str) {
    std::fs::rename(world.path(from), world.path(to)).expect("folders of the test's own");
}

#[tokio::test]
async fn a_kept_source_is_forgotten_when_the_folder_of_its_tenant_is_gone_and_not_when_all_are_away() {
    let world = World::new();
    let keep = || world.multi().after_import(AfterImport::Keep);
    world.drop_file("acme/a", "x");
    world.drop_file("globex/b", "x");
    let watchers = world.run(keep()).await;
    scan(&watchers).await;
    watchers.stop().await;

    // As an empty mount point does.
    rename(&world, "inbox", "unmounted");
    std::fs::create_dir(world.path("inbox")).unwrap();
    let watchers = world.run(keep()).await;
    scan(&watchers).await;
    watchers.stop().await;
    assert_eq!(world.intake.remembered(), 2);

    std::fs::remove_dir(world.path("inbox")).unwrap();
    rename(&world, "unmounted", "inbox");
    std::fs::remove_dir_all(world.path("inbox/acme")).unwrap();
    let watchers = world.run(keep()).await;
    scan(&watchers).await;
    assert_eq!((world.intake.remembered(), world.arrived().len()), (1, 2));
}

#[tokio::test]
async fn what_was_kept_in_another_folder_is_forgotten_unless_it_is_the_same_folder_elsewhere() {
    let world = World::new();
    let keep_in = |folder: &str| world.eager_in(folder).id("in").after_import(AfterImport::Keep);
    world.drop_file("a", "x");
    world.drop_file("b", "x");
    let watchers = world.run(keep_in("inbox")).await;
    scan(&watchers).await;
    watchers.stop().await;

    rename(&world, "inbox", "elsewhere");
    let watchers = world.run(keep_in("elsewhere")).await;
    scan(&watchers).await;
    assert_eq!((world.intake.remembered(), world.arrived().len()), (2, 2), "it is the same folder");

    std::fs::create_dir(world.path("another")).unwrap();
    put(&world.path("another/c"), "x");
    watchers.update(keep_in("another")).await.unwrap();
    scan(&watchers).await;
    assert_eq!((world.intake.remembered(), world.arrived().len()), (1, 3));
}

#[tokio::test]
async fn a_share_that_is_away_below_the_watched_folder_makes_nothing_forgotten() {
    let world = World::new();
    let keep = || world.eager().after_import(AfterImport::Keep);
    world.drop_file("share/a", "x");
    world.drop_file("share/deep/b", "x");
    let watchers = world.run(keep()).await;
    scan(&watchers).await;
    watchers.stop().await;

    // As an empty mount point does.
    rename(&world, "inbox/share", "unmounted");
    std::fs::create_dir(world.path("inbox/share")).unwrap();
    let watchers = world.run(keep()).await;
    scan(&watchers).await;
    watchers.stop().await;
    assert_eq!(world.intake.remembered(), 2);

    std::fs::remove_dir(world.path("inbox/share")).unwrap();
    rename(&world, "unmounted", "inbox/share");
    let watchers = world.run(keep()).await;
    scan(&watchers).await;
    assert_eq!(world.arrived(), ["a", "b"]);
}

#[tokio::test]
async fn kept_sources_are_forgotten_with_the_folders_that_held_them() {
    let world = World::new();
    world.drop_file("share/deep/a", "x");
    world.drop_file("share/deep/b", "x");
    let watchers = world.run(world.eager().after_import(AfterImport::Keep)).await;
    scan(&watchers).await;
    assert_eq!(world.intake.remembered(), 2);
    std::fs::remove_file(world.path("inbox/share/deep/a")).unwrap();
    world.clock.advance(3600 * S);
    scan(&watchers).await;
    assert_eq!(world.intake.remembered(), 1);
    std::fs::remove_dir_all(world.path("inbox/share")).unwrap();
    world.clock.advance(3600 * S);
    scan(&watchers).await;
    assert_eq!(world.intake.remembered(), 0);
}

/// As one does that a desktop mounts where it makes a folder for it.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_mount_point_that_goes_with_its_share_makes_nothing_forgotten() {
    let world = World::new();
    let share = world.path("inbox/share");
    let mounting = |command: &str, arguments: &[&str]| {
        let mut command = std::process::Command::new(command);
        let ended = command.args(arguments).arg(&share).stderr(std::process::Stdio::null()).status();
        ended.is_ok_and(|ended| ended.success())
    };
    std::fs::create_dir(&share).unwrap();
    if !mounting("mount", &["-t", "tmpfs", "none"]) {
        return; // that needs root
    }
    world.drop_file("share/a", "x");
    world.drop_file("share/deep/b", "x");
    let watchers = world.run(world.eager().after_import(AfterImport::Keep)).await;
    let report = in_time("a scan", watchers.scan_now("in")).await;
    assert!(mounting("umount", &["-l"]));
    std::fs::remove_dir(&share).unwrap();
    report.unwrap();
    world.clock.advance(3600 * S);
    scan(&watchers).await;
    assert_eq!((world.intake.remembered(), world.arrived().len()), (2, 2));
}

#[tokio::test]
async fn a_watcher_that_gets_another_tenant_still_knows_its_sources() {
    for keeps in [true, false] {
        let world = World::new();
        let path = world.drop_file("a", "x");
        let old = std::time::SystemTime::UNIX_EPOCH;
        std::fs::File::options().write(true).open(&path).unwrap().set_modified(old).unwrap();
        let of = |tenant: &str| match keeps {
            true => world.eager().tenant(tenant).after_import(AfterImport::Keep),
            false => world.eager().tenant(tenant),
        };
        world.intake.let_sync_fail(true);
        let watchers = world.run(of("acme")).await;
        scan(&watchers).await;
        watchers.update(of("globex")).await.unwrap();
        let why = if keeps { SkipReason::Imported } else { SkipReason::AfterImport };
        assert_eq!(scan(&watchers).await.skipped, [(why, 1)].into());
        assert_eq!(watchers.explain(&path).await.unwrap().held_by, Some(why));
        world.intake.let_sync_fail(false);
        world.clock.advance(5 * S);
        scan(&watchers).await;
        assert_eq!((world.arrived().len(), world.files("inbox").len()), (1, usize::from(keeps)));
        assert_eq!(world.intake.remembered(), usize::from(keeps));

        // And what is another source is one of its present tenant.
        let path = world.drop_file("a", if keeps { "xx" } else { "x" });
        std::fs::File::options().write(true).open(&path).unwrap().set_modified(old).unwrap();
        scan(&watchers).await;
        let arrived: Vec<_> = world.intake.arrived().into_iter().map(|a| a.tenant.to_string()).collect();
        assert_eq!(arrived, ["acme", "globex"]);
        watchers.stop().await;
    }
}

#[tokio::test]
async fn what_was_of_tenants_folders_is_still_known_when_all_is_of_one_tenant() {
    let world = World::new();
    world.drop_file("acme/a", "x");
    world.drop_file("globex/b", "x");
    let watchers = world.run(world.multi().after_import(AfterImport::Keep)).await;
    scan(&watchers).await;
    watchers.update(world.eager().after_import(AfterImport::Keep)).await.unwrap();
    assert_eq!(scan(&watchers).await.skipped, [(SkipReason::Imported, 2)].into());
    assert_eq!(world.arrived(), ["a", "b"]);
}
