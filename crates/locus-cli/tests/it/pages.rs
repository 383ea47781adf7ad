//! Help, completions, pages of the manual, and who does not read to the end.

use std::{
    fs,
    process::{Command, Stdio},
};

use crate::program::{LOCUS, World, run};

#[test]
fn help_tells_every_exit_code() {
    for arguments in [&["--help"][..], &["vault", "--help"]] {
        let help = run(Command::new(LOCUS).args(arguments), b"").ok();
        for code in 0..=8 {
            let line = format!("  {code}  ");
            assert!(help.text().lines().any(|found| found.starts_with(&line)), "{code}: {}", help.text());
        }
    }
    run(Command::new(LOCUS).arg("vault").arg("get"), b"").fails(2, "required");
}

#[test]
fn every_shell_gets_what_it_completes_by() {
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let script = run(Command::new(LOCUS).args(["completions", shell]), b"").ok();
        assert!(script.text().contains("passphrase-file") && script.text().contains("rewrap"), "{shell}");
    }
    run(Command::new(LOCUS).args(["completions", "csh"]), b"").fails(2, "invalid value");
}

#[test]
fn the_manual_has_a_page_for_each_verb() {
    let it = World::empty();
    let dir = it.path("man");
    run(Command::new(LOCUS).arg("man").arg(&dir), b"").fails(1, "cannot write pages");
    fs::create_dir(&dir).unwrap();
    run(Command::new(LOCUS).arg("man").arg(&dir), b"").ok();
    for page in ["locus.1", "locus-vault.1", "locus-vault-put.1", "locus-vault-keys-rewrap.1"] {
        let text = fs::read_to_string(dir.join(page)).unwrap_or_else(|why| panic!("{page}: {why}"));
        assert!(text.contains(".TH"), "{page}");
    }
    assert!(fs::read_to_string(dir.join("locus-vault.1")).unwrap().contains("somebody else holds the lock"));
}

#[test]
fn who_does_not_read_to_the_end_is_not_complained_of() {
    let it = World::new();
    it.put("db/key", &"x".repeat(200_000));
    let passphrase = it.text("passphrase");
    let get = ["vault", "get", &it.text("vault"), "db/key", "--passphrase-file", &passphrase];
    for arguments in [&get[..], &["completions", "bash"]] {
        let mut child = Command::new(LOCUS)
            .args(arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        drop(child.stdout.take());
        let ended = child.wait_with_output().unwrap();
        assert!(ended.status.success() && ended.stderr.is_empty(), "{ended:?}");
    }
}
