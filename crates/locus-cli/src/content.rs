//! Contents: where they come from and go to.

use std::{
    fs::File,
    io::{self, Write},
    path::Path,
};

use locus_fs::{OsDisk, replace};

use crate::{
    failure::Failure,
    secret::{Secret, read_all},
};

/// The content of a file, or of stdin, of at most `max` bytes.
pub(crate) fn read(from: Option<&Path>, max: usize) -> Result<Secret, Failure> {
    match from {
        None => read_all(&mut io::stdin().lock(), max, "stdin"),
        Some(path) => {
            let mut file =
                File::open(path).map_err(Failure::io(format!("cannot open {}", path.display())))?;
            read_all(&mut file, max, &path.display().to_string())
        }
    }
}

/// Writes to a file, durably and for its owner alone, or to stdout.
pub(crate) fn write(to: Option<&Path>, content: &[u8]) -> Result<(), Failure> {
    let Some(path) = to else { return to_stdout(content) };
    check_regular(path)?;
    replace(&OsDisk, path, content).map_err(|error| Failure::Io {
        what: format!("cannot write {}", path.display()),
        source: io::Error::other(error),
    })
}

/// What would be put in the place of a device or a pipe is not what is meant.
pub(crate) fn check_regular(path: &Path) -> Result<(), Failure> {
    match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(Failure::io(format!("cannot look at {}", path.display()))(error)),
        Ok(meta) if meta.is_file() => Ok(()),
        Ok(_) => {
            let why = format!(
                "{} is no regular file, and would be replaced: write to stdout instead",
                path.display()
            );
            Err(Failure::usage(why))
        }
    }
}

/// Who does not read to the end has read enough.
pub(crate) fn to_stdout(bytes: &[u8]) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(bytes).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Err(Failure::Unread),
        other => other.map_err(Failure::io("cannot write to stdout")),
    }
}
