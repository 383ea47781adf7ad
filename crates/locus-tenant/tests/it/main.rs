//! The tenant directory on a real disk.

use std::{io::Write, path::Path, sync::Arc};

use locus_core::{Clock, Error, Properties, TenantAccess, TenantId, TenantManager, TenantStatus};
use locus_fs::OsDisk;
use locus_tenant::TenantDirectory;
use locus_testkit::{ManualClock, SimDisk};

mod failing_disk;
mod removing;

use failing_disk::FailingDisk;

fn open(dir: &Path) -> Result<TenantDirectory, Error> {
    open_with(dir, ManualClock::new())
}

fn open_with(dir: &Path, clock: Arc<ManualClock>) -> Result<TenantDirectory, Error> {
    TenantDirectory::open(Arc::new(OsDisk), clock, dir.join("tenants"))
}

fn id(text: &str) -> TenantId {
    TenantId::parse(text).expect("a good name")
}

#[tokio::test]
async fn b82_a_tenant_with_its_properties_dates_and_status_survives_reopening() {
    let temp = tempfile::tempdir().unwrap();
    let clock = ManualClock::new();
    let tenants = open_with(temp.path(), clock.clone()).unwrap();
    let created = clock.wall();
    let properties = Properties::from([("city".to_owned(), "Graz".to_owned())]);
    tenants.create(&id("acme"), properties.clone()).await.unwrap();
    clock.advance(std::time::Duration::from_secs(5));
    tenants.set_status(&id("acme"), TenantStatus::Suspended).await.unwrap();
    tenants.create(&id("beta"), Properties::new()).await.unwrap();
    let before = tenants.list().await.unwrap();
    drop(tenants);

    let tenants = open(temp.path()).unwrap();
    assert_eq!(tenants.list().await.unwrap(), before);
    let acme = tenants.get(&id("acme")).await.unwrap();
    assert_eq!((acme.created_at, acme.updated_at), (created, clock.wall()));
    assert_eq!((acme.status, &acme.properties), (TenantStatus::Suspended, &properties));
    assert_eq!(acme.storage_path.as_str(), "acme");
}

#[tokio::test]
async fn b82_a_change_of_status_is_in_force_for_the_next_question() {
    let temp = tempfile::tempdir().unwrap();
    let tenants = open(temp.path()).unwrap();
    tenants.create(&id("acme"), Properties::new()).await.unwrap();
    for (status, work, read) in [
        (TenantStatus::Disabled, false, false),
        (TenantStatus::Suspended, false, true),
        (TenantStatus::Enabled, true, true),
    ] {
        tenants.set_status(&id("acme"), status).await.unwrap();
        assert_eq!(tenants.check(&id("acme"), TenantAccess::Work).is_ok(), work, "{status}");
        assert_eq!(tenants.check(&id("acme"), TenantAccess::Read).is_ok(), read, "{status}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn b82_of_many_creators_of_one_tenant_one_wins() {
    let temp = tempfile::tempdir().unwrap();
    let tenants = open(temp.path()).unwrap();
    let creators: Vec<_> = (0..16)
        .map(|n| {
            let tenants = tenants.clone();
            let properties = Properties::from([("creator".to_owned(), n.to_string())]);
            tokio::spawn(async move { tenants.create(&id("acme"), properties).await })
        })
        .collect();
    let mut winners = Vec::new();
    for creator in creators {
        match creator.await.unwrap() {
            Ok(tenant) => winners.push(tenant),
            Err(Error::TenantExists { tenant }) => assert_eq!(tenant, id("acme")),
            Err(other) => panic!("{other}"),
        }
    }
    assert_eq!(winners.len(), 1);
    let kept = open(temp.path()).unwrap().get(&id("acme")).await.unwrap();
    assert_eq!(kept.properties, winners[0].properties);
}

#[tokio::test]
async fn an_unknown_tenant_is_not_found_and_ensure_creates_it_once() {
    let temp = tempfile::tempdir().unwrap();
    let tenants = open(temp.path()).unwrap();
    let acme = id("acme");
    assert!(!tenants.is_known(&acme));
    assert_eq!(tenants.try_get(&acme).await.unwrap(), None);
    let missing = [
        tenants.get(&acme).await.unwrap_err(),
        tenants.check(&acme, TenantAccess::Read).unwrap_err(),
        tenants.set_status(&acme, TenantStatus::Disabled).await.unwrap_err(),
    ];
    assert!(missing.iter().all(|error| matches!(error, Error::TenantNotFound { .. })), "{missing:?}");

    let first = tenants.ensure(&acme, Properties::from([("a".into(), "1".into())])).await.unwrap();
    tenants.set_status(&acme, TenantStatus::Disabled).await.unwrap();
    let second = tenants.ensure(&acme, Properties::new()).await.unwrap();
    assert_eq!(second.properties, first.properties);
    assert_eq!(second.status, TenantStatus::Disabled, "what was changed at run time wins");
}

#[tokio::test]
async fn properties_over_their_bound_are_refused_and_leave_nothing() {
    let temp = tempfile::tempdir().unwrap();
    let tenants = open(temp.path()).unwrap();
    let properties = Properties::from([("k".to_owned(), "v".repeat(1_024))]);
    let error = tenants.create(&id("acme"), properties).await.unwrap_err();
    assert!(matches!(error, Error::TooLarge { what: "properties", .. }), "{error}");
    assert!(!tenants.is_known(&id("acme")));
}

#[tokio::test]
async fn a_damaged_tenant_file_is_named_and_left_alone() {
    let temp = tempfile::tempdir().unwrap();
    let tenants = open(temp.path()).unwrap();
    tenants.create(&id("acme"), Properties::new()).await.unwrap();
    let path = temp.path().join("tenants/acme.tenant");
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[20] ^= 1;
    std::fs::OpenOptions::new().write(true).open(&path).unwrap().write_all(&bytes).unwrap();

    let error = open(temp.path()).unwrap_err();
    assert!(matches!(&error, Error::Corrupt { place, .. } if place.ends_with("acme.tenant")), "{error}");
    assert_eq!(std::fs::read(&path).unwrap(), bytes);
}

#[tokio::test]
async fn a_tenant_file_under_another_name_is_refused() {
    let temp = tempfile::tempdir().unwrap();
    let tenants = open(temp.path()).unwrap();
    tenants.create(&id("acme"), Properties::new()).await.unwrap();
    let dir = temp.path().join("tenants");
    std::fs::copy(dir.join("acme.tenant"), dir.join("beta.tenant")).unwrap();
    let error = open(temp.path()).unwrap_err();
    assert!(matches!(&error, Error::Corrupt { place, .. } if place.ends_with("beta.tenant")), "{error}");
}

#[tokio::test]
async fn what_a_killed_replace_left_is_no_tenant() {
    let temp = tempfile::tempdir().unwrap();
    open(temp.path()).unwrap();
    std::fs::File::create(temp.path().join("tenants/.acme.tenant.new")).unwrap();
    let tenants = open(temp.path()).unwrap();
    assert_eq!(tenants.list().await.unwrap(), []);
    tenants.create(&id("acme"), Properties::new()).await.unwrap();
    assert!(open(temp.path()).unwrap().is_known(&id("acme")));
}

#[tokio::test]
async fn b82_a_failed_create_leaves_nothing_wherever_it_fails() {
    for calls in 0..20 {
        let temp = tempfile::tempdir().unwrap();
        let dir = temp.path().join("tenants");
        let disk = Arc::new(FailingDisk::default());
        let tenants = TenantDirectory::open(disk.clone(), ManualClock::new(), dir.clone()).unwrap();
        disk.fail_call(calls);
        let created = tenants.create(&id("acme"), Properties::new()).await;
        let failed = disk.has_failed();
        assert_eq!(created.is_err(), failed, "call {calls}");
        assert_eq!(tenants.is_known(&id("acme")), !failed);
        assert_eq!(open(temp.path()).unwrap().is_known(&id("acme")), !failed);
        if !failed {
            assert!(calls > 3, "a create takes more than {calls} calls");
            return;
        }
    }
    panic!("a create takes fewer than 20 calls of the disk");
}

#[tokio::test]
async fn a_failed_change_of_status_changes_nothing_in_force() {
    let temp = tempfile::tempdir().unwrap();
    let disk = Arc::new(FailingDisk::default());
    let tenants =
        TenantDirectory::open(disk.clone(), ManualClock::new(), temp.path().join("tenants")).unwrap();
    tenants.create(&id("acme"), Properties::new()).await.unwrap();
    disk.fail_call(1); // the draft cannot be created
    tenants.set_status(&id("acme"), TenantStatus::Disabled).await.unwrap_err();
    assert!(disk.has_failed());
    tenants.check(&id("acme"), TenantAccess::Work).unwrap();
    open(temp.path()).unwrap().check(&id("acme"), TenantAccess::Work).unwrap();
}

/// A killed process leaves its last change in the cache of the kernel: whoever reads it there makes it durable first.
#[tokio::test]
async fn b82_what_an_opening_found_is_still_so_after_the_power_goes() {
    for op in 1.. {
        let disk = SimDisk::new(op);
        let clock = ManualClock::new();
        let open = || TenantDirectory::open(disk.clone(), clock.clone(), "/tenants".into());
        let tenants = open().unwrap();
        tenants.create(&id("acme"), Properties::new()).await.unwrap();
        disk.crash_at(disk.ops() + op);
        let all = tenants.set_status(&id("acme"), TenantStatus::Disabled).await.is_ok();
        disk.kill();
        let found = open().unwrap().get(&id("acme")).await.unwrap();
        disk.crash();
        assert_eq!(open().unwrap().get(&id("acme")).await.unwrap(), found, "killed in operation {op}");
        if all {
            break;
        }
    }
}

#[tokio::test]
async fn tenants_are_copied_and_those_that_can_be_read_are_salvaged() {
    let temp = tempfile::tempdir().unwrap();
    let tenants = open(temp.path()).unwrap();
    for name in ["acme", "other", "third"] {
        tenants.create(&TenantId::parse(name).unwrap(), Properties::new()).await.unwrap();
    }
    let third = TenantId::parse("third").unwrap();
    tenants.set_status(&third, TenantStatus::Disabled).await.unwrap();
    let copy = temp.path().join("copy/tenants");
    tenants.copy_to(&copy).unwrap();
    let all = TenantDirectory::read(&OsDisk, &temp.path().join("tenants")).unwrap();
    assert_eq!(TenantDirectory::read(&OsDisk, &copy).unwrap(), all);
    assert_eq!((all.len(), all[2].status), (3, TenantStatus::Disabled));

    let damaged = copy.join("other.tenant");
    let mut file = std::fs::OpenOptions::new().append(true).open(&damaged).unwrap();
    file.write_all(b"x").unwrap();
    assert!(TenantDirectory::read(&OsDisk, &copy).is_err());
    let salvaged = temp.path().join("salvaged");
    assert_eq!(TenantDirectory::salvage(&OsDisk, &copy, &salvaged).unwrap(), [damaged]);
    let expected = [all[0].clone(), all[2].clone()];
    assert_eq!(TenantDirectory::read(&OsDisk, &salvaged).unwrap(), expected);
}
