//! The life of keys and recipients.

use std::fs;

use serde_json::{Value, json};

use crate::program::{World, mode};

/// The keys that a ring says to have, with their states.
fn keys(ring: &Value) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    ring["keys"].as_array().unwrap().iter().map(|key| (text(&key["id"]), text(&key["state"]))).collect()
}

fn states(it: &World) -> Vec<String> {
    let listed = it.bare(&["keys", "list"], &["--json"], b"").ok().json();
    keys(&listed).into_iter().map(|(_, state)| state).collect()
}

#[test]
fn keys_are_rotated_rewrapped_and_retired() {
    let it = World::new();
    it.put("db/one", "1");
    it.put("db/two", "2");
    it.with(&["rm"], &["db/two"], b"").ok();
    let ring = it.with(&["keys", "rotate"], &["--json"], b"").ok().json();
    let all = keys(&ring);
    assert_eq!(states(&it), ["decrypt-only", "active"]);
    let (old, new) = (&all[0].0, &all[1].0);

    let refused =
        it.with(&["keys", "retire"], &[old], b"").fails(4, "still needed by 2 entities or contents");
    assert!(refused.stderr.contains(old.as_str()), "{refused:?}");
    it.with(&["keys", "retire"], &[new], b"").fails(4, "is the active one");
    let slow = ["--entities-per-second", "1000", "--bytes-per-second", "1000000", "--json"];
    let report = it.with(&["keys", "rewrap"], &slow, b"").ok().json();
    assert_eq!(
        (&report["rewrapped"], &report["failed"], &report["key"]),
        (&json!(2), &json!(0), &json!(new))
    );
    let again = it.with(&["keys", "rewrap"], &[], b"").ok();
    assert!(again.text().starts_with("rewrapped 0 entities (0 bytes)"), "{again:?}");
    it.with(&["keys", "retire"], &[old], b"").ok();
    assert_eq!(states(&it), ["retired", "active"]);
    assert_eq!(it.with(&["get"], &["db/one"], b"").ok().text(), "1");
    it.with(&["keys", "retire"], &[old], b"").fails(4, "retired already");
    it.with(&["keys", "retire"], &["no-key"], b"").fails(2, "UUID");
    it.with(&["keys", "rewrap"], &["--entities-per-second", "0"], b"").fails(2, "0");
}

#[test]
fn an_entity_that_is_not_rewrapped_is_told_of_and_its_key_stays() {
    let it = World::new();
    it.put("db/good", "1");
    it.put("db/bad", "1");
    let path = it.entity_file("db+bad");
    let mut bytes = fs::read(&path).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    it.private("harm", &bytes);
    fs::copy(it.path("harm"), &path).unwrap();
    let ring = it.with(&["keys", "rotate"], &["--json"], b"").ok().json();
    let old = &keys(&ring)[0].0;
    let report = it.with(&["keys", "rewrap"], &["--json"], b"");
    assert_eq!(report.code, Some(1), "{report:?}");
    let report = report.json();
    assert_eq!(
        (&report["rewrapped"], &report["failed"], &report["left"][old]),
        (&json!(1), &json!(1), &json!(1))
    );
    assert!(report["failures"][0]["why"].as_str().unwrap().contains("not what was sealed"), "{report}");
    it.with(&["keys", "rewrap"], &[], b"").fails(1, "db+bad");
    it.with(&["keys", "retire"], &[old], b"").fails(4, "needed by 1");
}

#[test]
fn recipients_are_added_and_removed() {
    let it = World::new();
    it.put("db/key", "1");
    let other = it.private("other", b"second\n");
    let add = ["ben", "--new-passphrase-file", &other, "--cost", "8,1,1"];
    it.with(&["keys", "add"], &add, b"").ok();
    it.with(&["keys", "add"], &add, b"").fails(4, "name of another");
    let open_by = |file: &str| it.bare(&["get"], &["db/key", "--passphrase-file", file], b"");
    assert_eq!(open_by(&other).ok().text(), "1");

    let key = it.bare_identity("identity");
    it.with(&["keys", "add"], &["cid", "--recipient", &key], b"").ok();
    let identity = it.text("identity");
    let by_identity = |more: &[&str]| {
        let all = [&["db/key", "--identity-file", &identity][..], more].concat();
        it.bare(&["get"], &all, b"")
    };
    assert_eq!(by_identity(&[]).ok().text(), "1");
    let listed = it.bare(&["keys", "list"], &["--json"], b"").ok().json();
    let ring = listed["ring"].as_str().unwrap();
    assert_eq!(by_identity(&["--ring", ring]).ok().text(), "1");
    let stranger = format!("locus-ring:{}", "00".repeat(32));
    by_identity(&["--ring", &stranger]).fails(7, "is sealed by keyring");

    let names = |listed: &Value| {
        let all = listed["recipients"].as_array().unwrap().iter();
        all.map(|one| one["name"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(
        (names(&listed), &listed["proven"]),
        (vec!["operator".into(), "ben".into(), "cid".into()], &json!(false))
    );
    let proven = it.with(&["keys", "list"], &["--json"], b"").ok().json();
    assert_eq!(proven["proven"], true);
    assert!(it.bare(&["keys", "list"], &[], b"").ok().text().contains("not proven"));

    it.with(&["keys", "remove"], &["ben"], b"").ok();
    open_by(&other).fails(7, "does not open");
    let id = listed["recipients"][2]["id"].as_str().unwrap();
    it.with(&["keys", "remove"], &[id], b"").ok();
    by_identity(&[]).fails(7, "does not open");
    it.with(&["keys", "remove"], &["dan"], b"").fails(3, "there are operator");
    it.with(&["keys", "remove"], &["operator"], b"").fails(4, "was opened for");
}

impl World {
    /// The public half of an identity that is made in this file.
    fn bare_identity(&self, name: &str) -> String {
        let out = self.text(name);
        let make = || {
            let mut command = std::process::Command::new(crate::program::LOCUS);
            crate::program::run(command.args(["vault", "keys", "identity", "--out", &out]), b"")
        };
        let made = make().ok();
        assert_eq!(mode(&self.path(name)), 0o600);
        make().fails(4, "already");
        made.text().to_owned()
    }
}

#[test]
fn an_identity_lies_in_a_file_of_its_own_and_is_one() {
    let it = World::new();
    it.bare_identity("identity");
    let by = |file: &str| it.bare(&["get"], &["db/key", "--identity-file", file], b"");
    by(&it.text("identity")).fails(7, "does not open");
    by(&it.private("none", b"locus-identity:zz")).fails(2, "holds no identity");
    by(&it.file("open", &fs::read(it.path("identity")).unwrap(), 0o644)).fails(2, "chmod 600");
    // A keyring of somebody who is not there could not be opened again.
    let other = World::empty();
    let identity = it.text("identity");
    other.bare(&["init"], &["--identity-file", &identity], b"").fails(2, "for a passphrase");
    assert!(!other.dir().exists());
}

#[test]
fn a_keyring_is_copied_and_put_back() {
    let it = World::new();
    it.put("db/key", "1");
    let copy = it.text("copy");
    it.bare(&["keys", "backup"], &["--out", &copy], b"").ok();
    assert_eq!(mode(&it.path("copy")), 0o600);
    it.bare(&["keys", "backup"], &["--out", "/dev/null"], b"").fails(2, "no regular file");
    fs::remove_file(it.dir().join("keyring")).unwrap();
    it.with(&["get"], &["db/key"], b"").fails(3, "there is no keyring");
    it.with(&["keys", "restore"], &["--in", &copy], b"").ok();
    assert_eq!(it.with(&["get"], &["db/key"], b"").ok().text(), "1");

    it.with(&["keys", "rotate"], &[], b"").ok();
    it.with(&["keys", "restore"], &["--in", &copy], b"").fails(4, "newer than");
    it.with(&["keys", "restore"], &["--in", &copy, "--despite-newer"], b"").ok();
    assert_eq!(states(&it), ["active"]);
    // A ring of another vault has no keys for this one.
    let other = World::new();
    other.with(&["keys", "restore"], &["--in", &copy], b"").fails(7, "is sealed by keyring");
    it.with(&["keys", "restore"], &["--in", &it.text("absent")], b"").fails(3, "there is no keyring");
}

#[test]
fn a_keyring_may_lie_elsewhere_and_one_of_another_vault_is_refused() {
    let it = World::empty();
    let elsewhere = it.text("ring");
    it.with(&["init"], &["--keyring", &elsewhere, "--cost", "8,1,1"], b"").ok();
    assert!(!it.dir().join("keyring").exists());
    it.with(&["put"], &["db/key", "--keyring", &elsewhere], b"1").ok();
    it.with(&["get"], &["db/key"], b"").fails(3, "there is no keyring");
    let other = World::new();
    let theirs = other.dir().join("keyring").to_str().unwrap().to_owned();
    for verb in [&["get", "db/key"][..], &["put", "db/key"]] {
        it.with(&verb[..1], &[verb[1], "--keyring", &theirs], b"1").fails(7, "is sealed by keyring");
    }
    it.with(&["keys", "rotate"], &["--keyring", &theirs], b"").fails(7, "is sealed by keyring");
}
