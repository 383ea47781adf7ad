//! The keyring's file: who may read it, and every change of it.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use locus_core::{Clock, Entropy, Error, Site, SystemClock, SystemEntropy, Timestamp};
use locus_fs::{DirLock, Disk, OsDisk, off_thread, read_bounded, replace, sync_dir};
use x25519_dalek::StaticSecret;
use zeroize::Zeroizing;

use super::{
    format::{
        self, FILE_BYTES_MAX, Header, Kept, NAME_BYTES_MAX, SLOT_SECRET_BYTES, Sealed, Slot,
        WRAPPED_BYTES_MAX,
    },
    identity::{Identity, KEY_BYTES, RingId, draw_secret, public_of},
    ids::{KeyId, RecipientId},
    key_wrap::KeyWrap,
    passphrase::{Argon2Cost, Passphrase},
    recipient::{How, NewRecipient, Unlock},
    ring::{Keyring, Opener, RingInfo, name_refused, tampered},
};
use crate::{
    cipher::{ContentKey, DataKey, Salt},
    error::{Result, VaultError},
    lock,
};

/// The file in which a keyring lies. Any number of processes may read it, and one at a time changes it.
///
/// A change reads the file again, so that none is lost; replaces it whole and durably; and gives the ring as it is
/// afterwards. What was opened before stays as it was until it is [refreshed](Self::refresh). A file beside it with the
/// same name and `.lock` carries the lock; it is never removed.
///
/// A backup is a copy of the file. An older file in its place opens like any other: only who has seen a newer one in this
/// process notices.
///
/// ```
/// # use std::sync::Arc;
/// # use locus_core::{SystemClock, SystemEntropy};
/// # use locus_fs::OsDisk;
/// use locus_vault::{KeyringFile, NewRecipient, Passphrase, Unlock};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let dir = tempfile::tempdir()?;
/// # let path = dir.path().join("keyring");
/// let file = KeyringFile::new(Arc::new(OsDisk), Arc::new(SystemClock::new()), Arc::new(SystemEntropy), path);
/// let sesame = || Passphrase::new(b"open sesame").expect("because it is not empty");
/// let ring = file.create(NewRecipient::passphrase("ali", sesame())).await?;
/// let (first, _) = ring.active();
///
/// let ring = file.rotate(&ring).await?;
/// assert_ne!(ring.active().0, first);
/// assert!(ring.key(first).is_ok()); // what was sealed before still opens
///
/// let ring = file.open(Unlock::Passphrase(sesame())).await?;
/// assert!(ring.key(first).is_ok());
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct KeyringFile {
    disk: Arc<dyn Disk>,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    path: Arc<Path>,
}

impl KeyringFile {
    /// Where it lies.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The file at `path`, which need not be there. Its directory must.
    #[must_use]
    pub fn new(
        disk: Arc<dyn Disk>,
        clock: Arc<dyn Clock>,
        entropy: Arc<dyn Entropy>,
        path: impl Into<PathBuf>,
    ) -> Self {
        Self { disk, clock, entropy, path: path.into().into() }
    }

    /// The file at `path` on the machine's own disk, with its clock and randomness.
    #[must_use]
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self::new(Arc::new(OsDisk), Arc::new(SystemClock::new()), Arc::new(SystemEntropy), path)
    }

    /// Makes a ring with one active key, for one recipient, readable and writable by its owner alone (mode 0600).
    ///
    /// For a public key the ring cannot be opened here, so the first recipient has to have a passphrase or a
    /// [`KeyWrap`]; the others can follow.
    ///
    /// # Errors
    /// [`VaultError::KeyringExists`], [`VaultError::RecipientRefused`], [`VaultError::KeyWrapFailed`],
    /// [`VaultError::AlreadyLocked`], [`VaultError::LockFailed`], and [`VaultError::ReadFailed`]: there is no new ring.
    /// [`VaultError::WriteFailed`]: nor is there, unless it is the directory that could not be synced.
    ///
    /// # Cancel safety
    /// When the future is dropped, the ring is there, or will be, or never.
    pub async fn create(&self, first: NewRecipient) -> Result<Keyring> {
        let ring = DataKey::draw(&*self.entropy);
        let (slot, secret) = self.prepare(RingId::of(&ring), first).await?;
        let Some(secret) = secret else {
            let why = "cannot be the first: it would have to open the ring";
            return Err(VaultError::RecipientRefused { name: slot.name, why });
        };
        let opener = Opener { id: slot.id, secret, ring: Some(RingId::of(&ring)) };
        self.off_thread(move |this| {
            let _lock = this.lock()?;
            if this.read()?.is_some() {
                return Err(VaultError::KeyringExists { path: this.path.to_path_buf() });
            }
            let ring = Keyring::new(ring, slot, opener, this.clock.wall(), &*this.entropy);
            this.write(&ring)?;
            Ok(ring)
        })
        .await
    }

    /// Opens the ring.
    ///
    /// # Errors
    /// [`VaultError::KeyringNotFound`]; [`VaultError::NotARecipient`] for a wrong passphrase, identity or service;
    /// [`VaultError::KeyWrapFailed`]; [`VaultError::Tampered`] when the ring was not written by one who could open it, or
    /// is not the one that the recipient was added to; [`VaultError::ReadFailed`], for a damaged file with
    /// [`Error::Corrupt`] as its source and for one of a newer version with [`Error::NewerFormat`].
    ///
    /// # Cancel safety
    /// Dropping the future changes nothing.
    pub async fn open(&self, with: Unlock) -> Result<Keyring> {
        let file = self.off_thread(Self::found).await?;
        match with {
            Unlock::Identity(identity) => {
                let opener = opener_of(&file.header, identity).ok_or_else(|| self.not_a_recipient())?;
                Keyring::open(&self.path, file, opener)
            }
            Unlock::Passphrase(passphrase) => {
                self.off_thread(move |this| {
                    let opener = file.header.slots.iter().find_map(|slot| try_passphrase(slot, &passphrase));
                    Keyring::open(&this.path, file, opener.ok_or_else(|| this.not_a_recipient())?)
                })
                .await
            }
            Unlock::KeyWrap(wrap) => {
                let opener = self.ask(&file.header, &*wrap).await?;
                Keyring::open(&self.path, file, opener)
            }
        }
    }

    /// What the ring says of itself, without a key: not proven, and not to be relied on.
    ///
    /// # Errors
    /// [`VaultError::KeyringNotFound`]; [`VaultError::ReadFailed`] as by [`open`](Self::open).
    ///
    /// # Cancel safety
    /// Dropping the future changes nothing.
    pub async fn inspect(&self) -> Result<RingInfo> {
        self.off_thread(|this| Ok(RingInfo::of(&this.found()?.header))).await
    }

    /// Reads the ring again, for the recipient that `ring` was opened for: other processes may have changed it.
    ///
    /// # Errors
    /// [`VaultError::NotARecipient`] when that recipient was removed; [`VaultError::Tampered`] when it is another ring, or
    /// an older one than `ring`; the others as by [`open`](Self::open). `ring` can be used on, with the keys that it has.
    ///
    /// # Cancel safety
    /// Dropping the future changes nothing.
    pub async fn refresh(&self, ring: &Keyring) -> Result<Keyring> {
        let (opener, seen) = (ring.opener().clone(), ring.generation());
        self.off_thread(move |this| this.reopen(opener, seen)).await
    }

    /// Draws a new active key. The one that was active opens what it sealed, and seals nothing more here; a process that
    /// has not refreshed its ring may go on to use it.
    ///
    /// # Errors
    /// [`VaultError::KeyRefused`] when the ring is full; [`VaultError::AlreadyLocked`], [`VaultError::LockFailed`]; those
    /// of [`refresh`](Self::refresh): the file is as it was. [`VaultError::WriteFailed`]: so it is, unless it is the
    /// directory that could not be synced; then refresh, and see.
    ///
    /// # Cancel safety
    /// When the future is dropped, the change was made, or will be, or never.
    pub async fn rotate(&self, ring: &Keyring) -> Result<Keyring> {
        self.change(ring, |ring, at, entropy| ring.rotate(at, entropy)).await
    }

    /// Destroys a key that is there to decrypt only, and looks at nothing that is sealed with it: that is lost for good, and
    /// so are backups of it. [`Vault::retire_key`](crate::Vault::retire_key) looks first.
    ///
    /// # Errors
    /// [`VaultError::UnknownKey`]; [`VaultError::KeyRefused`] when it is the active one or retired already; the others as
    /// by [`rotate`](Self::rotate).
    ///
    /// # Cancel safety
    /// As [`rotate`](Self::rotate).
    pub async fn retire(&self, ring: &Keyring, key: KeyId) -> Result<Keyring> {
        self.change(ring, move |ring, at, _| ring.retire(key, at)).await
    }

    /// Lets one more open the ring, with all that it has and will have. Nothing but the ring is written.
    ///
    /// # Errors
    /// [`VaultError::RecipientRefused`] when its name or its key is another's or cannot be, or there are 64;
    /// [`VaultError::KeyWrapFailed`]; the others as by [`rotate`](Self::rotate).
    ///
    /// # Cancel safety
    /// As [`rotate`](Self::rotate).
    pub async fn add_recipient(&self, ring: &Keyring, recipient: NewRecipient) -> Result<Keyring> {
        let (slot, _) = self.prepare(ring.id(), recipient).await?;
        self.change(ring, move |ring, _, _| ring.add(slot)).await
    }

    /// Lets a recipient open the ring no more. Nothing but the ring is written.
    ///
    /// It may have kept what it could read: the keys until now, and the ring's own secret, by which it could put a ring of
    /// its own in this one's place if it can write there. [`rotate`](Self::rotate) afterwards, and what is sealed from
    /// then on is out of its reach.
    ///
    /// # Errors
    /// [`VaultError::RecipientNotFound`]; [`VaultError::RecipientRefused`] when it is the one that `ring` was opened for;
    /// the others as by [`rotate`](Self::rotate).
    ///
    /// # Cancel safety
    /// As [`rotate`](Self::rotate).
    pub async fn remove_recipient(&self, ring: &Keyring, recipient: RecipientId) -> Result<Keyring> {
        self.change(ring, move |ring, _, _| ring.remove(recipient)).await
    }

    /// Copies the file as it is to `to`, durably and for its owner alone, in the place of what is there. Needs no key: the
    /// copy opens for the recipients of this moment, those who are removed later included.
    ///
    /// # Errors
    /// [`VaultError::KeyringNotFound`]; [`VaultError::ReadFailed`] when the file is damaged, or a newer version's;
    /// [`VaultError::WriteFailed`].
    ///
    /// # Cancel safety
    /// When the future is dropped, the copy is there, or will be, or never.
    pub async fn backup(&self, to: impl Into<PathBuf>) -> Result<()> {
        let to = to.into();
        self.off_thread(move |this| {
            let bytes =
                read_bounded(&*this.disk, &this.path, FILE_BYTES_MAX).map_err(|error| this.unread(error))?;
            let bytes = bytes.ok_or_else(|| VaultError::KeyringNotFound { path: this.path.to_path_buf() })?;
            format::decode(&this.path, &bytes).map_err(|error| this.unread(error))?;
            replace(&*this.disk, &to, &bytes)
                .map_err(|source| VaultError::WriteFailed { path: to.clone(), source })
        })
        .await
    }

    /// Puts `ring`, which was opened from a [copy](Self::backup) of this file, in the place of what is here. It is written
    /// anew, as a later generation than what is there, so that nobody takes it for an old ring that was put back.
    ///
    /// Keys that were drawn after the copy was made are lost with the ring that has them, and so is what is sealed by them:
    /// so a ring of a later generation is replaced only when that is said. One that is damaged is.
    ///
    /// # Errors
    /// [`VaultError::KeyringNewer`] when the ring here is newer than the copy and `despite_newer` is not given;
    /// [`VaultError::KeyringExists`] when it is another ring; [`VaultError::ReadFailed`] when a newer version wrote it;
    /// [`VaultError::AlreadyLocked`], [`VaultError::LockFailed`]: the file is as it was. [`VaultError::WriteFailed`]: so it
    /// is, unless it is the directory that could not be synced.
    ///
    /// # Cancel safety
    /// When the future is dropped, the ring was replaced, or will be, or never.
    pub async fn restore(&self, mut ring: Keyring, despite_newer: bool) -> Result<Keyring> {
        self.off_thread(move |this| {
            let _lock = this.lock()?;
            let there = match this.read() {
                Err(VaultError::ReadFailed { source: Error::Corrupt { .. }, .. }) => None,
                there => there?,
            };
            let path = this.path.to_path_buf();
            let generation = match there.map(|there| there.header) {
                Some(there) if there.ring != ring.id() => return Err(VaultError::KeyringExists { path }),
                Some(there) if there.generation > ring.generation() && !despite_newer => {
                    let (found, given) = (there.generation, ring.generation());
                    return Err(VaultError::KeyringNewer { path, found, given });
                }
                Some(there) => there.generation,
                None => 0,
            };
            ring.turn_after(generation, this.clock.wall());
            this.write(&ring)?;
            Ok(ring)
        })
        .await
    }

    async fn change(
        &self,
        ring: &Keyring,
        change: impl FnOnce(&mut Keyring, Timestamp, &dyn Entropy) -> Result<()> + Send + 'static,
    ) -> Result<Keyring> {
        let (opener, seen) = (ring.opener().clone(), ring.generation());
        self.off_thread(move |this| {
            let _lock = this.lock()?;
            let mut ring = this.reopen(opener, seen)?;
            let at = this.clock.wall();
            change(&mut ring, at, &*this.entropy)?;
            ring.turn(at);
            this.write(&ring)?;
            Ok(ring)
        })
        .await
    }

    /// A recipient of `ring` as it will stand in the file, its ring key not yet wrapped; and its secret, if that is known.
    async fn prepare(&self, ring: RingId, new: NewRecipient) -> Result<(Slot, Option<StaticSecret>)> {
        let NewRecipient { name, how } = new;
        if let Some(why) = name_refused(&name) {
            return Err(VaultError::RecipientRefused { name, why });
        }
        let added_at = self.clock.wall();
        let id = RecipientId::draw(added_at, &*self.entropy);
        let slot = |public, kept| Slot {
            id,
            name: name.clone(),
            added_at,
            public,
            kept,
            ephemeral: [0; KEY_BYTES],
            wrapped: Vec::new(),
        };
        let secret = draw_secret(&*self.entropy);
        let kept = match how {
            How::PublicKey(key) => return Ok((slot(key.0, Kept::Outside), None)),
            How::Passphrase { passphrase, cost } => {
                if let Some(why) = cost.refused() {
                    return Err(VaultError::RecipientRefused { name, why });
                }
                let (content, salt) = (slot_secret(&secret, &ring), Salt::draw(&*self.entropy));
                let sealed = self
                    .off_thread(move |_| passphrase_key(id, &passphrase, &salt, cost).seal(&content))
                    .await;
                Kept::Passphrase { salt, cost, sealed }
            }
            How::KeyWrap(wrap) => {
                let provider = wrap.provider().to_owned();
                if !(1..=NAME_BYTES_MAX).contains(&provider.len()) {
                    let why = "has a provider whose name does not have 1 to 255 bytes";
                    return Err(VaultError::RecipientRefused { name, why });
                }
                let sealed = match wrap.wrap(&slot_secret(&secret, &ring)).await {
                    Ok(sealed) => sealed,
                    Err(source) => return Err(VaultError::KeyWrapFailed { provider, source }),
                };
                if sealed.len() > WRAPPED_BYTES_MAX {
                    let why = "has a provider that makes more than 8 KiB of a secret";
                    return Err(VaultError::RecipientRefused { name, why });
                }
                Kept::KeyWrap { provider, sealed }
            }
        };
        Ok((slot(public_of(&secret), kept), Some(secret)))
    }

    /// Asks the service about each recipient of its name.
    async fn ask(&self, header: &Header, wrap: &dyn KeyWrap) -> Result<Opener> {
        let mut failed = None;
        for slot in &header.slots {
            match &slot.kept {
                Kept::KeyWrap { provider, sealed } if provider == wrap.provider() => {
                    match wrap.unwrap(sealed).await {
                        Ok(secret) => {
                            if let Some(opener) = opener_from(slot, &secret) {
                                return Ok(opener);
                            }
                        }
                        Err(source) => failed = Some(source),
                    }
                }
                _ => {}
            }
        }
        Err(match failed {
            Some(source) => VaultError::KeyWrapFailed { provider: wrap.provider().to_owned(), source },
            None => self.not_a_recipient(),
        })
    }

    /// The file, which must be there, and is there to stay.
    fn found(&self) -> Result<Sealed> {
        let file =
            self.read()?.ok_or_else(|| VaultError::KeyringNotFound { path: self.path.to_path_buf() })?;
        // Whoever replaced it may have been killed before its name was durable, and what is sealed with a key of this ring
        // must not outlive it.
        match sync_dir(&*self.disk, parent_of(&self.path), Site::ReplacedName) {
            Err(error) if error.kind() == io::ErrorKind::ReadOnlyFilesystem => {}
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {}
            other => other
                .map_err(Error::io("sync", parent_of(&self.path)))
                .map_err(|source| self.unread(source))?,
        }
        Ok(file)
    }

    fn read(&self) -> Result<Option<Sealed>> {
        read_bounded(&*self.disk, &self.path, FILE_BYTES_MAX)
            .and_then(|bytes| bytes.map(|bytes| format::decode(&self.path, &bytes)).transpose())
            .map_err(|source| self.unread(source))
    }

    /// [`refresh`](Self::refresh), on this thread, which may block.
    #[cfg(feature = "entities")]
    pub(crate) fn refresh_here(&self, ring: &Keyring) -> Result<Keyring> {
        self.reopen(ring.opener().clone(), ring.generation())
    }

    /// The ring as it is now, for who has seen generation `seen` of it.
    fn reopen(&self, opener: Opener, seen: u64) -> Result<Keyring> {
        let ring = Keyring::open(&self.path, self.found()?, opener)?;
        if ring.generation() < seen { Err(tampered(&self.path)) } else { Ok(ring) }
    }

    fn write(&self, ring: &Keyring) -> Result<()> {
        let bytes = ring.seal(&*self.entropy)?;
        replace(&*self.disk, &self.path, &bytes)
            .map_err(|source| VaultError::WriteFailed { path: self.path.to_path_buf(), source })
    }

    fn lock(&self) -> Result<DirLock> {
        let mut path = self.path.as_os_str().to_owned();
        path.push(".lock");
        lock::take(&*self.disk, &self.path, Path::new(&path))
    }

    fn unread(&self, source: Error) -> VaultError {
        VaultError::ReadFailed { path: self.path.to_path_buf(), source }
    }

    fn not_a_recipient(&self) -> VaultError {
        VaultError::NotARecipient { path: self.path.to_path_buf() }
    }

    async fn off_thread<T: Send + 'static>(&self, work: impl FnOnce(&Self) -> T + Send + 'static) -> T {
        let this = self.clone();
        off_thread(&*self.disk, move || work(&this)).await
    }
}

fn opener_of(header: &Header, identity: Identity) -> Option<Opener> {
    let public = identity.recipient().0;
    let slot = header.slots.iter().find(|slot| slot.public == public)?;
    Some(Opener { id: slot.id, secret: identity.secret, ring: identity.ring })
}

fn try_passphrase(slot: &Slot, passphrase: &Passphrase) -> Option<Opener> {
    let Kept::Passphrase { salt, cost, sealed } = &slot.kept else { return None };
    let secret = passphrase_key(slot.id, passphrase, salt, *cost).open(sealed).ok()?;
    opener_from(slot, &secret)
}

/// What seals a recipient's secret by a passphrase.
fn passphrase_key(id: RecipientId, passphrase: &Passphrase, salt: &Salt, cost: Argon2Cost) -> ContentKey {
    let key: DataKey = cost.derive(passphrase, salt);
    ContentKey::derive(&key, salt, &[b"locus passphrase".as_slice(), id.as_bytes()].concat())
}

/// What is sealed of a recipient: its secret, and the one ring that it opens.
fn slot_secret(secret: &StaticSecret, ring: &RingId) -> Zeroizing<Vec<u8>> {
    let mut content = Zeroizing::new(Vec::with_capacity(SLOT_SECRET_BYTES));
    content.extend_from_slice(secret.as_bytes());
    content.extend_from_slice(&ring.0);
    content
}

fn opener_from(slot: &Slot, content: &[u8]) -> Option<Opener> {
    let (secret, ring) = content.split_first_chunk::<KEY_BYTES>()?;
    let ring = RingId(ring.try_into().ok()?);
    Some(Opener { id: slot.id, secret: StaticSecret::from(*secret), ring: Some(ring) })
}

fn parent_of(path: &Path) -> &Path {
    path.parent().unwrap_or(Path::new(""))
}
