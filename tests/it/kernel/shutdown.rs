//! File systems that are shut down without a flush, as by a power cut.

use std::{thread, time::Duration};

use locus::Durability;
use locus_testkit::SeededEntropy;
use locus_tests::{Form, Plan};
use rstest::rstest;

use super::{
    book::{Book, Crash},
    need::{Need, can},
    victim::{Desk, command},
};
use crate::{
    loop_disk::{FileSystem, LoopDisk},
    support::{number, seed},
};

/// Most time that a program has before its disk goes, in microseconds.
const LIFE_MAX: u64 = 400_000;

/// Time for it to see what calls say then, in microseconds.
const AFTER_MAX: u64 = 30_000;

/// Shutdowns until everything is made anew.
const SHUTDOWNS_PER_DISK: u64 = 25;

#[rstest]
fn b1_what_was_confirmed_survives_a_file_system_shut_down_without_a_flush(
    #[values(FileSystem::Ext4, FileSystem::Xfs)] system: FileSystem,
    #[values(Durability::Durable, Durability::Buffered)] durability: Durability,
) {
    let needs = [&Need::DISK[..], &[Need::Command("mkfs.xfs"), Need::Command("xfs_io")]].concat();
    if !can("file systems shut down without a flush", &needs) {
        return;
    }
    let seed = seed();
    let random = SeededEntropy::new(seed);
    let (mut acknowledged, mut lost_allowed) = (0, 0);
    let mut left = number("LOCUS_SHUTDOWNS", 6).div_ceil(2);
    let all = left;
    while left > 0 {
        let now = left.min(SHUTDOWNS_PER_DISK);
        left -= now;
        let disk = LoopDisk::with(system, if system == FileSystem::Xfs { 300 << 20 } else { 128 << 20 });
        let (mut desk, mut book) = (Desk::new(), Book::default());
        let mut plan = Plan {
            dir: disk.dir().join("store"),
            durability,
            form: Form::Busy,
            seed,
            first: 0,
            on_caller: false,
        };
        for at in 0..now {
            // What a crash leaves of content that was not synced is at its worst where the journal orders nothing.
            let options: &[&str] =
                if system == FileSystem::Ext4 && at % 2 == 1 { &["data=writeback"] } else { &[] };
            disk.mount(options);
            if at == 0 {
                std::fs::create_dir(&plan.dir).unwrap();
                // The store's own directory is nobody's promise.
                std::fs::File::open(disk.dir()).unwrap().sync_all().unwrap();
            }
            plan.first = book.next();
            let mut running = desk.start(command(&plan));
            // Moments of the clock are what this is about.
            thread::sleep(Duration::from_micros(random.below(LIFE_MAX)));
            disk.shut_down();
            thread::sleep(Duration::from_micros(random.below(AFTER_MAX)));
            running.stop();
            disk.unmount();
            desk.check_words();
            disk.mount(options);
            book.note(&desk.notes());
            book.check(&plan, Crash::PowerLoss);
            if at + 1 < now {
                disk.unmount();
            }
        }
        (acknowledged, lost_allowed) = (acknowledged + book.acknowledged, lost_allowed + book.lost_allowed);
        println!("errors {:?}", book.errors);
        book.close(&plan);
    }
    println!(
        "{system:?}, {durability:?}: {all} shutdowns, {acknowledged} changes confirmed, \
         {lost_allowed} lost that were not synced"
    );
    assert!((acknowledged > 0 || all < 10) && (durability == Durability::Buffered || lost_allowed == 0));
}
