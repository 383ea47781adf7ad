//! A tenant is removed, and one of its name comes after it.

use std::sync::Arc;

use locus_core::{Error, Properties, StoragePath, TenantAccess, TenantManager, TenantStatus};
use locus_fs::OsDisk;
use locus_tenant::TenantDirectory;
use locus_testkit::{ManualClock, SimDisk};

use crate::{id, open};

async fn remove(tenants: &TenantDirectory, name: &str) -> Result<(), Error> {
    let removal = tenants.begin_removal(&id(name))?;
    tenants.set_status(&id(name), TenantStatus::Disabled).await?;
    tenants.remove(removal, ()).await
}

async fn create(tenants: &TenantDirectory, name: &str) -> StoragePath {
    tenants.create(&id(name), Properties::new()).await.expect("a new name").storage_path.clone()
}

#[tokio::test]
async fn a_later_tenant_of_the_name_inherits_nothing_and_has_a_storage_path_of_its_own() {
    let temp = tempfile::tempdir().unwrap();
    let mut paths = Vec::new();
    for _ in 0..3 {
        let tenants = open(temp.path()).unwrap();
        paths.push(create(&tenants, "acme").await);
        tenants.set_properties(&id("acme"), Properties::from([("a".into(), "1".into())])).await.unwrap();
        tenants.set_weight(&id("acme"), 7).await.unwrap();
        remove(&tenants, "acme").await.unwrap();
        assert_eq!(tenants.try_get(&id("acme")).await.unwrap(), None);
        paths.push(create(&tenants, "acme").await); // without an opening in between
        remove(&tenants, "acme").await.unwrap();
    }
    let texts: Vec<_> = paths.iter().map(StoragePath::as_str).collect();
    let expected =
        ["acme", "acme+00000001", "acme+00000002", "acme+00000003", "acme+00000004", "acme+00000005"];
    assert_eq!(texts, expected);
    let tenants = open(temp.path()).unwrap();
    let last = tenants.create(&id("acme"), Properties::new()).await.unwrap();
    assert_eq!((last.status, last.weight, last.properties.len()), (TenantStatus::Enabled, 1, 0));
}

#[tokio::test]
async fn properties_and_weight_are_durable_and_bounded_by_name() {
    let temp = tempfile::tempdir().unwrap();
    let tenants = open(temp.path()).unwrap();
    create(&tenants, "acme").await;
    let properties = Properties::from([("k".to_owned(), "v".repeat(1_023))]);
    tenants.set_properties(&id("acme"), properties.clone()).await.unwrap();
    for weight in [1, 1_000, 3] {
        tenants.set_weight(&id("acme"), weight).await.unwrap();
    }
    let too_large = Properties::from([("k".to_owned(), "v".repeat(1_024))]);
    let refused = tenants.set_properties(&id("acme"), too_large).await.unwrap_err();
    assert!(
        matches!(refused, Error::TooLarge { what: "properties", size: 1_025, limit: 1_024 }),
        "{refused}"
    );
    for weight in [0, 1_001, u32::MAX] {
        let refused = tenants.set_weight(&id("acme"), weight).await.unwrap_err();
        assert!(matches!(refused, Error::InvalidArgument { name: "weight", .. }), "{weight}: {refused}");
    }
    for unknown in [
        tenants.set_weight(&id("nobody"), 2).await.unwrap_err(),
        tenants.set_properties(&id("nobody"), Properties::new()).await.unwrap_err(),
    ] {
        assert!(matches!(unknown, Error::TenantNotFound { .. }), "{unknown}");
    }
    let acme = open(temp.path()).unwrap().get(&id("acme")).await.unwrap();
    assert_eq!((&acme.properties, acme.weight), (&properties, 3));
}

#[tokio::test]
async fn whoever_removes_a_tenant_has_it_alone_and_may_change_his_mind() {
    let temp = tempfile::tempdir().unwrap();
    let tenants = open(temp.path()).unwrap();
    create(&tenants, "acme").await;
    let removal = tenants.begin_removal(&id("acme")).unwrap();
    tenants.set_status(&id("acme"), TenantStatus::Disabled).await.unwrap();
    let refused = [
        tenants.begin_removal(&id("acme")).map(drop).unwrap_err(),
        tenants.set_status(&id("acme"), TenantStatus::Enabled).await.map(drop).unwrap_err(),
        tenants.set_status(&id("acme"), TenantStatus::Suspended).await.map(drop).unwrap_err(),
        tenants.set_weight(&id("acme"), 2).await.map(drop).unwrap_err(),
        tenants.set_properties(&id("acme"), Properties::new()).await.map(drop).unwrap_err(),
    ];
    for error in refused {
        assert!(matches!(error, Error::TenantLeaving { .. }), "{error}");
    }
    drop(removal);
    tenants.set_status(&id("acme"), TenantStatus::Enabled).await.unwrap();
    tenants.check(&id("acme"), TenantAccess::Work).unwrap();
    assert!(matches!(tenants.begin_removal(&id("nobody")), Err(Error::TenantNotFound { .. })));
}

/// Wherever the power goes, the tenant is there, disabled, or gone; and whoever comes after it has a path of his own.
#[tokio::test]
async fn b82_a_crash_at_any_step_of_a_removal_leaves_a_disabled_tenant_or_none() {
    for (seed, kill) in (0..16).flat_map(|seed| [(seed, false), (seed, true)]) {
        let (mut there, mut gone) = (0, 0);
        for step in 0.. {
            let disk = SimDisk::new(seed);
            let clock = ManualClock::new();
            let open = || TenantDirectory::open(disk.clone(), clock.clone(), "/tenants".into());
            let tenants = open().unwrap();
            let first = create(&tenants, "acme").await;
            create(&tenants, "other").await;
            tenants.set_status(&id("acme"), TenantStatus::Disabled).await.unwrap();
            disk.crash_at(disk.ops() + step);
            let removed = remove(&tenants, "acme").await;
            drop(tenants);
            if kill {
                disk.kill();
            } else {
                disk.crash();
            }
            disk.crash_at(u64::MAX);

            let tenants = open().unwrap();
            assert!(tenants.is_known(&id("other")));
            if let Some(acme) = tenants.try_get(&id("acme")).await.unwrap() {
                assert!(removed.is_err(), "seed {seed}, step {step}: it was confirmed");
                assert_eq!((acme.status, &acme.storage_path), (TenantStatus::Disabled, &first));
                there += 1;
                remove(&tenants, "acme").await.unwrap(); // goes on
            } else {
                gone += 1;
            }
            assert_ne!(create(&tenants, "acme").await, first, "seed {seed}, step {step}");
            if removed.is_ok() {
                break;
            }
        }
        assert!(there > 0 && gone > 0, "seed {seed}: {there} {gone}");
    }
}

#[tokio::test]
async fn a_tenant_whose_file_is_missing_is_disabled_until_it_is_created_with_its_path() {
    let temp = tempfile::tempdir().unwrap();
    let tenants = open(temp.path()).unwrap();
    create(&tenants, "present").await;
    let path = StoragePath::parse("acme+00000007").unwrap();
    assert!(tenants.note_lost(&id("acme"), path.clone()));
    assert!(!tenants.note_lost(&id("present"), path.clone()), "it has its file");
    let acme = tenants.get(&id("acme")).await.unwrap();
    assert_eq!((acme.status, &acme.storage_path), (TenantStatus::Disabled, &path));
    assert!(matches!(tenants.check(&id("acme"), TenantAccess::Read), Err(Error::TenantDisabled { .. })));
    let kept = tenants.ensure(&id("acme"), Properties::new()).await.unwrap();
    assert_eq!(kept.status, TenantStatus::Disabled, "whoever only names it does not know what it was");
    tenants.set_status(&id("acme"), TenantStatus::Disabled).await.unwrap(); // as it is
    let refused = tenants.set_status(&id("acme"), TenantStatus::Enabled).await.unwrap_err();
    assert!(matches!(refused, Error::TenantLost { .. }), "{refused}");
    let copy = temp.path().join("copy");
    tenants.copy_to(&copy).unwrap();
    assert_eq!(TenantDirectory::read(&OsDisk, &copy).unwrap().len(), 1, "what has no file is not copied");

    let created = tenants.create(&id("acme"), Properties::new()).await.unwrap();
    assert_eq!((created.status, &created.storage_path), (TenantStatus::Enabled, &path));
    assert!(matches!(tenants.create(&id("acme"), Properties::new()).await, Err(Error::TenantExists { .. })));
    let reopened = open(temp.path()).unwrap();
    assert_eq!(reopened.get(&id("acme")).await.unwrap().storage_path, path);

    // Or it is removed.
    reopened.note_lost(&id("beta"), StoragePath::from(&id("beta")));
    remove(&reopened, "beta").await.unwrap();
    assert!(!reopened.is_known(&id("beta")));
}

#[tokio::test]
async fn the_number_of_removed_tenants_is_copied_and_where_it_is_damaged_named_and_salvaged() {
    let temp = tempfile::tempdir().unwrap();
    let tenants = open(temp.path()).unwrap();
    create(&tenants, "acme").await;
    remove(&tenants, "acme").await.unwrap();
    let copied = temp.path().join("copy");
    tenants.copy_to(&copied.join("tenants")).unwrap();
    assert_eq!(create(&open(&copied).unwrap(), "acme").await.as_str(), "acme+00000001");

    let file = temp.path().join("tenants/removed");
    let mut bytes = std::fs::read(&file).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    let mut damaged = std::fs::OpenOptions::new().write(true).open(&file).unwrap();
    std::io::Write::write_all(&mut damaged, &bytes).unwrap();
    let error = open(temp.path()).unwrap_err();
    assert!(matches!(&error, Error::Corrupt { place, .. } if place.ends_with("removed")), "{error}");
    let salvaged = temp.path().join("salvaged");
    let found = TenantDirectory::salvage(&OsDisk, &temp.path().join("tenants"), &salvaged.join("tenants"));
    assert_eq!(found.unwrap(), [file]);
    // More than anybody removed: no earlier tenant of the name had it.
    let tenants =
        TenantDirectory::open(Arc::new(OsDisk), ManualClock::new(), salvaged.join("tenants")).unwrap();
    assert_eq!(create(&tenants, "acme").await.as_str(), "acme+80000000");
}
