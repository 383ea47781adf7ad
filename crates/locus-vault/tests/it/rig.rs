//! A simulated disk with vaults on it, as processes have them.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, LazyLock},
};

use locus_core::Clock;
use locus_fs::{Disk, EntryKind};
use locus_testkit::{ManualClock, SeededEntropy, SimDisk, Stepper};
use locus_vault::{
    Argon2Cost, BlobOptions, BlobStore, EntityId, Keyring, KeyringFile, NewRecipient, Passphrase, Result,
    Unlock, Vault, VaultOptions,
};

pub(crate) const DIR: &str = "/vault";

/// Made once: every guess costs.
static RING: LazyLock<Arc<Keyring>> = LazyLock::new(|| keyring(1));

pub(crate) fn keyring(seed: u64) -> Arc<Keyring> {
    let entropy = Arc::new(SeededEntropy::new(seed));
    let file = KeyringFile::new(SimDisk::new(seed), ManualClock::new(), entropy, "/keyring");
    let cost = Argon2Cost { memory_kib: 8, passes: 1, lanes: 1 };
    let recipient = NewRecipient::passphrase("test", passphrase()).cost(cost);
    Arc::new(Stepper::new(seed).block_on(file.create(recipient), || false).unwrap())
}

pub(crate) fn passphrase() -> Passphrase {
    Passphrase::new(b"sesame").unwrap()
}

pub(crate) struct Rig {
    pub(crate) disk: Arc<SimDisk>,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) entropy: Arc<SeededEntropy>,
}

impl Rig {
    pub(crate) fn new(seed: u64) -> Self {
        let entropy = Arc::new(SeededEntropy::new(seed));
        Self { disk: SimDisk::new(seed), clock: ManualClock::new(), entropy }
    }

    /// Runs `future` to its end; the clock goes on when it waits.
    pub(crate) fn run<T>(&self, future: impl Future<Output = T>) -> T {
        Stepper::new(self.disk.seed()).block_on(future, || self.clock.advance_to_next())
    }

    pub(crate) fn options(&self) -> VaultOptions {
        self.options_with(Arc::clone(&RING))
    }

    pub(crate) fn options_with(&self, ring: Arc<Keyring>) -> VaultOptions {
        let options = VaultOptions::new(ring).writer("the test");
        options.disk(self.disk.clone()).clock(self.clock.clone()).entropy(self.entropy.clone())
    }

    pub(crate) fn blob_options(&self) -> BlobOptions {
        let options = BlobOptions::default();
        options.disk(self.disk.clone()).clock(self.clock.clone()).entropy(self.entropy.clone())
    }

    pub(crate) fn open(&self) -> Result<Vault> {
        self.open_with(self.options())
    }

    pub(crate) fn open_with(&self, options: VaultOptions) -> Result<Vault> {
        self.run(Vault::open(DIR, options))
    }

    pub(crate) fn blobs(&self) -> Result<BlobStore> {
        self.run(BlobStore::open(DIR, self.blob_options()))
    }

    /// A keyring beside the vault, on the same disk.
    pub(crate) fn keyring_file(&self) -> KeyringFile {
        KeyringFile::new(self.disk.clone(), self.clock.clone(), self.entropy.clone(), "/keyring")
    }

    /// Makes it.
    pub(crate) fn make_keyring(&self) -> Arc<Keyring> {
        let cost = Argon2Cost { memory_kib: 8, passes: 1, lanes: 1 };
        let recipient = NewRecipient::passphrase("test", passphrase()).cost(cost);
        Arc::new(self.run(self.keyring_file().create(recipient)).unwrap())
    }

    pub(crate) fn open_keyring(&self) -> Arc<Keyring> {
        Arc::new(self.run(self.keyring_file().open(Unlock::Passphrase(passphrase()))).unwrap())
    }

    /// All files, by their paths.
    pub(crate) fn files(&self) -> Vec<PathBuf> {
        let (mut files, mut ahead) = (Vec::new(), vec![PathBuf::from(DIR)]);
        while let Some(dir) = ahead.pop() {
            for entry in self.disk.read_dir(&dir).unwrap() {
                let entry = entry.unwrap();
                let list = if entry.kind == EntryKind::Dir { &mut ahead } else { &mut files };
                list.push(dir.join(entry.name));
            }
        }
        files.sort();
        files
    }

    /// The one file of an entity whose path holds this.
    pub(crate) fn file(&self, part: &str) -> PathBuf {
        let mut files = self.files();
        files.retain(|path| {
            path.to_string_lossy().contains(part) && path.extension().is_some_and(|x| x == "ent")
        });
        assert_eq!(files.len(), 1, "{part}: {files:?}");
        files.remove(0)
    }

    pub(crate) fn content(&self, path: &Path) -> Vec<u8> {
        let file = self.disk.open(path, false).unwrap();
        let mut bytes = vec![0; usize::try_from(file.len().unwrap()).unwrap()];
        file.read_at(&mut bytes, 0).unwrap();
        bytes
    }

    /// Makes a file what it is not.
    pub(crate) fn forge(&self, path: &Path, bytes: &[u8]) {
        let file = self.disk.open(path, true).or_else(|_| self.disk.create_new(path)).unwrap();
        file.set_len(0).unwrap();
        file.write_at(bytes, 0).unwrap();
    }

    pub(crate) fn now(&self) -> locus_core::Timestamp {
        self.clock.wall()
    }
}

pub(crate) fn id(text: &str) -> EntityId {
    text.parse().unwrap()
}
