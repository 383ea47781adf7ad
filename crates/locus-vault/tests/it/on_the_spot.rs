//! What the system has in memory is read without leaving the thread, and is proven all the same.

use std::{
    fs,
    future::Future,
    path::{Path, PathBuf},
    pin::pin,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use locus_fs::{Disk, OsDisk};
use locus_vault::{Caching, Entity, EntityId, Expect, Result, Vault, VaultError, VaultOptions};
use rstest::rstest;
use tempfile::TempDir;
use tokio::runtime::Runtime;

use crate::rig::keyring;

/// Longest content that is read so.
const HERE_MAX: usize = 64 << 10;

struct Real {
    dir: TempDir,
    runtime: Runtime,
}

impl Real {
    fn new() -> Self {
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_time().max_blocking_threads(1).build();
        Self { dir: tempfile::tempdir().unwrap(), runtime: runtime.unwrap() }
    }

    fn open(&self, caching: Caching) -> Vault {
        let options = VaultOptions::new(keyring(1)).caching(caching);
        self.runtime.block_on(Vault::open(self.dir.path().join("vault"), options)).unwrap()
    }

    fn put(&self, vault: &Vault, content: &[u8]) {
        self.runtime.block_on(vault.put_bytes(&id(), content.to_vec(), Expect::Any)).unwrap();
    }

    fn get(&self, vault: &Vault) -> Result<Entity> {
        self.runtime.block_on(vault.get(&id()))
    }

    /// The only entity's file.
    fn file(&self) -> PathBuf {
        let shards = fs::read_dir(self.dir.path().join("vault/entities")).unwrap();
        let files = shards.flat_map(|shard| fs::read_dir(shard.unwrap().path()).unwrap());
        files.map(|file| file.unwrap().path()).next().unwrap()
    }

    /// Whether the system can tell what it has in memory here.
    fn tells(&self) -> bool {
        let cached = |file: &Path| {
            let opened = OsDisk.open_cached(file).ok().flatten();
            opened.is_some_and(|(file, _)| file.read_cached_at(&mut [0; 1], 0).unwrap())
        };
        OsDisk.is_own(self.dir.path()).unwrap() && cached(&self.file())
    }

    fn overwrite(&self, bytes: &[u8]) {
        use std::os::unix::fs::FileExt;
        let file = fs::File::options().write(true).open(self.file()).unwrap();
        file.write_all_at(bytes, 0).unwrap();
        file.set_len(bytes.len() as u64).unwrap();
    }
}

fn id() -> EntityId {
    "db/key".parse().unwrap()
}

fn at_once<T>(future: impl Future<Output = T>) -> Option<T> {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(done) => Some(done),
        Poll::Pending => None,
    }
}

#[rstest]
#[case::empty(0, true)]
#[case::small(4_096, true)]
#[case::largest(HERE_MAX, true)]
#[case::larger(HERE_MAX + 8_192, false)]
fn a_small_content_is_there_at_once(
    #[values(Caching::Off, Caching::Strict)] caching: Caching,
    #[case] len: usize,
    #[case] here: bool,
) {
    let real = Real::new();
    let (vault, other) = (real.open(caching), real.open(caching));
    let content = vec![7; len];
    real.put(&other, &content);
    // The only thread that may block is taken.
    let (gate, shut) = std::sync::mpsc::channel::<()>();
    real.runtime.spawn_blocking(move || shut.recv());
    let _entered = real.runtime.enter();
    // The second one is kept, where anything is.
    for _ in 0..2 {
        let got = at_once(vault.get(&id()));
        assert_eq!(got.is_some(), here && real.tells());
        assert!(got.is_none_or(|got| got.unwrap().bytes() == content));
    }
    drop(gate);
    assert_eq!(real.get(&vault).unwrap().bytes(), content);
}

#[test]
fn what_others_write_is_seen_at_once() {
    let real = Real::new();
    let (vault, other) = (real.open(Caching::Strict), real.open(Caching::Strict));
    for n in 0..3 {
        real.put(&other, &[n; 100]);
        assert_eq!(real.get(&vault).unwrap().bytes(), [n; 100]);
    }
    real.runtime.block_on(other.delete(&id(), Expect::Any)).unwrap();
    assert!(matches!(real.get(&vault), Err(VaultError::FileNotFound { .. })));
}

#[test]
fn a_flipped_bit_and_a_cut_are_noticed() {
    let real = Real::new();
    let vault = real.open(Caching::Off);
    real.put(&vault, b"a small content");
    let good = fs::read(real.file()).unwrap();
    for at in 0..good.len() {
        let mut bad = good.clone();
        bad[at] ^= 1 << (at % 8);
        real.overwrite(&bad);
        assert!(real.get(&vault).is_err(), "byte {at}");
        real.overwrite(&good[..at]);
        assert!(real.get(&vault).is_err(), "cut at {at}");
    }
    real.overwrite(&good);
    assert_eq!(real.get(&vault).unwrap().bytes(), b"a small content");
}

#[test]
fn an_older_write_that_is_put_back_is_refused() {
    let real = Real::new();
    let vault = real.open(Caching::Strict);
    real.put(&vault, b"first");
    let first = fs::read(real.file()).unwrap();
    real.put(&vault, b"second");
    real.overwrite(&first);
    assert!(matches!(real.get(&vault), Err(VaultError::RolledBack { .. })));
}

#[test]
fn gets_alone_do_not_keep_the_thread() {
    let real = Real::new();
    let vault = Arc::new(real.open(Caching::Off));
    real.put(&vault, b"x");
    real.runtime.block_on(async {
        let (over, mut is_over) = tokio::sync::oneshot::channel();
        tokio::spawn(async move { over.send(()) });
        for _ in 0..10_000 {
            vault.get(&id()).await.unwrap();
            if is_over.try_recv().is_ok() {
                return;
            }
        }
        panic!("nobody else had a turn");
    });
}
