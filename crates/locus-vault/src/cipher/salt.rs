//! What makes the keys of two writes differ.

use std::fmt;

use locus_core::Entropy;
use serde::{Deserialize, Serialize};

/// Length of a [`Salt`], in bytes.
pub const SALT_BYTES: usize = 32;

/// 256 random bits, drawn anew for each write and kept in the open beside what was sealed.
///
/// With the same salt, data key and header two contents would be sealed under the same key and the same nonces: never use
/// one for a second write.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Salt([u8; SALT_BYTES]);

impl Salt {
    /// A new one.
    #[must_use]
    pub fn draw(entropy: &dyn Entropy) -> Self {
        let mut bytes = [0; SALT_BYTES];
        entropy.fill(&mut bytes);
        Self(bytes)
    }

    /// The salt with these bytes, as [`as_bytes`](Self::as_bytes) gave them.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; SALT_BYTES]) -> Self {
        Self(bytes)
    }

    /// Its bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; SALT_BYTES] {
        &self.0
    }
}

impl fmt::Debug for Salt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Salt(")?;
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))?;
        f.write_str(")")
    }
}
