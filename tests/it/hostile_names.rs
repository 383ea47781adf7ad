//! Names that were made to do harm, given to a store in every place that takes a caller's text.
//!
//! `LOCUS_HOSTILE_NAMES` says how many, 1,000 unless it does.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use locus::{Durability, Error, prelude::*};
use locus_testkit::HostileNames;

use crate::support::{in_time, number, seed};

/// So many files live at a time.
const AT_A_TIME: u64 = 500;

/// Every file below a directory, relative to it.
fn files(dir: &Path) -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    let mut ahead = vec![PathBuf::new()];
    while let Some(at) = ahead.pop() {
        for entry in fs::read_dir(dir.join(&at)).unwrap() {
            let entry = entry.unwrap();
            let path = at.join(entry.file_name());
            if entry.file_type().unwrap().is_dir() {
                ahead.push(path);
            } else {
                found.insert(path);
            }
        }
    }
    found
}

/// Whether it is one of the store's own files, by the names that it gives itself.
fn is_of_the_store(path: &Path) -> bool {
    let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    match path.to_str().unwrap().strip_prefix("place/data/") {
        None => path == "place/vol/.locus-volume",
        Some("LOCK" | "STORE" | "mounts" | "tenants/acme.tenant") => true,
        Some(other) => match other.strip_prefix("journal/").and_then(|name| name.split_once(['-', '.'])) {
            Some(("segment" | "checkpoint", number)) => digits(number.strip_prefix("new").unwrap_or(number)),
            _ => false,
        },
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn b11_however_hostile_the_names_of_a_caller_a_file_lies_in_its_place_and_nothing_lies_elsewhere() {
    let temp = tempfile::tempdir().unwrap();
    let place = temp.path().join("place");
    let locus = Locus::builder()
        .data_dir(place.join("data"))
        .add_volume(LocalVolume::new("vol-1", place.join("vol")))
        .add_tenant("acme")
        .durability(Durability::Buffered)
        .segment_size(1 << 20)
        .landing_zone_max(8 << 20)
        .inline_content_max(0)
        .build()
        .await
        .unwrap();
    let acme = locus.tenants().get("acme").await.unwrap();
    let mut names = HostileNames::new(seed());
    let mut name = move || names.next().unwrap();
    let (mut left, mut stored, mut refused) = (number("LOCUS_HOSTILE_NAMES", 1_000), 0_u64, 0_u64);
    while left > 0 {
        let (mut keys, mut expected) = (Vec::new(), BTreeSet::new());
        for _ in 0..AT_A_TIME.min(left) {
            left -= 1;
            let given = name();
            let options =
                WriteOptions::new().original_name(&given).directory(name()).property(name(), name());
            match locus.pool().write(&acme, "x", options).await {
                Ok(key) => {
                    let found = locus.pool().location(&acme, &key).await.unwrap().unwrap();
                    assert_eq!(found.info.original_name.as_ref(), Some(&given));
                    let path = found.physical_path.unwrap().strip_prefix(temp.path()).unwrap().to_owned();
                    let (stem, extension) = (path.file_stem().unwrap(), path.extension());
                    assert_eq!((stem.to_str().unwrap(), path.components().count()), (&*key.to_string(), 5));
                    assert!(path.starts_with("place/vol/acme"), "{given:?}: {}", path.display());
                    assert!(extension.is_none_or(|text| text.len() <= 16
                        && text.as_encoded_bytes().iter().all(u8::is_ascii_alphanumeric)));
                    expected.insert(path);
                    keys.push(key);
                }
                Err(Error::TooLarge { .. } | Error::InvalidArgument { .. }) => refused += 1,
                Err(other) => panic!("{given:?}: {other}"),
            }
        }
        let found: BTreeSet<_> =
            files(temp.path()).into_iter().filter(|path| !is_of_the_store(path)).collect();
        assert_eq!(found, expected);
        stored += keys.len() as u64;
        for key in &keys {
            locus.pool().delete(&acme, key).await.unwrap();
        }
        in_time("the bytes to go", locus.cleanup().settled()).await.unwrap();
    }
    println!("{stored} stored, {refused} refused");
    assert!(stored > 0 && refused > 0);
    locus.shutdown().await.unwrap();
    assert!(files(temp.path()).iter().all(|path| is_of_the_store(path)));
}
