//! Doors for fuzzers to everything that this crate reads from a disk: each decoder gets any bytes, as they are and with the
//! checksums made right, so that what lies behind these is reached too.
//!
//! Nothing may panic, and what was read and is written again reads the same. Not part of the API.

use std::{io, path::Path};

use locus_core::{Lsn, StoreId};
use locus_fs::DiskFile;

use crate::{
    journal::{
        format::{BATCH_HEAD_BYTES, HEADER_BYTES, RECORD_HEAD_BYTES, SegmentHeader},
        plain_checksum,
        walk::walk,
    },
    store::{
        checkpoint::{self, Frame},
        event::Record,
        frames::{FRAME_HEAD_BYTES, FrameHead, HEAD_BYTES, Part},
        identity::Identity,
    },
};

const STORE: StoreId = StoreId::from_bytes([7; 16]);

fn put(bytes: &mut [u8], at: usize, what: &[u8]) {
    if let Some(place) = bytes.get_mut(at..at.saturating_add(what.len())) {
        place.copy_from_slice(what);
    }
}

fn u32_at(bytes: &[u8], at: usize) -> usize {
    let found = bytes.get(at..).and_then(|rest| rest.first_chunk());
    found.map_or(0, |found| u32::from_le_bytes(*found) as usize)
}

/// The header of a segment.
pub fn segment_header(bytes: &[u8]) {
    let mut sealed = bytes.to_vec();
    put(&mut sealed, 0, b"LOCUSLOG\x01\0\0\0");
    put(&mut sealed, 16, STORE.as_bytes());
    if let Some(covered) = sealed.get(..96) {
        let sum = plain_checksum(covered).to_le_bytes();
        put(&mut sealed, 96, &sum);
    }
    for bytes in [bytes, &sealed] {
        if let Ok(header) = SegmentHeader::decode(bytes, &STORE) {
            assert_eq!(SegmentHeader::decode(&header.encode(), &STORE), Ok(header));
        }
    }
}

fn header() -> SegmentHeader {
    SegmentHeader {
        store: STORE,
        number: 1,
        salt: [9; 16],
        predecessor: 0,
        predecessor_end: Lsn(0),
        first: Lsn(1),
        durable: Lsn(0),
    }
}

/// Batches and records behind the header of a segment.
pub fn segment(bytes: &[u8]) {
    let raw = [&header().encode_area(), bytes].concat();
    let sealed = seal_segment(raw.clone());
    for bytes in [raw, sealed] {
        let mut seen = 0;
        let stop = walk(&bytes, &header().key(), Lsn(1), Lsn::MAX, |_, record| {
            if let Some((record, at)) = record {
                let end = at as usize + record.attachment_at + record.head.attachment_len as usize;
                assert!(end <= bytes.len(), "a record reaches beyond the segment");
                seen += 1;
            }
            Ok(true)
        });
        assert!(stop.is_ok() && seen <= bytes.len() / RECORD_HEAD_BYTES);
    }
}

/// Makes magic, positions and checksums right, batch by batch, as the lengths have it.
fn seal_segment(mut bytes: Vec<u8>) -> Vec<u8> {
    let key = header().key();
    let (mut at, mut lsn) = (HEADER_BYTES as usize, 1_u64);
    while at + BATCH_HEAD_BYTES <= bytes.len() {
        let length = u32_at(&bytes, at + 8) / 512 * 512;
        let count = u32_at(&bytes, at + 12) % 16;
        put(&mut bytes, at, b"LBAT");
        put(&mut bytes, at + 8, &(length as u32).to_le_bytes());
        put(&mut bytes, at + 12, &(count as u32).to_le_bytes());
        put(&mut bytes, at + 16, &lsn.to_le_bytes());
        let sum =
            crate::journal::format::keyed_checksum(&key, at as u64, &bytes[at..at + BATCH_HEAD_BYTES - 8]);
        put(&mut bytes, at + BATCH_HEAD_BYTES - 8, &sum.to_le_bytes());
        let mut from = at + BATCH_HEAD_BYTES;
        for _ in 0..count {
            if from + RECORD_HEAD_BYTES > bytes.len() {
                break;
            }
            let body = from + RECORD_HEAD_BYTES..from + RECORD_HEAD_BYTES + u32_at(&bytes, from + 8);
            let attachment = body.end..body.end + u32_at(&bytes, from + 12);
            let sums = [body, attachment.clone()].map(|part| bytes.get(part).map_or(0, plain_checksum));
            put(&mut bytes, from, &lsn.to_le_bytes());
            put(&mut bytes, from + 16, &sums[0].to_le_bytes());
            put(&mut bytes, from + 24, &sums[1].to_le_bytes());
            let sum =
                crate::journal::format::keyed_checksum(&key, 0, &bytes[from..from + RECORD_HEAD_BYTES - 8]);
            put(&mut bytes, from + RECORD_HEAD_BYTES - 8, &sum.to_le_bytes());
            from = attachment.end;
            lsn += 1;
        }
        if length == 0 {
            break;
        }
        at += length;
    }
    bytes
}

/// The body of a record.
pub fn record(bytes: &[u8]) {
    let versioned = [&[1], bytes].concat();
    for bytes in [bytes, &versioned] {
        if let Ok(record) = Record::decode(bytes, Lsn(1)) {
            let again = Record::decode(&record.encode(), Lsn(1));
            assert_eq!(again.expect("because it was written just now"), record);
        }
    }
}

/// A file in memory.
#[derive(Debug)]
struct InMemory(Vec<u8>);

impl DiskFile for InMemory {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let rest = usize::try_from(offset).ok().and_then(|offset| self.0.get(offset..)).unwrap_or_default();
        let length = rest.len().min(buf.len());
        buf[..length].copy_from_slice(&rest[..length]);
        Ok(length)
    }

    fn write_at(&self, _: &[u8], _: u64) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.0.len() as u64)
    }

    fn set_len(&self, _: u64) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn drop_cache(&self) -> io::Result<()> {
        Ok(())
    }
}

/// A whole checkpoint.
pub fn checkpoint(bytes: &[u8]) {
    let mut sealed = bytes.to_vec();
    put(&mut sealed, 0, b"LOCUSCKP\x01\0\0\0");
    let mut at = HEAD_BYTES as usize;
    while let Some(head) = sealed.get(at..).and_then(FrameHead::decode) {
        let from = at + FRAME_HEAD_BYTES as usize;
        let Some(payload) = sealed.get(from..from + head.length() as usize) else { break };
        let sum = plain_checksum(payload).to_le_bytes();
        at = from + payload.len();
        put(&mut sealed, from - 8, &sum);
    }
    for bytes in [bytes.to_vec(), sealed] {
        let size = bytes.len();
        let counted = InMemory(bytes.clone());
        let counted =
            checkpoint::read_file(&counted, Path::new("x"), 1, &STORE, &mut |state| state.entries());
        assert!(counted.map_or(0, |read| read.bytes) <= size as u64);
        let mut frames = 0;
        let read = checkpoint::read_file(&InMemory(bytes), Path::new("x"), 1, &STORE, &mut |state| {
            frames += 1;
            let (frame, entries) = (state.decode()?, state.entries()?);
            again(&frame);
            Ok(entries)
        });
        assert!(frames <= size && read.map_or(0, |read| read.bytes) <= size as u64);
    }
}

/// A frame of a checkpoint.
pub fn frame(bytes: &[u8]) {
    if let Ok(Part::State(state)) = FrameHead::of(bytes).part(bytes)
        && let Ok(frame) = state.decode()
    {
        again(&frame);
        assert_eq!(
            state.entries(),
            Ok(if let Frame::Files { entries, .. } = frame { entries.len() as u64 } else { 0 })
        );
    }
}

/// What was read is what is read back.
fn again(frame: &Frame) {
    let payload = postcard::to_stdvec(frame).expect("because every field can be said in postcard");
    match FrameHead::of(&payload).part(&payload) {
        Ok(Part::State(state)) => assert_eq!(state.decode().as_ref(), Ok(frame)),
        other => panic!("{other:?} for {frame:?}"),
    }
}

/// The file `STORE`.
pub fn identity(bytes: &[u8]) {
    let mut sealed = bytes.to_vec();
    put(&mut sealed, 0, b"LOCUSSTO\x01\0\0\0");
    if let Some(covered) = sealed.get(..64) {
        let sum = plain_checksum(covered).to_le_bytes();
        put(&mut sealed, 64, &sum);
    }
    for bytes in [bytes, &sealed] {
        if let Ok(identity) = Identity::decode(bytes, Path::new("STORE")) {
            assert_eq!(
                Identity::decode(&identity.encode(), Path::new("STORE"))
                    .expect("because it was written just now"),
                identity
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use locus_core::{
        Checksum, FileKey, Limit, LogicalDir, Owner, Remember, Scope, StoragePath, StoreTime, TenantId,
        Timestamp, VolumeId, VolumeStanding,
    };
    use proptest::prelude::*;

    use super::*;
    use crate::{
        store::event::{Accepted, Change, Resting},
        time::Stamp,
    };

    fn keys() -> impl Strategy<Value = Vec<FileKey>> {
        prop::collection::vec(any::<[u8; 16]>().prop_map(FileKey::from_bytes), 0..20)
    }

    fn change() -> impl Strategy<Value = Change> {
        let accepted = (any::<[u8; 16]>(), any::<(u64, [u8; 32], bool, u32, Option<u128>)>(), ".{0,40}")
            .prop_map(|(key, (size, content, on_volume, at, hash), text)| {
                Change::Accepted(Accepted {
                    key: FileKey::from_bytes(key),
                    owner: on_volume.then(|| StoragePath::parse("acme+00c0ffee").unwrap()),
                    directory: LogicalDir::parse("/in/deep").unwrap(),
                    original_name: (at % 2 == 0).then(|| text.clone()),
                    properties: BTreeMap::from([("n".to_owned(), text)]),
                    size,
                    checksum: Checksum::of(&content),
                    place: match on_volume {
                        true => {
                            Resting::Volume { id: VolumeId::parse("vol-1").unwrap(), synced: at % 3 == 0 }
                        }
                        false => Resting::Inline { at },
                    },
                    idempotency: hash.map(|hash| (hash, Remember::UntilForgotten)),
                })
            });
        let leased =
            (keys(), any::<(u64, u64, bool)>()).prop_map(|(keys, (deadline, ttl_micros, outside))| {
                Change::Leased {
                    keys,
                    deadline: StoreTime::from_micros(deadline),
                    ttl_micros,
                    owner: if outside { Owner::Outside } else { Owner::Process },
                    by: outside.then(|| "worker".to_owned()),
                }
            });
        let lists = (keys(), keys()).prop_map(|(keys, given_up)| Change::TimedOut { keys, given_up });
        let failed = (any::<[u8; 16]>(), ".{0,60}", any::<Option<u64>>()).prop_map(|(key, error, at)| {
            let available_at = at.map(StoreTime::from_micros);
            Change::Failed { key: FileKey::from_bytes(key), error, available_at }
        });
        let reaped = keys().prop_map(|keys| Change::Reaped { keys });
        let moved = any::<([u8; 16], bool)>().prop_map(|(key, back)| {
            let (key, volume) = (FileKey::from_bytes(key), VolumeId::parse("vol-1").unwrap());
            if back { Change::Requeued { key, volume } } else { Change::DeadLettered { key, volume } }
        });
        prop_oneof![accepted, leased, lists, failed, reaped, moved]
    }

    fn a_record() -> impl Strategy<Value = Record> {
        let files = (prop::collection::vec(change(), 0..6), any::<(i64, u64)>()).prop_map(
            |(changes, (wall, time))| {
                let stamp = Stamp { wall: Timestamp::from_micros(wall), time: StoreTime::from_micros(time) };
                Record::files(stamp, &TenantId::parse("acme").unwrap(), changes)
            },
        );
        let limit = any::<Option<u64>>().prop_map(|files| Record::LimitSet {
            scope: Scope::Tenant(TenantId::parse("acme").unwrap()),
            limit: files.map_or(Limit::Unlimited, Limit::Files),
        });
        let gone = Just(Record::TenantGone { tenant: TenantId::parse("acme").unwrap() });
        let stands = Just(Record::VolumeStands {
            volume: VolumeId::parse("vol-1").unwrap(),
            standing: VolumeStanding::Retired,
        });
        prop_oneof![4 => files, 1 => limit, 1 => gone, 1 => stands]
    }

    /// A few bytes changed, some cut off or added.
    fn mutated(mut bytes: Vec<u8>, at: &[(usize, u8)], cut: usize) -> Vec<u8> {
        for (place, byte) in at {
            if let Some(length) = (!bytes.is_empty()).then_some(bytes.len()) {
                bytes[place % length] ^= byte;
            }
        }
        bytes.truncate(cut % (bytes.len() + 1));
        bytes
    }

    fn harm() -> impl Strategy<Value = (Vec<(usize, u8)>, usize)> {
        (prop::collection::vec(any::<(usize, u8)>(), 0..6), any::<usize>())
    }

    fn all(bytes: &[u8]) {
        for door in [segment_header, segment, record, checkpoint, frame, identity] {
            door(bytes);
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..3_000)) {
            all(&bytes);
        }

        #[test]
        fn a_record_survives_its_encoding_and_harm_does_no_harm(record in a_record(), (at, cut) in harm()) {
            let bytes = record.encode();
            prop_assert_eq!(Record::decode(&bytes, Lsn(1)).unwrap(), record);
            all(&mutated(bytes, &at, cut));
        }

        #[test]
        fn a_header_survives_its_encoding_and_harm_does_no_harm(
            (number, before) in (2..u64::MAX).prop_flat_map(|number| (Just(number), 0..number)),
            salt: [u8; 16], lsns: [u64; 3], (at, cut) in harm(),
        ) {
            let header = SegmentHeader {
                store: STORE, number, salt, predecessor: before,
                predecessor_end: Lsn(lsns[0]), first: Lsn(lsns[1]), durable: Lsn(lsns[2]),
            };
            let bytes = header.encode();
            prop_assert_eq!(SegmentHeader::decode(&bytes, &STORE), Ok(header));
            all(&mutated(bytes, &at, cut));
        }

        #[test]
        fn an_identity_survives_its_encoding_and_harm_does_no_harm(
            id: [u8; 16], secret: [u8; 32], begun: bool, (at, cut) in harm(),
        ) {
            let identity = Identity { id: StoreId::from_bytes(id), secret, begun };
            let bytes = identity.encode();
            prop_assert_eq!(Identity::decode(&bytes, Path::new("STORE")).unwrap(), identity);
            all(&mutated(bytes, &at, cut));
        }
    }
}
