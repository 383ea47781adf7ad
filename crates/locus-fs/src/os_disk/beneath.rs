//! The real disk beneath one directory, no link followed.

use std::{
    ffi::OsStr,
    fs::File,
    io,
    os::{
        fd::{AsFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::Path,
    sync::Arc,
};

use rustix::{
    fs::{AtFlags, Dir, FileType, Mode, OFlags, Stat, fstat, linkat, openat, renameat, statat, unlinkat},
    io::{Errno, retry_on_intr},
};

use crate::{
    disk::{DirEntry, Disk, DiskFile, DiskLock, EntryKind, Meta, Space},
    os_disk::{
        Opening, OsFile,
        kept::Kept,
        lock, opened,
        root::{DIRECTORY, PLACE, Root, split},
        sys,
    },
};

/// Every name is used in a directory that was opened on a way without links, so that a directory that somebody puts a
/// link in the place of leads nowhere.
#[derive(Debug)]
pub(super) struct Beneath {
    root: Root,
    kept: Kept,
}

impl Beneath {
    pub(super) fn new(root: Root) -> Self {
        Self { root, kept: Kept::default() }
    }

    fn open_file(&self, path: &Path, how: Opening) -> io::Result<File> {
        let (flags, mode) = sys::flags(how);
        if how == Opening::New
            && let Some(file) = self.create_in_kept(path, flags, mode)?
        {
            return Ok(file);
        }
        Ok(self.root.open(path, flags, mode)?.into())
    }

    /// `None` when the directory is not kept, or is not what it was.
    fn create_in_kept(&self, path: &Path, flags: OFlags, mode: Mode) -> io::Result<Option<File>> {
        let (dir, name) = split(path)?;
        let Some(kept) = self.kept.from(dir) else { return Ok(None) };
        match retry_on_intr(|| openat(&*kept, name, flags, mode)) {
            Ok(file) => Ok(Some(file.into())),
            Err(Errno::EXIST) => Err(Errno::EXIST.into()),
            Err(_) => {
                self.kept.forget_from();
                Ok(None)
            }
        }
    }

    fn rename_by(&self, from: &Path, to: &Path, rename: Rename) -> io::Result<()> {
        let (to_dir, to_name) = self.root.parent(to, DIRECTORY)?;
        let (dir, name) = split(from)?;
        if let Some(kept) = self.kept.from(dir) {
            let renamed = rename(&kept, name, &to_dir, to_name);
            if renamed.is_err() {
                self.kept.forget_from();
            }
            if !renamed.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::NotFound) {
                return renamed.map(|()| self.named(to, to_dir));
            }
        }
        let from_dir = Arc::new(self.root.open(dir, PLACE, Mode::empty())?);
        rename(&from_dir, name, &to_dir, to_name)?;
        self.kept.keep_from(dir, from_dir);
        self.named(to, to_dir);
        Ok(())
    }

    fn named(&self, path: &Path, dir: OwnedFd) {
        if let Some(parent) = path.parent() {
            self.kept.keep_named(parent, dir);
        }
    }

    fn unlink(&self, path: &Path, flags: AtFlags) -> io::Result<()> {
        let (dir, name) = self.root.parent(path, PLACE)?;
        // A directory that lost a name may be removed by anybody: its next sync looks whether it is there.
        drop(path.parent().and_then(|parent| self.kept.take_named(parent)));
        Ok(unlinkat(dir, name, flags)?)
    }
}

type Rename = fn(&OwnedFd, &OsStr, &OwnedFd, &OsStr) -> io::Result<()>;

impl Disk for Beneath {
    fn blocks(&self) -> bool {
        true
    }

    fn beneath(&self, root: &Path) -> io::Result<Option<Arc<dyn Disk>>> {
        drop(self.root.open(root, PLACE, Mode::empty())?);
        Ok(Some(Arc::new(Self::new(Root::find(root)?))))
    }

    fn let_go(&self) {
        self.kept.forget_all();
    }

    fn create_new(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        Ok(Arc::new(OsFile::new(opened(Opening::New, |how| self.open_file(path, how))?)))
    }

    fn open(&self, path: &Path, writable: bool) -> io::Result<Arc<dyn DiskFile>> {
        let how = if writable { Opening::Write } else { Opening::Read };
        Ok(Arc::new(OsFile::new(opened(how, |how| self.open_file(path, how))?)))
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        let (dir, name) = self.root.parent(path, PLACE)?;
        sys::create_dir_at(dir.as_fd(), Path::new(name))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.rename_by(from, to, |from, name, to, new_name| Ok(renameat(from, name, to, new_name)?))
    }

    fn rename_new(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.rename_by(from, to, |from, name, to, new_name| {
            match sys::rename_new_at(from.as_fd(), Path::new(name), to.as_fd(), Path::new(new_name)) {
                Err(error) if sys::is_unknown_call(&error) => link_and_unlink(from, name, to, new_name),
                other => other,
            }
        })
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        let (dir, name) = self.root.parent(from, PLACE)?;
        let (to_dir, new_name) = self.root.parent(to, DIRECTORY)?;
        linkat(dir, name, &to_dir, new_name, AtFlags::empty())
            .map_err(|errno| sys::unsupported_link(errno.into()))?;
        self.named(to, to_dir);
        Ok(())
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.unlink(path, AtFlags::empty())
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        self.unlink(path, AtFlags::REMOVEDIR)
    }

    fn read_dir(&self, path: &Path) -> io::Result<Box<dyn Iterator<Item = io::Result<DirEntry>> + Send>> {
        let mut dir = Dir::new(self.root.open(path, DIRECTORY, Mode::empty())?)?;
        Ok(Box::new(std::iter::from_fn(move || {
            loop {
                match dir.next()? {
                    Err(error) => return Some(Err(error.into())),
                    Ok(found) if matches!(found.file_name().to_bytes(), b"." | b"..") => {}
                    Ok(found) => match entry(&dir, &found).transpose() {
                        None => {} // removed meanwhile
                        found => return found,
                    },
                }
            }
        })))
    }

    fn metadata(&self, path: &Path) -> io::Result<Meta> {
        let found = match self.root.parent(path, PLACE) {
            Ok((dir, name)) => statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)?,
            // The root itself lies beneath nothing.
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
                fstat(self.root.open(path, PLACE, Mode::empty())?)?
            }
            Err(error) => return Err(error),
        };
        Ok(meta(&found))
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        let dir = match self.kept.take_named(path) {
            Some(dir) => dir,
            None => self.root.open(path, DIRECTORY, Mode::empty())?,
        };
        sys::sync_opened_dir(dir.into())
    }

    #[cfg(any(target_os = "linux", target_os = "android"))]
    fn sync_all(&self, dir: &Path) -> io::Result<()> {
        Ok(rustix::fs::syncfs(self.root.open(dir, DIRECTORY, Mode::empty())?)?)
    }

    fn space(&self, path: &Path) -> io::Result<Space> {
        sys::space_of(self.root.open(path, PLACE, Mode::empty())?.as_fd())
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn DiskLock>> {
        lock(|how| self.open_file(path, how), File::try_lock)
    }

    fn lock_shared(&self, path: &Path) -> io::Result<Box<dyn DiskLock>> {
        lock(|how| self.open_file(path, how), File::try_lock_shared)
    }
}

/// What [`Disk::rename_new`] comes down to where the file system has no call for it: a hard link never replaces.
fn link_and_unlink(from: &OwnedFd, name: &OsStr, to: &OwnedFd, new_name: &OsStr) -> io::Result<()> {
    linkat(from, name, to, new_name, AtFlags::empty())?;
    unlinkat(from, name, AtFlags::empty()).inspect_err(|_| {
        // Two names for one file are no rename: go back to the first one.
        let _ = unlinkat(to, new_name, AtFlags::empty());
    })?;
    Ok(())
}

fn entry(dir: &Dir, found: &rustix::fs::DirEntry) -> io::Result<Option<DirEntry>> {
    let kind = match found.file_type() {
        FileType::Unknown => match statat(dir.fd()?, found.file_name(), AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => return Ok(None),
            other => meta(&other?).kind,
        },
        known => kind(known),
    };
    Ok(Some(DirEntry { name: OsStr::from_bytes(found.file_name().to_bytes()).to_owned(), kind }))
}

fn meta(found: &Stat) -> Meta {
    let kind = kind(FileType::from_raw_mode(found.st_mode));
    Meta { kind, len: u64::try_from(found.st_size).unwrap_or(0), id: Some(found.st_ino) }
}

fn kind(found: FileType) -> EntryKind {
    match found {
        FileType::RegularFile => EntryKind::File,
        FileType::Directory => EntryKind::Dir,
        _ => EntryKind::Other,
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink, path::PathBuf};

    use rstest::rstest;
    use tempfile::TempDir;

    use super::*;
    use crate::os_disk::OsDisk;

    #[derive(Debug, Clone, Copy)]
    enum Way {
        AsTheSystemCan,
        StepByStep,
    }

    struct Place {
        temp: TempDir,
        disk: Beneath,
    }

    impl Place {
        /// An empty root beside a directory `outside`, which holds a file `file` and a directory `dir`.
        fn new(way: Way) -> Self {
            let temp = tempfile::tempdir().unwrap();
            for dir in ["root", "outside", "outside/dir"] {
                fs::create_dir(temp.path().join(dir)).unwrap();
            }
            OsDisk.create_new(&temp.path().join("outside/file")).unwrap();
            let root = Root::find(&temp.path().join("root")).unwrap();
            let root = if matches!(way, Way::StepByStep) { root.step_by_step() } else { root };
            Self { temp, disk: Beneath::new(root) }
        }

        fn at(&self, path: &str) -> PathBuf {
            self.temp.path().join("root").join(path)
        }

        fn outside(&self, path: &str) -> PathBuf {
            self.temp.path().join("outside").join(path)
        }

        fn names(&self, path: &str) -> Vec<String> {
            let entries = self.disk.read_dir(&self.at(path)).unwrap();
            let mut names: Vec<_> = entries.map(|entry| entry.unwrap().name.into_string().unwrap()).collect();
            names.sort();
            names
        }

        /// What this process has open beneath the root.
        fn kept_open(&self) -> usize {
            let root = self.temp.path().canonicalize().unwrap();
            let open = fs::read_dir("/proc/self/fd").unwrap();
            open.filter(|fd| {
                fs::read_link(fd.as_ref().unwrap().path()).is_ok_and(|path| path.starts_with(&root))
            })
            .count()
        }
    }

    #[rstest]
    fn a_file_is_made_renamed_read_listed_and_removed(
        #[values(Way::AsTheSystemCan, Way::StepByStep)] way: Way,
    ) {
        let place = Place::new(way);
        for dir in ["from", "to", "to/deep"] {
            place.disk.create_dir(&place.at(dir)).unwrap();
        }
        for name in ["a", "b"] {
            let file = place.disk.create_new(&place.at("from").join(name)).unwrap();
            file.write_at(name.as_bytes(), 0).unwrap();
            place.disk.rename_new(&place.at("from").join(name), &place.at("to/deep").join(name)).unwrap();
            place.disk.sync_dir(&place.at("to/deep")).unwrap();
        }
        assert_eq!((place.names("to/deep"), place.names("from")), (vec!["a".into(), "b".into()], vec![]));
        let taken = place.disk.rename_new(&place.at("to/deep/a"), &place.at("to/deep/b")).unwrap_err();
        assert_eq!(taken.kind(), io::ErrorKind::AlreadyExists);
        place.disk.rename(&place.at("to/deep/a"), &place.at("to/deep/b")).unwrap();
        let mut read = [0; 2];
        assert_eq!(place.disk.open(&place.at("to/deep/b"), false).unwrap().read_at(&mut read, 0).unwrap(), 1);
        assert_eq!(read[0], b'a');
        assert_eq!(place.disk.metadata(&place.at("to/deep/b")).unwrap().len, 1);
        assert_eq!(place.disk.metadata(&place.at("")).unwrap().kind, EntryKind::Dir);
        assert!(place.disk.space(&place.at("")).unwrap().total > 0);
        place.disk.sync_all(&place.at("")).unwrap();
        place.disk.remove_file(&place.at("to/deep/b")).unwrap();
        for dir in ["to/deep", "to", "from"] {
            place.disk.remove_dir(&place.at(dir)).unwrap();
        }
        assert!(place.names("").is_empty());
    }

    #[rstest]
    #[case::first("link", "link")]
    #[case::last("dir/link", "dir/link")]
    fn b11_a_link_to_a_directory_leads_nowhere(
        #[values(Way::AsTheSystemCan, Way::StepByStep)] way: Way,
        #[case] link: &str,
        #[case] at: &str,
    ) {
        let place = Place::new(way);
        place.disk.create_dir(&place.at("dir")).unwrap();
        place.disk.create_new(&place.at("dir/mine")).unwrap();
        symlink(place.outside(""), place.at(link)).unwrap();
        let (disk, file, dir) = (&place.disk, place.at(at).join("file"), place.at(at).join("dir"));
        let refused: [(&str, bool); 15] = [
            ("create_new", disk.create_new(&place.at(at).join("new")).is_err()),
            ("open", disk.open(&file, false).is_err()),
            ("open to write", disk.open(&file, true).is_err()),
            ("create_dir", disk.create_dir(&place.at(at).join("new")).is_err()),
            ("rename out", disk.rename(&place.at("dir/mine"), &file).is_err()),
            ("rename in", disk.rename(&file, &place.at("dir/mine")).is_err()),
            ("rename_new out", disk.rename_new(&place.at("dir/mine"), &place.at(at).join("new")).is_err()),
            ("rename_new in", disk.rename_new(&file, &place.at("dir/new")).is_err()),
            ("remove_file", disk.remove_file(&file).is_err()),
            ("remove_dir", disk.remove_dir(&dir).is_err()),
            ("read_dir", disk.read_dir(&place.at(at)).is_err()),
            ("metadata", disk.metadata(&file).is_err()),
            ("sync_dir", disk.sync_dir(&place.at(at)).is_err()),
            ("lock", disk.lock(&file).is_err()),
            ("lock_shared", disk.lock_shared(&file).is_err()),
        ];
        assert_eq!(
            refused.iter().filter(|(_, refused)| !refused).collect::<Vec<_>>(),
            [] as [&(&str, bool); 0]
        );
        assert_eq!(disk.metadata(&place.at(at)).unwrap().kind, EntryKind::Other);
        let mut outside: Vec<_> =
            fs::read_dir(place.outside("")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        outside.sort();
        assert_eq!(outside, ["dir", "file"]);
        assert!(place.at("dir/mine").exists());
    }

    #[rstest]
    fn b11_a_path_that_leaves_its_root_is_refused(
        #[values(Way::AsTheSystemCan, Way::StepByStep)] way: Way,
        #[values("../outside/file", "../rootless", "/etc/passwd", "a\0b")] path: &str,
    ) {
        let place = Place::new(way);
        let (path, kind) = (place.at(path), io::ErrorKind::InvalidInput);
        assert_eq!(place.disk.open(&path, false).unwrap_err().kind(), kind);
        assert_eq!(place.disk.remove_file(&path).unwrap_err().kind(), kind);
        assert_eq!(place.disk.create_new(&path).unwrap_err().kind(), kind);
    }

    #[rstest]
    fn the_root_itself_may_be_written_with_links_and_is_found_once(
        #[values(Way::AsTheSystemCan, Way::StepByStep)] way: Way,
    ) {
        let place = Place::new(way);
        let link = place.temp.path().join("link");
        symlink(place.at(""), &link).unwrap();
        let root = Root::find(&link).unwrap();
        let disk = Beneath::new(if matches!(way, Way::StepByStep) { root.step_by_step() } else { root });
        fs::remove_file(&link).unwrap();
        symlink(place.outside(""), &link).unwrap();
        disk.create_new(&link.join("new")).unwrap();
        assert_eq!(place.names(""), ["new"]);
        assert!(disk.open(&link.join("file"), false).is_err());
    }

    #[test]
    fn a_directory_that_is_kept_is_not_believed_once_it_is_gone() {
        let place = Place::new(Way::AsTheSystemCan);
        for round in ["1", "2"] {
            for dir in ["from", "to"] {
                place.disk.create_dir(&place.at(dir)).unwrap();
            }
            let (from, to) = (place.at("from").join(round), place.at("to").join(round));
            place.disk.create_new(&from).unwrap();
            place.disk.rename_new(&from, &to).unwrap();
            for dir in ["from", "to"] {
                fs::remove_dir_all(place.at(dir)).unwrap();
            }
        }
        place.disk.create_dir(&place.at("from")).unwrap();
        place.disk.create_dir(&place.at("to")).unwrap();
        OsDisk.create_new(&place.at("from/3")).unwrap();
        place.disk.rename_new(&place.at("from/3"), &place.at("to/3")).unwrap();
        assert_eq!(place.names("to"), ["3"]);
    }

    #[test]
    fn nothing_is_open_once_it_was_let_go() {
        let place = Place::new(Way::AsTheSystemCan);
        for n in 0..40 {
            let dir = place.at(&n.to_string());
            place.disk.create_dir(&dir).unwrap();
            place.disk.create_new(&dir.join("from")).unwrap();
            place.disk.rename_new(&dir.join("from"), &dir.join("to")).unwrap();
        }
        assert!((2..=17).contains(&place.kept_open()), "{}", place.kept_open());
        place.disk.let_go();
        assert_eq!(place.kept_open(), 0);
    }
}
