//! Passphrases, identities and keys: where they come from, and who else may read them there.

use std::{
    fs::File,
    io::{self, IsTerminal, Read},
    path::Path,
};

use data_encoding::{BASE64, HEXLOWER_PERMISSIVE};
use locus_vault::{DataKey, Identity, Passphrase, Unlock};
use zeroize::Zeroizing;

use crate::{args::UnlockArgs, failure::Failure};

/// No secret is longer, in bytes.
const SECRET_BYTES_MAX: usize = 4_096;

/// All that is read, overwritten when it is dropped.
pub(crate) type Secret = Zeroizing<Vec<u8>>;

/// Reads to the end, at most `max` bytes. Leaves no copy of a part behind.
pub(crate) fn read_all(from: &mut dyn Read, max: usize, what: &str) -> Result<Secret, Failure> {
    let mut all = Zeroizing::new(Vec::with_capacity(max.saturating_add(1).min(64 << 10)));
    loop {
        if all.len() == all.capacity() {
            let mut larger = Zeroizing::new(Vec::with_capacity(all.capacity().saturating_mul(2)));
            larger.extend_from_slice(&all);
            all = larger;
        }
        let filled = all.len();
        let end = all.capacity();
        all.resize(end, 0);
        let read = from.read(&mut all[filled..]);
        all.truncate(filled + read.as_ref().copied().unwrap_or(0));
        match read {
            Ok(0) => return Ok(all),
            Ok(_) if all.len() > max => {
                return Err(Failure::usage(format!("{what} is longer than {max} bytes")));
            }
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(Failure::io(format!("cannot read {what}"))(error)),
        }
    }
}

/// A file that nobody but its owner can read.
fn private_file(path: &Path) -> Result<Secret, Failure> {
    let mut file = open_private(path)?;
    read_all(&mut file, SECRET_BYTES_MAX, &path.display().to_string())
}

#[cfg(unix)]
fn open_private(path: &Path) -> Result<File, Failure> {
    use std::os::unix::fs::PermissionsExt;

    use rustix::fs::{Mode, OFlags};

    let what = path.display();
    // Opened without waiting for the other end of a pipe, and looked at afterwards, so that it is the one that is read.
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = match rustix::fs::open(path, flags, Mode::empty()) {
        Err(rustix::io::Errno::LOOP) => {
            return Err(Failure::usage(format!("{what} is a link: name the file itself")));
        }
        opened => {
            File::from(opened.map_err(|error| Failure::io(format!("cannot open {what}"))(error.into()))?)
        }
    };
    let meta = file.metadata().map_err(Failure::io(format!("cannot look at {what}")))?;
    if !meta.is_file() {
        return Err(Failure::usage(format!("{what} is no regular file: --passphrase-fd reads from others")));
    }
    if meta.permissions().mode() & 0o077 != 0 {
        return Err(Failure::usage(format!("{what} can be read by others: chmod 600 {what}")));
    }
    Ok(file)
}

#[cfg(not(unix))]
fn open_private(path: &Path) -> Result<File, Failure> {
    File::open(path).map_err(Failure::io(format!("cannot open {}", path.display())))
}

/// What an open file descriptor gives.
fn descriptor(number: u32) -> Result<Secret, Failure> {
    let what = format!("file descriptor {number}");
    if number == 0 {
        return read_all(&mut io::stdin().lock(), SECRET_BYTES_MAX, &what);
    }
    if number < 3 {
        return Err(Failure::usage(format!("{what} is for writing")));
    }
    let opened = File::open(format!("/dev/fd/{number}"));
    let mut file = opened.map_err(Failure::io(format!("cannot read {what}")))?;
    read_all(&mut file, SECRET_BYTES_MAX, &what)
}

fn passphrase(bytes: &[u8]) -> Result<Passphrase, Failure> {
    let line = bytes.strip_suffix(b"\n").unwrap_or(bytes);
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    Passphrase::new(line).ok_or_else(|| Failure::usage("a passphrase has 1 to 1024 bytes"))
}

fn prompt(text: &str) -> Result<Secret, Failure> {
    if !io::stderr().is_terminal() && !io::stdin().is_terminal() {
        let why = "nobody can be asked for the passphrase here: give --passphrase-file or --passphrase-fd";
        return Err(Failure::usage(why));
    }
    ask(text).map_err(Failure::io("cannot ask for the passphrase"))
}

/// Asks at the terminal, wherever stdin and stderr lead to. It shows nothing from before the question until behind the answer.
#[cfg(unix)]
fn ask(text: &str) -> io::Result<Secret> {
    use std::io::Write;

    use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};

    struct Shown<'a>(&'a File, Termios);

    impl Drop for Shown<'_> {
        fn drop(&mut self) {
            let _ = tcsetattr(self.0, OptionalActions::Now, &self.1); // a shell does it, else
        }
    }

    let terminal = File::options().read(true).write(true).open("/dev/tty")?;
    let before = tcgetattr(&terminal)?;
    let mut hidden = before.clone();
    hidden.local_modes.remove(LocalModes::ECHO);
    hidden.local_modes.insert(LocalModes::ECHONL | LocalModes::ICANON);
    let _shown = Shown(&terminal, before);
    // What was typed before was typed for somebody else.
    tcsetattr(&terminal, OptionalActions::Flush, &hidden)?;
    (&terminal).write_all(text.as_bytes())?;
    let mut line = Zeroizing::new(Vec::with_capacity(SECRET_BYTES_MAX));
    let mut byte = Zeroizing::new([0]);
    while line.len() < SECRET_BYTES_MAX && (&terminal).read(&mut *byte)? > 0 && byte[0] != b'\n' {
        line.push(byte[0]);
    }
    Ok(line)
}

#[cfg(not(unix))]
fn ask(text: &str) -> io::Result<Secret> {
    rpassword::prompt_password(text).map(|typed| Zeroizing::new(typed.into_bytes()))
}

/// A passphrase that is chosen now, so it is asked for twice.
pub(crate) fn new_passphrase(
    file: Option<&Path>,
    fd: Option<u32>,
    whose: &str,
) -> Result<Passphrase, Failure> {
    match (file, fd) {
        (Some(path), _) => passphrase(&private_file(path)?),
        (None, Some(number)) => passphrase(&descriptor(number)?),
        (None, None) => {
            let first = prompt(&format!("New passphrase{whose}: "))?;
            let second = prompt("Once more: ")?;
            if *first != *second {
                return Err(Failure::usage("the two are not the same"));
            }
            passphrase(&first)
        }
    }
}

impl UnlockArgs {
    /// Whether anything was given, so that nobody need be asked.
    pub(crate) fn is_given(&self) -> bool {
        self.passphrase_file.is_some() || self.passphrase_fd.is_some() || self.identity_file.is_some()
    }

    /// Whether it is read from where a content may come from.
    pub(crate) fn reads_stdin(&self) -> bool {
        self.passphrase_fd == Some(0)
    }

    pub(crate) fn unlock(&self) -> Result<Unlock, Failure> {
        if let Some(path) = &self.identity_file {
            let text = private_file(path)?;
            let identity = std::str::from_utf8(&text).ok().and_then(|text| Identity::parse(text).ok());
            let why = || Failure::usage(format!("{} holds no identity", path.display()));
            let identity = identity.ok_or_else(why)?;
            return Ok(Unlock::Identity(match self.ring {
                Some(ring) => identity.for_ring(ring),
                None => identity,
            }));
        }
        let secret = match (&self.passphrase_file, self.passphrase_fd) {
            (Some(path), _) => private_file(path)?,
            (None, Some(number)) => descriptor(number)?,
            (None, None) => prompt("Passphrase: ")?,
        };
        Ok(Unlock::Passphrase(passphrase(&secret)?))
    }

    /// The passphrase of a keyring that is made now.
    pub(crate) fn first(&self) -> Result<Passphrase, Failure> {
        if self.identity_file.is_some() {
            return Err(Failure::usage(
                "a new keyring is for a passphrase: add the identity's public key afterwards",
            ));
        }
        new_passphrase(self.passphrase_file.as_deref(), self.passphrase_fd, "")
    }
}

/// A key of 32 bytes from a file.
pub(crate) fn key_file(path: &Path) -> Result<DataKey, Failure> {
    let bytes = private_file(path)?;
    let why = || Failure::usage(format!("{} holds no key of 32 bytes", path.display()));
    if let Ok(raw) = <&[u8; 32]>::try_from(&**bytes) {
        return Ok(DataKey::from_bytes(raw));
    }
    let text = bytes.trim_ascii();
    let decode = |encoding: data_encoding::Encoding| encoding.decode(text).ok().map(Zeroizing::new);
    let decoded = [HEXLOWER_PERMISSIVE, BASE64]
        .into_iter()
        .find_map(|encoding| decode(encoding).filter(|key| key.len() == 32));
    let decoded = decoded.ok_or_else(why)?;
    Ok(DataKey::from_bytes(decoded.first_chunk().ok_or_else(why)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_is_read_up_to_the_bound_and_not_beyond() {
        for len in [0, 1, 100, 65_536, 65_537, 300_000] {
            let content = vec![7; len];
            assert_eq!(**read_all(&mut &*content, 300_000, "it").unwrap(), *content, "{len} bytes");
        }
        assert!(
            matches!(read_all(&mut &[7; 101][..], 100, "it"), Err(Failure::Said { why, .. }) if why.contains("100"))
        );
    }

    #[test]
    fn the_end_of_a_line_is_no_part_of_a_passphrase() {
        for bytes in [&b"\n"[..], b"", b"\r\n", &[b'x'; 1_025]] {
            assert!(passphrase(bytes).is_err(), "{bytes:?}");
        }
        assert!(passphrase(b" \n").is_ok());
    }
}
