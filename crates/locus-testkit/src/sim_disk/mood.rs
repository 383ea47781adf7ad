//! How a power cut treats what was not synced.

use crate::entropy::SeededEntropy;

/// A crash that rolls a die for every sector almost never keeps, or loses, all of a long write. So it first chooses
/// what it is like.
#[derive(Debug, Clone, Copy)]
pub(super) enum Mood {
    /// Everything reached the disk.
    All,
    /// Nothing did.
    Nothing,
    /// What came before the `0`th of the changes did, as on a disk that writes in order.
    Before(usize),
    /// Each for itself.
    Mixed,
}

impl Mood {
    /// Chooses for `changes` changes in a row.
    pub(super) fn choose(entropy: &SeededEntropy, changes: usize) -> Self {
        match entropy.below(5) {
            0 => Self::All,
            1 => Self::Nothing,
            2 => Self::Before(below(entropy, changes + 1)),
            _ => Self::Mixed,
        }
    }
}

/// A number below `bound`, which is not 0.
pub(super) fn below(entropy: &SeededEntropy, bound: usize) -> usize {
    usize::try_from(entropy.below(bound as u64)).expect("because it is below a usize")
}
