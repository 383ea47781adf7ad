//! What fuzzing found worth keeping is read again by every build.

use std::{collections::BTreeSet, fs};

use crate::documents::root;

/// Gives bytes to a decoder, which reads or refuses them.
type Door = fn(&[u8]);

/// Every decoder of bytes from a disk, by the name of its fuzz target.
const DOORS: [(&str, Door); 22] = [
    ("checkpoint", locus_storage::fuzzing::checkpoint),
    ("entity", locus_vault::fuzzing::entity),
    ("frame", locus_storage::fuzzing::frame),
    ("holder", locus_fs::fuzzing::holder),
    ("identity", locus_storage::fuzzing::identity),
    ("keyring", locus_vault::fuzzing::keyring),
    ("ledger", locus_watcher::fuzzing::ledger),
    ("marker", locus_fs::fuzzing::marker),
    ("mirror_notes", locus_fs::fuzzing::notes),
    ("mirror_seal", locus_fs::fuzzing::seal),
    ("mounts", locus::fuzzing::mounts),
    ("older_meta", locus_vault::fuzzing::older_meta),
    ("record", locus_storage::fuzzing::record),
    ("removed", locus_tenant::fuzzing::removed),
    ("sealed", locus_vault::fuzzing::sealed),
    ("segment", locus_storage::fuzzing::segment),
    ("segment_header", locus_storage::fuzzing::segment_header),
    ("settings", locus::fuzzing::settings),
    ("sweeps", locus_cleanup::fuzzing::sweeps),
    ("tenant", locus_tenant::fuzzing::tenant),
    ("vault_marker", locus_vault::fuzzing::vault_marker),
    ("watcher", locus_watcher::fuzzing::watcher),
];

#[test]
fn what_fuzzing_found_is_read_or_refused() {
    let names = |dir: &str| {
        let entries = fs::read_dir(root().join(dir)).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect::<BTreeSet<_>>()
    };
    let targets: BTreeSet<_> = DOORS.iter().map(|(name, _)| format!("{name}.rs")).collect();
    assert_eq!(names("fuzz/targets"), targets, "a target without a line here, or the other way round");
    for (name, door) in DOORS {
        let dir = format!("fuzz/corpus/{name}");
        let files = names(&dir);
        assert!((1..=64).contains(&files.len()), "{dir} holds {} files", files.len());
        for file in files {
            let bytes = fs::read(root().join(&dir).join(&file)).unwrap();
            assert!(bytes.len() <= 16 << 10, "{dir}/{file} is large");
            door(&bytes);
        }
    }
}
