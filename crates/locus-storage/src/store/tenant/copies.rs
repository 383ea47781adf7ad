//! What a file leaves on a volume when it is moved to another one or to another area: a copy that nobody names, kept until
//! the move is durable and it is removed. As long as it is here nothing else happens to that name on that volume.

use locus_core::{Area, BlobPath, Extension, FileKey, Lsn};

use super::{Entry, Rest, Scene, TenantState, VolumeNo};

/// One copy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LeftBehind {
    pub(crate) volume: VolumeNo,
    /// The move.
    pub(crate) lsn: Lsn,
    pub(crate) blob: BlobPath,
    pub(crate) size: u64,
}

impl TenantState {
    /// A file is about to be moved to `to` in `area`: what lies where it rests now will be a copy.
    pub(super) fn leave(&mut self, scene: &Scene<'_>, at: u32, to: Rest, area: Area) {
        let entry = &self.files[at];
        let (Rest::Volume(volume), key) = (entry.rest, entry.key) else { return };
        if entry.rest == to && entry.area == area {
            return;
        }
        let left = LeftBehind { volume, lsn: scene.lsn, blob: self.blob(entry), size: entry.size };
        self.effects.left.push((scene.lsn, volume, key, left.blob.area));
        self.copies.entry(key).or_default().push(left);
        scene.places.count_copy(volume, true);
    }

    /// The name of a file's content on a volume.
    pub(crate) fn blob(&self, entry: &Entry) -> BlobPath {
        let name = entry.cold.as_ref().and_then(|cold| cold.original_name.as_deref());
        let extension = name.map_or(Extension::NONE, Extension::of);
        BlobPath { area: entry.area, owner: entry.owner(&self.id), key: entry.key, extension }
    }

    /// What moves of this file left and was not removed yet.
    pub(crate) fn copies(&self, key: &FileKey) -> &[LeftBehind] {
        self.copies.get(key).map_or(&[], Vec::as_slice)
    }

    /// Where the content of an entry rested at `end`, or rests when nobody moved it since.
    pub(crate) fn place_at(&self, entry: &Entry, end: Lsn) -> Option<(VolumeNo, BlobPath)> {
        let since = self.copies(&entry.key).iter().filter(|left| left.lsn > end);
        match (since.min_by_key(|left| left.lsn), entry.rest) {
            (Some(first), _) => Some((first.volume, first.blob.clone())),
            (None, Rest::Volume(volume)) => Some((volume, self.blob(entry))),
            (None, Rest::Journal(_)) => None,
        }
    }

    pub(crate) fn copy_on(&self, key: &FileKey, volume: VolumeNo, area: Area) -> Option<&LeftBehind> {
        self.copies(key).iter().find(|left| left.volume == volume && left.blob.area == area)
    }

    /// A copy is gone. `false` when it was before.
    pub(crate) fn copy_removed(&mut self, key: &FileKey, volume: VolumeNo, area: Area) -> bool {
        let Some(copies) = self.copies.get_mut(key) else { return false };
        let before = copies.len();
        copies.retain(|left| left.volume != volume || left.blob.area != area);
        let removed = copies.len() < before;
        if copies.is_empty() {
            self.copies.remove(key);
        }
        removed
    }
}
