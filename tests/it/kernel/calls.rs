//! Killed at each system call, and each system call failing.

use std::{
    os::unix::process::ExitStatusExt,
    path::{Path, PathBuf},
};

use locus::Durability;
use locus_testkit::SeededEntropy;
use locus_tests::{Form, Note, Plan};
use rstest::rstest;
use tempfile::TempDir;

use super::{
    book::{Book, Crash},
    strace::{self, Call, Deed, meeting, survey},
    victim::Desk,
};
use crate::support::{number, seed};

/// Calls that change what is on a disk or make it durable, and the notes in between.
const CHANGES: [&str; 20] = [
    "openat",
    "openat2",
    "pwrite64",
    "write",
    "fdatasync",
    "fsync",
    "syncfs",
    "rename",
    "renameat",
    "renameat2",
    "unlink",
    "unlinkat",
    "mkdir",
    "mkdirat",
    "rmdir",
    "ftruncate",
    "fallocate",
    "fchmod",
    "chmod",
    "flock",
];

/// Those, and calls that only look; and the errors that each may give. The notes are never failed.
const FAULTS: [(&str, &[&str]); 27] = [
    ("openat", &["EIO", "ENOSPC", "EMFILE", "EINTR"]),
    ("openat2", &["EIO", "ENOSPC", "EMFILE", "EINTR", "ENOSYS"]),
    ("pwrite64", &["EIO", "ENOSPC", "EINTR"]),
    ("fdatasync", &["EIO", "ENOSPC", "EINTR"]),
    ("fsync", &["EIO", "ENOSPC", "EINTR"]),
    ("syncfs", &["EIO", "ENOSPC", "EINTR"]),
    ("rename", &["EIO", "ENOSPC"]),
    ("renameat", &["EIO", "ENOSPC"]),
    ("renameat2", &["EIO", "ENOSPC"]),
    ("unlink", &["EIO", "ENOSPC"]),
    ("unlinkat", &["EIO", "ENOSPC"]),
    ("mkdir", &["EIO", "ENOSPC"]),
    ("mkdirat", &["EIO", "ENOSPC"]),
    ("rmdir", &["EIO", "ENOSPC"]),
    ("ftruncate", &["EIO", "ENOSPC", "EINTR"]),
    ("fallocate", &["EIO", "ENOSPC", "EINTR"]),
    ("fchmod", &["EIO", "EINTR"]),
    ("chmod", &["EIO"]),
    ("flock", &["EIO", "EINTR"]),
    ("pread64", &["EIO", "EINTR"]),
    ("preadv2", &["EIO", "EINTR"]),
    ("getdents64", &["EIO"]),
    ("statx", &["EIO"]),
    ("newfstatat", &["EIO"]),
    ("statfs", &["EIO", "EINTR"]),
    ("fstatfs", &["EIO", "EINTR"]),
    ("fadvise64", &["EIO"]),
];

/// A place that is quick, for programs that live for a moment.
fn place() -> TempDir {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() { TempDir::new_in(memory) } else { TempDir::new() }.unwrap()
}

fn plan(dir: PathBuf, durability: Durability, seed: u64, on_caller: bool) -> Plan {
    Plan { dir, durability, form: Form::Short, seed, first: 0, on_caller }
}

/// So many of them, or all when it is 0.
fn some<T: Copy>(all: &[T], number: u64, random: &SeededEntropy) -> Vec<T> {
    let pick = |_| all[usize::try_from(random.below(all.len() as u64)).unwrap()];
    if number == 0 { all.to_vec() } else { (0..number).map(pick).collect() }
}

fn survey_fresh(durability: Durability, names: &[&'static str], on_caller: bool) -> Vec<Call> {
    let temp = place();
    survey(&plan(temp.path().into(), durability, 0, on_caller), names)
}

#[rstest]
fn b56_what_was_confirmed_survives_a_kill_at_each_system_call(
    #[values(Durability::Durable, Durability::Buffered)] durability: Durability,
    #[values(true, false)] on_caller: bool,
) {
    if !strace::is_here("kills at system calls") {
        return;
    }
    let seed = seed();
    let calls = survey_fresh(durability, &CHANGES, on_caller);
    let (mut met, mut acknowledged) = (0, 0);
    let chosen = some(&calls, number("LOCUS_KILL_CALLS", 24).div_ceil(2), &SeededEntropy::new(seed));
    for &call in &chosen {
        let temp = place();
        let plan = plan(temp.path().into(), durability, seed, on_caller);
        let (mut desk, mut book) = (Desk::new(), Book::default());
        let status = desk.start(meeting(&plan, call, Deed::Kill)).wait();
        println!("{call:?}: {status}");
        assert!(status.success() || status.signal() == Some(9), "{status}");
        met += u64::from(!status.success());
        desk.check_words();
        book.note(&desk.notes());
        book.check(&plan, Crash::Kill);
        acknowledged += book.acknowledged;
        book.close(&plan);
    }
    println!(
        "{durability:?}, on one thread: {on_caller}: {} of {} calls, {met} kills, {acknowledged} changes confirmed",
        chosen.len(),
        calls.len()
    );
    assert!(met > 0);
}

#[rstest]
fn b65_each_failing_system_call_is_a_clean_error_and_nothing_confirmed_is_lost(
    #[values(Durability::Durable, Durability::Buffered)] durability: Durability,
    #[values(true, false)] on_caller: bool,
) {
    if !strace::is_here("failing system calls") {
        return;
    }
    let seed = seed();
    let names: Vec<&str> = FAULTS.iter().map(|(name, _)| *name).collect();
    let calls = survey_fresh(durability, &names, on_caller);
    let faults: Vec<(Call, &str)> = FAULTS
        .iter()
        .flat_map(|(name, errors)| {
            let calls = calls.iter().filter(move |call| call.name == *name);
            calls.flat_map(|call| errors.iter().map(|error| (*call, *error)))
        })
        .collect();
    let chosen = some(&faults, number("LOCUS_FAULT_CALLS", 24).div_ceil(2), &SeededEntropy::new(seed));
    let mut all = Book::default();
    for &(call, errno) in &chosen {
        let temp = place();
        let plan = plan(temp.path().into(), durability, seed, on_caller);
        let (mut desk, mut book) = (Desk::new(), Book::default());
        println!("{call:?}: {errno}");
        let status = desk.start(meeting(&plan, call, Deed::Fail(errno))).wait();
        desk.check_words();
        assert!(status.success(), "{status}");
        let notes = desk.notes();
        assert_eq!(notes.last(), Some(&Note::Over));
        book.note(&notes);
        if book.errors.is_empty() {
            println!("  nobody was told");
        }
        book.errors.iter().for_each(|(error, times)| println!("  {error} x {times}"));
        book.check(&plan, Crash::Kill);
        all.acknowledged += book.acknowledged;
        for (error, times) in std::mem::take(&mut book.errors) {
            *all.errors.entry(error).or_default() += times;
        }
        book.close(&plan);
    }
    println!(
        "{durability:?}, on one thread: {on_caller}: {} of {} faults, {} changes confirmed; errors {:?}",
        chosen.len(),
        faults.len(),
        all.acknowledged,
        all.errors
    );
}
