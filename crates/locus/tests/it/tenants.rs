//! Who may do what, and from when on.

use locus::{Timestamp, prelude::*};

use crate::support::{open, write};

/// What the answer to a call would be if the key were unknown.
#[derive(Clone, Copy, PartialEq)]
enum Unknown {
    /// There is no key in it.
    NoKey,
    NotFound,
    None,
}

struct Call {
    name: &'static str,
    /// It wants an enabled tenant; the others want one that is not disabled.
    work: bool,
    unknown: Unknown,
    /// What it said; `None` stands for the answer that there is nothing.
    result: Result<Option<()>, Error>,
}

/// Every call that needs a tenant's leave, in an order in which each succeeds for a file of the tenant's own.
async fn calls(locus: &Locus, acme: &TenantContext, key: &FileKey) -> Vec<Call> {
    use Unknown::{NoKey, None as Nothing, NotFound};
    let (pool, scheduler) = (locus.pool(), locus.scheduler());
    let call = |name, work, unknown, result| Call { name, work, unknown, result };
    let some = |_| Some(());
    let soon = std::time::Duration::from_millis(1);
    let waited = match scheduler.next_timeout(acme, soon).await {
        Err(Error::NoFilesAvailable { .. }) => Ok(None),
        other => other.map(|_| Some(())),
    };
    let streamed = {
        let mut stream = scheduler.stream(acme);
        match tokio::time::timeout(soon, stream.next()).await {
            Err(_) => Ok(None),
            Ok(file) => file.transpose().map(|file| file.map(drop)),
        }
    };
    let batch = vec![("x".into(), WriteOptions::new())];
    vec![
        call("read", false, NotFound, pool.read(acme, key).await.map(|_| Some(()))),
        call("read_range", false, NotFound, pool.read_range(acme, key, 0..1).await.map(|_| Some(()))),
        call("info", false, Nothing, pool.info(acme, key).await.map(|info| info.map(drop))),
        call("location", false, Nothing, pool.location(acme, key).await.map(|at| at.map(drop))),
        call("materialize", false, NotFound, pool.materialize(acme, key).await.map(|_| Some(()))),
        call("status", false, NotFound, scheduler.status(acme, key).await.map(|_| Some(()))),
        call("reset", false, NotFound, scheduler.reset(acme, key).await.map(some)),
        call("lease_key", true, NotFound, scheduler.lease_key(acme, key).await.map(|_| Some(()))),
        call("delete", false, NotFound, pool.delete_with(acme, key, true).await.map(some)),
        call("forget", false, NoKey, pool.forget(acme, "nobody's").await.map(|_| Some(()))),
        call("next", true, NoKey, scheduler.next(acme).await.map(|file| file.map(drop))),
        call("next_batch", true, NoKey, scheduler.next_batch(acme, 2).await.map(|_| Some(()))),
        call("next_timeout", true, NoKey, waited),
        call("stream", true, NoKey, streamed),
        call("write_batch", true, NoKey, pool.write_batch(acme, batch).await.map(|_| Some(()))),
        call("write", true, NoKey, pool.write(acme, "x", WriteOptions::new()).await.map(|_| Some(()))),
    ]
}

fn is_refused(result: &Result<Option<()>, Error>) -> bool {
    matches!(result, Err(Error::TenantDisabled { .. }))
}

#[tokio::test]
async fn b14_a_disabled_tenant_is_refused_everything_with_a_context_from_before() {
    let temp = tempfile::tempdir().unwrap();
    let (locus, acme) = open(temp.path()).await;
    let key = write(&locus, &acme, "content").await;
    locus.tenants().disable("acme").await.unwrap();
    for Call { name, result, .. } in calls(&locus, &acme, &key).await {
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
    for Call { name, work, result, .. } in calls(&locus, &acme, &key).await {
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
    let nobodys = FileKey::generate(Timestamp::from_micros(1_700_000_000_000_000), &[7; 10]);
    for Call { name, unknown, result, .. } in calls(&locus, &beta, &key).await {
        let as_unknown = matches!(
            (unknown, &result),
            (Unknown::NotFound, Err(Error::FileNotFound { .. }))
                | (Unknown::None, Ok(None))
                | (Unknown::NoKey, Ok(_))
        );
        assert!(as_unknown, "{name}: {result:?}");
    }
    // The very same answers as for a key that nobody has, and the file is as it was.
    let said = |calls: Vec<Call>| -> Vec<String> {
        let told = calls.into_iter().filter(|call| call.unknown != Unknown::NoKey);
        told.map(|call| format!("{} {:?}", call.name, call.result.map_err(|error| error.to_string())))
            .collect()
    };
    let theirs = said(calls(&locus, &beta, &key).await).join("\n").replace(&key.to_string(), "KEY");
    let unknown = said(calls(&locus, &beta, &nobodys).await).join("\n").replace(&nobodys.to_string(), "KEY");
    assert_eq!(theirs, unknown);
    assert_eq!(locus.scheduler().status(&acme, &key).await.unwrap(), FileStatus::Pending);
    // A lease that names another tenant is that of an unknown file.
    let mut lease = locus.scheduler().next(&acme).await.unwrap().unwrap().lease;
    lease.tenant = beta.id().clone();
    locus.scheduler().complete(&lease).await.unwrap(); // without effect, as B42 has it
    locus.scheduler().fail(&lease, "no").await.unwrap();
    assert!(matches!(locus.scheduler().renew(&lease).await, Err(Error::LeaseLost { status: None, .. })));
    assert!(matches!(locus.scheduler().release(&lease).await, Err(Error::LeaseLost { status: None, .. })));
    assert!(matches!(locus.pool().read_leased(&lease).await, Err(Error::LeaseLost { .. })));
    assert_eq!(locus.scheduler().status(&acme, &key).await.unwrap(), FileStatus::Processing);
    locus.shutdown().await.unwrap();
}
