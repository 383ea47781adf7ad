//! Which volume new content goes to. Decides only: the caller brings the facts.

use std::borrow::Cow;

use locus_core::{Error, Result, VolumeId};
use serde::{Deserialize, Serialize};

/// How a volume is chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Placement {
    /// The volume with the most available space, less what is in flight to it. Of equals, the first.
    #[default]
    MostAvailable,
}

/// A volume that content may go to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// Its name.
    pub volume: VolumeId,
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
}

/// The index of the candidate that content of `size_hint` bytes (`None`: unknown) goes to.
///
/// # Errors
/// [`Error::VolumeUnavailable`] when no candidate takes new content, with their reasons;
/// [`Error::InsufficientStorage`] when some do and none has room. Nothing was written.
pub fn choose(placement: Placement, candidates: &[Candidate], size_hint: Option<u64>) -> Result<usize> {
    let required = size_hint.unwrap_or(0).max(1);
    let usable = || candidates.iter().enumerate().filter(|(_, candidate)| candidate.unusable.is_none());
    let with_room = usable().filter(|(_, candidate)| candidate.room() >= required);
    let chosen = match placement {
        // `max_by_key` keeps the last of equals, so the order is turned round.
        Placement::MostAvailable => with_room.rev().max_by_key(|(_, candidate)| candidate.room()),
    };
    if let Some((index, _)) = chosen {
        return Ok(index);
    }
    match usable().map(|(_, candidate)| candidate.room()).max() {
        Some(available) => Err(Error::InsufficientStorage { required, available }),
        None => Err(none_usable(candidates)),
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
    use rstest::rstest;

    use super::*;

    fn candidates(rows: &[(u64, u64, bool)]) -> Vec<Candidate> {
        let each = rows.iter().enumerate();
        each.map(|(index, &(available, in_flight, usable))| Candidate {
            volume: VolumeId::parse(&format!("vol-{index}")).unwrap(),
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
        assert_eq!(choose(Placement::MostAvailable, &candidates(rows), size_hint).unwrap(), chosen);
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
        match choose(Placement::MostAvailable, &candidates(rows), size_hint) {
            Err(Error::InsufficientStorage { required, available }) => {
                assert_eq!((required, available), (needed, most));
            }
            other => panic!("{other:?}"),
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
        let error = choose(Placement::MostAvailable, &candidates(rows), Some(1)).unwrap_err();
        assert!(matches!(error, Error::VolumeUnavailable { .. }), "{error:?}");
        assert_eq!(error.to_string(), message);
    }
}
