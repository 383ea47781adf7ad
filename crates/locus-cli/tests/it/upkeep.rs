//! `verify`, `sweep` and `import`.

use std::{fs, path::Path};

use serde_json::json;

use crate::program::{World, files};

fn forge(path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = fs::read(path).unwrap();
    change(&mut bytes);
    let (dir, name) = (path.parent().unwrap(), path.file_name().unwrap());
    let draft = dir.join("draft");
    std::io::Write::write_all(&mut fs::File::create(&draft).unwrap(), &bytes).unwrap();
    fs::copy(&draft, dir.join(name)).unwrap();
    fs::remove_file(draft).unwrap();
}

#[test]
fn what_was_changed_behind_the_vaults_back_is_found() {
    let it = World::new();
    it.put("db/good", "12");
    it.put("db/bad", "1");
    it.put("db/cut", "1");
    it.put("db/gone", "1");
    it.with(&["rm"], &["db/gone"], b"").ok();
    let clean = it.with(&["verify"], &[], b"").ok();
    assert!(clean.text().starts_with("3 entities (4 bytes) and 1 deleted ones open"), "{clean:?}");
    forge(&it.entity_file("db+bad"), |bytes| *bytes.last_mut().unwrap() ^= 0x80);
    forge(&it.entity_file("db+cut"), |bytes| bytes.truncate(10));

    let told = it.with(&["verify"], &[], b"").fails(6, "db+bad");
    assert!(told.stderr.contains("db+cut") && told.text().ends_with("2 are damaged"), "{told:?}");
    let report = it.with(&["verify"], &["--json"], b"");
    assert!(report.code == Some(6) && report.stderr.is_empty(), "{report:?}");
    let report = report.json();
    assert_eq!(
        (&report["entities"], &report["deleted"], &report["foreign"]),
        (&json!(1), &json!(1), &json!(0))
    );
    assert_eq!(
        (report["damaged"].as_array().unwrap().len(), report["keys"].as_object().unwrap().len()),
        (2, 1)
    );
    it.with(&["get"], &["db/bad"], b"").fails(6, "is not what was sealed");
    it.with(&["put"], &["db/bad"], b"2").fails(6, "is not what was sealed");
    let listed = it.bare(&["ls"], &[], b"").fails(6, "db+cut");
    assert_eq!(listed.text().lines().count(), 2);
    // A file in the place of another.
    fs::copy(it.entity_file("db+good"), it.entity_file("db+bad")).unwrap();
    it.with(&["get"], &["db/bad"], b"").fails(6, "it holds entity db/good");
}

#[test]
fn a_sweep_removes_what_interrupted_writes_left() {
    let it = World::new();
    it.put("db/key", "1");
    let path = it.entity_file("db+key");
    let draft = path.with_file_name(".db+key.ent.new");
    fs::copy(&path, &draft).unwrap();
    let swept = it.bare(&["sweep"], &["--json"], b"").ok().json();
    assert_eq!(swept, json!({"tombstones": 0, "drafts": 1, "locks": 0, "busy": 0, "failed": []}));
    assert!(!draft.exists());
    assert_eq!(it.with(&["get"], &["db/key"], b"").ok().text(), "1");
}

fn copy_tree(from: &Path, to: &Path) {
    for path in files(from) {
        let to = to.join(path.strip_prefix(from).unwrap());
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        fs::copy(path, to).unwrap();
    }
}

#[test]
fn the_older_layout_is_taken_in_and_stays_what_it_is() {
    let it = World::new();
    let source = it.path("older");
    copy_tree(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../locus-vault/tests/data/older-layout"), &source);
    let content = |path: &Path| (path.to_owned(), fs::read(path).unwrap());
    let before: Vec<_> = files(&source).iter().map(|path| content(path)).collect();
    let source_text = it.text("older");
    let hex: String = (0..32).map(|byte| format!("{byte:02x}")).collect();
    let key = it.private("key", format!("{hex}\n").as_bytes());
    let call = |more: &[&str]| {
        let all = [&[&*source_text, "--key-file", &key][..], more].concat();
        it.with(&["import"], &all, b"")
    };

    let dry = call(&["--dry-run", "--json"]).ok().json();
    assert_eq!((&dry["entities"], &dry["schemas"], &dry["dry_run"]), (&json!(3), &json!(1), &json!(true)));
    assert!(it.bare(&["ls"], &[], b"").ok().stdout.is_empty());
    let told = call(&[]).ok();
    let mut lines: Vec<&str> = told.text().lines().collect();
    lines.sort_unstable();
    assert_eq!(lines[2], "imported\tschema person");
    assert!(lines[0].starts_with("imported\taccounts/ada\t7@"), "{lines:?}");
    assert_eq!(it.with(&["get"], &["accounts/bob"], b"").ok().text(), r#"{"age":7,"name":"Bob"}"#);
    let again = call(&["--json"]).ok().json();
    assert_eq!(
        (&again["entities"], &again["entities_there"], &again["failed"]),
        (&json!(0), &json!(3), &json!(0))
    );
    assert_eq!(again["files"].as_array().unwrap().len(), 4);

    it.put("accounts/ada", "{\"name\": \"another\"}");
    let differs = call(&["--json"]);
    assert_eq!(differs.code, Some(1), "{differs:?}");
    let failed = differs.json();
    let failed = failed["files"].as_array().unwrap().iter().find(|file| file["state"] == "failed").unwrap();
    assert!(failed["why"].as_str().unwrap().contains("where nothing was expected"), "{failed}");
    let after: Vec<_> = files(&source).iter().map(|path| content(path)).collect();
    assert_eq!(after, before);
}

#[test]
fn a_key_of_the_older_layout_has_32_bytes_in_a_private_file() {
    let it = World::new();
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../locus-vault/tests/data/older-layout");
    let source = source.to_str().unwrap();
    let call = |key: &str| it.with(&["import"], &[source, "--key-file", key, "--dry-run"], b"");
    let raw: Vec<u8> = (0..32).collect();
    call(&it.private("raw", &raw)).ok();
    call(&it.private("base64", b"AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\n")).ok();
    call(&it.private("short", b"0011")).fails(2, "no key of 32 bytes");
    call(&it.file("open", &raw, 0o644)).fails(2, "chmod 600");
    let other = call(&it.private("other", &[7; 32]));
    assert_eq!(other.code, Some(1));
    assert_eq!(other.text().matches("or this is not its key").count(), 3, "{other:?}");
    let key = it.text("raw");
    it.with(&["import"], &[&it.text("absent"), "--key-file", &key], b"").fails(2, "is no directory");
}
