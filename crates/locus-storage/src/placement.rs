//! Which volume new content goes to. Decides only: the caller brings the facts.

use std::{
    borrow::Cow,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use locus_core::{Entropy, Error, Result, VolumeId};
use parking_lot::RwLock;
use serde::{Deserialize, Serialize};

/// How a volume is chosen among those that take new content and have room for it.
///
/// A volume's room is what is available on it, less what is in flight to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Placement {
    /// The volume with the most room. Of equals, the first. Rooms become equal, so that a large volume takes everything
    /// until the others have as much.
    #[default]
    MostAvailable,
    /// One after the other, whatever their sizes: each gets as many files.
    RoundRobin,
    /// The volume of which the smallest share is used. Of equals, the first. Shares become equal, so that each gets bytes
    /// in proportion to its size.
    LeastUsed,
    /// At random, in proportion to their sizes, however full they are.
    CapacityWeighted,
    /// Two volumes at random, in proportion to their sizes, and of these the one of which the smaller share is used: nearly
    /// as even as [`LeastUsed`](Self::LeastUsed), and writers that come at once do not all choose the same one.
    TwoChoices,
}

/// A volume that content may go to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// Its name.
    pub volume: VolumeId,
    /// Bytes that it holds when it is empty.
    pub total: u64,
    /// Bytes that are available as far as it knows.
    pub available: u64,
    /// Bytes of writes under way.
    pub in_flight: u64,
    /// Why it takes no new content, when it takes none.
    pub unusable: Option<Cow<'static, str>>,
}

impl Candidate {
    /// Bytes that this write may count on.
    const fn room(&self) -> u64 {
        self.available.saturating_sub(self.in_flight)
    }

    /// Whether a smaller share of it is used than of the other.
    const fn is_less_used(&self, than: &Self) -> bool {
        // The larger the share that is left, the smaller the one that is used.
        self.room() as u128 * than.size() > than.room() as u128 * self.size()
    }

    /// Its size; a volume that does not know it has at least what is available.
    const fn size(&self) -> u128 {
        let size = if self.total < self.available { self.available } else { self.total };
        if size == 0 { 1 } else { size as u128 }
    }
}

/// What makes one choice differ from the next where the facts do not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Draw {
    /// How many choices came before.
    pub turn: u64,
    /// 128 random bits.
    pub random: [u64; 2],
}

/// The index of the candidate that content of `size_hint` bytes (`None`: unknown) goes to.
///
/// # Errors
/// [`Error::VolumeUnavailable`] when no candidate takes new content, with their reasons;
/// [`Error::InsufficientStorage`] when some do and none has room. Nothing was written.
pub fn choose(
    placement: Placement,
    candidates: &[Candidate],
    size_hint: Option<u64>,
    draw: Draw,
) -> Result<usize> {
    let required = size_hint.unwrap_or(0).max(1);
    let usable = || candidates.iter().enumerate().filter(|(_, candidate)| candidate.unusable.is_none());
    let with_room: Vec<(usize, &Candidate)> =
        usable().filter(|(_, candidate)| candidate.room() >= required).collect();
    if with_room.is_empty() {
        return Err(match usable().map(|(_, candidate)| candidate.room()).max() {
            Some(available) => Error::InsufficientStorage { required, available },
            None => none_usable(candidates),
        });
    }
    let first_of = |is_better: fn(&Candidate, &Candidate) -> bool| {
        let best = with_room
            .iter()
            .copied()
            .reduce(|best, next| if is_better(next.1, best.1) { next } else { best });
        best.map_or(0, |(index, _)| index)
    };
    let [one, other] = draw.random;
    Ok(match placement {
        Placement::MostAvailable => first_of(|next, best| next.room() > best.room()),
        Placement::LeastUsed => first_of(Candidate::is_less_used),
        // The cast loses nothing: the remainder is less than a length.
        Placement::RoundRobin => with_room[(draw.turn % with_room.len() as u64) as usize].0,
        Placement::CapacityWeighted => by_size(&with_room, one).0,
        Placement::TwoChoices => {
            let (one, other) = (by_size(&with_room, one), by_size(&with_room, other));
            if other.1.is_less_used(one.1) { other.0 } else { one.0 }
        }
    })
}

/// One of these, in proportion to their sizes.
fn by_size<'a>(candidates: &[(usize, &'a Candidate)], random: u64) -> (usize, &'a Candidate) {
    let total: u128 = candidates.iter().map(|(_, candidate)| candidate.size()).sum();
    // A point below the sum of all sizes. Of a sum beyond 2^64 the lowest bits do not matter.
    let shift = (128 - total.leading_zeros()).saturating_sub(64);
    let mut at = ((u128::from(random) * (total >> shift)) >> 64) << shift;
    for (index, candidate) in candidates {
        match at.checked_sub(candidate.size()) {
            Some(behind) => at = behind,
            None => return (*index, candidate),
        }
    }
    candidates[candidates.len() - 1]
}

/// Chooses volumes one after the other: a [`Placement`], and the draws for it.
#[derive(Debug)]
pub(crate) struct Placer {
    how: RwLock<Placement>,
    turn: AtomicU64,
    entropy: Arc<dyn Entropy>,
}

impl Placer {
    pub(crate) fn new(entropy: Arc<dyn Entropy>) -> Self {
        Self { how: RwLock::default(), turn: AtomicU64::new(0), entropy }
    }

    pub(crate) fn set(&self, how: Placement) {
        *self.how.write() = how;
    }

    pub(crate) fn choose(&self, candidates: &[Candidate], size_hint: Option<u64>) -> Result<usize> {
        let how = *self.how.read();
        let random = match how {
            Placement::CapacityWeighted => [self.entropy.next_u64(), 0],
            Placement::TwoChoices => [self.entropy.next_u64(), self.entropy.next_u64()],
            _ => [0; 2],
        };
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        choose(how, candidates, size_hint, Draw { turn, random })
    }
}

fn none_usable(candidates: &[Candidate]) -> Error {
    let reason = |candidate: &Candidate| candidate.unusable.clone().unwrap_or_default();
    match candidates {
        [] => Error::VolumeUnavailable { volume: None, why: "no volume is mounted".into() },
        [one] => Error::VolumeUnavailable { volume: Some(one.volume.clone()), why: reason(one) },
        many => {
            let each = many.iter().map(|one| format!("{} {}", one.volume, reason(one))).collect::<Vec<_>>();
            let why = format!("no volume takes new content: {}", each.join("; ")).into();
            Error::VolumeUnavailable { volume: None, why }
        }
    }
}

#[cfg(test)]
mod tests {
    use locus_testkit::SeededEntropy;
    use rstest::rstest;

    use super::*;

    const ALL: [Placement; 5] = [
        Placement::MostAvailable,
        Placement::RoundRobin,
        Placement::LeastUsed,
        Placement::CapacityWeighted,
        Placement::TwoChoices,
    ];

    fn candidates(rows: &[(u64, u64, bool)]) -> Vec<Candidate> {
        let each = rows.iter().enumerate();
        each.map(|(index, &(available, in_flight, usable))| Candidate {
            volume: VolumeId::parse(&format!("vol-{index}")).unwrap(),
            total: 100,
            available,
            in_flight,
            unusable: (!usable).then(|| "is read-only".into()),
        })
        .collect()
    }

    #[rstest]
    #[case::most_available(&[(10, 0, true), (30, 0, true), (20, 0, true)], Some(5), 1)]
    #[case::less_in_flight(&[(30, 25, true), (20, 0, true)], Some(5), 1)]
    #[case::first_of_equals(&[(30, 0, true), (30, 0, true)], Some(5), 0)]
    #[case::skips_unusable(&[(90, 0, false), (10, 0, true)], Some(5), 1)]
    #[case::skips_full(&[(9, 0, true), (8, 0, true)], Some(9), 0)]
    #[case::exactly_full(&[(9, 0, true)], Some(9), 0)]
    #[case::unknown_size(&[(0, 0, true), (1, 0, true)], None, 1)]
    #[case::in_flight_beyond_available(&[(5, 9, true), (1, 0, true)], Some(1), 1)]
    fn the_volume_with_the_most_room_is_chosen(
        #[case] rows: &[(u64, u64, bool)],
        #[case] size_hint: Option<u64>,
        #[case] chosen: usize,
    ) {
        let draw = Draw::default();
        assert_eq!(choose(Placement::MostAvailable, &candidates(rows), size_hint, draw).unwrap(), chosen);
    }

    #[rstest]
    #[case::all_full(&[(9, 0, true), (20, 13, true), (99, 0, false)], Some(10), 10, 9)]
    #[case::in_flight_fills(&[(9, 9, true)], Some(1), 1, 0)]
    #[case::empty_content_needs_room_for_a_name(&[(0, 0, true)], Some(0), 1, 0)]
    fn b10_full_volumes_are_insufficient_storage(
        #[case] rows: &[(u64, u64, bool)],
        #[case] size_hint: Option<u64>,
        #[case] needed: u64,
        #[case] most: u64,
    ) {
        for placement in ALL {
            match choose(placement, &candidates(rows), size_hint, Draw::default()) {
                Err(Error::InsufficientStorage { required, available }) => {
                    assert_eq!((required, available), (needed, most));
                }
                other => panic!("{other:?}"),
            }
        }
    }

    #[rstest]
    #[case::none_mounted(&[], "no volume is mounted")]
    #[case::one(&[(9, 0, false)], "volume vol-0 is read-only")]
    #[case::several(&[(9, 0, false), (9, 0, false)],
        "no volume takes new content: vol-0 is read-only; vol-1 is read-only")]
    fn b10_without_a_usable_volume_the_reason_is_said(
        #[case] rows: &[(u64, u64, bool)],
        #[case] message: &str,
    ) {
        for placement in ALL {
            let error = choose(placement, &candidates(rows), Some(1), Draw::default()).unwrap_err();
            assert!(matches!(error, Error::VolumeUnavailable { .. }), "{error:?}");
            assert_eq!(error.to_string(), message);
        }
    }

    #[rstest]
    #[case::a_smaller_share(&[(60, 100), (7, 10)], 0, 1)]
    #[case::in_flight_counts(&[(60, 100), (7, 10)], 2, 0)]
    #[case::first_of_equals(&[(50, 100), (5, 10)], 0, 0)]
    #[case::a_size_that_is_not_known(&[(50, 100), (5, 0)], 0, 1)]
    #[case::beyond_64_bits(&[(u64::MAX - 1, u64::MAX), (u64::MAX / 2, u64::MAX)], 0, 0)]
    fn the_volume_of_which_least_is_used_is_chosen(
        #[case] rows: &[(u64, u64)],
        #[case] in_flight_to_the_last: u64,
        #[case] chosen: usize,
    ) {
        let mut facts = candidates(&vec![(0, 0, true); rows.len()]);
        for (fact, (available, total)) in facts.iter_mut().zip(rows) {
            (fact.available, fact.total) = (*available, *total);
        }
        facts.last_mut().unwrap().in_flight = in_flight_to_the_last;
        assert_eq!(choose(Placement::LeastUsed, &facts, Some(1), Draw::default()).unwrap(), chosen);
        // Both are drawn: the first by the lowest number, the last by the highest.
        for random in [[0, u64::MAX], [u64::MAX, 0]] {
            let two = choose(Placement::TwoChoices, &facts, Some(1), Draw { turn: 0, random }).unwrap();
            let equal = !facts[0].is_less_used(&facts[1]) && !facts[1].is_less_used(&facts[0]);
            assert_eq!(two, if equal { usize::from(random[0] != 0) } else { chosen });
        }
    }

    #[test]
    fn turns_go_round_those_that_can_take_it() {
        let facts = candidates(&[(50, 0, true), (50, 0, false), (4, 0, true), (50, 0, true)]);
        let turns = |size| -> Vec<usize> {
            let each = (0..4).map(|turn| Draw { turn, ..Draw::default() });
            each.map(|draw| choose(Placement::RoundRobin, &facts, Some(size), draw).unwrap()).collect()
        };
        assert_eq!(turns(4), [0, 2, 3, 0]);
        assert_eq!(turns(5), [0, 3, 0, 3]);
    }

    #[rstest]
    fn large_files_are_never_sent_where_they_do_not_fit(#[values(0, 1, 2, 3, 4)] placement: usize) {
        let facts = candidates(&[(99, 95, true), (9, 0, true), (20, 0, true), (100, 0, false)]);
        let entropy = SeededEntropy::new(1);
        for turn in 0..1_000 {
            let draw = Draw { turn, random: [entropy.next_u64(), entropy.next_u64()] };
            assert_eq!(choose(ALL[placement], &facts, Some(10), draw).unwrap(), 2);
        }
    }

    /// 10,000 files of one byte into five unequal volumes, and how many went to each of them.
    fn land(placement: Placement) -> Vec<f64> {
        let mut facts = candidates(&SIZES.map(|size| (size, 0, true)));
        facts.iter_mut().for_each(|fact| fact.total = fact.available);
        let placer = Placer::new(Arc::new(SeededEntropy::new(7)));
        placer.set(placement);
        for _ in 0..10_000 {
            let chosen = placer.choose(&facts, Some(1)).unwrap();
            facts[chosen].available -= 1;
        }
        facts.iter().map(|fact| (fact.total - fact.available) as f64 / 100.0).collect()
    }

    /// Percentages that each strategy promises of volumes of these sizes, which hold 40,000 together.
    const SIZES: [u64; 5] = [2_000, 4_000, 8_000, 10_000, 16_000];

    #[rstest]
    // Filled from the top until the rooms are equal: 16,000 down to 8,000, and 10,000 down to 8,000.
    #[case(Placement::MostAvailable, [0.0, 0.0, 0.0, 20.0, 80.0])]
    #[case(Placement::RoundRobin, [20.0, 20.0, 20.0, 20.0, 20.0])]
    #[case(Placement::LeastUsed, [5.0, 10.0, 20.0, 25.0, 40.0])]
    #[case(Placement::CapacityWeighted, [5.0, 10.0, 20.0, 25.0, 40.0])]
    #[case(Placement::TwoChoices, [5.0, 10.0, 20.0, 25.0, 40.0])]
    fn ten_thousand_files_land_as_the_strategy_says(
        #[case] placement: Placement,
        #[case] promised: [f64; 5],
    ) {
        let landed = land(placement);
        for (landed, promised) in landed.iter().zip(promised) {
            assert!(
                (landed - promised).abs() <= 2.0,
                "{placement:?}: {landed} where {promised} was promised"
            );
        }
    }
}
