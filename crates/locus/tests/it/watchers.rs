//! Watched folders, over the facade.

use std::{fs, path::Path, sync::Arc, time::Duration};

use locus::{Disk, OsDisk, VolumeSettings, prelude::*};
use locus_testkit::{Failing, FaultyVolume, ManualClock, SimDisk, VolumeFaults, VolumeOp};
use rstest::rstest;

use crate::support::{builder, in_time, setting_of};

/// What takes everything in the inbox for acme at once.
fn inbox(dir: &Path) -> FileWatcherConfig {
    fs::create_dir_all(dir.join("inbox")).expect("a place for files");
    let watcher = FileWatcherConfig::new(dir.join("inbox")).id("in").tenant("acme");
    watcher
        .age_min(Duration::ZERO)
        .stability_delay(Duration::ZERO)
        .polling_interval(Duration::from_secs(3600))
}

#[expect(clippy::disallowed_methods, reason = "the folder is not the store's")]
fn put(path: &Path, content: &str) {
    fs::write(path, content).expect("room");
}

async fn scan(locus: &Locus) -> ScanReport {
    in_time("a scan", locus.watchers().scan_now("in")).await.expect("a good folder")
}

async fn drained(locus: &Locus) -> Vec<(String, Bytes)> {
    let mut files = Vec::new();
    while let Some(file) = locus.scheduler().next_any().await.expect("an open store") {
        let content = locus.pool().read(&file.tenant, &file.key).await.expect("a leased file");
        files.push((
            file.original_name.clone().unwrap_or_default(),
            content.bytes().await.expect("its content"),
        ));
        locus.scheduler().complete(&file.lease).await.expect("its lease");
    }
    files.sort();
    files
}

#[tokio::test]
async fn what_comes_to_lie_in_a_watched_folder_is_queued_and_worked_on() {
    let temp = tempfile::tempdir().unwrap();
    let watcher = inbox(temp.path()).directory_from_folder(true);
    put(&temp.path().join("inbox/small.txt"), "small");
    put(&temp.path().join("inbox/large.txt"), &"x".repeat(3 << 20));
    let locus = builder(temp.path()).add_file_watcher(watcher).build().await.unwrap();
    scan(&locus).await;
    assert_eq!(locus.watchers().list()[0].total.imported, 2);
    let files = drained(&locus).await;
    assert_eq!((files[0].0.as_str(), files[0].1.len()), ("large.txt", 3 << 20));
    assert_eq!((files[1].0.as_str(), &files[1].1[..]), ("small.txt", &b"small"[..]));
    assert_eq!(fs::read_dir(temp.path().join("inbox")).unwrap().count(), 0);
    // Nothing is remembered of what is gone.
    locus.cleanup().settled().await.unwrap();
    assert_eq!(locus.statistics().idempotency_keys, 0);
    locus.shutdown().await.unwrap();
}

/// The source is the only other copy: what the store promises otherwise, and whether it can sync its volumes, is not asked.
#[tokio::test]
async fn what_came_from_a_source_is_durable_before_it_goes_also_where_writes_are_buffered() {
    let temp = tempfile::tempdir().unwrap();
    let source = temp.path().join("inbox/large.txt");
    let watcher = inbox(temp.path());
    put(&source, &"x".repeat(3 << 20));
    let faults = VolumeFaults::new();
    let volume = FaultyVolume::new(LocalVolume::new("vol-1", temp.path().join("vol-1")), faults.clone());
    let builder = Locus::builder().data_dir(temp.path().join("data")).durability(Durability::Buffered);
    let builder = builder.add_volume(volume).add_tenant("acme").add_file_watcher(watcher);
    faults.fail(VolumeOp::Sync, 0, Failing::Refused);
    let locus = builder.build().await.unwrap();
    scan(&locus).await;
    assert!(!source.exists());
    assert_eq!(drained(&locus).await[0].1.len(), 3 << 20);
    // Others are told.
    let acme = locus.tenants().get("acme").await.unwrap();
    locus.pool().write(&acme, "x".repeat(3 << 20), WriteOptions::new()).await.unwrap();
    assert!(matches!(locus.sync().await, Err(Error::VolumeUnavailable { .. })));
    faults.heal();
    locus.shutdown().await.unwrap();
}

#[rstest]
#[case::in_the_data_directory("path", |dir: &Path| FileWatcherConfig::new(dir.join("data/inbox")).id("in").tenant("acme"))]
#[case::in_a_volume("path", |dir: &Path| FileWatcherConfig::new(dir.join("vol-001/acme")).id("in").tenant("acme"))]
#[case::around_a_volume("path", |dir: &Path| FileWatcherConfig::new(dir).id("in").tenant("acme"))]
#[case::no_tenant("tenant", |dir: &Path| FileWatcherConfig::new(dir.join("inbox")).id("in"))]
#[case::pattern("include", |dir: &Path| inbox(dir).include("{"))]
#[tokio::test]
async fn b86_a_watcher_that_cannot_be_stops_the_start_by_its_name(
    #[case] field: &str,
    #[case] bad: fn(&Path) -> FileWatcherConfig,
) {
    let temp = tempfile::tempdir().unwrap();
    let error = builder(temp.path()).add_file_watcher(bad(temp.path())).build().await.unwrap_err();
    assert_eq!(setting_of(&error), format!("watchers[in].{field}"));
    let locus = builder(temp.path()).build().await.unwrap(); // and left nothing behind that is in the way
    locus.shutdown().await.unwrap();
}

#[tokio::test]
async fn b86_the_directory_of_a_spare_volume_is_not_watched_nor_that_of_one_mounted_later() {
    let temp = tempfile::tempdir().unwrap();
    let mut settings = Settings::default();
    let spare = VolumeSettings::local(VolumeId::parse("spare").unwrap(), temp.path().join("spare"));
    settings.expansion.free_size_min = Some(1);
    settings.expansion.volumes = vec![spare];
    let locus = builder(temp.path()).settings(settings).data_dir(temp.path().join("data"));
    let locus = locus.add_file_watcher(inbox(temp.path())).build().await.unwrap();
    let watcher = FileWatcherConfig::new(temp.path().join("spare/deep")).id("new").tenant("acme");
    let error = locus.watchers().register(watcher).await.unwrap_err();
    assert_eq!(setting_of(&error), "watchers[new].path");

    scan(&locus).await;
    locus.pool().mount(LocalVolume::new("vol-2", temp.path().join("inbox"))).await.unwrap();
    let error = in_time("a scan", locus.watchers().scan_now("in")).await.unwrap_err();
    assert_eq!(setting_of(&error), "watchers[in].path");
    locus.shutdown().await.unwrap();
}

fn at_once(dir: &Path, folder: &str) -> FileWatcherConfig {
    let watcher = FileWatcherConfig::new(dir.join(folder)).id(folder.replace('/', "-")).tenant("acme");
    watcher.age_min(Duration::ZERO).stability_delay(Duration::ZERO)
}

async fn text_of(locus: &Locus, key: &FileKey) -> String {
    let acme = locus.tenants().get("acme").await.expect("a tenant");
    let content = locus.pool().read(&acme, key).await.expect("a confirmed file").bytes().await;
    String::from_utf8_lossy(&content.expect("a confirmed file")).into_owned()
}

#[tokio::test]
async fn b86_the_directories_of_the_members_of_a_mirror_are_not_watched() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path();
    let member = |name: &str| LocalVolume::new(name, dir.join(name));
    let mirror = locus::MirroredVolume::new("m").add_member(member("m1")).add_member(member("m2"));
    let locus = Locus::builder().data_dir(dir.join("data")).inline_content_max(0).add_tenant("acme");
    let locus = locus.add_volume(mirror).build().await.unwrap();
    let acme = locus.tenants().get("acme").await.unwrap();
    let key = locus.pool().write(&acme, "confirmed", WriteOptions::new()).await.unwrap();
    for watched in ["m1", "m2/acme"] {
        let error = locus.watchers().register(at_once(dir, watched)).await.unwrap_err();
        let text = error.to_string();
        assert!(text.contains("which is the store's own"), "not by its marker alone: {text}");
    }
    assert_eq!(text_of(&locus, &key).await, "confirmed");
    locus.shutdown().await.unwrap();
}

#[tokio::test]
async fn b86_a_volume_that_was_unmounted_is_not_eaten_and_not_watched() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path();
    fs::create_dir(dir.join("inbox")).unwrap();
    let locus = Locus::builder().data_dir(dir.join("data")).inline_content_max(0).add_tenant("acme");
    let locus = locus.add_file_watcher(at_once(dir, "inbox")).build().await.unwrap();
    let volume = || LocalVolume::new("vol-2", dir.join("inbox/vol-2"));
    let id = locus.pool().mount(volume()).await.unwrap();
    let acme = locus.tenants().get("acme").await.unwrap();
    let key = locus.pool().write(&acme, "confirmed", WriteOptions::new()).await.unwrap();
    locus.pool().unmount(&id).await.unwrap();
    // Without its marker it is known by its path alone.
    let (marker, hidden) = (dir.join("inbox/vol-2/.locus-volume"), dir.join("hidden"));
    for is_marked in [true, false] {
        if !is_marked {
            OsDisk.rename(&marker, &hidden).unwrap();
        }
        let scanned = in_time("a scan", locus.watchers().scan_now("inbox")).await.unwrap();
        assert_eq!((scanned.imported, scanned.discovered), (0, 0), "{scanned:?}");
        let error = locus.watchers().register(at_once(dir, "inbox/vol-2")).await.unwrap_err();
        assert_eq!(setting_of(&error), "watchers[inbox-vol-2].path");
    }
    OsDisk.rename(&hidden, &marker).unwrap();
    locus.pool().mount(volume()).await.unwrap();
    assert_eq!(text_of(&locus, &key).await, "confirmed");
    locus.shutdown().await.unwrap();

    // Nor in a later process, to which nobody names it: it was noted.
    OsDisk.rename(&marker, &hidden).unwrap();
    let locus = Locus::builder().data_dir(dir.join("data")).add_tenant("acme").build().await.unwrap();
    let error = locus.watchers().register(at_once(dir, "inbox/vol-2")).await.unwrap_err();
    assert!(error.to_string().contains("which is the store's own"), "{error}");
    locus.shutdown().await.unwrap();
}

#[tokio::test]
async fn b86_another_store_in_a_watched_folder_is_not_eaten() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path();
    fs::create_dir(dir.join("inbox")).unwrap();
    let theirs = Locus::builder().data_dir(dir.join("inbox/data")).add_tenant("acme");
    let theirs = theirs.add_volume(LocalVolume::new("vol-1", dir.join("inbox/vol-1")));
    theirs.build().await.unwrap().shutdown().await.unwrap();
    let locus = Locus::builder().data_dir(dir.join("data")).add_tenant("acme");
    let locus = locus.add_file_watcher(at_once(dir, "inbox")).build().await.unwrap();
    let scanned = in_time("a scan", locus.watchers().scan_now("inbox")).await.unwrap();
    assert_eq!((scanned.discovered, scanned.skipped.values().sum::<u64>()), (0, 2), "{scanned:?}");
    locus.shutdown().await.unwrap();
}

fn load(watchers: &str) -> Result<Settings, Error> {
    let temp = tempfile::tempdir().expect("a place for files");
    let path = temp.path().join("locus.toml");
    put(&path, watchers);
    Settings::load_with(&path, [])
}

#[test]
fn watchers_of_the_settings_are_read_with_paths_relative_to_the_file() {
    let text = "[[watchers]]\npath = \"in\"\nmulti_tenant = true\n\
        [[watchers]]\nid = \"scans\"\npath = \"/mnt/scans\"\ntenant = \"acme\"\nage_min = \"1m\"\nsize_max = \"1 GiB\"\n\
        after_import = \"move\"\nmove_to = \"done\"\n";
    let settings = load(text).unwrap();
    let [multi, scans] = &settings.watchers[..] else { panic!("{settings:?}") };
    assert!(multi.path.is_absolute() && multi.path.ends_with("in") && multi.multi_tenant);
    assert_eq!((scans.age_min, scans.size_max), (Duration::from_secs(60), Some(1 << 30)));
    assert!(scans.move_to.as_ref().is_some_and(|to| to.is_absolute() && to.ends_with("done")));
}

#[rstest]
#[case::no_tenant("path = \"in\"\nid = \"in\"", "watchers[in].tenant")]
#[case::no_folder("id = \"in\"\ntenant = \"acme\"", "watchers[in].path")]
#[case::nowhere(
    "path = \"in\"\nid = \"in\"\ntenant = \"acme\"\nafter_import = \"move\"",
    "watchers[in].after_import"
)]
#[case::not_moved("path = \"in\"\nid = \"in\"\ntenant = \"acme\"\nmove_to = \"x\"", "watchers[in].move_to")]
#[case::pattern("path = \"in\"\nid = \"in\"\ntenant = \"acme\"\nexclude = [\"{\"]", "watchers[in].exclude")]
#[case::unknown("path = \"in\"\ncolour = \"red\"", "watchers")]
fn b86_a_watcher_of_the_settings_that_cannot_be_is_refused_by_name(#[case] text: &str, #[case] name: &str) {
    let error = load(&format!("[[watchers]]\n{text}\n")).unwrap_err();
    assert_eq!(setting_of(&error), name);
}

#[tokio::test]
async fn b84_a_source_that_a_quota_refuses_waits_in_its_folder() {
    let temp = tempfile::tempdir().unwrap();
    let clock = ManualClock::new();
    let builder = builder(temp.path()).clock(clock.clone()).tenant_quota(1);
    let locus = builder.add_file_watcher(inbox(temp.path())).build().await.unwrap();
    put(&temp.path().join("inbox/a"), "a");
    put(&temp.path().join("inbox/b"), "b");
    let report = scan(&locus).await;
    assert_eq!(report.skipped.get(&SkipReason::Waiting), Some(&1), "{report:?}");
    assert_eq!(drained(&locus).await.len(), 1);
    locus.cleanup().settled().await.unwrap();
    clock.advance(Duration::from_secs(5));
    scan(&locus).await;
    assert_eq!(drained(&locus).await.len(), 1);
    assert_eq!(locus.watchers().list()[0].total.imported, 2);
    locus.shutdown().await.unwrap();
}

#[tokio::test]
async fn b87_watchers_stop_first_and_take_nothing_afterwards() {
    let temp = tempfile::tempdir().unwrap();
    let locus = builder(temp.path()).add_file_watcher(inbox(temp.path())).build().await.unwrap();
    scan(&locus).await;
    let watchers = locus.watchers().clone();
    locus.shutdown().await.unwrap();
    put(&temp.path().join("inbox/late"), "x");
    assert!(matches!(watchers.scan_now("in").await, Err(Error::ShuttingDown)));
    assert!(matches!(watchers.remove("in").await, Err(Error::ShuttingDown)));
    assert!(temp.path().join("inbox/late").exists());
}

#[tokio::test]
async fn a_backup_has_what_was_said_of_watchers_and_what_they_remember() {
    let temp = tempfile::tempdir().unwrap();
    let locus = builder(temp.path()).build().await.unwrap();
    locus.watchers().register(inbox(temp.path()).after_import(AfterImport::Keep)).await.unwrap();
    put(&temp.path().join("inbox/kept"), "x");
    scan(&locus).await;
    locus.backup(temp.path().join("backup")).await.unwrap();
    locus.shutdown().await.unwrap();

    let restored = Locus::builder()
        .data_dir(temp.path().join("backup"))
        .add_volume(LocalVolume::new("vol-001", temp.path().join("backup/volumes/vol-001")));
    let locus = restored.build().await.unwrap();
    assert_eq!(scan(&locus).await.skipped.get(&SkipReason::Imported), Some(&1));
    fs::remove_file(temp.path().join("inbox/kept")).unwrap();
    locus.shutdown().await.unwrap();
    let locus = Locus::builder().data_dir(temp.path().join("backup"));
    let volume = LocalVolume::new("vol-001", temp.path().join("backup/volumes/vol-001"));
    let locus = locus.add_volume(volume).build().await.unwrap();
    scan(&locus).await; // the ledger came along, so that what is gone is forgotten
    assert_eq!(drained(&locus).await.len(), 1);
    locus.cleanup().settled().await.unwrap();
    assert_eq!(locus.statistics().idempotency_keys, 0);
    locus.shutdown().await.unwrap();
}

/// The power goes at points all over the life of a store while the folder stays.
#[rstest]
#[case::durable(Durability::Durable)]
#[case::buffered(Durability::Buffered)]
#[tokio::test]
async fn b83_wherever_the_power_goes_every_source_is_in_the_store_or_in_its_folder_and_none_twice(
    #[case] durability: Durability,
) {
    const SOURCES: usize = 6;
    let mut crashes = 0;
    for at in (0..).step_by(3) {
        let temp = tempfile::tempdir().unwrap();
        let (disk, clock) = (SimDisk::new(at), ManualClock::new());
        let open = async || {
            let builder = Locus::builder().data_dir("/data").add_volume(LocalVolume::new("vol-1", "/vol-1"));
            let builder = builder.disk(disk.clone() as Arc<dyn Disk>).clock(clock.clone()).add_tenant("acme");
            builder
                .durability(durability)
                .inline_content_max(16)
                .segment_size(1 << 20)
                .landing_zone_max(4 << 20)
                .add_file_watcher(inbox(temp.path()))
                .build()
                .await
        };
        open().await.unwrap().shutdown().await.unwrap();
        for number in 0..SOURCES {
            let content = format!("{number}").repeat(if number % 2 == 0 { 3 } else { 300 });
            put(&temp.path().join(format!("inbox/{number}")), &content);
        }
        disk.crash_at(disk.ops() + at);
        if let Ok(locus) = open().await {
            let _ = locus.watchers().scan_now("in").await;
            let _ = locus.shutdown().await;
        }
        let crashed = disk.is_down();
        disk.crash();
        let locus = open().await.unwrap();
        scan(&locus).await;
        let files = drained(&locus).await;
        let names: Vec<_> = files.iter().map(|(name, _)| name.clone()).collect();
        assert_eq!(names, (0..SOURCES).map(|n| n.to_string()).collect::<Vec<_>>(), "crash at {at}");
        assert_eq!(fs::read_dir(temp.path().join("inbox")).unwrap().count(), 0, "crash at {at}");
        locus.shutdown().await.unwrap();
        if !crashed {
            break;
        }
        crashes += 1;
    }
    assert!(crashes > 5, "only {crashes} crashes");
}
