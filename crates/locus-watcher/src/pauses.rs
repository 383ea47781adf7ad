//! What the store refused for now is tried again later, less and less often, and told once.

use std::{
    collections::HashMap,
    hash::{BuildHasher, RandomState},
    time::Duration,
};

use locus_core::{Error, LogicalDir, QuotaUnit, TenantId};

use crate::{reason::SkipReason, source::Stat};

const FIRST: Duration = Duration::from_secs(5);
const LONGEST: Duration = Duration::from_secs(5 * 60);
/// Most tenants, directories and sources that are paused by themselves; beyond them everything is, or nothing where they cannot
/// be read.
const PAUSES_MAX: usize = 4_096;

/// What a refusal is about.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Place {
    /// The store as a whole.
    Store,
    /// One tenant.
    Tenant(TenantId),
    /// One logical directory.
    Directory(TenantId, LogicalDir),
    /// One source, by a hash of what it is.
    Source(u64),
    /// Removing and moving sources.
    After,
}

/// A source, and where it is to go.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Subject<'a> {
    pub(crate) tenant: &'a TenantId,
    pub(crate) directory: &'a LogicalDir,
    pub(crate) path: &'a [u8],
    pub(crate) stat: &'a Stat,
}

/// What was refused, and why.
#[derive(Debug, Clone, Copy)]
struct Pause {
    until: Duration,
    next: Duration,
    why: SkipReason,
    /// What is shorter may fit all the same, in bytes.
    from_size: u64,
}

/// The pauses of one watcher.
#[derive(Debug, Default)]
pub(crate) struct Pauses {
    of: HashMap<Place, Pause>,
    hasher: RandomState,
}

impl Pauses {
    /// Until when this source is not tried, and why.
    pub(crate) fn of_source(&self, subject: Subject<'_>, now: Duration) -> Option<(Duration, SkipReason)> {
        if self.of.is_empty() {
            return None;
        }
        let pauses = self.above(subject).into_iter().filter_map(|place| self.of.get(&place));
        let holding = pauses.filter(|pause| pause.until > now && subject.stat.size >= pause.from_size);
        holding.map(|pause| (pause.until, pause.why)).max_by_key(|(until, _)| *until)
    }

    /// Until when nothing is tried here.
    pub(crate) fn of(&self, place: &Place, now: Duration) -> Option<Duration> {
        self.of.get(place).map(|pause| pause.until).filter(|until| *until > now)
    }

    /// The source alone.
    pub(crate) fn source(&self, path: &[u8], stat: &Stat) -> Place {
        Place::Source(self.hasher.hash_one((path, stat.print())))
    }

    /// What a refusal of this source is about: where it was to go, from its size on, or itself.
    pub(crate) fn place_of(&self, error: &Error, subject: Subject<'_>) -> (Place, u64) {
        let Subject { tenant, directory, path, stat } = subject;
        let from_size = |unit: &QuotaUnit| if *unit == QuotaUnit::Bytes { stat.size } else { 0 };
        match error {
            Error::TenantQuotaExceeded { unit, .. } => (Place::Tenant(tenant.clone()), from_size(unit)),
            // The limit of a subtree names the directory above, which is asked again by each one in it.
            Error::DirectoryQuotaExceeded { unit, .. } => {
                (Place::Directory(tenant.clone(), directory.clone()), from_size(unit))
            }
            Error::GlobalQuotaExceeded { unit, .. } => (Place::Store, from_size(unit)),
            // Small ones may still rest in the journal.
            Error::InsufficientStorage { .. } | Error::VolumeUnavailable { .. } => (Place::Store, stat.size),
            Error::Poisoned { .. } | Error::TooLarge { what: Error::IDEMPOTENCY_KEYS, .. } => {
                (Place::Store, 0)
            }
            _ => (self.source(path, stat), 0),
        }
    }

    /// It was refused, and so will be what is at least so long. Says whether that is news.
    pub(crate) fn refused(
        &mut self,
        place: Place,
        from_size: u64,
        why: SkipReason,
        now: Duration,
    ) -> (Duration, bool) {
        let is_full = self.of.len() >= PAUSES_MAX && !self.of.contains_key(&place);
        if is_full && why == SkipReason::Unreadable {
            return (now.saturating_add(LONGEST), false); // others can be read
        }
        let (place, from_size) = match (is_full, why) {
            (false, _) => (place, from_size),
            (true, SkipReason::AfterImport) => (Place::After, 0),
            (true, _) => (Place::Store, 0),
        };
        let known = self.of.get_mut(&place);
        if let Some(pause) = known
            && pause.until > now
        {
            pause.from_size = pause.from_size.min(from_size);
            return (pause.until, false); // by one of those that were under way, or a shorter one
        }
        let known = self.of.get(&place);
        let (delay, is_news) = (known.map_or(FIRST, |pause| pause.next), known.is_none());
        let until = now.saturating_add(delay);
        self.of.insert(place, Pause { until, next: (delay * 2).min(LONGEST), why, from_size });
        (until, is_news)
    }

    /// A write of this source succeeded. Says whether that is news of more than itself.
    pub(crate) fn taken(&mut self, subject: Subject<'_>) -> bool {
        if self.of.is_empty() {
            return false;
        }
        let [above @ .., itself] = self.above(subject);
        self.of.remove(&itself);
        let mut is_news = false;
        for place in above {
            if self.of.get(&place).is_some_and(|pause| subject.stat.size >= pause.from_size) {
                self.of.remove(&place);
                is_news = true;
            }
        }
        is_news
    }

    /// It works again. Says whether that is news.
    pub(crate) fn over(&mut self, place: &Place) -> bool {
        self.of.remove(place).is_some()
    }

    /// Everything was looked at, as it will be after `interval` again: what nobody asked for is gone.
    pub(crate) fn end_round(&mut self, now: Duration, interval: Duration) {
        let forgotten = LONGEST.saturating_add(interval);
        self.of.retain(|_, pause| pause.until.saturating_add(forgotten) > now);
    }

    /// All that a write of this source may be held up by, itself last.
    fn above(&self, Subject { tenant, directory, path, stat }: Subject<'_>) -> [Place; 4] {
        let directory = Place::Directory(tenant.clone(), directory.clone());
        [Place::Store, Place::Tenant(tenant.clone()), directory, self.source(path, stat)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Case {
        tenant: TenantId,
        a: LogicalDir,
        b: LogicalDir,
        stat: Stat,
    }

    impl Case {
        fn new() -> Self {
            let dir = |text| LogicalDir::parse(text).unwrap();
            let stat = Stat { size: 10, ..Stat::default() };
            Self { tenant: TenantId::parse("acme").unwrap(), a: dir("/a"), b: dir("/b"), stat }
        }

        fn of<'a>(&'a self, directory: &'a LogicalDir, stat: &'a Stat) -> Subject<'a> {
            Subject { tenant: &self.tenant, directory, path: b"x", stat }
        }
    }

    const WAITING: SkipReason = SkipReason::Waiting;
    const ZERO: Duration = Duration::ZERO;

    #[test]
    fn a_refusal_is_told_once_and_tried_less_and_less_often() {
        let (case, mut pauses) = (Case::new(), Pauses::default());
        let subject = case.of(&case.a, &case.stat);
        let (mut now, mut delays) = (ZERO, Vec::new());
        for attempt in 0..9 {
            let place = Place::Tenant(case.tenant.clone());
            assert_eq!(pauses.refused(place.clone(), 0, WAITING, now).1, attempt == 0);
            assert!(!pauses.refused(place, 0, WAITING, now).1, "one of those under way");
            let (until, _) = pauses.of_source(subject, now).unwrap();
            delays.push((until - now).as_secs());
            now = until;
            assert_eq!(pauses.of_source(subject, now), None);
        }
        assert_eq!(delays, [5, 10, 20, 40, 80, 160, 300, 300, 300]);
        assert!(pauses.taken(subject));
        assert!(!pauses.taken(subject));
    }

    #[test]
    fn a_full_directory_holds_up_no_other() {
        let (case, mut pauses) = (Case::new(), Pauses::default());
        let full = Error::DirectoryQuotaExceeded {
            tenant: case.tenant.clone(),
            directory: case.a.clone(),
            used: 1,
            limit: 1,
            unit: QuotaUnit::Files,
        };
        let (a, b) = (case.of(&case.a, &case.stat), case.of(&case.b, &case.stat));
        let (place, from_size) = pauses.place_of(&full, a);
        pauses.refused(place, from_size, WAITING, ZERO);
        assert!(pauses.of_source(a, ZERO).is_some() && pauses.of_source(b, ZERO).is_none());
    }

    #[test]
    fn what_does_not_fit_holds_up_nothing_shorter_and_what_nobody_understands_only_itself() {
        let (case, mut pauses) = (Case::new(), Pauses::default());
        let (short, long) = (Stat { size: 9, ..case.stat }, Stat { size: 11, ..case.stat });
        let held = |pauses: &Pauses, stat: &Stat| pauses.of_source(case.of(&case.b, stat), ZERO).is_some();
        let refuse = |pauses: &mut Pauses, error: &Error, stat: &Stat| {
            let (place, from_size) = pauses.place_of(error, case.of(&case.a, stat));
            pauses.refused(place, from_size, WAITING, ZERO);
        };
        let full = Error::InsufficientStorage { required: 10, available: 9 };
        refuse(&mut pauses, &full, &case.stat);
        assert!(held(&pauses, &long) && held(&pauses, &case.stat) && !held(&pauses, &short));
        assert!(!pauses.taken(case.of(&case.a, &short)));
        assert!(held(&pauses, &long), "a short one says nothing about a long one");
        refuse(&mut pauses, &full, &short);
        assert!(held(&pauses, &short));
        assert!(pauses.taken(case.of(&case.a, &long)));
        assert!(!held(&pauses, &short));

        refuse(&mut pauses, &Error::InvalidArgument { name: "x", why: "y" }, &case.stat);
        assert!(held(&pauses, &case.stat) && !held(&pauses, &long) && !held(&pauses, &short));
        pauses.end_round(LONGEST * 3, LONGEST);
        assert!(pauses.of.is_empty(), "nobody asked for it any more");
    }

    #[test]
    fn pauses_are_bounded() {
        let (case, mut pauses) = (Case::new(), Pauses::default());
        for number in 0..PAUSES_MAX + 9 {
            pauses.refused(Place::Source(number as u64), 7, WAITING, ZERO);
        }
        assert!(pauses.of.len() <= PAUSES_MAX + 1);
        assert!(pauses.of_source(case.of(&case.a, &Stat::default()), ZERO).is_some());
    }

    #[test]
    fn sources_that_cannot_be_read_hold_up_no_other_however_many_they_are() {
        let (case, mut pauses) = (Case::new(), Pauses::default());
        for number in 0..PAUSES_MAX + 9 {
            let place = Place::Source(number as u64);
            assert!(pauses.refused(place, 0, SkipReason::Unreadable, ZERO).0 > ZERO);
        }
        assert_eq!(pauses.of.len(), PAUSES_MAX);
        assert!(pauses.of_source(case.of(&case.a, &Stat::default()), ZERO).is_none());
    }
}
