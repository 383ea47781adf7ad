//! What a mirror tells about itself.

/// What a mirror found and did since it was opened. Counts are of copies, not of blobs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct MirrorReport {
    /// Copies that were missing and were made again.
    pub repaired_missing: u64,
    /// Copies that were damaged and were replaced.
    pub repaired_damaged: u64,
    /// Copies of deleted blobs that were removed later, from a member that had been away.
    pub removed: u64,
    /// Blobs of which no good copy was found, or good copies that differ: nothing was changed. Counted each time.
    pub undecidable: u64,
    /// Changes that some member still lacks, as noted on the others.
    pub behind: u64,
    /// Members that may lack anything: the next whole scrub brings them up to date.
    pub unknown: u64,
    /// Members that cannot be used now.
    pub away: u64,
}
