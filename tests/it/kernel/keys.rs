//! The keys of one store over all its lives.

use std::{collections::BTreeSet, thread, time::Duration};

use locus::Durability;
use locus_tests::{Form, Note, Plan};

use super::victim::{Desk, command};
use crate::support::seed;

/// Writes that each program confirms before it is killed; it opens its store several times meanwhile.
const WRITES: usize = 400;

#[test]
fn b12_the_keys_of_writers_at_once_over_restarts_and_processes_are_all_others() {
    let (seed, temp) = (seed(), tempfile::tempdir().unwrap());
    let (mut desk, mut keys, mut openings, mut first) = (Desk::new(), BTreeSet::new(), 0, 0);
    for process in 1..=3 {
        let (dir, durability, form) = (temp.path().into(), Durability::Buffered, Form::Busy);
        let mut running = desk.start(command(&Plan { dir, durability, form, seed, first, on_caller: false }));
        let mut note = |notes: Vec<Note>| {
            for note in notes {
                match note {
                    Note::Wrote { key, .. } => assert!(keys.insert(key), "{key} was given before"),
                    Note::Write { n, .. } => first = first.max(n + 1),
                    Note::Opened => openings += 1,
                    _ => {}
                }
            }
            keys.len()
        };
        let mut looks = 0;
        while note(desk.notes()) < process * WRITES {
            looks += 1;
            assert!(!running.is_over() && looks < 60_000, "process {process} waited for in vain");
            thread::sleep(Duration::from_millis(2));
        }
        running.kill();
        desk.check_words();
        note(desk.notes());
    }
    println!("{} keys of {openings} openings in 3 processes", keys.len());
    assert!(openings > 3, "{openings}");
}
