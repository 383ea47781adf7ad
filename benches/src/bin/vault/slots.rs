//! Entities that nobody uses just now.

use std::collections::VecDeque;

use parking_lot::Mutex;

/// How many entities there are: more than calls in flight, so that none waits for another.
pub(crate) const ENTITIES: usize = 128;

/// Numbers of entities that nobody uses just now, the one that was used longest ago first.
#[derive(Debug)]
pub(crate) struct Slots(Mutex<VecDeque<usize>>);

impl Slots {
    pub(crate) fn new() -> Self {
        Self(Mutex::new((0..ENTITIES).collect()))
    }

    /// One for the time of a call.
    pub(crate) fn take(&self) -> Option<Slot<'_>> {
        let number = self.0.lock().pop_front()?;
        Some(Slot { number, of: self })
    }
}

/// An entity that nobody else uses as long as this lives.
#[derive(Debug)]
pub(crate) struct Slot<'a> {
    pub(crate) number: usize,
    of: &'a Slots,
}

impl Drop for Slot<'_> {
    fn drop(&mut self) {
        self.of.0.lock().push_back(self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_gets_what_somebody_has_and_all_come_round() {
        let slots = Slots::new();
        let held = slots.take().unwrap();
        let others = (1..ENTITIES).map(|_| slots.take().unwrap()).collect::<Vec<_>>();
        assert!(others.iter().all(|other| other.number != held.number) && slots.take().is_none());
        drop((others, held));
        assert_eq!((slots.take().unwrap().number, slots.take().unwrap().number), (1, 2));
    }
}
