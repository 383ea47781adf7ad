//! After a crash: which prefix of the calls survived, and whether it holds all that was promised.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    rc::Rc,
    time::Duration,
};

use locus_core::{FileKey, FileStatus, Owner, TenantManager, TenantStatus};
use locus_fs::Disk;

use crate::{
    call::{Call, GUESTS, ROOT, guest},
    limits::{Bounded, Place, upload_directory},
    model::{Facts, File, MAX_DELIVERIES, Model, State},
    uploads,
    violation::{Kind, Violation, ensure},
    volumes,
    world::{Engine, JOURNAL, World},
};

/// What the engine says of a file: status, failures, deliveries.
type Seen = (FileStatus, u32, u32);

/// What a file must look like after the process that left it `before` has ended, with the time at reopening.
fn reopened(before: &File, now: Duration) -> File {
    let mut file = before.clone();
    match file.state {
        State::Processing { owner: Owner::Process, .. } => {
            file.interrupted += 1;
            let spent = file.attempts >= MAX_DELIVERIES;
            file.state = if spent { State::GivenUp } else { State::Pending { due: Duration::ZERO } };
        }
        State::Processing { owner, ttl, .. } => {
            file.state = State::Processing { deadline: now + ttl, owner, ttl };
        }
        _ => {}
    }
    file
}

/// A file after a lease that nobody was told of.
fn leased(before: &File, owner: Owner) -> File {
    let state = State::Processing { deadline: Duration::ZERO, owner, ttl: Duration::ZERO };
    File { state, attempts: before.attempts + 1, ..before.clone() }
}

/// Who a lease under way may have been for: when the disk goes down beside it, a volume may be found to be gone and its files
/// be passed by, so that it may take others than it was expected to.
fn leases(call: &Call, file: &File) -> Option<Owner> {
    match call {
        Call::Lease { tenant, owner, .. } if *tenant == file.tenant => Some(*owner),
        Call::LeaseAny { .. } => Some(Owner::Process),
        _ => None,
    }
}

fn looks_like(file: Option<&File>, seen: Option<&Seen>) -> bool {
    match (file, seen) {
        (None, None) => true,
        (None, Some(_)) => false,
        (Some(file), None) => !file.lives(),
        (Some(file), Some((status, retries, attempts))) => {
            let expected = match file.state {
                State::Pending { .. } => FileStatus::Pending,
                State::Processing { .. } => FileStatus::Processing,
                State::GivenUp => FileStatus::PermanentlyFailed,
                State::Dead => FileStatus::DeadLettered,
                State::Over => return status.is_over(),
            };
            *status == expected && *retries == file.retries && *attempts == file.attempts
        }
    }
}

/// What the engine says of every file that the model has heard of since the last opening.
fn observe(
    world: &mut World,
    engine: &Rc<Engine>,
    model: &Model,
) -> Result<BTreeMap<FileKey, Seen>, Violation> {
    let tenants: BTreeMap<FileKey, usize> = model
        .rounds
        .iter()
        .flat_map(|round| &round.after.files)
        .map(|(key, file)| (*key, file.tenant))
        .collect();
    let at = engine.clone();
    let asked = world.run(engine, async move {
        let mut seen = BTreeMap::new();
        let mut strange = None;
        for (key, tenant) in tenants {
            let other = &at.tenants[(tenant + 1) % at.tenants.len()];
            if let Some(info) = at.pool.info(&at.tenants[tenant], &key).await? {
                seen.insert(key, (info.status, info.retry_count, info.attempts));
            }
            if at.pool.info(other, &key).await?.is_some() {
                strange = Some(key);
            }
        }
        Ok::<_, locus_core::Error>((seen, strange))
    })?;
    let (seen, strange) =
        asked.map_err(|why| Violation::new(Kind::Unexpected, format!("files cannot be asked for: {why}")))?;
    ensure(strange.is_none(), Kind::Unexpected, || format!("{strange:?} is seen by another tenant"))?;
    Ok(seen)
}

/// A segment's header, as docs/format.md has it.
#[derive(Debug, Clone, Copy)]
struct Header {
    number: u64,
    predecessor: u64,
    predecessor_end: u64,
    first: u64,
}

/// The headers of all segment files: of two copies the one with the higher number.
fn headers(world: &World) -> BTreeMap<PathBuf, Option<Header>> {
    let dir = Path::new(JOURNAL);
    let mut headers = BTreeMap::new();
    for entry in world.disk.read_dir(dir).into_iter().flatten().flatten() {
        let path = dir.join(&entry.name);
        let Ok(file) = world.disk.open(&path, false) else { continue };
        let copies = [0, 2_048].map(|at| {
            let mut bytes = [0; 104];
            let _ = file.read_at(&mut bytes, at);
            let is_good =
                bytes.starts_with(b"LOCUSLOG") && blake3::hash(&bytes[..96]).as_bytes()[..8] == bytes[96..];
            let number = |at: usize| {
                u64::from_le_bytes(*bytes[at..].first_chunk().expect("because there are 8 bytes"))
            };
            is_good.then(|| Header {
                number: number(32),
                predecessor: number(56),
                predecessor_end: number(64),
                first: number(72),
            })
        });
        headers.insert(path, copies.into_iter().flatten().max_by_key(|header| header.number));
    }
    headers
}

/// Tells what lies in the journal's directory, for somebody who looks for the cause of a refusal.
pub(crate) fn tell_journal(world: &World) {
    for (path, header) in headers(world) {
        eprintln!("   {} {header:?}", path.display());
    }
}

/// Where the log ended whose last known position is `last`: the first segment that an opening began behind it says so.
fn recovered_end(world: &World, last: u64) -> Option<u64> {
    let headers: BTreeMap<u64, Header> =
        headers(world).into_values().flatten().map(|header| (header.number, header)).collect();
    let (_, mut header) = headers.last_key_value()?;
    // Openings keep this far away from each other; a life does not come so far.
    while let Some(before) = headers.get(&header.predecessor).filter(|before| before.first > last + (1 << 19))
    {
        header = before;
    }
    Some(header.predecessor_end)
}

/// Finds the prefix of the calls that the engine is at, and makes it the model. With `killed`, every answered call must
/// be in it; else every call whose answer promised so.
///
/// Says which files are in a state that does not tell how they came to it.
pub(crate) fn reconcile(
    world: &mut World,
    engine: &Rc<Engine>,
    model: &mut Model,
    killed: bool,
    faulty: bool,
) -> Result<BTreeSet<FileKey>, Violation> {
    let seen = observe(world, engine, model)?;
    let now = world.now();
    let last = model.rounds.len() - 1;
    let Some(end) = recovered_end(world, model.rounds[last].end) else {
        return Err(Violation::new(Kind::RefusedOpen, "no segment says where the log ended"));
    };
    let at = model.rounds.partition_point(|round| round.end <= end).checked_sub(1);
    let promised = if killed {
        last
    } else {
        let durable = |round: &crate::model::Round| round.calls.iter().any(|call| call.durable);
        model.rounds.iter().rposition(durable).map_or(0, |round| round.saturating_sub(1))
    };
    let Some(at) = at.filter(|at| *at >= promised) else {
        return Err(Violation::new(
            Kind::Lost,
            format!(
                "the log ends at {end}, after call {at:?}, and what call {promised} rests upon was promised"
            ),
        ));
    };
    let next = model.rounds.get(at + 1);
    // Calls that were never answered may have happened only behind all that was answered before they began.
    let possible = at + 1 >= last;
    let under_way: Vec<Call> = std::mem::take(&mut model.under_way);
    let doubtful: BTreeSet<FileKey> = under_way.iter().filter(|_| possible).flat_map(Call::keys).collect();
    let mut unsure = BTreeSet::new();
    let mut facts = Facts::default();

    let before = &model.rounds[at].after;
    let taken = |key: &FileKey| {
        let file =
            before.files.get(key).filter(|file| possible && matches!(file.state, State::Pending { .. }))?;
        let owner = under_way.iter().find_map(|call| leases(call, file))?;
        Some(reopened(&leased(file, owner), now))
    };
    let keys: BTreeSet<FileKey> =
        model.rounds.iter().flat_map(|round| round.after.files.keys().copied()).collect();
    for key in keys {
        let pre = before.files.get(&key).map(|file| reopened(file, now));
        let touched = next.and_then(|next| next.calls.iter().find(|call| call.keys.contains(&key)));
        let post =
            touched.and(next).and_then(|next| next.after.files.get(&key)).map(|file| reopened(file, now));
        let seen = seen.get(&key);
        let found = match touched {
            Some(touched) if looks_like(post.as_ref(), seen) => {
                if !touched.durable && looks_like(pre.as_ref(), seen) && pre != post {
                    unsure.insert(key);
                }
                post
            }
            Some(touched) if !touched.durable && looks_like(pre.as_ref(), seen) => pre,
            None if looks_like(pre.as_ref(), seen) => {
                if doubtful.contains(&key) {
                    unsure.insert(key);
                }
                pre
            }
            None if let Some(file) = taken(&key).filter(|file| looks_like(Some(file), seen)) => {
                unsure.insert(key);
                Some(file)
            }
            // The call under way, and what it meant to change.
            None if doubtful.contains(&key) => {
                unsure.insert(key);
                pre.map(|pre| as_seen(&pre, seen))
            }
            _ => {
                let expected = if touched.is_some_and(|touched| touched.durable) { post } else { pre };
                let kind = match (&expected, seen) {
                    (Some(file), _) if !file.lives() => Kind::Resurrected,
                    (None, _) => Kind::Resurrected,
                    _ => Kind::Lost,
                };
                return Err(Violation::new(
                    kind,
                    format!(
                        "{key} must be {expected:?} and is {seen:?}, after call {at} of {last} (promised: {promised}, \
                         {touched:?}), {:?}",
                        engine.report
                    ),
                ));
            }
        };
        if let Some(found) = found {
            facts.files.insert(key, found);
        }
    }
    let bounded = |tenant| Place::all().map(move |place| Bounded { tenant, place });
    for of in (0..engine.tenants.len()).flat_map(bounded) {
        let seen = of.seen(engine);
        let call = next.and_then(|next| next.calls.iter().find(|call| call.limit == Some(of)));
        let (pre, post) = (before.limits.get(&of), next.and_then(|next| next.after.limits.get(&of)));
        let set = |call: &Call| matches!(call, Call::Limit { of: at, most } if *at == of && *most == seen);
        let known = match call {
            Some(call) if call.durable => seen.as_ref() == post,
            Some(_) => seen.as_ref() == pre || seen.as_ref() == post,
            None => seen.as_ref() == pre,
        };
        ensure(known || possible && under_way.iter().any(set), Kind::Lost, || {
            format!("the limit of {of:?} must be {pre:?} (or {post:?}) and is {seen:?}")
        })?;
        if let Some(seen) = seen {
            facts.limits.insert(of, seen);
        }
    }
    for volume in 0..world.volumes {
        let seen = volumes::is_draining(engine, volume);
        let call = next.and_then(|next| next.calls.iter().find(|call| call.volume == Some(volume)));
        let pre = before.draining.contains(&volume);
        let post = next.is_some_and(|next| next.after.draining.contains(&volume));
        let set = |call: &Call| match call {
            Call::Drain { volume: of } => *of == volume && seen,
            Call::StopDraining { volume: of } => *of == volume && !seen,
            _ => false,
        };
        let known = match call {
            Some(call) if call.durable => seen == post,
            Some(_) => seen == pre || seen == post,
            None => seen == pre,
        };
        ensure(known || possible && under_way.iter().any(set), Kind::Lost, || {
            format!("that volume {volume} is drained must be {pre} (or {post}) and is {seen}")
        })?;
        if seen {
            facts.draining.insert(volume);
        }
    }
    let (sure, told) = (before.clone(), model.rounds[last].after.clone());
    guests(world, engine, model, &under_way)?;
    removed(world, engine, model, &facts, &seen)?;
    adopt(world, engine, model, &mut facts, &under_way)?;
    uploads::reconcile(world, engine, model, &under_way, uploads::is_promised(world, killed, faulty))?;
    // Named writes that did not survive are forgotten with their files. A file that is over may also never have been:
    // nothing tells, so its name may be known or not.
    let doubtful = |key: &FileKey| {
        facts.files.get(key).is_some_and(|file| !file.lives()) && !sure.files.contains_key(key)
    };
    model.unproven = facts.files.keys().copied().filter(|key| doubtful(key)).collect();
    let kept = |key: &FileKey| facts.files.contains_key(key) || !told.files.contains_key(key);
    let names = model.named.iter().filter(|(_, key)| doubtful(key)).map(|(name, _)| name.clone());
    model.doubtful.extend(names.collect::<Vec<_>>());
    model.named.retain(|_, key| kept(key) && !doubtful(key));
    model.facts = facts;
    Ok(unsure)
}

/// Tenants are as they were when the last call for each returned; what a call under way meant may be so too.
fn guests(
    world: &mut World,
    engine: &Rc<Engine>,
    model: &mut Model,
    under_way: &[Call],
) -> Result<(), Violation> {
    for number in 0..GUESTS {
        let at = engine.clone();
        let found = world.run(engine, async move { at.directory.try_get(&guest(number)).await })?;
        let found = found.map_err(|why| Violation::new(Kind::Lost, format!("guest {number}: {why}")))?;
        let found = found.map(|tenant| (tenant.created_at, tenant.status));
        let known = model.guests.get(&number).copied();
        let meant = under_way.iter().find_map(|call| match call {
            Call::Guest { number: of, status } if *of == number => Some(*status),
            _ => None,
        });
        // Of one that was created and switched by the same call only the switching may be undone.
        let undone = model.doubtful_guests.get(&number).is_some_and(|before| {
            let is_created = found.is_some_and(|(_, status)| status == TenantStatus::Enabled);
            *before == found || before.is_none() && is_created
        });
        let fits = match (known, found) {
            _ if undone => true,
            (None, None) => true,
            // Created, and perhaps not yet given its status.
            (None, Some((_, status))) => {
                meant.is_some_and(|meant| status == meant || status == TenantStatus::Enabled)
            }
            (Some(_), None) => false,
            (Some((created, before)), Some((found, status))) => {
                created == found && (status == before || Some(status) == meant)
            }
        };
        ensure(fits, Kind::Lost, || {
            format!("guest {number} was {known:?} and is {found:?}, meant {meant:?}")
        })?;
        match found {
            Some(found) => model.guests.insert(number, found),
            None => model.guests.remove(&number),
        };
    }
    Ok(())
}

/// The record of a file that is over goes only after its bytes have gone for good. Where content moves, a copy that was given
/// up may come back, and after a failed sync a removal may be undone; the next sweep takes both.
fn removed(
    world: &mut World,
    engine: &Rc<Engine>,
    model: &Model,
    facts: &Facts,
    seen: &BTreeMap<FileKey, Seen>,
) -> Result<(), Violation> {
    if world.options.inline_content_max > 0 || world.faults || model.moved {
        return Ok(());
    }
    let at = engine.clone();
    let blobs = world.run(engine, async move { at.blobs().await })?;
    let blobs = blobs.map_err(|why| Violation::new(Kind::Unexpected, format!("no list of blobs: {why}")))?;
    let is_back =
        |key: &FileKey| facts.files.get(key).is_some_and(|file| !file.lives()) && !seen.contains_key(key);
    let back: Vec<_> = blobs.iter().map(|blob| blob.key).filter(is_back).collect();
    ensure(back.is_empty(), Kind::Resurrected, || format!("bytes without a record: {back:?}"))
}

/// The engine's own word on a file that a call under way may have changed.
fn as_seen(before: &File, seen: Option<&Seen>) -> File {
    let Some((status, retries, attempts)) = seen else {
        return File { state: State::Over, ..before.clone() };
    };
    let state = match status {
        FileStatus::Pending => State::Pending { due: Duration::ZERO },
        FileStatus::Processing => {
            State::Processing { deadline: Duration::ZERO, owner: Owner::Outside, ttl: Duration::ZERO }
        }
        FileStatus::PermanentlyFailed => State::GivenUp,
        FileStatus::DeadLettered => State::Dead,
        _ => State::Over,
    };
    // Nobody was told the token of a lease whose call did not return.
    let token = before.token.filter(|_| *attempts <= before.attempts);
    File { state, retries: *retries, attempts: *attempts, token, ..before.clone() }
}

/// Takes on the files of writes that were under way: nobody was told their keys. A batch is there wholly or not at all. And
/// those of which only a watcher was told; `in_doubt`: their contents may have been lost on a volume whose sync failed.
fn adopt(
    world: &mut World,
    engine: &Rc<Engine>,
    model: &mut Model,
    facts: &mut Facts,
    under_way: &[Call],
) -> Result<(), Violation> {
    let drawn: Vec<FileKey> =
        world.take_drawn().into_iter().filter(|key| !model.contents.contains_key(key)).collect();
    let at = engine.clone();
    let finishing = uploads::finishing(model, under_way);
    let adopting = under_way.iter().filter_map(|call| match call {
        Call::Adopt { tenant, key, content } => Some((*key, *tenant, ROOT, content.clone())),
        _ => None,
    });
    let uploads = finishing.into_iter().map(|(key, tenant, content)| {
        let directory = upload_directory(&content);
        (key, tenant, directory, content)
    });
    let mut known_keys: Vec<_> = uploads.chain(adopting).collect();
    let drawn: Vec<_> = drawn.into_iter().chain(known_keys.iter().map(|(key, ..)| *key)).collect();
    let brought_in = std::mem::take(&mut model.brought_in);
    let mut names = BTreeMap::new();
    for (key, tenant, directory, content, name) in brought_in {
        names.insert(key, name);
        known_keys.push((key, tenant, directory, content));
    }
    let found = world.run(engine, async move {
        let mut found = Vec::new();
        for key in drawn {
            for (tenant, context) in at.tenants.iter().enumerate() {
                if at.pool.info(context, &key).await?.is_some() {
                    let content = at.pool.read(context, &key).await?.bytes().await?;
                    found.push((key, tenant, content));
                }
            }
        }
        Ok::<_, locus_core::Error>(found)
    })?;
    let mut found = found.map_err(|why| {
        Violation::new(Kind::Corrupted, format!("a file that was accepted cannot be read: {why}"))
    })?;
    // What a watcher was told came before what it had just begun.
    for (key, tenant, directory, content) in known_keys {
        let is_it = |(of, owner, known): &(FileKey, usize, bytes::Bytes)| {
            *of == key && *owner == tenant && *known == content
        };
        let Some(place) = found.iter().position(is_it) else { continue };
        found.remove(place);
        let order = model.next_order();
        facts.files.insert(key, File::new(tenant, order));
        model.named.extend(names.remove(&key).map(|name| (name, key)));
        model.directories.insert(key, directory);
        model.contents.insert(key, content);
    }
    for call in under_way {
        let Call::Write { tenant, files, name } = call else { continue };
        let mut adopted = 0;
        for (content, directory) in files {
            let is_it = |(_, of, known): &(FileKey, usize, bytes::Bytes)| of == tenant && known == content;
            let Some(place) = found.iter().position(is_it) else { continue };
            let (key, ..) = found.remove(place);
            adopted += 1;
            let order = model.next_order();
            facts.files.insert(key, File::new(*tenant, order));
            model.contents.insert(key, content.clone());
            model.directories.insert(key, *directory);
            if let Some(name) = name {
                model.named.insert(name.clone(), key);
            }
        }
        ensure(adopted == 0 || adopted == files.len(), Kind::Lost, || {
            format!("{adopted} files of a batch of {} were accepted", files.len())
        })?;
    }
    ensure(found.is_empty(), Kind::Resurrected, || {
        let keys: Vec<_> = found.iter().map(|(key, ..)| key).collect();
        format!("files that nobody wrote, or not with these contents: {keys:?}")
    })
}
