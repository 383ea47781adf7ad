//! Tenants that are deleted, purged, lost, and come again.
#![expect(clippy::unwrap_used, reason = "helpers of tests may panic as tests may")]

use std::{path::Path, sync::Mutex, time::Duration};

use locus::prelude::*;
use locus_testkit::{Failing, FaultyVolume, SimDisk, VolumeFaults, VolumeOp};
use rstest::rstest;
use tokio::io::AsyncWriteExt;

use crate::support::{builder, in_time, open, open_with, open_without_inline, until, write};

/// Every file below a directory that is no directory of the volume itself.
fn blobs_below(dir: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_dir() {
            found.extend(blobs_below(&entry.path()));
        } else if !entry.file_name().to_string_lossy().starts_with('.') {
            found.push(entry.path().display().to_string());
        }
    }
    found
}

async fn in_use(locus: &Locus) -> (u64, u64, u64) {
    match locus.tenants().delete("acme").await {
        Err(Error::TenantInUse { files, writes, uploads, .. }) => (files, writes, uploads),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_tenant_is_deleted_only_when_nothing_of_it_is_left() {
    let temp = tempfile::tempdir().unwrap();
    let (locus, acme) = open(temp.path()).await;
    write(&locus, &acme, "content").await;
    assert_eq!(in_use(&locus).await, (1, 0, 0));
    assert!(locus.tenants().is_enabled("acme").await.unwrap(), "nothing was changed");
    let file = locus.scheduler().next(&acme).await.unwrap().unwrap();
    assert_eq!(in_use(&locus).await, (1, 0, 0));
    locus.scheduler().complete(&file.lease).await.unwrap();
    locus.cleanup().settled().await.unwrap();
    locus.tenants().delete("acme").await.unwrap();

    assert_eq!(locus.tenants().try_get("acme").await.unwrap(), None);
    for call in [
        locus.tenants().delete("acme").await.unwrap_err(),
        locus.tenants().purge("acme").await.unwrap_err(),
        locus.pool().write(&acme, "x", WriteOptions::new()).await.map(drop).unwrap_err(),
        locus.scheduler().next(&acme).await.map(drop).unwrap_err(),
    ] {
        assert!(matches!(call, Error::TenantNotFound { .. }), "{call}");
    }
    locus.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_purged_tenant_leaves_no_byte_and_the_next_of_its_name_inherits_nothing() {
    let temp = tempfile::tempdir().unwrap();
    let (locus, acme) = open_without_inline(temp.path()).await;
    let beta = locus.tenants().create("beta").await.unwrap();
    let others = write(&locus, &beta, "beta's").await;
    let named = || WriteOptions::new().idempotency_key("first").directory("/in");
    let first = locus.pool().write(&acme, "named", named()).await.unwrap();
    for number in 0..40 {
        write(&locus, &acme, &format!("content {number}")).await;
    }
    let leased = locus.scheduler().next_batch(&acme, 5).await.unwrap();
    locus.scheduler().fail(&leased[0].lease, "no").await.unwrap();
    locus.scheduler().complete(&leased[1].lease).await.unwrap();
    locus.tenants().set_weight("acme", 9).await.unwrap();
    locus.tenants().set_properties("acme", Properties::from([("a".into(), "b".into())])).await.unwrap();
    let scope = || Scope::Tenant(acme.id().clone());
    locus.quotas().set_limit(scope(), Limit::Files(100)).await.unwrap();
    let upload = locus.pool().upload(&acme, UploadOptions::new(10)).await.unwrap();
    upload.write_at(0, "begun").await.unwrap();
    assert_eq!(in_use(&locus).await.2, 1);
    // What a killed write left.
    let stray = temp.path().join("vol-001/acme").join("ff");
    std::fs::create_dir_all(&stray).unwrap();

    let told = Mutex::new(Vec::new());
    in_time("purge", locus.tenants().purge_with("acme", |progress| told.lock().unwrap().push(progress)))
        .await
        .unwrap();
    let told = told.into_inner().unwrap();
    let (first_told, last) = (&told[0], told.last().unwrap());
    assert!(last.ended >= 41 && first_told.left.files <= 41, "{told:?}");
    let left = blobs_below(&temp.path().join("vol-001"));
    assert!(left.len() == 1 && left[0].contains("beta"), "{left:?}");
    let staged = std::fs::read_dir(temp.path().join("vol-001/.staging")).unwrap().count();
    assert_eq!(staged, 0, "the upload left something");
    assert!(matches!(upload.info(), Err(Error::TenantNotFound { .. })));

    let again = locus.tenants().create("acme").await.unwrap();
    assert_eq!(again.storage_path().as_str(), "acme+00000001");
    let info = locus.tenants().info("acme").await.unwrap();
    assert_eq!((info.weight, info.properties.len()), (1, 0));
    assert_eq!(locus.quotas().limit(&scope()), None);
    assert_eq!(locus.pool().info(&again, &first).await.unwrap(), None);
    let new = locus.pool().write(&again, "named", named()).await.unwrap();
    assert_ne!(new, first, "the idempotency key of the former tenant is not known");
    let path = locus.pool().location(&again, &new).await.unwrap().unwrap().physical_path.unwrap();
    assert!(path.starts_with(temp.path().join("vol-001/acme+00000001")), "{}", path.display());

    // Leases and contexts of the former tenant are as those of an unknown one.
    locus.scheduler().complete(&leased[2].lease).await.unwrap(); // without effect
    locus.scheduler().fail(&leased[2].lease, "late").await.unwrap();
    assert!(matches!(locus.scheduler().renew(&leased[3].lease).await, Err(Error::LeaseLost { .. })));
    let old = [
        locus.pool().write(&acme, "x", WriteOptions::new()).await.map(drop).unwrap_err(),
        locus.pool().read(&acme, &new).await.map(drop).unwrap_err(),
        locus.pool().upload(&acme, UploadOptions::new(1)).await.map(drop).unwrap_err(),
        locus.scheduler().next(&acme).await.map(drop).unwrap_err(),
    ];
    assert!(old.iter().all(|error| matches!(error, Error::TenantNotFound { .. })), "{old:?}");
    assert_eq!(locus.counts()[again.id()].files(), 1);
    assert_eq!(locus.pool().read(&beta, &others).await.unwrap().bytes().await.unwrap(), "beta's");
    locus.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_purge_that_could_not_look_for_leftovers_says_so_and_goes_on_later() {
    let temp = tempfile::tempdir().unwrap();
    let faults = VolumeFaults::new();
    let volume = FaultyVolume::new(LocalVolume::new("vol-001", temp.path().join("vol-001")), faults.clone());
    let builder = Locus::builder().data_dir(temp.path().join("data")).add_volume(volume).add_tenant("acme");
    let (locus, acme) = open_with(builder.inline_content_max(0)).await;
    let upload = locus.pool().upload(&acme, UploadOptions::new(10)).await.unwrap();
    upload.write_at(0, "begun").await.unwrap();
    for op in [VolumeOp::ListStaged, VolumeOp::Discard, VolumeOp::List, VolumeOp::SyncNames] {
        faults.fail(op, 0, Failing::Refused);
        let error = in_time("purge", locus.tenants().purge("acme")).await.unwrap_err();
        let named =
            matches!(&error, Error::VolumeUnavailable { volume: Some(id), .. } if id.as_str() == "vol-001");
        assert!(named, "{op:?}: {error}");
        assert_eq!(locus.tenants().info("acme").await.unwrap().status, TenantStatus::Disabled);
        faults.heal();
    }
    in_time("purge", locus.tenants().purge("acme")).await.unwrap();
    assert_eq!(locus.tenants().try_get("acme").await.unwrap(), None);
    assert_eq!(std::fs::read_dir(temp.path().join("vol-001/.staging")).unwrap().count(), 0);
    locus.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_purge_that_was_given_up_leaves_a_disabled_tenant_and_goes_on_later() {
    let temp = tempfile::tempdir().unwrap();
    let (locus, acme) = open_without_inline(temp.path()).await;
    for number in 0..20 {
        write(&locus, &acme, &format!("content {number}")).await;
    }
    let volume = VolumeId::parse("vol-001").unwrap();
    locus.pool().unmount(&volume).await.unwrap();
    let error = in_time("purge", locus.tenants().purge("acme")).await.unwrap_err();
    assert!(matches!(&error, Error::VolumeUnavailable { volume: Some(id), .. } if *id == volume), "{error}");
    assert_eq!(locus.tenants().info("acme").await.unwrap().status, TenantStatus::Disabled);
    locus.shutdown().await.unwrap();

    let (locus, acme) = open_without_inline(temp.path()).await; // the builder names it, and it stays as it was
    assert_eq!(locus.tenants().info("acme").await.unwrap().status, TenantStatus::Disabled);
    let refused = locus.pool().write(&acme, "x", WriteOptions::new()).await.unwrap_err();
    assert!(matches!(refused, Error::TenantDisabled { .. }), "{refused}");
    in_time("purge", locus.tenants().purge("acme")).await.unwrap();
    assert!(blobs_below(&temp.path().join("vol-001")).is_empty());
    locus.shutdown().await.unwrap();

    // Named by the builder, it comes again: as another one.
    let (locus, acme) = open_without_inline(temp.path()).await;
    assert_eq!(acme.storage_path().as_str(), "acme+00000001");
    assert!(locus.tenants().is_enabled("acme").await.unwrap());
    locus.shutdown().await.unwrap();
}

#[tokio::test]
async fn while_a_tenant_is_purged_nobody_enables_or_creates_it_and_its_waiters_are_told() {
    let temp = tempfile::tempdir().unwrap();
    let (locus, acme) = open_without_inline(temp.path()).await;
    // A write that comes to no end keeps the purge waiting.
    let (mut sender, source) = tokio::io::duplex(64);
    let (pool, to) = (locus.pool().clone(), acme.clone());
    let writing =
        tokio::spawn(async move { pool.write(&to, Content::reader(source), WriteOptions::new()).await });
    let tenants = locus.tenants();
    in_time("the write", sender.write_all(&[b'x'; 256])).await.unwrap(); // some of it was read, so there is room for it
    assert_eq!(in_use(&locus).await, (0, 1, 0));
    let (scheduler, waits) = (locus.scheduler().clone(), acme.clone());
    let waiting = tokio::spawn(async move { scheduler.next_timeout(&waits, Duration::from_secs(60)).await });
    let purging = tokio::spawn({
        let tenants = locus.tenants();
        async move { tenants.purge("acme").await }
    });
    until("the purge is under way", || async {
        matches!(tenants.enable("acme").await, Err(Error::TenantLeaving { .. }))
    })
    .await;
    assert!(matches!(tenants.purge("acme").await, Err(Error::TenantLeaving { .. })));
    assert!(matches!(tenants.create("acme").await, Err(Error::TenantExists { .. })));
    let told = in_time("the waiter", waiting).await.unwrap().unwrap_err();
    assert!(matches!(told, Error::TenantDisabled { .. }), "{told}");
    assert!(!purging.is_finished());
    drop(sender); // the content is at its end, and its record is refused
    let refused = writing.await.unwrap().unwrap_err();
    assert!(matches!(refused, Error::TenantDisabled { .. }), "{refused}");
    in_time("purge", purging).await.unwrap().unwrap();
    assert!(blobs_below(&temp.path().join("vol-001")).is_empty());
    locus.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_tenant_whose_file_is_missing_is_told_and_loses_nothing() {
    let temp = tempfile::tempdir().unwrap();
    let (locus, acme) = open_without_inline(temp.path()).await;
    locus.tenants().purge("acme").await.unwrap();
    let acme = {
        let again = locus.tenants().create("acme").await.unwrap();
        assert_ne!(again, acme);
        again
    };
    let key = write(&locus, &acme, "content").await;
    locus.shutdown().await.unwrap();
    std::fs::remove_file(temp.path().join("data/tenants/acme.tenant")).unwrap();

    let (locus, _) = open_with(builder(temp.path()).inline_content_max(0)).await;
    assert_eq!(locus.open_report().tenants_lost, [acme.id().clone()]);
    let lost = locus.tenants().info("acme").await.unwrap();
    assert_eq!((lost.status, &lost.storage_path), (TenantStatus::Disabled, acme.storage_path()));
    assert_eq!(locus.tenants().list().await.unwrap(), [lost]);
    assert!(matches!(locus.pool().read(&acme, &key).await, Err(Error::TenantDisabled { .. })));
    assert_eq!(locus.scheduler().next_any().await.unwrap(), None);
    assert!(matches!(locus.tenants().enable("acme").await, Err(Error::TenantLost { .. })));
    locus.cleanup().run_all().await.unwrap();

    let created = locus.tenants().create("acme").await.unwrap();
    assert_eq!(created, acme, "the same storage path");
    assert_eq!(locus.pool().read(&acme, &key).await.unwrap().bytes().await.unwrap(), "content");
    assert_eq!(locus.scheduler().next_any().await.unwrap().unwrap().key, key);
    locus.shutdown().await.unwrap();
    std::fs::remove_file(temp.path().join("data/tenants/acme.tenant")).unwrap();

    let (locus, _) = open_without_inline(temp.path()).await;
    in_time("purge", locus.tenants().purge("acme")).await.unwrap();
    assert!(blobs_below(&temp.path().join("vol-001")).is_empty());
    locus.shutdown().await.unwrap();
    let (locus, _) = open_without_inline(temp.path()).await;
    assert!(locus.open_report().tenants_lost.is_empty());
    locus.shutdown().await.unwrap();
}

#[tokio::test]
async fn b29_next_any_shares_by_weight_and_a_hot_tenant_starves_nobody() {
    let temp = tempfile::tempdir().unwrap();
    let builder = builder(temp.path()).durability(Durability::Buffered);
    let (locus, _) = open_with(builder).await;
    let weights = [("acme", 1), ("beta", 2), ("gamma", 5)];
    for (name, weight) in weights {
        if name != "acme" {
            locus.tenants().create(name).await.unwrap();
        }
        locus.tenants().set_weight(name, weight).await.unwrap();
        let tenant = locus.tenants().get(name).await.unwrap();
        for _ in 0..2 {
            let files = (0..1_000).map(|_| ("x".into(), WriteOptions::new())).collect();
            locus.pool().write_batch(&tenant, files).await.unwrap();
        }
    }
    let mut got = std::collections::BTreeMap::new();
    for _ in 0..1_600 {
        let file = locus.scheduler().next_any().await.unwrap().unwrap();
        *got.entry(file.tenant.id().to_string()).or_insert(0_u32) += 1;
    }
    for (name, weight) in weights {
        let share = 1_600 * weight / 8;
        assert!(got[name].abs_diff(share) * 50 <= 1_600, "{name}: {got:?}");
    }
    // A change is in force for the next call; who comes late is served at once.
    locus.tenants().set_weight("acme", 1_000).await.unwrap();
    let late = locus.tenants().create("late").await.unwrap();
    write(&locus, &late, "x").await;
    let mut served = Vec::new();
    for _ in 0..1_000 {
        served.push(locus.scheduler().next_any().await.unwrap().unwrap().tenant.id().to_string());
    }
    assert!(served[..8].contains(&"late".to_owned()), "{:?}", &served[..8]);
    assert!(served.iter().filter(|name| *name == "acme").count() > 970);
    locus.shutdown().await.unwrap();
}

/// The process dies, or the power goes, at every operation of the disk beneath a purge: whoever purges again comes to
/// the end, another tenant loses nothing, and the next of the name inherits nothing.
#[rstest]
#[tokio::test]
async fn a_purge_goes_on_wherever_it_was_cut_off(#[values(true, false)] power_cut: bool) {
    let mut at = 0;
    loop {
        let disk = SimDisk::new(at + 1);
        let open = async || {
            let builder = Locus::builder().disk(disk.clone()).data_dir("/srv/data").inline_content_max(8);
            builder.add_volume(LocalVolume::new("vol-001", "/vol")).add_tenant("beta").build().await
        };
        let locus = open().await.unwrap();
        let (acme, beta) =
            (locus.tenants().create("acme").await.unwrap(), locus.tenants().get("beta").await.unwrap());
        let others = write(&locus, &beta, "what beta keeps").await;
        for text in ["inline", "on the volume", "on the volume as well"] {
            write(&locus, &acme, text).await;
        }
        let upload = locus.pool().upload(&acme, UploadOptions::new(10)).await.unwrap();
        upload.write_at(0, "begun").await.unwrap();

        disk.crash_at(disk.ops() + at);
        let purged = in_time("purge", locus.tenants().purge("acme")).await;
        let survived = !disk.is_down();
        assert!(!survived || purged.is_ok(), "operation {at}: {purged:?}");
        let _ = in_time("shutdown", locus.shutdown()).await;
        drop((upload, acme, beta));
        if power_cut {
            disk.crash();
        } else {
            disk.kill();
        }
        disk.crash_at(u64::MAX);

        let locus = in_time("open", open()).await.unwrap();
        match in_time("purge", locus.tenants().purge("acme")).await {
            Ok(()) => assert!(purged.is_err(), "operation {at}: a tenant came back"),
            Err(Error::TenantNotFound { .. }) => {}
            Err(error) => panic!("operation {at}: {error}"),
        }
        let beta = locus.tenants().get("beta").await.unwrap();
        let kept = locus.pool().read(&beta, &others).await.unwrap().bytes().await.unwrap();
        assert_eq!(kept, "what beta keeps", "operation {at}");
        let again = locus.tenants().create("acme").await.unwrap();
        assert!(
            again.storage_path().as_str().starts_with("acme+"),
            "operation {at}: {}",
            again.storage_path()
        );
        assert_eq!(locus.quotas().count(&Scope::Tenant(again.id().clone())), 0, "operation {at}");
        assert!(locus.pool().uploads(&again, None).await.unwrap().is_empty(), "operation {at}");
        let left = locus.cleanup().leftovers().await.unwrap();
        assert_eq!(left.orphans_removed + left.staging_removed, 0, "operation {at}: {left:?}");
        assert_eq!(
            locus.verify(locus::VerifyLevel::Contents).await.unwrap().findings.len(),
            0,
            "operation {at}"
        );
        in_time("shutdown", locus.shutdown()).await.unwrap();
        if survived {
            assert!(at > 20, "the story was short: {at}");
            return;
        }
        at += 1;
    }
}
