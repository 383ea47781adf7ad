//! The program as it is run: its last line, its exit code, and what a kill does to it.

#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "helpers of tests, too, fail by panicking")]

mod program;

use std::{
    fs::{self, File},
    io::Write,
    path::Path,
    sync::Arc,
};

use locus::prelude::*;
use locus_vault::{KeyringFile, Passphrase, Unlock, Vault, VaultOptions};
use program::{Program, json};
use serde_json::Value;

/// A tree of `files` files beside things that are left out.
fn tree(dir: &Path, files: u64) {
    for n in 0..files {
        put(&dir.join(format!("dir-{}/file-{n}.txt", n % 7)), format!("content {n}").repeat(100).as_bytes());
    }
    put(&dir.join("empty"), b"");
    put(&dir.join("large.bin"), &vec![5; 3 << 20]);
    put(&dir.join(".git/config"), b"left out");
    put(&dir.join("target/debug"), b"left out");
    std::os::unix::fs::symlink(dir.join("empty"), dir.join("link")).unwrap();
}

fn put(path: &Path, content: &[u8]) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    File::create(path).unwrap().write_all(content).unwrap();
}

/// A settings file in which a failed file stays away for so long.
fn settings(dir: &Path, delay: &str) -> String {
    let path = dir.join("settings.toml");
    let text = format!("[retry]\ninitial_delay = \"{delay}\"\n[leases]\nmax_deliveries = 1000\n");
    put(&path, text.as_bytes());
    path.to_str().unwrap().to_owned()
}

fn number(of: &Value, name: &str) -> u64 {
    of[name].as_u64().unwrap_or_else(|| panic!("{name} is no number in {of}"))
}

/// Everything on the volumes but their markers and their directories.
fn blobs(data: &Path) -> Vec<String> {
    let volumes = fs::read_dir(data).unwrap().map(|entry| entry.unwrap().path());
    let volumes = volumes.filter(|path| path.file_name().unwrap().to_str().unwrap().starts_with("vol-"));
    let all = volumes.flat_map(walkdir::WalkDir::new).map(Result::unwrap);
    let files = all.filter(|entry| entry.file_type().is_file() && entry.file_name() != ".locus-volume");
    files.map(|entry| entry.path().display().to_string()).collect()
}

fn assert_all_zero(status: &Value) {
    for (name, count) in status["total"].as_object().unwrap() {
        assert_eq!(count, 0, "{name} in {status}");
    }
}

#[test]
fn a_run_takes_everything_in_and_completes_it() {
    let temp = tempfile::tempdir().unwrap();
    let (input, data) = (temp.path().join("input"), temp.path().join("input/data"));
    tree(&input, 200);
    let run = Program::run(&input, &data).args([
        "--tenants",
        "4",
        "--workers",
        "8",
        "--volumes",
        "2",
        "--fail-percent",
        "20",
        "--json",
    ]);
    let ended = run.wait();
    assert!(ended.status.success(), "{}", ended.stderr);
    let report = json(&ended.stdout);
    assert_eq!(number(&report, "files"), 202);
    assert_eq!(number(&report, "completed"), 202);
    assert_eq!(number(&report, "completed_now"), 202);
    assert!((10..100).contains(&number(&report, "retried")), "{report}");
    for none in ["mismatched", "pending", "permanently_failed", "skipped", "recovered"] {
        assert_eq!(number(&report, none), 0, "{none} in {report}");
    }
    assert!(number(&report, "bytes") > 3 << 20);
    // All but the large one were in the journal, and nothing is left anywhere.
    assert_eq!((number(&report, "read_in_journal"), number(&report, "read_on_volumes")), (201, 1));
    for none in ["in_journal", "on_volumes", "spilled"] {
        assert_eq!(number(&report, none), 0, "{none} in {report}");
    }
    assert_eq!(blobs(&data), Vec::<String>::new());

    // Nothing is taken in twice, and what is new is.
    put(&input.join("new"), b"new");
    let again = Program::run(&input, &data).args(["--tenants", "4", "--json"]).wait();
    let report = json(&again.stdout);
    assert_eq!((number(&report, "files"), number(&report, "completed")), (203, 203));
    assert_eq!((number(&report, "files_now"), number(&report, "completed_now")), (1, 1));

    let status = json(&Program::status(&data).args(["--json"]).wait().stdout);
    assert_all_zero(&status);
    assert_eq!(status["tenants"].as_object().unwrap().len(), 4);
    assert_eq!(status["volumes"].as_array().unwrap().len(), 2);
    assert!(number(&status["volumes"][0], "available_bytes") > 0);

    let table = Program::status(&data).wait().stdout;
    assert!(table.contains("tenant-4") && table.contains("vol-002"), "{table}");
    assert!(table.contains("the journal"), "{table}");
}

#[test]
fn without_an_inline_limit_every_content_is_a_file_on_a_volume() {
    let temp = tempfile::tempdir().unwrap();
    let (input, data) = (temp.path().join("input"), temp.path().join("data"));
    tree(&input, 30);
    let ended = Program::run(&input, &data).args(["--inline", "0", "--json"]).wait();
    assert!(ended.status.success(), "{}", ended.stderr);
    let report = json(&ended.stdout);
    assert_eq!((number(&report, "files"), number(&report, "completed")), (32, 32));
    assert_eq!((number(&report, "read_in_journal"), number(&report, "read_on_volumes")), (0, 32));
    assert_eq!(blobs(&data), Vec::<String>::new());

    // What a limit lets in, to the byte: `content 1` a hundred times.
    let (limited, data) = (temp.path().join("limited"), temp.path().join("other"));
    put(&limited.join("short"), &[1; 900]);
    put(&limited.join("long"), &[1; 901]);
    let ended = Program::run(&limited, &data).args(["--inline", "900", "--json"]).wait();
    let report = json(&ended.stdout);
    assert_eq!((number(&report, "read_in_journal"), number(&report, "read_on_volumes")), (1, 1));
}

#[test]
fn b89_a_run_with_a_small_landing_zone_spills_and_completes_everything() {
    let temp = tempfile::tempdir().unwrap();
    let (input, data) = (temp.path().join("input"), temp.path().join("data"));
    for n in 0..300_u32 {
        put(&input.join(format!("dir-{}/file-{n}", n % 7)), &n.to_le_bytes().repeat(12 << 10));
    }
    let settings = settings(temp.path(), "1s"); // every file fails once: all of them wait at the same time
    let args = ["--landing-zone", "4MiB", "--inline", "1MiB", "--fail-percent", "100", "--config", &settings];
    let ended = Program::run(&input, &data).args(args).args(["--json"]).wait();
    assert!(ended.status.success(), "{}", ended.stderr);
    let report = json(&ended.stdout);
    assert_eq!((number(&report, "files"), number(&report, "completed")), (300, 300));
    assert_eq!((number(&report, "mismatched"), number(&report, "pending")), (0, 0));
    let (journal, volumes) = (number(&report, "read_in_journal"), number(&report, "read_on_volumes"));
    assert!(journal > 0 && volumes > 0 && journal + volumes == 300, "{report}");
    assert!(number(&report, "spilled") > 0, "{report}");
    assert_eq!((number(&report, "in_journal"), number(&report, "on_volumes")), (0, 0));
    assert_eq!(blobs(&data), Vec::<String>::new());
    assert_all_zero(&json(&Program::status(&data).args(["--json"]).wait().stdout));
}

#[test]
fn b24_a_run_that_is_killed_again_and_again_completes_every_file_once() {
    let temp = tempfile::tempdir().unwrap();
    let (input, data) = (temp.path().join("input"), temp.path().join("data"));
    tree(&input, 400);
    let settings = settings(temp.path(), "2s"); // so that something is left to recover
    let run = || {
        Program::run(&input, &data).args([
            "--fail-percent",
            "50",
            "--workers",
            "4",
            "--config",
            &settings,
            "--json",
        ])
    };
    for files in [1, 20, 60] {
        let mut killed = run().spawn();
        // It is killed in the middle of things: some files are in, some are not, some failed.
        killed.until(|| waiting(&data).is_some_and(|waiting| waiting >= files));
        killed.kill();
    }
    let waiting = waiting(&data).unwrap();
    let ended = run().wait();
    assert!(ended.status.success(), "{}", ended.stderr);
    let report = json(&ended.stdout);
    assert_eq!((number(&report, "files"), number(&report, "completed")), (402, 402));
    assert_eq!((number(&report, "mismatched"), number(&report, "pending")), (0, 0));
    assert_eq!(number(&report, "permanently_failed"), 0);
    assert_eq!(number(&report, "recovered"), waiting, "{report}");
    // What was found and what was missing was processed, and each of it once.
    assert_eq!(
        number(&report, "completed_now"),
        number(&report, "recovered") + number(&report, "files_now"),
        "{report}"
    );
    assert_eq!(blobs(&data), Vec::<String>::new());
    assert_all_zero(&json(&Program::status(&data).args(["--json"]).wait().stdout));
}

/// Files that wait or are leased, as somebody sees it from outside; `None` while there is no store.
fn waiting(data: &Path) -> Option<u64> {
    let status = Program::status(data).args(["--json"]).wait();
    let total = status.status.success().then(|| json(&status.stdout)["total"].clone())?;
    Some(number(&total, "pending") + number(&total, "processing"))
}

#[test]
fn b63_a_run_can_be_looked_at_and_stopped_while_nobody_else_gets_its_directory() {
    let temp = tempfile::tempdir().unwrap();
    let (input, data) = (temp.path().join("input"), temp.path().join("data"));
    tree(&input, 50);
    let settings = settings(temp.path(), "1h"); // every file fails once: the run stays open
    let run = || Program::run(&input, &data).args(["--fail-percent", "100", "--config", &settings, "--json"]);
    let mut running = run().spawn();
    let delayed = || {
        let status = Program::status(&data).args(["--json"]).wait();
        status.status.success().then(|| number(&json(&status.stdout)["total"], "delayed"))
    };
    running.until(|| delayed() == Some(52));
    let status = json(&Program::status(&data).args(["--json"]).wait().stdout);
    assert_eq!((number(&status, "in_journal"), number(&status, "on_volumes")), (51, 1), "{status}");

    let second = run().wait();
    assert_eq!(second.status.code(), Some(1));
    let holder = format!("process {}", running.id());
    assert!(second.stderr.starts_with("error: ") && second.stderr.contains(&holder), "{}", second.stderr);
    assert_eq!(second.stderr.lines().count(), 1, "{}", second.stderr);

    running.interrupt();
    let ended = running.wait();
    assert_eq!(ended.status.code(), Some(130), "{}", ended.stderr);
    let report = json(&ended.stdout);
    assert_eq!((number(&report, "files"), number(&report, "pending")), (52, 52));
    assert_eq!((number(&report, "completed"), number(&report, "retried")), (0, 52));
    assert_eq!((number(&report, "in_journal"), number(&report, "on_volumes")), (51, 1));
    let on_volumes: u64 = report["volumes"].as_object().unwrap().values().map(|n| n.as_u64().unwrap()).sum();
    assert_eq!(on_volumes, 1);
}

#[test]
fn the_tour_shows_every_item_to_a_pipe() {
    let toured = Program::menu().input("1\n2\n3\n4\n5\n6\n7\nnonsense\na\n").wait();
    assert!(toured.status.success(), "{}{}", toured.stdout, toured.stderr);
    let times = |what: &str| toured.stdout.matches(what).count();
    for shown_twice in [
        "read: \"hello, Locus\"",
        "rests in the journal: it has no path",
        "asked for a path, it lies in /",
        "lies on vol-001, in /",
        "globex reads acme's file: there is no file",
        "globex asks for work: None",
        "tenant small is full: 2 of 2 files",
        "after one was deleted there is room again",
        "enabled again: 16 bytes are there",
        "100 files completed",
        "attempt 3, failed 2 times before",
        "2 failures, then 1 completed",
    ] {
        assert_eq!(times(shown_twice), 2, "{shown_twice:?} in {}", toured.stdout);
    }
    assert_eq!(times("refused: tenant guest is disabled"), 6);
    assert_eq!(times("there is no item \"nonsense\""), 1);

    let left = Program::menu().input("q\n1\n").wait();
    assert!(left.status.success() && !left.stdout.contains("hello"), "{}", left.stdout);
}

#[tokio::test]
async fn the_story_of_a_vault_is_told_and_leaves_nothing_unless_it_is_to_be_kept() {
    let temp = tempfile::tempdir().unwrap();
    let left = || fs::read_dir(temp.path()).unwrap().map(|entry| entry.unwrap().path()).collect::<Vec<_>>();
    let told = Program::vault(temp.path()).wait();
    assert!(told.status.success(), "{}{}", told.stdout, told.stderr);
    for shown in [
        "opened by its passphrase",
        "by another one: ",
        "accounts/bank is put: version 1, ",
        "one expects version 1, and wrote version 2",
        "the other, too, and lost: ",
        "under one lock: version 3",
        "\"logins\":2",
        "seals from now on",
        "rewrapped: 2 entities are sealed again, 0 failed",
        "accounts/bank is version 3 as before",
        "verified: 2 entities open, 0 do not",
        "   2 of them by ",
        "it stands in none",
    ] {
        assert!(told.stdout.contains(shown), "{shown:?} in {}", told.stdout);
    }
    assert_eq!(left(), Vec::<std::path::PathBuf>::new());

    let kept = Program::vault(temp.path()).args(["--keep"]).wait();
    assert!(kept.status.success(), "{}{}", kept.stdout, kept.stderr);
    let dir = left().pop().unwrap();
    assert!(
        kept.stdout.contains(&format!("locus vault get {} accounts/bank", dir.display())),
        "{}",
        kept.stdout
    );
    let unlock = Unlock::Passphrase(Passphrase::new(b"open sesame").unwrap());
    let ring = KeyringFile::at(dir.join("keyring")).open(unlock).await.unwrap();
    let vault = Vault::open(&dir, VaultOptions::new(Arc::new(ring))).await.unwrap();
    let bank = vault.get(&"accounts/bank".parse().unwrap()).await.unwrap();
    assert_eq!(bank.json::<Value>().unwrap()["note"], "the-back-door-is-open-on-mondays");
}

#[test]
fn bad_input_is_named_in_one_line() {
    let temp = tempfile::tempdir().unwrap();
    let (input, data) = (temp.path().join("input"), temp.path().join("data"));
    let refused = |program: Program, named: &str| {
        let ended = program.wait();
        assert_eq!(ended.status.code(), Some(1), "{}", ended.stderr);
        assert!(ended.stderr.starts_with("error: ") && ended.stderr.contains(named), "{}", ended.stderr);
        assert_eq!(ended.stderr.lines().count(), 1, "{}", ended.stderr);
    };
    refused(Program::run(&input, &data), input.to_str().unwrap());
    assert!(!data.exists(), "nothing is made for an input that is not there");
    refused(Program::status(&data), data.to_str().unwrap());

    put(&input, b"a file");
    refused(Program::run(&input, &data), "is not a folder");

    let folder = temp.path().join("folder");
    tree(&folder, 3);
    put(&data.join("vol-001"), b"a file");
    refused(Program::run(&folder, &data), "vol-001");
    fs::remove_file(data.join("vol-001")).unwrap();

    let unknown = temp.path().join("unknown.toml");
    put(&unknown, b"[leases]\nmax_delivery = 3\n");
    let with = |file: &Path| Program::run(&folder, &data).args(["--config", file.to_str().unwrap()]);
    refused(with(&unknown), "leases.max_delivery");
    refused(with(&temp.path().join("absent.toml")), "absent.toml");
    refused(Program::run(&folder, &data).args(["--max-deliveries", "1"]), "leases.max_deliveries");
    refused(Program::run(&folder, &data).args(["--landing-zone", "4095KiB"]), "journal.landing_zone_max");
    refused(Program::run(&folder, &data).args(["--landing-zone", "1000TiB"]), "journal.landing_zone_max");
    refused(Program::run(&folder, &data).args(["--inline", "5MiB"]), "journal.inline_content_max");
    let unread = Program::run(&folder, &data).args(["--inline", "much"]).wait();
    assert!(!unread.status.success() && unread.stderr.contains("--inline"), "{}", unread.stderr);

    assert!(Program::run(&folder, &data).wait().status.success());
    refused(Program::run(&folder, &data).args(["--tenants", "3"]), "use --tenants 2");
    refused(Program::run(&data, &data), "lies in the data directory");
}

#[test]
fn what_cannot_be_taken_in_is_named_and_counted_and_the_rest_is_done() {
    let temp = tempfile::tempdir().unwrap();
    let (input, data) = (temp.path().join("input"), temp.path().join("data"));
    tree(&input, 5);
    // Nobody can look into a link that leads to itself, nor is anybody asked to.
    std::os::unix::fs::symlink("loop", input.join("loop")).unwrap();
    let locked = input.join("locked");
    put(&locked, b"secret");
    fs::set_permissions(&locked, std::os::unix::fs::PermissionsExt::from_mode(0o000)).unwrap();
    let is_readable = File::open(&locked).is_ok(); // by the superuser, for whom nothing is locked

    let ended = Program::run(&input, &data).args(["--json"]).wait();
    assert!(ended.status.success(), "{}", ended.stderr);
    let report = json(&ended.stdout);
    let skipped = u64::from(!is_readable);
    assert_eq!(number(&report, "skipped"), skipped);
    assert_eq!(number(&report, "completed"), 8 - skipped);
    assert_eq!(ended.stderr.contains(locked.to_str().unwrap()), !is_readable, "{}", ended.stderr);
}

#[tokio::test]
async fn a_content_that_is_not_what_its_source_was_is_counted_and_ends_the_run_badly() {
    let temp = tempfile::tempdir().unwrap();
    let (input, data) = (temp.path().join("input"), temp.path().join("data"));
    tree(&input, 3);
    let locus = Locus::builder()
        .data_dir(&data)
        .add_volume(LocalVolume::new("vol-001", data.join("vol-001")))
        .add_tenant("tenant-1")
        .build()
        .await
        .unwrap();
    let tenant = locus.tenants().get("tenant-1").await.unwrap();
    let told = WriteOptions::new().property("path", "forged").property("blake3", "0".repeat(64));
    locus.pool().write(&tenant, "something else", told).await.unwrap();
    locus.shutdown().await.unwrap();

    let settings = settings(temp.path(), "10ms");
    let ended = Program::run(&input, &data).args(["--config", &settings, "--json"]).wait();
    assert_eq!(ended.status.code(), Some(1), "{}", ended.stderr);
    let report = json(&ended.stdout);
    for one in ["recovered", "mismatched", "permanently_failed", "retried"] {
        assert_eq!(number(&report, one), 1, "{one} in {report}");
    }
    assert_eq!((number(&report, "files_now"), number(&report, "completed_now")), (5, 5));
}

#[test]
fn files_dropped_into_watched_folders_are_processed() {
    let temp = tempfile::tempdir().unwrap();
    let (config, data) = (temp.path().join("watch.toml"), temp.path().join("data"));
    let watchers = "[[watchers]]\npath = \"in/everyone\"\nmulti_tenant = true\nauto_create_tenant_directories = true\n\
        directory_from_folder = true\nage_min = \"0s\"\nstability_delay = \"10ms\"\n\
        [[watchers]]\npath = \"in/letters\"\ntenant = \"acme\"\nafter_import = \"keep\"\nage_min = \"0s\"\n\
        stability_delay = \"10ms\"\n";
    put(&config, watchers.as_bytes());
    let mut running = Program::watch(&config, &data).args(["--files", "2"]).spawn();
    running.until(|| temp.path().join("in/everyone/globex").is_dir());
    put(&temp.path().join("in/everyone/globex/2026/hello.txt"), b"hello");
    put(&temp.path().join("in/letters/dear.txt"), b"dear you");
    let ended = running.wait();
    assert!(ended.status.success(), "{}{}", ended.stdout, ended.stderr);
    for line in ["globex /2026 hello.txt: 5 B", "acme dear.txt: 8 B"] {
        assert!(ended.stdout.contains(line), "{}", ended.stdout);
    }
    assert!(temp.path().join("in/letters/dear.txt").exists());
}

/// A file fails for good, is counted, moved to the dead letters, listed, requeued and listed no more.
#[test]
fn what_failed_for_good_is_swept_listed_and_brought_back() {
    let temp = tempfile::tempdir().unwrap();
    let data = temp.path().join("data");
    let key = fail_for_good(&data);
    let settings = temp.path().join("sweep.toml");
    put(&settings, b"[cleanup]\npermanently_failed.retention = \"0s\"\n");
    let config = settings.to_str().unwrap();
    let sweep = |more: &[&str]| {
        let mut program =
            Program::tend("sweep", &data).args(["permanently-failed", "--json", "--config", config]);
        for argument in more {
            program = program.args([*argument]);
        }
        let ended = program.wait();
        assert!(ended.status.success(), "{}", ended.stderr);
        number(&serde_json::from_str(&ended.stdout).unwrap(), "dead_lettered")
    };
    assert_eq!((sweep(&["--dry-run"]), sweep(&[]), sweep(&[])), (1, 1, 0));
    let list = || Program::tend("dead-letters", &data).wait().stdout;
    assert!(list().contains(&key) && list().contains("no good") && list().contains(".deadletter"));

    let requeue = |args: [&str; 3]| Program::tend("dead-letters", &data).args(args).wait().stdout;
    assert!(requeue(["purge", "--name", "elsewhere"]).contains("acme: 0 purged"));
    assert!(requeue(["purge", "--error=no good", "--dry-run"]).contains("acme: 1 would be purged"));
    let refused = Program::tend("dead-letters", &data).args(["list", "--dry-run"]).wait();
    assert!(!refused.status.success() && refused.stderr.contains("list shows all"), "{}", refused.stderr);
    assert!(list().contains(&key));
    assert!(requeue(["requeue", "--error", "elsewhere"]).contains("acme: 0 requeued"));
    assert!(requeue(["requeue", "--error", "no good"]).contains("acme: 1 requeued"));
    assert!(!list().contains(&key));

    let refused = Program::tend("sweep", &data).args(["everything"]).wait();
    assert!(!refused.status.success() && refused.stderr.contains("permanently-failed"), "{}", refused.stderr);
}

/// A data directory with one file that failed for the last time; says its key.
fn fail_for_good(data: &Path) -> String {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let locus = Locus::builder()
            .data_dir(data)
            .add_volume(LocalVolume::new("vol-001", data.join("vol-001")))
            .add_tenant("acme")
            .retry_policy(RetryPolicy { max_retries: 1, ..RetryPolicy::default() })
            .build()
            .await
            .unwrap();
        let acme = locus.tenants().get("acme").await.unwrap();
        let key = locus.pool().write(&acme, "content", WriteOptions::new()).await.unwrap();
        let file = locus.scheduler().next(&acme).await.unwrap().unwrap();
        locus.scheduler().fail(&file.lease, "no good").await.unwrap();
        locus.shutdown().await.unwrap();
        key.to_string()
    })
}
