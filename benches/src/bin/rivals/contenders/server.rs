//! A server of our own: found, started in a folder of its own, and stopped again whatever happens.

use std::{
    fs, io,
    os::unix::{
        fs::{PermissionsExt, chown},
        process::CommandExt,
    },
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use locus_benches::BoxError;
use parking_lot::Mutex;
use rustix::process::{Pid, Signal, geteuid, kill_process};
use tempfile::TempDir;

/// Accounts that servers run as when we are root, the first that there is.
const ACCOUNTS: [&str; 2] = ["postgres", "nobody"];

/// How often a server that starts is asked whether it is ready.
const ASKED_EVERY: Duration = Duration::from_millis(50);

/// A server that is ready, and the folder of its socket, which goes after it.
#[derive(Debug)]
pub(super) struct Running {
    _server: Mutex<Server>,
    pub(super) socket: TempDir,
}

/// A running server; dropped, it is stopped.
#[derive(Debug)]
pub(super) struct Server {
    child: Child,
}

impl Server {
    /// Starts it with its output in `log`. It is stopped by an interrupt: when this is dropped, when our process is gone, and, as it is
    /// of our group, by Ctrl-C.
    pub(super) fn start(program: &Path, arguments: &[String], log: &Path) -> Result<Self, BoxError> {
        let mut command = match find("setpriv", &[]) {
            Some(setpriv) => {
                let mut command = Command::new(setpriv);
                command.args(["--pdeathsig", "INT", "--"]).arg(program);
                command
            }
            None => Command::new(program),
        };
        Account::ours()?.lend(&mut command);
        let log = fs::File::create(log)?;
        let started = command.args(arguments).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        Ok(Self { child: started.spawn()? })
    }

    /// Waits until `ask` gets an answer, asking so many times at most. `log` says why a server ended instead.
    pub(super) async fn ready<T, E>(
        mut self,
        socket: TempDir,
        log: &Path,
        times: u32,
        mut ask: impl AsyncFnMut(&Path) -> Result<T, E>,
    ) -> Result<(Running, T), BoxError> {
        for _ in 0..times {
            if let Ok(answer) = ask(socket.path()).await {
                return Ok((Running { _server: Mutex::new(self), socket }, answer));
            }
            if !self.is_running()? {
                break;
            }
            tokio::time::sleep(ASKED_EVERY).await;
        }
        Err(format!("the server did not start: {}", fs::read_to_string(log)?.trim()).into())
    }

    /// Whether it has not ended by itself.
    fn is_running(&mut self) -> io::Result<bool> {
        Ok(self.child.try_wait()?.is_none())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(pid) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw) {
            kill_process(pid, Signal::INT).ok();
        }
        drop(self.child.wait());
    }
}

/// Who a server runs as; servers refuse to run as root.
#[derive(Debug)]
pub(super) struct Account(Option<(u32, u32)>);

impl Account {
    /// Ourselves, or, when we are root, one of those who are not.
    pub(super) fn ours() -> Result<Self, BoxError> {
        if !geteuid().is_root() {
            return Ok(Self(None));
        }
        let accounts = fs::read_to_string("/etc/passwd")?;
        let found = ACCOUNTS.iter().find_map(|name| ids(&accounts, name));
        found
            .map(|ids| Self(Some(ids)))
            .ok_or_else(|| format!("no account of {ACCOUNTS:?} to run it as").into())
    }

    /// Has the command run as this one.
    pub(super) fn lend(&self, command: &mut Command) {
        if let Self(Some((user, group))) = self {
            command.uid(*user).gid(*group);
        }
    }

    /// Makes a directory that belongs to it.
    pub(super) fn directory(&self, path: &Path) -> io::Result<()> {
        fs::create_dir_all(path)?;
        self.own(path)
    }

    /// A place for a socket, whose path must be short.
    pub(super) fn socket_directory(&self) -> io::Result<TempDir> {
        let dir = tempfile::Builder::new().prefix("rival-").tempdir()?;
        self.own(dir.path())?;
        Ok(dir)
    }

    fn own(&self, path: &Path) -> io::Result<()> {
        fs::set_permissions(path, fs::Permissions::from_mode(0o700))?;
        self.0.map_or(Ok(()), |(user, group)| chown(path, Some(user), Some(group)))
    }
}

/// User and group of an account, as `/etc/passwd` has them.
fn ids(accounts: &str, name: &str) -> Option<(u32, u32)> {
    let mut fields = accounts
        .lines()
        .map(|line| line.split(':'))
        .find_map(|mut fields| (fields.next()? == name).then_some(fields))?;
    fields.next()?; // the password
    Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
}

/// A program in one of these folders, or else in the search path.
pub(super) fn find(name: &str, folders: &[PathBuf]) -> Option<PathBuf> {
    let search = std::env::var_os("PATH").unwrap_or_default();
    let paths = folders.iter().cloned().chain(std::env::split_paths(&search));
    paths.map(|folder| folder.join(name)).find(|path| path.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_of_an_account_are_read() {
        let accounts = "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65533:nobody:/:/bin/false\n";
        assert_eq!(ids(accounts, "nobody"), Some((65_534, 65_533)));
        assert_eq!(ids(accounts, "postgres"), None);
        assert_eq!(ids("nobody:x:a:b", "nobody"), None);
    }

    #[test]
    fn a_server_that_is_dropped_is_gone() {
        let temp = tempfile::tempdir().unwrap();
        fs::set_permissions(temp.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let sleep = find("sleep", &[]).unwrap();
        let mut server = Server::start(&sleep, &["60".into()], &temp.path().join("log")).unwrap();
        assert!(server.is_running().unwrap());
        let process = PathBuf::from(format!("/proc/{}", server.child.id()));
        assert!(process.exists());
        drop(server);
        assert!(!process.exists());
    }
}
