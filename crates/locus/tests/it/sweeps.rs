//! The sweep jobs over a store, its pool and real volumes.
#![expect(clippy::unwrap_used, reason = "helpers of tests may panic as tests may")]

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::Duration,
};

use locus::{
    CleanupStatistics, Clock, Disk, GivenUpPolicy, MissingPolicy, OrphanPolicy, OsDisk, Sweep, VerifyLevel,
    prelude::*,
};
use locus_testkit::ManualClock;
use rstest::rstest;
use tokio::sync::Notify;

use crate::support::{builder, in_time, open_with, until, write};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// Nothing runs by itself but the reaper and the expirer.
fn by_hand() -> Settings {
    let mut settings = Settings::default();
    let cleanup = &mut settings.cleanup;
    for enabled in [
        &mut cleanup.permanently_failed.enabled,
        &mut cleanup.dead_letters.enabled,
        &mut cleanup.orphans.enabled,
        &mut cleanup.leftovers.enabled,
        &mut cleanup.missing.enabled,
        &mut cleanup.empty_directories.enabled,
        &mut cleanup.store.enabled,
    ] {
        *enabled = false;
    }
    settings.retry.max_retries = 1;
    settings.journal.inline_content_max = 0;
    settings
}

async fn open(dir: &Path, settings: Settings) -> (Locus, TenantContext, Arc<ManualClock>) {
    let clock = ManualClock::new();
    let (locus, acme) =
        open_with(builder(dir).settings(settings).clock(Arc::clone(&clock) as Arc<dyn Clock>)).await;
    (locus, acme, clock)
}

/// Takes the next file and fails it for the last time.
async fn give_up(locus: &Locus, tenant: &TenantContext) -> FileKey {
    let file = locus.scheduler().next(tenant).await.unwrap().unwrap();
    locus.scheduler().fail(&file.lease, "no good").await.unwrap();
    assert_eq!(locus.scheduler().status(tenant, &file.key).await.unwrap(), FileStatus::PermanentlyFailed);
    file.key
}

async fn path(locus: &Locus, tenant: &TenantContext, key: &FileKey) -> PathBuf {
    locus.pool().location(tenant, key).await.unwrap().unwrap().physical_path.unwrap()
}

/// A copy of a file's blob under a key that no record has.
async fn orphan(locus: &Locus, tenant: &TenantContext, key: &FileKey) -> PathBuf {
    let kept = path(locus, tenant, key).await;
    let name = kept.file_name().unwrap().to_str().unwrap();
    // In the random part, and not in the digits that name the shard.
    let digit = if &name[30..31] == "a" { "b" } else { "a" };
    let changed = format!("{}{digit}{}", &name[..30], &name[31..]);
    let orphan = kept.with_file_name(changed);
    fs::copy(&kept, &orphan).unwrap();
    orphan
}

#[rstest]
#[case(GivenUpPolicy::Keep, FileStatus::PermanentlyFailed)]
#[case(GivenUpPolicy::DeadLetter, FileStatus::DeadLettered)]
#[case(GivenUpPolicy::Delete, FileStatus::Deleted)]
#[tokio::test]
async fn b76_what_failed_for_good_stays_for_its_retention_and_then_goes_where_the_policy_says(
    #[case] policy: GivenUpPolicy,
    #[case] becomes: FileStatus,
) {
    let temp = tempfile::tempdir().unwrap();
    let mut settings = by_hand();
    settings.cleanup.permanently_failed.policy = policy;
    let (locus, acme, clock) = open(temp.path(), settings).await;
    write(&locus, &acme, "bad").await;
    let key = give_up(&locus, &acme).await;
    clock.advance(7 * DAY - Duration::from_millis(1));
    let done = locus.cleanup().permanently_failed().await.unwrap();
    assert_eq!((done.dead_lettered, done.permanently_failed_removed), (0, 0));
    clock.advance(Duration::from_millis(1));
    let expected =
        (u64::from(policy == GivenUpPolicy::DeadLetter), u64::from(policy == GivenUpPolicy::Delete));
    let numbers = |done: &CleanupStatistics| (done.dead_lettered, done.permanently_failed_removed);
    let counted = locus.cleanup().dry_run().permanently_failed().await.unwrap();
    assert_eq!(numbers(&counted), expected);
    assert_eq!(locus.scheduler().status(&acme, &key).await.unwrap(), FileStatus::PermanentlyFailed);

    let beta = TenantId::parse("beta").unwrap();
    let other = locus.cleanup().for_tenant(&beta).permanently_failed().await.unwrap();
    assert_eq!(numbers(&other), (0, 0));
    let done = locus.cleanup().for_tenant(acme.id()).permanently_failed().await.unwrap();
    assert_eq!(numbers(&done), expected);
    assert_eq!(numbers(&locus.cleanup().permanently_failed().await.unwrap()), (0, 0));
    if becomes == FileStatus::Deleted {
        locus.cleanup().settled().await.unwrap();
        assert!(locus.pool().info(&acme, &key).await.unwrap().is_none());
    } else {
        assert_eq!(locus.scheduler().status(&acme, &key).await.unwrap(), becomes);
        assert_eq!(
            path(&locus, &acme, &key).await.iter().any(|part| part == ".deadletter"),
            becomes == FileStatus::DeadLettered
        );
    }
    let counts = u64::from(becomes == FileStatus::PermanentlyFailed);
    assert_eq!(locus.quotas().count(&Scope::Tenant(acme.id().clone())), counts, "dead letters do not count");
    locus.shutdown().await.unwrap();
}

#[tokio::test]
async fn b76_dead_letters_are_purged_after_a_retention_of_their_own_also_by_themselves() {
    let temp = tempfile::tempdir().unwrap();
    let mut settings = by_hand();
    settings.cleanup.permanently_failed.enabled = true;
    settings.cleanup.permanently_failed.retention = Duration::ZERO;
    settings.cleanup.dead_letters.enabled = true;
    settings.cleanup.dead_letters.retention = Some(2 * DAY);
    let (locus, acme, clock) = open(temp.path(), settings).await;
    write(&locus, &acme, "bad").await;
    let key = give_up(&locus, &acme).await;
    let is = async |status: Option<FileStatus>| {
        let found = locus.pool().info(&acme, &key).await.unwrap();
        found.map(|info| info.status) == status
    };
    clock.advance(DAY / 24);
    in_time("the schedule", until("a dead letter", || is(Some(FileStatus::DeadLettered)))).await;
    assert_eq!(locus.cleanup().dead_letters().await.unwrap().dead_letters_removed, 0);
    clock.advance(2 * DAY);
    in_time("the schedule", until("its end", || is(None))).await;
    locus.cleanup().settled().await.unwrap();
    assert_eq!(locus.cleanup().statistics().dead_letters_removed, 1);
    let ran = locus.cleanup().runs();
    assert!(ran.iter().any(|run| run.sweep == Sweep::DeadLetters && run.error.is_none()), "{ran:?}");
    locus.shutdown().await.unwrap();
}

#[tokio::test]
async fn b75_one_that_cannot_be_moved_stops_nobody_behind_it() {
    let temp = tempfile::tempdir().unwrap();
    let mut settings = by_hand();
    settings.cleanup.permanently_failed.batch = 2;
    let (locus, acme, clock) = open(temp.path(), settings).await;
    for _ in 0..9 {
        write(&locus, &acme, "bad").await;
    }
    let mut keys = Vec::new();
    for _ in 0..9 {
        keys.push(give_up(&locus, &acme).await);
    }
    clock.advance(7 * DAY);
    let stubborn = path(&locus, &acme, &keys[3]).await;
    let aside = temp.path().join("aside");
    OsDisk.rename(&stubborn, &aside).unwrap(); // its bytes are not where they should be
    let steps = Arc::new(Mutex::new(Vec::new()));
    let told = Arc::clone(&steps);
    let cleanup =
        locus.cleanup().on_progress(move |done| told.lock().unwrap().push(done.dead_lettered + done.errors));
    let done = cleanup.permanently_failed().await.unwrap();
    assert_eq!((done.dead_lettered, done.errors, done.failures.len()), (8, 1, 1), "{done:?}");
    assert_eq!(done.failures[0].place, format!("acme/{}", keys[3]));
    let steps = steps.lock().unwrap().clone();
    assert!(steps.len() >= 5 && steps.is_sorted() && steps.last() == Some(&9), "{steps:?}");
    OsDisk.rename(&aside, &stubborn).unwrap();
    assert_eq!(locus.cleanup().permanently_failed().await.unwrap().dead_lettered, 1);
    locus.shutdown().await.unwrap();
}

#[rstest]
#[tokio::test]
async fn b70_an_old_orphan_goes_where_the_policy_says_and_a_second_run_finds_none(
    #[values(OrphanPolicy::Quarantine, OrphanPolicy::Delete, OrphanPolicy::Import)] policy: OrphanPolicy,
) {
    let temp = tempfile::tempdir().unwrap();
    let mut settings = by_hand();
    settings.cleanup.orphans.policy = policy;
    let (locus, acme, clock) = open(temp.path(), settings).await;
    let key = locus.pool().write(&acme, "kept", WriteOptions::new().original_name("a.txt")).await.unwrap();
    let orphan = orphan(&locus, &acme, &key).await;
    let numbers = |done: CleanupStatistics| {
        (done.orphans_quarantined, done.orphans_removed, done.orphans_imported, done.errors)
    };
    clock.advance(DAY - Duration::from_millis(1));
    assert_eq!(numbers(locus.cleanup().orphans().await.unwrap()), (0, 0, 0, 0), "it is too young");
    clock.advance(Duration::from_millis(1));
    let expected = match policy {
        OrphanPolicy::Quarantine => (1, 0, 0, 0),
        OrphanPolicy::Delete => (0, 1, 0, 0),
        OrphanPolicy::Import => (0, 0, 1, 0),
    };
    assert_eq!(numbers(locus.cleanup().dry_run().orphans().await.unwrap()), expected);
    assert!(orphan.exists());
    assert_eq!(numbers(locus.cleanup().orphans().await.unwrap()), expected);
    assert_eq!(orphan.exists(), policy == OrphanPolicy::Import);
    assert_eq!(numbers(locus.cleanup().leftovers().await.unwrap()), (0, 0, 0, 0));

    let files = 1 + u64::from(policy == OrphanPolicy::Import);
    assert_eq!(locus.quotas().count(&Scope::Tenant(acme.id().clone())), files, "charged once");
    let mut contents = Vec::new();
    while let Some(file) = locus.scheduler().next(&acme).await.unwrap() {
        contents.push(locus.pool().read(&file.tenant, &file.key).await.unwrap().bytes().await.unwrap());
        locus.scheduler().complete(&file.lease).await.unwrap();
    }
    assert_eq!(contents, vec!["kept"; files as usize]);
    locus.cleanup().settled().await.unwrap();

    let mount = temp.path().join("vol-001");
    let quarantined = mount.join(".quarantine").join(orphan.strip_prefix(&mount).unwrap());
    assert_eq!(quarantined.exists(), policy == OrphanPolicy::Quarantine);
    clock.advance(365 * DAY);
    assert_eq!(numbers(locus.cleanup().leftovers().await.unwrap()), (0, 0, 0, 0));
    assert_eq!(
        quarantined.exists(),
        policy == OrphanPolicy::Quarantine,
        "it stays until somebody removes it"
    );
    assert!(locus.verify(VerifyLevel::Contents).await.unwrap().findings.is_empty());
    locus.shutdown().await.unwrap();
}

/// A run that was killed between the two names left both; another blob of that key is no copy.
#[tokio::test]
async fn b79_what_lies_in_quarantine_already_is_believed_only_when_it_is_the_same() {
    let temp = tempfile::tempdir().unwrap();
    let (locus, acme, clock) = open(temp.path(), by_hand()).await;
    let key = write(&locus, &acme, "kept").await;
    let orphan = orphan(&locus, &acme, &key).await;
    let mount = temp.path().join("vol-001");
    let quarantined = mount.join(".quarantine").join(orphan.strip_prefix(&mount).unwrap());
    fs::create_dir_all(quarantined.parent().unwrap()).unwrap();
    fs::copy(mount.join(".locus-volume"), &quarantined).unwrap();
    clock.advance(DAY);
    let done = locus.cleanup().orphans().await.unwrap();
    assert_eq!((done.orphans_quarantined, done.errors), (0, 1), "{done:?}");
    assert!(orphan.exists());
    fs::copy(&orphan, &quarantined).unwrap();
    let done = locus.cleanup().orphans().await.unwrap();
    assert_eq!((done.orphans_quarantined, done.errors), (1, 0), "{done:?}");
    assert!(!orphan.exists() && fs::read(&quarantined).unwrap() == b"kept");
    locus.shutdown().await.unwrap();
}

#[tokio::test]
async fn b70_an_orphan_for_which_there_is_no_room_waits_for_it() {
    let temp = tempfile::tempdir().unwrap();
    let mut settings = by_hand();
    settings.cleanup.orphans.policy = OrphanPolicy::Import;
    settings.quotas.tenant = Some(1);
    let (locus, acme, clock) = open(temp.path(), settings).await;
    let key = write(&locus, &acme, "kept").await;
    orphan(&locus, &acme, &key).await;
    clock.advance(DAY);
    let refused = locus.cleanup().orphans().await.unwrap();
    assert_eq!((refused.orphans_imported, refused.errors), (0, 1));
    assert!(refused.failures[0].error.contains("is full"), "{refused:?}");
    locus.pool().delete(&acme, &key).await.unwrap();
    locus.cleanup().settled().await.unwrap();
    assert_eq!(locus.cleanup().orphans().await.unwrap().orphans_imported, 1);
    assert_eq!(locus.quotas().count(&Scope::Tenant(acme.id().clone())), 1);
    locus.shutdown().await.unwrap();
}

#[tokio::test]
async fn b71_orphans_of_nobody_of_the_disabled_and_of_earlier_ones_are_left_alone() {
    let temp = tempfile::tempdir().unwrap();
    let (locus, acme, clock) = open(temp.path(), by_hand()).await;
    let key = write(&locus, &acme, "kept").await;
    let ours = orphan(&locus, &acme, &key).await;
    let mount = temp.path().join("vol-001");
    let below = ours.strip_prefix(mount.join("acme")).unwrap().to_owned();
    let mut skipped = Vec::new();
    for owner in ["nobody", "acme+00000007"] {
        let path = mount.join(owner).join(&below);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::copy(&ours, &path).unwrap();
        skipped.push(path);
    }
    clock.advance(DAY);
    locus.tenants().disable("acme").await.unwrap();
    let done = locus.cleanup().orphans().await.unwrap();
    assert_eq!((done.orphans_quarantined, done.orphans_skipped), (0, 3));
    locus.tenants().enable("acme").await.unwrap();
    let done = locus.cleanup().orphans().await.unwrap();
    assert_eq!((done.orphans_quarantined, done.orphans_skipped), (1, 2));
    assert!(skipped.iter().all(|path| path.exists()) && !ours.exists());
    assert!(locus.tenants().try_get("nobody").await.unwrap().is_none(), "no tenant is created");
    locus.shutdown().await.unwrap();
}

#[rstest]
#[tokio::test]
async fn b73_a_record_goes_only_when_its_bytes_are_certainly_gone(
    #[values(MissingPolicy::Report, MissingPolicy::Remove)] policy: MissingPolicy,
) {
    let temp = tempfile::tempdir().unwrap();
    let mut settings = by_hand();
    settings.cleanup.missing.policy = policy;
    let (locus, acme, _) = open(temp.path(), settings).await;
    let keys =
        [write(&locus, &acme, "a").await, write(&locus, &acme, "b").await, write(&locus, &acme, "c").await];
    let leased = locus.scheduler().lease_key(&acme, &keys[2]).await.unwrap();
    let mount = temp.path().join("vol-001");
    let marker = mount.join(".locus-volume");
    for key in &keys[1..] {
        fs::remove_file(path(&locus, &acme, key).await).unwrap();
    }
    // The volume that is mounted there is not the one that it was: nothing is believed of it.
    let aside = temp.path().join("marker");
    OsDisk.rename(&marker, &aside).unwrap();
    let done = locus.cleanup().missing().await.unwrap();
    assert_eq!((done.missing_found, done.missing_removed), (0, 0));
    assert!(done.errors > 0);
    OsDisk.rename(&aside, &marker).unwrap();
    locus.pool().probe_all().await;

    assert_eq!(locus.cleanup().dry_run().missing().await.unwrap().missing_found, 2);
    let removed = u64::from(policy == MissingPolicy::Remove);
    let done = locus.cleanup().missing().await.unwrap();
    assert_eq!((done.missing_found, done.missing_removed), (2, removed), "a leased file is not removed");
    let found = locus.verify(VerifyLevel::Contents).await.unwrap().findings.len() as u64;
    assert_eq!(found, 2 - removed);
    assert!(locus.pool().read(&acme, &keys[0]).await.is_ok());
    locus.scheduler().release(&leased.lease).await.unwrap();
    let done = locus.cleanup().missing().await.unwrap();
    assert_eq!(done.missing_removed, removed);
    locus.cleanup().settled().await.unwrap();
    let left = 3 - 2 * removed;
    assert_eq!(locus.quotas().count(&Scope::Tenant(acme.id().clone())), left);
    locus.shutdown().await.unwrap();
}

/// Each process runs each job once, for a fraction of what there is.
#[tokio::test]
async fn b79_jobs_with_a_budget_go_on_over_restarts_until_they_have_seen_everything() {
    let temp = tempfile::tempdir().unwrap();
    let mut settings = by_hand();
    let cleanup = &mut settings.cleanup;
    (cleanup.orphans.age, cleanup.orphans.policy) = (Duration::ZERO, OrphanPolicy::Delete);
    (cleanup.orphans.batch, cleanup.orphans.budget) = (4, 12);
    (cleanup.missing.batch, cleanup.missing.budget) = (4, 12);
    let (locus, acme, _) = open(temp.path(), settings.clone()).await;
    let mut files = Vec::new();
    for _ in 0..60 {
        let key = write(&locus, &acme, "kept").await;
        files.push((path(&locus, &acme, &key).await, key));
    }
    fs::remove_file(&files.last().unwrap().0).unwrap();
    files.pop();
    orphan(&locus, &acme, &files.iter().max().unwrap().1).await;
    locus.shutdown().await.unwrap();
    let note = temp.path().join("data").join("sweeps");
    let (mut seen, mut removed, mut found) = (0, 0, 0);
    while (removed, found) != (1, 1) {
        seen += 1;
        assert!(seen <= 6, "the last one was not looked at: {removed} {found}");
        let (locus, _, _) = open(temp.path(), settings.clone()).await;
        found += locus.cleanup().missing().await.unwrap().missing_found;
        assert_eq!(note.exists(), seen < 6, "also when the process is killed now");
        removed += locus.cleanup().orphans().await.unwrap().orphans_removed;
        locus.shutdown().await.unwrap();
        assert_eq!(note.exists(), seen < 6);
    }
}

#[tokio::test]
async fn b79_a_run_that_the_end_of_the_process_cuts_off_is_gone_on_with() {
    let temp = tempfile::tempdir().unwrap();
    let mut settings = by_hand();
    settings.cleanup.orphans.batch = 1;
    let (locus, acme, _) = open(temp.path(), settings).await;
    for _ in 0..20 {
        write(&locus, &acme, "kept").await;
    }
    let (began, note) = (Arc::new(Notify::new()), temp.path().join("data").join("sweeps"));
    let tell = Arc::clone(&began);
    let cleanup = locus.cleanup().on_progress(move |_| tell.notify_one());
    tokio::select! {
        biased;
        () = began.notified() => {}
        done = cleanup.orphans() => panic!("in one go: {done:?}"),
    }
    assert!(!note.exists());
    locus.shutdown().await.unwrap();
    assert!(note.exists());
}

#[tokio::test]
async fn b79_leftovers_of_one_tenant_go_and_those_of_others_stay() {
    let temp = tempfile::tempdir().unwrap();
    let mut settings = by_hand();
    (settings.cleanup.orphans.age, settings.cleanup.orphans.policy) = (Duration::ZERO, OrphanPolicy::Delete);
    let clock = ManualClock::new();
    let builder = builder(temp.path()).settings(settings).clock(Arc::clone(&clock) as Arc<dyn Clock>);
    let (locus, acme) = open_with(builder.add_tenant("beta")).await;
    let beta = locus.tenants().get("beta").await.unwrap();
    for tenant in [&acme, &beta] {
        let upload = locus.pool().upload(tenant, UploadOptions::new(10)).await.unwrap();
        upload.write_at(0, "hello").await.unwrap();
        let key = write(&locus, tenant, "kept").await;
        orphan(&locus, tenant, &key).await;
    }
    clock.advance(30 * DAY);
    let numbers =
        |done: CleanupStatistics| (done.uploads_expired, done.staging_removed, done.orphans_removed);
    let of_acme = || locus.cleanup().for_tenant(acme.id());
    assert_eq!(
        numbers(of_acme().dry_run().leftovers().await.unwrap()),
        (1, 0, 1),
        "staged as long as it is no leftover"
    );
    assert_eq!(numbers(of_acme().leftovers().await.unwrap()), (1, 1, 1));
    assert_eq!(numbers(of_acme().leftovers().await.unwrap()), (0, 0, 0));
    assert_eq!(numbers(locus.cleanup().leftovers().await.unwrap()), (1, 1, 1), "what is beta's");
    locus.shutdown().await.unwrap();
}

#[tokio::test]
async fn b80_the_store_is_not_optimised_for_one_tenant() {
    let temp = tempfile::tempdir().unwrap();
    let mut settings = by_hand();
    settings.cleanup.store.enabled = true;
    let (locus, acme, _) = open(temp.path(), settings).await;
    let of_acme = || locus.cleanup().for_tenant(acme.id());
    let refused = of_acme().optimise_store().await.unwrap_err();
    assert!(matches!(refused, Error::InvalidArgument { name: "tenant", .. }), "{refused}");
    assert_eq!(of_acme().run_all().await.unwrap().store_bytes_before, 0, "it is left out");
    assert!(locus.cleanup().run_all().await.unwrap().store_bytes_before > 0);
    locus.shutdown().await.unwrap();
}

#[tokio::test]
async fn b78_empty_directories_and_junk_go_when_asked_for() {
    let temp = tempfile::tempdir().unwrap();
    let mut settings = by_hand();
    settings.cleanup.empty_directories.protected = vec!["other/*".into()];
    let (locus, acme, _) = open(temp.path(), settings).await;
    let key = write(&locus, &acme, "a").await;
    let shard = path(&locus, &acme, &key).await.parent().unwrap().to_owned();
    let mount = temp.path().join("vol-001");
    for protected in ["other/00", "other/01"] {
        fs::create_dir_all(mount.join(protected)).unwrap();
    }
    fs::copy(mount.join(".locus-volume"), shard.join("Thumbs.db")).unwrap();
    locus.pool().delete(&acme, &key).await.unwrap();
    locus.cleanup().settled().await.unwrap();
    assert_eq!(locus.cleanup().empty_directories().await.unwrap().empty_directories_removed, 0);
    assert_eq!(locus.cleanup().dry_run().junk().await.unwrap().junk_removed, 1);
    assert_eq!(locus.cleanup().for_tenant(acme.id()).junk().await.unwrap().junk_removed, 1);
    assert_eq!(locus.cleanup().dry_run().empty_directories().await.unwrap().empty_directories_removed, 1);
    assert_eq!(locus.cleanup().run_all().await.unwrap().empty_directories_removed, 0, "it is not enabled");
    assert_eq!(locus.cleanup().empty_directories().await.unwrap().empty_directories_removed, 1);
    assert!(!shard.exists() && mount.join("acme").exists() && mount.join("other/01").exists());
    let again = write(&locus, &acme, "b").await;
    assert!(path(&locus, &acme, &again).await.exists());
    locus.shutdown().await.unwrap();
}

#[tokio::test]
async fn b80_optimising_the_store_tells_what_it_took_before_and_takes_now() {
    let temp = tempfile::tempdir().unwrap();
    let mut settings = by_hand();
    settings.journal.inline_content_max = 64 << 10;
    settings.journal.segment_size = 1 << 20;
    let (locus, acme, _) = open(temp.path(), settings).await;
    for _ in 0..100 {
        let content = vec![7; 60_000];
        let key = locus.pool().write(&acme, content, WriteOptions::new()).await.unwrap();
        locus.pool().delete(&acme, &key).await.unwrap();
    }
    locus.cleanup().settled().await.unwrap();
    let done = locus.cleanup().optimise_store().await.unwrap();
    // How much it is depends on what the checkpoints that were due by themselves have left.
    assert!(done.store_bytes_before > done.store_bytes_after && done.store_bytes_after > 0, "{done:?}");
    assert_eq!(done.space_freed, done.store_bytes_before - done.store_bytes_after);
    assert_eq!(locus.cleanup().statistics().store_bytes_after, done.store_bytes_after);
    locus.shutdown().await.unwrap();
}

#[rstest]
#[case::interval("[cleanup]\norphans.interval = \"0s\"", "cleanup.orphans.interval")]
#[case::batch("[cleanup]\nmissing.batch = 0", "cleanup.missing.batch")]
#[case::budget("[cleanup]\norphans.budget = 0", "cleanup.orphans.budget")]
#[case::pattern("[cleanup]\nempty_directories.protected = [\"a[\"]", "cleanup.empty_directories.protected")]
#[case::junk("[cleanup]\njunk.names = [\"a/b\"]", "cleanup.junk.names")]
#[case::retention("[cleanup]\npermanently_failed.retention = \"-1s\"", "retention")]
#[case::window("[cleanup]\nstore.window = \"25:00-26:00\"", "window")]
#[case::policy("[cleanup]\norphans.policy = \"burn\"", "policy")]
#[case::root("[cleanup]\ndead_letters.root = \"/elsewhere\"", "root")]
fn b86_what_cannot_be_swept_by_is_refused_by_its_name(#[case] text: &str, #[case] name: &str) {
    let temp = tempfile::tempdir().unwrap();
    let file = temp.path().join("locus.toml");
    std::io::Write::write_all(&mut fs::File::create(&file).unwrap(), text.as_bytes()).unwrap();
    let refused = Settings::load(&file).and_then(|settings| settings.check()).unwrap_err();
    let said = format!("{refused} {:?}", std::error::Error::source(&refused));
    assert!(matches!(refused, Error::InvalidSetting { .. }) && said.contains(name), "{said}");
}

#[tokio::test]
async fn opened_to_do_one_thing_nothing_is_tidied_and_nothing_taken_in_unasked() {
    let temp = tempfile::tempdir().unwrap();
    let (locus, acme, _) = open(temp.path(), by_hand()).await;
    let key = write(&locus, &acme, "kept").await;
    let orphan = orphan(&locus, &acme, &key).await;
    let inbox = temp.path().join("inbox");
    fs::create_dir(&inbox).unwrap();
    let watcher = FileWatcherConfig::new(&inbox).id("in").tenant("acme").age_min(Duration::ZERO);
    let watcher = watcher.stability_delay(Duration::ZERO);
    locus.watchers().register(watcher).await.unwrap();
    locus.shutdown().await.unwrap();
    fs::copy(&orphan, inbox.join("source")).unwrap();

    let mut settings = Settings::default(); // all sweeps on, of which some are due at once
    settings.cleanup.orphans.age = Duration::ZERO;
    let clock = ManualClock::new();
    clock.advance(DAY);
    let builder = builder(temp.path()).settings(settings).clock(clock as Arc<dyn Clock>).on_request();
    let (locus, _) = open_with(builder).await;
    for _ in 0..3 {
        // Runs of one job take turns: one that had begun by itself would have its turn between two of these.
        let counted = locus.cleanup().dry_run().orphans().await.unwrap();
        assert_eq!(counted.orphans_quarantined, 1);
    }
    assert!(orphan.exists() && inbox.join("source").exists());
    assert_eq!(locus.watchers().look("in").await.unwrap().imported, 1);
    assert_eq!(locus.cleanup().orphans().await.unwrap().orphans_quarantined, 1);
    assert!(!orphan.exists() && !inbox.join("source").exists());
    locus.shutdown().await.unwrap();
}

#[tokio::test]
async fn progress_of_several_jobs_never_goes_back() {
    let temp = tempfile::tempdir().unwrap();
    let mut settings = by_hand();
    settings.cleanup.permanently_failed.enabled = true;
    settings.cleanup.orphans.enabled = true;
    settings.cleanup.orphans.age = Duration::ZERO;
    let clock = ManualClock::new();
    let builder = builder(temp.path()).settings(settings).clock(Arc::clone(&clock) as Arc<dyn Clock>);
    let (locus, acme) = open_with(builder.on_request()).await;
    for _ in 0..2 {
        write(&locus, &acme, "bad").await;
        give_up(&locus, &acme).await;
    }
    let key = write(&locus, &acme, "kept").await;
    orphan(&locus, &acme, &key).await;
    clock.advance(7 * DAY);
    let steps = Arc::new(Mutex::new(Vec::new()));
    let told = Arc::clone(&steps);
    let cleanup = locus.cleanup().on_progress(move |done| {
        told.lock().unwrap().push((done.dead_lettered, done.orphans_quarantined));
    });
    cleanup.run_all().await.unwrap();
    let steps = steps.lock().unwrap().clone();
    assert!(steps.is_sorted() && steps.last() == Some(&(2, 1)), "{steps:?}");
    locus.shutdown().await.unwrap();
}
