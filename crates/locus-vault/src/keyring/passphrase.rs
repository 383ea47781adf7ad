//! Keys from passphrases.

use std::fmt;

use argon2::{Algorithm, Argon2, Params, Version};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::cipher::{DataKey, Salt};

/// What a person types to open a keyring. Overwritten when it is dropped, and shown by nothing.
pub struct Passphrase(Zeroizing<Vec<u8>>);

impl Passphrase {
    /// The passphrase with these bytes, as they are: strip the end of a line before. The caller's copy is the caller's to
    /// overwrite. `None` when there are none, or more than 1,024.
    #[must_use]
    pub fn new(bytes: &[u8]) -> Option<Self> {
        (1..=1_024).contains(&bytes.len()).then(|| Self(Zeroizing::new(bytes.to_vec())))
    }
}

impl fmt::Debug for Passphrase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Passphrase(..)")
    }
}

/// What a guess at a passphrase costs: the parameters of Argon2id (RFC 9106). They are kept with the recipient, so that
/// the default can rise without shutting anybody out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Argon2Cost {
    /// Memory, in KiB: 8 times the lanes to 1,048,576 (1 GiB). Default: 65,536 (64 MiB).
    pub memory_kib: u32,
    /// Passes over it, 1 to 64. Default: 3.
    pub passes: u32,
    /// Lanes, 1 to 16. Default: 4. They are walked one after another.
    pub lanes: u32,
}

impl Default for Argon2Cost {
    /// The second choice of RFC 9106, section 4, for where memory is scarce.
    fn default() -> Self {
        Self { memory_kib: 64 << 10, passes: 3, lanes: 4 }
    }
}

impl Argon2Cost {
    /// Why it is refused, if it is: a ring that anybody may have written must not ask for all of the memory.
    pub(super) fn refused(&self) -> Option<&'static str> {
        if !(1..=16).contains(&self.lanes) {
            Some("must have 1 to 16 lanes")
        } else if !(1..=64).contains(&self.passes) {
            Some("must make 1 to 64 passes")
        } else if !(8 * self.lanes..=1 << 20).contains(&self.memory_kib) {
            Some("must use 8 KiB a lane to 1 GiB of memory")
        } else {
            None
        }
    }

    /// The key of a passphrase; takes the time and memory that it says. Only for a cost that is not refused.
    pub(super) fn derive(self, passphrase: &Passphrase, salt: &Salt) -> DataKey {
        let mut key = Zeroizing::new([0; 32]);
        Params::new(self.memory_kib, self.passes, self.lanes, Some(key.len()))
            .and_then(|params| {
                Argon2::new(Algorithm::Argon2id, Version::V0x13, params).hash_password_into(
                    &passphrase.0,
                    salt.as_bytes(),
                    &mut *key,
                )
            })
            .expect("because the cost, the salt and the passphrase are within bounds");
        DataKey::from_bytes(&key)
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    /// The answer was computed by another implementation (OpenSSL's Argon2id).
    #[test]
    fn a_passphrase_gives_the_key_that_others_compute() {
        let cost = Argon2Cost { memory_kib: 64, passes: 3, lanes: 4 };
        let salt = Salt::from_bytes(std::array::from_fn(|at| at as u8));
        let key = cost.derive(&Passphrase::new(b"open sesame").unwrap(), &salt);
        let hex: String = key.expose().iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, "5894606c7576073a1dfdeef6ab141273c383a6f22765c6871ba1255c0a77c328");
    }

    #[test]
    fn a_passphrase_has_a_length_and_shows_nothing() {
        assert!(Passphrase::new(b"").is_none());
        assert!(Passphrase::new(&[b'a'; 1_025]).is_none());
        assert_eq!(format!("{:?}", Passphrase::new(b"sesame").unwrap()), "Passphrase(..)");
    }

    #[rstest]
    #[case::default(Argon2Cost::default(), true)]
    #[case::smallest(Argon2Cost { memory_kib: 8, passes: 1, lanes: 1 }, true)]
    #[case::largest(Argon2Cost { memory_kib: 1 << 20, passes: 64, lanes: 16 }, true)]
    #[case::too_little_memory(Argon2Cost { memory_kib: 31, passes: 1, lanes: 4 }, false)]
    #[case::too_much_memory(Argon2Cost { memory_kib: (1 << 20) + 1, passes: 1, lanes: 4 }, false)]
    #[case::no_pass(Argon2Cost { memory_kib: 64, passes: 0, lanes: 4 }, false)]
    #[case::too_many_passes(Argon2Cost { memory_kib: 64, passes: 65, lanes: 4 }, false)]
    #[case::no_lane(Argon2Cost { memory_kib: 64, passes: 1, lanes: 0 }, false)]
    #[case::lanes_that_overflow(Argon2Cost { memory_kib: 64, passes: 1, lanes: u32::MAX }, false)]
    fn a_cost_has_bounds(#[case] cost: Argon2Cost, #[case] good: bool) {
        assert_eq!(cost.refused().is_none(), good);
    }
}
