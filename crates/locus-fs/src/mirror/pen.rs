//! Notes on their way to the members: whoever comes first writes for all who wait.

use std::{
    ops::RangeInclusive,
    sync::atomic::{AtomicU64, Ordering::SeqCst},
};

use locus_core::{Area, BlobPath, Content, Durability, Error, Extension, FileKey, Result, join_bounded};
use parking_lot::Mutex;

use crate::mirror::{
    core::Core,
    member::Member,
    note::{self, NOTES_MAX, Note},
};

#[derive(Debug, Default)]
pub(crate) struct Pen {
    waiting: Mutex<Waiting>,
    turn: tokio::sync::Mutex<()>,
    written: AtomicU64,
}

/// Notes in order, numbered; `last` is the number of the last one that ever came.
#[derive(Debug, Default)]
struct Waiting {
    notes: Vec<(u64, Note)>,
    last: u64,
}

/// Whoever asked for these notes. Gone, nobody writes them any more: what cannot be noted does not pile up.
struct Asked<'a> {
    pen: &'a Pen,
    numbers: RangeInclusive<u64>,
}

impl Pen {
    fn ask(&self, notes: Vec<Note>) -> Asked<'_> {
        let mut waiting = self.waiting.lock();
        let first = waiting.last + 1;
        waiting.last += notes.len() as u64;
        waiting.notes.extend((first..).zip(notes));
        Asked { pen: self, numbers: first..=waiting.last }
    }
}

impl Drop for Asked<'_> {
    fn drop(&mut self) {
        self.pen.waiting.lock().notes.retain(|(number, _)| !self.numbers.contains(number));
    }
}

impl Core {
    /// The address of a blob of notes.
    pub(crate) fn notes_at(&self, key: FileKey) -> BlobPath {
        BlobPath { area: Area::Live, owner: self.notes_owner.clone(), key, extension: Extension::NONE }
    }

    /// Notes durably, on every member that can be written and at least on one.
    ///
    /// # Cancel safety
    /// What was asked for is noted now, later or never; a note too many is settled by looking.
    pub(crate) async fn note(&self, notes: Vec<Note>) -> Result<()> {
        let asked = self.pen.ask(notes);
        while self.pen.written.load(SeqCst) < *asked.numbers.end() {
            let _turn = self.pen.turn.lock().await;
            if self.pen.written.load(SeqCst) >= *asked.numbers.end() {
                break; // somebody did it for us
            }
            let (numbers, batch): (Vec<_>, Vec<_>) =
                self.pen.waiting.lock().notes.iter().take(NOTES_MAX).cloned().unzip();
            let Some(last) = numbers.last() else { break };
            let blob = self.write_notes(&batch).await?;
            self.pen.waiting.lock().notes.retain(|(number, _)| number > last);
            self.learn(&batch, blob, false);
            self.pen.written.store(*last, SeqCst);
        }
        Ok(())
    }

    async fn write_notes(&self, notes: &[Note]) -> Result<FileKey> {
        let mut random = [0; 10];
        self.context.entropy.fill(&mut random);
        let key = FileKey::generate(self.context.clock.wall(), &random);
        let (at, bytes) = (self.notes_at(key), bytes::Bytes::from(note::encode(notes)));
        let writes = self.members.iter().filter_map(Member::writable).map(|volume| {
            let (at, bytes) = (&at, bytes.clone());
            async move { volume.write(at, &mut Content::from(bytes), Durability::Durable).await }
        });
        let answers = join_bounded(writes.collect(), self.members.len()).await;
        let mut error: Option<Error> = None;
        let mut done = 0;
        for answer in answers {
            match answer {
                Ok(_) => done += 1,
                Err(failed) => error = Some(failed),
            }
        }
        match (done, error) {
            (0, Some(error)) => Err(error),
            (0, None) => Err(self.unavailable("has no member that a note can be written to")),
            _ => Ok(key),
        }
    }
}
