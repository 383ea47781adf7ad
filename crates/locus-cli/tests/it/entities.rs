//! `init`, `put`, `get`, `stat`, `ls` and `rm`.

use std::fs;

use rstest::rstest;
use serde_json::{Value, json};

use crate::program::{World, files, mode};

#[test]
fn what_is_put_is_got_shown_listed_and_removed() {
    let it = World::new();
    let first = it.put("accounts/mail/ada", r#"{"pin": 1234}"#);
    assert!(first.starts_with("1@"), "{first}");
    assert_eq!(it.with(&["get"], &["accounts/mail/ada"], b"").ok().stdout, br#"{"pin": 1234}"#);
    let second = it.with(&["put"], &["accounts/mail/ada", "--expect", &first, "--writer", "me"], b"[]").ok();
    assert_eq!(second.text(), first.replacen('1', "2", 1));
    it.put("accounts/bob", "2");

    let stat = it.with(&["stat"], &["accounts/mail/ada"], b"").ok();
    for line in ["entity      accounts/mail/ada", "bytes       2", "writer      me", "deleted     no"] {
        assert!(stat.text().lines().any(|found| found == line), "{line}: {stat:?}");
    }
    let listed = it.bare(&["ls"], &[], b"").ok();
    let names: Vec<&str> = listed.text().lines().map(|line| line.split('\t').next().unwrap()).collect();
    assert_eq!(names, ["accounts/bob", "accounts/mail/ada"]);
    assert_eq!(it.bare(&["ls"], &["accounts/m"], b"").ok().text().lines().count(), 1);

    let removed = it.with(&["rm"], &["accounts/mail/ada", "--expect", second.text()], b"").ok();
    assert!(removed.text().starts_with("3@"), "{removed:?}");
    it.with(&["get"], &["accounts/mail/ada"], b"").fails(3, "there is no entity accounts/mail/ada");
    assert!(it.with(&["stat"], &["accounts/mail/ada"], b"").ok().text().contains("deleted     yes"));
    assert_eq!(it.bare(&["ls"], &[], b"").ok().text().lines().count(), 1);
    it.with(&["rm"], &["accounts/mail/ada"], b"").fails(3, "there is no entity");
    it.with(&["rm"], &["accounts/bob", "--expect", "absent"], b"").fails(2, "absent");
}

#[test]
fn json_has_a_shape_that_scripts_can_rely_on() {
    let it = World::empty();
    let made = it.with(&["init"], &["--cost", "8,1,1", "--json"], b"").ok().json();
    assert!(made["ring"].as_str().unwrap().starts_with("locus-ring:"), "{made}");
    let put = it.with(&["put"], &["db/key", "--json"], br#"{"a": [1]}"#).ok().json();
    assert_eq!(put["id"], "db/key");
    let version = put["version"].as_str().unwrap().to_owned();

    let stat = it.with(&["stat"], &["db/key", "--json"], b"").ok().json();
    let mut fields: Vec<&str> = stat.as_object().unwrap().keys().map(String::as_str).collect();
    fields.sort_unstable();
    let expected = [
        "algorithm",
        "bytes",
        "database",
        "deleted",
        "id",
        "iv",
        "key",
        "key_id",
        "schema",
        "tag",
        "version",
        "writer",
        "written_at",
    ];
    assert_eq!(fields, expected);
    assert_eq!(
        (&stat["version"], &stat["bytes"], &stat["schema"]),
        (&json!(version), &json!(10), &Value::Null)
    );
    assert_eq!(
        (&stat["database"], &stat["key"], &stat["key_id"]),
        (&json!("db"), &json!("key"), &made["key"])
    );

    let got = it.with(&["get"], &["db/key", "--json"], b"").ok().json();
    assert_eq!((&got["content"], &got["version"]), (&json!({"a": [1]}), &json!(version)));
    it.with(&["put"], &["db/binary"], &[0xff, 0]).ok();
    let got = it.with(&["get"], &["db/binary", "--json"], b"").ok().json();
    assert_eq!((&got["content_base64"], &got["content"]), (&json!("/wA="), &Value::Null));
    let listed = it.bare(&["ls"], &["--json"], b"").ok().json();
    assert_eq!((listed["entities"].as_array().unwrap().len(), &listed["unreadable"]), (2, &json!([])));

    let refused = it.with(&["put"], &["db/key", "--expect", "absent", "--json"], b"1").fails(4, "{");
    let error: Value = serde_json::from_str(&refused.stderr).unwrap();
    assert_eq!((&error["error"]["code"], &error["error"]["exit"]), (&json!("conflict"), &json!(4)));
    assert!(error["error"]["message"].as_str().unwrap().contains("db/key"), "{error}");
    assert!(refused.stdout.is_empty());
}

#[test]
fn a_change_is_made_only_of_the_version_that_was_expected() {
    let it = World::new();
    let first = it.with(&["put"], &["db/key", "--expect", "absent"], b"1").ok();
    it.with(&["put"], &["db/key", "--expect", "absent"], b"2").fails(4, "where nothing was expected");
    it.put("db/key", "2");
    it.with(&["put"], &["db/key", "--expect", first.text()], b"3").fails(4, "is in version 2@");
    it.with(&["rm"], &["db/key", "--expect", first.text()], b"").fails(4, "is in version 2@");
    assert_eq!(it.with(&["get"], &["db/key"], b"").ok().text(), "2");
    it.with(&["put"], &["db/key", "--expect", "2"], b"3").fails(2, "neither absent nor any");
}

#[rstest]
#[case::no_database("key", "no key")]
#[case::no_key("db/", "no key")]
#[case::empty("", "no database")]
#[case::steers_a_terminal("db/a\u{1b}[2Jb", "control character")]
#[case::two_lines("db/a\nb", "control character")]
#[case::too_long(&format!("db/{}", "x".repeat(1_025)), "1024")]
#[case::database_too_long(&format!("{}/k", "x".repeat(129)), "128")]
fn a_name_that_is_none_is_refused(#[case] id: &str, #[case] why: &str) {
    let it = World::new();
    for verb in ["put", "get", "stat", "rm"] {
        let refused = it.with(&[verb], &[id], b"1").fails(2, why);
        assert!(!refused.stderr.contains('\u{1b}'), "{refused:?}");
    }
    assert!(files(&it.dir().join("entities")).is_empty());
}

#[test]
fn a_name_that_looks_like_a_way_out_leads_nowhere_else() {
    let it = World::new();
    for id in ["../../../etc/passwd", "db/../../../escaped", "db//absolute", "./.", "CON/nul", "db/--json"] {
        it.with(&["put", "--in", "/dev/null"], &["--", id], b"").ok();
        assert!(it.with(&["get"], &["--", id], b"").ok().stdout.is_empty());
    }
    // Beside the vault there is the passphrase, and nothing else.
    let beneath = files(&it.dir()).len();
    assert_eq!(files(it.dir().parent().unwrap()).len(), beneath + 1);
    assert_eq!(it.bare(&["ls"], &[], b"").ok().text().lines().count(), 6);
}

#[test]
fn a_content_goes_to_a_file_as_a_whole_and_to_its_owner_alone() {
    let it = World::new();
    let content = vec![b' '; 200_000];
    it.with(&["put", "--in", &it.private("in", &content)], &["db/large"], b"").ok();
    let out = it.file("out", b"former", 0o644);
    it.with(&["get"], &["db/large", "--out", &out], b"").ok();
    assert_eq!(fs::read(&out).unwrap(), content);
    assert_eq!(mode(&it.path("out")), 0o600);
    assert!(!it.path(".out.new").exists());

    // What is no file is not replaced by one.
    for (name, is_there) in [("/dev/null", true), (&*it.text("link"), false)] {
        if !is_there {
            std::os::unix::fs::symlink("/dev/null", name).unwrap();
        }
        it.with(&["get"], &["db/large", "--out", name], b"").fails(2, "no regular file");
        assert!(!fs::symlink_metadata(name).unwrap().is_file());
    }
    it.with(&["get"], &["db/large", "--out", &it.text("none/out")], b"").fails(1, "cannot write");
    it.with(&["put", "--in", &it.text("absent")], &["db/large"], b"").fails(1, "cannot open");
}

#[test]
fn where_there_is_no_vault_none_is_made() {
    let it = World::empty();
    for (verb, arguments) in [
        (&["put"][..], &["db/key"][..]),
        (&["get"], &["db/key"]),
        (&["stat"], &["db/key"]),
        (&["rm"], &["db/key"]),
        (&["ls"], &[]),
        (&["verify"], &[]),
        (&["sweep"], &[]),
        (&["keys", "rotate"], &[]),
        (&["keys", "rewrap"], &[]),
        (&["schema", "ls"], &[]),
    ] {
        let passphrase = it.text("passphrase");
        let given = if verb.len() == 2 && verb[0] == "schema" || ["ls", "sweep"].contains(&verb[0]) {
            Vec::new()
        } else {
            vec!["--passphrase-file", &passphrase]
        };
        it.bare(verb, &[&given[..], arguments].concat(), b"1").fails(3, "there is no vault in");
        assert!(!it.dir().exists(), "{verb:?}");
    }
    it.bare(&["lock"], &["db/key", "--", "true"], b"").fails(3, "there is no vault in");
    it.bare(&["keys", "list"], &[], b"").fails(3, "there is no keyring");
}

#[test]
fn a_vault_is_made_once_and_one_whose_making_was_interrupted_is_finished() {
    let it = World::new();
    it.with(&["init"], &[], b"").fails(4, "there is a keyring");
    let version = it.put("db/key", "1");
    fs::remove_file(it.dir().join("VAULT")).unwrap();
    it.with(&["init"], &[], b"").ok();
    assert_eq!(
        it.with(&["put"], &["db/key", "--expect", &version], b"2").ok().text().split('@').next(),
        Some("2")
    );
    // But a vault that lost its keyring is not given another one.
    fs::remove_file(it.dir().join("keyring")).unwrap();
    it.with(&["init"], &[], b"").fails(3, "there is no keyring");
    assert_eq!(mode(&it.dir()), 0o700);
}
