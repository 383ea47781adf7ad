//! What the store refused for now is tried again later, less and less often, and told once.

use std::{collections::HashMap, time::Duration};

use locus_core::{Error, LogicalDir, TenantId};

const FIRST: Duration = Duration::from_secs(5);
const LONGEST: Duration = Duration::from_secs(5 * 60);
/// Most tenants and directories that are paused by themselves; beyond them everything is.
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
    /// Removing and moving sources.
    After,
}

impl Place {
    /// What an error of a write to this directory is about.
    pub(crate) fn of(error: &Error, tenant: &TenantId, directory: &LogicalDir) -> Self {
        match error {
            Error::TenantQuotaExceeded { .. } => Self::Tenant(tenant.clone()),
            // The limit of a subtree names the directory above, which is asked again by each one in it.
            Error::DirectoryQuotaExceeded { .. } => Self::Directory(tenant.clone(), directory.clone()),
            _ => Self::Store,
        }
    }
}

#[derive(Debug, Clone, Copy)]
struct Pause {
    until: Duration,
    next: Duration,
}

/// The pauses of one watcher.
#[derive(Debug, Default)]
pub(crate) struct Pauses {
    of: HashMap<Place, Pause>,
}

impl Pauses {
    /// Until when nothing is tried for this directory.
    pub(crate) fn of_directory(
        &self,
        tenant: &TenantId,
        directory: &LogicalDir,
        now: Duration,
    ) -> Option<Duration> {
        if self.of.is_empty() {
            return None;
        }
        let places = [
            Place::Store,
            Place::Tenant(tenant.clone()),
            Place::Directory(tenant.clone(), directory.clone()),
        ];
        places.iter().filter_map(|place| self.of(place, now)).max()
    }

    /// Until when nothing is tried here.
    pub(crate) fn of(&self, place: &Place, now: Duration) -> Option<Duration> {
        self.of.get(place).map(|pause| pause.until).filter(|until| *until > now)
    }

    /// It was refused. Says whether that is news.
    pub(crate) fn refused(&mut self, place: Place, now: Duration) -> bool {
        let place =
            if self.of.len() >= PAUSES_MAX && !self.of.contains_key(&place) { Place::Store } else { place };
        let known = self.of.get(&place).copied();
        if known.is_some_and(|pause| pause.until > now) {
            return false; // by one of those that were under way
        }
        let delay = known.map_or(FIRST, |pause| pause.next);
        let pause = Pause { until: now.saturating_add(delay), next: (delay * 2).min(LONGEST) };
        self.of.insert(place, pause);
        known.is_none()
    }

    /// A write to this directory succeeded. Says whether that is news.
    pub(crate) fn taken(&mut self, tenant: &TenantId, directory: &LogicalDir) -> bool {
        if self.of.is_empty() {
            return false;
        }
        let places = [
            Place::Store,
            Place::Tenant(tenant.clone()),
            Place::Directory(tenant.clone(), directory.clone()),
        ];
        // All of them: `any` would stop at the first.
        places.iter().filter(|place| self.of.remove(place).is_some()).count() > 0
    }

    /// It works again. Says whether that is news.
    pub(crate) fn over(&mut self, place: &Place) -> bool {
        self.of.remove(place).is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn world() -> (Pauses, TenantId, LogicalDir, LogicalDir) {
        let dir = |text| LogicalDir::parse(text).unwrap();
        (Pauses::default(), TenantId::parse("acme").unwrap(), dir("/a"), dir("/b"))
    }

    #[test]
    fn a_refusal_is_told_once_and_tried_less_and_less_often() {
        let (mut pauses, tenant, a, _) = world();
        let mut now = Duration::ZERO;
        let mut delays = Vec::new();
        for attempt in 0..9 {
            assert_eq!(pauses.refused(Place::Tenant(tenant.clone()), now), attempt == 0);
            assert!(!pauses.refused(Place::Tenant(tenant.clone()), now), "one of those under way");
            let until = pauses.of_directory(&tenant, &a, now).unwrap();
            delays.push((until - now).as_secs());
            now = until;
            assert_eq!(pauses.of_directory(&tenant, &a, now), None);
        }
        assert_eq!(delays, [5, 10, 20, 40, 80, 160, 300, 300, 300]);
        assert!(pauses.taken(&tenant, &a));
        assert!(!pauses.taken(&tenant, &a));
    }

    #[test]
    fn a_full_directory_holds_up_no_other() {
        let (mut pauses, tenant, a, b) = world();
        let full = Error::DirectoryQuotaExceeded {
            tenant: tenant.clone(),
            directory: a.clone(),
            used: 1,
            limit: 1,
            unit: locus_core::QuotaUnit::Files,
        };
        pauses.refused(Place::of(&full, &tenant, &a), Duration::ZERO);
        assert!(pauses.of_directory(&tenant, &a, Duration::ZERO).is_some());
        assert!(pauses.of_directory(&tenant, &b, Duration::ZERO).is_none());
        pauses.refused(Place::of(&Error::ShuttingDown, &tenant, &b), Duration::ZERO);
        assert!(pauses.of_directory(&tenant, &b, Duration::ZERO).is_some());
    }

    #[test]
    fn pauses_are_bounded() {
        let (mut pauses, _, a, _) = world();
        for number in 0..PAUSES_MAX + 9 {
            pauses.refused(Place::Tenant(TenantId::parse(&format!("t{number}")).unwrap()), Duration::ZERO);
        }
        assert!(pauses.of.len() <= PAUSES_MAX + 1);
        assert!(pauses.of_directory(&TenantId::parse("last").unwrap(), &a, Duration::ZERO).is_some());
    }
}
