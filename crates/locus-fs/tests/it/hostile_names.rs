//! Names that were made to do harm, in the place of every text that reaches a volume.
//!
//! `LOCUS_HOSTILE_NAMES` says how many, 2,000 unless it does.

use std::{
    collections::BTreeSet,
    path::{Component, Path, PathBuf},
    sync::Arc,
};

use locus_core::{Cursor, Durability, Entropy, StoragePath, SystemEntropy, TenantId, VolumeId};
use locus_fs::OsDisk;
use locus_testkit::HostileNames;

use crate::{
    local_volume::{blob, files, open},
    number,
};

/// So many lie on the volume at a time.
const AT_A_TIME: usize = 500;

/// Whether it is one name of a directory, on every system.
fn is_one_name(text: &str) -> bool {
    let parts: Vec<_> = Path::new(text).components().collect();
    matches!(parts.as_slice(), [Component::Normal(name)] if *name == text)
        && text.len() <= 72
        && !text.starts_with('.')
        && !text.ends_with('.')
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-_.+".contains(&b))
}

#[tokio::test]
async fn b11_however_hostile_its_name_a_file_lies_in_its_place_and_nothing_lies_elsewhere() {
    let seed = SystemEntropy.next_u64();
    println!("seed {seed}");
    let dir = tempfile::tempdir().unwrap();
    let volume = open(Arc::new(OsDisk), &dir.path().join("place/vol")).await.unwrap();
    let mut names = HostileNames::new(seed);
    let (mut left, mut with_extension) = (number("LOCUS_HOSTILE_NAMES", 2_000), 0_u64);
    while left > 0 {
        let (mut blobs, mut expected) =
            (Vec::new(), BTreeSet::from([PathBuf::from("place/vol/.locus-volume")]));
        for name in names.by_ref().take(AT_A_TIME.min(left)) {
            for owner in [
                TenantId::parse(&name).ok().map(|id| id.to_string()),
                StoragePath::parse(&name).ok().map(|at| at.as_str().to_owned()),
            ] {
                assert!(owner.is_none_or(|owner| is_one_name(&owner)), "{name:?}");
            }
            assert!(
                VolumeId::parse(&name).is_ok_and(|id| is_one_name(id.as_str()))
                    || VolumeId::parse(&name).is_err(),
                "{name:?}"
            );
            assert!(volume.list(None, Some(&Cursor(name.clone())), 9).await.is_err(), "{name:?}");
            let owner = StoragePath::parse(&name).map_or("acme".into(), |owner| owner.as_str().to_owned());
            let at = blob(&owner, &name);
            volume.write(&at, &mut "x".into(), Durability::Buffered).await.unwrap();
            let (key, extension) = (at.key.to_string(), at.extension.as_str());
            assert!(
                extension.len() <= 16 && extension.bytes().all(|b| b.is_ascii_alphanumeric()),
                "{name:?}"
            );
            with_extension += u64::from(!extension.is_empty());
            let dot = if extension.is_empty() { "" } else { "." };
            expected.insert(format!("place/vol/{owner}/{}/{key}{dot}{extension}", &key[34..]).into());
            blobs.push(at);
            left -= 1;
        }
        assert_eq!(BTreeSet::from_iter(files(dir.path())), expected);
        for at in &blobs {
            assert!(volume.delete(at).await.unwrap());
        }
    }
    assert_eq!(files(dir.path()), [PathBuf::from("place/vol/.locus-volume")]);
    assert!(with_extension > 0, "some extensions are kept");
}
