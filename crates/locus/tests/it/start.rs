//! What must hold before a store runs.

use std::{collections::BTreeSet, fs::File, path::Path, time::Duration};

use locus::{Disk, OsDisk, prelude::*};
use locus_testkit::{Failing, FaultyVolume, ManualClock, VolumeFaults, VolumeOp};
use rstest::rstest;

use crate::support::{builder, in_time, open, open_with, open_without_inline, setting_of, until, write};

#[tokio::test]
async fn b86_the_same_builder_run_twice_on_one_directory_is_no_contradiction() {
    let temp = tempfile::tempdir().unwrap();
    let (locus, acme) = open(temp.path()).await;
    let key = write(&locus, &acme, "kept").await;
    locus.shutdown().await.unwrap();

    let (locus, acme) = open(temp.path()).await;
    let content = locus.pool().read(&acme, &key).await.unwrap().bytes().await.unwrap();
    assert_eq!(content, "kept");
    locus.shutdown().await.unwrap();
}

#[rstest]
#[case::deliveries("leases.max_deliveries", |b: locus::Builder| b.max_deliveries(2))]
#[case::segment("journal.segment_size", |b: locus::Builder| b.segment_size(5))]
#[case::inline("journal.inline_content_max", |b: locus::Builder| b.inline_content_max(5 << 20))]
#[case::landing_zone("journal.landing_zone_max", |b: locus::Builder| b.landing_zone_max(5))]
#[case::glob("quotas.directories[*/{invoices]", |b: locus::Builder| b.directory_quota("*/{invoices", 10))]
#[case::volume("volumes[vol-001]", |b: locus::Builder| b.add_volume(LocalVolume::new("vol-001", "elsewhere")))]
#[case::unsynced("store.max_unsynced", |b: locus::Builder| b.max_unsynced(Duration::ZERO))]
#[tokio::test]
async fn b86_an_invalid_setting_is_refused_by_name_before_a_disk_is_touched(
    #[case] name: &str,
    #[case] change: fn(locus::Builder) -> locus::Builder,
) {
    let temp = tempfile::tempdir().unwrap();
    let error = change(builder(temp.path())).build().await.unwrap_err();
    assert_eq!(setting_of(&error), name);
    assert_eq!(std::fs::read_dir(temp.path()).unwrap().count(), 0, "the disk was touched");
}

#[rstest]
#[case::tenant("tenant id", |b: locus::Builder| b.add_tenant("No Tenant"))]
#[case::volume("volume id", |b: locus::Builder| b.add_volume(LocalVolume::new("No Volume", "x")))]
#[tokio::test]
async fn an_invalid_id_is_refused_before_a_disk_is_touched(
    #[case] word: &str,
    #[case] change: fn(locus::Builder) -> locus::Builder,
) {
    let temp = tempfile::tempdir().unwrap();
    let error = change(builder(temp.path())).build().await.unwrap_err();
    assert!(error.to_string().starts_with(word), "{error}");
    assert_eq!(std::fs::read_dir(temp.path()).unwrap().count(), 0, "the disk was touched");
}

#[tokio::test]
async fn setters_win_over_settings_in_any_order() {
    let temp = tempfile::tempdir().unwrap();
    let mut settings = Settings::default();
    settings.store.data_dir = temp.path().join("of-settings");
    settings.leases.max_deliveries = Some(1);
    let locus = Locus::builder()
        .max_deliveries(50)
        .settings(settings)
        .data_dir(temp.path().join("of-setter"))
        .build()
        .await
        .unwrap();
    assert!(temp.path().join("of-setter").is_dir() && !temp.path().join("of-settings").exists());
    locus.shutdown().await.unwrap();
}

#[tokio::test]
async fn volumes_and_tenants_of_the_settings_are_there() {
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join("locus.toml");
    std::io::Write::write_all(
        &mut File::create(&path).unwrap(),
        b"[store]\ndata_dir = \"data\"\n[[volumes]]\nid = \"vol-a\"\npath = \"a\"\n\
          [[tenants]]\nid = \"acme\"\nproperties = { city = \"Graz\" }\n",
    )
    .unwrap();
    let settings = Settings::load_with(&path, []).unwrap();
    let locus = Locus::builder().settings(settings).build().await.unwrap();
    assert_eq!(locus.tenants().info("acme").await.unwrap().properties["city"], "Graz");
    assert_eq!(locus.pool().volumes()[0].mount_path.as_deref(), Some(temp.path().join("a").as_path()));
    locus.shutdown().await.unwrap();
}

#[tokio::test]
async fn b63_a_data_directory_in_use_is_refused_with_its_holder_and_free_after_the_close() {
    let temp = tempfile::tempdir().unwrap();
    let (locus, _) = open(temp.path()).await;
    let error = builder(temp.path()).build().await.unwrap_err();
    let holder = std::process::id().to_string();
    assert!(
        matches!(&error, Error::AlreadyOpen { path, holder: by } if path.ends_with("data") && by.contains(&holder)),
        "{error}"
    );
    locus.shutdown().await.unwrap();
    open(temp.path()).await.0.shutdown().await.unwrap();
}

/// A start that fails leaves nothing behind that keeps the next one from succeeding.
async fn refused_until(dir: &Path, repair: impl FnOnce()) -> Error {
    let error = builder(dir).build().await.expect_err("a start that must be refused");
    repair();
    open(dir).await.0.shutdown().await.expect("a store that opened");
    error
}

#[tokio::test]
async fn b86_a_volume_path_that_is_a_file_stops_the_start_with_its_name() {
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join("vol-001");
    File::create(&path).unwrap();
    let error = refused_until(temp.path(), || std::fs::remove_file(&path).unwrap()).await;
    assert!(error.to_string().contains("vol-001"), "{error}");
}

#[tokio::test]
async fn b86_a_damaged_tenant_stops_the_start_with_its_name() {
    let temp = tempfile::tempdir().unwrap();
    open(temp.path()).await.0.shutdown().await.unwrap();
    let path = temp.path().join("data/tenants/acme.tenant");
    let length = std::fs::metadata(&path).unwrap().len();
    std::fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(length - 1).unwrap();
    let error = refused_until(temp.path(), || std::fs::remove_file(&path).unwrap()).await;
    assert!(matches!(&error, Error::Corrupt { place, .. } if place.ends_with("acme.tenant")), "{error}");
}

#[tokio::test]
async fn b81_a_volume_of_another_store_is_refused() {
    let temp = tempfile::tempdir().unwrap();
    open(temp.path()).await.0.shutdown().await.unwrap();
    let error = Locus::builder()
        .data_dir(temp.path().join("other"))
        .add_volume(LocalVolume::new("vol-001", temp.path().join("vol-001")))
        .build()
        .await
        .unwrap_err();
    assert!(error.to_string().contains("vol-001"), "{error}");
}

#[tokio::test]
async fn b81_a_volume_that_hangs_keeps_back_neither_the_start_nor_a_mount_nor_others_for_ever() {
    let temp = tempfile::tempdir().unwrap();
    let (clock, faults) = (ManualClock::new(), VolumeFaults::new());
    let hanging = |id: &str| FaultyVolume::new(LocalVolume::new(id, temp.path().join(id)), faults.clone());
    let is_late = |error: Error, id: &str| {
        let named = matches!(&error, Error::VolumeUnavailable { volume: Some(of), .. } if of.as_str() == id);
        assert!(named && error.to_string().contains("did not"), "{error}");
    };
    let with_one = || {
        let one = Locus::builder().data_dir(temp.path().join("data")).add_tenant("acme");
        one.add_volume(hanging("vol-002")).inline_content_max(0).clock(clock.clone())
    };

    faults.fail(VolumeOp::Probe, 1, Failing::Hanging);
    let starting = tokio::spawn(with_one().build());
    until("its probe hangs", async || faults.hung() == 1).await;
    clock.advance(Duration::from_secs(60));
    is_late(in_time("the start", starting).await.unwrap().unwrap_err(), "vol-002");

    faults.heal();
    let (locus, acme) = open_with(with_one()).await;
    faults.fail(VolumeOp::Probe, 1, Failing::Hanging);
    let (pool, volume) = (locus.pool().clone(), hanging("vol-003"));
    let mounting = tokio::spawn(async move { pool.mount(volume).await });
    until("its probe hangs", async || faults.hung() == 2).await;
    let key = write(&locus, &acme, "meanwhile").await;
    locus.pool().read(&acme, &key).await.unwrap();
    clock.advance(Duration::from_secs(60));
    is_late(in_time("the mount", mounting).await.unwrap().unwrap_err(), "vol-003");
    assert_eq!(locus.pool().volumes().len(), 1);
    faults.heal();
    locus.pool().mount(hanging("vol-003")).await.unwrap();
    locus.shutdown().await.unwrap();
}

#[tokio::test]
async fn b81_probes_leave_nothing_behind() {
    let temp = tempfile::tempdir().unwrap();
    let (locus, acme) = open_without_inline(temp.path()).await;
    write(&locus, &acme, "a file").await;
    let names = || {
        let all = std::fs::read_dir(temp.path().join("vol-001")).unwrap();
        let staged = std::fs::read_dir(temp.path().join("vol-001/.staging")).unwrap();
        all.chain(staged).map(|entry| entry.unwrap().path()).collect::<BTreeSet<_>>()
    };
    let before = names();
    for _ in 0..5 {
        locus.pool().probe_all().await;
        assert_eq!(names(), before);
    }
    locus.shutdown().await.unwrap();
}

#[tokio::test]
async fn the_empty_mount_point_of_a_volume_with_files_is_unavailable_not_empty() {
    let temp = tempfile::tempdir().unwrap();
    let (locus, acme) = open_without_inline(temp.path()).await;
    let key = write(&locus, &acme, "on the disk").await;
    locus.shutdown().await.unwrap();
    let (mounted, away) = (temp.path().join("vol-001"), temp.path().join("away"));
    OsDisk.rename(&mounted, &away).unwrap();
    std::fs::create_dir(&mounted).unwrap();

    let error = builder(temp.path()).build().await.unwrap_err();
    assert!(
        matches!(&error, Error::VolumeUnavailable { volume: Some(id), .. } if id.as_str() == "vol-001"),
        "{error}"
    );
    std::fs::remove_dir(&mounted).unwrap();
    OsDisk.rename(&away, &mounted).unwrap();
    let (locus, acme) = open_without_inline(temp.path()).await;
    locus.pool().read(&acme, &key).await.unwrap();
    locus.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_volume_that_was_empty_at_the_last_close_may_begin_anew() {
    let temp = tempfile::tempdir().unwrap();
    open(temp.path()).await.0.shutdown().await.unwrap();
    std::fs::remove_dir_all(temp.path().join("vol-001")).unwrap();
    open(temp.path()).await.0.shutdown().await.unwrap();
}

#[tokio::test]
async fn b63_inspect_looks_at_a_store_while_it_is_open_and_changes_nothing() {
    let temp = tempfile::tempdir().unwrap();
    let (locus, acme) = open(temp.path()).await;
    write(&locus, &acme, "one").await;
    write(&locus, &acme, "two").await;
    locus.scheduler().next(&acme).await.unwrap().unwrap();
    locus.sync().await.unwrap();

    let seen = Locus::inspect(temp.path().join("data")).await.unwrap();
    let counts = seen.store.tenants[acme.id()];
    assert_eq!((counts.pending, counts.processing), (1, 1));
    assert_eq!((seen.store.in_journal, seen.store.volumes.values().sum::<u64>()), (2, 0));
    assert_eq!(seen.tenants.iter().map(|tenant| tenant.id.as_str()).collect::<Vec<_>>(), ["acme"]);
    assert_eq!(seen.volumes.len(), 1);
    assert_eq!(seen.volumes[0].path, temp.path().join("vol-001"));
    assert!(seen.volumes[0].space.is_some_and(|(total, available)| total >= available && available > 0));

    write(&locus, &acme, "three").await;
    locus.shutdown().await.unwrap();
    assert_eq!(Locus::inspect(temp.path().join("data")).await.unwrap().store.tenants[acme.id()].pending, 3);
}

#[tokio::test]
async fn inspecting_what_is_no_store_is_an_error_and_creates_nothing() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("nothing");
    let error = in_time("inspect", Locus::inspect(&dir)).await.unwrap_err();
    assert!(error.to_string().contains("nothing"), "{error}");
    assert!(!dir.exists());
}
