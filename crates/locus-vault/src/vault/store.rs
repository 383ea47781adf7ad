//! The vault itself.

use std::{path::PathBuf, sync::Arc, time::Duration};

use locus_core::{BoxError, Checksum};
use locus_fs::{LockGuard, LockMode, off_thread, on_the_spot};
use parking_lot::{Mutex, RwLock};
use serde::Serialize;
use serde_json::Value;
use tracing::{debug, warn};

use super::{
    entity::{Entity, not_json, parse},
    known::{Kept, Known, Seen},
    options::{Caching, PutOptions, VaultOptions},
    seal::{self, Draft, PROOF_BYTES},
    verify::VerifyReport,
};
use crate::{
    blobs::{BlobStore, EntityGuard, Found, ListCursor, ListPage, SweepReport},
    cipher::{ContentKey, Wiped},
    error::{Result, VaultError},
    expect::{self, Expect},
    id::EntityId,
    keyring::Keyring,
    metadata::{EntityMetadata, Incarnation, NAME_BYTES_MAX, Version},
    schemas::{self, SchemaMode, Schemas},
};

/// Encrypted entities with versions in a directory that any number of processes and hosts share.
///
/// Who reads takes no lock, and sees one write of an entity as a whole; one that another process just made may still be on
/// its way to the disk, and a power cut takes it back. Who changes one holds it alone: in this process in the order in which
/// calls came, among processes as it happens. Each change raises the version by one, and is durable when the call returns.
/// Cheap to clone; clones share everything.
#[derive(Debug, Clone)]
pub struct Vault {
    pub(super) inner: Arc<Inner>,
}

#[derive(Debug)]
pub(super) struct Inner {
    pub(super) blobs: BlobStore,
    ring: RwLock<Arc<Keyring>>,
    schemas: Schemas,
    options: VaultOptions,
    known: Mutex<Known>,
}

/// What the directory of schemas is called.
const SCHEMAS: &str = "schemas";

impl Vault {
    /// Opens the vault in `dir`, which is made when absent. Tries first whether its file system locks and replaces, because
    /// some on a network only say so.
    ///
    /// # Errors
    /// Those of [`BlobStore::open`]; [`VaultError::OtherKeyring`] when the vault is sealed by another keyring than the one
    /// that was given; [`VaultError::InvalidArgument`] when the writer's name is too long.
    ///
    /// # Cancel safety
    /// Directories and the marker may be there when the future was dropped.
    pub async fn open(dir: impl Into<PathBuf>, options: VaultOptions) -> Result<Self> {
        if options.writer.len() > NAME_BYTES_MAX {
            return Err(VaultError::InvalidArgument { name: "writer", why: "is longer than 255 bytes" });
        }
        let dir = dir.into();
        let ring = Some(options.keyring.info());
        let blobs = BlobStore::open_for(dir.clone(), options.blobs.clone(), ring).await?;
        let schemas = Schemas::new(Arc::clone(&blobs.options().disk), dir.join(SCHEMAS));
        let ring = RwLock::new(Arc::clone(&options.keyring));
        let known = Mutex::new(Known::new(options.cache_bytes_max));
        Ok(Self { inner: Arc::new(Inner { blobs, ring, schemas, options, known }) })
    }

    /// The entity.
    ///
    /// # Errors
    /// [`VaultError::FileNotFound`]; [`VaultError::Tampered`] when it is not what was written under this name;
    /// [`VaultError::UnknownKey`]; [`VaultError::RolledBack`] when this process has seen a later version of it (it remembers
    /// those of the last 32,768 entities at least); [`VaultError::Foreign`]; [`VaultError::TooLarge`];
    /// [`VaultError::ReadFailed`], also of what a newer version wrote.
    ///
    /// # Cancel safety
    /// Dropping the future has no effect.
    pub async fn get(&self, id: &EntityId) -> Result<Entity> {
        let (caching, clock) = (self.inner.options.caching, &self.inner.blobs.options().clock);
        if let Caching::Ttl(ttl) = caching
            && let Some(kept) = self.inner.known.lock().kept(id)
            && clock.monotonic().saturating_sub(kept.at) < ttl
        {
            return Ok(kept.entity);
        }
        if let Some(entity) = self.inner.get_here(id) {
            on_the_spot().await;
            return Ok(entity);
        }
        let id = id.clone();
        self.run(move |inner| inner.get(&id)).await
    }

    /// The entity, when it keeps to this schema.
    ///
    /// # Errors
    /// [`VaultError::SchemaRejected`] when it was written by another one, or by none; those of [`get`](Self::get).
    ///
    /// # Cancel safety
    /// Dropping the future has no effect.
    pub async fn get_as(&self, id: &EntityId, schema: &str) -> Result<Entity> {
        let entity = self.get(id).await?;
        let found = entity.metadata().schema.as_deref();
        if found == Some(schema) {
            return Ok(entity);
        }
        let why = match found {
            Some(found) => format!("it keeps to schema {found}, where {schema} was asked for"),
            None => format!("it keeps to no schema, where {schema} was asked for"),
        };
        Err(VaultError::SchemaRejected { path: String::new(), why: why.into() })
    }

    /// What is known about an entity, proven by its seal; of one that was deleted, when and by whom, for a while.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    ///
    /// # Cancel safety
    /// Dropping the future has no effect.
    pub async fn stat(&self, id: &EntityId) -> Result<EntityMetadata> {
        let id = id.clone();
        self.run(move |inner| inner.head(&id)?.ok_or(VaultError::FileNotFound { id })).await
    }

    /// Whether there is an entity of this name.
    ///
    /// # Errors
    /// As [`get`](Self::get), but for [`VaultError::FileNotFound`].
    ///
    /// # Cancel safety
    /// Dropping the future has no effect.
    pub async fn exists(&self, id: &EntityId) -> Result<bool> {
        let id = id.clone();
        self.run(move |inner| Ok(inner.head(&id)?.is_some_and(|found| !found.is_deleted))).await
    }

    /// Writes `value` as JSON in the place of what is expected to be there, durably, and says which version it is.
    ///
    /// # Errors
    /// [`VaultError::Conflict`] when something else is there; [`VaultError::NotJson`] when the value cannot be said in JSON,
    /// or names a schema and is none; [`VaultError::SchemaRejected`], [`VaultError::SchemaNotFound`] and
    /// [`VaultError::SchemaInvalid`] as [`Schemas::check`] says them;
    /// [`VaultError::InvalidArgument`]; [`VaultError::TooLarge`]; [`VaultError::LockTimeout`]; [`VaultError::LockFailed`];
    /// [`VaultError::ReadOnly`]; [`VaultError::ShuttingDown`]; those of [`get`](Self::get) about what is there. After
    /// [`VaultError::WriteFailed`] the [outcome](VaultError::outcome) says whether it may be there nevertheless; after all
    /// others nothing was written.
    ///
    /// # Cancel safety
    /// Who drops the future before it has the lock has written nothing. From then on the write comes to its end, and the
    /// lock is held until then.
    pub async fn put<T: Serialize + ?Sized>(
        &self,
        id: &EntityId,
        value: &T,
        options: impl Into<PutOptions>,
    ) -> Result<Version> {
        self.put_bytes(id, to_json(id, value)?, options).await
    }

    /// As [`put`](Self::put), of a content that need not be JSON.
    ///
    /// # Errors
    /// As [`put`](Self::put).
    ///
    /// # Cancel safety
    /// As [`put`](Self::put).
    pub async fn put_bytes(
        &self,
        id: &EntityId,
        content: Vec<u8>,
        options: impl Into<PutOptions>,
    ) -> Result<Version> {
        let (content, options, entity) = (Wiped::new(content), options.into(), id.clone());
        self.run_locked(id, move |inner, lock| inner.put(&lock, &entity, options, content)).await
    }

    /// As [`put_bytes`](Self::put_bytes), under a lock that is held already.
    ///
    /// # Errors
    /// As there, and [`VaultError::InvalidArgument`] when the guard is another vault's or shared.
    ///
    /// # Cancel safety
    /// The write comes to its end, and the lock is held until then.
    pub async fn put_with(
        &self,
        guard: &EntityGuard,
        content: Vec<u8>,
        options: impl Into<PutOptions>,
    ) -> Result<Version> {
        let (content, options, id) = (Wiped::new(content), options.into(), guard.id().clone());
        let lock = self.inner.blobs.exclusive(guard, &id)?;
        self.run(move |inner| inner.put(&lock, &id, options, content)).await
    }

    /// Changes an entity that is JSON: takes its lock, reads it, lets `change` change it, writes it, durably, and says which
    /// version it is. No other change comes between. `change` is called where it may block, and nothing waits for it but
    /// who wants this entity.
    ///
    /// # Errors
    /// [`VaultError::FileNotFound`]; [`VaultError::ChangeFailed`] with what `change` said; [`VaultError::NotJson`]; those of
    /// [`put`](Self::put).
    ///
    /// # Cancel safety
    /// As [`put`](Self::put): from the moment it has the lock, `change` is called and what it made is written.
    pub async fn update(
        &self,
        id: &EntityId,
        change: impl FnOnce(&mut Value) -> Result<(), BoxError> + Send + 'static,
    ) -> Result<Version> {
        let entity = id.clone();
        self.run_locked(id, move |inner, lock| inner.update(&lock, &entity, change)).await
    }

    /// As [`update`](Self::update), under a lock that is held already.
    ///
    /// # Errors
    /// As there, and [`VaultError::InvalidArgument`] when the guard is another vault's or shared.
    ///
    /// # Cancel safety
    /// `change` is called, what it made is written, and the lock is held until then.
    pub async fn update_with(
        &self,
        guard: &EntityGuard,
        change: impl FnOnce(&mut Value) -> Result<(), BoxError> + Send + 'static,
    ) -> Result<Version> {
        let (lock, id) = (self.inner.blobs.exclusive(guard, guard.id())?, guard.id().clone());
        self.run(move |inner| inner.update(&lock, &id, change)).await
    }

    /// Deletes an entity, durably. It is remembered for a while that and by whom it was: the answer is the version of that.
    ///
    /// # Errors
    /// [`VaultError::FileNotFound`]; those of [`put`](Self::put).
    ///
    /// # Cancel safety
    /// As [`put`](Self::put).
    pub async fn delete(&self, id: &EntityId, expect: Expect) -> Result<Version> {
        let entity = id.clone();
        self.run_locked(id, move |inner, lock| inner.delete(&lock, entity, expect)).await
    }

    /// Locks an entity, for as long as the answer lives: shared, so that nobody changes it meanwhile, or to change it. Waits
    /// for `timeout` while somebody else holds it; without one for the time that the vault was opened with. Changes without
    /// this guard wait for it, those of the one who holds it, too.
    ///
    /// # Errors
    /// [`VaultError::LockTimeout`] names who has it; [`VaultError::LockFailed`]; [`VaultError::ReadOnly`];
    /// [`VaultError::ShuttingDown`].
    ///
    /// # Cancel safety
    /// Who drops the future has stopped waiting, and holds nothing.
    pub async fn lock(
        &self,
        id: &EntityId,
        mode: LockMode,
        timeout: Option<Duration>,
    ) -> Result<EntityGuard> {
        self.inner.blobs.lock(id, mode, timeout).await
    }

    /// As [`lock`](Self::lock), but waits for nobody.
    ///
    /// # Errors
    /// [`VaultError::AlreadyLocked`] names who has it; the others as [`lock`](Self::lock).
    ///
    /// # Cancel safety
    /// As [`lock`](Self::lock).
    pub async fn try_lock(&self, id: &EntityId, mode: LockMode) -> Result<EntityGuard> {
        self.inner.blobs.try_lock(id, mode).await
    }

    /// The entities that there are: see [`BlobStore::list`]. Nothing of it is proven.
    ///
    /// # Errors
    /// As there.
    ///
    /// # Cancel safety
    /// Dropping the future has no effect.
    pub async fn list(&self, from: Option<ListCursor>) -> Result<ListPage> {
        self.inner.blobs.list(from).await
    }

    /// Opens everything that there is, and tells what does not open. Reads the whole vault.
    ///
    /// # Errors
    /// [`VaultError::ReadFailed`] when a directory cannot be listed; of entities the report tells.
    ///
    /// # Cancel safety
    /// Dropping the future has no effect.
    pub async fn verify(&self) -> Result<VerifyReport> {
        let (mut report, mut from) = (VerifyReport::default(), None);
        loop {
            let page = self.run(move |inner| inner.blobs.shelf().list(from, true)).await?;
            report.damaged.extend(page.unreadable);
            for metadata in page.entries {
                report = self.run(move |inner| inner.verify(&metadata.id, report)).await;
            }
            from = page.next;
            if from.is_none() {
                return Ok(report);
            }
        }
    }

    /// Tidies up: see [`BlobStore::sweep`]. Needs no key.
    ///
    /// # Errors
    /// As there.
    ///
    /// # Cancel safety
    /// As there.
    pub async fn sweep(&self) -> Result<SweepReport> {
        self.inner.blobs.sweep(self.inner.options.tombstone_retention).await
    }

    /// The keys that it seals and opens with.
    #[must_use]
    pub fn keyring(&self) -> Arc<Keyring> {
        Arc::clone(&self.inner.ring.read())
    }

    /// Seals and opens with these keys from now on: of the same ring, after it was changed. What is under way goes on with
    /// those that it began with.
    pub fn set_keyring(&self, keyring: Arc<Keyring>) {
        *self.inner.ring.write() = keyring;
    }

    /// The schemas that contents are checked against. Somebody else's are seen as soon as they are there.
    #[must_use]
    pub fn schemas(&self) -> &Schemas {
        &self.inner.schemas
    }

    /// The layer beneath, which opens nothing.
    #[must_use]
    pub fn blobs(&self) -> &BlobStore {
        &self.inner.blobs
    }

    /// Takes no more changes, and returns when none is under way and no guard is left.
    ///
    /// # Cancel safety
    /// No more changes are taken once this was polled.
    pub async fn close(&self) {
        self.inner.blobs.close().await;
    }

    /// The right to change an entity. Goes with the work, and is let go where that may block.
    pub(super) async fn hold(&self, id: &EntityId) -> Result<LockGuard> {
        let guard = self.lock(id, LockMode::Exclusive, None).await?;
        self.inner.blobs.exclusive(&guard, id)
    }

    /// Does `work` where it may block, with the right to change the entity.
    async fn run_locked<T: Send + 'static>(
        &self,
        id: &EntityId,
        work: impl FnOnce(&Inner, LockGuard) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let inner = Arc::clone(&self.inner);
        self.inner.blobs.locked(id, move |lock| work(&inner, lock)).await
    }

    /// Does `work` where it may block.
    pub(super) async fn run<T: Send + 'static>(&self, work: impl FnOnce(&Inner) -> T + Send + 'static) -> T {
        let inner = Arc::clone(&self.inner);
        off_thread(&*self.inner.blobs.options().disk, move || work(&inner)).await
    }
}

fn to_json<T: Serialize + ?Sized>(id: &EntityId, value: &T) -> Result<Vec<u8>> {
    serde_json::to_vec(value).map_err(|error| not_json(id, &error))
}

/// All of these block.
impl Inner {
    pub(super) fn ring(&self) -> Arc<Keyring> {
        Arc::clone(&self.ring.read())
    }

    /// Does `work` with the keys; once more with those that the keyring's file has now, when one is lacking.
    pub(super) fn with_ring<T>(&self, work: impl Fn(&Keyring) -> Result<T>) -> Result<T> {
        let ring = self.ring();
        let lacks = match work(&ring) {
            Err(lacks @ VaultError::UnknownKey { retired: false, .. }) => lacks,
            done => return done,
        };
        match self.renew_ring(&ring) {
            Ok(now) if now.generation() > ring.generation() => work(&now),
            Ok(_) => Err(lacks),
            Err(error) => {
                warn!(%error, "the keyring could not be read again");
                Err(lacks)
            }
        }
    }

    /// The ring as it is now, where `known` was: as its file has it, when there is one.
    pub(super) fn renew_ring(&self, known: &Keyring) -> Result<Arc<Keyring>> {
        let read = self.options.keyring_file.as_ref().map(|file| file.refresh_here(known)).transpose()?;
        let mut ring = self.ring.write();
        // Another task may have been faster.
        if let Some(read) =
            read.filter(|read| read.id() == ring.id() && read.generation() > ring.generation())
        {
            debug!(generation = read.generation(), "keyring read again");
            *ring = Arc::new(read);
        }
        Ok(Arc::clone(&ring))
    }

    /// Who writes here.
    pub(super) fn writer(&self) -> &str {
        &self.options.writer
    }

    pub(super) fn seen(&self, id: &EntityId) -> Option<Seen> {
        self.known.lock().seen(id)
    }

    /// As [`get`](Self::get), but waits for nothing. `None` when that cannot be, and when anything is wrong.
    fn get_here(&self, id: &EntityId) -> Option<Entity> {
        let look = |wanted: &dyn Fn(&[u8]) -> u64| Ok(self.blobs.shelf().read_some_here(id, wanted));
        self.get_by(id, look, |found| seal::content_key(found, &self.ring())).ok()
    }

    pub(super) fn get(&self, id: &EntityId) -> Result<Entity> {
        let look = |wanted: &dyn Fn(&[u8]) -> u64| self.blobs.shelf().read_some(id, wanted);
        self.get_by(id, look, |found| self.with_ring(|ring| seal::content_key(found, ring)))
    }

    fn get_by(
        &self,
        id: &EntityId,
        look: impl FnOnce(&dyn Fn(&[u8]) -> u64) -> Result<Option<Found>>,
        key: impl FnOnce(&Found) -> Result<ContentKey>,
    ) -> Result<Entity> {
        let (before, kept) = {
            let mut known = self.known.lock();
            (known.seen(id), known.kept(id))
        };
        let at = self.blobs.options().clock.monotonic();
        let is_kept =
            |preamble: &[u8]| kept.as_ref().is_some_and(|kept| kept.preamble == Checksum::of(preamble));
        let found = look(&|preamble| if is_kept(preamble) { 0 } else { u64::MAX })?;
        let found = found.ok_or_else(|| VaultError::FileNotFound { id: id.clone() })?;
        let preamble = Checksum::of(found.preamble());
        if let Some(kept) = kept
            && kept.preamble == preamble
        {
            let entity = kept.entity;
            self.believe(id, before, Seen { version: entity.version(), preamble })?;
            self.keep(id, Kept { entity: entity.clone(), preamble, at });
            return Ok(entity);
        }
        let key = key(&found)?;
        let (metadata, content) = seal::open(found, &key)?;
        let is_newest = self.believe(id, before, Seen { version: metadata.version, preamble })?;
        if metadata.is_deleted {
            return Err(VaultError::FileNotFound { id: id.clone() });
        }
        let entity = Entity { metadata: Arc::new(metadata), content: Arc::new(content) };
        if is_newest {
            self.keep(id, Kept { entity: entity.clone(), preamble, at });
        }
        Ok(entity)
    }

    /// What is proven about the entity's file; `None` when there is none.
    pub(super) fn head(&self, id: &EntityId) -> Result<Option<EntityMetadata>> {
        let before = self.seen(id);
        let is_proven = |preamble: &[u8]| before.is_some_and(|seen| seen.preamble == Checksum::of(preamble));
        let wanted = |preamble: &[u8]| if is_proven(preamble) { 0 } else { PROOF_BYTES };
        let Some(found) = self.blobs.shelf().read_some(id, wanted)? else { return Ok(None) };
        if !is_proven(found.preamble()) {
            self.with_ring(|ring| seal::prove(&found, ring))?;
        }
        self.believe(id, before, Seen::of(&found))?;
        Ok(Some(found.metadata))
    }

    /// Refuses what is older than what was known `before` the file was opened, and notes what is not. Whether it is the
    /// newest that is known.
    pub(super) fn believe(&self, id: &EntityId, before: Option<Seen>, read: Seen) -> Result<bool> {
        match before.map(|seen| seen.version) {
            Some(seen)
                if seen.incarnation == read.version.incarnation && seen.number > read.version.number =>
            {
                Err(VaultError::RolledBack { id: id.clone(), seen, found: read.version })
            }
            _ => Ok(self.known.lock().note_read(id, before, read)),
        }
    }

    fn keep(&self, id: &EntityId, kept: Kept) {
        if self.options.caching != Caching::Off {
            self.known.lock().keep(id, kept);
        }
    }

    fn put(&self, lock: &LockGuard, id: &EntityId, options: PutOptions, content: Wiped) -> Result<Version> {
        options.schema.as_deref().map_or(Ok(()), schemas::check_id)?;
        let found = self.head(id)?;
        options.expect.check(id, found.as_ref())?;
        self.write(lock, id, found.as_ref(), options.schema, content)
    }

    fn update(
        &self,
        lock: &LockGuard,
        id: &EntityId,
        change: impl FnOnce(&mut Value) -> Result<(), BoxError>,
    ) -> Result<Version> {
        let entity = self.get(id)?;
        let mut value = parse(id, entity.bytes())?;
        change(&mut value).map_err(|source| VaultError::ChangeFailed { id: id.clone(), source })?;
        let content = Wiped::new(to_json(id, &value)?);
        self.write(lock, id, Some(entity.metadata()), None, content)
    }

    /// Writes the version after `found`.
    fn write(
        &self,
        lock: &LockGuard,
        id: &EntityId,
        found: Option<&EntityMetadata>,
        schema: Option<String>,
        content: Wiped,
    ) -> Result<Version> {
        let blobs = self.blobs.options();
        if found.is_none() {
            // What is there shows by its key when the ring was rotated; here nothing does.
            self.renew_ring(&self.ring())?;
        }
        let version = expect::next(found, || Incarnation::draw(blobs.clock.wall(), &*blobs.entropy))?;
        let there = found.filter(|found| !found.is_deleted);
        let schema = schema.or_else(|| there.and_then(|there| there.schema.clone()));
        self.check_schema(id, schema.as_deref(), &content)?;
        let writer = &self.options.writer;
        let written_at = blobs.clock.wall();
        let draft = Draft { id, version, schema, writer, written_at, is_deleted: false, content: &content };
        let (metadata, preamble) = self.publish(lock, draft)?;
        let entity = Entity { metadata: Arc::new(metadata), content: Arc::new(content) };
        self.keep(id, Kept { entity, preamble, at: blobs.clock.monotonic() });
        debug!(%id, %version, "entity written");
        Ok(version)
    }

    /// By the database's rule.
    pub(super) fn check_schema(&self, id: &EntityId, schema: Option<&str>, content: &[u8]) -> Result<()> {
        let mode = self.options.schemas.of(id.database());
        if mode == SchemaMode::Off || (mode == SchemaMode::IfPresent && schema.is_none()) {
            return Ok(());
        }
        let content: Value = parse(id, content)?;
        self.schemas.check_here(mode, schema, &content).map(drop)
    }

    fn delete(&self, lock: &LockGuard, id: EntityId, expect: Expect) -> Result<Version> {
        let found = self.head(&id)?.filter(|found| !found.is_deleted);
        let Some(found) = found else { return Err(VaultError::FileNotFound { id }) };
        expect.check(&id, Some(&found))?;
        let version = expect::next(Some(&found), || found.version.incarnation)?;
        let (schema, writer) = (found.schema, &self.options.writer);
        let written_at = self.blobs.options().clock.wall();
        let draft = Draft { id: &id, version, schema, writer, written_at, is_deleted: true, content: &[] };
        self.publish(lock, draft)?;
        debug!(%id, %version, "entity deleted");
        Ok(version)
    }

    /// Whoever calls holds the entity alone, by `_lock`.
    pub(super) fn publish(&self, _lock: &LockGuard, draft: Draft<'_>) -> Result<(EntityMetadata, Checksum)> {
        let (id, version) = (draft.id, draft.version);
        let sealed = seal::seal(draft, &self.ring(), &*self.blobs.options().entropy);
        // What is kept is not believed while nobody knows what is there.
        self.known.lock().forget_content(id);
        self.blobs.shelf().publish(id, &sealed.bytes)?;
        self.known.lock().note_written(id, Seen { version, preamble: sealed.preamble });
        Ok((sealed.metadata, sealed.preamble))
    }
}
