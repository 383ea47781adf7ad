//! Watched folders: tenants' folders, folders that vanish, slow ones, and how changes in them are noticed.

use std::{fs, time::Duration};

use locus_core::{Clock, Error, TenantStatus};
use locus_watcher::SkipReason;

use crate::world::{RESTED, S, World, in_the_end, in_time, scan, until};

#[tokio::test]
async fn the_first_folder_names_the_tenant() {
    let world = World::new();
    world.drop_file("acme/2026/a", "x");
    world.drop_file("globex/b", "x");
    world.drop_file("stray", "x");
    let watchers = world.run(world.multi().directory_from_folder(true)).await;
    let report = scan(&watchers).await;
    assert_eq!(report.skipped[&SkipReason::NoTenant], 1);
    let mut arrived: Vec<_> =
        world.intake.arrived().into_iter().map(|a| (a.tenant.to_string(), a.directory, a.name)).collect();
    arrived.sort();
    let expected = [("acme", "/2026", "a"), ("globex", "/", "b")];
    assert_eq!(arrived, expected.map(|(t, d, n)| (t.to_owned(), d.to_owned(), n.to_owned())));
}

#[tokio::test]
async fn b85_a_folder_of_no_enabled_tenant_is_passed_over_until_it_is_one() {
    let world = World::new();
    world.drop_file("nobody/a", "x");
    world.drop_file("No Tenant/a", "x");
    world.drop_file("acme/a", "x");
    world.intake.set_tenant("acme", Some(TenantStatus::Suspended));
    let watchers = world.run(world.multi()).await;
    let report = scan(&watchers).await;
    assert_eq!(
        (report.skipped[&SkipReason::UnknownTenant], report.skipped[&SkipReason::TenantDisabled]),
        (2, 1)
    );
    assert!(world.arrived().is_empty());
    world.intake.set_tenant("acme", Some(TenantStatus::Enabled));
    world.intake.set_tenant("nobody", Some(TenantStatus::Enabled));
    let report = scan(&watchers).await;
    assert_eq!((report.imported, report.skipped[&SkipReason::UnknownTenant]), (2, 1));
}

#[tokio::test]
async fn b85_while_its_tenant_takes_no_files_a_watcher_rests_and_goes_on_by_itself() {
    let world = World::new();
    let path = world.drop_file("a", "x");
    world.intake.set_tenant("acme", Some(TenantStatus::Suspended));
    let watchers = world.run(world.eager()).await;
    let before = world.disk.ops();
    for _ in 0..3 {
        let report = scan(&watchers).await;
        assert_eq!((report.discovered, report.skipped[&SkipReason::TenantDisabled]), (0, 1));
    }
    assert_eq!(world.disk.ops(), before, "nothing was noted");
    assert_eq!(watchers.explain(&path).await.unwrap().held_by, Some(SkipReason::TenantDisabled));
    world.intake.set_tenant("acme", Some(TenantStatus::Enabled));
    in_the_end(&world, || world.arrived() == ["a"]).await;
}

#[tokio::test]
async fn b85_a_tenant_that_takes_no_more_during_a_scan_is_not_asked_again_and_again() {
    let world = World::new();
    world.drop_file("a", "x");
    let tenant = locus_core::TenantId::parse("acme").unwrap();
    let (asked, seen) = std::sync::mpsc::channel();
    world.intake.refuse_by(move |_| {
        asked.send(()).unwrap();
        Some(Error::TenantLost { tenant: tenant.clone() })
    });
    let watchers = world.run(world.eager()).await;
    assert_eq!(scan(&watchers).await.skipped[&SkipReason::TenantDisabled], 1);
    in_the_end(&world, || world.clock.monotonic() >= 30 * S).await;
    // At the start, when it was asked to, and when it began to listen.
    assert!(seen.try_iter().count() <= 3);
}

#[tokio::test]
async fn a_folder_is_made_for_every_enabled_tenant_also_for_later_ones() {
    let world = World::new();
    world.intake.set_tenant("globex", Some(TenantStatus::Disabled));
    let watchers = world.run(world.multi().auto_create_tenant_directories(true)).await;
    scan(&watchers).await;
    assert!(world.path("inbox/acme").is_dir() && !world.path("inbox/globex").exists());
    world.intake.set_tenant("globex", Some(TenantStatus::Enabled));
    world.intake.set_tenant("later", Some(TenantStatus::Enabled));
    // By itself, as soon as the watcher may look again.
    in_the_end(&world, || world.path("inbox/globex").is_dir() && world.path("inbox/later").is_dir()).await;
    drop(watchers);
}

#[tokio::test]
async fn a_folder_that_vanishes_is_told_and_comes_back_by_itself() {
    let world = World::new();
    let watchers = world.run(world.eager().polling_interval(30 * S)).await;
    scan(&watchers).await;
    fs::remove_dir(world.path("inbox")).unwrap();
    let gone = watchers.scan_now("in").await.unwrap_err();
    assert!(matches!(gone, Error::FolderUnavailable { .. }), "{gone}");
    assert!(watchers.get("in").unwrap().trouble.unwrap().contains("inbox"));
    fs::create_dir(world.path("inbox")).unwrap();
    world.drop_file("a", "x");
    in_the_end(&world, || world.arrived() == ["a"]).await;
    until("the trouble to be over", || watchers.get("in").unwrap().trouble.is_none()).await;
}

#[tokio::test]
async fn b85_polling_finds_what_no_event_told() {
    let world = World::new();
    fs::create_dir(world.path("inbox/deep")).unwrap();
    let watchers = world.run(world.watcher().polling_interval(30 * S)).await;
    scan(&watchers).await;
    world.drop_file("deep/a", "x");
    let begun = world.clock.monotonic();
    in_the_end(&world, || world.arrived() == ["a"]).await;
    assert!(world.clock.monotonic() - begun >= RESTED - S, "it was young");
}

#[cfg(all(target_os = "linux", feature = "notify"))]
#[tokio::test]
async fn an_event_brings_a_scan_forward() {
    let world = World::new();
    // The clock never comes to the next poll.
    let watchers = world.run(world.eager().polling_interval(Duration::MAX)).await;
    scan(&watchers).await;
    let arrives = async |name: &str| {
        world.drop_file(name, "x");
        in_the_end(&world, || world.arrived().contains(&name.to_owned())).await;
    };
    arrives("first").await; // what came before it listened is found, too
    in_the_end(&world, || world.files("inbox").is_empty()).await;
    arrives("second").await;
    drop(watchers);
}

#[tokio::test]
async fn b85_a_slow_folder_delays_no_other_and_not_the_end() {
    let world = World::new();
    world.drop_file("stuck", "x");
    fs::create_dir(world.path("other")).unwrap();
    crate::world::put(&world.path("other/quick"), "x");
    world.intake.stall(Some("stuck"));
    let quick = world.eager_in("other").id("quick");
    let watchers = world.open(vec![world.eager(), quick]).await.unwrap();
    let stuck = watchers.clone();
    let stuck = tokio::spawn(async move { stuck.scan_now("in").await });
    in_time("the other", watchers.scan_now("quick")).await.unwrap();
    assert_eq!(world.arrived(), ["quick"]);
    in_time("the end", watchers.stop()).await;
    assert!(matches!(stuck.await.unwrap(), Err(Error::ShuttingDown)));
    assert_eq!(world.files("inbox"), ["stuck"]);
}

#[tokio::test]
async fn stopping_waits_for_no_scan_that_was_asked_for() {
    let world = World::new();
    let watchers = world.run(world.eager()).await;
    scan(&watchers).await;
    watchers.stop().await;
    assert!(matches!(watchers.scan_now("in").await, Err(Error::ShuttingDown)));
    assert!(matches!(watchers.enable("in").await, Err(Error::ShuttingDown)));
}

/// Memory of this process: now, and at most so far, in KiB.
#[cfg(target_os = "linux")]
fn memory() -> [u64; 2] {
    let status = fs::read_to_string("/proc/self/status").expect("a Linux");
    ["VmRSS:", "VmHWM:"].map(|name| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).expect("its memory");
        line.trim().trim_end_matches(" kB").trim().parse().expect("a number")
    })
}

/// `LOCUS_MANY_FILES` says how many, a million unless it does.
#[cfg(target_os = "linux")]
#[tokio::test]
#[ignore = "takes a minute, and a process of its own, for it measures memory"]
async fn b85_memory_is_flat_however_many_files_a_folder_has() {
    let world = World::new();
    let many = std::env::var("LOCUS_MANY_FILES").map_or(1_000_000, |text| text.parse().unwrap());
    for number in 0..many {
        fs::File::create(world.path(&format!("inbox/{number}"))).unwrap().set_len(1).unwrap();
    }
    let watchers = world.run(world.watcher()).await; // all of them are young
    let before = memory()[0];
    for _ in 0..3 {
        let report = watchers.scan_now("in").await.unwrap();
        assert_eq!(report.discovered, many);
    }
    let grown = memory()[1].saturating_sub(before);
    println!("{many} files in one folder: {grown} KiB more at most");
    assert!(grown < 16 << 10, "{grown} KiB");
}

#[cfg(all(target_os = "linux", feature = "notify"))]
#[tokio::test]
async fn events_are_heard_of_the_folder_that_came_to_the_place_of_another() {
    let world = World::new();
    // The clock never comes to the next poll.
    let watchers = world.run(world.eager().polling_interval(Duration::MAX)).await;
    scan(&watchers).await;
    world.drop_file("first", "x");
    in_the_end(&world, || world.arrived() == ["first"] && world.files("inbox").is_empty()).await;
    #[expect(clippy::disallowed_methods, reason = "the folder is not the store's")]
    fs::rename(world.path("inbox"), world.path("old")).unwrap();
    fs::create_dir(world.path("inbox")).unwrap();
    scan(&watchers).await;
    for name in ["second", "third"] {
        world.drop_file(name, "x");
        in_the_end(&world, || world.arrived().contains(&name.to_owned()) && world.files("inbox").is_empty())
            .await;
    }
    drop(watchers);
}

#[tokio::test]
async fn a_folder_of_a_tenant_that_somebody_removed_is_made_again() {
    let world = World::new();
    let watchers = world.run(world.multi().auto_create_tenant_directories(true)).await;
    scan(&watchers).await;
    fs::remove_dir(world.path("inbox/acme")).unwrap();
    scan(&watchers).await;
    assert!(world.path("inbox/acme").is_dir());
}
