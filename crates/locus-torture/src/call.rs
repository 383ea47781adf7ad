//! The calls that are made, and what their answers mean.

use std::{collections::BTreeMap, fmt, future::Future, ops::Range, path::PathBuf, rc::Rc, time::Duration};

use bytes::Bytes;
use locus_cleanup::{Sweep, SweepOptions};
use locus_core::{
    Checksum, Durability, Error, FailOutcome, FileKey, IdempotencyKey, Lease, LeaseOptions, MetadataStore,
    Owner, TenantId, TenantManager, TenantStatus, Timestamp, Upkeep, UploadId,
};
use locus_storage::{Chunk, EngineOptions, LeasedFile, UploadOptions, WriteOptions};

use crate::{
    copy,
    inbox::{Inbox, Place, Source},
    limits,
    limits::{Bounded, Most, Refusal, upload_directory},
    looking,
    looking::Looked,
    model::{File, MAX_DELIVERIES, Model, State, Touched},
    upkeep,
    uploads::Upload,
    violation::{Kind, Violation, ensure},
    volumes,
    world::Engine,
};

/// How many tenants without files there are.
pub const GUESTS: usize = 3;
/// How many logical directories there are, beside the root,
pub const DIRECTORIES: u64 = 3;
/// in which files lie that were adopted.
pub const ROOT: u64 = DIRECTORIES;

/// A call, with all it needs.
#[derive(Clone)]
#[allow(missing_docs, reason = "each is the call of its name")]
pub enum Call {
    Write {
        tenant: usize,
        /// Contents, each with its directory. All are one batch.
        files: Vec<(Vec<u8>, u64)>,
        /// The idempotency key; then there is one file.
        name: Option<String>,
    },
    Lease {
        tenant: usize,
        owner: Owner,
        ttl: Duration,
        max: usize,
        /// What must be handed out.
        expected: Vec<FileKey>,
    },
    LeaseAny {
        ttl: Duration,
        /// One of these must be handed out, if there is one.
        expected: Vec<FileKey>,
    },
    LeaseKey {
        key: FileKey,
        ttl: Duration,
    },
    Complete {
        keys: Vec<FileKey>,
    },
    Fail {
        key: FileKey,
    },
    Release {
        key: FileKey,
    },
    Renew {
        key: FileKey,
    },
    Delete {
        key: FileKey,
    },
    Reset {
        key: FileKey,
    },
    DeadLetter {
        key: FileKey,
    },
    Requeue {
        key: FileKey,
    },
    /// A blob that nobody wrote, of this content, becomes a file.
    Adopt {
        tenant: usize,
        key: FileKey,
        content: Vec<u8>,
    },
    Limit {
        of: Bounded,
        /// `None`: what the settings say, which is nothing.
        most: Option<Most>,
    },
    /// The files of a volume move to the others, and nothing new comes there.
    Drain {
        volume: usize,
    },
    StopDraining {
        volume: usize,
    },
    /// The store gets its next key, and what is there is sealed with it.
    SealAnew,
    /// A volume is unmounted, its files wait, and it is mounted again.
    Remount {
        volume: usize,
    },
    /// A tenant without files is created, or its status set.
    Guest {
        number: usize,
        status: TenantStatus,
    },
    /// A completion by a lease that was overtaken.
    Stale {
        key: FileKey,
    },
    Read {
        key: FileKey,
    },
    Materialize {
        key: FileKey,
    },
    /// The overdue sweep, and what it must find.
    Expire {
        overdue: Vec<FileKey>,
    },
    /// A copy of everything, at a place of its own.
    Backup {
        number: u64,
    },
    /// Begins an upload of this content.
    Begin {
        tenant: usize,
        content: Vec<u8>,
    },
    /// A piece of an upload.
    Piece {
        id: UploadId,
        range: Range<u64>,
    },
    Finish {
        id: UploadId,
    },
    Abort {
        id: UploadId,
    },
    /// A source comes to lie in a watched folder, over the one that lay there, if one did.
    Put {
        place: Place,
        source: Source,
    },
    /// A tenant takes no files from watchers, or takes them again.
    Shut {
        tenant: usize,
        yes: bool,
    },
    /// A watcher looks through its folder.
    Look {
        folder: usize,
    },
    Sync,
    Checkpoint,
    Reap,
    Leftovers,
    Forward,
    Spill,
}

/// What a call came back with.
#[derive(Debug)]
pub enum Answer {
    /// Done.
    Done,
    /// Keys of files that were written.
    Keys(Vec<FileKey>),
    /// The quota is full.
    Full(Refusal),
    /// Files that were leased.
    Leased(Vec<LeasedFile>),
    /// A lease with a new deadline.
    Renewed(Lease),
    /// What became of a failed file.
    Failed(FailOutcome),
    /// A tenant, with the time at which it was created.
    Tenant(Timestamp),
    /// A content.
    Content(Bytes),
    /// Where a file lies, asked twice, and whether it was moved for that; `None` when somebody else may have moved it.
    Path(PathBuf, PathBuf, Option<bool>),
    /// How many.
    Count(usize),
    /// An upload.
    Begun(UploadId),
    /// What a watcher did.
    Looked(Looked),
}

impl Call {
    /// Whether it may not run beside others: what it does depends on all files.
    #[must_use]
    pub fn runs_alone(&self) -> bool {
        matches!(
            self,
            Self::LeaseAny { .. }
                | Self::Expire { .. }
                | Self::Drain { .. }
                | Self::SealAnew
                | Self::Remount { .. }
                | Self::Requeue { .. }
        )
    }

    /// The files that it may change, as far as that is known before it is made.
    #[must_use]
    pub fn keys(&self) -> Vec<FileKey> {
        match self {
            Self::Lease { expected, .. } | Self::LeaseAny { expected, .. } => expected.clone(),
            Self::Complete { keys } | Self::Expire { overdue: keys } => keys.clone(),
            Self::LeaseKey { key, .. }
            | Self::Fail { key }
            | Self::Release { key }
            | Self::Renew { key }
            | Self::Delete { key }
            | Self::Reset { key }
            | Self::DeadLetter { key }
            | Self::Requeue { key }
            | Self::Stale { key }
            | Self::Read { key }
            | Self::Materialize { key } => vec![*key],
            _ => Vec::new(),
        }
    }

    /// Makes it. `alone`: nothing else runs meanwhile.
    pub fn make(
        &self,
        engine: &Rc<Engine>,
        model: &Model,
        alone: bool,
    ) -> impl Future<Output = Result<Answer, Error>> + use<> {
        let (call, engine) = (self.clone(), engine.clone());
        let of = if matches!(self, Self::Stale { .. }) { &model.overtaken } else { &model.leases };
        let leases: Vec<Lease> = self.keys().iter().filter_map(|key| of.get(key).cloned()).collect();
        let tenant = self.keys().first().and_then(|key| model.facts.files.get(key)).map(|file| file.tenant);
        let upload = match self {
            Self::Piece { id, .. } | Self::Finish { id } | Self::Abort { id } => {
                model.uploads.get(id).cloned()
            }
            _ => None,
        };
        let look = match self {
            Self::Look { folder } => Some(looking::look(&engine, model, *folder)),
            _ => None,
        };
        async move {
            match (upload, look) {
                (Some(upload), _) => call.run_upload(&engine, &upload).await,
                (_, Some(look)) => look.await,
                _ => call.run(&engine, &leases, tenant.unwrap_or_default(), alone).await,
            }
        }
    }

    /// A call for an upload under way.
    async fn run_upload(self, engine: &Engine, upload: &Upload) -> Result<Answer, Error> {
        let (pool, tenant) = (&engine.pool, &engine.tenants[upload.tenant]);
        match self {
            Self::Piece { id, range } => {
                let handle = pool.resume_upload(tenant, &id).await?;
                let piece = Bytes::copy_from_slice(upload.bytes(&range));
                let chunk = Chunk::new(piece.clone()).checksum(Checksum::of(&piece));
                handle.write_at(range.start, chunk).await.map(|()| Answer::Done)
            }
            Self::Finish { id } => {
                let key = pool.finish_upload(tenant, &id).await?;
                let again = pool.finish_upload(tenant, &id).await?;
                Ok(Answer::Keys(if key == again { vec![key] } else { vec![key, again] }))
            }
            Self::Abort { id } => {
                let aborted = pool.resume_upload(tenant, &id).await?.abort().await?;
                Ok(Answer::Count(usize::from(aborted)))
            }
            _ => Ok(Answer::Done),
        }
    }

    async fn run(
        self,
        engine: &Engine,
        leases: &[Lease],
        owner_of_key: usize,
        alone: bool,
    ) -> Result<Answer, Error> {
        let Engine { store, pool, scheduler, sweeper, directory, tenants, .. } = engine;
        let context = &tenants[owner_of_key];
        let done = |()| Answer::Done;
        match self {
            Self::Write { tenant, files, name } => {
                let batch = files.into_iter().map(|(content, directory)| {
                    let mut options = WriteOptions::new().directory(directory_name(directory));
                    if content.len() % 2 == 1 {
                        options = options.original_name("scan.pdf").property("n", directory.to_string());
                    }
                    if let Some(name) = &name {
                        options = options.idempotency_key(IdempotencyKey::until_forgotten(name.as_str()));
                    }
                    (content.into(), options)
                });
                refused(pool.write_batch(&tenants[tenant], batch.collect()).await.map(Answer::Keys))
            }
            Self::Lease { tenant, owner, ttl, max, .. } => {
                let options = LeaseOptions::new().owner(owner).ttl(ttl).name("worker");
                scheduler.next_batch_with(&tenants[tenant], max, options).await.map(Answer::Leased)
            }
            Self::LeaseAny { ttl, .. } => {
                let leased = scheduler.next_any_with(LeaseOptions::new().ttl(ttl)).await;
                leased.map(|file| Answer::Leased(file.into_iter().collect()))
            }
            Self::LeaseKey { key, ttl } => {
                let leased = scheduler.lease_key_with(context, &key, LeaseOptions::new().ttl(ttl)).await;
                leased.map(|file| Answer::Leased(vec![file]))
            }
            Self::Complete { .. } => scheduler.complete_batch(leases).await.map(done),
            Self::Fail { .. } => scheduler.fail(&leases[0], "broken on purpose").await.map(Answer::Failed),
            Self::Release { .. } => scheduler.release(&leases[0]).await.map(done),
            Self::Renew { .. } => scheduler.renew(&leases[0]).await.map(Answer::Renewed),
            Self::Delete { key } => pool.delete_with(context, &key, true).await.map(done),
            Self::Reset { key } => scheduler.reset(context, &key).await.map(done),
            Self::DeadLetter { key } => {
                pool.dead_letter(context.id(), &key).await.map(|moved| Answer::Count(usize::from(moved)))
            }
            Self::Requeue { key } => {
                let requeued = upkeep::requeue(engine, context, &key).await;
                refused(requeued.map(|requeued| Answer::Count(usize::from(requeued))))
            }
            Self::Adopt { tenant, key, content } => {
                let adopted = upkeep::adopt(engine, &tenants[tenant], key, content).await;
                refused(adopted.map(|adopted| Answer::Count(usize::from(adopted))))
            }
            Self::Limit { of, most } => store.set_limit(of.scope(engine), Most::limit(most)).await.map(done),
            Self::Drain { volume } => volumes::drain(engine, volume).await.map(done),
            Self::StopDraining { volume } => pool.stop_draining(&volumes::id(volume)).await.map(done),
            Self::SealAnew => volumes::seal_anew(engine).await.map(done),
            Self::Remount { volume } => volumes::remount(engine, volume).await.map(Answer::Count),
            Self::Guest { number, status } => {
                let id = guest(number);
                let known = directory.try_get(&id).await?;
                if known.is_none() {
                    directory.create(&id, BTreeMap::new()).await?;
                }
                let tenant = directory.set_status(&id, status).await?;
                Ok(Answer::Tenant(tenant.created_at))
            }
            Self::Stale { .. } => match scheduler.complete(&leases[0]).await {
                Err(Error::LeaseLost { .. }) => Ok(Answer::Done),
                Ok(()) => Ok(Answer::Count(1)),
                Err(why) => Err(why),
            },
            Self::Read { key } => pool.read(context, &key).await?.bytes().await.map(Answer::Content),
            Self::Materialize { key } => {
                let before = pool.location(context, &key).await?.ok_or(Error::FileNotFound { key })?;
                let path = match pool.materialize(context, &key).await {
                    Err(Error::NotMaterializable { .. }) if engine.seals.is_some() => {
                        return Ok(Answer::Done);
                    }
                    // It lies on the mirror, which has no paths, or may go nowhere else.
                    Err(Error::NotMaterializable { .. } | Error::VolumeUnavailable { .. })
                        if engine.mirrored.is_some() =>
                    {
                        return Ok(Answer::Done);
                    }
                    path => path?,
                };
                let again = pool.materialize(context, &key).await?;
                Ok(Answer::Path(path, again, alone.then_some(before.volume_id.is_none())))
            }
            Self::Expire { .. } => store.expire(None, 1_000).await.map(Answer::Count),
            Self::Backup { number } => copy::take(engine, number).await.map(done),
            Self::Begin { tenant, content } => {
                let options = UploadOptions::new(content.len() as u64)
                    .directory(directory_name(upload_directory(&content)))
                    .expected_checksum(Checksum::of(&content));
                let begun = pool.upload(&tenants[tenant], options).await;
                refused(begun.map(|upload| Answer::Begun(upload.id())))
            }
            // Of an upload that is under way no more: it is not drawn.
            Self::Piece { id, .. } | Self::Finish { id } | Self::Abort { id } => {
                Err(Error::UploadNotFound { upload: id })
            }
            Self::Put { place, source } => {
                engine.inbox().put(&place, &source).map(done).map_err(looking::real)
            }
            Self::Shut { tenant, yes } => {
                engine.inbox().shut(tenant, yes);
                Ok(Answer::Done)
            }
            // By `looking::look`.
            Self::Look { .. } => Ok(Answer::Done),
            Self::Sync => store.sync().await.map(done),
            Self::Checkpoint => store.checkpoint().await.map(done),
            Self::Reap => sweeper.reap_step().await.map(|_| Answer::Done),
            Self::Leftovers => {
                sweeper.leftovers(SweepOptions::default()).await?;
                for sweep in [Sweep::EmptyDirectories, Sweep::Junk, Sweep::Missing] {
                    sweeper.run(sweep, SweepOptions::default()).await?;
                }
                Ok(Answer::Done)
            }
            Self::Forward => store.forward_step().await.map(|_| Answer::Done),
            Self::Spill => pool.spill_step().await.map(|_| Answer::Done),
        }
    }

    /// Holds the answer against the model and brings the model up to it. On a disk that is not `healthy`, files of a
    /// volume that failed may have been passed by.
    ///
    /// # Errors
    /// When the answer may not be.
    pub fn answered(
        &self,
        answer: Answer,
        model: &mut Model,
        options: &EngineOptions,
        now: Duration,
        healthy: bool,
        inbox: Option<&Inbox>,
    ) -> Result<Touched, Violation> {
        let durable = options.durability == Durability::Durable;
        let completes_durably =
            options.complete_durability.unwrap_or(options.durability) == Durability::Durable;
        let mut touched = Touched { keys: self.keys(), ..Touched::default() };
        match (self, answer) {
            (Self::Write { tenant, files, name }, Answer::Keys(keys)) => {
                let is_new = written(*tenant, files, name.as_deref(), &keys, model)?;
                touched.durable = durable && is_new;
                touched.keys = if is_new { keys } else { Vec::new() };
                if is_new {
                    limits::check_let_in(*tenant, &lengths(files), model)?;
                }
            }
            (Self::Begin { tenant, content }, Answer::Begun(id)) => {
                touched.durable = durable;
                let before = model.uploads.insert(id, Upload::new(*tenant, content.clone()));
                ensure(before.is_none(), Kind::Unexpected, || format!("{id} was given twice"))?;
                let new = [(content.len(), upload_directory(content))];
                limits::check_let_in(*tenant, &new, model)?;
            }
            (Self::Piece { id, range }, Answer::Done) => {
                if let Some(upload) = model.uploads.get_mut(id)
                    && !range.is_empty()
                {
                    // What was there already has no record of its own.
                    touched.durable = durable && upload.confirmed.gaps(range).next().is_some();
                    upload.sent.insert(range.clone());
                    upload.confirmed.insert(range.clone());
                }
            }
            (Self::Finish { id }, Answer::Keys(keys)) => {
                touched.durable = durable;
                let upload = model.uploads.remove(id);
                let upload = upload
                    .ok_or_else(|| Violation::new(Kind::Unexpected, format!("{id} was finished twice")))?;
                ensure(keys == [id.key()], Kind::Resurrected, || format!("upload {id} became {keys:?}"))?;
                let directory = upload_directory(&upload.content);
                written(upload.tenant, &[(upload.content, directory)], None, &keys, model)?;
                touched.keys = keys;
            }
            (Self::Abort { id }, Answer::Count(1)) => {
                touched.durable = durable;
                model.uploads.remove(id);
            }
            (Self::Write { tenant, files, .. }, Answer::Full(why)) => {
                limits::check_refused(*tenant, &lengths(files), &why, model)?;
            }
            (Self::Begin { tenant, content }, Answer::Full(why)) => {
                let new = [(content.len(), upload_directory(content))];
                limits::check_refused(*tenant, &new, &why, model)?;
            }
            (Self::Lease { owner, ttl, expected, tenant, .. }, Answer::Leased(files)) => {
                let keys: Vec<_> = files.iter().map(|file| file.key).collect();
                for file in &files {
                    model.leased(file, now, *owner, *ttl)?;
                }
                ensure(!healthy || keys == *expected, Kind::Unexpected, || {
                    format!("tenant {tenant} was handed {keys:?} and not {expected:?}")
                })?;
            }
            (Self::LeaseAny { ttl, expected }, Answer::Leased(files)) => {
                for file in &files {
                    model.leased(file, now, Owner::Process, *ttl)?;
                }
                touched.keys = files.iter().map(|file| file.key).collect();
                let fits = if expected.is_empty() {
                    touched.keys.is_empty()
                } else {
                    touched.keys.len() == 1 && expected.contains(&touched.keys[0])
                };
                ensure(!healthy || fits, Kind::Unexpected, || {
                    format!("{:?} was handed out, not one of {expected:?}", touched.keys)
                })?;
            }
            (Self::LeaseKey { ttl, .. }, Answer::Leased(files)) => {
                for file in &files {
                    model.leased(file, now, Owner::Process, *ttl)?;
                }
            }
            (Self::Complete { keys }, Answer::Done) => {
                touched.durable = completes_durably;
                over(keys, model);
            }
            (Self::Delete { key }, Answer::Done) => {
                touched.durable = durable;
                over(&[*key], model);
            }
            (Self::Fail { key }, Answer::Failed(outcome)) => {
                touched.durable = durable;
                let again = model.failed(key, now, &options.retry_policy);
                ensure(again == matches!(outcome, FailOutcome::Retry { .. }), Kind::Lost, || {
                    format!("{key} failed and became {outcome:?}")
                })?;
            }
            (Self::Release { key }, Answer::Done) => {
                model.back(key);
                let file = model.file_mut(key);
                file.attempts -= 1;
                file.state = State::Pending { due: Duration::ZERO };
            }
            (Self::Renew { key }, Answer::Renewed(lease)) => {
                model.leases.insert(*key, lease);
                if let State::Processing { deadline, ttl, .. } = &mut model.file_mut(key).state {
                    *deadline = now + *ttl;
                }
            }
            (Self::Reset { key }, Answer::Done) => {
                touched.durable = durable;
                model.file_mut(key).reset();
            }
            (Self::DeadLetter { key }, Answer::Count(moved)) => {
                touched.durable = durable && moved > 0;
                if moved > 0 {
                    model.set_aside(key);
                }
            }
            (Self::Requeue { key }, Answer::Count(requeued)) => {
                touched.durable = durable && requeued > 0;
                if requeued > 0 {
                    model.file_mut(key).reset();
                    limits::check_let_in(model.facts.files[key].tenant, &[shape(key, model)], model)?;
                }
            }
            (Self::Requeue { key }, Answer::Full(why)) => {
                limits::check_refused(model.facts.files[key].tenant, &[shape(key, model)], &why, model)?;
            }
            (Self::Adopt { tenant, key, content }, Answer::Count(adopted)) => {
                touched.durable = durable && adopted > 0;
                if adopted > 0 {
                    let new = [(content.clone(), ROOT)];
                    written(*tenant, &new, None, &[*key], model)?;
                    touched.keys = vec![*key];
                    limits::check_let_in(*tenant, &lengths(&new), model)?;
                }
            }
            (Self::Adopt { tenant, content, .. }, Answer::Full(why)) => {
                limits::check_refused(*tenant, &[(content.len(), ROOT)], &why, model)?;
            }
            (Self::Limit { of, most }, Answer::Done) => {
                touched.durable = durable;
                touched.limit = Some(*of);
                match most {
                    Some(most) => model.facts.limits.insert(*of, *most),
                    None => model.facts.limits.remove(of),
                };
            }
            (Self::Drain { volume }, Answer::Done) => {
                touched.durable = durable;
                touched.volume = Some(*volume);
                model.facts.draining.insert(*volume);
            }
            (Self::StopDraining { volume }, Answer::Done) => {
                touched.durable = durable;
                touched.volume = Some(*volume);
                model.facts.draining.remove(volume);
            }
            (Self::Remount { volume }, Answer::Count(handed_out)) => {
                ensure(handed_out == 0, Kind::Unexpected, || {
                    format!("{handed_out} files of volume {volume} were read while it was unmounted")
                })?;
            }
            (Self::Guest { number, status }, Answer::Tenant(created_at)) => {
                model.doubtful_guests.remove(number);
                let known = model.guests.insert(*number, (created_at, *status));
                ensure(known.is_none_or(|(known, _)| known == created_at), Kind::Lost, || {
                    format!("guest {number} was created again")
                })?;
            }
            (Self::Stale { key }, answer) => {
                touched.keys.clear();
                ensure(matches!(answer, Answer::Done), Kind::DoubleLease, || {
                    format!("{key} was completed by a lease that was overtaken")
                })?;
            }
            (Self::Read { key }, Answer::Content(content)) => {
                touched.keys.clear();
                ensure(content == model.contents[key], Kind::Corrupted, || {
                    format!("{key} was read and is not what was written")
                })?;
            }
            (Self::Materialize { key }, Answer::Path(path, again, moved)) => {
                touched.durable = durable && moved == Some(true);
                ensure(path == again, Kind::Unexpected, || {
                    format!("{key} lies at {path:?} and at {again:?}")
                })?;
            }
            (Self::Expire { overdue }, Answer::Count(count)) => {
                ensure(count == overdue.len(), Kind::Unexpected, || {
                    format!("{count} files ran out, not {overdue:?}")
                })?;
                for key in overdue {
                    model.back(key);
                    let file = model.file_mut(key);
                    file.interrupted = 0;
                    let spent = file.attempts >= MAX_DELIVERIES;
                    file.state = if spent { State::GivenUp } else { State::Pending { due: Duration::ZERO } };
                }
            }
            (Self::Put { place, source }, Answer::Done) => {
                model.sources.insert(place.clone(), source.clone());
            }
            (Self::Look { folder }, Answer::Looked(looked)) => {
                let inbox = inbox.expect("because only worlds with watched folders look into them");
                let durability = options.durability;
                looking::answered(*folder, looked, model, inbox, durability, healthy, &mut touched)?;
            }
            (Self::Sync | Self::Checkpoint | Self::SealAnew | Self::Backup { .. }, Answer::Done) => {
                touched.durable = true;
            }
            (
                Self::Reap
                | Self::Leftovers
                | Self::Forward
                | Self::Spill
                | Self::Materialize { .. }
                | Self::Shut { .. },
                Answer::Done,
            ) => {}
            (_, answer) => {
                return Err(Violation::new(Kind::Unexpected, format!("{self:?} answered {answer:?}")));
            }
        }
        Ok(touched)
    }
}

/// The name of a tenant without files.
pub(crate) fn guest(number: usize) -> TenantId {
    TenantId::parse(&format!("guest-{number}")).expect("because it is a name")
}

/// The name of a logical directory: the second one lies beneath the first.
pub(crate) fn directory_name(number: u64) -> String {
    match number {
        1 => "dir-0/deep".to_owned(),
        ROOT => "/".to_owned(),
        number => format!("dir-{number}"),
    }
}

/// Length and directory of a file.
fn shape(key: &FileKey, model: &Model) -> (usize, u64) {
    (model.contents[key].len(), model.directories[key])
}

fn over(keys: &[FileKey], model: &mut Model) {
    for key in keys {
        model.back(key);
        model.file_mut(key).state = State::Over;
    }
}

/// Lengths and directories of what is written.
pub(crate) fn lengths(files: &[(Vec<u8>, u64)]) -> Vec<(usize, u64)> {
    files.iter().map(|(content, directory)| (content.len(), *directory)).collect()
}

/// That a quota is full is an answer.
fn refused(answer: Result<Answer, Error>) -> Result<Answer, Error> {
    match answer {
        Err(error) => Refusal::of(&error).map(Answer::Full).ok_or(error),
        answer => answer,
    }
}

/// Notes what a write made; says whether it made anything.
pub(crate) fn written(
    tenant: usize,
    files: &[(Vec<u8>, u64)],
    name: Option<&str>,
    keys: &[FileKey],
    model: &mut Model,
) -> Result<bool, Violation> {
    if let Some(known) = name.and_then(|name| model.named.get(name)) {
        ensure(keys == [*known], Kind::Resurrected, || {
            format!("the write {name:?} made {keys:?} beside {known}")
        })?;
        return Ok(false);
    }
    if let Some(name) = name
        && model.doubtful.remove(name)
        && model.contents.contains_key(&keys[0])
    {
        model.named.insert(name.to_owned(), keys[0]);
        return Ok(false);
    }
    for (key, (content, directory)) in keys.iter().zip(files) {
        model.directories.insert(*key, *directory);
        let is_new = model.contents.insert(*key, content.clone()).is_none();
        ensure(is_new, Kind::Unexpected, || format!("{key} was given twice"))?;
        let order = model.next_order();
        model.facts.files.insert(*key, File::new(tenant, order));
    }
    if let Some(name) = name {
        model.named.insert(name.to_owned(), keys[0]);
    }
    Ok(true)
}

impl fmt::Debug for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Write { tenant, files, name } => {
                let sizes: Vec<_> = files.iter().map(|(content, _)| content.len()).collect();
                write!(f, "write {sizes:?} bytes for {tenant} as {name:?}")
            }
            Self::Lease { tenant, owner, ttl, max, .. } => {
                write!(f, "lease {max} of {tenant} by {owner:?} for {ttl:?}")
            }
            Self::LeaseAny { ttl, .. } => write!(f, "lease any for {ttl:?}"),
            Self::LeaseKey { key, ttl } => write!(f, "lease {key} for {ttl:?}"),
            Self::Complete { keys } => write!(f, "complete {}", list(keys)),
            Self::Fail { key } => write!(f, "fail {key}"),
            Self::Release { key } => write!(f, "release {key}"),
            Self::Renew { key } => write!(f, "renew {key}"),
            Self::Delete { key } => write!(f, "delete {key}"),
            Self::Reset { key } => write!(f, "reset {key}"),
            Self::DeadLetter { key } => write!(f, "dead-letter {key}"),
            Self::Requeue { key } => write!(f, "requeue {key}"),
            Self::Adopt { tenant, key, content } => {
                write!(f, "adopt {key}, {} bytes, for {tenant}", content.len())
            }
            Self::Limit { of, most } => write!(f, "limit {of:?} to {most:?}"),
            Self::Drain { volume } => write!(f, "drain {volume}"),
            Self::SealAnew => f.write_str("seal anew"),
            Self::StopDraining { volume } => write!(f, "stop draining {volume}"),
            Self::Remount { volume } => write!(f, "remount {volume}"),
            Self::Guest { number, status } => write!(f, "guest {number} {status}"),
            Self::Stale { key } => write!(f, "complete {key} by an old lease"),
            Self::Read { key } => write!(f, "read {key}"),
            Self::Materialize { key } => write!(f, "materialize {key}"),
            Self::Expire { overdue } => write!(f, "expire {}", list(overdue)),
            Self::Backup { number } => write!(f, "backup {number}"),
            Self::Begin { tenant, content } => write!(f, "begin {} bytes for {tenant}", content.len()),
            Self::Piece { id, range } => write!(f, "piece {range:?} of {id}"),
            Self::Finish { id } => write!(f, "finish {id}"),
            Self::Abort { id } => write!(f, "abort {id}"),
            Self::Put { place, source } => write!(f, "put {} bytes at {place:?}", source.content.len()),
            Self::Shut { tenant, yes } => write!(f, "shut {tenant}: {yes}"),
            Self::Look { folder } => write!(f, "look into folder {folder}"),
            Self::Sync => f.write_str("sync"),
            Self::Checkpoint => f.write_str("checkpoint"),
            Self::Reap => f.write_str("reap"),
            Self::Leftovers => f.write_str("leftovers"),
            Self::Forward => f.write_str("forward"),
            Self::Spill => f.write_str("spill"),
        }
    }
}

/// Keys, one after another.
fn list(keys: &[FileKey]) -> String {
    keys.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
}
