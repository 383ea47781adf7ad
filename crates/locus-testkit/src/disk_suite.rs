//! The contract of [`Disk`] as checks that every implementation must pass.

use std::{
    ffi::OsStr,
    fmt::Debug,
    io::{self, ErrorKind},
    path::{Path, PathBuf},
    sync::Arc,
};

use locus_fs::{DirEntry, Disk, DiskFile, EntryKind};

/// Checks everything. `root` is an existing, empty directory of the disk; it is empty again afterwards.
///
/// ```
/// use std::path::Path;
/// use locus_testkit::{SimDisk, disk_suite};
///
/// disk_suite::run(&*SimDisk::new(1), Path::new("/"));
/// ```
///
/// # Panics
/// When the disk breaks its contract; the message says how.
pub fn run(disk: &dyn Disk, root: &Path) {
    let checks: [(&str, Check); 21] = [
        ("create-new", a_new_file_is_empty_and_must_not_exist),
        ("read-write", a_read_gives_what_was_written_and_stops_at_the_end),
        ("cached", a_cached_read_gives_all_that_was_asked_for_or_says_no),
        ("gap", a_write_beyond_the_end_leaves_zeros_between),
        ("set-len", a_file_is_cut_and_extended_with_zeros),
        ("open-cached", a_cached_open_gives_the_file_to_read_or_says_no),
        ("open", opening_tells_files_from_directories_and_readers_from_writers),
        ("sync", syncs_and_dropped_caches_change_nothing_that_is_read),
        ("handles", a_handle_outlives_its_name),
        ("threads", one_handle_serves_many_threads),
        ("rename", a_rename_replaces_a_file),
        ("rename-new", a_rename_new_replaces_nothing),
        ("link", a_file_has_two_names),
        ("rename-dir", a_directory_is_renamed_with_what_it_holds),
        ("remove", removing_tells_files_from_directories),
        ("read-dir", a_directory_lists_names_and_kinds),
        ("metadata", metadata_tells_kind_and_length),
        ("parents", parents_must_exist_and_be_directories),
        ("lock", a_lock_excludes_everybody_else_until_it_is_dropped),
        ("lock-shared", shared_locks_are_held_together_and_not_beside_an_exclusive_one),
        ("lock-id", a_lock_tells_which_file_it_is_of),
    ];
    for (name, check) in checks {
        let dir = root.join(name);
        disk.create_dir(&dir).unwrap_or_else(|error| panic!("{name}: its directory: {error}"));
        check(disk, &dir);
        remove_all(disk, &dir);
    }
    room_is_told(disk, root);
    assert_eq!(list(disk, root), [], "the root is empty again");
}

type Check = fn(&dyn Disk, &Path);

fn a_new_file_is_empty_and_must_not_exist(disk: &dyn Disk, dir: &Path) {
    let path = dir.join("file");
    let file = ok(disk.create_new(&path), "create");
    assert!(ok(file.is_empty(), "is_empty"));
    ok(file.write_at(b"x", 0), "a new file is writable");
    assert_eq!(read(&*file), b"x", "a new file is readable");
    refused(disk.create_new(&path), ErrorKind::AlreadyExists, "create_new over a file");
    assert_eq!(content(disk, &path), b"x", "a refused create changes nothing");
    refused(disk.create_new(dir), ErrorKind::AlreadyExists, "create_new over a directory");
    refused(disk.create_dir(dir), ErrorKind::AlreadyExists, "create_dir over a directory");
    refused(disk.create_dir(&path), ErrorKind::AlreadyExists, "create_dir over a file");
}

fn a_read_gives_what_was_written_and_stops_at_the_end(disk: &dyn Disk, dir: &Path) {
    let bytes: Vec<u8> = (0..100_000_u32).flat_map(u32::to_le_bytes).collect();
    let file = ok(disk.create_new(&dir.join("file")), "create");
    ok(file.write_at(&bytes, 0), "write");
    assert_eq!(ok(file.len(), "len"), bytes.len() as u64);
    assert!(read(&*file) == bytes, "what was written is read");

    ok(file.write_at(&[0xff; 1_000], 777), "overwrite");
    let mut part = vec![0; 1_002];
    assert_eq!(ok(file.read_at(&mut part, 776), "read a part"), part.len());
    assert_eq!((part[0], part[1_001]), (bytes[776], bytes[1_777]), "an overwrite stays in its range");
    assert!(part[1..1_001].iter().all(|byte| *byte == 0xff), "an overwrite is read");

    let mut buf = [1; 16];
    let end = bytes.len() as u64;
    assert_eq!(ok(file.read_at(&mut buf, end - 4), "read over the end"), 4);
    assert_eq!(buf[4..], [1; 12], "what is behind the end is left alone");
    assert_eq!(ok(file.read_at(&mut buf, end), "read at the end"), 0);
    assert_eq!(ok(file.read_at(&mut buf, end + 1_000), "read beyond the end"), 0);
    assert_eq!(ok(file.read_at(&mut [], 0), "read nothing"), 0);
    ok(file.write_at(&[], end + 1_000), "write nothing");
    assert_eq!(ok(file.len(), "len"), end, "writing nothing extends nothing");
}

fn a_cached_read_gives_all_that_was_asked_for_or_says_no(disk: &dyn Disk, dir: &Path) {
    let bytes: Vec<u8> = (0..20_000_u32).flat_map(u32::to_le_bytes).collect();
    let file = make(disk, &dir.join("file"), &bytes);
    for (from, len) in [(0, bytes.len()), (0, 1), (5_001, 30_000), (bytes.len() - 7, 7)] {
        let mut seen = vec![0xaa; len];
        if ok(file.read_cached_at(&mut seen, from as u64), "a cached read") {
            assert!(seen == bytes[from..from + len], "{len} bytes from {from}");
        }
    }
    let end = bytes.len() as u64;
    for from in [end - 4, end, end + 1_000] {
        assert!(!ok(file.read_cached_at(&mut [0; 16], from), "a cached read over the end"), "from {from}");
    }
    ok(file.sync_data(), "sync");
    ok(file.drop_cache(), "drop the cache");
    let mut seen = vec![0xaa; 10_000];
    if ok(file.read_cached_at(&mut seen, 777), "a cached read without a cache") {
        assert!(seen == bytes[777..10_777], "what is cached again is right");
    }
}

fn a_cached_open_gives_the_file_to_read_or_says_no(disk: &dyn Disk, dir: &Path) {
    let path = dir.join("file");
    drop(make(disk, &path, b"content"));
    ok(disk.is_own(dir), "is_own");
    if let Some(file) = ok(disk.open_cached(&path), "a cached open") {
        let (file, len) = file;
        assert_eq!((read(&*file), len), (b"content".to_vec(), 7));
        assert!(file.write_at(b"x", 0).is_err(), "it is opened to be read");
    }
    for (other, kind) in
        [(&dir.join("absent"), ErrorKind::NotFound), (&dir.to_owned(), ErrorKind::InvalidInput)]
    {
        match disk.open_cached(other) {
            Ok(None) => {}
            Err(error) => assert_eq!(error.kind(), kind, "a cached open of {}", other.display()),
            Ok(Some(file)) => panic!("a cached open of {} gave {file:?}", other.display()),
        }
    }
}

fn a_write_beyond_the_end_leaves_zeros_between(disk: &dyn Disk, dir: &Path) {
    let file = ok(disk.create_new(&dir.join("file")), "create");
    ok(file.write_at(b"ab", 0), "write");
    ok(file.write_at(b"cd", 5_000), "write beyond the end");
    let seen = read(&*file);
    assert_eq!(seen.len(), 5_002);
    assert_eq!((&seen[..2], &seen[5_000..]), (&b"ab"[..], &b"cd"[..]));
    assert!(seen[2..5_000].iter().all(|byte| *byte == 0), "zeros between");
}

fn a_file_is_cut_and_extended_with_zeros(disk: &dyn Disk, dir: &Path) {
    let file = ok(disk.create_new(&dir.join("file")), "create");
    ok(file.write_at(&[7; 2_000], 0), "write");
    ok(file.set_len(1_000), "cut");
    assert_eq!(read(&*file), [7; 1_000]);
    ok(file.set_len(3_000), "extend");
    let seen = read(&*file);
    assert_eq!(seen[..1_000], [7; 1_000]);
    assert_eq!(seen[1_000..], [0; 2_000], "what was cut does not come back");
    ok(file.set_len(0), "empty");
    assert!(ok(file.is_empty(), "is_empty"));
}

fn opening_tells_files_from_directories_and_readers_from_writers(disk: &dyn Disk, dir: &Path) {
    let path = dir.join("file");
    refused(disk.open(&path, false), ErrorKind::NotFound, "open of what is absent");
    refused(disk.open(&path, true), ErrorKind::NotFound, "open of what is absent, to write");
    make(disk, &path, b"abc");
    let reader = ok(disk.open(&path, false), "open to read");
    let writer = ok(disk.open(&path, true), "open to write");
    assert!(reader.write_at(b"x", 0).is_err(), "a reader does not write");
    assert!(reader.set_len(0).is_err(), "a reader does not cut");
    ok(writer.write_at(b"B", 1), "a writer writes");
    assert_eq!(read(&*reader), b"aBc", "two handles see one file");
    assert!(disk.open(dir, false).is_err(), "a directory is not opened as a file");
}

fn syncs_and_dropped_caches_change_nothing_that_is_read(disk: &dyn Disk, dir: &Path) {
    let path = dir.join("file");
    let file = ok(disk.create_new(&path), "create");
    ok(file.write_at(&[5; 10_000], 0), "write");
    ok(file.sync_data(), "sync");
    ok(disk.sync_dir(dir), "sync the directory");
    ok(file.drop_cache(), "drop the cache");
    assert_eq!(content(disk, &path), [5; 10_000]);
    ok(file.write_at(&[6; 10], 100), "write");
    ok(disk.create_dir(&dir.join("sub")), "create_dir");
    make(disk, &dir.join("sub").join("deeper"), b"d");
    ok(disk.sync_all(dir), "sync all");
    ok(file.write_at(&[6; 10], 100), "write");
    ok(file.drop_cache(), "drop the cache of a dirty file");
    assert_eq!(read(&*file)[99..111], [5, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6, 5], "what is dirty stays");
    refused(disk.sync_dir(&dir.join("absent")), ErrorKind::NotFound, "sync of an absent directory");
    refused(disk.sync_all(&dir.join("absent")), ErrorKind::NotFound, "sync of all of an absent directory");
}

fn a_handle_outlives_its_name(disk: &dyn Disk, dir: &Path) {
    let (path, other) = (dir.join("file"), dir.join("other"));
    let file = make(disk, &path, b"abc");
    ok(disk.rename(&path, &other), "rename an open file");
    ok(file.write_at(b"d", 3), "write after the rename");
    assert_eq!(content(disk, &other), b"abcd");
    ok(disk.remove_file(&other), "remove an open file");
    assert_eq!(read(&*file), b"abcd", "read after the removal");
    ok(file.sync_data(), "sync after the removal");
    make(disk, &other, b"new");
    assert_eq!(read(&*file), b"abcd", "the name's next file is another one");
}

fn one_handle_serves_many_threads(disk: &dyn Disk, dir: &Path) {
    const PART: usize = 3_000;
    let file = ok(disk.create_new(&dir.join("file")), "create");
    std::thread::scope(|threads| {
        for number in 0..8_u8 {
            let file = &file;
            threads.spawn(move || {
                let offset = u64::from(number) * PART as u64;
                ok(file.write_at(&[number; PART], offset), "write");
                let mut seen = [0xff; PART];
                assert_eq!(ok(file.read_at(&mut seen, offset), "read"), PART);
                assert_eq!(seen, [number; PART]);
            });
        }
    });
    let seen = read(&*file);
    assert!(seen.iter().enumerate().all(|(at, byte)| at / PART == usize::from(*byte)), "all parts are there");
    assert_eq!(seen.len(), 8 * PART);
}

fn a_rename_replaces_a_file(disk: &dyn Disk, dir: &Path) {
    let (from, to, sub) = (dir.join("from"), dir.join("to"), dir.join("sub"));
    ok(disk.create_dir(&sub), "create_dir");
    make(disk, &from, b"1");
    ok(disk.rename(&from, &to), "rename to a free name");
    assert_eq!(content(disk, &to), b"1");
    refused(disk.metadata(&from), ErrorKind::NotFound, "the old name");
    refused(disk.rename(&from, &to), ErrorKind::NotFound, "rename of what is absent");
    make(disk, &from, b"2");
    ok(disk.rename(&from, &to), "rename over a file");
    assert_eq!(content(disk, &to), b"2");
    ok(disk.rename(&to, &to), "rename to itself");
    assert_eq!(content(disk, &to), b"2");
    ok(disk.rename(&to, &sub.join("to")), "rename into another directory");
    assert_eq!(content(disk, &sub.join("to")), b"2");
    assert_eq!(names(disk, dir), ["sub"]);
    make(disk, &from, b"3");
    assert!(disk.rename(&from, &sub).is_err(), "a file does not replace a directory");
    assert_eq!(names(disk, dir), ["from", "sub"]);
}

fn a_rename_new_replaces_nothing(disk: &dyn Disk, dir: &Path) {
    let (from, to) = (dir.join("from"), dir.join("to"));
    make(disk, &from, b"1");
    make(disk, &to, b"2");
    refused(disk.rename_new(&from, &to), ErrorKind::AlreadyExists, "rename_new over a file");
    refused(disk.rename_new(&from, dir), ErrorKind::AlreadyExists, "rename_new over a directory");
    assert_eq!((content(disk, &from), content(disk, &to)), (b"1".to_vec(), b"2".to_vec()));
    ok(disk.remove_file(&to), "remove");
    ok(disk.rename_new(&from, &to), "rename_new to a free name");
    assert_eq!((names(disk, dir), content(disk, &to)), (vec!["to".to_owned()], b"1".to_vec()));
    refused(disk.rename_new(&from, &dir.join("more")), ErrorKind::NotFound, "rename_new of what is absent");
}

fn a_file_has_two_names(disk: &dyn Disk, dir: &Path) {
    let (from, to) = (dir.join("from"), dir.join("to"));
    make(disk, &from, b"1");
    match disk.link(&from, &to) {
        Err(error) if error.kind() == ErrorKind::Unsupported => return,
        linked => ok(linked, "link"),
    }
    let handle = ok(disk.open(&from, true), "open");
    ok(handle.write_at(b"2", 0), "write");
    assert_eq!(content(disk, &to), b"2", "both names lead to one file");
    assert_eq!(ok(disk.metadata(&from), "metadata").id, ok(disk.metadata(&to), "metadata").id);
    refused(disk.link(&from, &to), ErrorKind::AlreadyExists, "link over a file");
    refused(disk.link(&dir.join("none"), &dir.join("more")), ErrorKind::NotFound, "link of what is absent");
    ok(disk.remove_file(&from), "remove");
    assert_eq!((names(disk, dir), content(disk, &to)), (vec!["to".to_owned()], b"2".to_vec()));
}

fn a_directory_is_renamed_with_what_it_holds(disk: &dyn Disk, dir: &Path) {
    let (from, to) = (dir.join("from"), dir.join("to"));
    ok(disk.create_dir(&from), "create_dir");
    make(disk, &from.join("file"), b"1");
    ok(disk.rename(&from, &to), "rename a directory");
    assert_eq!(content(disk, &to.join("file")), b"1");
    assert_eq!(names(disk, dir), ["to"]);
    assert!(disk.rename(&to, &to.join("inside")).is_err(), "a directory does not move into itself");
    ok(disk.create_dir(&from), "create_dir");
    assert!(disk.rename(&from, &to).is_err(), "a directory that holds something is not replaced");
    assert_eq!(content(disk, &to.join("file")), b"1");
}

fn removing_tells_files_from_directories(disk: &dyn Disk, dir: &Path) {
    let (file, sub) = (dir.join("file"), dir.join("sub"));
    refused(disk.remove_file(&file), ErrorKind::NotFound, "remove_file of what is absent");
    refused(disk.remove_dir(&sub), ErrorKind::NotFound, "remove_dir of what is absent");
    make(disk, &file, b"1");
    ok(disk.create_dir(&sub), "create_dir");
    make(disk, &sub.join("file"), b"2");
    refused(disk.remove_dir(&file), ErrorKind::NotADirectory, "remove_dir of a file");
    assert!(disk.remove_file(&sub).is_err(), "remove_file of a directory");
    refused(
        disk.remove_dir(&sub),
        ErrorKind::DirectoryNotEmpty,
        "remove_dir of a directory that holds something",
    );
    assert_eq!(names(disk, dir), ["file", "sub"]);
    ok(disk.remove_file(&sub.join("file")), "remove_file");
    ok(disk.remove_dir(&sub), "remove_dir");
    ok(disk.remove_file(&file), "remove_file");
    assert_eq!(names(disk, dir), [""; 0]);
    make(disk, &file, b"3");
    assert_eq!(content(disk, &file), b"3", "a removed name is free");
}

fn a_directory_lists_names_and_kinds(disk: &dyn Disk, dir: &Path) {
    assert_eq!(list(disk, dir), []);
    let mut expected = Vec::new();
    for number in 100..150 {
        make(disk, &dir.join(format!("f{number}")), b"");
        expected.push(DirEntry { name: format!("f{number}").into(), kind: EntryKind::File });
    }
    ok(disk.create_dir(&dir.join("sub")), "create_dir");
    make(disk, &dir.join("sub").join("deeper"), b"");
    expected.push(DirEntry { name: "sub".into(), kind: EntryKind::Dir });
    assert_eq!(list(disk, dir), expected, "all names, only this directory's, no dots");
    assert_eq!(
        disk.read_dir(&dir.join("f100")).map(|_| ()).map_err(|e| e.kind()),
        Err(ErrorKind::NotADirectory)
    );
    assert_eq!(
        disk.read_dir(&dir.join("absent")).map(|_| ()).map_err(|e| e.kind()),
        Err(ErrorKind::NotFound)
    );
}

fn metadata_tells_kind_and_length(disk: &dyn Disk, dir: &Path) {
    let path = dir.join("file");
    refused(disk.metadata(&path), ErrorKind::NotFound, "metadata of what is absent");
    make(disk, &path, &[1; 1_234]);
    let meta = ok(disk.metadata(&path), "metadata of a file");
    assert_eq!((meta.kind, meta.len), (EntryKind::File, 1_234));
    assert_eq!(ok(disk.metadata(dir), "metadata of a directory").kind, EntryKind::Dir);
}

fn parents_must_exist_and_be_directories(disk: &dyn Disk, dir: &Path) {
    let (file, other) = (dir.join("file"), dir.join("other"));
    make(disk, &file, b"1");
    make(disk, &other, b"2");
    for (parent, kind) in [(dir.join("absent"), ErrorKind::NotFound), (file, ErrorKind::NotADirectory)] {
        let path = parent.join("x");
        refused(disk.create_new(&path), kind, "create_new");
        refused(disk.create_dir(&path), kind, "create_dir");
        refused(disk.open(&path, false), kind, "open");
        refused(disk.metadata(&path), kind, "metadata");
        refused(disk.lock(&path), kind, "lock");
        refused(disk.lock_shared(&path), kind, "lock_shared");
        refused(disk.remove_file(&path), kind, "remove_file");
        refused(disk.rename(&other, &path), kind, "rename");
        refused(disk.rename_new(&other, &path), kind, "rename_new");
    }
    assert_eq!(names(disk, dir), ["file", "other"]);
}

fn a_lock_excludes_everybody_else_until_it_is_dropped(disk: &dyn Disk, dir: &Path) {
    let (path, other) = (dir.join("LOCK"), dir.join("OTHER"));
    let lock = ok(disk.lock(&path), "lock, which creates the file");
    assert_eq!(ok(disk.metadata(&path), "metadata of the lock").kind, EntryKind::File);
    refused(disk.lock(&path), ErrorKind::WouldBlock, "a second lock");
    ok(lock.file().write_at(b"holder", 0), "the holder writes to the file");
    assert_eq!(content(disk, &path), b"holder", "everybody reads it");
    let beside = ok(disk.lock(&other), "a lock on another file");
    drop(lock);
    refused(disk.lock(&other), ErrorKind::WouldBlock, "the other one is still held");
    drop(beside);
    let again = ok(disk.lock(&path), "a lock let go");
    assert_eq!(content(disk, &path), b"holder", "locking does not empty the file");
    refused(disk.lock(&path), ErrorKind::WouldBlock, "a second lock");
    drop(again);
}

fn shared_locks_are_held_together_and_not_beside_an_exclusive_one(disk: &dyn Disk, dir: &Path) {
    let path = dir.join("LOCK");
    let first = match disk.lock_shared(&path) {
        Err(error) if error.kind() == ErrorKind::Unsupported => return,
        locked => ok(locked, "a shared lock, which creates the file"),
    };
    let second = ok(disk.lock_shared(&path), "a second shared lock");
    refused(disk.lock(&path), ErrorKind::WouldBlock, "an exclusive lock beside two shared ones");
    ok(first.unlock(), "unlock");
    refused(disk.lock(&path), ErrorKind::WouldBlock, "an exclusive lock beside a shared one");
    drop(second);
    let alone = ok(disk.lock(&path), "an exclusive lock beside none");
    refused(disk.lock_shared(&path), ErrorKind::WouldBlock, "a shared lock beside an exclusive one");
    ok(alone.unlock(), "unlock");
    drop(ok(disk.lock_shared(&path), "a shared lock beside none"));
}

fn a_lock_tells_which_file_it_is_of(disk: &dyn Disk, dir: &Path) {
    let (path, other) = (dir.join("LOCK"), dir.join("other"));
    let lock = ok(disk.lock(&path), "lock");
    let Some(id) = ok(lock.id(), "id") else { return };
    assert_eq!(ok(disk.metadata(&path), "metadata").id, Some(id), "it is the one of that name");
    make(disk, &other, b"");
    ok(disk.rename(&other, &path), "rename over a locked file");
    assert_eq!(ok(lock.id(), "id"), Some(id), "the lock stays on its file");
    assert_ne!(ok(disk.metadata(&path), "metadata").id, Some(id), "which lost its name");
    let beside = ok(disk.lock(&path), "a lock on the file that has the name now");
    assert_ne!(ok(beside.id(), "id"), Some(id));
}

fn room_is_told(disk: &dyn Disk, root: &Path) {
    let space = ok(disk.space(root), "space");
    assert!(space.total > 0 && space.available <= space.total, "{space:?}");
    refused(disk.space(&root.join("absent")), ErrorKind::NotFound, "space of what is absent");
}

#[track_caller]
fn ok<T>(result: io::Result<T>, what: &str) -> T {
    result.unwrap_or_else(|error| panic!("{what}: {error}"))
}

#[track_caller]
fn refused<T: Debug>(result: io::Result<T>, kind: ErrorKind, what: &str) {
    match result {
        Ok(value) => panic!("{what} was not refused: {value:?}"),
        Err(error) => assert_eq!(error.kind(), kind, "{what}: {error}"),
    }
}

fn make(disk: &dyn Disk, path: &Path, bytes: &[u8]) -> Arc<dyn DiskFile> {
    let file = ok(disk.create_new(path), "create");
    ok(file.write_at(bytes, 0), "write");
    file
}

fn read(file: &dyn DiskFile) -> Vec<u8> {
    let len = usize::try_from(ok(file.len(), "len")).expect("because the suite's files are small");
    let mut bytes = vec![0xaa; len];
    assert_eq!(ok(file.read_at(&mut bytes, 0), "read"), len);
    bytes
}

fn content(disk: &dyn Disk, path: &Path) -> Vec<u8> {
    read(&*ok(disk.open(path, false), "open"))
}

/// What a directory holds, by name.
fn list(disk: &dyn Disk, dir: &Path) -> Vec<DirEntry> {
    let entries = ok(disk.read_dir(dir), "read_dir");
    let mut entries: Vec<DirEntry> = entries.map(|entry| ok(entry, "an entry")).collect();
    entries.sort_by(|a, b| a.name.cmp(&b.name));
    entries
}

fn names(disk: &dyn Disk, dir: &Path) -> Vec<String> {
    list(disk, dir).iter().map(|entry| OsStr::to_string_lossy(&entry.name).into_owned()).collect()
}

fn remove_all(disk: &dyn Disk, dir: &Path) {
    for entry in list(disk, dir) {
        let path: PathBuf = dir.join(&entry.name);
        match entry.kind {
            EntryKind::Dir => remove_all(disk, &path),
            EntryKind::File | EntryKind::Other => ok(disk.remove_file(&path), "tidy up a file"),
        }
    }
    ok(disk.remove_dir(dir), "tidy up a directory");
}
