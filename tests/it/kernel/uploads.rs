//! An upload whose program is killed again and again.

use std::{collections::BTreeSet, thread, time::Duration};

use locus::{Durability, Error, VerifyLevel, prelude::*};
use locus_testkit::SeededEntropy;
use locus_tests::{Form, Note, Plan};
use tokio::{io::AsyncReadExt, runtime};

use super::victim::{Desk, Running, command};
use crate::support::{content, files_below, number, seed};

const KILLS: u64 = 20;

/// The last of them come while the upload is being finished, or just after.
const LATE: u64 = 5;

/// Most time between what is waited for and the kill, in microseconds.
const LATER_MAX: u64 = 20_000;

/// What is told of the upload, over all lives.
#[derive(Debug, Default)]
struct Told {
    id: Option<locus::UploadId>,
    pieces: BTreeSet<u64>,
    finishing: u64,
    keys: BTreeSet<FileKey>,
}

impl Told {
    fn note(&mut self, notes: Vec<Note>) {
        for note in notes {
            match note {
                Note::Begun { id } => assert_eq!(self.id.replace(id), None, "begun once"),
                Note::Piece { at } => {
                    assert!(self.pieces.insert(at), "piece {at} was confirmed, and sent again");
                }
                Note::Finishing => self.finishing += 1,
                Note::Wrote { key, .. } => drop(self.keys.insert(key)),
                other => panic!("{other:?}"),
            }
        }
    }

    /// Hears until `enough`. Fails instead of hanging.
    fn hear(&mut self, desk: &mut Desk, running: &mut Running, enough: impl Fn(&Self) -> bool) {
        for _ in 0..150_000 {
            self.note(desk.notes());
            if enough(self) {
                return;
            }
            if running.is_over() {
                desk.check_words();
                panic!("it ended by itself: {self:?}");
            }
            thread::sleep(Duration::from_millis(2));
        }
        panic!("waited in vain: {self:?}");
    }
}

#[test]
fn b17_an_upload_whose_program_is_killed_twenty_times_is_resumed_and_becomes_one_file() {
    let bytes = number("LOCUS_UPLOAD_MIB", 20) << 20;
    let piece = (bytes / 1_024).next_multiple_of(64 << 10);
    let pieces = bytes.div_ceil(piece);
    let (seed, temp) = (seed(), tempfile::tempdir().unwrap());
    let random = SeededEntropy::new(seed);
    let (mut desk, mut told) = (Desk::new(), Told::default());
    let (dir, durability) = (temp.path().to_owned(), Durability::Durable);
    let start = |desk: &Desk, told: &Told| {
        let form = Form::Upload { bytes, piece, begun: told.id };
        let dir = dir.clone();
        desk.start(command(&Plan { dir, durability, form, seed, first: 0, on_caller: false }))
    };
    for kill in 0..KILLS {
        let mut running = start(&desk, &told);
        let (begun, finishing) = (told.id.is_some(), told.finishing);
        let wanted = told.pieces.len() as u64 + random.below(pieces / KILLS);
        // Some die while they open the store.
        if !begun || random.below(5) > 0 {
            told.hear(&mut desk, &mut running, |told| {
                let late = told.finishing > finishing || !told.keys.is_empty();
                told.id.is_some() && (late || (kill < KILLS - LATE && told.pieces.len() as u64 >= wanted))
            });
        }
        // A moment of the clock is what this is about.
        thread::sleep(Duration::from_micros(random.below(LATER_MAX)));
        assert!(!running.is_over(), "kill {kill}: it ended by itself");
        running.kill();
        desk.check_words();
        told.note(desk.notes());
    }
    let mut running = start(&desk, &told);
    told.hear(&mut desk, &mut running, |told| !told.keys.is_empty());
    running.kill();
    told.note(desk.notes());
    println!("{pieces} pieces, {} told of; {} times about to be finished", told.pieces.len(), told.finishing);
    assert_eq!(told.keys.len(), 1, "{:?}", told.keys);

    let form = Form::Short; // only its store matters
    let plan = Plan { dir, durability, form, seed, first: 0, on_caller: false };
    let runtime = runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let locus = plan.open().await.unwrap();
        let acme = locus.tenants().get(Plan::tenant(0)).await.unwrap();
        let (id, key) = (told.id.unwrap(), *told.keys.first().unwrap());
        assert_eq!(locus.pool().finish_upload(&acme, &id).await.unwrap(), key);
        let gone = locus.pool().resume_upload(&acme, &id).await;
        assert!(matches!(gone, Err(Error::UploadNotFound { .. })), "{gone:?}");
        assert!(locus.pool().uploads(&acme, None).await.unwrap().is_empty());

        let mut reader = locus.pool().read(&acme, &key).await.unwrap();
        for at in 0..pieces {
            let expected = content(seed, at, piece.min(bytes - at * piece));
            let mut there = vec![0; expected.len()];
            reader.read_exact(&mut there).await.unwrap();
            assert!(there == expected, "piece {at} is another");
        }
        assert_eq!(reader.read(&mut [0]).await.unwrap(), 0, "it is longer");

        // One file, and nothing else on any volume.
        assert_eq!(locus.counts()[acme.id()].pending, 1);
        locus.cleanup().leftovers().await.unwrap();
        let files = plan.volumes().iter().flat_map(|dir| files_below(dir)).collect::<Vec<_>>();
        let blobs: Vec<_> = files.iter().filter(|path| !path.ends_with(".locus-volume")).collect();
        let [blob] = blobs[..] else { panic!("{blobs:?}") };
        assert!(blob.to_string_lossy().contains(&key.to_string()), "{blob:?}");
        let found = locus.verify(VerifyLevel::Contents).await.unwrap();
        assert!(found.findings.is_empty(), "{:?}", found.findings);
        let file = locus.scheduler().next(&acme).await.unwrap().unwrap();
        assert_eq!(file.key, key);
        locus.scheduler().complete(&file.lease).await.unwrap();
        locus.cleanup().settled().await.unwrap();
        assert!(locus.counts().is_empty());
        locus.shutdown().await.unwrap();
    });
}
