//! The ground: a directory on a real disk, and what is known about it.

use std::{
    fmt, fs, io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use tempfile::TempDir;

/// A directory for the data of one run, removed with it, and a word about where it lies.
#[derive(Debug)]
pub struct Ground {
    dir: TempDir,
    mount: Mount,
}

impl Ground {
    /// Makes a directory in `LOCUS_BENCH_DIR`, or in `fallback`.
    ///
    /// # Errors
    /// When it cannot be made, or when no mount holds it.
    pub fn open(fallback: &str) -> io::Result<Self> {
        Self::below(&std::env::var_os("LOCUS_BENCH_DIR").map_or_else(|| fallback.into(), PathBuf::from))
    }

    /// Makes a directory in `above`, which is made if need be.
    ///
    /// # Errors
    /// When it cannot be made, or when no mount holds it.
    pub fn below(above: &Path) -> io::Result<Self> {
        fs::create_dir_all(above)?;
        let above = above.canonicalize()?;
        let dir = tempfile::Builder::new().prefix("locus-bench-").tempdir_in(&above)?;
        let mount = Mount::of(&above, &fs::read_to_string("/proc/self/mountinfo")?)
            .ok_or_else(|| io::Error::other("no mount holds the benchmark's directory"))?;
        Ok(Self { dir, mount })
    }

    /// The directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Lets other accounts through to what is theirs beneath it.
    ///
    /// # Errors
    /// What the disk says.
    pub fn open_to_others(&self) -> io::Result<()> {
        fs::set_permissions(self.path(), fs::Permissions::from_mode(0o711))
    }

    /// `ext4 without a journal`, `xfs`.
    #[must_use]
    pub fn file_system(&self) -> String {
        let journal = match self.mount.has_journal() {
            Some(true) => " with a journal",
            Some(false) => " without a journal",
            None => "",
        };
        format!("{}{journal}", self.mount.kind)
    }

    /// Writes out whatever the file system still owes the disk, so that nobody pays for what others left behind.
    ///
    /// # Errors
    /// What the disk says.
    pub fn settle(&self) -> io::Result<()> {
        Ok(rustix::fs::syncfs(fs::File::open(self.path())?)?)
    }
}

impl fmt::Display for Ground {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        let cores = std::thread::available_parallelism().map_or(0, usize::from);
        let Mount { kind, options, at, device, .. } = &self.mount;
        let file_system = self.file_system();
        writeln!(f, "file system: {file_system} on {device}, mounted at {at} ({options})")?;
        if kind == "tmpfs" {
            writeln!(
                f,
                "             memory, not a disk: syncs cost nothing here, durable figures mean nothing"
            )?;
        }
        write!(f, "machine:     {cores} cores, kernel {}", kernel.trim())
    }
}

/// A line of `/proc/self/mountinfo`.
#[derive(Debug, PartialEq, Eq)]
struct Mount {
    at: String,
    kind: String,
    device: String,
    options: String,
    /// `major:minor`.
    number: String,
}

impl Mount {
    /// The innermost mount over `path`; of those at one place the last one.
    fn of(path: &Path, mountinfo: &str) -> Option<Self> {
        let mounts = mountinfo.lines().filter_map(Self::parse);
        mounts.filter(|mount| path.starts_with(&mount.at)).max_by_key(|mount| mount.at.len())
    }

    fn parse(line: &str) -> Option<Self> {
        let (left, right) = line.split_once(" - ")?;
        let left = left.split(' ').collect::<Vec<_>>();
        let mut right = right.split(' ');
        Some(Self {
            number: (*left.get(2)?).into(),
            at: (*left.get(4)?).into(),
            options: (*left.get(5)?).into(),
            kind: right.next()?.into(),
            device: right.next()?.into(),
        })
    }

    /// Whether an ext4 has a journal; `None` where that is not asked, or cannot be told.
    fn has_journal(&self) -> Option<bool> {
        if self.kind != "ext4" {
            return None;
        }
        let device = fs::read_link(format!("/sys/dev/block/{}", self.number)).ok()?;
        let device = format!("{}-", device.file_name()?.to_str()?);
        let journals = match fs::read_dir("/proc/fs/jbd2") {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Some(false),
            other => other.ok()?,
        };
        let mut names = journals.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        Some(names.any(|name| name.starts_with(&device)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTS: &str = "\
21 1 254:0 / / rw,relatime - ext4 /dev/vda rw
22 21 0:20 / /tmp rw,nosuid shared:3 - tmpfs tmpfs rw,size=1k
23 21 7:0 / /srv/disk rw - xfs /dev/loop0 rw";

    #[test]
    fn the_innermost_mount_is_found() {
        let at = |path| Mount::of(Path::new(path), MOUNTS).unwrap();
        assert_eq!(at("/home").kind, "ext4");
        assert_eq!(at("/tmp/x").kind, "tmpfs");
        assert_eq!(at("/tmpx").kind, "ext4");
        assert_eq!(
            (at("/srv/disk/a").device.as_str(), at("/srv/disk").number.as_str()),
            ("/dev/loop0", "7:0")
        );
    }
}
