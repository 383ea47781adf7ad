//! The program, as a shell would start it, and a vault for it.

use std::{
    fs,
    io::{Read, Write},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use serde_json::Value;
use tempfile::TempDir;

pub(crate) const LOCUS: &str = env!("CARGO_BIN_EXE_locus");

/// What a call left behind.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: String,
}

impl Ended {
    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.stdout).unwrap().trim_end()
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.stdout).unwrap_or_else(|why| panic!("{why}: {self:?}"))
    }

    /// It did what it was to do, and had nothing to complain of.
    #[track_caller]
    pub(crate) fn ok(self) -> Self {
        assert!(self.code == Some(0) && self.stderr.is_empty(), "{self:?}");
        self
    }

    /// It ended with this code, and said this.
    #[track_caller]
    pub(crate) fn fails(self, code: i32, why: &str) -> Self {
        assert!(self.code == Some(code) && self.stderr.contains(why), "{why}: {self:?}");
        self
    }
}

/// Runs a command to its end.
pub(crate) fn run(command: &mut Command, stdin: &[u8]) -> Ended {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).env_remove("RUST_LOG");
    let mut child = command.spawn().unwrap();
    let (mut input, mut stderr) = (child.stdin.take().unwrap(), child.stderr.take().unwrap());
    // Whoever refuses the call may not read it.
    let _ = input.write_all(stdin);
    drop(input);
    let told = std::thread::spawn(move || {
        let mut text = String::new();
        stderr.read_to_string(&mut text).unwrap();
        text
    });
    let mut stdout = Vec::new();
    child.stdout.take().unwrap().read_to_end(&mut stdout).unwrap();
    let code = child.wait().unwrap().code();
    Ended { code, stdout, stderr: told.join().unwrap() }
}

/// A directory with a vault, and what opens it.
pub(crate) struct World {
    temp: TempDir,
}

impl World {
    /// Without a vault.
    pub(crate) fn empty() -> Self {
        let world = Self { temp: tempfile::tempdir().unwrap() };
        world.private("passphrase", b"sesame\n");
        world
    }

    pub(crate) fn new() -> Self {
        let world = Self::empty();
        world.with(&["init"], &["--cost", "8,1,1"], b"").ok();
        world
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.temp.path().join(name)
    }

    pub(crate) fn dir(&self) -> PathBuf {
        self.path("vault")
    }

    pub(crate) fn text(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().to_owned()
    }

    /// A file with this mode.
    pub(crate) fn file(&self, name: &str, content: &[u8], mode: u32) -> String {
        let path = self.path(name);
        let _ = fs::remove_file(&path);
        fs::File::create(&path).unwrap().write_all(content).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        self.text(name)
    }

    pub(crate) fn private(&self, name: &str, content: &[u8]) -> String {
        self.file(name, content, 0o600)
    }

    /// `locus vault VERB DIR ARGUMENTS`, without anything that opens it.
    pub(crate) fn bare(&self, verb: &[&str], arguments: &[&str], stdin: &[u8]) -> Ended {
        run(Command::new(LOCUS).arg("vault").args(verb).arg(self.dir()).args(arguments), stdin)
    }

    /// The same, with the passphrase.
    pub(crate) fn with(&self, verb: &[&str], arguments: &[&str], stdin: &[u8]) -> Ended {
        let passphrase = self.text("passphrase");
        let mut all = vec!["--passphrase-file", &passphrase];
        all.extend(arguments);
        self.bare(verb, &all, stdin)
    }

    pub(crate) fn put(&self, id: &str, content: &str) -> String {
        self.with(&["put"], &[id], content.as_bytes()).ok().text().to_owned()
    }

    /// The one file of an entity whose name holds this.
    pub(crate) fn entity_file(&self, part: &str) -> PathBuf {
        let mut found: Vec<_> = files(&self.dir().join("entities"));
        found.retain(|path| path.to_str().unwrap().contains(part));
        assert_eq!(found.len(), 1, "{part}: {found:?}");
        found.remove(0)
    }
}

/// All files beneath a directory.
pub(crate) fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found
}

pub(crate) fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().permissions().mode() & 0o777
}
