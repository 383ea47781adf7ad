//! File systems of their own, in a file or in memory.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use tempfile::TempDir;

/// What is made in the image of a disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FileSystem {
    Ext4,
    /// Not made smaller than 300 MiB.
    Xfs,
}

/// A file system that is mounted. Gone when it is dropped, whatever happened.
#[derive(Debug)]
pub(crate) struct LoopDisk {
    temp: TempDir,
}

impl LoopDisk {
    /// An ext4 file system on a loop device. Needs root. Nothing of it is set apart for root, so that everybody meets the
    /// same end.
    pub(crate) fn new(bytes: u64) -> Self {
        let disk = Self::with(FileSystem::Ext4, bytes);
        disk.mount(&[]);
        disk
    }

    /// Made, and not yet mounted.
    pub(crate) fn with(system: FileSystem, bytes: u64) -> Self {
        let disk = Self { temp: tempfile::tempdir().unwrap() };
        let image = disk.image();
        fs::File::create(&image).unwrap().set_len(bytes).unwrap();
        match system {
            FileSystem::Ext4 => run(Command::new("mkfs.ext4").args(["-q", "-m", "0"]).arg(&image)),
            FileSystem::Xfs => run(Command::new("mkfs.xfs").arg("-q").arg(&image)),
        }
        fs::create_dir(disk.dir()).unwrap();
        disk
    }

    /// A file system in memory, with `options` as `mount` takes them. Needs root.
    pub(crate) fn in_memory(options: &str) -> Self {
        let disk = Self { temp: tempfile::tempdir().unwrap() };
        fs::create_dir(disk.dir()).unwrap();
        run(Command::new("mount").args(["-t", "tmpfs", "-o", options, "tmpfs"]).arg(disk.dir()));
        disk
    }

    /// Mounts it (again), with `options` as `mount` takes them beside its own.
    pub(crate) fn mount(&self, options: &[&str]) {
        let options = [&["loop"], options].concat().join(",");
        run(Command::new("mount").args(["-o", &options]).arg(self.image()).arg(self.dir()));
    }

    /// What ext4 does by itself when it meets an error: from now on it can only be read.
    pub(crate) fn abort(&self) {
        run(Command::new("mount").args(["-o", "remount,abort"]).arg(self.dir()));
    }

    pub(crate) fn unmount(&self) {
        run(Command::new("umount").arg(self.dir()));
    }

    /// Takes it away although it is in use: its mount point is there, and empty.
    pub(crate) fn vanish(&self) {
        run(Command::new("umount").arg("--lazy").arg(self.dir()));
    }

    /// Mounts it in another place, and says where.
    pub(crate) fn mount_elsewhere(&self) -> PathBuf {
        let dir = self.elsewhere();
        fs::create_dir(&dir).unwrap();
        run(Command::new("mount").args(["-o", "loop"]).arg(self.image()).arg(&dir));
        dir
    }

    fn elsewhere(&self) -> PathBuf {
        self.temp.path().join("elsewhere")
    }

    /// Nothing reaches the disk from now on, not even what its journal holds.
    pub(crate) fn shut_down(&self) {
        run(Command::new("xfs_io").args(["-x", "-c", "shutdown"]).arg(self.dir()));
    }

    /// Where it is mounted.
    pub(crate) fn dir(&self) -> PathBuf {
        self.temp.path().join("mounted")
    }

    fn image(&self) -> PathBuf {
        self.temp.path().join("image")
    }

    fn is_mounted(dir: &Path) -> bool {
        Command::new("mountpoint").arg("-q").arg(dir).status().is_ok_and(|status| status.success())
    }
}

impl Drop for LoopDisk {
    fn drop(&mut self) {
        let unmount = |how: &[&str], dir: &Path| {
            Command::new("umount").args(how).arg(dir).status().is_ok_and(|status| status.success())
        };
        for dir in [self.dir(), self.elsewhere()] {
            if Self::is_mounted(&dir) && !unmount(&[], &dir) && !unmount(&["--lazy"], &dir) {
                eprintln!("{} is still mounted", dir.display());
            }
        }
    }
}

/// A directory that can only be read, for whoever comes by its path, until this is dropped. Needs root.
#[derive(Debug)]
pub(crate) struct ReadOnly(PathBuf);

impl ReadOnly {
    pub(crate) fn over(dir: &Path) -> Self {
        run(Command::new("mount").arg("--bind").args([dir, dir]));
        let over = Self(dir.to_owned());
        run(Command::new("mount").args(["-o", "remount,bind,ro"]).arg(dir));
        over
    }
}

impl Drop for ReadOnly {
    fn drop(&mut self) {
        if !Command::new("umount").arg(&self.0).status().is_ok_and(|status| status.success()) {
            eprintln!("{} is still mounted read-only", self.0.display());
        }
    }
}

fn run(command: &mut Command) {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}
