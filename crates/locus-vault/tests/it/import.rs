//! What is taken in from the older layout.
//!
//! The files in `tests/data/older-layout` were sealed by another implementation (OpenSSL's AES-256-GCM), with the key that
//! counts from 0 to 31.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use aes_gcm::{Aes256Gcm, KeyInit, aead::AeadInOut};
use locus_core::Timestamp;
use locus_fs::Disk;
use locus_testkit::OpKind;
use locus_vault::{
    DataKey, Expect, ImportOptions, ImportReport, Imported, SchemaMode, SchemaModes, Vault, VaultError,
    VaultOptions,
};
use serde_json::{Value, json};

use crate::rig::{Rig, id, keyring};

const SOURCE: &str = "/older";
const KEY: [u8; 32] = {
    let mut key = [0; 32];
    let mut at = 0;
    while at < 32 {
        key[at] = at as u8;
        at += 1;
    }
    key
};

fn key() -> DataKey {
    DataKey::from_bytes(&KEY)
}

fn base64(bytes: &[u8]) -> String {
    data_encoding::BASE64.encode(bytes)
}

/// The content sealed, and its tag.
fn seal(nonce: [u8; 12], content: &[u8]) -> (Vec<u8>, [u8; 16]) {
    let mut sealed = content.to_vec();
    let tag =
        Aes256Gcm::new(&KEY.into()).encrypt_inout_detached(&nonce.into(), b"", sealed.as_mut_slice().into());
    (sealed, tag.unwrap().into())
}

fn meta(nonce: [u8; 12], tag: [u8; 16], key: &str) -> Value {
    json!({
        "keyId": "key-1", "algorithm": "AES-256-GCM", "iv": base64(&nonce), "tag": base64(&tag),
        "database": "db", "entityKey": key, "version": 3, "writerId": "w", "timestamp": 1_700_000_000,
    })
}

struct Source<'a>(&'a Rig);

impl Source<'_> {
    fn new(rig: &Rig) -> Source<'_> {
        for dir in ["", "files", "templates"] {
            rig.disk.create_dir(&Path::new(SOURCE).join(dir)).unwrap();
        }
        Source(rig)
    }

    fn file(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = Path::new(SOURCE).join(name);
        self.0.forge(&path, bytes);
        path
    }

    /// An entity as it ought to be.
    fn entity(&self, name: &str, nonce: u8, key: &str, content: &[u8]) {
        let (sealed, tag) = seal([nonce; 12], content);
        self.file(&format!("files/{name}.json.enc"), &sealed);
        self.file(&format!("files/{name}.meta.json"), meta([nonce; 12], tag, key).to_string().as_bytes());
    }
}

/// What became of each file, by its name, beside the report.
fn import(rig: &Rig, vault: &Vault, options: ImportOptions) -> (ImportReport, BTreeMap<String, String>) {
    let mut told = BTreeMap::new();
    let key = key();
    let mut note = |path: &Path, imported: &Imported| {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let what = match imported {
            Imported::Entity { id, version } => {
                format!("{id} in {}", version.map_or_else(String::new, |version| version.number.to_string()))
            }
            Imported::EntityThere { id } => format!("{id} was there"),
            Imported::Schema { id } => format!("schema {id}"),
            Imported::SchemaThere { id } => format!("schema {id} was there"),
            Imported::Failed { why } => format!("failed: {why}"),
            _ => panic!("{imported:?}"),
        };
        assert!(told.insert(name, what).is_none(), "each file is told of once");
    };
    let report = rig.run(vault.import(SOURCE, &key, options, &mut note)).unwrap();
    (report, told)
}

#[tokio::test]
async fn what_others_sealed_is_taken_in_with_all_that_is_known_about_it() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/older-layout");
    let dir = tempfile::tempdir().unwrap();
    let schemas = SchemaModes { default: SchemaMode::IfPresent, ..SchemaModes::default() };
    let options = VaultOptions::new(keyring(1)).schemas(schemas).writer("me");
    let vault = Vault::open(dir.path(), options).await.unwrap();
    let run = async |options| vault.import(&source, &key(), options, &mut |_, _| {}).await.unwrap();

    let dry = run(ImportOptions::default().dry_run(true)).await;
    assert_eq!((dry.entities, dry.bytes, dry.schemas, dry.failed), (3, 52, 1, 0), "{dry:?}");
    assert!(vault.list(None).await.unwrap().entries.is_empty());
    assert!(vault.schemas().list().await.unwrap().is_empty());

    let report = run(ImportOptions::default()).await;
    assert_eq!((report.entities, report.bytes, report.schemas, report.failed), (3, 52, 1, 0), "{report:?}");
    let ada = vault.get(&id("accounts/ada")).await.unwrap();
    assert_eq!(ada.json::<Value>().unwrap(), json!({"name": "Ada", "age": 36}));
    let known = ada.metadata();
    assert_eq!(
        (known.version.number, &*known.writer, known.schema.as_deref()),
        (7, "worker-1", Some("person"))
    );
    assert_eq!(known.written_at, Timestamp::from_micros(1_762_164_930_250_000));
    assert_eq!(known.key_id(), vault.keyring().active().0.to_string(), "it is sealed anew");
    let bob = vault.stat(&id("accounts/bob")).await.unwrap();
    assert_eq!((bob.version.number, bob.written_at), (1, Timestamp::from_micros(1_762_164_930_000_000)));
    let mail = vault.get(&id("tokens/mail/out")).await.unwrap();
    assert_eq!((mail.bytes(), mail.metadata().schema.as_deref()), (&b"[1,2,3]"[..], None));
    assert_eq!((mail.version().number, mail.metadata().written_at), (1, bob.written_at));

    // Changes go on from there, and an import has nothing more to do.
    let next = vault.put(&id("tokens/mail/out"), &[1, 2, 3], Expect::Version(mail.version())).await.unwrap();
    assert_eq!(next.number, 2);
    let again = run(ImportOptions::default()).await;
    assert_eq!((again.entities, again.entities_there, again.schemas_there, again.failed), (0, 3, 1, 0));
}

#[test]
fn what_is_wrong_with_a_file_is_told_and_the_others_are_taken_in() {
    let rig = Rig::new(1);
    let vault = rig.open_with(rig.options().content_bytes_max(1_000)).unwrap();
    let source = Source::new(&rig);
    source.entity("good", 1, "good", b"{}");
    source.entity("two", 2, "good", b"[]");
    source.entity("flipped", 3, "flipped", b"secret");
    source.file("files/flipped.json.enc", b"Secret");
    source.entity("alone", 4, "alone", b"{}");
    rig.disk.remove_file(&Path::new(SOURCE).join("files/alone.meta.json")).unwrap();
    source.file("files/headless.meta.json", b"{}");
    source.entity("large", 5, "large", &[b' '; 1_017]);
    source.entity("odd", 6, "odd", b"{}");
    source.file("files/odd.meta.json", b"[]");
    source.entity("huge", 7, "huge", b"{}");
    source.file("files/huge.meta.json", &vec![b' '; 70_000]);
    source.entity("writer", 8, "writer", b"{}");
    let (_, tag) = seal([8; 12], b"{}");
    let mut long = meta([8; 12], tag, "writer");
    long["writerId"] = "w".repeat(256).into();
    source.file("files/writer.meta.json", long.to_string().as_bytes());
    source.entity("schema", 9, "schema", b"{}");
    let (_, tag) = seal([9; 12], b"{}");
    let mut named = meta([9; 12], tag, "schema");
    named["schemaId"] = "person".into();
    source.file("files/schema.meta.json", named.to_string().as_bytes());
    source.file("files/README", b"a stranger");
    source.file("templates/person.json", br#"{"required": ["name"]}"#);
    source.file("templates/none.json", b"no JSON");
    source.file("templates/bad.json", br#"{"type": 7}"#);
    rig.disk.create_dir(&Path::new(SOURCE).join("files/dir.json.enc")).unwrap();

    let (report, told) = import(&rig, &vault, ImportOptions::default());
    assert_eq!((report.entities, report.schemas, report.ignored, report.failed), (1, 1, 2, 11), "{told:#?}");
    assert_eq!(report.failures.len(), 11);
    let told = |name: &str| told.get(name).map_or("", String::as_str);
    assert_eq!(told("good.json.enc"), "db/good in 3");
    assert_eq!(told("person.json"), "schema person");
    for (name, why) in [
        ("two.json.enc", "as good did"),
        ("flipped.json.enc", "or this is not its key"),
        ("alone.json.enc", "no metadata"),
        ("headless.meta.json", "no content"),
        ("large.json.enc", "1017, more than the 1016"),
        ("odd.json.enc", "no JSON object"),
        ("huge.json.enc", "more than the 65536"),
        ("writer.json.enc", "writer"),
        ("schema.json.enc", "is refused"),
        ("none.json", "no JSON"),
        ("bad.json", "bad"),
    ] {
        assert!(told(name).starts_with("failed: ") && told(name).contains(why), "{name}: {}", told(name));
        assert!(!told(name).contains("secret"), "{name}");
    }
    let page = rig.run(vault.list(None)).unwrap();
    assert_eq!(page.entries.len(), 1);
}

#[test]
fn another_key_opens_nothing() {
    let rig = Rig::new(2);
    let vault = rig.open().unwrap();
    Source::new(&rig).entity("one", 1, "one", b"{}");
    let other = DataKey::from_bytes(&[7; 32]);
    let report = rig.run(vault.import(SOURCE, &other, ImportOptions::default(), &mut |_, _| {})).unwrap();
    assert!(matches!(report.failures[0].why, VaultError::Tampered { .. }), "{report:?}");
}

#[test]
fn what_is_there_is_not_written_over_and_what_was_deleted_goes_on_with_its_numbers() {
    let rig = Rig::new(3);
    let vault = rig.open().unwrap();
    let source = Source::new(&rig);
    rig.run(async {
        vault.put(&id("db/other"), &1, Expect::Any).await.unwrap();
        for _ in 0..5 {
            vault.put(&id("db/deleted"), &1, Expect::Any).await.unwrap();
        }
        vault.delete(&id("db/deleted"), Expect::Any).await.unwrap();
        vault.schemas().put("person", json!(true)).await.unwrap();
    });
    source.entity("other", 1, "other", b"2");
    source.entity("deleted", 2, "deleted", b"3");
    source.file("templates/person.json", b"false");
    let (report, told) = import(&rig, &vault, ImportOptions::default());
    assert!(matches!(report.failures[1].why, VaultError::Conflict { .. }), "{report:?}");
    assert!(told["person.json"].contains("another one"), "{told:?}");
    assert_eq!(told["deleted.json.enc"], "db/deleted in 7");
    assert_eq!(rig.run(vault.get(&id("db/other"))).unwrap().bytes(), b"1");
    assert_eq!(rig.run(vault.schemas().get("person", None)).unwrap().document, json!(true));
}

#[test]
fn an_import_that_was_interrupted_goes_on_and_the_source_stays_what_it_was() {
    let mut interrupted = 0;
    for op in (1..).step_by(7) {
        let rig = Rig::new(op);
        let source = Source::new(&rig);
        for number in 0..5_u8 {
            source.entity(&number.to_string(), number, &number.to_string(), &[b'0' + number]);
        }
        source.file("templates/person.json", b"{}");
        rig.disk.sync_all(Path::new(SOURCE)).unwrap();
        rig.disk.sync_dir(Path::new("/")).unwrap();
        let vault = rig.open().unwrap();
        rig.disk.listen();
        rig.disk.crash_at(rig.disk.ops() + op);
        let _ = rig.run(vault.import(SOURCE, &key(), ImportOptions::default(), &mut |_, _| {}));
        let heard = rig.disk.heard();
        let mut theirs = heard.iter().filter(|(_, path)| path.starts_with(SOURCE)).map(|(kind, _)| kind);
        let only_looks =
            |kind| matches!(kind, OpKind::Open | OpKind::Read | OpKind::ReadDir | OpKind::Metadata);
        assert!(theirs.all(|kind| only_looks(*kind)), "{heard:?}");
        let went_down = rig.disk.is_down();
        rig.disk.crash();

        let vault = rig.open().unwrap();
        let (report, _) = import(&rig, &vault, ImportOptions::default());
        assert_eq!((report.entities + report.entities_there, report.failed), (5, 0), "operation {op}");
        interrupted += usize::from(report.entities > 0 && report.entities_there > 0);
        for number in 0..5_u8 {
            let entity = rig.run(vault.get(&id(&format!("db/{number}")))).unwrap();
            assert_eq!(
                (entity.bytes(), entity.version().number),
                (&[b'0' + number][..], 3),
                "operation {op}"
            );
        }
        if !went_down {
            break;
        }
    }
    assert!(interrupted > 3, "{interrupted}");
}

#[cfg(unix)]
#[tokio::test]
async fn no_link_of_the_source_is_followed() {
    let (source, dir) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/older-layout");
    let files = source.path().join("files");
    std::fs::create_dir(&files).unwrap();
    for suffix in ["json.enc", "meta.json"] {
        let name = format!("accounts_ada.{suffix}");
        std::os::unix::fs::symlink(fixture.join("files").join(&name), files.join(&name)).unwrap();
    }
    std::os::unix::fs::symlink(fixture.join("templates"), source.path().join("templates")).unwrap();
    let vault = Vault::open(dir.path(), VaultOptions::new(keyring(1))).await.unwrap();
    let refused = vault.import(source.path(), &key(), ImportOptions::default(), &mut |_, _| {}).await;
    assert!(matches!(refused, Err(VaultError::ReadFailed { .. })), "{refused:?}");
    std::fs::remove_file(source.path().join("templates")).unwrap();
    let report = vault.import(source.path(), &key(), ImportOptions::default(), &mut |_, _| {}).await.unwrap();
    assert_eq!((report.entities, report.failed), (0, 1), "{report:?}");
    assert!(report.failures[0].why.to_string().contains("no regular file"), "{report:?}");
}
