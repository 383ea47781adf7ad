//! Which sources were seen how, so that one that still changes is left alone. Bounded, whatever lies in a folder.

use std::{
    collections::HashMap,
    hash::{BuildHasher, RandomState},
    time::Duration,
};

use crate::source::Stat;

/// Most sources that are watched for changes at the same time; others wait for a place.
const SEEN_MAX: usize = 65_536;

#[derive(Debug, Clone, Copy)]
struct Seen {
    /// A hash of size, times and inode.
    print: u64,
    since: Duration,
    round: u32,
}

/// Sources by a keyed hash of their paths, and since when each was alike.
#[derive(Debug)]
pub(crate) struct Settling {
    seen: HashMap<u64, Seen>,
    hasher: RandomState,
    round: u32,
    max: usize,
}

impl Default for Settling {
    fn default() -> Self {
        Self { seen: HashMap::new(), hasher: RandomState::new(), round: 0, max: SEEN_MAX }
    }
}

impl Settling {
    /// Says how long this source was alike; `None` when there is no place for it. One that changed although the places are
    /// all taken gives its own to another.
    pub(crate) fn look(&mut self, path: &[u8], stat: &Stat, now: Duration) -> Option<Duration> {
        let (key, print) = (self.hasher.hash_one(path), self.hasher.hash_one(stat.print()));
        let (round, full) = (self.round, self.seen.len() >= self.max);
        match self.seen.get_mut(&key) {
            Some(seen) if seen.print == print => {
                seen.round = round;
                Some(now.saturating_sub(seen.since))
            }
            Some(_) if full => {
                self.seen.remove(&key);
                None
            }
            None if full => None,
            _ => {
                self.seen.insert(key, Seen { print, since: now, round });
                Some(Duration::ZERO)
            }
        }
    }

    /// As [`look`](Self::look), without noting anything.
    pub(crate) fn peek(&self, path: &[u8], stat: &Stat, now: Duration) -> Option<Duration> {
        let seen = self.seen.get(&self.hasher.hash_one(path))?;
        (seen.print == self.hasher.hash_one(stat.print())).then(|| now.saturating_sub(seen.since))
    }

    /// It is not watched any more.
    pub(crate) fn forget(&mut self, path: &[u8]) {
        self.seen.remove(&self.hasher.hash_one(path));
    }

    /// Everything was looked at: what was not seen is gone.
    pub(crate) fn end_round(&mut self) {
        let round = self.round;
        self.seen.retain(|_, seen| seen.round == round);
        if self.seen.is_empty() {
            self.seen = HashMap::new();
        }
        self.round = round.wrapping_add(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: Duration = Duration::from_secs(1);

    fn of(size: u64) -> Stat {
        Stat { size, ..Stat::default() }
    }

    #[test]
    fn b84_a_source_that_changes_begins_anew() {
        let mut settling = Settling::default();
        assert_eq!(settling.look(b"a", &of(1), S), Some(Duration::ZERO));
        assert_eq!(settling.look(b"a", &of(1), 3 * S), Some(2 * S));
        assert_eq!(settling.peek(b"a", &of(1), 4 * S), Some(3 * S));
        assert_eq!(settling.peek(b"a", &of(2), 4 * S), None);
        assert_eq!(settling.look(b"a", &of(2), 4 * S), Some(Duration::ZERO));
        assert_eq!(settling.look(b"a", &of(2), 5 * S), Some(S));
    }

    #[test]
    fn what_is_gone_is_forgotten_with_the_round() {
        let mut settling = Settling::default();
        settling.look(b"a", &of(1), S);
        settling.look(b"b", &of(1), S);
        settling.end_round();
        settling.look(b"b", &of(1), 2 * S);
        settling.end_round();
        assert_eq!(settling.peek(b"a", &of(1), 3 * S), None);
        assert_eq!(settling.peek(b"b", &of(1), 3 * S), Some(2 * S));
    }

    #[test]
    fn b85_its_size_is_bounded_and_one_that_never_rests_gives_its_place_away() {
        let mut settling = Settling { max: 2, ..Settling::default() };
        settling.look(b"a", &of(1), S);
        settling.look(b"b", &of(1), S);
        assert_eq!(settling.look(b"c", &of(1), S), None);
        assert_eq!(settling.look(b"a", &of(2), 2 * S), None, "it changed");
        assert_eq!(settling.look(b"c", &of(1), 2 * S), Some(Duration::ZERO));
        settling.forget(b"b");
        assert_eq!(settling.look(b"a", &of(2), 2 * S), Some(Duration::ZERO));
        assert_eq!(settling.seen.len(), 2);
    }
}
