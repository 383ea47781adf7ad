//! What is called next: drawn by the seed from what the model says is possible.

use std::{collections::BTreeSet, time::Duration};

use locus_core::{Clock, FileKey, Owner, TenantStatus, UploadId};

use crate::{
    call::{Call, DIRECTORIES, GUESTS},
    inbox::{FOLDERS, NAMES, Place, Source},
    limits,
    model::{File, Model, State},
    uploads::Upload,
    world::World,
};

/// Files that live at once.
const LIVE_MAX: usize = 40;
/// So many bytes are never alike twice.
const UNLIKE: usize = 12;
/// Uploads under way at once.
const UPLOADS_MAX: usize = 6;

/// What the calls of a round may touch: no two of them meet at a file or at a tenant's queue.
#[derive(Debug, Default)]
pub struct Taken {
    tenants: BTreeSet<usize>,
    keys: BTreeSet<FileKey>,
    /// Uploads of which pieces are sent.
    pieces: BTreeSet<UploadId>,
    /// Something of this kind runs already.
    upkeep: BTreeSet<&'static str>,
}

/// The calls of one round: mostly one, up to four side by side.
pub fn round(world: &World, model: &Model) -> Vec<Call> {
    let mut calls = Vec::new();
    let mut taken = Taken::default();
    let together = if world.chance(60) { 1 } else { 2 + world.index(3) };
    while calls.len() < together {
        let Some(call) = draw(world, model, &mut taken) else { break };
        if call.runs_alone() {
            // Alone, or another time.
            if calls.is_empty() {
                return vec![call];
            }
            break;
        }
        calls.push(call);
    }
    calls
}

/// A content: mostly small, some larger than what rests in the journal.
fn content(world: &World) -> Vec<u8> {
    let inline = world.options.inline_content_max;
    let most = match world.below(10) {
        0 => 0,
        1..4 => 100,
        4..9 => 3_000,
        _ => inline + 3_000,
    };
    world.noise(world.index(usize::try_from(most).unwrap_or(0) + 1))
}

/// One of the files that nobody touches in this round.
fn pick(world: &World, model: &Model, taken: &mut Taken, wanted: impl Fn(&File) -> bool) -> Option<FileKey> {
    let free = |(key, file): &(&FileKey, &File)| {
        wanted(file) && !taken.keys.contains(*key) && !taken.tenants.contains(&file.tenant)
    };
    let keys: Vec<_> = model.facts.files.iter().filter(free).map(|(key, _)| *key).collect();
    if keys.is_empty() {
        return None;
    }
    let key = world.choose(&keys);
    taken.keys.insert(key);
    Some(key)
}

fn draw(world: &World, model: &Model, taken: &mut Taken) -> Option<Call> {
    // What only some calls need is drawn in every case, so that a run changes little with the engine.
    let tenant = world.index(world.tenants);
    let ttl = Duration::from_secs(30 + world.below(60));
    let is_leased = |file: &File| file.is_leased() && file.lives();
    let waits = |file: &File| file.counts() && !file.is_leased();
    let upkeep =
        |call: Call, name: &'static str, taken: &mut Taken| taken.upkeep.insert(name).then_some(call);
    let calls = if world.inbox.is_some() { 138 } else { 126 };
    match world.below(calls) {
        126..138 => watched(world, model, taken),
        113..119 => {
            pick(world, model, taken, |file| file.state == State::GivenUp).map(|key| Call::DeadLetter { key })
        }
        119..123 => {
            pick(world, model, taken, |file| file.state == State::Dead).map(|key| Call::Requeue { key })
        }
        123 => pick(world, model, taken, |file| file.state == State::Dead).map(|key| Call::Delete { key }),
        // What is brought in like that would not be sealed.
        124..126 if world.is_sealed() => None,
        124..126 => {
            if model.live().count() >= LIVE_MAX || !taken.tenants.insert(tenant) {
                return None;
            }
            let key = FileKey::generate(world.clock.wall(), &world.noise(10).try_into().unwrap_or_default());
            Some(Call::Adopt { tenant, key, content: content(world) })
        }
        112 => volume(world, model, taken),
        100..112 => upload(world, model, taken, tenant),
        0..30 => {
            if model.live().count() >= LIVE_MAX {
                return None;
            }
            let count = if world.chance(20) { 3 } else { 1 };
            let files = (0..count).map(|_| (content(world), world.below(DIRECTORIES))).collect();
            let name = (count == 1 && world.chance(30)).then(|| format!("{tenant}-name-{}", world.below(40)));
            // Two writes of one tenant may come in either order.
            taken.tenants.insert(tenant).then_some(Call::Write { tenant, files, name })
        }
        30..48 => {
            let max = if world.chance(30) { 4 } else { 1 };
            let owner = if world.chance(20) { Owner::Outside } else { Owner::Process };
            let expected = model.next_of(tenant, world.now(), max);
            let free = expected.iter().all(|key| !taken.keys.contains(key))
                && !model
                    .facts
                    .files
                    .iter()
                    .any(|(key, file)| file.tenant == tenant && taken.keys.contains(key))
                && (!model.has_suspects() || taken.is_empty());
            if !free || !taken.tenants.insert(tenant) {
                return None;
            }
            if model.has_suspects() {
                // At most one suspect is out: nobody else may take one meanwhile.
                taken.tenants.extend(0..world.tenants);
            }
            Some(Call::Lease { tenant, owner, ttl, max, expected })
        }
        48..50 => {
            let first = |tenant| model.next_of(tenant, world.now(), 1);
            Some(Call::LeaseAny { ttl, expected: (0..world.tenants).flat_map(first).collect() })
        }
        50..52 => {
            let now = world.now();
            let ready = |file: &File| {
                file.interrupted < 2 && matches!(file.state, State::Pending { due } if due <= now)
            };
            pick(world, model, taken, ready).map(|key| Call::LeaseKey { key, ttl })
        }
        52..68 => {
            let max = if world.chance(20) { 3 } else { 1 };
            let mut keys = Vec::new();
            let mut of = None;
            for _ in 0..max {
                // A batch may be of several tenants.
                if let Some(key) = pick(world, model, taken, is_leased) {
                    of = of.or(Some(model.facts.files[&key].tenant));
                    keys.push(key);
                }
            }
            (!keys.is_empty()).then_some(Call::Complete { keys })
        }
        68..75 => pick(world, model, taken, is_leased).map(|key| Call::Fail { key }),
        75..78 => pick(world, model, taken, is_leased).map(|key| Call::Release { key }),
        78..80 => pick(world, model, taken, is_leased).map(|key| Call::Renew { key }),
        80..82 => pick(world, model, taken, File::lives).map(|key| Call::Delete { key }),
        82..84 => pick(world, model, taken, waits).map(|key| Call::Reset { key }),
        84..86 => {
            let (of, most) = limits::draw(world, tenant);
            taken.tenants.insert(tenant).then_some(Call::Limit { of, most })
        }
        86 => pick(world, model, taken, File::lives).map(|key| Call::Read { key }),
        87 if world.chance(50) => {
            let status =
                world.choose(&[TenantStatus::Enabled, TenantStatus::Disabled, TenantStatus::Suspended]);
            upkeep(Call::Guest { number: world.index(GUESTS), status }, "guest", taken)
        }
        87 => {
            let overtaken = |key: &FileKey| model.overtaken.contains_key(key);
            let keys: Vec<_> = model.live().map(|(key, _)| *key).filter(overtaken).collect();
            let free = |key: &FileKey| {
                !taken.keys.contains(key) && !taken.tenants.contains(&model.facts.files[key].tenant)
            };
            let key = keys.into_iter().find(free)?;
            taken.keys.insert(key);
            Some(Call::Stale { key })
        }
        88..90 => pick(world, model, taken, File::lives).map(|key| Call::Materialize { key }),
        90 => upkeep(Call::Sync, "sync", taken),
        91 if world.chance(20) => upkeep(Call::Backup { number: world.disk.ops() }, "backup", taken),
        91..93 => upkeep(Call::Checkpoint, "checkpoint", taken),
        93..96 => upkeep(Call::Reap, "reap", taken),
        96 => upkeep(Call::Leftovers, "leftovers", taken),
        97 => upkeep(Call::Forward, "forward", taken),
        98 => upkeep(Call::Spill, "spill", taken),
        _ => {
            if !taken.is_empty() {
                return None; // leases of others in this round must not run out
            }
            world.advance(Duration::from_secs(world.below(60)));
            Some(Call::Expire { overdue: model.overdue(world.now()) })
        }
    }
}

/// A call for a volume. At most one is drained at a time, so that there is one that takes its files.
fn volume(world: &World, model: &Model, taken: &mut Taken) -> Option<Call> {
    let volume = world.index(world.volumes);
    if world.is_sealed() && world.chance(30) {
        return Some(Call::SealAnew);
    }
    if world.chance(40) {
        return Some(Call::Remount { volume });
    }
    match model.facts.draining.first() {
        Some(volume) if world.chance(50) => {
            taken.upkeep.insert("drain").then_some(Call::StopDraining { volume: *volume })
        }
        Some(volume) => Some(Call::Drain { volume: *volume }),
        None => Some(Call::Drain { volume }),
    }
}

/// A call for a watched folder; one at a time, so that nothing comes or goes while a watcher looks.
fn watched(world: &World, model: &Model, taken: &mut Taken) -> Option<Call> {
    let inbox = world.inbox.as_deref()?;
    let folder = world.index(FOLDERS);
    let tenant = inbox.watches[folder].tenant.unwrap_or(world.index(world.tenants));
    let (beneath, number) = (world.below(DIRECTORIES + 1), world.below(NAMES));
    let new = content(world);
    let what = world.below(100);
    if !taken.upkeep.insert("watched") {
        return None;
    }
    if what >= 92 && inbox.is_shut(tenant) || what >= 98 {
        return Some(Call::Shut { tenant, yes: !inbox.is_shut(tenant) });
    }
    let waits = |(place, source): (&Place, &Source)| place.folder == folder && source.identity.is_none();
    if what >= if model.sources.iter().any(waits) { 35 } else { 75 } {
        let of: Vec<_> = inbox.watches[folder].tenant.map_or((0..world.tenants).collect(), |one| vec![one]);
        if of.iter().any(|tenant| taken.tenants.contains(tenant)) {
            return None;
        }
        taken.tenants.extend(of);
        return Some(Call::Look { folder });
    }
    let place = Place { folder, tenant, beneath, number };
    let before = model.sources.get(&place);
    if model.sources.len() + model.live().count() >= LIVE_MAX && before.is_none() {
        return None;
    }
    let mut content = world.noise(UNLIKE);
    content.extend(new);
    // Once only: it is another source by its length alone.
    let may_keep = |before: &Source| !before.kept_time && before.content.len() != content.len();
    let kept_time = before.is_some_and(may_keep) && world.chance(50);
    Some(Call::Put { place, source: Source { content, kept_time, identity: None } })
}

/// A call for an upload: pieces beside each other, begin and end with nobody else of the tenant.
fn upload(world: &World, model: &Model, taken: &mut Taken, tenant: usize) -> Option<Call> {
    let what = world.below(100);
    if what < 15 {
        if model.uploads.len() >= UPLOADS_MAX || !taken.tenants.insert(tenant) {
            return None;
        }
        let most = world.choose(&[1, 3_000, 40_000]);
        return Some(Call::Begin { tenant, content: world.noise(world.index(most)) });
    }
    let open = |(id, upload): &(&UploadId, &Upload)| {
        !taken.keys.contains(&id.key()) && !taken.tenants.contains(&upload.tenant)
    };
    let ids: Vec<_> = model.uploads.iter().filter(open).map(|(id, _)| *id).collect();
    if ids.is_empty() {
        return None;
    }
    let id = world.choose(&ids);
    let upload = &model.uploads[&id];
    let is_busy = taken.pieces.contains(&id);
    match what {
        15..25 if !is_busy => {
            taken.tenants.insert(upload.tenant);
            Some(Call::Abort { id })
        }
        25.. if upload.is_complete() && !is_busy => {
            taken.tenants.insert(upload.tenant);
            Some(Call::Finish { id })
        }
        _ => {
            let size = upload.content.len() as u64;
            // Mostly the first gap, or some of it.
            let gap = upload.confirmed.gaps(&(0..size.max(1))).next().filter(|_| world.chance(80));
            let gap = gap.unwrap_or(0..size);
            let start =
                if world.chance(60) { gap.start } else { gap.start + world.below(gap.end - gap.start + 1) };
            let end = if world.chance(60) { gap.end } else { start + world.below(gap.end - start + 1) };
            taken.pieces.insert(id);
            Some(Call::Piece { id, range: start..end.min(size) })
        }
    }
}

impl Taken {
    fn is_empty(&self) -> bool {
        self.tenants.is_empty() && self.keys.is_empty() && self.upkeep.is_empty() && self.pieces.is_empty()
    }
}
