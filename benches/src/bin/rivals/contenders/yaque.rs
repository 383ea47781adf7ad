//! yaque: a queue in segment files, for one consumer; it never syncs.

use std::path::Path;

use bytes::Bytes;
use locus_benches::{
    BoxError,
    cycles::{AsThread, Contender, Kind, Label, Load, Promise, Round},
};
use parking_lot::Mutex;
use yaque::{Receiver, Sender};

use super::compare;

/// A sender and a receiver, each behind a mutex; buffered is all that it can promise.
pub(crate) struct Yaque {
    label: Label,
    sender: Mutex<Sender>,
    receiver: Mutex<Receiver>,
}

impl Yaque {
    pub(crate) fn open(dir: &Path) -> Result<Self, BoxError> {
        std::fs::create_dir_all(dir)?;
        let (sender, receiver) = yaque::channel(dir.join("queue"))?;
        let label = Label::new("yaque", Kind::Stock, Promise::Buffered);
        Ok(Self { label, sender: Mutex::new(sender), receiver: Mutex::new(receiver) })
    }
}

impl std::fmt::Debug for Yaque {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Yaque").finish_non_exhaustive()
    }
}

impl Contender for Yaque {
    fn label(&self) -> &Label {
        &self.label
    }

    fn settings(&self) -> String {
        "defaults; no syncs; one consumer: whoever leases holds the queue until completion".into()
    }

    fn round(&self, load: Load, content: &Bytes) -> Result<Round, BoxError> {
        Round::of_threads(self, load, content)
    }
}

impl AsThread for Yaque {
    fn cycle(&self, content: &Bytes, _alone: bool) -> Result<(), BoxError> {
        self.sender.lock().try_send(content).map_err(|_| "the queue took no content")?;
        let mut receiver = self.receiver.lock();
        let leased = receiver.try_recv().map_err(|_| "no file was ready")?;
        compare(&leased, content)?;
        Ok(leased.commit()?)
    }
}
