//! The real disk.

use std::{
    fs, io,
    os::unix::fs::{PermissionsExt, symlink},
    path::Path,
    process::Command,
    sync::Arc,
};

use locus_fs::{Disk, DiskFile, EntryKind, OsDisk};
use rstest::rstest;

use crate::local_volume::{blob, open, write};

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().permissions().mode() & 0o7777
}

/// The umask belongs to the whole process, so the test runs itself once more in a process of its own. Who may pass by all
/// modes, as root may, gives that up: what the umask took is then missed.
#[rstest]
fn new_files_and_directories_belong_to_their_owner_alone_whatever_the_umask(
    #[values("000", "022", "277", "777")] umask: &str,
) {
    let dir = tempfile::tempdir().unwrap();
    let me = "os_disk::in_a_process_of_its_own_with_another_umask";
    let is_root = rustix::process::geteuid().is_root();
    let modes_count = if is_root { "setpriv --bounding-set -dac_override,-dac_read_search" } else { "" };
    let done = Command::new("sh")
        .args(["-c", &format!("umask {umask} && exec {modes_count} \"$0\" --ignored --exact {me}")])
        .arg(std::env::current_exe().unwrap())
        .env(DIR, dir.path())
        .output()
        .unwrap();
    assert!(done.status.success(), "{done:?}");
    let mut seen = 0;
    let mut ahead = vec![dir.path().to_owned()];
    while let Some(at) = ahead.pop() {
        for entry in fs::read_dir(at).unwrap() {
            let path = entry.unwrap().path();
            assert_eq!(mode(&path), if path.is_dir() { 0o700 } else { 0o600 }, "{}", path.display());
            seen += 1;
            ahead.extend(path.is_dir().then_some(path));
        }
    }
    assert_eq!(seen, 9);
}

const DIR: &str = "LOCUS_TEST_UMASK_DIR";

#[tokio::test]
#[ignore = "a part of another test"]
async fn in_a_process_of_its_own_with_another_umask() {
    let dir = std::env::var_os(DIR).unwrap();
    let dir = Path::new(&dir);
    OsDisk.create_dir(&dir.join("dir")).unwrap();
    OsDisk.create_new(&dir.join("file")).unwrap();
    drop(OsDisk.lock(&dir.join("lock")).unwrap());
    let volume = open(Arc::new(OsDisk), &dir.join("vol")).await.unwrap();
    write(&volume, &blob("acme", ""), b"x").await;
}

#[test]
fn it_passes_the_suite() {
    let dir = tempfile::tempdir().unwrap();
    locus_testkit::disk_suite::run(&OsDisk, dir.path());
}

#[test]
fn a_link_is_not_followed_and_a_fifo_does_not_hang() {
    let dir = tempfile::tempdir().unwrap();
    let (file, link, fifo) = (dir.path().join("file"), dir.path().join("link"), dir.path().join("fifo"));
    OsDisk.create_new(&file).unwrap().write_at(b"x", 0).unwrap();
    symlink(&file, &link).unwrap();
    rustix::fs::mkfifoat(rustix::fs::CWD, &fifo, rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR).unwrap();
    for path in [&link, &fifo, &dir.path().to_owned()] {
        for writable in [false, true] {
            assert!(OsDisk.open(path, writable).is_err(), "{}", path.display());
        }
        assert!(OsDisk.lock(path).is_err(), "{}", path.display());
    }
    assert_eq!(OsDisk.metadata(&link).unwrap().kind, EntryKind::Other);
    assert_eq!(OsDisk.metadata(&fifo).unwrap().kind, EntryKind::Other);
    assert_eq!(OsDisk.metadata(&file).unwrap().kind, EntryKind::File);
    assert_eq!(OsDisk.metadata(&file).unwrap().len, 1);
    let mut kinds: Vec<_> = OsDisk.read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().kind).collect();
    kinds.sort_by_key(|kind| *kind as u8);
    assert_eq!(kinds, [EntryKind::File, EntryKind::Other, EntryKind::Other]);
}

#[test]
fn a_new_name_never_replaces() {
    let dir = tempfile::tempdir().unwrap();
    let (a, b, c) = (dir.path().join("a"), dir.path().join("b"), dir.path().join("c"));
    OsDisk.create_new(&a).unwrap().write_at(b"a", 0).unwrap();
    OsDisk.create_new(&b).unwrap().write_at(b"b", 0).unwrap();
    assert_eq!(OsDisk.create_new(&b).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
    assert_eq!(OsDisk.rename_new(&a, &b).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
    assert_eq!(fs::read(&b).unwrap(), b"b");
    OsDisk.rename_new(&a, &c).unwrap();
    assert_eq!(OsDisk.open(&a, false).unwrap_err().kind(), io::ErrorKind::NotFound);
    OsDisk.rename(&c, &b).unwrap();
    assert_eq!(fs::read(&b).unwrap(), b"a");
}

#[test]
fn a_lock_is_held_until_it_is_dropped() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("lock");
    let lock = OsDisk.lock(&path).unwrap();
    lock.file().write_at(b"me", 0).unwrap();
    assert_eq!(OsDisk.lock(&path).unwrap_err().kind(), io::ErrorKind::WouldBlock);
    drop(lock);
    let again = OsDisk.lock(&path).unwrap();
    assert_eq!(again.file().len().unwrap(), 2);
}

#[cfg(target_os = "linux")]
#[test]
fn what_was_just_written_is_read_without_waiting_wherever_the_file_system_can_tell() {
    use rustix::io::{ReadWriteFlags, preadv2};
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file");
    let file = OsDisk.create_new(&path).unwrap();
    file.write_at(&[7; 10_000], 0).unwrap();
    let plain = fs::File::open(&path).unwrap();
    let tells = preadv2(&plain, &mut [io::IoSliceMut::new(&mut [0; 1])], 0, ReadWriteFlags::NOWAIT).is_ok();
    let mut seen = [0; 9_000];
    assert_eq!(file.read_cached_at(&mut seen, 500).unwrap(), tells);
    assert_eq!(seen, if tells { [7; 9_000] } else { [0; 9_000] });
}

#[cfg(target_os = "linux")]
#[test]
fn what_was_just_written_is_opened_without_waiting_wherever_the_system_can_tell() {
    use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat2};
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file");
    OsDisk.create_new(&path).unwrap().write_at(b"hello", 0).unwrap();
    let tells = openat2(CWD, &path, OFlags::RDONLY, Mode::empty(), ResolveFlags::CACHED).is_ok();
    let opened = OsDisk.open_cached(&path).unwrap();
    assert_eq!(opened.is_some(), tells);
    let mut seen = [0; 9];
    let is_it = |(file, len): (Arc<dyn DiskFile>, u64)| {
        (file.read_at(&mut seen, 0).unwrap(), len, &seen[..5]) == (5, 5, b"hello")
    };
    assert!(opened.is_none_or(is_it));
    std::os::unix::fs::symlink(&path, dir.path().join("link")).unwrap();
    assert!(!matches!(OsDisk.open_cached(&dir.path().join("link")), Ok(Some(_))), "a link was followed");
}

#[cfg(target_os = "linux")]
#[test]
fn memory_is_the_machines_own_and_what_the_kernel_makes_up_is_not_known_to_be() {
    let mounts = fs::read_to_string("/proc/mounts").unwrap();
    let of_memory =
        mounts.lines().filter_map(|line| line.split(' ').nth(1).filter(|_| line.contains(" tmpfs ")));
    for dir in of_memory.filter(|dir| fs::metadata(dir).is_ok()) {
        assert!(OsDisk.is_own(Path::new(dir)).unwrap(), "{dir}");
    }
    assert!(!OsDisk.is_own(Path::new("/proc")).unwrap());
    assert_eq!(OsDisk.is_own(Path::new("/proc/absent")).unwrap_err().kind(), io::ErrorKind::NotFound);
}

#[test]
fn a_file_does_what_is_asked() {
    let dir = tempfile::tempdir().unwrap();
    let file = OsDisk.create_new(&dir.path().join("file")).unwrap();
    assert!(file.is_empty().unwrap());
    file.write_at(b"world", 6).unwrap();
    file.write_at(b"hello", 0).unwrap();
    file.sync_data().unwrap();
    file.drop_cache().unwrap();
    let mut buf = [0; 16];
    assert_eq!(file.read_at(&mut buf, 0).unwrap(), 11);
    assert_eq!(&buf[..11], b"hello\0world");
    assert_eq!(file.read_at(&mut buf, 11).unwrap(), 0);
    file.set_len(3).unwrap();
    assert_eq!(file.len().unwrap(), 3);
    OsDisk.sync_dir(dir.path()).unwrap();
    OsDisk.sync_all(dir.path()).unwrap();
    let space = OsDisk.space(dir.path()).unwrap();
    assert!(0 < space.available && space.available <= space.total);
}
