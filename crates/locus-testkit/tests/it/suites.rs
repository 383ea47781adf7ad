//! Every disk passes the suite.

use std::path::Path;

use locus_fs::{Disk, OsDisk};
use locus_testkit::{SimDisk, disk_suite};

#[test]
fn the_simulated_disk_keeps_the_contract_of_a_disk() {
    for seed in 0..5 {
        let disk = SimDisk::new(seed);
        disk_suite::run(&*disk, Path::new("/"));
        disk.create_dir(Path::new("/below")).unwrap();
        disk_suite::run(&*disk, Path::new("below"));
    }
}

#[test]
fn the_disk_of_the_system_keeps_the_contract_of_a_disk() {
    let dir = tempfile::tempdir().unwrap();
    disk_suite::run(&OsDisk, dir.path());
}
