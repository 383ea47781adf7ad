//! `locus.dead_letters()`: shown, brought back, purged.

#![expect(clippy::unwrap_used, reason = "helpers of tests may panic as tests may")]

use std::{path::Path, time::Duration};

use locus::{Builder, prelude::*};
use rstest::rstest;

use crate::support::{builder, open_with};

/// The first failure is the last.
fn strict(dir: &Path) -> Builder {
    builder(dir).retry_policy(RetryPolicy { max_retries: 1, ..RetryPolicy::default() })
}

/// A dead letter of this content, name and directory, with the error that its worker said.
async fn dead(locus: &Locus, acme: &TenantContext, name: &str, directory: &str, error: &str) -> FileKey {
    let options = WriteOptions::new().original_name(name).directory(directory);
    let key = locus.pool().write(acme, name, options).await.unwrap();
    let file = locus.scheduler().next(acme).await.unwrap().unwrap();
    assert_eq!(file.key, key);
    locus.scheduler().fail(&file.lease, error).await.unwrap();
    assert!(locus.pool().dead_letter(acme.id(), &key).await.unwrap());
    key
}

async fn listed(locus: &Locus, acme: &TenantContext, max: usize) -> Vec<FileKey> {
    let (mut keys, mut from) = (Vec::new(), None);
    loop {
        let page = locus.dead_letters().list(acme, from, max).await.unwrap();
        keys.extend(page.letters.iter().map(|letter| letter.info.key));
        from = page.next;
        if from.is_none() {
            return keys;
        }
    }
}

#[rstest]
#[tokio::test]
async fn b76_dead_letters_are_listed_shown_and_read(#[values(1, 2, 99)] max: usize) {
    let dir = tempfile::tempdir().unwrap();
    let (locus, acme) = open_with(strict(dir.path())).await;
    let first = dead(&locus, &acme, "a.txt", "/in", "no such page").await;
    let second = dead(&locus, &acme, "b.txt", "/", "time-out").await;
    let waits = locus.pool().write(&acme, "waits", WriteOptions::new()).await.unwrap();
    assert_eq!(locus.dead_letters().tenants(), [acme.id().clone()]);
    assert_eq!(listed(&locus, &acme, max).await, [first, second]);
    let shown = locus.dead_letters().info(&acme, &first).await.unwrap().unwrap();
    assert_eq!(shown.last_error.as_deref(), Some("no such page"));
    assert!(shown.physical_path.unwrap().starts_with(dir.path().join("vol-001/.deadletter/acme")));
    assert_eq!(locus.pool().read(&acme, &first).await.unwrap().bytes().await.unwrap(), "a.txt");
    assert_eq!(locus.dead_letters().info(&acme, &waits).await.unwrap(), None);
    assert_eq!(locus.counts()[acme.id()].dead_lettered, 2);
    locus.shutdown().await.unwrap();
}

#[tokio::test]
async fn b41_a_dead_letter_is_requeued_and_processed() {
    let dir = tempfile::tempdir().unwrap();
    let (locus, acme) = open_with(strict(dir.path())).await;
    let [by_key, by_reset] =
        [dead(&locus, &acme, "a.txt", "/", "no").await, dead(&locus, &acme, "b.txt", "/", "no").await];
    locus.dead_letters().requeue(&acme, &by_key).await.unwrap();
    locus.scheduler().reset(&acme, &by_reset).await.unwrap();
    let again = locus.dead_letters().requeue(&acme, &by_key).await;
    assert!(matches!(again, Err(Error::WrongStatus { status: FileStatus::Pending, .. })));
    for expected in [by_key, by_reset] {
        let file = locus.scheduler().next(&acme).await.unwrap().unwrap();
        assert_eq!((file.key, file.attempt, file.retry_count), (expected, 1, 0));
        locus.scheduler().complete(&file.lease).await.unwrap();
    }
    locus.cleanup().settled().await.unwrap();
    assert_eq!((locus.counts().get(acme.id()), listed(&locus, &acme, 9).await), (None, vec![]));
    locus.shutdown().await.unwrap();
}

#[tokio::test]
async fn b41_what_a_filter_lets_through_is_counted_first_and_requeued_then() {
    let dir = tempfile::tempdir().unwrap();
    let (locus, acme) = open_with(strict(dir.path())).await;
    let broken = dead(&locus, &acme, "a.pdf", "/in/2026", "time-out while reading").await;
    let others = [
        dead(&locus, &acme, "b.pdf", "/in/2026", "no such page").await,
        dead(&locus, &acme, "c.pdf", "/out", "time-out while reading").await,
    ];
    let filter = DeadLetterFilter::new().directory("/in").unwrap().error_contains("time-out");
    assert_eq!(locus.dead_letters().count(&acme, &filter).await.unwrap(), 1);
    assert_eq!(listed(&locus, &acme, 9).await.len(), 3, "counting changes nothing");
    let report = locus.dead_letters().requeue_all(&acme, &filter).await.unwrap();
    assert_eq!((report.requeued, report.failed), (1, 0));
    assert_eq!(locus.scheduler().status(&acme, &broken).await.unwrap(), FileStatus::Pending);
    assert_eq!(listed(&locus, &acme, 9).await, others);
    locus.shutdown().await.unwrap();
}

#[tokio::test]
async fn b41_b49_those_that_find_no_room_are_counted_and_passed_by() {
    let dir = tempfile::tempdir().unwrap();
    let (locus, acme) = open_with(strict(dir.path())).await;
    for number in 0..3 {
        dead(&locus, &acme, &format!("{number}.txt"), "/", "no").await;
    }
    locus.quotas().set_limit(Scope::Tenant(acme.id().clone()), Limit::Files(2)).await.unwrap();
    let report = locus.dead_letters().requeue_all(&acme, &DeadLetterFilter::new()).await.unwrap();
    assert_eq!((report.requeued, report.failed), (2, 1));
    assert!(matches!(report.first_failure, Some(Error::TenantQuotaExceeded { used: 2, limit: 2, .. })));
    assert_eq!(listed(&locus, &acme, 9).await.len(), 1);
    locus.shutdown().await.unwrap();
}

#[tokio::test]
async fn b76_dead_letters_are_purged_one_or_all_that_are_old_enough() {
    let dir = tempfile::tempdir().unwrap();
    let (locus, acme) = open_with(strict(dir.path())).await;
    let one = dead(&locus, &acme, "a.txt", "/", "no").await;
    let other = dead(&locus, &acme, "b.txt", "/", "no").await;
    dead(&locus, &acme, "c.txt", "/", "no").await;
    let waits = locus.pool().write(&acme, "waits", WriteOptions::new()).await.unwrap();
    let refused = locus.dead_letters().purge(&acme, &waits).await;
    assert!(matches!(refused, Err(Error::WrongStatus { status: FileStatus::Pending, .. })));
    locus.dead_letters().purge(&acme, &one).await.unwrap();
    assert_eq!(listed(&locus, &acme, 9).await.len(), 2);
    let named = DeadLetterFilter::new().name_contains("c.txt");
    assert_eq!(locus.dead_letters().purge_all(&acme, &named).await.unwrap(), 1);
    assert_eq!(listed(&locus, &acme, 9).await, [other]);
    let hour = Duration::from_secs(3_600);
    assert_eq!(locus.dead_letters().purge_older(&acme, hour).await.unwrap(), 0);
    assert_eq!(locus.dead_letters().purge_older(&acme, Duration::ZERO).await.unwrap(), 1);
    locus.cleanup().settled().await.unwrap();
    assert_eq!(locus.counts()[acme.id()].files(), 1);
    let aside = dir.path().join("vol-001/.deadletter/acme");
    let left = walk(&aside);
    assert_eq!(left, 0, "files below {}", aside.display());
    locus.shutdown().await.unwrap();
}

/// Files below a directory.
fn walk(dir: &Path) -> usize {
    let Ok(entries) = std::fs::read_dir(dir) else { return 0 };
    entries.map(|entry| entry.unwrap().path()).map(|path| if path.is_dir() { walk(&path) } else { 1 }).sum()
}

#[tokio::test]
async fn b13_b14_dead_letters_of_another_tenant_or_of_a_disabled_one_are_not_touched() {
    let dir = tempfile::tempdir().unwrap();
    let (locus, acme) = open_with(strict(dir.path()).add_tenant("other")).await;
    let key = dead(&locus, &acme, "a.txt", "/", "no").await;
    let other = locus.tenants().get("other").await.unwrap();
    let letters = locus.dead_letters();
    assert_eq!(letters.info(&other, &key).await.unwrap(), None);
    assert!(matches!(letters.requeue(&other, &key).await, Err(Error::FileNotFound { .. })));
    assert!(matches!(letters.purge(&other, &key).await, Err(Error::FileNotFound { .. })));
    locus.tenants().disable("acme").await.unwrap();
    let all = DeadLetterFilter::new();
    let refused = |answer: Error| assert!(matches!(answer, Error::TenantDisabled { .. }), "{answer}");
    refused(letters.list(&acme, None, 9).await.unwrap_err());
    refused(letters.info(&acme, &key).await.unwrap_err());
    refused(letters.count(&acme, &all).await.unwrap_err());
    refused(letters.requeue(&acme, &key).await.unwrap_err());
    refused(letters.requeue_all(&acme, &all).await.unwrap_err());
    refused(letters.purge(&acme, &key).await.unwrap_err());
    refused(letters.purge_older(&acme, Duration::ZERO).await.unwrap_err());
    refused(letters.purge_all(&acme, &all).await.unwrap_err());
    assert_eq!(locus.counts()[acme.id()].dead_lettered, 1);
    locus.shutdown().await.unwrap();
}

/// A restart, a purge of the tenant, and a tenant of the same name: nothing of the dead letters is left.
#[tokio::test]
async fn dead_letters_outlive_a_restart_and_go_with_their_tenant() {
    let dir = tempfile::tempdir().unwrap();
    let (locus, acme) = open_with(strict(dir.path())).await;
    let key = dead(&locus, &acme, "a.txt", "/", "no").await;
    locus.shutdown().await.unwrap();
    let (locus, acme) = open_with(strict(dir.path())).await;
    assert_eq!(listed(&locus, &acme, 9).await, [key]);
    assert!(matches!(locus.tenants().delete("acme").await, Err(Error::TenantInUse { files: 1, .. })));
    locus.tenants().purge("acme").await.unwrap();
    assert_eq!(walk(&dir.path().join("vol-001/.deadletter/acme")), 0);
    let acme = locus.tenants().create("acme").await.unwrap();
    assert_eq!(listed(&locus, &acme, 9).await, []);
    locus.shutdown().await.unwrap();
}
