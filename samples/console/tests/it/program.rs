//! The binary under test, started as a shell would start it.

use std::{
    io::Write,
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
};

use serde_json::Value;

/// A call of the program that is being put together.
#[derive(Debug)]
pub(crate) struct Program {
    command: Command,
    input: String,
}

/// What a call left behind.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) status: ExitStatus,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// A call that goes on. Killed when it is dropped.
#[derive(Debug)]
pub(crate) struct Running(Option<Child>);

impl Program {
    fn new(command: &str) -> Self {
        let mut program = Command::new(env!("CARGO_BIN_EXE_locus-console"));
        program.arg(command).env_remove("RUST_LOG");
        Self { command: program, input: String::new() }
    }

    pub(crate) fn run(input: &Path, data: &Path) -> Self {
        let mut program = Self::new("run");
        program.command.arg("--input").arg(input).arg("--data").arg(data);
        program
    }

    pub(crate) fn status(data: &Path) -> Self {
        let mut program = Self::new("status");
        program.command.arg("--data").arg(data);
        program
    }

    pub(crate) fn watch(config: &Path, data: &Path) -> Self {
        let mut program = Self::new("watch");
        program.command.arg("--config").arg(config).arg("--data").arg(data);
        program
    }

    /// `sweep` or `dead-letters`.
    pub(crate) fn tend(command: &str, data: &Path) -> Self {
        let mut program = Self::new(command);
        program.command.arg("--data").arg(data);
        program
    }

    pub(crate) fn menu() -> Self {
        Self::new("menu")
    }

    /// With its temporary folders in `temp`.
    pub(crate) fn vault(temp: &Path) -> Self {
        let mut program = Self::new("vault");
        program.command.env("TMPDIR", temp);
        program
    }

    pub(crate) fn args<const N: usize>(mut self, args: [&str; N]) -> Self {
        self.command.args(args);
        self
    }

    /// What it reads from its standard input.
    pub(crate) fn input(mut self, text: &str) -> Self {
        text.clone_into(&mut self.input);
        self
    }

    pub(crate) fn spawn(mut self) -> Running {
        self.command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = self.command.spawn().unwrap();
        // A program that reads nothing closes the pipe.
        let _ = child.stdin.take().unwrap().write_all(self.input.as_bytes());
        Running(Some(child))
    }

    pub(crate) fn wait(self) -> Ended {
        self.spawn().wait()
    }
}

impl Running {
    pub(crate) fn id(&self) -> u32 {
        self.0.as_ref().unwrap().id()
    }

    /// Returns when something has come about, while the program must go on.
    pub(crate) fn until(&mut self, condition: impl Fn() -> bool) {
        while !condition() {
            if self.0.as_mut().unwrap().try_wait().unwrap().is_some() {
                let ended = Self(self.0.take()).wait();
                panic!("it ended too early: {}{}", ended.stdout, ended.stderr);
            }
            std::thread::yield_now();
        }
    }

    /// SIGKILL.
    pub(crate) fn kill(mut self) {
        let mut child = self.0.take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// SIGINT, as Ctrl-C sends it.
    pub(crate) fn interrupt(&self) {
        let sent = Command::new("kill").args(["-INT", &self.id().to_string()]).status().unwrap();
        assert!(sent.success());
    }

    pub(crate) fn wait(mut self) -> Ended {
        let output = self.0.take().unwrap().wait_with_output().unwrap();
        Ended {
            status: output.status,
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(child) = &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// The last line, which is one JSON object.
pub(crate) fn json(stdout: &str) -> Value {
    let line = stdout.lines().last().unwrap_or_else(|| panic!("nothing was printed"));
    serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))
}
