//! A keyring of format 1 is opened by every later version.

use std::{path::Path, sync::Arc};

use locus_core::Timestamp;
use locus_fs::OsDisk;
use locus_testkit::{ManualClock, SeededEntropy};
use locus_vault::{ContentKey, Identity, KeyState, Keyring, KeyringFile, Passphrase, Salt, Unlock};

/// The identity of the recipient `backup`.
const IDENTITY: &str = "locus-identity:0c487f1ac3cd787d2f326c17429cebb39079afc357eff59b3f8d3d13e0a8fab9";

/// `a secret`, sealed with each key of the ring, the oldest first; the first one is retired.
const SEALED: [Option<&str>; 3] = [
    None,
    Some("9c7cad30a0104ce3167f6aac4420ef065d6079a831bc077b"),
    Some("a7bfc55cb84d83696a18a6d4f54784f33def4a5a58da65b6"),
];

fn file(dir: &Path) -> KeyringFile {
    let path = dir.join("keyring");
    std::fs::copy(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/keyring-v1"), &path)
        .expect("the fixture");
    KeyringFile::new(Arc::new(OsDisk), ManualClock::new(), Arc::new(SeededEntropy::new(1)), path)
}

fn content_key(ring: &Keyring, at: usize) -> Option<ContentKey> {
    let key = ring.key(ring.info().keys[at].id).ok()?;
    Some(ContentKey::derive(key, &Salt::from_bytes([7; 32]), b"header"))
}

#[tokio::test]
async fn a_keyring_of_format_1_is_opened_and_changed_by_this_version() {
    let temp = tempfile::tempdir().unwrap();
    let file = file(temp.path());
    let passphrase = Passphrase::new(b"open sesame").unwrap();
    let by_passphrase = file.open(Unlock::Passphrase(passphrase)).await.unwrap();
    let identity = Identity::parse(IDENTITY).unwrap().for_ring(by_passphrase.info().id);
    let by_identity = file.open(Unlock::Identity(identity)).await.unwrap();
    let info = by_identity.info();
    assert_eq!(info, by_passphrase.info());
    assert_eq!((info.generation, info.written_at), (5, Timestamp::from_micros(1_767_225_600_000_000)));
    let states: Vec<_> = info.keys.iter().map(|key| key.state).collect();
    assert_eq!(states, [KeyState::Retired, KeyState::DecryptOnly, KeyState::Active]);
    let names: Vec<_> = info.recipients.iter().map(|recipient| recipient.name.as_str()).collect();
    assert_eq!(names, ["ali", "backup"]);

    let changed = file.rotate(&by_identity).await.unwrap();
    for ring in [&by_passphrase, &by_identity, &changed] {
        for (at, sealed) in SEALED.into_iter().enumerate() {
            let key = content_key(ring, at);
            assert_eq!(key.is_some(), sealed.is_some());
            let Some((key, sealed)) = key.zip(sealed) else { continue };
            let hex: String = key.seal(b"a secret").iter().map(|byte| format!("{byte:02x}")).collect();
            assert_eq!(hex, sealed);
        }
    }
}
