//! The program that dies, seen by its parent.

use std::{
    fs::File,
    io,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus},
    thread,
    time::Duration,
};

use locus_tests::{Note, Plan};
use tempfile::TempDir;

const PROGRAM: &str = env!("CARGO_BIN_EXE_locus-victim");

/// There is no waiting for a program up to a time.
const BETWEEN_LOOKS: Duration = Duration::from_millis(2);
const LOOKS: u32 = 10_000;

/// Where its notes and its last words go.
#[derive(Debug)]
pub(crate) struct Desk {
    temp: TempDir,
    /// How many notes were taken before.
    taken: usize,
}

impl Desk {
    /// On the file system of temporary files.
    pub(crate) fn new() -> Self {
        Self { temp: tempfile::tempdir().unwrap(), taken: 0 }
    }

    fn open(&self, name: &str) -> File {
        File::options().create(true).append(true).open(self.temp.path().join(name)).unwrap()
    }

    fn text(&self, name: &str) -> String {
        match std::fs::read_to_string(self.temp.path().join(name)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            text => text.unwrap(),
        }
    }

    /// Starts a program that notes here.
    pub(crate) fn start(&self, mut command: Command) -> Running {
        // A line that the last program did not finish is none.
        let notes = self.text("notes");
        let mut file = self.open("notes");
        if !notes.is_empty() && !notes.ends_with('\n') {
            let whole = notes.rfind('\n').map_or(0, |end| end + 1);
            file.set_len(whole as u64).unwrap();
            file = self.open("notes");
        }
        // A group of its own: who traces it dies without taking it along.
        command.process_group(0);
        command.stdout(file).stderr(self.open("words"));
        Running(command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}")))
    }

    /// The notes that are new.
    pub(crate) fn notes(&mut self) -> Vec<Note> {
        let mut notes = Note::all(&self.text("notes"));
        let new = notes.split_off(self.taken);
        self.taken += new.len();
        new
    }

    /// Nothing of it panicked.
    pub(crate) fn check_words(&self) {
        let words = self.text("words");
        assert!(!words.contains("panicked"), "{words}");
    }

    /// A file of the desk's own.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.temp.path().join(name)
    }
}

/// A program that runs. Killed and waited for when it is dropped.
#[derive(Debug)]
pub(crate) struct Running(Child);

impl Running {
    pub(crate) fn kill(&mut self) -> ExitStatus {
        self.0.kill().unwrap();
        self.wait()
    }

    /// Killed, unless it was over.
    pub(crate) fn stop(&mut self) {
        let _ = self.0.kill();
        self.wait();
    }

    /// Fails instead of hanging.
    pub(crate) fn wait(&mut self) -> ExitStatus {
        self.wait_long(1)
    }

    /// As [`wait`](Self::wait), so many times as long.
    pub(crate) fn wait_long(&mut self, times: u32) -> ExitStatus {
        for _ in 0..LOOKS * times {
            if let Some(status) = self.0.try_wait().unwrap() {
                return status;
            }
            thread::sleep(BETWEEN_LOOKS);
        }
        panic!("waited in vain for the end of a program, {} of its group", self.0.id());
    }

    pub(crate) fn id(&self) -> u32 {
        self.0.id()
    }

    pub(crate) fn is_over(&mut self) -> bool {
        self.0.try_wait().unwrap().is_some()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.0.try_wait().is_ok_and(|status| status.is_none()) {
            let _ = Command::new("kill").args(["-KILL", "--", &format!("-{}", self.0.id())]).status();
            let _ = self.0.wait();
        }
    }
}

/// What does `plan`.
pub(crate) fn command(plan: &Plan) -> Command {
    wrapped(Command::new(PROGRAM), plan)
}

/// `wrapper` around what does `plan`.
pub(crate) fn within(mut wrapper: Command, plan: &Plan) -> Command {
    wrapper.arg(Path::new(PROGRAM));
    wrapped(wrapper, plan)
}

fn wrapped(mut command: Command, plan: &Plan) -> Command {
    command.arg(serde_json::to_string(plan).unwrap());
    command
}
