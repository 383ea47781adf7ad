//! What becomes of a source.

use std::fs;

use locus_watcher::{AfterImport, SkipReason};

use crate::world::{World, put, scan};

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
    put(&elsewhere.path().join("deep/a-1"), "x");
    let copy = fs::File::options().write(true).open(elsewhere.path().join("deep/a-1")).unwrap();
    copy.set_modified(modified).unwrap();
    let watchers = world.run(config()).await;
    scan(&watchers).await;
    assert!(!path.exists());
    let names = || fs::read_dir(elsewhere.path().join("deep")).unwrap().count();
    assert_eq!(names(), 2, "the copy was found again");
    world.drop_file("deep/a", "third");
    scan(&watchers).await;
    assert_eq!(fs::read(elsewhere.path().join("deep/a-2")).unwrap(), b"third");
    assert_eq!(names(), 3, "no draft is left");
}

#[tokio::test]
async fn b84_what_has_the_name_of_an_imported_source_by_now_is_not_removed() {
    let world = World::new();
    let path = world.drop_file("a", "imported");
    world.intake.let_sync_fail(true);
    let watchers = world.run(world.eager()).await;
    watchers.scan_now("in").await.unwrap_err();
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
