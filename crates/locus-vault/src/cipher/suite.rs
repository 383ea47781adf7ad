//! Which cipher.

use std::fmt;

use serde::{Deserialize, Serialize};

/// How a content is sealed. Its number stands in the header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(into = "u8", try_from = "u8")]
#[non_exhaustive]
#[repr(u8)]
pub enum Suite {
    /// AES-256-GCM over segments, the key by HKDF-SHA256.
    Aes256GcmHkdfSha256 = 1,
}

impl From<Suite> for u8 {
    fn from(suite: Suite) -> u8 {
        suite as u8
    }
}

/// The number of a suite that this version does not have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("there is no cipher suite {0}")]
pub struct UnknownSuite(pub u8);

impl TryFrom<u8> for Suite {
    type Error = UnknownSuite;

    fn try_from(number: u8) -> Result<Self, UnknownSuite> {
        match number {
            1 => Ok(Suite::Aes256GcmHkdfSha256),
            other => Err(UnknownSuite(other)),
        }
    }
}

impl fmt::Display for Suite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Suite::Aes256GcmHkdfSha256 => "AES-256-GCM-HKDF-SHA256",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_suite_has_one_number_and_others_are_refused() {
        assert_eq!(Suite::try_from(u8::from(Suite::Aes256GcmHkdfSha256)), Ok(Suite::Aes256GcmHkdfSha256));
        for number in (0..=u8::MAX).filter(|number| *number != 1) {
            assert_eq!(Suite::try_from(number), Err(UnknownSuite(number)));
        }
    }
}
