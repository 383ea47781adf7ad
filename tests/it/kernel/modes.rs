//! To whom the files of a store belong.

use std::{fs, os::unix::fs::PermissionsExt, process::Command};

use locus::Durability;
use locus_tests::{Form, Note, Plan};
use rstest::rstest;

use super::{
    need::Need,
    victim::{Desk, within},
};
use crate::support::seed;

/// Root gives up to pass by modes, so that what the umask took is missed.
#[rstest]
fn all_files_and_directories_belong_to_their_owner_alone_whatever_the_umask(
    #[values("000", "022", "277", "777")] umask: &str,
) {
    let temp = tempfile::tempdir().unwrap();
    let (dir, form) = (temp.path().to_owned(), Form::Short);
    let plan = Plan { dir, durability: Durability::Durable, form, seed: seed(), first: 0, on_caller: false };
    let modes_count =
        if Need::Root.is_met() { "setpriv --bounding-set -dac_override,-dac_read_search" } else { "" };
    let mut shell = Command::new("sh");
    shell.args(["-c", &format!("umask {umask} && exec {modes_count} \"$0\" \"$@\"")]);
    let mut desk = Desk::new();
    let status = desk.start(within(shell, &plan)).wait();
    desk.check_words();
    assert!(status.success(), "{status}");
    assert_eq!(desk.notes().last(), Some(&Note::Over));

    let mut names = Vec::new();
    let mut ahead = vec![temp.path().to_owned()];
    while let Some(at) = ahead.pop() {
        for entry in fs::read_dir(at).unwrap() {
            let path = entry.unwrap().path();
            let mode = fs::symlink_metadata(&path).unwrap().permissions().mode() & 0o7777;
            assert_eq!(mode, if path.is_dir() { 0o700 } else { 0o600 }, "{mode:o} of {}", path.display());
            names.push(path.file_name().unwrap().to_str().unwrap().to_owned());
            ahead.extend(path.is_dir().then_some(path));
        }
    }
    for name in ["LOCK", "STORE", "mounts", "journal", "tenants", "acme.tenant", ".locus-volume", ".staging"]
    {
        assert!(names.iter().any(|found| found == name), "{name} is there to be looked at: {names:?}");
    }
    assert!(names.iter().any(|name| name.starts_with("checkpoint")), "{names:?}");
}
