//! What becomes of a source.

use std::fs;

use locus_watcher::{AfterImport, SkipReason};

use crate::world::{S, World, put, scan};

#[tokio::test]
async fn a_source_is_moved_beneath_its_folders_and_a_taken_name_gets_a_number() {
    let world = World::new();
    let watchers = world.run(world.eager().after_import(AfterImport::Move(world.path("done")))).await;
    for text in ["one", "two", "three"] {
        world.drop_file("2026/report.pdf", text);
        assert_eq!(scan(&watchers).await.skipped.len(), 0);
    }
    assert_eq!(world.files("done"), ["2026/report-1.pdf", "2026/report-2.pdf", "2026/report.pdf"]);
    assert_eq!(fs::read(world.path("done/2026/report-2.pdf")).unwrap(), b"three");
    assert_eq!(world.arrived().len(), 3);
    assert_eq!(world.intake.remembered(), 0);
}

#[tokio::test]
async fn what_was_moved_into_a_directory_of_the_watched_folder_stays_there() {
    let world = World::new();
    world.drop_file("a", "x");
    let watchers = world.run(world.eager().after_import(AfterImport::Move(world.path("inbox/done")))).await;
    scan(&watchers).await;
    let report = scan(&watchers).await;
    assert_eq!((report.imported, report.skipped[&SkipReason::Own]), (0, 1));
    assert_eq!((world.files("inbox"), world.arrived().len()), (vec!["done/a".to_owned()], 1));
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_source_is_moved_to_another_file_system_as_a_copy_that_is_found_again() {
    use std::os::unix::fs::MetadataExt;

    let world = World::new();
    let Ok(elsewhere) = tempfile::tempdir_in("/dev/shm") else { return };
    if fs::metadata(elsewhere.path()).unwrap().dev() == fs::metadata(world.path("")).unwrap().dev() {
        return;
    }
    let config = || world.eager().after_import(AfterImport::Move(elsewhere.path().to_owned()));
    let path = world.drop_file("deep/a", "x");
    // A crash came after the copy and before the source went; and another file has the name.
    let modified = fs::metadata(&path).unwrap().modified().unwrap();
    fs::create_dir(elsewhere.path().join("deep")).unwrap();
    put(&elsewhere.path().join("deep/a"), "another");
    // One is as long and as old, and yet another.
    for (name, content) in [("a-1", "y"), ("a-2", "x")] {
        let path = elsewhere.path().join("deep").join(name);
        put(&path, content);
        fs::File::options().write(true).open(&path).unwrap().set_modified(modified).unwrap();
    }
    let watchers = world.run(config()).await;
    scan(&watchers).await;
    assert!(!path.exists());
    let names = || fs::read_dir(elsewhere.path().join("deep")).unwrap().count();
    assert_eq!(names(), 3, "the copy was found again");
    world.drop_file("deep/a", "third");
    scan(&watchers).await;
    assert_eq!(fs::read(elsewhere.path().join("deep/a-3")).unwrap(), b"third");
    assert_eq!(names(), 4, "no draft is left");
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_file_that_is_as_long_and_as_old_as_a_source_is_no_copy_of_it() {
    let world = World::new();
    let Ok(elsewhere) = tempfile::tempdir_in("/dev/shm") else { return };
    let path = world.drop_file("a", "x");
    put(&elsewhere.path().join("a"), "y");
    let other = fs::File::options().write(true).open(elsewhere.path().join("a")).unwrap();
    other.set_modified(fs::metadata(&path).unwrap().modified().unwrap()).unwrap();
    let target = AfterImport::Move(elsewhere.path().to_owned());
    let watchers = world.run(world.eager().after_import(target)).await;
    scan(&watchers).await;
    assert!(!path.exists());
    assert_eq!(fs::read(elsewhere.path().join("a-1")).unwrap(), b"x");
}

/// As it is where a file system cannot rename without replacing.
#[tokio::test]
async fn b83_a_move_by_a_second_name_that_was_killed_half_way_is_ended() {
    let world = World::new();
    let path = world.drop_file("a", "x");
    world.intake.let_sync_fail(true); // as if the process ended here
    let config = || world.eager().after_import(AfterImport::Move(world.path("done")));
    let watchers = world.run(config()).await;
    scan(&watchers).await;
    watchers.stop().await;
    world.intake.let_sync_fail(false);
    fs::create_dir(world.path("done")).unwrap();
    put(&world.path("done/a"), "another");
    fs::hard_link(&path, world.path("done/a-1")).unwrap();
    let watchers = world.run(config()).await;
    assert!(scan(&watchers).await.skipped.is_empty());
    assert_eq!((world.files("inbox").len(), world.arrived().len()), (0, 1));
    assert_eq!(world.files("done"), ["a", "a-1"]);
}

#[tokio::test]
async fn b84_what_has_the_name_of_an_imported_source_by_now_is_not_removed() {
    let world = World::new();
    let path = world.drop_file("a", "imported");
    world.intake.let_sync_fail(true);
    let watchers = world.run(world.eager()).await;
    assert_eq!(scan(&watchers).await.skipped[&SkipReason::AfterImport], 1);
    watchers.stop().await;
    world.intake.let_sync_fail(false);
    put(&path, "another one");
    let watchers = world.run(world.eager()).await;
    scan(&watchers).await;
    let contents: Vec<_> = world.intake.arrived().into_iter().map(|arrival| arrival.bytes).collect();
    assert_eq!(contents, [b"imported".to_vec(), b"another one".to_vec()]);
}

#[tokio::test]
async fn b84_a_source_that_is_replaced_between_its_import_and_its_removal_is_not_removed() {
    for after in [AfterImport::Delete, AfterImport::Move("done".into())] {
        let world = World::new();
        let path = world.drop_file("a", "imported");
        let after = match after {
            AfterImport::Move(to) => AfterImport::Move(world.path(to.to_str().unwrap())),
            other => other,
        };
        let replaced = path.clone();
        world.intake.at_sync(move || put(&replaced, "another one"));
        let watchers = world.run(world.eager().after_import(after).enabled(false)).await;
        watchers.enable("in").await.unwrap();
        scan(&watchers).await;
        scan(&watchers).await;
        let contents: Vec<_> = world.intake.arrived().into_iter().map(|arrival| arrival.bytes).collect();
        assert_eq!(contents, [b"imported".to_vec(), b"another one".to_vec()]);
        assert!(world.files("inbox").is_empty());
    }
}

#[tokio::test]
async fn b83_one_stubborn_source_holds_up_no_other() {
    let world = World::new();
    let stubborn = world.drop_file("stubborn/a", "x");
    fs::create_dir(world.path("done")).unwrap();
    put(&world.path("done/stubborn"), "a file where a folder should be");
    let watchers = world.run(world.eager().after_import(AfterImport::Move(world.path("done")))).await;
    assert_eq!(scan(&watchers).await.skipped[&SkipReason::AfterImport], 1);
    world.drop_file("b", "x");
    let report = scan(&watchers).await;
    assert_eq!((report.imported, report.failed, report.skipped[&SkipReason::AfterImport]), (1, 0, 1));
    assert_eq!(world.files("inbox"), ["stubborn/a"]);
    assert_eq!(watchers.explain(&stubborn).await.unwrap().held_by, Some(SkipReason::AfterImport));

    fs::remove_file(world.path("done/stubborn")).unwrap();
    world.clock.advance(5 * S);
    assert_eq!(scan(&watchers).await.finished, 1);
    assert_eq!(world.files("done"), ["b", "stubborn/a"]);
}

#[tokio::test]
async fn b83_while_nothing_can_be_made_durable_all_is_brought_in_and_nothing_given_up() {
    let world = World::new();
    world.intake.let_sync_fail(true);
    for number in 0..700 {
        world.drop_file(&format!("{number}"), "x");
    }
    let watchers = world.run(world.eager()).await;
    assert_eq!(scan(&watchers).await.skipped[&SkipReason::AfterImport], 700);
    assert_eq!((world.arrived().len(), world.files("inbox").len()), (700, 700));
    assert_eq!(watchers.get("in").unwrap().total.failed, 1, "the others were not tried");
    world.intake.let_sync_fail(false);
    world.clock.advance(5 * S);
    assert_eq!(scan(&watchers).await.finished, 700);
    assert_eq!((world.arrived().len(), world.files("inbox").len()), (700, 0));
}
