//! A file system of its own, in a file.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use tempfile::TempDir;

/// An ext4 file system on a loop device. Gone when it is dropped, whatever happened.
#[derive(Debug)]
pub(crate) struct LoopDisk {
    temp: TempDir,
}

impl LoopDisk {
    /// Needs root. Nothing of it is set apart for root, so that everybody meets the same end.
    pub(crate) fn new(bytes: u64) -> Self {
        let disk = Self { temp: tempfile::tempdir().unwrap() };
        let image = disk.temp.path().join("image");
        fs::File::create(&image).unwrap().set_len(bytes).unwrap();
        run(Command::new("mkfs.ext4").args(["-q", "-m", "0"]).arg(&image));
        fs::create_dir(disk.dir()).unwrap();
        run(Command::new("mount").args(["-o", "loop"]).arg(&image).arg(disk.dir()));
        disk
    }

    /// Where it is mounted.
    pub(crate) fn dir(&self) -> PathBuf {
        self.temp.path().join("mounted")
    }
}

impl Drop for LoopDisk {
    fn drop(&mut self) {
        let unmount = |how: &[&str], dir: &Path| {
            Command::new("umount").args(how).arg(dir).status().is_ok_and(|status| status.success())
        };
        let dir = self.dir();
        if !unmount(&[], &dir) && !unmount(&["--lazy"], &dir) {
            eprintln!("{} is still mounted", dir.display());
        }
    }
}

fn run(command: &mut Command) {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}
