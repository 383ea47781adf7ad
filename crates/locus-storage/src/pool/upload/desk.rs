//! What all handles of one upload share in this process.

use std::{
    collections::HashMap,
    ops::Range,
    sync::{Arc, Weak},
};

use bytes::Bytes;
use locus_core::{FileKey, Result, Staged, StorageVolume, TenantId, UploadId};
use parking_lot::Mutex;
use rangemap::RangeSet;
use tokio::sync::{Notify, RwLock};

use super::pieces::Pieces;

/// The desks that somebody sits at. Whoever asks for another tenant's upload sits at a desk of its own.
#[derive(Debug, Default)]
pub(crate) struct Desks(Mutex<HashMap<(TenantId, UploadId), Weak<Desk>>>);

#[derive(Debug)]
pub(super) struct Desk {
    of: (TenantId, UploadId),
    all: Weak<Desks>,
    /// Pieces share it; who finishes or ends the upload has it alone.
    pub(super) turn: Arc<RwLock<()>>,
    /// What is staged, as it was opened last.
    pub(super) staged: tokio::sync::Mutex<Option<Opened>>,
    /// Where the pieces of a sealed one are, and at which place.
    pub(super) pieces: tokio::sync::Mutex<Option<(FileKey, Arc<Pieces>)>>,
    writing: Mutex<RangeSet<u64>>,
    written: Notify,
}

/// What is staged on a volume as it was mounted then.
#[derive(Debug, Clone)]
pub(super) struct Opened {
    pub(super) volume: Arc<dyn StorageVolume>,
    pub(super) staged: Arc<dyn Staged>,
    /// Names the place.
    pub(super) at: FileKey,
    /// Where the pieces are, when they are sealed.
    pub(super) pieces: Option<Arc<Pieces>>,
}

impl Opened {
    /// Writes a piece of the content.
    pub(super) async fn write_at(&self, offset: u64, bytes: Bytes) -> Result<()> {
        match &self.pieces {
            Some(pieces) => pieces.write_at(&*self.staged, offset, &bytes).await,
            None => self.staged.write_at(offset, bytes).await,
        }
    }

    /// Reads up to `len` bytes of the content; fewer only at the end of what is there.
    pub(super) async fn read_at(&self, offset: u64, len: usize) -> Result<Bytes> {
        match &self.pieces {
            Some(pieces) => pieces.read_at(&*self.staged, offset, len).await,
            None => self.staged.read_at(offset, len).await,
        }
    }
}

impl Desks {
    pub(super) fn of(self: &Arc<Self>, tenant: &TenantId, id: UploadId) -> Arc<Desk> {
        let of = (tenant.clone(), id);
        let mut desks = self.0.lock();
        if let Some(desk) = desks.get(&of).and_then(Weak::upgrade) {
            return desk;
        }
        let desk = Arc::new(Desk {
            of: of.clone(),
            all: Arc::downgrade(self),
            turn: Arc::default(),
            staged: tokio::sync::Mutex::default(),
            pieces: tokio::sync::Mutex::default(),
            writing: Mutex::default(),
            written: Notify::new(),
        });
        desks.insert(of, Arc::downgrade(&desk));
        desk
    }

    /// Those of a tenant.
    pub(super) fn all_of(&self, tenant: &TenantId) -> Vec<Arc<Desk>> {
        let desks = self.0.lock();
        let theirs = desks.iter().filter(|((of, _), _)| of == tenant);
        theirs.filter_map(|(_, desk)| desk.upgrade()).collect()
    }
}

impl Drop for Desk {
    fn drop(&mut self) {
        let Some(all) = self.all.upgrade() else { return };
        let mut desks = all.0.lock();
        // Somebody may have set up a new one meanwhile.
        if desks.get(&self.of).is_some_and(|desk| desk.strong_count() == 0) {
            desks.remove(&self.of);
        }
    }
}

impl Desk {
    /// Takes a range, when nobody writes there any more.
    pub(super) async fn claim(self: &Arc<Self>, range: Range<u64>) -> Claimed {
        loop {
            let mut written = std::pin::pin!(self.written.notified());
            written.as_mut().enable(); // before the look, so that nothing is missed between the two
            {
                let mut writing = self.writing.lock();
                if !writing.overlaps(&range) {
                    writing.insert(range.clone());
                    return Claimed { desk: Arc::clone(self), range };
                }
            }
            written.await;
        }
    }
}

/// The right to write a range, until it is dropped.
pub(super) struct Claimed {
    desk: Arc<Desk>,
    range: Range<u64>,
}

impl Drop for Claimed {
    fn drop(&mut self) {
        self.desk.writing.lock().remove(self.range.clone());
        self.desk.written.notify_waiters();
    }
}
