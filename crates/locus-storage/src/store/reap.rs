//! Files that are over and wait for their bytes to be removed, per volume.

use std::collections::{BTreeMap, VecDeque};

use locus_core::{Area, FileKey, Lsn, Site};

use super::{
    entry::{JOURNAL, VolumeNo},
    hold::Holds,
    schedule::TenantNo,
};

/// A file that is over since `lsn`, or what is a copy since then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Over {
    pub(crate) lsn: Lsn,
    pub(crate) tenant: TenantNo,
    pub(crate) key: FileKey,
    /// What lies in this area is no more than a copy.
    pub(crate) copy_in: Option<Area>,
}

/// Who waits to be reaped.
#[derive(Debug, Default)]
pub(crate) struct ReapQueue {
    waiting: BTreeMap<VolumeNo, VecDeque<Over>>,
    /// The volume whose turn it is.
    turn: VolumeNo,
    /// Files handed out and not yet given back.
    out: u64,
    /// How many of these, and of those waiting, are copies.
    copies: u64,
    holds: Holds,
}

impl ReapQueue {
    /// Says whether it is the first that waits on its volume: who waits for something to reap waits for another otherwise.
    pub(crate) fn push(&mut self, volume: VolumeNo, over: Over) -> bool {
        self.copies += u64::from(over.copy_in.is_some());
        let queue = self.waiting.entry(volume).or_default();
        queue.push_back(over);
        queue.len() == 1
    }

    /// Keeps files of volumes that end behind what `from` says, until that number is let go. Asked under the lock: whoever
    /// was handed out before had ended by then.
    pub(crate) fn hold(&mut self, from: impl FnOnce() -> Lsn) -> u64 {
        self.holds.add(from())
    }

    pub(crate) fn let_go(&mut self, number: u64) {
        self.holds.remove(number);
    }

    pub(crate) fn is_held(&self) -> bool {
        !self.holds.is_empty()
    }

    fn limit(&self, volume: VolumeNo) -> Lsn {
        if volume == JOURNAL { Lsn::MAX } else { self.holds.limit() }
    }

    /// Hands out up to `max` files of available volumes whose end is durable.
    pub(crate) fn take(
        &mut self,
        max: usize,
        durable: Lsn,
        available: impl Fn(VolumeNo) -> bool,
    ) -> Vec<(VolumeNo, Over)> {
        let mut taken = Vec::new();
        for volume in &self.turns() {
            let limit = durable.min(self.limit(*volume));
            let Some(queue) = self.waiting.get_mut(volume).filter(|_| available(*volume)) else { continue };
            if taken.len() < max {
                self.turn = volume.saturating_add(1);
            }
            while taken.len() < max
                && queue.front().is_some_and(|over| over.lsn <= limit || !Site::ReapedWhenDurable.stands())
            {
                if let Some(over) = queue.pop_front() {
                    taken.push((*volume, over));
                }
            }
        }
        self.out += taken.len() as u64;
        taken
    }

    /// Volumes in the order in which their turn comes.
    fn turns(&self) -> Vec<VolumeNo> {
        let mut turns: Vec<VolumeNo> = self.waiting.keys().copied().collect();
        let first = turns.partition_point(|volume| *volume < self.turn);
        turns.rotate_left(first);
        turns
    }

    /// As [`take`](Self::take), of one tenant. Looks at all that waits before it.
    pub(crate) fn take_of(
        &mut self,
        tenant: TenantNo,
        max: usize,
        durable: Lsn,
        available: impl Fn(VolumeNo) -> bool,
    ) -> Vec<(VolumeNo, Over)> {
        let mut taken = Vec::new();
        for volume in &self.turns() {
            if taken.len() == max {
                break;
            }
            let limit = durable.min(self.limit(*volume));
            let Some(queue) = self.waiting.get_mut(volume).filter(|_| available(*volume)) else { continue };
            self.turn = volume.saturating_add(1);
            let mut others = Vec::new();
            while taken.len() < max
                && let Some(over) = queue.pop_front()
            {
                if over.tenant == tenant && over.lsn <= limit {
                    taken.push((*volume, over));
                } else {
                    others.push(over);
                }
            }
            others.into_iter().rev().for_each(|over| queue.push_front(over));
        }
        self.out += taken.len() as u64;
        taken
    }

    /// Hands out up to `max` files of one volume, available or not, held or not, whose end is durable.
    pub(crate) fn take_from(&mut self, volume: VolumeNo, max: usize, durable: Lsn) -> Vec<Over> {
        let mut taken = Vec::new();
        let Some(queue) = self.waiting.get_mut(&volume) else { return taken };
        while taken.len() < max && queue.front().is_some_and(|over| over.lsn <= durable) {
            taken.extend(queue.pop_front());
        }
        self.out += taken.len() as u64;
        taken
    }

    /// So many came back, reaped or not, and so many of them are copies.
    pub(crate) fn came_back(&mut self, files: usize, copies: usize) {
        self.out = self.out.saturating_sub(files as u64);
        self.copies = self.copies.saturating_sub(copies as u64);
    }

    /// The lowest LSN at the head of an available volume's queue that is not held: when it is durable, there is something
    /// to reap.
    pub(crate) fn next(&self, available: impl Fn(VolumeNo) -> bool) -> Option<Lsn> {
        let heads = self
            .waiting
            .iter()
            .filter(|(volume, _)| available(**volume))
            .filter_map(|(volume, queue)| Some((self.limit(*volume), queue.front()?.lsn)));
        heads.filter(|(limit, lsn)| lsn <= limit).map(|(_, lsn)| lsn).min()
    }

    /// All files that are over and wait or are out.
    pub(crate) fn total(&self) -> u64 {
        self.waiting.values().map(|queue| queue.len() as u64).sum::<u64>() + self.out - self.copies
    }

    /// Files and copies that are meant, wait on available volumes and are not held.
    pub(crate) fn waiting(
        &self,
        available: impl Fn(VolumeNo) -> bool,
        is_meant: impl Fn(&Over) -> bool,
    ) -> (u64, u64) {
        let queues = self.waiting.iter().filter(|(volume, _)| available(**volume));
        let waits =
            queues.flat_map(|(volume, queue)| queue.iter().filter(|over| over.lsn <= self.limit(*volume)));
        waits.filter(|over| is_meant(over)).fold((0, 0), |(files, copies), over| match over.copy_in {
            None => (files + 1, copies),
            Some(_) => (files, copies + 1),
        })
    }

    /// Whether nothing waits on an available volume, held or not, and nothing is out.
    pub(crate) fn is_settled(&self, available: impl Fn(VolumeNo) -> bool) -> bool {
        let waits = |(volume, queue): (&VolumeNo, &VecDeque<Over>)| available(*volume) && !queue.is_empty();
        self.out == 0 && !self.waiting.iter().any(waits)
    }
}

#[cfg(test)]
mod tests {
    use locus_core::Timestamp;

    use super::*;

    fn over(lsn: u64) -> Over {
        let key = FileKey::generate(Timestamp::from_micros(0), &[lsn as u8; 10]);
        Over { lsn: Lsn(lsn), tenant: 0, key, copy_in: None }
    }

    fn lsns(taken: &[(VolumeNo, Over)]) -> Vec<(VolumeNo, u64)> {
        taken.iter().map(|(volume, over)| (*volume, over.lsn.0)).collect()
    }

    fn queue(waiting: &[(VolumeNo, u64)]) -> ReapQueue {
        let mut queue = ReapQueue::default();
        for (volume, lsn) in waiting {
            queue.push(*volume, over(*lsn));
        }
        queue
    }

    #[test]
    fn only_the_first_that_waits_on_a_volume_makes_a_difference_to_who_waits_for_one() {
        let mut queue = ReapQueue::default();
        let mut came = [(0, 1), (0, 2), (1, 3)].map(|(volume, lsn)| queue.push(volume, over(lsn)));
        assert_eq!(came, [true, false, true]);
        queue.take(1, Lsn::MAX, |_| true);
        came = [(0, 4), (1, 5), (1, 6)].map(|(volume, lsn)| queue.push(volume, over(lsn)));
        assert_eq!(came, [false, false, false], "another one is still ahead");
        queue.take(9, Lsn::MAX, |_| true);
        assert!(queue.push(0, over(7)));
    }

    #[test]
    fn b38_what_was_handed_out_counts_until_it_comes_back() {
        let mut queue = queue(&[(0, 1), (0, 2), (1, 3)]);
        assert_eq!(queue.take(2, Lsn::MAX, |_| true).len(), 2);
        assert_eq!(queue.total(), 3);
        queue.came_back(1, 0);
        assert_eq!(queue.total(), 2);
        assert!(!queue.is_settled(|_| true));
    }

    #[test]
    fn b75_what_cannot_be_removed_of_a_tenant_holds_up_no_other_volume() {
        let mut queue = queue(&[(0, 1), (0, 2), (0, 3), (1, 4), (JOURNAL, 5)]);
        queue.push(1, Over { tenant: 1, ..over(3) });
        let mut tried = Vec::new();
        for _ in 0..3 {
            let taken = queue.take_of(0, 2, Lsn(9), |_| true);
            queue.came_back(taken.len(), 0);
            for (volume, over) in &taken {
                queue.push(*volume, *over);
            }
            tried.extend(lsns(&taken));
        }
        tried.sort_unstable();
        tried.dedup();
        assert_eq!(tried, [(0, 1), (0, 2), (0, 3), (1, 4), (JOURNAL, 5)]);
        assert_eq!(queue.total(), 6);
    }

    #[test]
    fn volumes_take_turns_also_when_one_of_them_fills_a_call() {
        let mut queue = queue(&[(0, 1), (0, 2), (0, 3), (1, 4), (1, 5), (2, 6)]);
        assert_eq!(lsns(&queue.take(2, Lsn::MAX, |_| true)), [(0, 1), (0, 2)]);
        assert_eq!(lsns(&queue.take(1, Lsn::MAX, |_| true)), [(1, 4)]);
        assert_eq!(lsns(&queue.take(2, Lsn::MAX, |volume| volume != 2)), [(0, 3), (1, 5)]);
        assert_eq!(lsns(&queue.take(9, Lsn::MAX, |_| true)), [(2, 6)]);
    }

    #[test]
    fn what_is_not_durably_over_is_not_handed_out() {
        let mut queue = queue(&[(0, 5), (0, 6), (1, 7)]);
        assert_eq!(lsns(&queue.take(9, Lsn(5), |_| true)), [(0, 5)]);
        assert!(queue.take(9, Lsn(5), |_| true).is_empty());
        assert_eq!((queue.next(|_| true), queue.next(|volume| volume == 1)), (Some(Lsn(6)), Some(Lsn(7))));
    }
}
