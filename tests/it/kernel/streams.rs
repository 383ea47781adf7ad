//! A content of unknown length in and out, and the memory that it takes.

use locus::Durability;
use locus_tests::{Form, Note, Plan};

use super::victim::{Desk, command};
use crate::support::{files_below, number, seed};

/// Beyond what the program has when its store is open, in bytes.
const EXTRA_MAX: u64 = 32 << 20;

#[test]
fn b8_a_stream_of_unknown_length_goes_in_and_out_in_little_memory_whatever_its_length() {
    let bytes = number("LOCUS_STREAM_MIB", 256) << 20;
    let (seed, temp) = (seed(), tempfile::tempdir().unwrap());
    let form = Form::Stream { bytes };
    let durability = Durability::Durable;
    let plan = Plan { dir: temp.path().into(), durability, form, seed, first: 0, on_caller: false };
    let mut desk = Desk::new();
    let status = desk.start(command(&plan)).wait_long(1 + (bytes >> 30) as u32);
    desk.check_words();
    assert!(status.success(), "{status}");
    let notes = desk.notes();
    let [Note::Wrote { .. }, Note::Streamed { extra_bytes, in_ms, out_ms }, Note::Over] = notes[..] else {
        panic!("{notes:?}")
    };
    println!("{bytes} bytes: {extra_bytes} of memory; in {in_ms} ms, out {out_ms} ms");
    assert!(extra_bytes < EXTRA_MAX, "{extra_bytes}");
    let left: Vec<_> = plan.volumes().iter().flat_map(|dir| files_below(dir)).collect();
    assert!(left.iter().all(|path| path.ends_with(".locus-volume")), "{left:?}");
}
