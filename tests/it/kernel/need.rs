//! What a story needs of the machine.

use std::{io::Write, path::Path, process::Command};

/// Whether the machine has all of it. Where it has not, says so where no harness hides it.
pub(crate) fn can(story: &str, needs: &[Need]) -> bool {
    let missing: Vec<&Need> = needs.iter().filter(|need| !need.is_met()).collect();
    if missing.is_empty() {
        return true;
    }
    let told = format!("SKIPPED {story}: needs {missing:?}\n");
    assert!(std::env::var_os("LOCUS_KERNEL_REQUIRED").is_none(), "{told}");
    std::io::stderr().write_all(told.as_bytes()).unwrap();
    false
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum Need {
    /// Root, who may mount.
    Root,
    LoopDevices,
    Command(&'static str),
    /// A file in `/dev`.
    Device(&'static str),
}

impl Need {
    /// What a file system on a loop device needs.
    pub(crate) const DISK: [Self; 3] = [Self::Root, Self::LoopDevices, Self::Command("mkfs.ext4")];

    pub(super) fn is_met(&self) -> bool {
        match self {
            Need::Root => Path::new("/proc/self").metadata().is_ok_and(|own| {
                use std::os::unix::fs::MetadataExt;
                own.uid() == 0
            }),
            Need::LoopDevices => Path::new("/dev/loop-control").exists(),
            Need::Device(path) => Path::new(path).exists(),
            Need::Command(name) => Command::new("sh")
                .args(["-c", &format!("command -v {name}")])
                .output()
                .is_ok_and(|output| output.status.success()),
        }
    }
}
