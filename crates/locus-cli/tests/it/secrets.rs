//! Where passphrases come from, and that they go nowhere.

use std::{
    fs,
    io::{Read, Write},
    process::{Command, Stdio},
};

use rstest::rstest;

use crate::program::{LOCUS, World, files, run};

#[test]
fn a_wrong_passphrase_opens_nothing_and_is_not_repeated() {
    let it = World::new();
    it.put("db/key", "1");
    it.private("passphrase", b"another one\n");
    for verb in ["get", "stat", "put", "rm"] {
        let refused = it.with(&[verb], &["db/key"], b"2").fails(7, "what was given does not open keyring");
        assert!(!refused.stderr.contains("another one"), "{refused:?}");
    }
    it.with(&["keys", "rotate"], &[], b"").fails(7, "does not open");
}

#[rstest]
#[case::readable_by_the_group(0o640)]
#[case::readable_by_all(0o604)]
#[case::writable_by_all(0o602)]
fn a_passphrase_that_others_can_read_is_refused_with_what_to_do(#[case] mode: u32) {
    let it = World::new();
    let path = it.file("passphrase", b"sesame", mode);
    it.with(&["get"], &["db/key"], b"").fails(2, &format!("chmod 600 {path}"));
}

#[test]
fn a_passphrase_comes_from_a_regular_file_and_no_link() {
    let it = World::new();
    it.private("elsewhere", b"sesame");
    fs::remove_file(it.path("passphrase")).unwrap();
    std::os::unix::fs::symlink(it.path("elsewhere"), it.path("passphrase")).unwrap();
    it.with(&["get"], &["db/key"], b"").fails(2, "is a link");
    fs::remove_file(it.path("passphrase")).unwrap();
    fs::create_dir(it.path("passphrase")).unwrap();
    it.with(&["get"], &["db/key"], b"").fails(2, "no regular file");
    fs::remove_dir(it.path("passphrase")).unwrap();
    it.with(&["get"], &["db/key"], b"").fails(1, "cannot open");
    it.private("passphrase", &[b'x'; 5_000]);
    it.with(&["get"], &["db/key"], b"").fails(2, "longer than");
    it.private("passphrase", b"\n");
    it.with(&["get"], &["db/key"], b"").fails(2, "1 to 1024 bytes");
    // Without the end of a line it is the same one.
    it.private("passphrase", b"sesame");
    it.with(&["get"], &["db/key"], b"").fails(3, "there is no entity");
}

#[test]
fn a_passphrase_comes_from_a_file_descriptor() {
    let it = World::new();
    it.put("db/key", "1");
    let (dir, file) = (it.text("vault"), it.text("passphrase"));
    for redirected in [format!("--passphrase-fd 3 3<'{file}'"), format!("--passphrase-fd 0 <'{file}'")] {
        let script = format!("exec '{LOCUS}' vault get '{dir}' db/key {redirected}");
        assert_eq!(run(Command::new("sh").arg("-c").arg(script), b"").ok().text(), "1");
    }
    let script = format!("printf sesame | '{LOCUS}' vault get '{dir}' db/key --passphrase-fd 0");
    assert_eq!(run(Command::new("sh").arg("-c").arg(script), b"").ok().text(), "1");
    it.bare(&["put"], &["db/key", "--passphrase-fd", "0"], b"sesame").fails(2, "give the content with --in");
    it.bare(&["get"], &["db/key", "--passphrase-fd", "1"], b"").fails(2, "for writing");
    it.bare(&["get"], &["db/key", "--passphrase-fd", "77"], b"").fails(1, "file descriptor 77");
    it.with(&["get"], &["db/key", "--passphrase-fd", "0"], b"").fails(2, "cannot be used with");
}

#[test]
fn where_nobody_can_be_asked_it_is_said_what_to_give() {
    let it = World::new();
    it.bare(&["get"], &["db/key"], b"sesame\n").fails(2, "--passphrase-file");
    // Neither from the environment, nor from the command line.
    let mut command = Command::new(LOCUS);
    command.args(["vault", "get"]).arg(it.dir()).arg("db/key");
    for name in ["PASSPHRASE", "LOCUS_PASSPHRASE", "LOCUS_PASSPHRASE_FILE"] {
        command.env(name, "sesame");
    }
    run(&mut command, b"").fails(2, "--passphrase-file");
    it.bare(&["get"], &["db/key", "--passphrase", "sesame"], b"").fails(2, "unexpected argument");
}

/// What `script` gives the program is a terminal of its own.
#[test]
fn a_terminal_is_asked_and_shows_nothing_of_what_is_typed() {
    if Command::new("script").arg("--version").output().is_err() {
        eprintln!("skipped: there is no `script`");
        return;
    }
    let it = World::new();
    it.put("db/key", "the content");
    let command = format!("'{LOCUS}' vault get '{}' db/key", it.text("vault"));
    let mut child = Command::new("script")
        .args(["-qec", &command, "/dev/null"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let (mut keyboard, mut screen) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    let mut shown = Vec::new();
    while !shown.ends_with(b"Passphrase: ") {
        let mut byte = [0];
        assert_eq!(screen.read(&mut byte).unwrap(), 1, "{}", String::from_utf8_lossy(&shown));
        shown.push(byte[0]);
    }
    keyboard.write_all(b"sesame\n").unwrap();
    screen.read_to_end(&mut shown).unwrap();
    let shown = String::from_utf8_lossy(&shown);
    assert!(child.wait().unwrap().success(), "{shown}");
    assert!(shown.contains("the content") && !shown.contains("sesame"), "{shown}");
}

#[test]
fn no_secret_lies_in_the_vault_or_is_said() {
    let it = World::new();
    let planted = "planted-plaintext-7391";
    let mut said = String::new();
    for id in ["db/one", "db/two"] {
        let put = it.with(&["put"], &[id, "--json"], format!("{{\"pin\": \"{planted}\"}}").as_bytes()).ok();
        said.push_str(put.text());
    }
    it.with(&["rm"], &["db/two"], b"").ok();
    for verb in [&["stat"][..], &["verify"], &["keys", "list"], &["keys", "rotate"], &["keys", "rewrap"]] {
        let arguments: &[&str] = if verb == ["stat"] { &["db/one"] } else { &[] };
        let told = it.with(verb, arguments, b"").ok();
        said.push_str(told.text());
    }
    for secret in [planted, "sesame"] {
        assert!(!said.contains(secret), "{said}");
        for path in files(&it.dir()) {
            let content = fs::read(&path).unwrap();
            let is_there = content.windows(secret.len()).any(|window| window == secret.as_bytes());
            assert!(!is_there, "{secret} is in {}", path.display());
        }
    }
}
