//! Where imported sources may be moved to, and where not.

#![cfg(unix)]

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

use locus_core::Error;
use locus_watcher::{AfterImport, SkipReason};
use rstest::rstest;

use crate::world::{World, at_once, in_time, put, scan, until};

fn setting_of<T>(refused: Result<T, Error>) -> String {
    match refused {
        Err(Error::InvalidSetting { name, .. }) => name.into_owned(),
        Err(error) => panic!("{error}"),
        Ok(_) => panic!("it was not refused"),
    }
}

#[rstest]
#[case::the_folder_by_a_link("link")]
#[case::the_folder_by_a_way_up("inbox/../inbox")]
#[case::the_folder_by_way_of_what_is_not_there("nowhere/../inbox")]
#[case::what_holds_the_folder("")]
#[case::in_the_folder_by_a_link("link/done")]
#[case::in_the_store("store/volume")]
#[case::around_the_store("around")]
#[case::in_what_is_marked("unmounted/acme")]
#[tokio::test]
async fn b86_a_target_is_refused_by_what_it_is_whatever_path_leads_to_it(#[case] target: &str) {
    let world = World::new();
    symlink(world.path("inbox"), world.path("link")).unwrap();
    fs::create_dir_all(world.path("around/data")).unwrap();
    fs::create_dir(world.path("unmounted")).unwrap();
    put(&world.path("unmounted/.locus-volume"), "locus volume");
    world.intake.set_own_places(vec![world.path("store"), world.path("around/data")]);
    let moving = || world.eager().after_import(AfterImport::Move(world.path("").join(target)));
    assert_eq!(setting_of(world.open(vec![moving()]).await), "watchers[in].after_import");
    let watchers = world.run(world.eager()).await;
    assert_eq!(setting_of(watchers.update(moving()).await), "watchers[in].after_import");
    world.drop_file("a", "x");
    scan(&watchers).await;
    assert_eq!(world.arrived(), ["a"]);
}

#[tokio::test]
async fn b86_two_watchers_do_not_move_into_each_others_folders() {
    let world = World::new();
    fs::create_dir_all(world.path("two/deep")).unwrap();
    let to = |path: &str| AfterImport::Move(world.path(path));
    let two = || world.eager_in("two").id("two");
    let refused = vec![
        (world.eager().after_import(to("two")), two()),
        (world.eager().after_import(to("two/done")), two()),
        (world.eager(), two().after_import(to("inbox/done"))),
        (world.eager().after_import(to("done")), at_once(world.eager_in("done/deep")).id("two")),
    ];
    for (one, other) in refused {
        setting_of(world.open(vec![one.clone(), other.clone()]).await);
        let watchers = world.open(vec![one]).await.unwrap();
        setting_of(watchers.register(other).await);
        watchers.stop().await;
    }
    let flat = two().subdirectories(false);
    let good = vec![world.eager().after_import(to("two/done")), flat];
    world.open(good).await.unwrap().stop().await;
}

#[tokio::test]
async fn b86_a_link_that_leads_elsewhere_by_now_stops_the_watcher_before_anything_is_moved() {
    for elsewhere in ["inbox", "two", "store"] {
        let world = World::new();
        for folder in ["done", "two", "store"] {
            fs::create_dir(world.path(folder)).unwrap();
        }
        world.intake.set_own_places(vec![world.path("store")]);
        symlink(world.path("done"), world.path("link")).unwrap();
        let moving = world.eager().after_import(AfterImport::Move(world.path("link")));
        let watchers = world.open(vec![moving, world.eager_in("two").id("two")]).await.unwrap();
        world.drop_file("a", "x");
        scan(&watchers).await;
        fs::remove_file(world.path("link")).unwrap();
        symlink(world.path(elsewhere), world.path("link")).unwrap();
        world.drop_file("b", "x");
        let name = setting_of(in_time("a scan", watchers.scan_now("in")).await);
        assert_eq!(name, "watchers[in].after_import", "{elsewhere}");
        assert_eq!((world.arrived(), world.files("inbox")), (vec!["a".to_owned()], vec!["b".to_owned()]));
        assert_eq!(world.files(elsewhere).len(), usize::from(elsewhere == "inbox"));
    }
}

fn swap(at: &Path, to: &PathBuf) {
    fs::remove_dir_all(at).expect("it is there");
    symlink(to, at).expect("it is not there");
}

#[rstest]
#[case::in_the_folder("inbox/done", "inbox/done")]
#[case::deeper_in_the_folder("inbox/a/done", "inbox/a")]
#[case::elsewhere("drop/done", "drop/done")]
#[tokio::test]
async fn b84_whoever_swaps_the_target_for_a_link_leads_no_move_elsewhere(
    #[case] target: &str,
    #[case] swapped: &str,
) {
    let world = World::new();
    fs::create_dir_all(world.path("secret/done")).unwrap();
    let watchers = world.run(world.eager().after_import(AfterImport::Move(world.path(target)))).await;
    world.drop_file("good", "x");
    scan(&watchers).await;
    assert_eq!(world.files(target), ["good"]);
    swap(&world.path(swapped), &world.path("secret"));
    world.drop_file("evil", "x");
    assert_eq!(scan(&watchers).await.skipped[&SkipReason::AfterImport], 1);
    assert_eq!((world.files("secret").len(), world.arrived().len()), (0, 2));
    assert!(world.files("inbox").contains(&"evil".to_owned()), "it is moved when that is mended");
}

#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn b83_a_watcher_that_is_switched_off_and_on_while_a_long_source_is_moved_gives_it_up_once_it_is_moved()
{
    use std::os::unix::fs::MetadataExt;

    const LEN: u64 = 192 << 20;
    let world = World::new();
    let Ok(elsewhere) = tempfile::tempdir_in("/dev/shm") else { return };
    if fs::metadata(elsewhere.path()).unwrap().dev() == fs::metadata(world.path("")).unwrap().dev() {
        return;
    }
    let source = world.path("inbox/big");
    fs::File::create(&source).unwrap().set_len(LEN).unwrap();
    let moving = world.eager().size_max(1 << 40).after_import(AfterImport::Move(elsewhere.path().to_owned()));
    let watchers = world.run(moving).await;
    let entries = || -> Vec<(String, u64)> {
        let entries = fs::read_dir(elsewhere.path()).unwrap().flatten();
        let told = |entry: fs::DirEntry| {
            Some((entry.file_name().to_string_lossy().into_owned(), entry.metadata().ok()?.len()))
        };
        entries.filter_map(told).collect()
    };
    let begun = || entries().iter().any(|(name, len)| name.starts_with(".locus-moving-") && *len > 0);
    until("a draft", begun).await;
    for _ in 0..3 {
        watchers.disable("in").await.unwrap();
        watchers.enable("in").await.unwrap();
    }
    let moved = || {
        let is_there = source.exists();
        let whole = entries().iter().any(|(name, len)| name == "big" && *len == LEN);
        assert!(is_there || whole, "{:?}", entries());
        !is_there
    };
    until("the move", moved).await;
    scan(&watchers).await;
    assert_eq!(entries(), [("big".to_owned(), LEN)], "one copy, and no draft");
    assert_eq!(world.arrived().len(), 1);
}

/// As shares do that were not mounted at the start.
#[rstest]
#[case::of_the_later_one("two", "in")]
#[case::of_the_earlier_one("in", "two")]
#[tokio::test]
async fn b83_of_two_watchers_that_come_to_lead_to_one_folder_the_later_one_waits(
    #[case] moves: &str,
    #[case] stays: &str,
) {
    let world = World::new();
    for folder in ["one", "other", "shared"] {
        fs::create_dir(world.path(folder)).unwrap();
    }
    symlink(world.path("one"), world.path("moves")).unwrap();
    let keep = |folder: &str, id: &str| world.eager_in(folder).id(id).after_import(AfterImport::Keep);
    let watchers = world.open(vec![keep("moves", moves), keep("shared", stays)]).await.unwrap();
    for id in ["in", "two"] {
        in_time("a scan", watchers.scan_now(id)).await.unwrap();
    }
    let lead = |to: &str| {
        fs::remove_file(world.path("moves")).unwrap();
        symlink(world.path(to), world.path("moves")).unwrap();
    };
    lead("shared");
    put(&world.path("shared/a"), "x");
    for _ in 0..2 {
        in_time("a scan", watchers.scan_now("in")).await.unwrap();
        let refused = in_time("a scan", watchers.scan_now("two")).await;
        assert_eq!(setting_of(refused), "watchers[two].path");
        assert!(watchers.get("two").unwrap().trouble.unwrap().contains("watched by in already"));
    }
    assert_eq!(world.arrived(), ["a"]);
    lead("other");
    put(&world.path("other/b"), "x");
    for id in ["two", "in"] {
        in_time("a scan", watchers.scan_now(id)).await.unwrap();
    }
    assert!(world.arrived().contains(&"b".to_owned()));
}
