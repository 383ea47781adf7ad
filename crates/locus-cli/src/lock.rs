//! A lock that is held while a command runs.

use std::process::ExitStatus;

use locus_vault::LockMode;
use tokio::process::Command;

use crate::{args::LockArgs, failure::Failure};

pub(crate) async fn lock(args: LockArgs) -> Result<(), Failure> {
    let LockArgs { place, id, shared, wait, command } = args;
    let Some((program, arguments)) = command.split_first() else {
        return Err(Failure::usage("no command is given"));
    };
    let blobs = place.blobs_to_change(wait.lock_timeout).await?;
    let mode = if shared { LockMode::Shared } else { LockMode::Exclusive };
    let guard = blobs.lock(&id, mode, None).await?;
    let ended = to_its_end(Command::new(program).args(arguments)).await;
    let ended = ended.map_err(Failure::io(format!("cannot run {}", program.display())));
    guard.release()?;
    match code_of(ended?) {
        0 => Ok(()),
        code => Err(Failure::Ended(code)),
    }
}

/// As shells tell it.
fn code_of(ended: ExitStatus) -> u8 {
    #[cfg(unix)]
    if let Some(signal) = std::os::unix::process::ExitStatusExt::signal(&ended) {
        return u8::try_from(signal.saturating_add(128)).unwrap_or(u8::MAX);
    }
    ended.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1)
}

/// Runs the command; whatever asks this program to end meanwhile asks the command, and the lock is held until it did. A
/// terminal's Ctrl-C asks both.
#[cfg(unix)]
async fn to_its_end(command: &mut Command) -> std::io::Result<ExitStatus> {
    use rustix::process::{Pid, Signal, kill_process};
    use tokio::signal::unix::{SignalKind, signal};

    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hangup = signal(SignalKind::hangup())?;
    let mut child = command.spawn()?;
    loop {
        let pass = tokio::select! {
            ended = child.wait() => return ended,
            _ = interrupt.recv() => None,
            _ = terminate.recv() => Some(Signal::TERM),
            _ = hangup.recv() => Some(Signal::HUP),
        };
        let pid = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        if let Some((pid, signal)) = pid.zip(pass) {
            let _ = kill_process(pid, signal); // it may have ended just now
        }
    }
}

#[cfg(not(unix))]
async fn to_its_end(command: &mut Command) -> std::io::Result<ExitStatus> {
    command.spawn()?.wait().await
}
