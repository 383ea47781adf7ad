//! The randomness seam: keys, salts and epochs are drawn here, so that a seed can reproduce a run.

use std::fmt::Debug;

/// Where randomness comes from. Implementations: [`SystemEntropy`] and the seeded one of `locus-testkit`.
pub trait Entropy: Debug + Send + Sync {
    /// Fills `bytes` with unpredictable bytes.
    fn fill(&self, bytes: &mut [u8]);

    /// 64 random bits.
    fn next_u64(&self) -> u64 {
        let mut bytes = [0; 8];
        self.fill(&mut bytes);
        u64::from_le_bytes(bytes)
    }
}

/// The operating system's random source (`getrandom(2)` on Linux).
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemEntropy;

impl Entropy for SystemEntropy {
    /// # Panics
    /// When the operating system has no random source: no key that Locus could draw would then be safe.
    fn fill(&self, bytes: &mut [u8]) {
        getrandom::fill(bytes).expect("because every supported system has a random source");
    }
}
