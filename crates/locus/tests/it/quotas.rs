//! Limits, as the builder and the handle set them.

use locus::prelude::*;
use rstest::rstest;

use crate::support::{builder, open, write};

#[rstest]
#[case::tenant(|b: Builder| b.tenant_quota(5))]
#[case::directory(|b: Builder| b.directory_quota("acme/full", 5))]
#[case::global(|b: Builder| b.global_quota(5))]
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn b49_of_more_writes_than_the_limit_exactly_as_many_succeed(#[case] limited: fn(Builder) -> Builder) {
    let temp = tempfile::tempdir().unwrap();
    let locus = limited(builder(temp.path())).build().await.unwrap();
    let acme = locus.tenants().get("acme").await.unwrap();
    let writes: Vec<_> = (0..20)
        .map(|n: u32| {
            let (locus, acme) = (locus.clone(), acme.clone());
            let options = WriteOptions::new().directory("/full");
            tokio::spawn(async move { locus.pool().write(&acme, n.to_string(), options).await })
        })
        .collect();
    let mut keys = Vec::new();
    for write in writes {
        match write.await.unwrap() {
            Ok(key) => keys.push(key),
            Err(
                Error::TenantQuotaExceeded { used, limit, .. }
                | Error::DirectoryQuotaExceeded { used, limit, .. }
                | Error::GlobalQuotaExceeded { used, limit, .. },
            ) => assert_eq!((used, limit), (5, 5)),
            Err(other) => panic!("{other}"),
        }
    }
    assert_eq!(keys.len(), 5);
    assert_eq!(locus.quotas().count(&Scope::Tenant(acme.id().clone())), 5);
    assert!(!locus.quotas().can_add(&acme, &LogicalDir::parse("full").unwrap()));

    locus.pool().delete(&acme, &keys[0]).await.unwrap();
    locus.cleanup().settled().await.unwrap();
    locus.pool().write(&acme, "room again", WriteOptions::new().directory("full")).await.unwrap();
    locus.shutdown().await.unwrap();
}

#[tokio::test]
async fn b52_a_limit_set_at_run_time_wins_until_it_is_reset_also_over_a_restart() {
    let temp = tempfile::tempdir().unwrap();
    let limited = || builder(temp.path()).tenant_quota(2);
    let locus = limited().build().await.unwrap();
    let acme = locus.tenants().get("acme").await.unwrap();
    let scope = Scope::Tenant(acme.id().clone());
    assert_eq!(locus.quotas().limit(&scope), Some(2));
    locus.quotas().set_limit(scope.clone(), Limit::Unlimited).await.unwrap();
    assert_eq!(locus.quotas().limit(&scope), None);
    for n in 0..3 {
        write(&locus, &acme, &n.to_string()).await;
    }
    locus.shutdown().await.unwrap();

    let locus = limited().build().await.unwrap();
    assert_eq!(locus.quotas().limit(&scope), None);
    locus.quotas().set_limit(scope.clone(), Limit::Inherit).await.unwrap();
    assert_eq!(locus.quotas().limit(&scope), Some(2));
    let error = locus.pool().write(&acme, "more", WriteOptions::new()).await.unwrap_err();
    assert!(matches!(error, Error::TenantQuotaExceeded { used: 3, limit: 2, .. }), "{error}");
    locus.shutdown().await.unwrap();
}

#[tokio::test]
async fn usage_comes_in_pages_by_tenant() {
    let temp = tempfile::tempdir().unwrap();
    let locus = builder(temp.path()).add_tenant("beta").add_tenant("gamma").build().await.unwrap();
    let beta = locus.tenants().get("beta").await.unwrap();
    write(&locus, &beta, "one").await;
    let first = locus.quotas().usage_page(None, 2).await.unwrap();
    assert_eq!(first.iter().map(|usage| usage.files).collect::<Vec<_>>(), [0, 1]);
    let rest = locus.quotas().usage_page(Some(beta.id()), 2).await.unwrap();
    assert_eq!(rest.len(), 1);
    assert_eq!(rest[0].scope, Scope::Tenant(TenantId::parse("gamma").unwrap()));
    locus.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_limit_for_an_unknown_tenant_is_refused() {
    let temp = tempfile::tempdir().unwrap();
    let (locus, _) = open(temp.path()).await;
    let nobody = Scope::Tenant(TenantId::parse("nobody").unwrap());
    let error = locus.quotas().set_limit(nobody, Limit::Files(1)).await.unwrap_err();
    assert!(matches!(error, Error::TenantNotFound { .. }), "{error}");
    locus.shutdown().await.unwrap();
}

#[tokio::test]
async fn b54_quotas_by_glob_subtree_and_bytes_hold_from_the_builder_on() {
    let temp = tempfile::tempdir().unwrap();
    let quota = |pattern: &str, max_files, max_bytes| DirectoryQuota {
        pattern: pattern.into(),
        max_files,
        max_bytes,
        enabled: true,
    };
    let locus = Locus::builder()
        .data_dir(temp.path())
        .add_tenant("acme")
        .tenant_quota_bytes(100)
        .directory_quota("*/invoices/*", 1)
        .limit_directories(quota("acme/tiny", u64::MAX, Some(5)))
        .limit_subtrees(quota("*/invoices", 2, None))
        .build()
        .await
        .unwrap();
    let acme = locus.tenants().get("acme").await.unwrap();
    let write = async |directory: &str, bytes: usize| {
        let options = WriteOptions::new().directory(directory);
        locus.pool().write(&acme, vec![7; bytes], options).await.map_err(|why| why.to_string())
    };
    write("/invoices/2026", 10).await.unwrap();
    let full = "directory /invoices/2026 of tenant acme is full: 1 of 1 files";
    assert_eq!(write("/invoices/2026", 10).await.unwrap_err(), full);
    write("/invoices/2027", 10).await.unwrap();
    let full = "directory /invoices of tenant acme is full: 2 of 2 files";
    assert_eq!(write("/invoices/2028", 10).await.unwrap_err(), full);
    assert_eq!(write("/tiny", 6).await.unwrap_err(), "directory /tiny of tenant acme is full: 0 of 5 bytes");
    // A stream tells its length when it ends.
    let stream = Content::reader(std::io::Cursor::new(vec![7_u8; 81]));
    let full = locus.pool().write(&acme, stream, WriteOptions::new()).await.unwrap_err();
    assert_eq!(full.to_string(), "tenant acme is full: 20 of 100 bytes");
    let tiny = LogicalDir::parse("/tiny").unwrap();
    assert!(locus.quotas().can_add(&acme, &tiny));
    assert!(locus.quotas().check(&acme, &tiny, 5).is_ok() && locus.quotas().check(&acme, &tiny, 6).is_err());
    locus
        .quotas()
        .set_limit(Scope::Directory(acme.id().clone(), tiny.clone()), Limit::Bytes(6))
        .await
        .unwrap();
    write("/tiny", 6).await.unwrap();
    let page = locus.quotas().directory_usage(&acme, None, 100);
    let used = page.usages.iter().find(|usage| usage.scope.to_string() == "acme/tiny").unwrap();
    assert_eq!((used.files, used.bytes, used.bytes_limit, page.next), (1, 6, Some(6), None));
    locus.shutdown().await.unwrap();
}
