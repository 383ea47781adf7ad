//! Schemas: what is put, what is refused, and what is checked.

use std::{path::Path, sync::Arc};

use locus_core::Error;
use locus_fs::{Disk, OsDisk};
use locus_testkit::{Fault, OpKind, SimDisk};
use locus_vault::{Result, SCHEMA_BYTES_MAX, SchemaMode, SchemaModes, Schemas, VaultError};
use rstest::rstest;
use serde_json::{Value, json};

const DIR: &str = "/vault/schemas";

fn disk(seed: u64) -> Arc<SimDisk> {
    let disk = SimDisk::new(seed);
    disk.create_dir(Path::new("/vault")).expect("what the test stands on");
    disk.sync_dir(Path::new("/")).expect("what the test stands on");
    disk
}

fn schemas(disk: &Arc<SimDisk>) -> Schemas {
    Schemas::new(Arc::clone(disk) as Arc<dyn Disk>, DIR)
}

fn person() -> Value {
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "type": "object",
        "required": ["name"],
        "properties": {
            "name": {"type": "string", "maxLength": 5},
            "tags": {"type": "array", "items": {"enum": ["a", "b"]}},
            "card": {"type": "string", "pattern": "^[0-9]+$"},
            "pin": {"const": "4711"},
            "home": {"$ref": "#/$defs/place"},
        },
        "$defs": {"place": {"type": "object", "additionalProperties": false, "properties": {"city": {"type": "string"}}}},
    })
}

#[tokio::test]
async fn versions_are_kept_counted_and_listed() {
    let disk = disk(1);
    let schemas = schemas(&disk);
    assert_eq!(schemas.list().await.unwrap(), []);
    assert_eq!(schemas.put("person", person()).await.unwrap(), 1);
    assert_eq!(schemas.put("person", person()).await.unwrap(), 1, "the same document");
    assert_eq!(schemas.put("person", json!({"type": "object"})).await.unwrap(), 2);
    assert_eq!(schemas.put("person", person()).await.unwrap(), 3, "not the newest");
    assert_eq!(schemas.put("Person/ä%", json!(true)).await.unwrap(), 1);
    assert_eq!(schemas.list().await.unwrap(), [("Person/ä%".to_owned(), 1), ("person".to_owned(), 3)]);

    let newest = schemas.get("person", None).await.unwrap();
    assert_eq!((newest.id.as_str(), newest.version, newest.document), ("person", 3, person()));
    assert_eq!(schemas.get("person", Some(2)).await.unwrap().document, json!({"type": "object"}));
    for (id, version) in [("person", Some(4)), ("person", Some(0)), ("nobody", None)] {
        let error = schemas.get(id, version).await.unwrap_err();
        assert!(
            matches!(&error, VaultError::SchemaNotFound { id: named, version: at } if named == id && *at == version),
            "{error}"
        );
    }
}

#[rstest]
#[case::no_schema(json!("text"), "")]
#[case::a_number(json!(7), "")]
#[case::a_list(json!([]), "")]
#[case::an_unknown_type(json!({"properties": {"a": {"type": "strnig"}}}), "/properties/a/type")]
#[case::required_that_is_no_list(json!({"required": "name"}), "/required")]
#[case::a_negative_length(json!({"$schema": "http://json-schema.org/draft-07/schema#", "maxLength": -1}), "/maxLength")]
#[case::a_pattern_that_is_none(json!({"pattern": "("}), "/pattern")]
#[tokio::test]
async fn a_document_that_is_no_schema_is_refused_with_the_place(#[case] document: Value, #[case] at: &str) {
    let disk = disk(1);
    let error = schemas(&disk).put("bad", document).await.unwrap_err();
    let VaultError::SchemaInvalid { id, path, .. } = &error else { panic!("{error}") };
    assert_eq!((id.as_str(), path.as_str()), ("bad", at), "{error}");
    assert!(schemas(&disk).list().await.unwrap().is_empty());
}

#[rstest]
#[case::a_page(json!({"$ref": "https://example.com/schema.json"}))]
#[case::a_page_by_http(json!({"properties": {"a": {"$ref": "http://127.0.0.1:1/schema.json"}}}))]
#[case::a_file(json!({"$ref": "file:///etc/hostname"}))]
#[case::a_name_beside_a_page(json!({"$id": "https://example.com/a.json", "$ref": "b.json"}))]
#[case::a_name_beside_a_file(json!({"$id": "file:///vault/a.json", "$ref": "b.json"}))]
#[case::a_bare_name(json!({"$ref": "other.json"}))]
#[case::a_dynamic_reference(json!({"$dynamicRef": "https://example.com/schema.json#x"}))]
#[case::a_meta_schema(json!({"$schema": "https://example.com/meta.json"}))]
#[tokio::test]
async fn nothing_that_a_schema_refers_to_is_fetched(#[case] document: Value) {
    let temp = tempfile::tempdir().unwrap();
    let schemas = Schemas::new(Arc::new(OsDisk), temp.path().join("schemas"));
    let error = schemas.put("far", document).await.unwrap_err();
    assert!(matches!(error, VaultError::SchemaInvalid { .. }), "{error}");
    assert!(schemas.list().await.unwrap().is_empty());
}

#[tokio::test]
async fn a_file_that_a_schema_refers_to_is_not_read_though_it_is_there() {
    let temp = tempfile::tempdir().unwrap();
    let schemas = Schemas::new(Arc::new(OsDisk), temp.path().join("schemas"));
    schemas.put("there", json!({"type": "string"})).await.unwrap();
    let file = temp.path().join("schemas/s-there/1.json");
    assert!(file.exists());
    let error = schemas.put("far", json!({"$ref": format!("file://{}", file.display())})).await.unwrap_err();
    assert!(matches!(error, VaultError::SchemaInvalid { .. }), "{error}");
}

#[rstest]
#[case::missing(json!({"tags": []}), "", "name")]
#[case::a_wrong_type(json!({"name": 19_283}), "/name", "string")]
#[case::too_long(json!({"name": "19283746"}), "/name", "5")]
#[case::deep(json!({"name": "a", "tags": ["a", "19283"]}), "/tags/1", "a")]
#[case::no_match(json!({"name": "a", "card": "19283x"}), "/card", "0-9")]
#[case::by_reference(json!({"name": "a", "home": {"city": 19_283}}), "/home/city", "string")]
#[case::one_too_many(json!({"name": "a", "home": {"street": "19283"}}), "/home", "street")]
#[case::no_object(json!("19283"), "", "object")]
#[tokio::test]
async fn a_content_that_does_not_match_is_refused_with_the_place_and_without_its_values(
    #[case] content: Value,
    #[case] at: &str,
    #[case] says: &str,
) {
    let disk = disk(1);
    let schemas = schemas(&disk);
    schemas.put("person", person()).await.unwrap();
    for mode in [SchemaMode::Required, SchemaMode::IfPresent] {
        let error = schemas.check(mode, Some("person"), content.clone()).await.unwrap_err();
        let VaultError::SchemaRejected { path, why } = &error else { panic!("{error}") };
        assert_eq!(path, at);
        assert!(why.contains(says), "{why}");
        assert!(!format!("{error} {error:?}").contains("19283"), "a value is shown: {error:?}");
    }
    assert_eq!(schemas.check(SchemaMode::Off, Some("person"), content).await.unwrap(), None);
}

#[tokio::test]
async fn a_mode_says_what_becomes_of_contents_without_a_schema() {
    let disk = disk(1);
    let schemas = schemas(&disk);
    schemas.put("person", person()).await.unwrap();
    let good = json!({"name": "Ada", "tags": ["a"], "home": {"city": "Graz"}});
    let check = async |mode, schema| schemas.check(mode, schema, good.clone()).await;
    assert_eq!(check(SchemaMode::Required, Some("person")).await.unwrap(), Some(1));
    assert_eq!(check(SchemaMode::IfPresent, Some("person")).await.unwrap(), Some(1));
    assert_eq!(check(SchemaMode::Off, Some("person")).await.unwrap(), None);
    for none in [None, Some("nobody")] {
        assert_eq!(check(SchemaMode::IfPresent, none).await.unwrap(), None);
        assert_eq!(check(SchemaMode::Off, none).await.unwrap(), None);
    }
    let error = check(SchemaMode::Required, None).await.unwrap_err();
    assert!(matches!(error, VaultError::SchemaRejected { .. }), "{error}");
    let error = check(SchemaMode::Required, Some("nobody")).await.unwrap_err();
    assert!(matches!(error, VaultError::SchemaNotFound { .. }), "{error}");
}

#[tokio::test]
async fn a_schema_that_cannot_be_read_lets_nothing_pass() {
    let disk = disk(1);
    let schemas = schemas(&disk);
    schemas.put("person", person()).await.unwrap();
    let file = disk.open(Path::new("/vault/schemas/s-person/1.json"), true).unwrap();
    let check = async |mode| schemas.check(mode, Some("person"), json!({"name": "Ada"})).await;
    for damage in [b"{\"type\": ".as_slice(), b"{\"type\": 7}"] {
        file.set_len(0).unwrap();
        file.write_at(damage, 0).unwrap();
        for mode in [SchemaMode::Required, SchemaMode::IfPresent] {
            let error = check(mode).await.unwrap_err();
            let told = matches!(
                error,
                VaultError::ReadFailed { source: Error::Corrupt { .. }, .. }
                    | VaultError::SchemaInvalid { .. }
            );
            assert!(told, "{error}");
        }
    }
    disk.fail(Fault::io().on(OpKind::ReadDir));
    let error = check(SchemaMode::IfPresent).await.unwrap_err();
    assert!(matches!(error, VaultError::ReadFailed { source: Error::Io { .. }, .. }), "{error}");
}

#[tokio::test]
async fn a_version_that_another_process_puts_is_checked_against_at_once() {
    let disk = disk(1);
    let (here, there) = (schemas(&disk), schemas(&disk));
    here.put("person", json!({"type": "object"})).await.unwrap();
    assert_eq!(here.check(SchemaMode::Required, Some("person"), json!({})).await.unwrap(), Some(1));
    there.put("person", json!({"type": "array"})).await.unwrap();
    assert!(here.check(SchemaMode::Required, Some("person"), json!({})).await.is_err());
    assert_eq!(here.check(SchemaMode::Required, Some("person"), json!([])).await.unwrap(), Some(2));
    assert_eq!(here.check(SchemaMode::Required, Some("person"), json!([])).await.unwrap(), Some(2));
}

#[tokio::test]
async fn ids_and_schemas_out_of_bounds_are_refused_by_name() {
    let disk = disk(1);
    let schemas = schemas(&disk);
    for id in ["", "a\nb", "\0", &"x".repeat(65)] {
        let error = schemas.put(id, json!(true)).await.unwrap_err();
        assert!(matches!(error, VaultError::InvalidId { .. }), "{error}");
        assert!(schemas.get(id, None).await.is_err());
        assert!(schemas.check(SchemaMode::IfPresent, Some(id), json!(1)).await.is_err());
    }
    for id in ["..", ".", "/", "../../etc", "con", "a_b", "Ä".repeat(32).as_str()] {
        assert_eq!(schemas.put(id, json!(true)).await.unwrap(), 1);
        assert_eq!(schemas.get(id, None).await.unwrap().id, id);
    }
    assert_eq!(disk.read_dir(Path::new("/vault")).unwrap().count(), 1, "all lie where schemas lie");
    let mut deep = json!(true);
    for _ in 0..130 {
        deep = json!({"not": deep});
    }
    for bad in [json!({"title": "x".repeat(SCHEMA_BYTES_MAX)}), deep] {
        let error = schemas.put("large", bad).await.unwrap_err();
        assert!(matches!(error, VaultError::SchemaInvalid { .. }), "{error}");
    }
}

#[tokio::test]
async fn two_who_put_one_schema_do_not_meet() {
    let disk = disk(1);
    schemas(&disk).put("person", json!(true)).await.unwrap();
    let lock = disk.lock(Path::new("/vault/schemas/s-person/lock")).unwrap();
    let error = schemas(&disk).put("person", json!(false)).await.unwrap_err();
    assert!(matches!(error, VaultError::AlreadyLocked { .. }), "{error}");
    assert_eq!(schemas(&disk).put("other", json!(false)).await.unwrap(), 1);
    assert_eq!(schemas(&disk).check(SchemaMode::Required, Some("person"), json!(1)).await.unwrap(), Some(1));
    drop(lock);
    assert_eq!(schemas(&disk).put("person", json!(false)).await.unwrap(), 2);
}

#[rstest]
#[tokio::test]
async fn a_crash_at_any_operation_of_a_put_leaves_the_old_version_or_the_new(
    #[values(0, 1)] before: u32,
    #[values(true, false)] power: bool,
) {
    for seed in 0..4 {
        let (mut old, mut new) = (0, 0);
        for point in 1.. {
            let disk = disk(seed);
            for version in 1..=before {
                schemas(&disk).put("person", json!({"title": version.to_string()})).await.unwrap();
            }
            disk.crash_at(disk.ops() + point);
            let put = schemas(&disk).put("person", person()).await;
            let reached = disk.is_down();
            if power {
                disk.crash();
            } else {
                disk.kill();
            }
            let found = newest(schemas(&disk).get("person", None).await);
            assert!(
                found.0 == before || found == (before + 1, Some(person())),
                "seed {seed}, operation {point}: {found:?}"
            );
            if found.0 == before {
                old += 1;
            } else {
                new += 1;
            }
            if put.is_ok() {
                assert_eq!(found.0, before + 1, "seed {seed}, operation {point}");
            }
            // Put again it is there for certain, once, whether it was there before or not.
            assert_eq!(schemas(&disk).put("person", person()).await.unwrap(), before + 1);
            disk.crash();
            assert_eq!(newest(schemas(&disk).get("person", None).await), (before + 1, Some(person())));
            if !reached {
                break;
            }
        }
        assert!(old > 0 && new > 0, "{old} times the old, {new} times the new");
    }
}

fn newest(found: Result<locus_vault::Schema>) -> (u32, Option<Value>) {
    match found {
        Ok(schema) => (schema.version, Some(schema.document)),
        Err(VaultError::SchemaNotFound { .. }) => (0, None),
        Err(error) => panic!("{error}"),
    }
}

#[tokio::test]
async fn a_schema_that_leads_to_itself_is_refused_or_ends() {
    let disk = disk(1);
    let schemas = schemas(&disk);
    let tree = json!({"type": "object", "properties": {"child": {"$ref": "#"}}});
    schemas.put("tree", tree).await.unwrap();
    let content = json!({"child": {"child": {"child": 7}}});
    let error = schemas.check(SchemaMode::Required, Some("tree"), content).await.unwrap_err();
    assert!(
        matches!(&error, VaultError::SchemaRejected { path, .. } if path == "/child/child/child"),
        "{error}"
    );
    for (n, circle) in circles().into_iter().enumerate() {
        let id = format!("circle {n}");
        if schemas.put(&id, circle).await.is_ok() {
            let _ended = schemas.check(SchemaMode::Required, Some(&id), json!({"a": 1})).await;
        }
    }
}

fn circles() -> [Value; 3] {
    [
        json!({"$ref": "#"}),
        json!({"allOf": [{"$ref": "#"}]}),
        json!({"$defs": {"a": {"not": {"$ref": "#/$defs/b"}}, "b": {"anyOf": [{"$ref": "#/$defs/a"}]}}, "$ref": "#/$defs/a"}),
    ]
}

#[test]
fn modes_are_by_database_and_read_from_settings() {
    let modes: SchemaModes =
        serde_json::from_value(json!({"default": "required", "databases": {"notes": "off"}})).unwrap();
    assert_eq!((modes.of("notes"), modes.of("cards")), (SchemaMode::Off, SchemaMode::Required));
    assert_eq!(SchemaModes::default().of("cards"), SchemaMode::IfPresent);
    assert!(serde_json::from_value::<SchemaModes>(json!({"defualt": "off"})).is_err());
}
