//! A small log, damaged in every way: each bit flipped, each length cut, records and segments exchanged, records planted
//! inside content.
//!
//! What must come of it is said by an oracle that knows the log as it was written (by the byte tables of
//! `docs/format.md`, not by the code that reads it) and which bytes were harmed: whatever was touched is bad, whatever
//! was not is good. D is what the unharmed rest says. A bad record at or below D: refused, named, nothing changed. A bad
//! attachment there: that file alone. The first bad one above D: the log ends before it, exactly.
//!
//! `LOCUS_DAMAGE=1` does everything, `LOCUS_DAMAGE=n` every n-th; without it a sample is taken.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Range,
    path::{Path, PathBuf},
    time::Duration,
};

use locus_core::{
    Checksum, Durability, Error, FileKey, FileStatus, MetadataStore, NewContent, NewFile, Place,
};
use locus_fs::{Disk, create_dirs};
use locus_storage::EngineOptions;
use locus_testkit::{Fault, OpKind, SimDisk};
use rstest::rstest;

use crate::world::{End, Records, World, files_below, new_file, put, tenant};

const HEADER: usize = 4_096;
const HEADER_LEN: usize = 104;
const COPIES: [usize; 2] = [0, 2_048];
const BATCH_HEAD: usize = 64;
const RECORD_HEAD: usize = 48;
const ALIGN: usize = 512;
/// Segment files are cut to this for the many openings below: the rest of them is zeros, or an earlier life.
const KEPT: usize = 64 << 10;

fn options(durability: Durability) -> EngineOptions {
    EngineOptions {
        durability,
        segment_size: 1 << 20,
        visibility_timeout: Duration::from_secs(3_600),
        max_unsynced: Duration::from_secs(3_600),
        ..EngineOptions::default()
    }
}

fn world(seed: u64, durability: Durability) -> World {
    World::new(seed, options(durability)).with_inline(16 << 10)
}

type Image = BTreeMap<PathBuf, Vec<u8>>;

fn image(disk: &SimDisk) -> Image {
    files_below(disk, Path::new("/data"))
}

fn is_segment(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("segment-"))
}

/// A disk with these files on it, all of it durable.
fn disk_of(image: &Image, seed: u64) -> World {
    let world = world(seed, Durability::Durable);
    for (path, bytes) in image {
        let parent = path.parent().unwrap();
        create_dirs(&*world.disk, parent).unwrap();
        let file = world.disk.create_new(path).unwrap();
        file.write_at(bytes, 0).unwrap();
        file.sync_data().unwrap();
        world.disk.sync_dir(parent).unwrap();
    }
    world
}

// ---- the log as it was written --------------------------------------------------------------------------------------

fn u32_at(bytes: &[u8], at: usize) -> usize {
    u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap()) as usize
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap())
}

/// A stretch of a file that one checksum covers.
#[derive(Debug, Clone)]
struct Part {
    path: PathBuf,
    range: Range<usize>,
}

#[derive(Debug, Clone)]
struct Record {
    lsn: u64,
    /// Head and body.
    part: Part,
    attachment: Part,
}

#[derive(Debug, Clone)]
struct Batch {
    head: Part,
    /// The durable LSN that it tells.
    durable: u64,
    /// With the padding.
    whole: Part,
    records: Vec<Record>,
}

#[derive(Debug, Clone)]
struct Segment {
    path: PathBuf,
    number: u64,
    first: u64,
    durable: u64,
    batches: Vec<Batch>,
}

/// What happened to a file, by LSN.
#[derive(Debug, Clone)]
struct Told {
    key: FileKey,
    accepted: u64,
    completed: Option<u64>,
    content: Option<Vec<u8>>,
}

struct Log {
    image: Image,
    segments: Vec<Segment>,
    /// Where replay begins, and what the checkpoint says is durable; without one, from the first record.
    checkpoint: Option<(PathBuf, u64, u64)>,
    files: Vec<Told>,
}

/// Reads the segments of a healthy log as docs/format.md has it.
fn parse(image: &Image) -> Vec<Segment> {
    let mut segments = Vec::new();
    for (path, bytes) in image.iter().filter(|(path, _)| is_segment(path)) {
        if !bytes.starts_with(b"LOCUSLOG") {
            continue;
        }
        let part = |range: Range<usize>| Part { path: path.clone(), range };
        let mut segment = Segment {
            path: path.clone(),
            number: u64_at(bytes, 32),
            first: u64_at(bytes, 72),
            durable: u64_at(bytes, 80),
            batches: Vec::new(),
        };
        let mut expected = segment.first;
        let mut at = HEADER;
        while bytes[at..].starts_with(b"LBAT") {
            let (length, count) = (u32_at(bytes, at + 8), u32_at(bytes, at + 12));
            assert_eq!(u64_at(bytes, at + 16), expected);
            let mut records = Vec::new();
            let mut from = at + BATCH_HEAD;
            for _ in 0..count {
                let body_end = from + RECORD_HEAD + u32_at(bytes, from + 8);
                let end = body_end + u32_at(bytes, from + 12);
                assert_eq!(u64_at(bytes, from), expected);
                records.push(Record {
                    lsn: expected,
                    part: part(from..body_end),
                    attachment: part(body_end..end),
                });
                expected += 1;
                from = end;
            }
            segment.batches.push(Batch {
                head: part(at..at + BATCH_HEAD),
                durable: u64_at(bytes, at + 24),
                whole: part(at..at + length),
                records,
            });
            at += length;
        }
        segments.push(segment);
    }
    segments.sort_by_key(|segment| segment.number);
    segments
}

fn write(records: &mut Records, length: usize, number: &mut u64) -> (FileKey, Vec<u8>) {
    *number += 1;
    let mut content = vec![0; length];
    blake3::Hasher::new().update(&number.to_le_bytes()).finalize_xof().fill(&mut content);
    (write_bytes(records, &content), content)
}

fn write_bytes(records: &mut Records, content: &[u8]) -> FileKey {
    let bytes = content.to_vec();
    let keys = records.call(|store| async move {
        let landing = store.land(bytes.len() as u64).await.expect("because there is room");
        let (size, checksum) = (bytes.len() as u64, Checksum::of(&bytes));
        let content = NewContent::Inline { bytes: bytes.into(), landing };
        put(&store, vec![NewFile { size, checksum, content, ..new_file() }]).await
    });
    keys.unwrap()[0]
}

impl Log {
    fn told(&mut self, records: &mut Records, length: Option<usize>, number: &mut u64) {
        let (key, content) = match length {
            Some(length) => {
                let (key, content) = write(records, length, number);
                (key, Some(content))
            }
            None => (records.write(), None),
        };
        let accepted = records.store.statistics().written.0;
        self.files.push(Told { key, accepted, completed: None, content });
    }

    /// A content in which real batches of this log lie, each beginning on a boundary on which batches begin.
    fn imitate(&mut self, records: &mut Records) {
        let now = image(&records.world.disk);
        let segments = parse(&now);
        // The attachment of the next record begins where that of this length began, one record later.
        let probe = vec![0; 12 << 10];
        let key = write_bytes(records, &probe);
        let accepted = records.store.statistics().written.0;
        self.files.push(Told { key, accepted, completed: None, content: Some(probe) });
        let after = parse(&image(&records.world.disk));
        let newest = after.last().unwrap().batches.last().unwrap();
        let attachment = &newest.records[0].attachment.range;
        let next = attachment.start + newest.whole.range.len();
        let mut content = vec![0x5a; 12 << 10];
        let mut at = next.next_multiple_of(ALIGN) - next;
        'planted: for segment in segments.iter().rev() {
            for batch in &segment.batches {
                let bytes = &now[&batch.whole.path][batch.whole.range.clone()];
                if at + bytes.len() > content.len() {
                    continue 'planted;
                }
                content[at..at + bytes.len()].copy_from_slice(bytes);
                at += bytes.len();
            }
        }
        assert!(at > 6 << 10, "few records were planted");
        let key = write_bytes(records, &content);
        let accepted = records.store.statistics().written.0;
        self.files.push(Told { key, accepted, completed: None, content: Some(content) });
        let planted = parse(&image(&records.world.disk));
        let newest = planted.last().unwrap().batches.last().unwrap();
        assert_eq!(newest.records[0].attachment.range.start, next, "it lies where it was to lie");
    }

    fn complete(&mut self, records: &mut Records, at: usize) {
        let key = self.files[at].key;
        let lease = records.call(|store| async move {
            store.lease_key(&tenant(0), &key, &locus_core::LeaseOptions::new()).await
        });
        records.complete(&lease.unwrap().lease).unwrap();
        self.files[at].completed = Some(records.store.statistics().written.0);
    }

    /// Three lives, a segment each: two of them durable, in the second a checkpoint; the last one buffered, with a
    /// barrier in its middle, so that it ends far above D.
    fn new(with_checkpoint: bool) -> Self {
        let mut log = Self { image: Image::new(), segments: Vec::new(), checkpoint: None, files: Vec::new() };
        let mut number = 0;
        let mut records = open(world(1, Durability::Durable));
        for length in [Some(700), Some(0), None, Some(100), Some(1_500), None, Some(300)] {
            log.told(&mut records, length, &mut number);
        }
        log.complete(&mut records, 0);
        log.complete(&mut records, 2);
        let mut records = open(records.end(End::Kill));
        for length in [Some(200), None, Some(900)] {
            log.told(&mut records, length, &mut number);
        }
        log.complete(&mut records, 4);
        let begin = records.store.statistics().written.0 + 1;
        if with_checkpoint {
            records.checkpoint().unwrap();
        }
        log.told(&mut records, Some(400), &mut number);
        log.imitate(&mut records);
        log.complete(&mut records, 1);
        let mut world = records.end(End::Kill);
        world.options.durability = Durability::Buffered;
        let mut records = open(world);
        for length in [Some(600), None, Some(800)] {
            log.told(&mut records, length, &mut number);
        }
        records.sync();
        log.imitate(&mut records);
        for length in [Some(250), None, Some(1_000)] {
            log.told(&mut records, length, &mut number);
        }
        log.complete(&mut records, 7);
        let world = records.end(End::Kill);
        log.image = image(&world.disk);
        log.segments = parse(&log.image);
        // Blank files are made anew; of the others only the beginning is used.
        let used: BTreeSet<_> = log.segments.iter().map(|segment| segment.path.clone()).collect();
        log.image.retain(|path, _| !is_segment(path) || used.contains(path));
        for (_, bytes) in log.image.iter_mut().filter(|(path, _)| is_segment(path)) {
            assert!(bytes[KEPT..].iter().all(|byte| *byte == 0));
            bytes.truncate(KEPT);
        }
        let newest = log.image.keys().rfind(|path| path.to_string_lossy().contains("/checkpoint-0"));
        log.checkpoint = newest.cloned().map(|path| {
            // Nothing lies above what was durable when it was taken.
            (path, begin, begin - 1)
        });
        assert_eq!(log.checkpoint.is_some(), with_checkpoint);
        let records: usize = log.batches().map(|batch| batch.records.len()).sum();
        assert!(
            log.segments.len() == 3 && records > 30,
            "{} segments, {records} records",
            log.segments.len()
        );
        let d = log.durable(&[]);
        let above = log.batches().flat_map(|batch| &batch.records).filter(|record| record.lsn > d).count();
        assert!((5..20).contains(&above), "{above} records above D");
        log
    }

    fn batches(&self) -> impl Iterator<Item = &Batch> {
        self.segments.iter().flat_map(|segment| &segment.batches)
    }

    // ---- the oracle ------------------------------------------------------------------------------------------------

    fn is_harmed(harm: &[Part], part: &Part) -> bool {
        harm.iter().any(|harm| {
            harm.path == part.path && harm.range.start < part.range.end && part.range.start < harm.range.end
        })
    }

    fn header(segment: &Segment, copy: usize) -> Part {
        Part { path: segment.path.clone(), range: copy..copy + HEADER_LEN }
    }

    fn has_header(segment: &Segment, harm: &[Part]) -> bool {
        COPIES.into_iter().any(|copy| !Self::is_harmed(harm, &Self::header(segment, copy)))
    }

    fn good_checkpoint(&self, harm: &[Part]) -> Option<(u64, u64)> {
        let (path, begin, durable) = self.checkpoint.as_ref()?;
        let whole = Part { path: path.clone(), range: 0..self.image[path].len() };
        (!Self::is_harmed(harm, &whole)).then_some((*begin, *durable))
    }

    /// D: what is left says so.
    fn durable(&self, harm: &[Part]) -> u64 {
        let mut durable = self.good_checkpoint(harm).map_or(0, |(_, durable)| durable);
        for segment in self.segments.iter().filter(|segment| Self::has_header(segment, harm)) {
            durable = durable.max(segment.durable);
            for batch in segment.batches.iter().filter(|batch| !Self::is_harmed(harm, &batch.head)) {
                durable = durable.max(batch.durable);
            }
        }
        durable
    }

    fn expect(&self, harm: &[Part]) -> Expected {
        let begin = self.good_checkpoint(harm).map_or(1, |(begin, _)| begin);
        let durable = self.durable(harm);
        let mut end = None;
        let mut damaged = BTreeSet::new();
        let replayed = self.segments.iter().rposition(|segment| segment.first <= begin).unwrap_or(0);
        for segment in &self.segments[replayed..] {
            let headless = !Self::has_header(segment, harm);
            for batch in &segment.batches {
                let lost = headless || Self::is_harmed(harm, &batch.head);
                for record in &batch.records {
                    let bad = lost || Self::is_harmed(harm, &record.part);
                    let hollow = !bad && Self::is_harmed(harm, &record.attachment);
                    if bad || hollow && record.lsn > durable {
                        end = end.or(Some(record.lsn));
                    }
                    if hollow {
                        damaged.insert(record.lsn);
                    }
                }
            }
        }
        // Before what is replayed nothing is looked at until it is read.
        for segment in &self.segments[..replayed] {
            let headless = !Self::has_header(segment, harm);
            let records = segment.batches.iter().flat_map(|batch| &batch.records);
            let hollow = records.filter(|record| headless || Self::is_harmed(harm, &record.attachment));
            damaged.extend(hollow.map(|record| record.lsn));
        }
        match end {
            Some(lsn) if lsn <= durable => Expected::Refused,
            end => Expected::Opens { before: end.unwrap_or(u64::MAX), damaged },
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Expected {
    /// Corrupt, and every byte left.
    Refused,
    /// The records before this one, all of them; the contents in these are lost.
    Opens { before: u64, damaged: BTreeSet<u64> },
}

fn open(world: World) -> Records {
    Records::open(world).unwrap_or_else(|failed| panic!("refused to open: {:?}", failed.1))
}

#[derive(Debug, Default)]
struct Tally {
    openings: u64,
    refused: u64,
    cut: u64,
    confined: u64,
    unharmed: u64,
}

/// Opens the log with this harm done to it, and holds what comes of it against the oracle.
fn check(log: &Log, harmed: &Image, harm: &[Part], of: &str, tally: &mut Tally) {
    tally.openings += 1;
    let expected = log.expect(harm);
    let opened = Records::open(disk_of(harmed, 100 + tally.openings));
    let mut records = match (opened, &expected) {
        (Err(failed), Expected::Refused) => {
            let Error::Corrupt { place, .. } = &failed.1 else { panic!("{of}: {:?}", failed.1) };
            assert!(place.contains("journal"), "{of}: {place} names no place");
            if tally.refused.is_multiple_of(16) {
                assert!(image(&failed.0.disk) == *harmed, "{of}: a refused opening changed something");
            }
            tally.refused += 1;
            return;
        }
        (Err(failed), expected) => panic!("{of}: {:?}, expected {expected:?}", failed.1),
        (Ok(records), Expected::Refused) => panic!("{of}: opened, {:?}", records.report),
        (Ok(records), _) => records,
    };
    let Expected::Opens { before, damaged } = expected else { unreachable!() };
    let report = records.report.clone();
    assert!(report.durable.0 == log.durable(harm), "{of}: {report:?}, D is {}", log.durable(harm));
    let mut spoilt = 0;
    for told in &log.files {
        let is_live = told.accepted < before && told.completed.is_none_or(|lsn| lsn >= before);
        let record = records.record(told.key);
        let status = record.as_ref().map(|record| record.info.status);
        assert_eq!(
            status.is_some_and(|status| !status.is_over()),
            is_live,
            "{of}: {} (accepted by {}) is {status:?}; the log ends before {before}",
            told.key,
            told.accepted
        );
        let (Some(record), true, Some(content)) = (record, is_live, &told.content) else { continue };
        assert_eq!((record.info.size, status), (content.len() as u64, Some(FileStatus::Pending)));
        assert_eq!(record.place, Place::Store);
        if content.is_empty() {
            continue;
        }
        let read = records.call(|store| async move { store.content(&record, 0..record.info.size).await });
        if damaged.contains(&told.accepted) {
            let refused = matches!(read, Err(Error::ChecksumMismatch { .. } | Error::Corrupt { .. }));
            assert!(refused, "{of}: damaged content was read: {read:?}");
            spoilt += 1;
        } else {
            assert_eq!(read.unwrap(), *content, "{of}: content of {}", told.key);
        }
    }
    let total = log.files.iter().filter(|told| told.accepted < before).count() as u64;
    let counts = records.counts();
    assert!(counts.files() <= total, "{of}: more files than were ever written: {counts:?}");
    match (before, spoilt) {
        (u64::MAX, 0) => tally.unharmed += 1,
        (u64::MAX, _) => tally.confined += 1,
        _ => tally.cut += 1,
    }
}

fn stride(ordinary: usize) -> usize {
    std::env::var("LOCUS_DAMAGE").ok().and_then(|n| n.parse().ok()).unwrap_or(ordinary)
}

// ---- damage ---------------------------------------------------------------------------------------------------------

#[rstest]
fn b57_b91_a_flipped_bit_anywhere_is_refused_confined_or_cut_and_never_believed(
    #[values(true, false)] with_checkpoint: bool,
) {
    let log = Log::new(with_checkpoint);
    let mut parts = Vec::new();
    for segment in &log.segments {
        parts.extend(COPIES.map(|copy| Log::header(segment, copy)));
        for batch in &segment.batches {
            parts.push(batch.head.clone());
            for record in &batch.records {
                parts.push(record.part.clone());
                parts.push(record.attachment.clone());
            }
            // And the padding, in which nothing stands.
            let end = batch.records.last().map_or(batch.head.range.end, |record| record.attachment.range.end);
            parts.push(Part { path: segment.path.clone(), range: end..batch.whole.range.end });
        }
    }
    if let Some((path, ..)) = &log.checkpoint {
        parts.push(Part { path: path.clone(), range: 0..512 });
    }
    let bits = parts.iter().flat_map(|part| {
        part.range.clone().flat_map(move |at| (0..8).map(move |bit| (part.path.clone(), at, bit)))
    });
    let (mut tally, mut harmed) = (Tally::default(), log.image.clone());
    for (path, at, bit) in bits.step_by(stride(307)) {
        let harm = [Part { path: path.clone(), range: at..at + 1 }];
        harmed.get_mut(&path).unwrap()[at] ^= 1 << bit;
        check(&log, &harmed, &harm, &format!("bit {bit} of byte {at} of {}", path.display()), &mut tally);
        harmed.get_mut(&path).unwrap()[at] ^= 1 << bit;
    }
    println!("flipped bits, checkpoint {with_checkpoint}: {tally:?}");
    assert!(tally.refused > 0 && tally.cut > 0 && tally.confined > 0 && tally.unharmed > 0, "{tally:?}");
}

#[rstest]
fn b57_a_segment_cut_to_any_length_is_refused_confined_or_cut(#[values(true, false)] with_checkpoint: bool) {
    let log = Log::new(with_checkpoint);
    let mut tally = Tally::default();
    for segment in &log.segments {
        let used = segment.batches.last().unwrap().whole.range.end;
        for length in (0..=used + 1).step_by(stride(61)) {
            let mut harmed = log.image.clone();
            harmed.get_mut(&segment.path).unwrap().truncate(length);
            let harm = [Part { path: segment.path.clone(), range: length..usize::MAX }];
            // A batch is read when all of it is there; contents are read by themselves.
            let torn = segment.batches.iter().find(|batch| batch.whole.range.contains(&length));
            let torn = torn.into_iter().flat_map(|batch| &batch.records).map(|record| record.part.clone());
            let harm: Vec<Part> = harm.into_iter().chain(torn).collect();
            check(&log, &harmed, &harm, &format!("{length} bytes of segment {}", segment.number), &mut tally);
        }
    }
    println!("cut segments, checkpoint {with_checkpoint}: {tally:?}");
    assert!(tally.refused > 0 && tally.cut > 0, "{tally:?}");
}

/// Exchanges two stretches of equal length, which are harmed where they differ.
fn exchange(image: &mut Image, a: &Part, b: &Part) -> Vec<Part> {
    let length = a.range.len().min(b.range.len());
    let take = |part: &Part| image[&part.path][part.range.start..part.range.start + length].to_vec();
    let (bytes_a, bytes_b) = (take(a), take(b));
    let mut harm = Vec::new();
    for (part, bytes, before) in [(a, &bytes_b, &bytes_a), (b, &bytes_a, &bytes_b)] {
        let at = part.range.start;
        image.get_mut(&part.path).unwrap()[at..at + length].copy_from_slice(bytes);
        let differs = bytes.iter().zip(before).enumerate().filter(|(_, (now, before))| now != before);
        harm.extend(differs.map(|(n, _)| Part { path: part.path.clone(), range: at + n..at + n + 1 }));
    }
    harm
}

#[rstest]
fn b57_b91_records_that_changed_places_are_refused_or_cut_and_never_believed(
    #[values(true, false)] with_checkpoint: bool,
) {
    let log = Log::new(with_checkpoint);
    // Records alone, and with the batch around them.
    let records: Vec<Part> = log.batches().flat_map(|batch| &batch.records).map(|r| r.part.clone()).collect();
    let batches: Vec<Part> = log.batches().map(|batch| batch.whole.clone()).collect();
    let mut pairs = Vec::new();
    for places in [records, batches] {
        for (n, a) in places.iter().enumerate() {
            pairs.extend(places[n + 1..].iter().map(|b| (a.clone(), b.clone())));
        }
    }
    let mut tally = Tally::default();
    for (a, b) in pairs.into_iter().step_by(stride(3)) {
        let mut harmed = log.image.clone();
        let harm = exchange(&mut harmed, &a, &b);
        check(&log, &harmed, &harm, &format!("{a:?} and {b:?} exchanged"), &mut tally);
    }
    println!("exchanged records, checkpoint {with_checkpoint}: {tally:?}");
    assert!(tally.refused > 0 && tally.cut > 0, "{tally:?}");
}

#[rstest]
fn b57_b91_segments_that_changed_places_are_told_by_what_is_in_them(
    #[values(true, false)] with_checkpoint: bool,
) {
    let log = Log::new(with_checkpoint);
    let mut tally = Tally::default();
    for (n, a) in log.segments.iter().enumerate() {
        for b in &log.segments[n + 1..] {
            let whole = |segment: &Segment, range| Part { path: segment.path.clone(), range };
            // Files that changed names are what they say that they are.
            let mut harmed = log.image.clone();
            exchange(&mut harmed, &whole(a, 0..KEPT), &whole(b, 0..KEPT));
            check(
                &log,
                &harmed,
                &[],
                &format!("segments {} and {} exchanged", a.number, b.number),
                &mut tally,
            );
            // Bodies under each other's header are nothing.
            let mut harmed = log.image.clone();
            let harm = exchange(&mut harmed, &whole(a, HEADER..KEPT), &whole(b, HEADER..KEPT));
            check(&log, &harmed, &harm, &format!("bodies of {} and {}", a.number, b.number), &mut tally);
            // And a header over the other's body likewise: one of them is then there twice, the other never.
            let mut harmed = log.image.clone();
            let harm = exchange(&mut harmed, &whole(a, 0..HEADER), &whole(b, 0..HEADER));
            let headless: Vec<Part> =
                [a, b].map(|segment| whole(segment, HEADER..KEPT)).into_iter().collect();
            assert!(!harm.is_empty());
            let of = format!("headers of {} and {}", a.number, b.number);
            check(&log, &harmed, &headless, &of, &mut tally);
        }
    }
    println!("exchanged segments, checkpoint {with_checkpoint}: {tally:?}");
    assert!(tally.refused > 0 && tally.unharmed == 3, "{tally:?}");
}

// ---- what only looks as if it were on the disk ------------------------------------------------------------------------

/// Files that are there, with their contents.
fn found(records: &mut Records, files: &[(FileKey, Vec<u8>)]) -> Vec<FileKey> {
    let mut found = Vec::new();
    for (key, content) in files {
        let Some(record) = records.record(*key) else { continue };
        let read = records.call(|store| async move { store.content(&record, 0..record.info.size).await });
        assert_eq!(read.unwrap(), *content, "content of {key}");
        found.push(*key);
    }
    found
}

#[rstest]
fn b56_what_a_killed_process_left_survives_a_power_cut_once_it_was_recovered(
    #[values(Durability::Durable, Durability::Buffered)] durability: Durability,
) {
    for seed in 0..60 {
        let mut records = open(world(seed, durability));
        let mut number = 0;
        let files: Vec<_> = (0..12).map(|n| write(&mut records, 100 + n * 130, &mut number)).collect();
        // The process dies: the kernel has everything, and the next one recovers all of it.
        let mut records = open(records.end(End::Kill));
        let keys: Vec<FileKey> = files.iter().map(|(key, _)| *key).collect();
        assert_eq!(found(&mut records, &files), keys, "seed {seed}");
        assert_eq!(records.report.dropped, 0);
        // What it was told is durable, although nobody synced since.
        let mut records = open(records.end(End::PowerCut));
        assert_eq!(found(&mut records, &files), keys, "seed {seed}");
    }
}

#[test]
fn b56_b65_what_is_found_after_a_failed_sync_is_what_the_device_holds() {
    let mut lengths = BTreeSet::new();
    for seed in 0..60 {
        let mut records = open(world(seed, Durability::Buffered));
        let mut number = 0;
        let mut files: Vec<_> = (0..4).map(|n| write(&mut records, 100 + n * 130, &mut number)).collect();
        records.sync();
        files.extend((4..12).map(|n| write(&mut records, 100 + n * 130, &mut number)));
        let fault = Fault::io().on(OpKind::Sync).at(|path| path.starts_with("/data/journal"));
        records.world.disk.fail(fault);
        let synced = records.call(|store| async move { store.sync().await });
        assert!(matches!(synced, Err(Error::Poisoned { .. })), "{synced:?}");
        // Every page looks clean now, and reads as it was written, as long as it is in the cache.
        let mut records = open(records.end(End::Kill));
        let after = found(&mut records, &files);
        let keys: Vec<FileKey> = files.iter().map(|(key, _)| *key).collect();
        assert!(after.len() >= 4 && keys.starts_with(&after), "seed {seed}: {} of 12", after.len());
        lengths.insert(after.len());
        let next = write(&mut records, 500, &mut number);
        records.sync();
        // Nothing that was believed then is gone now.
        files.push(next);
        let mut records = open(records.end(End::PowerCut));
        let expected: Vec<FileKey> = after.into_iter().chain([files[12].0]).collect();
        assert_eq!(found(&mut records, &files), expected, "seed {seed}");
    }
    assert!(lengths.contains(&4), "pages that looked clean were never gone: {lengths:?}");
}
