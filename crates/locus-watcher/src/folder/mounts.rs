//! Where a directory lies in its file system, whichever mount leads to it: a part of a file system may be mounted a second time,
//! and then nothing above it tells where it is from.

use std::{
    ffi::OsString,
    fs,
    os::{
        fd::{AsRawFd, OwnedFd},
        unix::ffi::OsStringExt,
    },
    path::{Path, PathBuf},
};

/// A place in a file system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct InFileSystem {
    /// As the system numbers it.
    file_system: String,
    /// From its root on.
    path: PathBuf,
}

impl InFileSystem {
    /// Of an open directory; `None` where the system does not say.
    pub(crate) fn of(directory: &OwnedFd) -> Option<Self> {
        let number = directory.as_raw_fd();
        let path = fs::read_link(format!("/proc/self/fd/{number}")).ok()?;
        let told = fs::read_to_string(format!("/proc/self/fdinfo/{number}")).ok()?;
        let mount = told.lines().find_map(|line| line.strip_prefix("mnt_id:"))?.trim();
        find(&fs::read("/proc/self/mountinfo").ok()?, mount, &path)
    }

    /// What lies there beneath it.
    pub(crate) fn join(&self, beneath: &Path) -> Self {
        Self { file_system: self.file_system.clone(), path: self.path.join(beneath) }
    }

    /// Whether this is the other, or lies in it.
    pub(crate) fn lies_in(&self, other: &Self) -> bool {
        self.file_system == other.file_system && self.path.starts_with(&other.path)
    }
}

/// Where `path`, which lies in the mount of this number, lies in its file system.
fn find(mounts: &[u8], mount: &str, path: &Path) -> Option<InFileSystem> {
    let fields = |line: &[u8]| line.split(|byte| *byte == b' ').map(<[u8]>::to_vec).collect::<Vec<_>>();
    mounts.split(|byte| *byte == b'\n').map(fields).find_map(|fields| {
        let [id, _, file_system, root, point, ..] = fields.as_slice() else { return None };
        if id.as_slice() != mount.as_bytes() {
            return None;
        }
        let beneath = path.strip_prefix(unescaped(point)).ok()?;
        let file_system = String::from_utf8_lossy(file_system).into_owned();
        Some(InFileSystem { file_system, path: unescaped(root).join(beneath) })
    })
}

/// A path as it is: spaces and the like are written as a backslash and three octal digits.
fn unescaped(field: &[u8]) -> PathBuf {
    let (mut bytes, mut rest) = (Vec::new(), field);
    while let Some((&byte, after)) = rest.split_first() {
        let octal = after.split_at_checked(3).filter(|_| byte == b'\\');
        let decoded = octal.and_then(|(digits, after)| {
            let value = u8::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok()?;
            Some((value, after))
        });
        let (byte, after) = decoded.unwrap_or((byte, after));
        bytes.push(byte);
        rest = after;
    }
    OsString::from_vec(bytes).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTS: &[u8] = b"29 1 8:1 / / rw - ext4 /dev/sda1 rw\n\
        36 29 8:17 /store /mnt/my\\040disk rw - ext4 /dev/sdb1 rw\n\
        41 29 8:17 /store/vol/acme /srv/inbox rw - ext4 /dev/sdb1 rw\n";

    #[test]
    fn a_part_of_a_file_system_that_is_mounted_twice_lies_where_it_is_from() {
        let at = |mount: &str, path: &str| find(MOUNTS, mount, Path::new(path)).unwrap();
        let volume = at("36", "/mnt/my disk/vol");
        assert!(at("41", "/srv/inbox/deep").lies_in(&volume) && at("41", "/srv/inbox").lies_in(&volume));
        assert!(!volume.lies_in(&at("41", "/srv/inbox")));
        assert!(!at("29", "/store/vol/acme").lies_in(&volume), "of another file system");
        assert_eq!(find(MOUNTS, "99", Path::new("/")), None);
    }
}
