//! What a segment looks like on the disk, as pure functions of bytes. `docs/format.md` says it byte by byte.
//!
//! Every number is little-endian. Whatever is read here is hostile until its checksum was recomputed; checksums of heads
//! are keyed by the segment's secret salt, so that neither an earlier life of the segment nor bytes planted inside
//! content can verify.
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use locus_core::{Lsn, Site, StoreId, StoreTime, Timestamp};

/// Where batches begin in a segment.
pub(crate) const HEADER_BYTES: u64 = 4_096;
/// Where in the header area the copies of the header begin: in different sectors, and in different 2 KiB blocks.
pub(crate) const HEADER_COPIES: [usize; 2] = [0, 2_048];
/// Batches begin on multiples of this.
pub(crate) const ALIGN: u64 = 512;
/// Length of a batch head.
pub(crate) const BATCH_HEAD_BYTES: usize = 64;
/// Length of a record head.
pub(crate) const RECORD_HEAD_BYTES: usize = 48;
/// The newest format that this version reads, and the one it writes.
pub(crate) const FORMAT: u32 = 1;
/// Length of an encoded segment header (the rest of the header area is zero).
pub(crate) const SEGMENT_HEADER_BYTES: usize = 104;

const SEGMENT_MAGIC: [u8; 8] = *b"LOCUSLOG";
const BATCH_MAGIC: [u8; 4] = *b"LBAT";

/// What the head of a segment says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SegmentHeader {
    pub(crate) store: StoreId,
    /// Strictly increasing, never used twice, 1 is the first.
    pub(crate) number: u64,
    /// Drawn when the segment begins; never shown.
    pub(crate) salt: [u8; 16],
    /// Number of the segment before this one in the log; 0 when there is none.
    pub(crate) predecessor: u64,
    /// The last LSN that the log holds before this segment.
    pub(crate) predecessor_end: Lsn,
    /// LSN of the first record.
    pub(crate) first: Lsn,
    /// The durable LSN when the segment began.
    pub(crate) durable: Lsn,
}

/// Why bytes are no segment header of this store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum HeaderFault {
    /// Nothing was ever written there.
    Blank,
    /// Something else, or damaged.
    Bad,
    /// Written by a newer version.
    Newer(u32),
}

/// The key of a segment's checksums.
#[derive(Clone, Copy)]
pub(crate) struct SegmentKey([u8; 32]);

impl std::fmt::Debug for SegmentKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SegmentKey")
    }
}

impl SegmentHeader {
    /// The key of this segment's checksums.
    pub(crate) fn key(&self) -> SegmentKey {
        let mut hasher = blake3::Hasher::new_derive_key("locus journal segment 1");
        hasher.update(self.store.as_bytes());
        hasher.update(&self.number.to_le_bytes());
        hasher.update(&self.salt);
        SegmentKey(*hasher.finalize().as_bytes())
    }

    /// The header as bytes.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(SEGMENT_HEADER_BYTES);
        bytes.extend_from_slice(&SEGMENT_MAGIC);
        bytes.extend_from_slice(&FORMAT.to_le_bytes());
        bytes.extend_from_slice(&0_u32.to_le_bytes());
        bytes.extend_from_slice(self.store.as_bytes());
        bytes.extend_from_slice(&self.number.to_le_bytes());
        bytes.extend_from_slice(&self.salt);
        bytes.extend_from_slice(&self.predecessor.to_le_bytes());
        bytes.extend_from_slice(&self.predecessor_end.0.to_le_bytes());
        bytes.extend_from_slice(&self.first.0.to_le_bytes());
        bytes.extend_from_slice(&self.durable.0.to_le_bytes());
        bytes.extend_from_slice(&0_u64.to_le_bytes());
        let checksum = plain_checksum(&bytes);
        bytes.extend_from_slice(&checksum.to_le_bytes());
        bytes
    }

    /// The whole header area: every copy, zeros between them.
    pub(crate) fn encode_area(&self) -> Vec<u8> {
        let header = self.encode();
        let mut area = vec![0; HEADER_BYTES as usize];
        for copy in HEADER_COPIES {
            let places = area.iter_mut().skip(copy);
            places.zip(&header).for_each(|(place, byte)| *place = *byte);
        }
        area
    }

    /// The store that a header area names, whichever it is.
    pub(crate) fn store_in(area: &[u8]) -> Option<StoreId> {
        HEADER_COPIES.iter().find_map(|copy| {
            let bytes = area.get(*copy..)?;
            let store = StoreId::from_bytes(*bytes.get(16..)?.first_chunk::<16>()?);
            Self::decode(bytes, &store).is_ok().then_some(store)
        })
    }

    /// Reads a header of `store`.
    pub(crate) fn decode(bytes: &[u8], store: &StoreId) -> Result<Self, HeaderFault> {
        let head = bytes.get(..SEGMENT_HEADER_BYTES).ok_or(HeaderFault::Bad)?;
        if head.iter().all(|byte| *byte == 0) {
            return Err(HeaderFault::Blank);
        }
        let mut fields = Fields(head);
        if fields.array::<8>() != Some(SEGMENT_MAGIC) {
            return Err(HeaderFault::Bad);
        }
        let format = fields.u32().ok_or(HeaderFault::Bad)?;
        let decoded = (|| {
            fields.u32()?;
            let header = Self {
                store: StoreId::from_bytes(fields.array()?),
                number: fields.u64()?,
                salt: fields.array()?,
                predecessor: fields.u64()?,
                predecessor_end: Lsn(fields.u64()?),
                first: Lsn(fields.u64()?),
                durable: Lsn(fields.u64()?),
            };
            fields.u64()?;
            Some((header, fields.u64()?))
        })();
        let (header, checksum) = decoded.ok_or(HeaderFault::Bad)?;
        let covered = head.get(..SEGMENT_HEADER_BYTES.saturating_sub(8)).ok_or(HeaderFault::Bad)?;
        if plain_checksum(covered) != checksum {
            return Err(HeaderFault::Bad);
        }
        if format != FORMAT {
            return Err(HeaderFault::Newer(format));
        }
        if header.store != *store || header.number == 0 || header.predecessor >= header.number {
            return Err(HeaderFault::Bad);
        }
        Ok(header)
    }
}

/// What the head of a batch says: what one write handed to the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BatchHead {
    /// Length of the batch with its head and its padding; a multiple of [`ALIGN`].
    pub(crate) length: u32,
    /// How many records.
    pub(crate) count: u32,
    /// LSN of the first record; of the next one to come when there is none.
    pub(crate) first: Lsn,
    /// The durable LSN known when the batch was written.
    pub(crate) durable: Lsn,
    /// Wall clock then.
    pub(crate) wall: Timestamp,
    /// Store time then.
    pub(crate) time: StoreTime,
}

impl BatchHead {
    /// Writes the head into the first [`BATCH_HEAD_BYTES`] of `bytes`. `offset` is where in the segment the batch begins.
    pub(crate) fn encode(&self, key: &SegmentKey, offset: u64) -> [u8; BATCH_HEAD_BYTES] {
        let mut bytes = [0; BATCH_HEAD_BYTES];
        let fields = [
            u64::from(u32::from_le_bytes(BATCH_MAGIC)),
            u64::from(self.length) | (u64::from(self.count) << 32),
            self.first.0,
            self.durable.0,
            self.wall.as_micros().cast_unsigned(),
            self.time.as_micros(),
            0,
        ];
        for (slot, field) in bytes.chunks_exact_mut(8).zip(fields) {
            slot.copy_from_slice(&field.to_le_bytes());
        }
        let (covered, checksum) = bytes.split_at_mut(BATCH_HEAD_BYTES - 8);
        checksum.copy_from_slice(&keyed_checksum(key, offset, covered).to_le_bytes());
        bytes
    }

    /// Reads the head of the batch that begins at `offset` of its segment.
    pub(crate) fn decode(bytes: &[u8], key: &SegmentKey, offset: u64) -> Option<Self> {
        let head = bytes.get(..BATCH_HEAD_BYTES)?;
        let mut fields = Fields(head);
        if fields.array::<4>()? != BATCH_MAGIC {
            return None;
        }
        let covered = head.get(..BATCH_HEAD_BYTES - 8)?;
        fields.u32()?;
        let batch = Self {
            length: fields.u32()?,
            count: fields.u32()?,
            first: Lsn(fields.u64()?),
            durable: Lsn(fields.u64()?),
            wall: Timestamp::from_micros(fields.u64()?.cast_signed()),
            time: StoreTime::from_micros(fields.u64()?),
        };
        fields.u64()?;
        let good = fields.u64()? == keyed_checksum(key, offset, covered)
            && u64::from(batch.length) % ALIGN == 0
            && batch.length as usize >= BATCH_HEAD_BYTES;
        good.then_some(batch)
    }
}

/// What stands before a record's body and attachment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RecordHead {
    pub(crate) lsn: Lsn,
    pub(crate) body_len: u32,
    pub(crate) attachment_len: u32,
    pub(crate) body_checksum: u64,
    pub(crate) attachment_checksum: u64,
    pub(crate) flags: u32,
}

/// The record rests on something outside the log that was not synced when it was appended.
pub(crate) const FLAG_HELD: u32 = 1;
/// The record is a barrier: what records before the LSN in its body rest on outside the log is durable.
pub(crate) const FLAG_BARRIER: u32 = 2;

impl RecordHead {
    pub(crate) fn encode(&self, key: &SegmentKey) -> [u8; RECORD_HEAD_BYTES] {
        let mut bytes = [0; RECORD_HEAD_BYTES];
        let fields = [
            self.lsn.0,
            u64::from(self.body_len) | (u64::from(self.attachment_len) << 32),
            self.body_checksum,
            self.attachment_checksum,
            u64::from(self.flags),
        ];
        for (slot, field) in bytes.chunks_exact_mut(8).zip(fields) {
            slot.copy_from_slice(&field.to_le_bytes());
        }
        let (covered, checksum) = bytes.split_at_mut(RECORD_HEAD_BYTES - 8);
        checksum.copy_from_slice(&keyed_checksum(key, 0, covered).to_le_bytes());
        bytes
    }

    fn decode(bytes: &[u8], key: &SegmentKey) -> Option<Self> {
        let head = bytes.get(..RECORD_HEAD_BYTES)?;
        let mut fields = Fields(head);
        let record = Self {
            lsn: Lsn(fields.u64()?),
            body_len: fields.u32()?,
            attachment_len: fields.u32()?,
            body_checksum: fields.u64()?,
            attachment_checksum: fields.u64()?,
            flags: fields.u32()?,
        };
        fields.u32()?;
        let covered = head.get(..RECORD_HEAD_BYTES - 8)?;
        (fields.u64()? == keyed_checksum(key, 0, covered)).then_some(record)
    }
}

/// A record inside a batch.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RawRecord<'a> {
    pub(crate) head: RecordHead,
    pub(crate) body: &'a [u8],
    /// Where the attachment begins, counted from the beginning of the record.
    pub(crate) attachment_at: usize,
    /// Whether the attachment is what its checksum says.
    pub(crate) attachment_good: bool,
}

/// Reads the record at the beginning of `bytes`; says also how many bytes it takes. `None` when head or body is bad.
pub(crate) fn decode_record<'a>(bytes: &'a [u8], key: &SegmentKey) -> Option<(RawRecord<'a>, usize)> {
    let head = RecordHead::decode(bytes, key)?;
    let body_end = RECORD_HEAD_BYTES.checked_add(head.body_len as usize)?;
    let end = body_end.checked_add(head.attachment_len as usize)?;
    let body = bytes.get(RECORD_HEAD_BYTES..body_end)?;
    let attachment = bytes.get(body_end..end)?;
    if plain_checksum(body) != head.body_checksum && Site::RecordChecksum.stands() {
        return None;
    }
    let attachment_good = attachment.is_empty()
        || plain_checksum(attachment) == head.attachment_checksum
        || !Site::AttachmentChecksum.stands();
    Some((RawRecord { head, body, attachment_at: body_end, attachment_good }, end))
}

/// The LSN and the length of the record at the beginning of `bytes`, of which only the head need be good, if its LSN is in
/// the range.
pub(crate) fn record_extent(bytes: &[u8], key: &SegmentKey, from: Lsn, to: Lsn) -> Option<(Lsn, u64)> {
    // Nearly all that is asked about is no record: say so without a hash.
    let lsn = Lsn(u64::from_le_bytes(*bytes.first_chunk::<8>()?));
    if lsn < from || lsn > to {
        return None;
    }
    let head = RecordHead::decode(bytes, key)?;
    let content = u64::from(head.body_len).saturating_add(u64::from(head.attachment_len));
    Some((lsn, content.saturating_add(RECORD_HEAD_BYTES as u64)))
}

/// Bytes that a batch of these record lengths (heads included) takes, padding included.
pub(crate) fn batch_bytes(records: u64) -> u64 {
    (BATCH_HEAD_BYTES as u64).saturating_add(records).next_multiple_of(ALIGN)
}

/// The first 64 bits of the BLAKE3 hash.
pub(crate) fn plain_checksum(bytes: &[u8]) -> u64 {
    first_u64(blake3::hash(bytes).as_bytes())
}

pub(crate) fn keyed_checksum(key: &SegmentKey, offset: u64, bytes: &[u8]) -> u64 {
    // One block: 56 bytes at most are covered, and the offset is mixed into the key.
    let mut mixed = key.0;
    for (byte, mix) in mixed.iter_mut().zip(offset.to_le_bytes()) {
        *byte ^= mix;
    }
    first_u64(blake3::keyed_hash(&mixed, bytes).as_bytes())
}

fn first_u64(hash: &[u8; 32]) -> u64 {
    Fields(hash).u64().unwrap_or_default()
}

/// Takes little-endian numbers off the front of bytes.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*taken)
    }

    fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }
}

#[cfg(test)]
#[allow(clippy::indexing_slicing, clippy::arithmetic_side_effects)]
mod tests {
    use super::*;

    fn header() -> SegmentHeader {
        SegmentHeader {
            store: StoreId::from_bytes([7; 16]),
            number: 3,
            salt: [9; 16],
            predecessor: 2,
            predecessor_end: Lsn(41),
            first: Lsn(42),
            durable: Lsn(40),
        }
    }

    fn record(body: &[u8], attachment: &[u8]) -> Vec<u8> {
        let head = RecordHead {
            lsn: Lsn(5),
            body_len: body.len() as u32,
            attachment_len: attachment.len() as u32,
            body_checksum: plain_checksum(body),
            attachment_checksum: plain_checksum(attachment),
            flags: FLAG_HELD,
        };
        [&head.encode(&header().key()), body, attachment].concat()
    }

    #[test]
    fn a_header_survives_its_encoding_and_no_flipped_bit_does() {
        let bytes = header().encode();
        assert_eq!(SegmentHeader::decode(&bytes, &header().store), Ok(header()));
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(SegmentHeader::decode(&flipped, &header().store).is_err(), "bit {bit}");
        }
        assert_eq!(SegmentHeader::decode(&bytes, &StoreId::from_bytes([8; 16])), Err(HeaderFault::Bad));
        assert_eq!(SegmentHeader::decode(&[0; 512], &header().store), Err(HeaderFault::Blank));
        assert_eq!(SegmentHeader::decode(&bytes[..50], &header().store), Err(HeaderFault::Bad));
    }

    #[test]
    fn b68_a_newer_format_is_told_from_damage() {
        let mut bytes = header().encode();
        bytes[8] = 2;
        let checksum = plain_checksum(&bytes[..SEGMENT_HEADER_BYTES - 8]);
        bytes[SEGMENT_HEADER_BYTES - 8..].copy_from_slice(&checksum.to_le_bytes());
        assert_eq!(SegmentHeader::decode(&bytes, &header().store), Err(HeaderFault::Newer(2)));
    }

    #[test]
    fn a_batch_head_verifies_only_at_its_place_and_in_its_segment() {
        let head = BatchHead {
            length: 512,
            count: 1,
            first: Lsn(5),
            durable: Lsn(4),
            wall: Timestamp::from_micros(-3),
            time: StoreTime::from_micros(9),
        };
        let key = header().key();
        let bytes = head.encode(&key, 4_096);
        assert_eq!(BatchHead::decode(&bytes, &key, 4_096), Some(head));
        assert_eq!(BatchHead::decode(&bytes, &key, 4_608), None);
        let other = SegmentHeader { salt: [1; 16], ..header() }.key();
        assert_eq!(BatchHead::decode(&bytes, &other, 4_096), None);
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes;
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(BatchHead::decode(&flipped, &key, 4_096), None, "bit {bit}");
        }
    }

    #[test]
    fn a_damaged_attachment_leaves_its_record_good() {
        let key = header().key();
        let bytes = record(b"body", b"attachment");
        let (raw, length) = decode_record(&bytes, &key).unwrap();
        assert_eq!((raw.body, raw.attachment_good, length), (&b"body"[..], true, bytes.len()));
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let in_attachment = bit / 8 >= RECORD_HEAD_BYTES + 4;
            match decode_record(&flipped, &key) {
                Some((raw, _)) => assert!(in_attachment && !raw.attachment_good, "bit {bit}"),
                None => assert!(!in_attachment, "bit {bit}"),
            }
        }
        for length in 0..bytes.len() {
            assert!(decode_record(&bytes[..length], &key).is_none(), "length {length}");
        }
    }
}
