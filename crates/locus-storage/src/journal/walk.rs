//! Going through the batches of a segment: a pure function of its bytes.
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use locus_core::{Lsn, Result};

use super::format::{BATCH_HEAD_BYTES, BatchHead, HEADER_BYTES, RawRecord, SegmentKey, decode_record};

/// Where a walk through a segment stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stop {
    /// The LSN that was expected there.
    pub(crate) expected: Lsn,
    pub(crate) offset: u64,
    /// Between two batches, not inside one.
    pub(crate) clean: bool,
}

/// Walks the batches of one segment as long as they are whole and in order and not beyond `limit`. `visit` gets each
/// record with its position, also one whose attachment is bad, and `None` for each empty batch; it returns `false` to
/// stop.
pub(crate) fn walk(
    bytes: &[u8],
    key: &SegmentKey,
    first: Lsn,
    limit: Lsn,
    mut visit: impl FnMut(&BatchHead, Option<(&RawRecord<'_>, u64)>) -> Result<bool>,
) -> Result<Stop> {
    let mut offset = HEADER_BYTES;
    let mut expected = first;
    loop {
        let stop = |expected, clean| Stop { expected, offset, clean };
        if expected > limit {
            return Ok(stop(expected, true));
        }
        let rest = usize::try_from(offset).ok().and_then(|offset| bytes.get(offset..)).unwrap_or_default();
        let Some(batch) = BatchHead::decode(rest, key, offset).filter(|batch| batch.first == expected) else {
            return Ok(stop(expected, true));
        };
        let Some(mut records) = rest.get(BATCH_HEAD_BYTES..batch.length as usize) else {
            return Ok(stop(expected, false));
        };
        if batch.count == 0 && !visit(&batch, None)? {
            return Ok(stop(expected, true));
        }
        let mut at = offset.saturating_add(BATCH_HEAD_BYTES as u64);
        for _ in 0..batch.count {
            if expected > limit {
                return Ok(stop(expected, true));
            }
            let Some((record, length)) = decode_record(records, key) else {
                return Ok(stop(expected, false));
            };
            if record.head.lsn != expected {
                return Ok(stop(expected, false));
            }
            if !visit(&batch, Some((&record, at)))? {
                return Ok(stop(expected, false));
            }
            expected = expected.next();
            at = at.saturating_add(length as u64);
            records = records.get(length..).unwrap_or_default();
        }
        offset = offset.saturating_add(batch.length.into());
    }
}
