//! Limits of tenants and directories, of files and of bytes, and what the model says of them.

use locus_core::{Error, FileKey, Limit, LogicalDir, MetadataStore, QuotaUnit, Scope};

use crate::{
    call::{DIRECTORIES, directory_name},
    model::{File, Model},
    violation::{Kind, Violation, ensure},
    world::{Engine, World},
};

/// What a limit is set for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Bounded {
    /// Whose.
    pub tenant: usize,
    /// Where.
    pub place: Place,
}

/// Where a limit holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// Everywhere.
    Tenant,
    /// In one directory.
    Directory(u64),
    /// In the first directory and the one beneath it.
    Subtree,
}

/// The most that may be there: files, and bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Most {
    /// Files.
    pub files: Option<u64>,
    /// Bytes of them.
    pub bytes: Option<u64>,
}

/// A call that found no room.
#[derive(Debug, Clone)]
pub struct Refusal {
    /// In which directory; `None` when it is the tenant that is full.
    pub directory: Option<LogicalDir>,
    /// What was there, writes under way included.
    pub used: u64,
    /// The most that may be.
    pub limit: u64,
    /// What both count.
    pub unit: QuotaUnit,
}

impl Refusal {
    /// `None` when it was not for want of room.
    pub(crate) fn of(error: &Error) -> Option<Self> {
        match error {
            Error::TenantQuotaExceeded { used, limit, unit, .. } => {
                Some(Self { directory: None, used: *used, limit: *limit, unit: *unit })
            }
            Error::DirectoryQuotaExceeded { directory, used, limit, unit, .. } => {
                Some(Self { directory: Some(directory.clone()), used: *used, limit: *limit, unit: *unit })
            }
            _ => None,
        }
    }
}

/// Files and their bytes.
#[derive(Debug, Clone, Copy, Default)]
struct Tally {
    files: u64,
    bytes: u64,
}

impl Tally {
    fn of(self, unit: QuotaUnit) -> u64 {
        if unit == QuotaUnit::Bytes { self.bytes } else { self.files }
    }

    fn add(&mut self, bytes: u64) {
        self.files += 1;
        self.bytes += bytes;
    }
}

impl Place {
    /// All that there are.
    pub fn all() -> impl Iterator<Item = Self> {
        (0..DIRECTORIES).map(Self::Directory).chain([Self::Tenant, Self::Subtree])
    }

    const fn holds(self, directory: u64) -> bool {
        match self {
            Self::Tenant => true,
            Self::Directory(one) => one == directory,
            Self::Subtree => directory < 2,
        }
    }

    fn is_called(self, name: Option<&LogicalDir>) -> bool {
        match (self, name) {
            (Self::Tenant, None) => true,
            (Self::Directory(one), Some(name)) => *name == logical(one),
            (Self::Subtree, Some(name)) => *name == logical(0),
            _ => false,
        }
    }
}

impl Bounded {
    pub(crate) fn scope(self, engine: &Engine) -> Scope {
        let tenant = engine.tenants[self.tenant].id().clone();
        match self.place {
            Place::Tenant => Scope::Tenant(tenant),
            Place::Directory(one) => Scope::Directory(tenant, logical(one)),
            Place::Subtree => Scope::Subtree(tenant, logical(0)),
        }
    }

    /// What the engine says.
    pub(crate) fn seen(self, engine: &Engine) -> Option<Most> {
        let usage = engine.store.usage(&self.scope(engine));
        let most = Most { files: usage.limit, bytes: usage.bytes_limit };
        (most != Most::default()).then_some(most)
    }

    fn live(self, model: &Model) -> Tally {
        self.tally(model, File::counts)
    }

    fn tally(self, model: &Model, counts: impl Fn(&File) -> bool) -> Tally {
        let mut tally = Tally::default();
        let there = |key: &FileKey| self.place.holds(model.directories.get(key).copied().unwrap_or(0));
        for (key, file) in &model.facts.files {
            if file.tenant == self.tenant && counts(file) && there(key) {
                tally.add(model.stored_len(model.contents.get(key).map_or(0, Vec::len)));
            }
        }
        for upload in model.uploads.values().filter(|upload| upload.tenant == self.tenant) {
            if self.place.holds(upload_directory(&upload.content)) {
                tally.add(model.stored_len(upload.content.len()));
            }
        }
        tally
    }
}

impl Most {
    /// As it is set; nothing is said where there is none.
    pub(crate) fn limit(most: Option<Self>) -> Limit {
        match most {
            Some(Self { files: Some(files), bytes: Some(bytes) }) => Limit::FilesAndBytes { files, bytes },
            Some(Self { files: Some(files), bytes: None }) => Limit::Files(files),
            Some(Self { files: None, bytes: Some(bytes) }) => Limit::Bytes(bytes),
            _ => Limit::Inherit,
        }
    }

    const fn of(self, unit: QuotaUnit) -> Option<u64> {
        match unit {
            QuotaUnit::Bytes => self.bytes,
            QuotaUnit::Files => self.files,
        }
    }
}

/// What is set next: mostly how many files a tenant may have.
pub(crate) fn draw(world: &World, tenant: usize) -> (Bounded, Option<Most>) {
    let rare = world.chance(30);
    let places: Vec<Place> = Place::all().collect();
    let place = if rare { world.choose(&places) } else { Place::Tenant };
    let files = Some(world.below(20));
    let bytes = Some(world.below(60_000));
    let kinds = [
        Most { files, bytes: None },
        Most { files: None, bytes },
        Most { files, bytes },
        Most { files, bytes: None },
    ];
    let most = if rare { world.choose(&kinds) } else { kinds[0] };
    (Bounded { tenant, place }, world.chance(if rare { 50 } else { 70 }).then_some(most))
}

/// The directory that an upload of this content is for.
pub(crate) const fn upload_directory(content: &[u8]) -> u64 {
    content.len() as u64 % DIRECTORIES
}

pub(crate) fn logical(number: u64) -> LogicalDir {
    LogicalDir::parse(&directory_name(number)).expect("because it is a name")
}

/// What was let in fits beside what was there.
pub(crate) fn check_let_in(tenant: usize, new: &[(usize, u64)], model: &Model) -> Result<(), Violation> {
    for (bounded, most) in model.facts.limits.iter().filter(|(bounded, _)| bounded.tenant == tenant) {
        let (mut more, live) = (Tally::default(), bounded.live(model));
        new.iter()
            .filter(|(_, dir)| bounded.place.holds(*dir))
            .for_each(|(len, _)| more.add(model.stored_len(*len)));
        for unit in [QuotaUnit::Files, QuotaUnit::Bytes] {
            let over = |limit| more.of(unit) > 0 && live.of(unit) > limit;
            ensure(!most.of(unit).is_some_and(over), Kind::QuotaDrift, || {
                format!("{bounded:?} has {live:?} where there may be {most:?}")
            })?;
        }
    }
    Ok(())
}

/// What was refused did not fit. What is over counts until it is reaped, and so do the call's own reservations, and the room of a
/// dead letter that is just being brought back.
pub(crate) fn check_refused(
    tenant: usize,
    new: &[(usize, u64)],
    why: &Refusal,
    model: &Model,
) -> Result<(), Violation> {
    let fits = |(bounded, most): (&Bounded, &Most)| {
        let mut more = Tally::default();
        new.iter()
            .filter(|(_, dir)| bounded.place.holds(*dir))
            .for_each(|(len, _)| more.add(model.stored_len(*len)));
        let (live, known) = (bounded.live(model), bounded.tally(model, |_| true));
        let (least, more) = (live.of(why.unit), more.of(why.unit));
        bounded.tenant == tenant
            && bounded.place.is_called(why.directory.as_ref())
            && most.of(why.unit) == Some(why.limit)
            && (least..=known.of(why.unit) + more).contains(&why.used)
            && why.used + more > why.limit
    };
    ensure(model.facts.limits.iter().any(fits), Kind::QuotaDrift, || {
        let live = Bounded { tenant, place: Place::Tenant }.live(model);
        format!("tenant {tenant} with {live:?} was refused: {why:?}, limits {:?}", model.facts.limits)
    })
}
