//! The parts of a volume: what lies where is told by the first component of its path.

use serde::{Deserialize, Serialize};

/// A part of a volume. The same blob has an address of its own in each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[repr(u8)]
#[non_exhaustive]
pub enum Area {
    /// Files of the queue.
    #[default]
    Live = 0,
    /// Files that failed for good and were moved out of the queue.
    DeadLetters = 1,
    /// Blobs that no record named when they were found.
    Quarantine = 2,
}

impl Area {
    /// All of them, in the order in which they are listed.
    pub const ALL: [Self; 3] = [Self::Live, Self::DeadLetters, Self::Quarantine];

    /// The directory of a volume that it is; `None` for the volume's own. No owner can have such a name.
    #[must_use]
    pub const fn dir(self) -> Option<&'static str> {
        match self {
            Self::Live => None,
            Self::DeadLetters => Some(".deadletter"),
            Self::Quarantine => Some(".quarantine"),
        }
    }

    /// The area that this directory of a volume is.
    #[must_use]
    pub fn of_dir(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|area| area.dir() == Some(name))
    }

    /// The area with this number.
    #[must_use]
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|area| *area as u8 == number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::StoragePath;

    #[test]
    fn no_owner_has_the_name_of_an_area_and_each_is_found_by_its_number() {
        for area in Area::ALL {
            assert!(area.dir().is_none_or(|dir| StoragePath::parse(dir).is_err()));
            assert_eq!(Area::from_number(area as u8), Some(area));
            assert_eq!(area.dir().and_then(Area::of_dir), area.dir().map(|_| area));
        }
        assert_eq!((Area::from_number(3), Area::of_dir("acme")), (None, None));
    }
}
