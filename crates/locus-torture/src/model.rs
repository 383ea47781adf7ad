//! What is known outside of the engine.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use locus_core::{FileKey, Lease, Owner, RetryPolicy, TenantStatus, Timestamp, Token, UploadId};
use locus_storage::LeasedFile;

use crate::{
    call::Call,
    inbox::{Place, Source},
    limits::{Bounded, Most},
    uploads::Upload,
    violation::{Kind, Violation, ensure},
};

/// Deliveries after which a file is given up.
pub const MAX_DELIVERIES: u32 = 6;

/// What a file is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// It waits, until this time at least.
    Pending {
        /// When it is due.
        due: Duration,
    },
    /// It is leased.
    Processing {
        /// Until when.
        deadline: Duration,
        /// By whom.
        owner: Owner,
        /// For how long it was leased.
        ttl: Duration,
    },
    /// It failed for the last time.
    GivenUp,
    /// It is a dead letter.
    Dead,
    /// Completed or deleted; whether the record is still there does not matter.
    Over,
}

/// A file as it must be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    /// Whose.
    pub tenant: usize,
    /// Position in the accept order.
    pub order: u64,
    /// What it is doing.
    pub state: State,
    /// Failures.
    pub retries: u32,
    /// Deliveries.
    pub attempts: u32,
    /// Deliveries in a row that ended with the process.
    pub interrupted: u32,
    /// The last token issued for it.
    pub token: Option<Token>,
}

impl File {
    /// A file that was just accepted.
    #[must_use]
    pub const fn new(tenant: usize, order: u64) -> Self {
        let state = State::Pending { due: Duration::ZERO };
        Self { tenant, order, state, retries: 0, attempts: 0, interrupted: 0, token: None }
    }

    /// Whether it is neither completed nor deleted.
    #[must_use]
    pub fn lives(&self) -> bool {
        self.state != State::Over
    }

    /// Whether it counts against quotas.
    #[must_use]
    pub fn counts(&self) -> bool {
        self.lives() && self.state != State::Dead
    }

    /// Whether somebody has it.
    #[must_use]
    pub fn is_leased(&self) -> bool {
        matches!(self.state, State::Processing { .. })
    }

    /// Begins anew, as after a reset.
    pub fn reset(&mut self) {
        *self = Self::new(self.tenant, self.order);
    }
}

/// All that the log decides.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Facts {
    /// Every file that was ever told of, but for those forgotten between lives.
    pub files: BTreeMap<FileKey, File>,
    /// Limits set at run time.
    pub limits: BTreeMap<Bounded, Most>,
    /// Volumes that are being drained.
    pub draining: BTreeSet<usize>,
}

/// What one call of a round changed.
#[derive(Debug, Clone, Default)]
pub struct Touched {
    /// Files.
    pub keys: Vec<FileKey>,
    /// The limit that was set.
    pub limit: Option<Bounded>,
    /// The volume about which something was decided.
    pub volume: Option<usize>,
    /// Whether its answer promised that this survives power loss.
    pub durable: bool,
}

/// Calls that were made side by side and answered.
#[derive(Debug, Clone)]
pub struct Round {
    /// What is so after it.
    pub after: Facts,
    /// The last position in the log then.
    pub end: u64,
    /// What each of them changed.
    pub calls: Vec<Touched>,
}

/// What is known outside.
#[derive(Debug, Default)]
pub struct Model {
    /// As of now.
    pub facts: Facts,
    /// Since the last opening; the first is what that found.
    pub rounds: Vec<Round>,
    /// The calls under way: what they may have done, nobody was told.
    pub under_way: Vec<Call>,
    /// Everything is sealed: contents take more bytes where they rest.
    pub is_sealed: bool,
    /// What each file must hold.
    pub contents: BTreeMap<FileKey, Vec<u8>>,
    /// The directory of each file.
    pub directories: BTreeMap<FileKey, u64>,
    /// What the holder of each leased file has.
    pub leases: BTreeMap<FileKey, Lease>,
    /// Leases of living files after which another one was given.
    pub overtaken: BTreeMap<FileKey, Lease>,
    /// Tenants without files: when they were created, and their status.
    pub guests: BTreeMap<usize, (Timestamp, TenantStatus)>,
    /// Guests of whom a change failed on a failing disk, with what they were before: a power cut may bring that back
    /// until a change succeeds.
    pub doubtful_guests: BTreeMap<usize, Option<(Timestamp, TenantStatus)>>,
    /// Uploads under way.
    pub uploads: BTreeMap<UploadId, Upload>,
    /// Files by the name that their write was given.
    pub named: BTreeMap<String, FileKey>,
    /// Names that may be known or not.
    pub doubtful: BTreeSet<String>,
    /// What lies in watched folders.
    pub sources: BTreeMap<Place, Source>,
    /// Sources that became files and went, with their names: the last hundred of them.
    pub gone: Vec<(Place, String)>,
    /// The files that they became.
    pub sources_gone: BTreeSet<FileKey>,
    /// What the look was told that the last crash ended, key by key: whose, the directory, the content, and the source's name.
    pub brought_in: Vec<(FileKey, usize, u64, Vec<u8>, String)>,
    /// Tenants for whose sources there was no room in this life: their watchers wait.
    pub refused: BTreeSet<usize>,
    /// Files that are over, and may never have been.
    pub unproven: BTreeSet<FileKey>,
    /// The one suspect that may be out.
    pub suspect_out: Option<FileKey>,
    tokens: BTreeSet<(u64, u64, FileKey)>,
    /// Every later token lies beyond this position,
    tokens_after: u64,
    /// which is the highest one seen.
    tokens_seen: u64,
    next_order: u64,
    /// Files were moved between volumes: a copy that was swept may come back with the power, and is swept again.
    pub moved: bool,
    /// Calls that were answered.
    pub acknowledged: u64,
}

/// What stands before a sealed content, in bytes.
const SEALED_HEAD_BYTES: u64 = 56;

impl Model {
    /// How long a content of so many bytes is where it rests.
    #[must_use]
    pub fn stored_len(&self, plain: usize) -> u64 {
        let plain = plain as u64;
        if self.is_sealed { locus_vault::sealed_len(plain) + SEALED_HEAD_BYTES } else { plain }
    }

    /// Begins to remember what is confirmed from here on; what is so now is durable.
    pub fn begin(&mut self, end: u64) {
        self.rounds = vec![Round { after: self.facts.clone(), end, calls: Vec::new() }];
        self.under_way.clear();
        self.tokens_after = self.tokens_seen;
    }

    /// Notes that all calls of a round were answered, and how far the log reached then.
    pub fn end_round(&mut self, end: u64, calls: Vec<Touched>) {
        self.acknowledged += calls.len() as u64;
        self.rounds.push(Round { after: self.facts.clone(), end, calls });
        self.under_way.clear();
        self.tokens_after = self.tokens_seen;
    }

    /// A place in the accept order, behind all others.
    pub fn next_order(&mut self) -> u64 {
        self.next_order += 1;
        self.next_order
    }

    /// The file, which must be known.
    ///
    /// # Panics
    /// When it is not.
    pub fn file_mut(&mut self, key: &FileKey) -> &mut File {
        self.facts.files.get_mut(key).expect("because only known files are asked for")
    }

    /// Files that live.
    pub fn live(&self) -> impl Iterator<Item = (&FileKey, &File)> {
        self.facts.files.iter().filter(|(_, file)| file.lives())
    }

    /// How many files of a tenant count.
    #[must_use]
    pub fn count(&self, tenant: usize) -> u64 {
        self.live().filter(|(_, file)| file.tenant == tenant && file.counts()).count() as u64
    }

    /// How many uploads of a tenant are under way.
    #[must_use]
    pub fn uploads_of(&self, tenant: usize) -> u64 {
        self.uploads.values().filter(|upload| upload.tenant == tenant).count() as u64
    }

    /// A file was handed out.
    ///
    /// # Errors
    /// When that may not be.
    pub fn leased(
        &mut self,
        file: &LeasedFile,
        now: Duration,
        owner: Owner,
        ttl: Duration,
    ) -> Result<(), Violation> {
        let token = file.lease.token;
        let is_new = self.tokens.insert((token.epoch.random, token.lsn.0, file.key));
        ensure(is_new, Kind::DoubleLease, || format!("token {token:?} of {} was used before", file.key))?;
        ensure(token.lsn.0 > self.tokens_after, Kind::DoubleLease, || {
            format!("token {token:?} does not lie behind {}", self.tokens_after)
        })?;
        self.tokens_seen = self.tokens_seen.max(token.lsn.0);
        let Some(model) = self.facts.files.get_mut(&file.key) else {
            let what = format!("{} was leased, and nobody wrote it", file.key);
            return Err(Violation::new(Kind::Unexpected, what));
        };
        match model.state {
            State::Pending { due } if due <= now => {}
            State::Processing { .. } => {
                let what = format!("{} was leased while {:?}", file.key, model.state);
                return Err(Violation::new(Kind::DoubleLease, what));
            }
            State::Over => {
                return Err(Violation::new(Kind::Resurrected, format!("{} was leased again", file.key)));
            }
            state => {
                let what = format!("{} was leased at {now:?} while {state:?}", file.key);
                return Err(Violation::new(Kind::Unexpected, what));
            }
        }
        model.state = State::Processing { deadline: now + ttl, owner, ttl };
        model.attempts += 1;
        model.token = Some(token);
        let (attempts, suspect) = (model.attempts, model.interrupted >= 2);
        ensure(attempts == file.attempt, Kind::Lost, || {
            format!("{} is at attempt {}, not {attempts}", file.key, file.attempt)
        })?;
        if suspect {
            ensure(self.suspect_out.is_none(), Kind::Unexpected, || {
                format!("two suspects are out, {} and {:?}", file.key, self.suspect_out)
            })?;
            self.suspect_out = Some(file.key);
        }
        if let Some(old) = self.leases.insert(file.key, file.lease.clone()) {
            self.overtaken.insert(file.key, old);
        }
        Ok(())
    }

    /// A lease ended: a suspect is back.
    pub fn back(&mut self, key: &FileKey) {
        if self.suspect_out == Some(*key) {
            self.suspect_out = None;
        }
    }

    /// It leaves the queue: the last lease is worth nothing any more, also when it comes back.
    pub fn set_aside(&mut self, key: &FileKey) {
        if let Some(lease) = self.leases.remove(key) {
            self.overtaken.insert(*key, lease);
        }
        let file = self.file_mut(key);
        (file.state, file.token) = (State::Dead, None);
    }

    /// A lease ended in failure; says whether the file will be tried again.
    pub fn failed(&mut self, key: &FileKey, now: Duration, policy: &RetryPolicy) -> bool {
        self.back(key);
        let file = self.file_mut(key);
        file.retries += 1;
        file.interrupted = 0;
        let delay = policy.delay(file.retries).filter(|_| file.attempts < MAX_DELIVERIES);
        file.state = delay.map_or(State::GivenUp, |delay| State::Pending { due: now + delay });
        delay.is_some()
    }

    /// The files that a call for `max` of a tenant's must be given, in order.
    #[must_use]
    pub fn next_of(&self, tenant: usize, now: Duration, max: usize) -> Vec<FileKey> {
        let mut ready: Vec<_> = self
            .facts
            .files
            .iter()
            .filter(|(_, file)| file.tenant == tenant)
            .filter(|(_, file)| matches!(file.state, State::Pending { due } if due <= now))
            .map(|(key, file)| (file.order, *key, file.interrupted >= 2))
            .collect();
        ready.sort_unstable();
        // A suspect goes alone, when it stands first and no other one is out.
        let suspect = ready.iter().find(|(_, _, suspect)| *suspect).filter(|_| self.suspect_out.is_none());
        let front = ready.iter().find(|(_, _, suspect)| !suspect);
        match (suspect, front) {
            (Some(suspect), None) => vec![suspect.1],
            (Some(suspect), Some(front)) if suspect.0 < front.0 => vec![suspect.1],
            _ => ready.iter().filter(|(_, _, suspect)| !suspect).take(max).map(|(_, key, _)| *key).collect(),
        }
    }

    /// Whether some file that waits is a suspect.
    #[must_use]
    pub fn has_suspects(&self) -> bool {
        self.live().any(|(_, file)| file.interrupted >= 2)
    }

    /// Files whose lease ran out.
    #[must_use]
    pub fn overdue(&self, now: Duration) -> Vec<FileKey> {
        let ran_out =
            |file: &File| matches!(file.state, State::Processing { deadline, .. } if deadline <= now);
        self.facts.files.iter().filter(|(_, file)| ran_out(file)).map(|(key, _)| *key).collect()
    }
}
