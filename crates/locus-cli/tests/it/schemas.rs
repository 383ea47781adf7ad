//! Schemas, and contents that are refused by them.

use serde_json::json;

use crate::program::World;

const PERSON: &[u8] = br#"{"required": ["name"], "properties": {"age": {"type": "integer"}}}"#;

#[test]
fn schemas_are_put_got_listed_and_checked_against() {
    let it = World::new();
    assert_eq!(it.bare(&["schema", "put"], &["person"], PERSON).ok().text(), "1");
    assert_eq!(it.bare(&["schema", "put"], &["person"], PERSON).ok().text(), "1", "it is the same one");
    let second = it.private("second", b"{\"required\": []}");
    let put = it.bare(&["schema", "put"], &["person", "--in", &second, "--json"], b"").ok();
    assert_eq!(put.json(), json!({"id": "person", "version": 2}));
    assert_eq!(it.bare(&["schema", "ls"], &[], b"").ok().text(), "person\t2");
    let listed = it.bare(&["schema", "ls"], &["--json"], b"").ok().json();
    assert_eq!(listed, json!({"schemas": [{"id": "person", "version": 2}]}));
    let first = it.bare(&["schema", "get"], &["person", "--version", "1", "--json"], b"").ok().json();
    assert_eq!((&first["version"], &first["document"]["required"]), (&json!(1), &json!(["name"])));
    assert!(it.bare(&["schema", "get"], &["person"], b"").ok().text().contains("\"required\": []"));
    it.bare(&["schema", "get"], &["person", "--version", "3"], b"").fails(3, "there is no schema person");
    it.bare(&["schema", "get"], &["nobody"], b"").fails(3, "there is no schema nobody");

    it.bare(&["schema", "put"], &["strict"], PERSON).ok();
    assert_eq!(
        it.bare(&["schema", "check"], &["strict"], b"{\"name\": 1}").ok().text(),
        "it keeps to version 1"
    );
    let refused = it.bare(&["schema", "check"], &["strict"], b"{\"name\": 1, \"age\": \"hunter2\"}");
    let refused = refused.fails(8, "at \"/age\"");
    assert!(!refused.stderr.contains("hunter2"), "{refused:?}");
    it.bare(&["schema", "check"], &["strict"], b"no JSON").fails(8, "line 1, column 2");
    it.bare(&["schema", "check"], &["nobody"], b"1").fails(3, "there is no schema");
    it.bare(&["schema", "put"], &["bad"], b"{\"type\": 7}").fails(8, "schema bad is refused");
    it.bare(&["schema", "put"], &["far"], b"{\"$ref\": \"https://example.org/x\"}").fails(8, "far");
    it.bare(&["schema", "put"], &[&"s".repeat(65)], PERSON).fails(2, "64 bytes");
    it.bare(&["schema", "put"], &["../../up"], PERSON).ok();
    assert!(!it.path("up").exists());
}

#[test]
fn a_content_that_does_not_keep_to_its_schema_is_not_written() {
    let it = World::new();
    it.bare(&["schema", "put"], &["person"], PERSON).ok();
    let person = ["db/ada", "--schema", "person"];
    it.with(&["put"], &person, b"{\"name\": \"Ada\"}").ok();
    it.with(&["put"], &person, b"{\"age\": 1}").fails(8, "name");
    // The schema of what is there stays in force.
    it.with(&["put"], &["db/ada"], b"{\"name\": 1, \"age\": \"x\"}").fails(8, "at \"/age\"");
    it.with(&["put"], &["db/ada"], b"none").fails(8, "no JSON");
    it.with(&["put"], &["db/other", "--schema-mode", "required"], b"{}").fails(8, "requires one");
    it.with(&["put"], &["db/ada", "--schema-mode", "off"], b"none").ok();
    assert_eq!(it.with(&["get"], &["db/ada", "--schema", "person"], b"").ok().text(), "none");
    it.with(&["get"], &["db/ada", "--schema", "animal"], b"").fails(8, "where animal was asked for");
}
