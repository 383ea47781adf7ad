//! The floor: the system calls that the vault's promises demand, and the cipher, and nothing else.
//!
//! A put must exclude other processes (a lock file is opened and locked, and looked at whether it still has its name), must
//! know which version it replaces (the file that is there is opened and its beginning read), and must be durable whole or
//! not at all (a draft beside it is made, written, synced, renamed over it, and the directory synced). All of that is in
//! the floor, and AES-256-GCM over the content. What the vault does besides is not: mode bits whatever the umask says, a
//! note in the lock file of who holds it, removing what a crash may have left under the draft's name, looking whether what
//! was opened is a regular file, the limit on the length of files, deriving the content's key, the way to a thread that may
//! block and back.
//!
//! A get opens the file, asks for its length, reads it into memory of its own, and opens it there.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::{FileExt, MetadataExt},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use bytes::Bytes;
use locus_benches::{
    BoxError,
    cycles::{AsTask, AsThread, Contender, Kind, Label, Load, Promise, Rests, Round},
};
use tokio::runtime::Handle;

use crate::{
    entrants::Call,
    slots::{ENTITIES, Slots},
};

/// Of what is there so much is read before it is replaced: a version stands within.
const HEAD_BYTES: usize = 4_096;

/// How much of the floor is done, and from where.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum How {
    /// All of it, on threads that do nothing else.
    OnThreads,
    /// All of it, from tasks that may not block: each call goes to a thread that may, and back.
    FromTasks,
    /// On threads, without lock, and without a look at what is there.
    Leaner,
}

/// Calls on files.
#[derive(Debug)]
pub(crate) struct Bare {
    label: Label,
    call: Call,
    how: How,
    files: Arc<Files>,
    runtime: Handle,
}

/// Files with a lock file each, spread over directories as a vault's are.
#[derive(Debug)]
struct Files {
    paths: Vec<Paths>,
    slots: Slots,
    key: LessSafeKey,
    /// The number of the next nonce.
    nonce: AtomicU64,
}

#[derive(Debug)]
struct Paths {
    dir: PathBuf,
    file: PathBuf,
    draft: PathBuf,
    lock: PathBuf,
}

impl Bare {
    /// Makes the files in `dir`, each with `content`.
    pub(crate) fn create(
        dir: &Path,
        call: Call,
        how: How,
        content: &[u8],
        runtime: &Handle,
    ) -> Result<Self, BoxError> {
        let (name, kind) = match how {
            How::OnThreads => ("bare", Kind::Floor(Rests::File)),
            How::FromTasks => ("bare, from tasks", Kind::LeanFloor),
            How::Leaner => ("bare, no lock, no look", Kind::LeanFloor),
        };
        let files = Arc::new(Files::create(dir, content)?);
        let label = Label::new(name, kind, Promise::Durable);
        Ok(Self { label, call, how, files, runtime: runtime.clone() })
    }
}

impl Contender for Bare {
    fn label(&self) -> &Label {
        &self.label
    }

    fn settings(&self) -> String {
        let calls = match self.call {
            Call::Put if self.how == How::Leaner => {
                "draft, fdatasync, rename, fsync of the directory; AES-256-GCM"
            }
            Call::Put => {
                "lock file opened, locked, looked at; what is there opened, its beginning read; draft, fdatasync, rename, \
                 fsync of the directory; AES-256-GCM"
            }
            Call::Get => "open, fstat, read; AES-256-GCM",
        };
        match self.how {
            How::FromTasks => format!("{calls}; each call on a thread of tokio's that may block"),
            How::OnThreads | How::Leaner => format!("{calls}; threads"),
        }
    }

    fn round(&self, load: Load, content: &Bytes) -> Result<Round, BoxError> {
        if self.how == How::FromTasks {
            let who = FromTasks { files: Arc::clone(&self.files), call: self.call };
            return Round::of_tasks(&self.runtime, &Arc::new(who), load, content);
        }
        Round::of_threads(self, load, content)
    }
}

impl AsThread for Bare {
    fn cycle(&self, content: &Bytes, _alone: bool) -> Result<(), BoxError> {
        Ok(self.files.call(self.call, self.how != How::Leaner, content)?)
    }
}

struct FromTasks {
    files: Arc<Files>,
    call: Call,
}

impl AsTask for FromTasks {
    async fn cycle(&self, content: &Bytes, _alone: bool) -> Result<(), BoxError> {
        let (files, call, content) = (Arc::clone(&self.files), self.call, content.clone());
        Ok(tokio::task::spawn_blocking(move || files.call(call, true, &content)).await??)
    }
}

impl Files {
    fn create(dir: &Path, content: &[u8]) -> Result<Self, BoxError> {
        let key = UnboundKey::new(&AES_256_GCM, &[7; 32]).map_err(|_| "the key has another length")?;
        let mut paths = Vec::new();
        for number in 0..ENTITIES {
            let (dir, locks) =
                (dir.join(format!("entities/{number:02x}")), dir.join(format!("locks/{number:02x}")));
            fs::create_dir_all(&dir)?;
            fs::create_dir_all(&locks)?;
            let name = format!("bench+entity-{number:03}");
            paths.push(Paths {
                file: dir.join(format!("{name}.ent")),
                draft: dir.join(format!(".{name}.ent.new")),
                lock: locks.join(format!("{name}.lock")),
                dir,
            });
        }
        let files = Self { paths, slots: Slots::new(), key: LessSafeKey::new(key), nonce: AtomicU64::new(0) };
        for at in &files.paths {
            File::create_new(&at.lock)?;
            files.replace(at, content)?;
        }
        Ok(files)
    }

    fn call(&self, call: Call, whole: bool, content: &[u8]) -> io::Result<()> {
        let slot = self.slots.take().ok_or(io::ErrorKind::ResourceBusy)?;
        let at = &self.paths[slot.number];
        match call {
            Call::Get => self.get(at, content),
            Call::Put if whole => {
                let lock = lock(&at.lock)?;
                look(&at.file)?;
                self.replace(at, content)?;
                drop(lock);
                Ok(())
            }
            Call::Put => self.replace(at, content),
        }
    }

    fn replace(&self, at: &Paths, content: &[u8]) -> io::Result<()> {
        // The nonce stands before what was sealed.
        let nonce = self.nonce.fetch_add(1, Ordering::Relaxed).to_le_bytes();
        let mut bytes = Vec::with_capacity(NONCE_LEN + content.len() + AES_256_GCM.tag_len());
        bytes.extend([0; NONCE_LEN]);
        bytes[..nonce.len()].copy_from_slice(&nonce);
        bytes.extend_from_slice(content);
        let (nonce, text) = bytes.split_first_chunk_mut::<NONCE_LEN>().ok_or(io::ErrorKind::InvalidData)?;
        let sealed =
            self.key.seal_in_place_separate_tag(Nonce::assume_unique_for_key(*nonce), Aad::empty(), text);
        bytes.extend_from_slice(sealed.map_err(|_| io::ErrorKind::InvalidData)?.as_ref());

        let mut draft = OpenOptions::new().write(true).create_new(true).open(&at.draft)?;
        draft.write_all(&bytes)?;
        draft.sync_data()?;
        drop(draft);
        rustix::fs::rename(&at.draft, &at.file)?;
        File::open(&at.dir)?.sync_all()
    }

    fn get(&self, at: &Paths, content: &[u8]) -> io::Result<()> {
        let mut file = File::open(&at.file)?;
        let mut bytes = vec![0; file.metadata()?.len() as usize];
        file.read_exact(&mut bytes)?;
        let (nonce, sealed) = bytes.split_first_chunk_mut::<NONCE_LEN>().ok_or(io::ErrorKind::InvalidData)?;
        let opened = self.key.open_in_place(Nonce::assume_unique_for_key(*nonce), Aad::empty(), sealed);
        let opened = opened.map_err(|_| io::ErrorKind::InvalidData)?;
        if opened == content { Ok(()) } else { Err(io::ErrorKind::InvalidData.into()) }
    }
}

/// The lock goes with the file.
fn lock(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new().read(true).write(true).open(path)?;
    file.try_lock()?;
    if file.metadata()?.ino() == fs::symlink_metadata(path)?.ino() {
        Ok(file)
    } else {
        Err(io::ErrorKind::NotFound.into())
    }
}

fn look(path: &Path) -> io::Result<()> {
    let file = File::open(path)?;
    let mut head = vec![0; HEAD_BYTES.min(file.metadata()?.len() as usize)];
    file.read_exact_at(&mut head, 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_put_is_what_is_got_and_another_content_is_noticed() {
        let temp = tempfile::tempdir().unwrap();
        let files = Files::create(temp.path(), b"first").unwrap();
        assert!(files.call(Call::Get, true, b"first").is_ok());
        for whole in [true, false] {
            for _ in 0..ENTITIES {
                files.call(Call::Put, whole, b"second").unwrap();
            }
            assert!(files.call(Call::Get, true, b"second").is_ok());
        }
        assert!(files.call(Call::Get, true, b"first").is_err());
        assert!(!std::fs::read(&files.paths[0].file).unwrap().windows(6).any(|part| part == b"second"));
    }

    #[test]
    fn a_lock_that_somebody_has_is_not_taken() {
        let temp = tempfile::tempdir().unwrap();
        let files = Files::create(temp.path(), b"x").unwrap();
        let held = lock(&files.paths[0].lock).unwrap();
        assert!(files.call(Call::Put, true, b"y").is_err());
        drop(held);
        assert!(lock(&files.paths[0].lock).is_ok());
    }
}
