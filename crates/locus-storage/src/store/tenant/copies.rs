//! Copies of a file's content that nobody names: what moves to another volume or another area left, and what was written, or may
//! have been, for a move that did not come to its end or on a volume that failed its write. Each is written down before it can be there,
//! the last along with the file's first record, and kept until it is removed; as long as it is here nothing else happens to that name on that volume.

use std::ops::Bound;

use locus_core::{Area, BlobPath, Checksum, FileKey, Lsn, Result, Seal, VolumeId};

use super::{Entry, Rest, Scene, TenantState, VolumeNo, unknown};

/// One copy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LeftBehind {
    pub(crate) volume: VolumeNo,
    /// The move, what announced it, or what accepted the file.
    pub(crate) lsn: Lsn,
    pub(crate) blob: BlobPath,
    pub(crate) size: u64,
    /// Of what rested here; `None` when it was to rest here, or a checkpoint held the copy.
    pub(crate) checksum: Option<Checksum>,
    /// The file rested here before it was moved; else it was to rest here.
    pub(crate) rested: bool,
    pub(crate) held: Held,
    /// It is in the queue of what waits to be removed, which is not always where it belongs.
    pub(crate) queued: bool,
    /// It could not be removed when that was tried last.
    pub(crate) stubborn: bool,
}

/// Who has to do with a copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Held {
    /// Whoever moves the file there.
    ByMove,
    /// Nobody: it waits to be removed.
    Waits,
    /// Whoever removes it.
    ByReaper,
}

impl LeftBehind {
    /// One that nobody has to do with.
    pub(crate) fn new(volume: VolumeNo, lsn: Lsn, blob: BlobPath, size: u64, rested: bool) -> Self {
        let held = Held::Waits;
        Self { volume, lsn, blob, size, checksum: None, rested, held, queued: false, stubborn: false }
    }

    /// Whether a move to here may not begin now.
    pub(crate) fn is_in_the_way(&self) -> bool {
        self.rested || self.held == Held::ByReaper
    }
}

impl TenantState {
    /// A file is about to be moved to `to` in `area`, or `renamed` where it is: what lies where it rests now will be a copy, and what
    /// lies there is none any more.
    pub(super) fn leave(&mut self, scene: &Scene<'_>, at: u32, to: Rest, area: Area, renamed: bool) {
        let entry = &self.files[at];
        let key = entry.key;
        if entry.rest == to && entry.area == area && !renamed {
            return;
        }
        let left = match entry.rest {
            Rest::Journal(_) => None,
            Rest::Volume(volume) => {
                let left = LeftBehind::new(volume, scene.lsn, self.blob(entry), entry.size, true);
                Some(LeftBehind { checksum: Some(entry.checksum), ..left })
            }
        };
        if let Rest::Volume(to) = to {
            self.drop_copy(scene, &key, to, area);
        }
        if let Some(mut left) = left {
            if self.live {
                left.queued = true;
                self.effects.left.push((scene.lsn, left.volume, key, left.blob.area));
            }
            self.keep_copy(scene, key, left);
        }
    }

    /// A move of a file is about to write here; `sealed_as` is its turn when it is sealed on its way.
    pub(super) fn announce(
        &mut self,
        scene: &Scene<'_>,
        key: &FileKey,
        (volume, area): (&VolumeId, Area),
        sealed_as: Option<u32>,
    ) -> Result<()> {
        let Some(at) = self.find_older(scene, key)? else { return Ok(()) };
        let (entry, volume) = (&self.files[at], scene.places.number(volume));
        let mut blob = self.blob(entry).in_area(area);
        if let Some(turn) = sealed_as {
            blob.extension = Seal::extension(turn);
        }
        let left = LeftBehind::new(volume, scene.lsn, blob, entry.size, false);
        self.keep_copy(scene, *key, LeftBehind { held: Held::ByMove, ..left });
        Ok(())
    }

    /// A file that was just accepted was tried to be written here first. What a checkpoint holds of the file may be of later: a
    /// record of later says then that the copy is gone, or none.
    pub(super) fn went_astray(&mut self, scene: &Scene<'_>, key: &FileKey, volume: VolumeNo) -> Result<()> {
        let Some(at) = self.find(key) else { return unknown(scene, key) };
        let entry = &self.files[at];
        if entry.rest == Rest::Volume(volume) {
            return Ok(()); // it came to rest there after all
        }
        let blob = self.blob(entry).in_area(Area::Live);
        let mut left = LeftBehind::new(volume, scene.lsn, blob, entry.size, false);
        if self.live {
            left.queued = true;
            self.effects.left.push((scene.lsn, volume, *key, Area::Live));
        }
        self.keep_copy(scene, *key, left);
        Ok(())
    }

    fn keep_copy(&mut self, scene: &Scene<'_>, key: FileKey, left: LeftBehind) {
        if self.copy_on(&key, left.volume, left.blob.area).is_some() {
            return; // a checkpoint holds it already
        }
        if self.live {
            scene.places.count_copy(left.volume, true);
        }
        self.restore_copy(key, left);
    }

    /// Puts back a copy that a checkpoint holds.
    pub(crate) fn restore_copy(&mut self, key: FileKey, left: LeftBehind) {
        self.copies.entry(key).or_default().push(left);
    }

    /// The copy is gone, or none any more.
    pub(super) fn drop_copy(&mut self, scene: &Scene<'_>, key: &FileKey, volume: VolumeNo, area: Area) {
        let Some(copies) = self.copies.get_mut(key) else { return };
        let before = copies.len();
        copies.retain(|left| left.volume != volume || left.blob.area != area || left.lsn >= scene.lsn);
        if self.live && copies.len() < before {
            scene.places.count_copy(volume, false);
        }
        if copies.is_empty() {
            self.copies.remove(key);
        }
    }

    /// Replay is over: every copy waits to be removed, but for what a record names after all.
    pub(super) fn begin_copies(&mut self, places: &super::Places) {
        for (key, mut copies) in std::mem::take(&mut self.copies) {
            let named = self.get(&key).map(|entry| (entry.rest, self.blob(entry)));
            let is_named = |left: &LeftBehind| {
                named
                    .as_ref()
                    .is_some_and(|(rest, blob)| *rest == Rest::Volume(left.volume) && *blob == left.blob)
            };
            copies.retain(|left| !is_named(left));
            for left in &mut copies {
                (left.held, left.queued) = (Held::Waits, true);
                places.count_copy(left.volume, true);
                self.effects.left.push((left.lsn, left.volume, key, left.blob.area));
            }
            if !copies.is_empty() {
                self.copies.insert(key, copies);
            }
        }
    }

    /// Nobody moves a file any more: says what was written for moves of it that did not come to their end, and is not in the
    /// queue to be removed.
    pub(crate) fn given_up(&mut self, key: &FileKey) -> Vec<(Lsn, VolumeNo, Area)> {
        let mut given_up = Vec::new();
        for left in self.copies.get_mut(key).into_iter().flatten().filter(|left| left.held == Held::ByMove) {
            left.held = Held::Waits;
            if !std::mem::replace(&mut left.queued, true) {
                given_up.push((left.lsn, left.volume, left.blob.area));
            }
        }
        given_up
    }

    /// A move is about to write here, where an earlier one did not come to its end.
    pub(crate) fn take_over(&mut self, key: &FileKey, volume: VolumeNo, area: Area) {
        if let Some(left) = self.copy_mut(key, volume, area) {
            left.held = Held::ByMove;
        }
    }

    /// A copy left the queue: it is to be removed, unless there is none by now, or somebody else has to do with it, and queues it
    /// again if need be.
    pub(crate) fn begin_removal(
        &mut self,
        key: &FileKey,
        volume: VolumeNo,
        area: Area,
    ) -> Option<&LeftBehind> {
        let left = self.copy_mut(key, volume, area)?;
        left.queued = false;
        if left.held != Held::Waits {
            return None;
        }
        left.held = Held::ByReaper;
        Some(left)
    }

    /// A copy could not be removed, and is in the queue again.
    pub(crate) fn removal_failed(&mut self, key: &FileKey, volume: VolumeNo, area: Area) {
        if let Some(left) = self.copy_mut(key, volume, area) {
            (left.held, left.queued, left.stubborn) = (Held::Waits, true, true);
        }
    }

    fn copy_mut(&mut self, key: &FileKey, volume: VolumeNo, area: Area) -> Option<&mut LeftBehind> {
        let mut copies = self.copies.get_mut(key)?.iter_mut();
        copies.find(|left| left.volume == volume && left.blob.area == area)
    }

    /// The name of a file's content on a volume.
    pub(crate) fn blob(&self, entry: &Entry) -> BlobPath {
        let seal = entry.cold.as_deref().and_then(|cold| cold.seal.as_ref());
        let extension = Seal::extension_of(seal, entry.original_name.as_deref());
        BlobPath { area: entry.area, owner: entry.owner(&self.id), key: entry.key, extension }
    }

    /// All copies of this file.
    pub(crate) fn copies(&self, key: &FileKey) -> &[LeftBehind] {
        self.copies.get(key).map_or(&[], Vec::as_slice)
    }

    /// The copies of so many files behind this one, in the order of their keys.
    pub(crate) fn copies_behind(
        &self,
        after: Option<FileKey>,
        files: usize,
    ) -> impl Iterator<Item = (&FileKey, &LeftBehind)> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let page = self.copies.range((from, Bound::Unbounded)).take(files);
        page.flat_map(|(key, copies)| copies.iter().map(move |left| (key, left)))
    }

    /// What is told of copies cannot be believed.
    pub(crate) fn forget_copies(&mut self) {
        self.copies.clear();
    }

    /// Where the content of an entry rested at `end`, or rests when nobody moved it since; how long it is, and its checksum.
    pub(crate) fn place_at(&self, entry: &Entry, end: Lsn) -> Option<(VolumeNo, BlobPath, u64, Checksum)> {
        let since = self.copies(&entry.key).iter().filter(|left| left.rested && left.lsn > end);
        match (since.min_by_key(|left| left.lsn), entry.rest) {
            (Some(first), _) => {
                let checksum = first.checksum.unwrap_or(entry.checksum);
                Some((first.volume, first.blob.clone(), first.size, checksum))
            }
            (None, Rest::Volume(volume)) => Some((volume, self.blob(entry), entry.size, entry.checksum)),
            (None, Rest::Journal(_)) => None,
        }
    }

    /// What a move that was given up, or sealed the content where it is, left beside a file, where it rests itself.
    pub(crate) fn beside(&self, entry: &Entry) -> Option<&LeftBehind> {
        let Rest::Volume(volume) = entry.rest else { return None };
        self.copy_on(&entry.key, volume, entry.area)
    }

    pub(crate) fn copy_on(&self, key: &FileKey, volume: VolumeNo, area: Area) -> Option<&LeftBehind> {
        self.copies(key).iter().find(|left| left.volume == volume && left.blob.area == area)
    }
}
