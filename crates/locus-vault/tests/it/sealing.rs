//! What is sealed opens as it was, or not at all.

use locus_testkit::SeededEntropy;
use locus_vault::{
    ContentKey, DataKey, SEGMENT_BYTES, Salt, TAG_BYTES, Tampered, plain_len, sealed_len, segments_of,
};
use proptest::prelude::*;
use rstest::rstest;
use sha2::{Digest, Sha256};

const SEALED: usize = SEGMENT_BYTES + TAG_BYTES;

fn key() -> ContentKey {
    key_of(b"header")
}

/// Of data key and salt that count from 0 to 63.
fn key_of(header: &[u8]) -> ContentKey {
    let [data_key, salt] = [0, 32].map(|from| std::array::from_fn(|at| from + at as u8));
    ContentKey::derive(&DataKey::from_bytes(&data_key), &Salt::from_bytes(salt), header)
}

fn plain(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at * 7 + at / 256) as u8).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The answers were computed by another implementation (OpenSSL's AES-GCM and HKDF).
#[rstest]
#[case::empty(0, "9d6e4ad1fec19faef16c3995e1244af4")]
#[case::five_bytes(5, "53c0552e3d41f2767b519bd82493ba654080f55c5d")]
fn a_short_content_is_sealed_as_elsewhere(#[case] len: usize, #[case] answer: &str) {
    assert_eq!(hex(&key().seal(&plain(len))), answer);
}

/// As above, by the SHA-256 of the answer.
#[rstest]
#[case::one_segment(65_536, "dbb267efae57517fce9755eb988a7dae365227c78ecc10504141703855583b5b")]
#[case::two_segments_and_a_byte(131_073, "801747909468590fd2f2a1d076dca33dc01e61c312e5e384ed8ea38092bc0e51")]
fn a_long_content_is_sealed_as_elsewhere(#[case] len: usize, #[case] answer: &str) {
    assert_eq!(hex(&Sha256::digest(key().seal(&plain(len)))), answer);
}

#[rstest]
fn what_was_sealed_opens(#[values(0, 1, 16, 65_535, 65_536, 65_537, 131_072, 131_073, 200_000)] len: usize) {
    let sealed = key().seal(&plain(len));
    assert_eq!(sealed.len() as u64, sealed_len(len as u64));
    assert_eq!(plain_len(sealed.len() as u64), Some(len as u64));
    assert_eq!(*key().open(&sealed).unwrap(), plain(len));
}

#[test]
fn any_flipped_bit_of_a_small_content_is_noticed() {
    let sealed = key().seal(&plain(100));
    for at in 0..sealed.len() {
        for bit in 0..8 {
            let mut bad = sealed.clone();
            bad[at] ^= 1 << bit;
            assert_eq!(key().open(&bad).unwrap_err(), Tampered { segment: 0 }, "byte {at}, bit {bit}");
        }
    }
}

#[test]
fn a_flipped_byte_of_a_large_content_is_noticed_in_its_segment() {
    let sealed = key().seal(&plain(2 * SEGMENT_BYTES + 50));
    let ends = [
        0,
        SEGMENT_BYTES - 1,
        SEGMENT_BYTES,
        SEALED - 1,
        SEALED,
        2 * SEALED - 1,
        2 * SEALED,
        sealed.len() - 1,
    ];
    for at in (0..sealed.len()).step_by(4_093).chain(ends) {
        let mut bad = sealed.clone();
        bad[at] ^= 0x80;
        assert_eq!(key().open(&bad).unwrap_err(), Tampered { segment: (at / SEALED) as u64 }, "byte {at}");
    }
}

#[test]
fn every_truncation_of_a_small_content_is_noticed_and_so_is_what_is_put_behind_it() {
    let sealed = key().seal(&plain(100));
    for len in 0..sealed.len() {
        assert!(key().open(&sealed[..len]).is_err(), "cut at {len}");
        assert!(key().open(&[&sealed, &sealed[..len + 1]].concat()).is_err(), "{len} bytes more");
    }
}

#[rstest]
#[case::at_a_segments_end(SEALED)]
#[case::at_the_second_segments_end(2 * SEALED)]
#[case::within_a_segment(SEALED + 70)]
#[case::within_a_tag(SEALED - 3)]
#[case::to_a_tag(SEALED + 16)]
#[case::before_its_last_byte(2 * SEALED + 65)]
#[case::to_nothing(0)]
fn a_truncated_large_content_is_noticed(#[case] len: usize) {
    let sealed = key().seal(&plain(2 * SEGMENT_BYTES + 50));
    assert!(key().open(&sealed[..len]).is_err());
}

/// By the order in which the segments of 4 stand afterwards, the last of which is short.
#[rstest]
#[case::two_swapped(&[1, 0, 2, 3])]
#[case::the_last_two_swapped(&[0, 1, 3, 2])]
#[case::one_left_out(&[0, 2, 3])]
#[case::the_first_left_out(&[1, 2, 3])]
#[case::the_last_left_out(&[0, 1, 2])]
#[case::one_twice(&[0, 1, 1, 2, 3])]
#[case::one_instead_of_another(&[0, 1, 1, 3])]
#[case::the_last_twice(&[0, 1, 2, 3, 3])]
fn segments_in_another_order_are_noticed(#[case] order: &[usize]) {
    let sealed = key().seal(&plain(3 * SEGMENT_BYTES + 50));
    let segments: Vec<_> = sealed.chunks(SEALED).collect();
    let bad: Vec<_> = order.iter().flat_map(|at| segments[*at]).copied().collect();
    assert!(key().open(&bad).is_err());
    let good: Vec<_> = (0..4).flat_map(|at| segments[at]).copied().collect();
    assert!(key().open(&good).is_ok());
}

#[test]
fn a_segment_of_another_content_is_noticed() {
    let random = SeededEntropy::new(3);
    let data_key = DataKey::draw(&random);
    let [one, other] = [(); 2].map(|()| ContentKey::derive(&data_key, &Salt::draw(&random), b"header"));
    let (mut sealed, theirs) = (one.seal(&plain(100_000)), other.seal(&plain(100_000)));
    assert_ne!(sealed, theirs, "two salts seal alike");
    sealed[..SEALED].copy_from_slice(&theirs[..SEALED]);
    assert_eq!(one.open(&sealed).unwrap_err(), Tampered { segment: 0 });
    assert!(one.open(&theirs).is_err());
}

#[test]
fn another_header_salt_or_data_key_opens_nothing() {
    let random = SeededEntropy::new(4);
    let (data_key, salt) = (DataKey::draw(&random), Salt::draw(&random));
    let sealed = ContentKey::derive(&data_key, &salt, b"header").seal(b"a secret");
    assert!(ContentKey::derive(&data_key, &salt, b"header").open(&sealed).is_ok());
    for header in [b"headeR".as_slice(), b"heade", b"header\0", b""] {
        assert!(ContentKey::derive(&data_key, &salt, header).open(&sealed).is_err(), "{header:?}");
    }
    assert!(ContentKey::derive(&data_key, &Salt::draw(&random), b"header").open(&sealed).is_err());
    assert!(ContentKey::derive(&DataKey::draw(&random), &salt, b"header").open(&sealed).is_err());
}

#[test]
fn a_segment_that_does_not_open_leaves_what_was_there() {
    let mut sealed = key().seal(&plain(100));
    sealed[3] ^= 1;
    let mut out = b"before".to_vec();
    assert_eq!(key().open_segment(0, true, &sealed, &mut out), Err(Tampered { segment: 0 }));
    assert_eq!(out, b"before");
}

#[test]
fn a_segment_opens_only_in_its_place() {
    let mut last = Vec::new();
    key().seal_segment(1, true, b"end", &mut last);
    let mut out = Vec::new();
    assert!(key().open_segment(0, true, &last, &mut out).is_err());
    assert!(key().open_segment(1 << 56 | 1, true, &last, &mut out).is_err());
    assert!(key().open_segment(1, false, &last, &mut out).is_err());
    key().open_segment(1, true, &last, &mut out).unwrap();
    assert_eq!(out, b"end");
}

#[rstest]
#[case::short_within(0, false, 5)]
#[case::empty_within(0, false, 0)]
#[case::too_long(0, false, SEGMENT_BYTES + 1)]
#[case::too_long_at_the_end(0, true, SEGMENT_BYTES + 1)]
#[case::empty_behind_others(1, true, 0)]
#[should_panic(expected = "cannot have")]
fn a_segment_that_would_not_open_is_not_sealed(#[case] index: u64, #[case] last: bool, #[case] len: usize) {
    key().seal_segment(index, last, &plain(len), &mut Vec::new());
}

#[test]
fn a_range_that_misses_a_truncation_tells_it_by_the_length_in_the_header() {
    let content = plain(2 * SEGMENT_BYTES + 50);
    let sealed = key().seal(&content);
    let len = content.len() as u64;
    let end = len - 20..len;
    let cut = &sealed[2 * SEALED..2 * SEALED + 40];
    assert!(key().open_range(end.clone(), len, cut).is_err(), "fewer bytes than the length says");
    assert!(key().open_range(end, len - 26, cut).is_err(), "a length to match");
    // Believed, a file's length would hide that the last segment is missing, for as long as it is not asked for.
    assert!(key().open_range(0..9, SEGMENT_BYTES as u64, &sealed[..SEALED]).is_err());
}

#[test]
fn a_content_opens_by_nothing_but_name() {
    assert_eq!(format!("{:?}", key()), "ContentKey(..)");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn any_range_opens_from_its_own_segments(
        len in prop_oneof![0..100_usize, 65_000..66_000_usize, 131_000..140_000_usize],
        from in 0..140_000_u64, more in 0..140_000_u64,
    ) {
        let (content, key) = (plain(len), key());
        let sealed = key.seal(&content);
        let range = from..from + more;
        let segments = segments_of(range.clone(), len as u64);
        let (start, end) = (segments.sealed.start as usize, segments.sealed.end as usize);
        let opened = key.open_range(range, len as u64, &sealed[start..end]).unwrap();
        let (from, to) = ((from as usize).min(len), ((from + more) as usize).min(len));
        prop_assert_eq!(&*opened, &content[from..to]);
        if start < end {
            let mut bad = sealed[start..end].to_vec();
            let at = (from * 31 + to) % bad.len();
            bad[at] ^= 4;
            prop_assert!(key.open_range(from as u64..to as u64, len as u64, &bad).is_err());
        }
    }
}
