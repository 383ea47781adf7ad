//! Durable replace and its companions.

use std::{fs, io, path::Path};

use locus_core::Error;
use locus_fs::{Disk, OsDisk, create_dirs, read_bounded, replace};

use crate::faulty::FaultyDisk;

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn a_replaced_file_holds_the_new_bytes_and_nothing_lies_beside_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("tenant");
    replace(&OsDisk, &path, b"a much longer first content").unwrap();
    replace(&OsDisk, &path, b"second").unwrap();
    assert_eq!(read_bounded(&OsDisk, &path, 6).unwrap().unwrap(), b"second");
    assert_eq!(names(dir.path()), ["tenant"]);
}

#[test]
fn bytes_are_durable_before_they_have_the_name_and_the_name_before_it_returns() {
    let dir = tempfile::tempdir().unwrap();
    let disk = FaultyDisk::new();
    replace(&*disk, &dir.path().join("x"), b"x").unwrap();
    let ops: Vec<_> = disk.asked().iter().map(|asked| asked.op).collect();
    assert_eq!(ops, ["create_new", "write_at", "sync_data", "rename", "sync_dir"]);
}

#[test]
fn what_a_crash_left_is_overwritten() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x");
    OsDisk.create_new(&dir.path().join(".x.new")).unwrap().write_at(b"half of a longer conte", 0).unwrap();
    replace(&OsDisk, &path, b"whole").unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"whole");
    assert_eq!(names(dir.path()), ["x"]);
}

#[test]
fn b3_a_failed_replace_leaves_the_old_file_and_no_residue() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x");
    replace(&OsDisk, &path, b"old").unwrap();
    for op in ["create_new", "write_at", "sync_data", "rename"] {
        let disk = FaultyDisk::new();
        disk.fail(op, "x", 0, io::ErrorKind::StorageFull);
        let error = replace(&*disk, &path, b"new").unwrap_err();
        assert!(error.is_full(), "{op}: {error}");
        assert_eq!(fs::read(&path).unwrap(), b"old", "{op}");
        assert_eq!(names(dir.path()), ["x"], "{op}");
    }
}

#[test]
fn reading_is_bounded_and_absence_is_no_error() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x");
    assert_eq!(read_bounded(&OsDisk, &path, 9).unwrap(), None);
    replace(&OsDisk, &path, &[7; 10]).unwrap();
    let error = read_bounded(&OsDisk, &path, 9).unwrap_err();
    assert!(matches!(error, Error::Corrupt { .. }), "{error}");
    assert!(error.to_string().contains("x is damaged: it is 10 bytes long"), "{error}");
    assert_eq!(read_bounded(&OsDisk, &path, 10).unwrap().unwrap(), [7; 10]);
}

#[test]
fn missing_directories_are_made_and_every_new_name_is_synced() {
    let dir = tempfile::tempdir().unwrap();
    let disk = FaultyDisk::new();
    let (a, b) = (dir.path().join("a"), dir.path().join("a/b"));
    create_dirs(&*disk, &b).unwrap();
    assert!(b.is_dir());
    let synced = disk.asked_for("sync_dir");
    assert!(synced.ends_with(&[dir.path().to_owned(), a.clone()]), "{synced:?}");
    create_dirs(&*disk, &b).unwrap();
    assert_eq!(disk.asked_for("sync_dir"), [a], "a killed run may not have synced the last name");
}

#[test]
fn a_file_in_the_way_of_a_directory_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    replace(&OsDisk, &file, b"").unwrap();
    for path in [file.clone(), file.join("below")] {
        let error = create_dirs(&OsDisk, &path).unwrap_err();
        assert!(error.to_string().contains("file"), "{error}");
    }
    let link = dir.path().join("link");
    std::os::unix::fs::symlink(dir.path(), &link).unwrap();
    create_dirs(&OsDisk, &link.join("below")).unwrap();
    assert!(dir.path().join("below").is_dir(), "a link to a directory is one");
}
