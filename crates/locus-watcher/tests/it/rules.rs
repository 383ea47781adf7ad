//! Which sources are taken, and when.

use locus_core::{Clock, Error, QuotaUnit, TenantId};
use locus_watcher::SkipReason;

use crate::world::{RESTED, S, World, id, put, scan};

#[tokio::test]
async fn b84_a_young_source_stays_until_it_was_left_alone() {
    let world = World::new();
    world.drop_file("a.txt", "hello");
    let watchers = world.run(world.watcher()).await;
    assert_eq!(scan(&watchers).await.skipped[&SkipReason::Young], 1);
    world.clock.advance(4 * S);
    assert_eq!(scan(&watchers).await.imported, 0);
    world.clock.advance(S);
    let report = scan(&watchers).await;
    assert_eq!((report.imported, report.bytes, report.discovered), (1, 5, 1));
    let arrived = world.intake.arrived();
    assert_eq!((arrived[0].name.as_str(), arrived[0].bytes.as_slice()), ("a.txt", b"hello".as_slice()));
    assert!(world.files("inbox").is_empty());
}

#[tokio::test]
async fn b84_a_source_that_grows_stays_whatever_its_time_says() {
    let world = World::new();
    let path = world.drop_file("a.txt", "1");
    let old = std::time::SystemTime::UNIX_EPOCH;
    let watchers = world.run(world.watcher()).await;
    for text in ["12", "123", "1234"] {
        put(&path, text);
        std::fs::File::options().write(true).open(&path).unwrap().set_modified(old).unwrap();
        world.clock.advance(RESTED);
        assert_eq!(scan(&watchers).await.skipped[&SkipReason::Settling], 1);
    }
    world.clock.advance(2 * S);
    assert_eq!(scan(&watchers).await.imported, 1);
    assert_eq!(world.intake.arrived()[0].bytes, b"1234");
}

#[tokio::test]
async fn b84_what_the_rules_refuse_stays_and_is_told_by_reason() {
    let world = World::new();
    world.drop_file("empty.txt", "");
    world.drop_file("large.txt", "0123456789");
    world.drop_file("excluded.tmp", "x");
    world.drop_file("other.pdf", "x");
    world.drop_file("good.txt", "x");
    let config = world.eager().size_max(9).include("*.txt").include("*.tmp").exclude("*.tmp");
    let watchers = world.run(config).await;
    let report = scan(&watchers).await;
    let expected = [SkipReason::Excluded, SkipReason::NotIncluded, SkipReason::Empty, SkipReason::TooLarge];
    assert_eq!(report.skipped, expected.into_iter().map(|why| (why, 1)).collect());
    assert_eq!(world.arrived(), ["good.txt"]);
    assert_eq!(world.files("inbox").len(), 4);
}

#[tokio::test]
async fn b84_a_source_that_changes_while_it_is_read_is_not_taken() {
    let world = World::new();
    let path = world.drop_file("a.txt", &"x".repeat(3 << 20));
    let changing = path.clone();
    world.intake.refuse_by(move |_| {
        put(&changing, "quite another");
        None
    });
    let watchers = world.run(world.eager()).await;
    let report = scan(&watchers).await;
    assert_eq!((report.imported, report.skipped[&SkipReason::Changed]), (0, 1));
    assert!(world.arrived().is_empty() && path.exists());
    world.intake.refuse_nothing();
    assert_eq!(scan(&watchers).await.imported, 1);
    assert_eq!(world.intake.arrived()[0].bytes, b"quite another");
}

#[tokio::test]
async fn b84_a_source_that_a_quota_refuses_stays_and_is_tried_again_less_and_less_often() {
    let world = World::new();
    for name in ["a", "b", "c"] {
        world.drop_file(name, name);
    }
    let tenant = TenantId::parse("acme").unwrap();
    let (asked, seen) = std::sync::mpsc::channel();
    world.intake.refuse_by(move |_| {
        asked.send(()).unwrap();
        let unit = QuotaUnit::Files;
        Some(Error::TenantQuotaExceeded { tenant: tenant.clone(), used: 1, limit: 1, unit })
    });
    let watchers = world.run(world.eager().concurrent_imports(1)).await;
    for wait in [5, 10, 20] {
        let report = scan(&watchers).await;
        assert_eq!((report.imported, report.failed, report.skipped[&SkipReason::Waiting]), (0, 0, 3));
        assert_eq!(seen.try_iter().count(), 1, "one was tried for all");
        world.clock.advance((wait - 1) * S);
        assert_eq!(scan(&watchers).await.skipped[&SkipReason::Waiting], 3);
        assert_eq!(seen.try_iter().count(), 0);
        world.clock.advance(S);
    }
    world.intake.refuse_nothing();
    assert_eq!(scan(&watchers).await.imported, 3);
    assert_eq!(world.arrived(), ["a", "b", "c"]);
}

#[tokio::test]
async fn the_folders_of_a_source_become_its_directory_when_asked_for() {
    let world = World::new();
    world.drop_file("2026/ in /a.txt", "x");
    let watchers = world.run(world.eager().directory_from_folder(true)).await;
    scan(&watchers).await;
    assert_eq!(world.intake.arrived()[0].directory, "/2026/ in");
}

#[tokio::test]
async fn what_holds_a_source_back_is_explained() {
    let world = World::new();
    let path = world.drop_file("deep/a.txt", "x");
    let watchers = world.run(world.watcher().exclude("*.tmp")).await;
    scan(&watchers).await;
    let explained = watchers.explain(&path).await.unwrap();
    assert_eq!((&explained.watcher, explained.held_by), (&id(), Some(SkipReason::Young)));
    let now = world.clock.wall();
    assert!((now..=now.saturating_add(5 * S)).contains(&explained.next_look.unwrap()), "{explained:?}");
    world.clock.advance(RESTED);
    let explained = watchers.explain(&path).await.unwrap();
    // The watcher's own task may be at it by now.
    let at_it = [None, Some(SkipReason::AfterImport), Some(SkipReason::Gone)];
    assert!(at_it.contains(&explained.held_by), "{explained:?}");

    let why = async |path: &str| watchers.explain(world.path(path)).await.unwrap().held_by;
    world.drop_file("b.tmp", "x");
    assert_eq!(why("inbox/b.tmp").await, Some(SkipReason::Excluded));
    assert_eq!(why("inbox/nothing").await, Some(SkipReason::Gone));
    assert!(watchers.explain(world.path("elsewhere")).await.is_err());
    watchers.disable("in").await.unwrap();
    assert_eq!(watchers.explain(&path).await.unwrap().next_look, None);
}

#[tokio::test]
async fn b84_what_fits_nowhere_stays_and_holds_up_nothing_that_fits() {
    let world = World::new();
    world.drop_file("a-long", "0123456789");
    world.drop_file("b-short", "0");
    let longest = world.drop_file("c-longest", "0123456789+");
    let (asked, seen) = std::sync::mpsc::channel();
    world.intake.refuse_by(move |file| {
        asked.send(file.original_name.clone()).unwrap();
        let is_short = file.original_name.ends_with("short");
        (!is_short).then_some(Error::InsufficientStorage { required: 10, available: 9 })
    });
    let watchers = world.run(world.eager().concurrent_imports(1)).await;
    scan(&watchers).await;
    assert_eq!(world.arrived(), ["b-short"]);
    assert_eq!(watchers.explain(&longest).await.unwrap().held_by, Some(SkipReason::Waiting));
    world.drop_file("d-short", "0");
    let asked_before = seen.try_iter().filter(|name| !name.ends_with("short")).count();
    assert_eq!(scan(&watchers).await.skipped[&SkipReason::Waiting], 2);
    assert_eq!(world.arrived(), ["b-short", "d-short"]);
    assert!((1..=2).contains(&asked_before) && seen.try_iter().all(|name| name.ends_with("short")));
}

#[tokio::test]
async fn b84_what_the_store_refuses_for_what_it_is_is_told_so_and_holds_up_no_other() {
    let world = World::new();
    let huge = world.drop_file("huge", "xx");
    let odd = world.drop_file("odd", "x");
    world.drop_file("good", "x");
    world.intake.refuse_by(|file| match file.original_name.as_str() {
        "huge" => Some(Error::TooLarge { what: "a content", size: 2, limit: 1 }),
        "odd" => Some(Error::InvalidArgument { name: "original_name", why: "is odd" }),
        _ => None,
    });
    let watchers = world.run(world.eager().concurrent_imports(1)).await;
    for _ in 0..2 {
        assert_eq!(scan(&watchers).await.skipped[&SkipReason::Refused], 2);
    }
    assert_eq!(world.arrived(), ["good"]);
    for path in [&huge, &odd] {
        assert_eq!(watchers.explain(path).await.unwrap().held_by, Some(SkipReason::Refused));
    }
    // Another file of that name is asked for anew.
    world.intake.refuse_nothing();
    put(&huge, "x");
    assert_eq!(scan(&watchers).await.imported, 1);
}

#[tokio::test]
async fn b84_a_store_that_can_remember_no_more_sources_is_asked_once_for_all_of_them() {
    let world = World::new();
    for name in ["a", "b", "c"] {
        world.drop_file(name, name);
    }
    let (asked, seen) = std::sync::mpsc::channel();
    world.intake.refuse_by(move |_| {
        asked.send(()).unwrap();
        Some(Error::TooLarge { what: Error::IDEMPOTENCY_KEYS, size: 2, limit: 1 })
    });
    let watchers = world.run(world.eager().concurrent_imports(1)).await;
    let report = scan(&watchers).await;
    assert_eq!((report.failed, report.skipped), (0, [(SkipReason::Waiting, 3)].into()));
    assert_eq!(seen.try_iter().count(), 1, "one was tried for all");
    world.intake.refuse_nothing();
    world.clock.advance(5 * S);
    assert_eq!(scan(&watchers).await.imported, 3);
}

#[tokio::test]
async fn what_the_store_refused_is_not_looked_at_again_before_its_pause_is_over() {
    let world = World::new();
    let path = world.drop_file("a", "x");
    world.intake.refuse_by(|_| Some(Error::InvalidArgument { name: "original_name", why: "is odd" }));
    let watchers = world.run(world.eager().polling_interval(S)).await;
    scan(&watchers).await;
    let explained = watchers.explain(&path).await.unwrap();
    assert_eq!(explained.held_by, Some(SkipReason::Refused));
    assert_eq!(explained.next_look, Some(world.clock.wall().saturating_add(5 * S)));
}

#[tokio::test]
async fn what_could_not_be_removed_is_not_looked_at_again_before_its_pause_is_over() {
    let world = World::new();
    let path = world.drop_file("a", "x");
    world.intake.let_sync_fail(true);
    let watchers = world.run(world.eager().polling_interval(S)).await;
    scan(&watchers).await;
    let explained = watchers.explain(&path).await.unwrap();
    assert_eq!(explained.held_by, Some(SkipReason::AfterImport));
    assert_eq!(explained.next_look, Some(world.clock.wall().saturating_add(5 * S)));
}
