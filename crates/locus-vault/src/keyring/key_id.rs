//! The name of a data key.

use std::{fmt, str::FromStr};

use locus_core::{Entropy, Timestamp};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// The name of a data key, UUID v7: not secret, and never used for a second key. Names sort by when they were drawn, to
/// the millisecond.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct KeyId(Uuid);

impl KeyId {
    /// A new one.
    #[must_use]
    pub fn draw(wall: Timestamp, entropy: &dyn Entropy) -> Self {
        let mut random = [0; 10];
        entropy.fill(&mut random);
        let millis = u64::try_from(wall.as_micros() / 1_000).unwrap_or(0);
        Self(uuid::Builder::from_unix_timestamp_millis(millis, &random).into_uuid())
    }

    /// The id with these 16 bytes, as [`as_bytes`](Self::as_bytes) gave them.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(Uuid::from_bytes(bytes))
    }

    /// Its 16 bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 16] {
        self.0.as_bytes()
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self.0.as_hyphenated(), f)
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyId({self})")
    }
}

/// The text is no UUID.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a key's id is a UUID, as it is printed")]
pub struct InvalidKeyId;

impl FromStr for KeyId {
    type Err = InvalidKeyId;

    fn from_str(text: &str) -> Result<Self, InvalidKeyId> {
        Uuid::try_parse(text).map(Self).map_err(|_| InvalidKeyId)
    }
}

#[cfg(test)]
mod tests {
    use locus_testkit::SeededEntropy;

    use super::*;

    #[test]
    fn ids_survive_text_and_bytes_and_sort_by_time() {
        let random = SeededEntropy::new(1);
        let [early, late] = [1_700_000_000_000_000, 1_700_000_000_001_000]
            .map(|at| KeyId::draw(Timestamp::from_micros(at), &random));
        assert!(early < late);
        assert_eq!(early.to_string().parse(), Ok(early));
        assert_eq!(KeyId::from_bytes(*early.as_bytes()), early);
        assert_eq!("a key".parse::<KeyId>(), Err(InvalidKeyId));
    }
}
