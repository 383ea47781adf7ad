//! A copy of a source that is not whole yet.

use std::{
    ffi::{OsStr, OsString},
    fs::File,
    io,
};

use crate::{folder::Folder, source::Stat};

/// How its name begins.
const BEGINS: &str = ".locus-moving-";
/// Most drafts of one source beside each other.
const DRAFTS_MAX: u32 = 1_000;

/// A file that nobody else writes to: it is locked as long as this is kept, and its name is its own. Dropped before it was
/// published, it is removed.
#[derive(Debug)]
pub(crate) struct Draft<'a> {
    folder: &'a Folder,
    name: OsString,
    file: File,
    place: (u64, u64),
    is_published: bool,
}

impl<'a> Draft<'a> {
    /// Begins a draft of this source. What a process that was killed left of one is removed.
    pub(crate) fn begin(folder: &'a Folder, source: &Stat) -> io::Result<Self> {
        for number in 0..DRAFTS_MAX {
            let name = OsString::from(format!("{BEGINS}{:x}-{}-{number}", source.device, source.inode));
            match Self::create(folder, &name) {
                Ok(Some(draft)) => return Ok(draft),
                Ok(None) => {}
                Err(error) => return Err(error),
            }
        }
        Err(io::ErrorKind::AlreadyExists.into())
    }

    /// `None` when somebody else has this name.
    fn create(folder: &'a Folder, name: &OsStr) -> io::Result<Option<Self>> {
        let file = match folder.create(name) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                if !remove_left(folder, name)? {
                    return Ok(None);
                }
                match folder.create(name) {
                    Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(None),
                    other => other?,
                }
            }
            other => other?,
        };
        let is_ours = Folder::lock(&file).unwrap_or(true); // without locks nobody takes it for one that was left
        let place = Folder::stat_of_file(&file)?.place();
        Ok(is_ours.then(|| Self { folder, name: name.to_owned(), file, place, is_published: false }))
    }

    pub(crate) const fn file(&self) -> &File {
        &self.file
    }

    /// Gives it this name, unless that is taken.
    ///
    /// # Errors
    /// [`AlreadyExists`](io::ErrorKind::AlreadyExists); when something else has the name of the draft by now.
    pub(crate) fn publish(&mut self, name: &OsStr) -> io::Result<()> {
        if self.folder.stat_of(&self.name)?.place() != self.place {
            return Err(io::Error::other("the copy was replaced before it was whole"));
        }
        self.folder.rename_new(&self.name, self.folder, name)?;
        self.is_published = true;
        Ok(())
    }
}

impl Drop for Draft<'_> {
    fn drop(&mut self) {
        let is_there = || self.folder.stat_of(&self.name).is_ok_and(|there| there.place() == self.place);
        if !self.is_published && is_there() {
            let _ = self.folder.remove(&self.name); // the next one of this source does it
        }
    }
}

/// Removes a draft that nobody has locked; says whether that was so.
fn remove_left(folder: &Folder, name: &OsStr) -> io::Result<bool> {
    let file = match folder.file(name) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(true),
        other => other?,
    };
    if !Folder::lock(&file).unwrap_or(false)
        || folder.stat_of(name)?.place() != Folder::stat_of_file(&file)?.place()
    {
        return Ok(false);
    }
    folder.remove(name)?;
    Ok(true)
}

#[cfg(all(test, unix))]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn a_draft_that_somebody_writes_is_let_alone_and_one_that_was_left_is_removed() {
        let temp = tempfile::tempdir().unwrap();
        let (folder, source) = (Folder::open(temp.path()).unwrap(), Stat::default());
        let names = || std::fs::read_dir(temp.path()).unwrap().count();
        let mut first = Draft::begin(&folder, &source).unwrap();
        first.file().write_all(b"half").unwrap();
        let mut second = Draft::begin(&folder, &source).unwrap();
        second.file().write_all(b"whole").unwrap();
        second.publish("a".as_ref()).unwrap();
        assert_eq!(std::fs::read(temp.path().join("a")).unwrap(), b"whole");
        assert_eq!(names(), 2);
        assert_eq!(first.publish("a".as_ref()).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        first.is_published = true; // as if the process were killed here
        let left = first.name.clone();
        drop(first);
        assert!(temp.path().join(&left).exists());
        let third = Draft::begin(&folder, &source).unwrap();
        assert_eq!(third.name, left);
        drop((third, second));
        assert_eq!(names(), 1);
    }

    #[test]
    fn what_took_the_name_of_a_draft_is_neither_published_nor_removed() {
        let temp = tempfile::tempdir().unwrap();
        let folder = Folder::open(temp.path()).unwrap();
        let mut draft = Draft::begin(&folder, &Stat::default()).unwrap();
        folder.remove(&draft.name).unwrap();
        drop(folder.create(&draft.name).unwrap());
        draft.publish("a".as_ref()).unwrap_err();
        drop(draft);
        assert_eq!(std::fs::read_dir(temp.path()).unwrap().count(), 1);
        assert!(!temp.path().join("a").exists());
    }
}
