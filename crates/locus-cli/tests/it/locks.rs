//! A lock that is held while a command runs.

use std::{
    io::{BufRead, BufReader, Read, Write},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

use crate::program::{LOCUS, World};

/// A lock that is held until a line is written to the command.
struct Held {
    child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
}

impl Held {
    fn take(it: &World, more: &[&str]) -> Self {
        let mut command = Command::new(LOCUS);
        command.args(["vault", "lock"]).arg(it.dir()).arg("db/key").args(more);
        command.args(["--", "sh", "-c", "echo held; read line; exit 7"]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (stdin, mut stdout) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        let mut line = String::new();
        stdout.read_line(&mut line).unwrap();
        assert_eq!(line, "held\n");
        Self { child, stdin, stdout }
    }

    /// The code with which it ends.
    fn let_go(mut self) -> Option<i32> {
        self.stdin.write_all(b"\n").unwrap();
        self.ended()
    }

    fn ended(mut self) -> Option<i32> {
        let mut rest = String::new();
        self.stdout.read_to_string(&mut rest).unwrap();
        self.child.wait().unwrap().code()
    }
}

#[test]
fn nobody_changes_an_entity_while_a_command_holds_it() {
    let it = World::new();
    it.put("db/key", "1");
    let held = Held::take(&it, &[]);
    let now = ["db/key", "--lock-timeout", "0"];
    let refused = it.with(&["put"], &now, b"2").fails(5, "is locked by process ");
    assert!(refused.stderr.contains(&format!("process {}", held.child.id())), "{refused:?}");
    it.with(&["rm"], &now, b"").fails(5, "is locked");
    it.bare(&["lock"], &["db/key", "--lock-timeout", "0", "--", "true"], b"").fails(5, "is locked");
    it.bare(&["lock"], &["db/key", "--lock-timeout", "0", "--shared", "--", "true"], b"")
        .fails(5, "is locked");
    // To read needs no lock, and other entities have nothing to do with it.
    assert_eq!(it.with(&["get"], &["db/key"], b"").ok().text(), "1");
    it.put("db/other", "1");
    let swept = it.bare(&["sweep"], &[], b"").ok();
    assert!(swept.text().starts_with("forgot 0"), "{swept:?}");
    assert_eq!(held.let_go(), Some(7));
    it.with(&["put"], &now, b"2").ok();
}

#[test]
fn those_who_share_hold_it_together() {
    let it = World::new();
    it.put("db/key", "1");
    let (one, two) = (Held::take(&it, &["--shared"]), Held::take(&it, &["--shared"]));
    assert_eq!(one.let_go(), Some(7));
    it.with(&["put"], &["db/key", "--lock-timeout", "0"], b"2").fails(5, "is locked");
    assert_eq!(two.let_go(), Some(7));
    it.with(&["put"], &["db/key", "--lock-timeout", "0"], b"2").ok();
}

#[test]
fn the_code_of_the_command_is_passed_on() {
    let it = World::new();
    let run = |command: &[&str]| it.bare(&["lock"], &[&["db/key", "--"], command].concat(), b"in");
    assert_eq!(run(&["cat"]).ok().stdout, b"in");
    assert_eq!(run(&["sh", "-c", "exit 42"]).code, Some(42));
    assert_eq!(run(&["sh", "-c", "kill -KILL $$"]).code, Some(137));
    run(&["/no/such/program"]).fails(1, "cannot run /no/such/program");
    it.bare(&["lock"], &["db/key"], b"").fails(2, "required");
    // Nobody holds it any more, and what is no name is not locked.
    it.with(&["put"], &["db/key", "--lock-timeout", "0"], b"1").ok();
    it.bare(&["lock"], &["key", "--", "true"], b"").fails(2, "no key");
}

#[test]
fn who_asks_the_holder_to_end_asks_the_command() {
    let it = World::new();
    let held = Held::take(&it, &[]);
    let asked = Command::new("kill").args(["-TERM", &held.child.id().to_string()]).status().unwrap();
    assert!(asked.success());
    assert_eq!(held.ended(), Some(128 + 15));
    it.with(&["put"], &["db/key", "--lock-timeout", "0"], b"1").ok();
}

#[test]
fn the_lock_of_a_holder_that_was_killed_is_free_at_once() {
    let it = World::new();
    let mut held = Held::take(&it, &[]);
    held.child.kill().unwrap();
    held.child.wait().unwrap();
    it.with(&["put"], &["db/key", "--lock-timeout", "0"], b"1").ok();
    let _ = held.stdin.write_all(b"\n");
    let mut rest = String::new();
    held.stdout.read_to_string(&mut rest).unwrap();
}
