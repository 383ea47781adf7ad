//! A source as the file system shows it, and the name under which the store remembers it.

use std::time::Duration;

use locus_core::{Checksum, TenantId, Timestamp, WatcherId};
use serde::{Deserialize, Serialize};

/// What something in a folder is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Kind {
    #[default]
    File,
    Dir,
    Link,
    Fifo,
    Socket,
    Device,
}

/// A time of the file system: seconds since the Unix epoch and nanoseconds.
pub(crate) type FileTime = (i64, u32);

/// What `lstat(2)` tells of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Stat {
    pub(crate) kind: Kind,
    pub(crate) size: u64,
    pub(crate) links: u64,
    pub(crate) modified: FileTime,
    pub(crate) changed: FileTime,
    pub(crate) inode: u64,
    pub(crate) device: u64,
}

impl Stat {
    /// What is another as soon as the source changed.
    pub(crate) const fn print(&self) -> (u64, FileTime, FileTime, u64) {
        (self.size, self.modified, self.changed, self.inode)
    }

    /// Whether this is the very same folder.
    pub(crate) const fn place(&self) -> (u64, u64) {
        (self.device, self.inode)
    }

    /// How long ago it was changed by its own time; `None` when that lies in the future.
    pub(crate) fn age(&self, now: Timestamp) -> Option<Duration> {
        let (seconds, nanos) = self.modified;
        let modified = seconds.saturating_mul(1_000_000).saturating_add(i64::from(nanos / 1_000));
        u64::try_from(now.as_micros().saturating_sub(modified)).ok().map(Duration::from_micros)
    }
}

/// The number of an inode, which is written in full: how long an entry is depends on the source alone, not on how far a file
/// system has counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Inode(#[serde(with = "postcard::fixint::le")] pub(crate) u64);

/// The folders on the way to a source, as they were when it was seen: the watched one, and so on to the one that holds it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Way {
    pub(crate) folders: Vec<Inode>,
    /// Which of them is where the file system of the source begins, as far as can be seen from the watched one, which is 0.
    pub(crate) begins: u8,
}

impl Way {
    /// Ends in the watched folder.
    pub(crate) fn to_root(root: &Stat) -> Self {
        Self { folders: vec![Inode(root.inode)], begins: 0 }
    }

    /// Goes on into a folder, which may be where a file system is mounted.
    pub(crate) fn on_to(&self, folder: &Stat, is_mount: bool) -> Self {
        let mut folders = self.folders.clone();
        folders.push(Inode(folder.inode));
        let depth = u8::try_from(self.folders.len()).unwrap_or(u8::MAX); // no folder lies so deep
        Self { folders, begins: if is_mount { depth } else { self.begins } }
    }
}

/// What is noted of a source before it is brought in. The device is not part of it: its number is another after a mount.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Noted {
    pub(crate) tenant: TenantId,
    pub(crate) way: Way,
    /// From the watched folder on, as the system writes it.
    pub(crate) path: Vec<u8>,
    pub(crate) size: u64,
    pub(crate) modified: FileTime,
    #[serde(with = "postcard::fixint::le")]
    pub(crate) inode: u64,
}

impl Noted {
    /// Whether `stat` shows what was noted.
    pub(crate) fn is(&self, stat: &Stat) -> bool {
        stat.kind == Kind::File
            && (stat.size, stat.modified, stat.inode) == (self.size, self.modified, self.inode)
    }

    /// The name under which the store remembers it.
    pub(crate) fn identity(&self, watcher: &WatcherId) -> String {
        let Self { path, size, modified: (seconds, nanos), inode, .. } = self;
        let fixed =
            [&size.to_le_bytes()[..], &seconds.to_le_bytes(), &nanos.to_le_bytes(), &inode.to_le_bytes()];
        let sum = Checksum::of(&[&fixed.concat(), path.as_slice()].concat());
        format!("watcher/{watcher}/{sum}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noted() -> Noted {
        let tenant = TenantId::parse("acme").unwrap();
        let way = Way { folders: vec![Inode(7), Inode(1)], begins: 0 };
        Noted { tenant, way, path: b"a/b".to_vec(), size: 2, modified: (3, 4), inode: 5 }
    }

    #[test]
    fn whatever_tells_one_source_from_another_is_in_its_identity() {
        let id = |noted: &Noted| noted.identity(&WatcherId::parse("in").unwrap());
        let first = noted();
        let others = [
            Noted { path: b"a/c".to_vec(), ..noted() },
            Noted { size: 3, ..noted() },
            Noted { modified: (3, 5), ..noted() },
            Noted { modified: (4, 4), ..noted() },
            Noted { inode: 6, ..noted() },
        ];
        for other in &others {
            assert_ne!(id(&first), id(other), "{other:?}");
        }
        assert_ne!(id(&first), first.identity(&WatcherId::parse("in2").unwrap()));
        assert_eq!(
            id(&first),
            id(&Noted { way: Way { folders: vec![Inode(9)], begins: 0 }, ..noted() }),
            "a folder that was mounted anew is the same"
        );
    }

    #[test]
    fn a_way_tells_where_the_file_system_of_a_source_begins() {
        let of = |inode| Stat { inode, ..Stat::default() };
        let way = Way::to_root(&of(1)).on_to(&of(2), false);
        assert_eq!(way, Way { folders: vec![Inode(1), Inode(2)], begins: 0 });
        let way = way.on_to(&of(3), true).on_to(&of(4), false);
        assert_eq!((way.folders.len(), way.begins), (4, 2));
        assert_eq!(way.on_to(&of(5), true).begins, 4);
    }

    #[test]
    fn an_age_is_told_unless_the_change_lies_in_the_future() {
        let stat = Stat { modified: (100, 500_000_000), ..Stat::default() };
        let at = |micros| Timestamp::from_micros(micros);
        assert_eq!(stat.age(at(101_000_000)), Some(Duration::from_millis(500)));
        assert_eq!(stat.age(at(100_000_000)), None);
        assert_eq!(
            Stat { modified: (i64::MIN, 0), ..stat }.age(at(i64::MAX)),
            Some(Duration::from_micros(i64::MAX as u64))
        );
    }
}
