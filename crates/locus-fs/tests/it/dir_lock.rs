//! The lock of a directory.

use locus_core::Error;
use locus_fs::{DirLock, OsDisk};

#[test]
fn b63_a_second_opening_is_refused_at_once_with_the_holder_named() {
    let dir = tempfile::tempdir().unwrap();
    let lock = DirLock::acquire(&OsDisk, dir.path(), "process 4711 on elsewhere with a long name").unwrap();
    drop(lock);
    let lock = DirLock::acquire(&OsDisk, dir.path(), &DirLock::me()).unwrap();
    match DirLock::acquire(&OsDisk, dir.path(), "another") {
        Err(Error::AlreadyOpen { path, holder }) => {
            assert_eq!(path, dir.path());
            assert_eq!(holder, DirLock::me());
            assert!(holder.starts_with(&format!("process {} on ", std::process::id())), "{holder}");
        }
        other => panic!("{other:?}"),
    }
    drop(lock);
    assert!(dir.path().join("LOCK").is_file(), "the file stays, or two could lock two files of one name");
    drop(DirLock::acquire(&OsDisk, dir.path(), "another").unwrap());
}

#[test]
fn a_lock_file_may_hold_anything() {
    let dir = tempfile::tempdir().unwrap();
    let lock = DirLock::acquire(&OsDisk, dir.path(), "x").unwrap();
    let noise: Vec<u8> = (0..=255).cycle().take(9_999).collect();
    locus_fs::Disk::open(&OsDisk, &dir.path().join("LOCK"), true).unwrap().write_at(&noise, 0).unwrap();
    let error = DirLock::acquire(&OsDisk, dir.path(), "y").unwrap_err();
    assert!(matches!(error, Error::AlreadyOpen { .. }), "{error}");
    assert!(error.to_string().len() < 2_000);
    drop(lock);
}

#[test]
fn a_directory_that_is_absent_cannot_be_locked() {
    let dir = tempfile::tempdir().unwrap();
    let error = DirLock::acquire(&OsDisk, &dir.path().join("absent"), "x").unwrap_err();
    assert!(matches!(error, Error::Io { op: "lock", .. }), "{error}");
}

#[test]
fn a_file_is_locked_by_another_one_beside_it() {
    let dir = tempfile::tempdir().unwrap();
    let (what, lock) = (dir.path().join("what"), dir.path().join("what.lock"));
    let held = DirLock::acquire_by(&OsDisk, &what, &lock, "somebody").unwrap();
    match DirLock::acquire_by(&OsDisk, &what, &lock, "another") {
        Err(Error::AlreadyOpen { path, holder }) => assert_eq!((path, &*holder), (what.clone(), "somebody")),
        other => panic!("{other:?}"),
    }
    // The directory, and other files in it, are another matter.
    let whole = DirLock::acquire(&OsDisk, dir.path(), "x").unwrap();
    drop((held, whole));
    drop(DirLock::acquire_by(&OsDisk, &what, &lock, "another").unwrap());
    assert!(!what.exists());
}
