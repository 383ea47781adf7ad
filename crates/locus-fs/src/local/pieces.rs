//! Pieces of uploads on their way to the disk: one whose call hangs may be written still, long after somebody sent it again.

use std::{
    collections::HashMap,
    ops::Range,
    path::{Path, PathBuf},
    sync::Arc,
};

use parking_lot::Mutex;

/// The pieces that are being written now, those that nobody waits for any more among them.
#[derive(Debug, Default)]
pub(crate) struct Pieces(Mutex<HashMap<PathBuf, Vec<Range<u64>>>>);

/// A piece that is being written, until this is dropped.
pub(crate) struct Piece {
    all: Arc<Pieces>,
    at: PathBuf,
    range: Range<u64>,
}

impl Pieces {
    /// `None` while an earlier call writes there.
    pub(crate) fn begin(self: &Arc<Self>, at: &Path, range: Range<u64>) -> Option<Piece> {
        let mut all = self.0.lock();
        let pieces = all.entry(at.to_owned()).or_default();
        let overlaps = |other: &Range<u64>| other.start < range.end && range.start < other.end;
        if pieces.iter().any(overlaps) {
            return None;
        }
        pieces.push(range.clone());
        Some(Piece { all: Arc::clone(self), at: at.to_owned(), range })
    }
}

impl Drop for Piece {
    fn drop(&mut self) {
        let mut all = self.all.0.lock();
        let Some(pieces) = all.get_mut(&self.at) else { return };
        if let Some(mine) = pieces.iter().position(|range| *range == self.range) {
            pieces.swap_remove(mine);
        }
        if pieces.is_empty() {
            all.remove(&self.at);
        }
    }
}
