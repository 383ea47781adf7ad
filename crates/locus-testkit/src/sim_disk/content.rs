//! The content of a simulated file: what a reader sees, and how to take back what is not durable.

use std::{collections::BTreeMap, ops::Range};

use crate::{
    entropy::SeededEntropy,
    sim_disk::mood::{Mood, below},
};

/// What a disk writes as one, if it does not tear even that.
pub(super) const SECTOR: usize = 512;

/// How often a sector that did not arrive reads zeros where it was written.
const ZEROED_ONCE_IN: u64 = 8;

/// Bytes, with an undo list instead of a second copy: a sync drops the list, a crash plays back parts of it.
#[derive(Debug, Default)]
pub(super) struct Content {
    data: Vec<u8>,
    /// Writes and cuts that are not durable, oldest first.
    undo: Vec<Undo>,
    /// The durable length, if the length changed, and those it had since.
    lens: Vec<usize>,
    /// Sectors that a failed sync took for clean: what the disk holds in truth.
    ghosts: BTreeMap<usize, Vec<u8>>,
}

/// The bytes that `offset..offset + len` held before; zeros where `old` is shorter.
#[derive(Debug)]
struct Undo {
    offset: usize,
    len: usize,
    old: Vec<u8>,
}

impl Undo {
    fn sectors(&self) -> Range<usize> {
        self.offset / SECTOR..(self.offset + self.len).div_ceil(SECTOR)
    }

    /// The part of it that lies in a sector.
    fn within(&self, sector: usize) -> Range<usize> {
        self.offset.max(sector * SECTOR)..(self.offset + self.len).min((sector + 1) * SECTOR)
    }

    /// Puts the old bytes of a part of it back; `data` begins at `base` of the file.
    fn restore(&self, data: &mut [u8], base: usize, part: Range<usize>) {
        let known = part.end.min(self.offset + self.old.len()).max(part.start);
        if known > part.start {
            data[part.start - base..known - base]
                .copy_from_slice(&self.old[part.start - self.offset..known - self.offset]);
        }
        data[known - base..part.end - base].fill(0);
    }
}

impl Content {
    pub(super) fn len(&self) -> usize {
        self.data.len()
    }

    pub(super) fn is_clean(&self) -> bool {
        self.undo.is_empty() && self.lens.is_empty() && self.ghosts.is_empty()
    }

    /// Whether there is something that a sync would write.
    pub(super) fn has_unsynced(&self) -> bool {
        !self.undo.is_empty() || !self.lens.is_empty()
    }

    pub(super) fn read(&self, buf: &mut [u8], offset: u64) -> usize {
        let offset = usize::try_from(offset).unwrap_or(usize::MAX).min(self.data.len());
        let count = buf.len().min(self.data.len() - offset);
        buf[..count].copy_from_slice(&self.data[offset..offset + count]);
        count
    }

    pub(super) fn write(&mut self, bytes: &[u8], offset: usize) {
        if bytes.is_empty() {
            return;
        }
        let (end, old_len) = (offset + bytes.len(), self.data.len());
        let old = self.data.get(offset..end.min(old_len)).unwrap_or_default().to_vec();
        self.undo.push(Undo { offset, len: bytes.len(), old });
        if end > old_len {
            self.lens.push(old_len);
            self.data.resize(offset.max(old_len).min(end), 0);
            let overlap = self.data.len() - offset;
            self.data[offset..].copy_from_slice(&bytes[..overlap]);
            self.data.extend_from_slice(&bytes[overlap..]);
        } else {
            self.data[offset..end].copy_from_slice(bytes);
        }
    }

    /// Cutting is a write of zeros over what was cut, and a change of length.
    pub(super) fn set_len(&mut self, len: usize) {
        let old_len = self.data.len();
        if len < old_len {
            let old = self.data.split_off(len);
            self.undo.push(Undo { offset: len, len: old.len(), old });
        } else {
            self.data.resize(len, 0);
        }
        if len != old_len {
            self.lens.push(old_len);
        }
    }

    pub(super) fn sync(&mut self) {
        if !self.ghosts.is_empty() {
            for sector in self.undo.iter().flat_map(Undo::sectors) {
                self.ghosts.remove(&sector);
            }
        }
        self.undo.clear();
        self.lens.clear();
    }

    /// As Linux does it: the pages are clean now, no later sync writes them, and the disk has the old ones. The length
    /// is still to be written.
    pub(super) fn sync_failed(&mut self) {
        let undo = std::mem::take(&mut self.undo);
        for group in by_sector(&undo).chunk_by(|a, b| a.0 == b.0) {
            let sector = group[0].0;
            let base = sector * SECTOR;
            let mut bytes = vec![0; SECTOR];
            let seen = self.data.get(base..self.data.len().min(base + SECTOR)).unwrap_or_default();
            bytes[..seen.len()].copy_from_slice(seen);
            for &(_, at) in group.iter().rev() {
                undo[at].restore(&mut bytes, base, undo[at].within(sector));
            }
            self.ghosts.entry(sector).or_insert(bytes);
        }
    }

    /// Clean pages go; a reader then sees what the disk holds. Dirty ones stay.
    pub(super) fn drop_cache(&mut self) {
        let mut ghosts = std::mem::take(&mut self.ghosts);
        let dirty: Vec<usize> = self.undo.iter().flat_map(Undo::sectors).collect();
        for sector in dirty {
            if let Some(bytes) = ghosts.remove(&sector) {
                self.ghosts.insert(sector, bytes);
            }
        }
        for (sector, bytes) in ghosts {
            self.put_sector(sector, &bytes);
        }
    }

    /// The power goes: see the model in the parent's docs.
    pub(super) fn crash(&mut self, entropy: &SeededEntropy) {
        let undo = std::mem::take(&mut self.undo);
        let mut ghosts = std::mem::take(&mut self.ghosts);
        let mut lens = std::mem::take(&mut self.lens);
        lens.push(self.data.len());
        let len = lens[below(entropy, lens.len())];
        let longest = lens.iter().copied().max().unwrap_or(0);
        self.data.resize(longest, 0);

        let mood = Mood::choose(entropy, undo.len());
        for group in by_sector(&undo).chunk_by(|a, b| a.0 == b.0) {
            let sector = group[0].0;
            // A sector goes to the disk as it is at some moment: with its first so many writes.
            let (kept, may_tear) = match mood {
                Mood::All => (group.len(), false),
                Mood::Nothing => (0, false),
                Mood::Before(end) => {
                    let before = group.iter().filter(|(_, at)| *at < end).count();
                    // The write that was under way is cut anywhere.
                    let under_way = group.get(before).is_some_and(|&(_, at)| at == end);
                    let more = usize::from(under_way && entropy.below(2) == 0);
                    (before + more, under_way && more == 0)
                }
                Mood::Mixed => (below(entropy, group.len() + 1), true),
            };
            for (position, &(_, at)) in group.iter().enumerate().skip(kept).rev() {
                let mut part = undo[at].within(sector);
                if position == kept && may_tear && part.len() > 1 && entropy.below(4) == 0 {
                    let cut = part.start + 1 + below(entropy, part.len() - 1);
                    if entropy.below(2) == 0 {
                        part.start = cut;
                    } else {
                        part.end = cut;
                    }
                    ghosts.remove(&sector);
                }
                undo[at].restore(&mut self.data, 0, part);
            }
            // New blocks were put in its place, and their bytes never came.
            if matches!(mood, Mood::Mixed) && kept < group.len() && entropy.below(ZEROED_ONCE_IN) == 0 {
                for &(_, at) in &group[kept..] {
                    self.data[undo[at].within(sector)].fill(0);
                }
                ghosts.remove(&sector);
            }
            if kept > 0 {
                ghosts.remove(&sector);
            }
        }
        for (sector, bytes) in ghosts {
            self.put_sector(sector, &bytes);
        }
        self.data.truncate(len);
    }

    fn put_sector(&mut self, sector: usize, bytes: &[u8]) {
        let base = sector * SECTOR;
        let end = self.data.len().min(base + SECTOR);
        if base < end {
            self.data[base..end].copy_from_slice(&bytes[..end - base]);
        }
    }
}

/// The sectors each change touches, by sector, and in one sector by age.
fn by_sector(undo: &[Undo]) -> Vec<(usize, usize)> {
    let mut pieces: Vec<_> =
        undo.iter().enumerate().flat_map(|(at, u)| u.sectors().map(move |sector| (sector, at))).collect();
    pieces.sort_unstable();
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;

    fn durable(bytes: &[u8]) -> Content {
        let mut content = Content::default();
        content.write(bytes, 0);
        content.sync();
        assert!(content.is_clean());
        content
    }

    #[test]
    fn a_crash_leaves_of_every_sector_one_of_the_versions_it_had_or_a_tear() {
        let old = vec![1; 4 * SECTOR];
        let mut torn = 0;
        for seed in 0..300 {
            let mut content = durable(&old);
            content.write(&[2; 2 * SECTOR], SECTOR);
            content.write(&[3; SECTOR], SECTOR);
            content.crash(&SeededEntropy::new(seed));
            assert!(content.is_clean());
            assert_eq!(content.len(), old.len());
            assert_eq!(content.data[..SECTOR], old[..SECTOR], "seed {seed}: outside of the writes");
            assert_eq!(content.data[3 * SECTOR..], old[3 * SECTOR..], "seed {seed}: outside of the writes");
            for sector in [1, 2] {
                let mut seen = content.data[sector * SECTOR..(sector + 1) * SECTOR].to_vec();
                assert!(
                    seen.iter().all(|byte| (0..=if sector == 1 { 3 } else { 2 }).contains(byte)),
                    "seed {seed}"
                );
                seen.dedup();
                assert!(seen.len() <= 2, "seed {seed}: at most one tear");
                torn += usize::from(seen.len() == 2);
            }
        }
        assert!(torn > 0);
    }

    #[test]
    fn a_cut_that_is_undone_brings_the_bytes_back_or_zeros() {
        let (mut whole, mut short, mut zeros) = (0, 0, 0);
        for seed in 0..200 {
            let mut content = durable(&[7; 1000]);
            content.set_len(100);
            content.set_len(600);
            content.crash(&SeededEntropy::new(seed));
            assert_eq!(content.data[..100], [7; 100], "seed {seed}");
            match content.len() {
                100 => short += 1,
                600 | 1000 => {
                    assert!(content.data[100..].iter().all(|byte| [0, 7].contains(byte)), "seed {seed}");
                    whole += usize::from(content.data == [7; 1000]);
                    zeros += usize::from(content.data[100..].contains(&0));
                }
                len => panic!("seed {seed}: length {len}"),
            }
        }
        assert!(whole > 0 && short > 0 && zeros > 0, "{whole} {short} {zeros}");
    }

    #[test]
    fn a_length_without_its_data_reads_zeros() {
        let mut zeros = 0;
        for seed in 0..100 {
            let mut content = durable(&[7; 10]);
            content.write(&[9; 2000], 10);
            content.crash(&SeededEntropy::new(seed));
            assert_eq!(content.data[..10], [7; 10], "seed {seed}");
            assert!(content.data[10..].iter().all(|byte| [0, 9].contains(byte)), "seed {seed}");
            zeros += usize::from(content.len() == 2010 && content.data[10..].iter().all(|byte| *byte == 0));
        }
        assert!(zeros > 0);
    }

    #[test]
    fn a_failed_sync_looks_clean_and_is_lost_until_the_sector_is_written_again() {
        let mut content = durable(&[1; 3 * SECTOR]);
        content.write(&[2; 2 * SECTOR], 0);
        content.sync_failed();
        content.write(&[3], 0);
        content.sync();
        let mut seen = vec![0; 3 * SECTOR];
        content.read(&mut seen, 0);
        assert_eq!((seen[0], seen[1], seen[SECTOR], seen[2 * SECTOR]), (3, 2, 2, 1));
        content.drop_cache();
        content.read(&mut seen, 0);
        assert_eq!((seen[0], seen[1], seen[SECTOR], seen[2 * SECTOR]), (3, 2, 1, 1));
        assert!(content.is_clean());
    }
}
