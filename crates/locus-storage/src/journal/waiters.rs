//! Those who wait for the log to reach an LSN. Each is woken by itself.

use std::collections::BTreeMap;

use locus_core::Lsn;

use crate::sync::oneshot;

/// What a waiter is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reached {
    Yes,
    /// The journal was poisoned first, or its committer ended.
    Never,
}

/// Waiters by the LSN they wait for.
#[derive(Debug, Default)]
pub(crate) struct Waiters {
    next: u64,
    by_lsn: BTreeMap<(Lsn, u64), oneshot::Sender<Reached>>,
}

impl Waiters {
    pub(crate) fn add(&mut self, lsn: Lsn) -> oneshot::Receiver<Reached> {
        let (sender, receiver) = oneshot::channel();
        self.next += 1;
        self.by_lsn.insert((lsn, self.next), sender);
        receiver
    }

    /// The lowest LSN that somebody still waits for. Those who gave up are forgotten on the way.
    pub(crate) fn lowest(&mut self) -> Option<Lsn> {
        while let Some(first) = self.by_lsn.first_entry() {
            if !first.get().is_closed() {
                return Some(first.key().0);
            }
            first.remove();
        }
        None
    }

    /// Takes out those that wait for at most `lsn`, so that they can be woken outside the lock.
    pub(crate) fn take_reached(&mut self, lsn: Lsn) -> Vec<oneshot::Sender<Reached>> {
        if self.by_lsn.first_key_value().is_none_or(|((first, _), _)| *first > lsn) {
            return Vec::new();
        }
        let later = self.by_lsn.split_off(&(lsn.next(), 0));
        std::mem::replace(&mut self.by_lsn, later).into_values().collect()
    }

    pub(crate) fn take_all(&mut self) -> Vec<oneshot::Sender<Reached>> {
        std::mem::take(&mut self.by_lsn).into_values().collect()
    }
}

/// Wakes each; one that gave up is passed by.
pub(crate) fn wake(waiters: Vec<oneshot::Sender<Reached>>, reached: Reached) {
    for waiter in waiters {
        let _ = waiter.send(reached);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_at_or_below_the_lsn_are_woken_and_no_others() {
        let mut waiters = Waiters::default();
        let mut five = waiters.add(Lsn(5));
        let mut six = waiters.add(Lsn(6));
        assert_eq!(waiters.lowest(), Some(Lsn(5)));
        wake(waiters.take_reached(Lsn(5)), Reached::Yes);
        assert_eq!(five.try_recv(), Ok(Reached::Yes));
        assert!(six.try_recv().is_err());
        drop(six);
        assert_eq!(waiters.lowest(), None);
    }
}
