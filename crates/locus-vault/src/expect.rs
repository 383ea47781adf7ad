//! Which version a change may replace, and which one it becomes.
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::fmt;

use crate::{
    error::VaultError,
    id::EntityId,
    metadata::{EntityMetadata, Incarnation, Version},
};

/// What the caller expects to be there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Expect {
    /// Whatever it is.
    #[default]
    Any,
    /// Nothing, or something that was deleted.
    Absent,
    /// This version.
    Version(Version),
}

impl fmt::Display for Expect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Expect::Any => f.write_str("anything"),
            Expect::Absent => f.write_str("nothing"),
            Expect::Version(version) => write!(f, "version {version}"),
        }
    }
}

impl Expect {
    /// Whether `found`, what is there of `id`, is what was expected.
    pub(crate) fn check(self, id: &EntityId, found: Option<&EntityMetadata>) -> Result<(), VaultError> {
        let found = found.filter(|found| !found.is_deleted).map(|found| found.version);
        let is_so = match self {
            Expect::Any => true,
            Expect::Absent => found.is_none(),
            Expect::Version(expected) => found == Some(expected),
        };
        if is_so { Ok(()) } else { Err(VaultError::Conflict { id: id.clone(), expected: self, found }) }
    }
}

/// The version of the next write: one more than what is there, in another incarnation when that was deleted.
pub(crate) fn next(
    found: Option<&EntityMetadata>,
    draw: impl FnOnce() -> Incarnation,
) -> Result<Version, VaultError> {
    let (number, incarnation) = match found {
        None => return Ok(Version { incarnation: draw(), number: 1 }),
        Some(found) if found.is_deleted => (found.version.number, draw()),
        Some(found) => (found.version.number, found.version.incarnation),
    };
    let too_large = || VaultError::TooLarge { what: "number of versions", size: number, limit: u64::MAX };
    Ok(Version { incarnation, number: number.checked_add(1).ok_or_else(too_large)? })
}

#[cfg(test)]
mod tests {
    use locus_core::Timestamp;
    use rstest::rstest;

    use super::*;
    use crate::{Salt, SealedBy, Suite, keyring::KeyId};

    const OLD: Incarnation = Incarnation::from_bytes([1; 16]);
    const NEW: Incarnation = Incarnation::from_bytes([2; 16]);

    fn found(number: u64, is_deleted: bool) -> EntityMetadata {
        EntityMetadata {
            id: EntityId::new("d", "k").unwrap(),
            version: Version { incarnation: OLD, number },
            sealed: SealedBy::Suite {
                suite: Suite::Aes256GcmHkdfSha256,
                salt: Salt::from_bytes([0; 32]),
                key: KeyId::from_bytes([0; 16]),
            },
            schema: None,
            writer: String::new(),
            written_at: Timestamp::from_micros(0),
            is_deleted,
            content_len: 0,
        }
    }

    fn of(incarnation: Incarnation, number: u64) -> Expect {
        Expect::Version(Version { incarnation, number })
    }

    #[rstest]
    #[case::any_of_none(Expect::Any, None, true)]
    #[case::any_of_one(Expect::Any, Some(found(3, false)), true)]
    #[case::none(Expect::Absent, None, true)]
    #[case::deleted(Expect::Absent, Some(found(3, true)), true)]
    #[case::not_absent(Expect::Absent, Some(found(3, false)), false)]
    #[case::version(of(OLD, 3), Some(found(3, false)), true)]
    #[case::older(of(OLD, 2), Some(found(3, false)), false)]
    #[case::newer(of(OLD, 4), Some(found(3, false)), false)]
    #[case::other_life(of(NEW, 3), Some(found(3, false)), false)]
    #[case::version_of_none(of(OLD, 3), None, false)]
    #[case::version_deleted(of(OLD, 3), Some(found(3, true)), false)]
    fn what_is_there_is_what_was_expected_or_a_conflict(
        #[case] expect: Expect,
        #[case] there: Option<EntityMetadata>,
        #[case] is_so: bool,
    ) {
        let id = EntityId::new("d", "k").unwrap();
        match expect.check(&id, there.as_ref()) {
            Ok(()) => assert!(is_so),
            Err(VaultError::Conflict { expected, found, .. }) => {
                assert!(!is_so);
                assert_eq!(expected, expect);
                assert_eq!(found, there.filter(|there| !there.is_deleted).map(|there| there.version));
            }
            Err(other) => panic!("{other}"),
        }
    }

    #[rstest]
    #[case::created(None, Some((NEW, 1)))]
    #[case::changed(Some(found(3, false)), Some((OLD, 4)))]
    #[case::created_again(Some(found(3, true)), Some((NEW, 4)))]
    #[case::too_often(Some(found(u64::MAX, false)), None)]
    fn each_write_has_one_more(
        #[case] there: Option<EntityMetadata>,
        #[case] then: Option<(Incarnation, u64)>,
    ) {
        let next = next(there.as_ref(), || NEW).ok();
        assert_eq!(next, then.map(|(incarnation, number)| Version { incarnation, number }));
    }
}
