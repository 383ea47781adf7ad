//! Runs for one tenant alone.

use locus_cleanup::{Sweep, SweepOptions};
use locus_core::{BlobPath, Error, StoragePath, TenantId};
use rstest::rstest;

use crate::fakes::{blob, key, reapable, world};

fn beta() -> TenantId {
    TenantId::parse("beta").expect("because it is a name")
}

#[tokio::test]
async fn b79_completed_files_of_one_tenant_are_removed_and_no_others() {
    let (world, sweeper, _) = world();
    for number in 1..=6 {
        let tenant = if number % 3 == 0 { beta() } else { TenantId::parse("acme").unwrap() };
        world.state.lock().waiting.push_back(locus_core::Reapable { tenant, ..reapable(number) });
        world.state.lock().blobs.insert(key(number), blob(number));
    }
    let beta = beta();
    let options = SweepOptions { tenant: Some(&beta), ..SweepOptions::default() };
    let dry = SweepOptions { dry_run: true, ..options };
    assert_eq!(sweeper.run(Sweep::Completed, dry).await.unwrap().completed_removed, 2);
    assert_eq!(world.state.lock().blobs.len(), 6, "a dry run changes nothing");
    let done = sweeper.run(Sweep::Completed, options).await.unwrap();
    assert_eq!((done.completed_removed, done.space_freed), (2, 20));
    assert_eq!(world.state.lock().reaped, [key(3), key(6)]);
    assert_eq!(sweeper.run(Sweep::Completed, options).await.unwrap().completed_removed, 0);
    assert_eq!(sweeper.run(Sweep::Completed, SweepOptions::default()).await.unwrap().completed_removed, 4);
}

/// As many as wait of it are tried, and no more, whatever waits of others.
#[tokio::test]
async fn b75_a_run_for_one_tenant_ends_although_nothing_of_it_can_be_removed() {
    let (world, sweeper, _) = world();
    for number in 1..=4 {
        let tenant = if number == 4 { beta() } else { TenantId::parse("acme").unwrap() };
        world.state.lock().waiting.push_back(locus_core::Reapable { tenant, ..reapable(number) });
        world.state.lock().undeletable.insert(key(number));
    }
    let beta = beta();
    let done = sweeper.run(Sweep::Completed, SweepOptions { tenant: Some(&beta), ..SweepOptions::default() });
    let done = done.await.unwrap();
    assert_eq!((done.completed_removed, done.errors), (0, 1));
}

#[tokio::test]
async fn b79_what_is_staged_for_one_tenant_goes_and_nothing_that_bears_another_name_or_none() {
    let (world, sweeper, _) = world();
    let owner = StoragePath::parse("beta").unwrap();
    for number in 1..=5 {
        let owner = if number < 3 { owner.clone() } else { blob(number).owner };
        world.state.lock().staged.insert(key(number), BlobPath { owner, ..blob(number) });
    }
    world.state.lock().staging.insert(key(1));
    world.state.lock().idle_uploads = 300;
    let beta = beta();
    let options = SweepOptions { tenant: Some(&beta), ..SweepOptions::default() };
    let dry = sweeper.run(Sweep::Leftovers, SweepOptions { dry_run: true, ..options }).await.unwrap();
    assert_eq!((dry.staging_removed, dry.uploads_expired), (1, 300));
    let done = sweeper.run(Sweep::Leftovers, options).await.unwrap();
    assert_eq!((done.staging_removed, done.space_freed, done.uploads_expired), (1, 10, 300));
    assert_eq!(world.state.lock().staged.keys().copied().collect::<Vec<_>>(), [1, 3, 4, 5].map(key));
    assert!(!world.state.lock().events.contains(&"tidy"), "single writes stage under nobody's name");
}

#[rstest]
#[tokio::test]
async fn b80_the_store_is_nobodys_and_a_run_of_all_jobs_for_one_tenant_leaves_it_out(
    #[values(false, true)] dry_run: bool,
) {
    let (world, sweeper, _) = world();
    world.state.lock().overdue = 3;
    let beta = beta();
    let options = SweepOptions { tenant: Some(&beta), dry_run, ..SweepOptions::default() };
    let refused = sweeper.run(Sweep::Store, options).await.unwrap_err();
    assert!(matches!(refused, Error::InvalidArgument { name: "tenant", .. }), "{refused}");
    let done = sweeper.run_all(options).await.unwrap();
    assert_eq!((done.timed_out_reset, done.store_bytes_before), (3, 0));
    assert_eq!(world.state.lock().overdue, if dry_run { 3 } else { 0 });
}
