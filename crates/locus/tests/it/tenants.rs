//! Who may do what, and from when on.

use locus::prelude::*;

use crate::support::{open, write};

/// Every call that needs a tenant's leave, by name.
async fn calls(
    locus: &Locus,
    acme: &TenantContext,
    key: &FileKey,
) -> Vec<(&'static str, bool, Result<(), Error>)> {
    let (pool, scheduler) = (locus.pool(), locus.scheduler());
    let work = true;
    vec![
        ("write", work, pool.write(acme, "x", WriteOptions::new()).await.map(drop)),
        ("next", work, scheduler.next(acme).await.map(drop)),
        ("batch", work, scheduler.next_batch(acme, 2).await.map(drop)),
        ("lease_key", work, scheduler.lease_key(acme, key).await.map(drop)),
        ("read", !work, pool.read(acme, key).await.map(drop)),
        ("read_range", !work, pool.read_range(acme, key, 0..1).await.map(drop)),
        ("info", !work, pool.info(acme, key).await.map(drop)),
        ("location", !work, pool.location(acme, key).await.map(drop)),
        ("materialize", !work, pool.materialize(acme, key).await.map(drop)),
        ("status", !work, scheduler.status(acme, key).await.map(drop)),
        ("reset", !work, scheduler.reset(acme, key).await.map(drop)),
        ("delete", !work, pool.delete(acme, key).await.map(drop)),
    ]
}

fn is_refused(result: &Result<(), Error>) -> bool {
    matches!(result, Err(Error::TenantDisabled { .. }))
}

#[tokio::test]
async fn b14_a_disabled_tenant_is_refused_everything_with_a_context_from_before() {
    let temp = tempfile::tempdir().unwrap();
    let (locus, acme) = open(temp.path()).await;
    let key = write(&locus, &acme, "content").await;
    locus.tenants().disable("acme").await.unwrap();
    for (name, _, result) in calls(&locus, &acme, &key).await {
        assert!(is_refused(&result), "{name}: {result:?}");
    }
    assert_eq!(locus.scheduler().next_any().await.unwrap(), None);

    locus.tenants().enable("acme").await.unwrap();
    assert_eq!(locus.scheduler().next_any().await.unwrap().unwrap().key, key);
    locus.shutdown().await.unwrap();
}

#[tokio::test]
async fn b14_a_suspended_tenant_takes_and_hands_out_nothing_and_reads() {
    let temp = tempfile::tempdir().unwrap();
    let (locus, acme) = open(temp.path()).await;
    let key = write(&locus, &acme, "content").await;
    locus.tenants().suspend("acme").await.unwrap();
    assert!(!locus.tenants().is_enabled("acme").await.unwrap());
    for (name, work, result) in calls(&locus, &acme, &key).await {
        assert_eq!(is_refused(&result), work, "{name}: {result:?}");
    }
    assert_eq!(locus.scheduler().next_any().await.unwrap(), None);
    locus.shutdown().await.unwrap();
}

#[tokio::test]
async fn b14_the_holder_of_a_lease_may_end_its_work_whatever_the_status() {
    let temp = tempfile::tempdir().unwrap();
    let (locus, acme) = open(temp.path()).await;
    for text in ["one", "two", "three"] {
        write(&locus, &acme, text).await;
    }
    let files = locus.scheduler().next_batch(&acme, 3).await.unwrap();
    locus.tenants().disable("acme").await.unwrap();
    let content = locus.pool().read_leased(&files[0].lease).await.unwrap().bytes().await.unwrap();
    assert_eq!(content, "one");
    let renewed = locus.scheduler().renew(&files[0].lease).await.unwrap();
    locus.scheduler().complete(&renewed).await.unwrap();
    locus.scheduler().fail(&files[1].lease, "no").await.unwrap();
    locus.scheduler().release(&files[2].lease).await.unwrap();
    let counts = locus.counts()[acme.id()];
    assert_eq!((counts.pending, counts.processing), (2, 0));
    locus.shutdown().await.unwrap();
}

#[tokio::test]
async fn b82_tenants_are_created_once_and_keep_their_status_over_a_restart() {
    let temp = tempfile::tempdir().unwrap();
    let (locus, _) = open(temp.path()).await;
    let properties = Properties::from([("city".to_owned(), "Graz".to_owned())]);
    locus.tenants().create_with("beta", properties.clone()).await.unwrap();
    let error = locus.tenants().create("beta").await.unwrap_err();
    assert!(matches!(error, Error::TenantExists { .. }), "{error}");
    for bad in ["Beta", "con", "a..b", ""] {
        let error = locus.tenants().create(bad).await.unwrap_err();
        assert!(matches!(error, Error::InvalidId { .. }), "{bad}: {error}");
    }
    locus.tenants().suspend("beta").await.unwrap();
    locus.tenants().disable("acme").await.unwrap();
    locus.shutdown().await.unwrap();

    let (locus, _) = open(temp.path()).await; // the builder names acme, which stays as it was left
    let all = locus.tenants().list().await.unwrap();
    let seen: Vec<_> = all.iter().map(|tenant| (tenant.id.as_str(), tenant.status)).collect();
    assert_eq!(seen, [("acme", TenantStatus::Disabled), ("beta", TenantStatus::Suspended)]);
    assert_eq!(all[1].properties, properties);
    assert_eq!(locus.tenants().try_get("nobody").await.unwrap(), None);
    assert!(matches!(locus.tenants().get("nobody").await, Err(Error::TenantNotFound { .. })));
    locus.shutdown().await.unwrap();
}

#[tokio::test]
async fn b13_another_tenants_key_is_an_unknown_key() {
    let temp = tempfile::tempdir().unwrap();
    let (locus, acme) = open(temp.path()).await;
    let beta = locus.tenants().create("beta").await.unwrap();
    let key = write(&locus, &acme, "acme's").await;
    assert_eq!(locus.pool().info(&beta, &key).await.unwrap(), None);
    assert_eq!(locus.pool().location(&beta, &key).await.unwrap(), None);
    let refused = [
        locus.pool().read(&beta, &key).await.map(drop).unwrap_err(),
        locus.pool().read_range(&beta, &key, 0..1).await.map(drop).unwrap_err(),
        locus.pool().materialize(&beta, &key).await.map(drop).unwrap_err(),
        locus.pool().delete(&beta, &key).await.unwrap_err(),
        locus.scheduler().lease_key(&beta, &key).await.map(drop).unwrap_err(),
        locus.scheduler().reset(&beta, &key).await.unwrap_err(),
        locus.scheduler().status(&beta, &key).await.map(drop).unwrap_err(),
    ];
    for (at, error) in refused.iter().enumerate() {
        assert!(matches!(error, Error::FileNotFound { .. }), "call {at}: {error}");
    }
    locus.shutdown().await.unwrap();
}
