//! X25519 keys of recipients, and the name of a ring.

use std::{fmt, str::FromStr};

use hkdf::Hkdf;
use locus_core::Entropy;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use x25519_dalek::{PublicKey, StaticSecret};
use zeroize::Zeroizing;

use crate::cipher::DataKey;

/// Length of a key of X25519, in bytes.
pub(super) const KEY_BYTES: usize = 32;

const PUBLIC: &str = "locus-recipient:";
const SECRET: &str = "locus-identity:";
const RING: &str = "locus-ring:";

/// A text is no key of the kind that was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a key is written `{prefix}` and 64 hexadecimal digits")]
pub struct InvalidKeyText {
    /// How keys of that kind begin.
    pub prefix: &'static str,
}

macro_rules! public {
    ($(#[$doc:meta])* $name:ident, $prefix:expr) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub(super) [u8; KEY_BYTES]);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str($prefix)?;
                self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $name {
            type Err = InvalidKeyText;

            fn from_str(text: &str) -> Result<Self, InvalidKeyText> {
                unhex($prefix, text).map(|bytes| Self(*bytes))
            }
        }
    };
}

public!(
    /// Whom a keyring can be wrapped for: the public half of an [`Identity`].
    RecipientKey,
    PUBLIC
);
public!(
    /// Which keyring it is: SHA-256 of a secret that lies in the ring itself. It stays the same for the ring's life.
    RingId,
    RING
);

/// The secret half of an X25519 recipient. Overwritten when it is dropped, and shown only by [`to_text`](Self::to_text).
pub struct Identity {
    pub(super) secret: StaticSecret,
    pub(super) ring: Option<RingId>,
}

impl RingId {
    /// The name of the ring with this secret.
    pub(super) fn of(secret: &DataKey) -> Self {
        Self(Sha256::digest(secret.expose()).into())
    }
}

impl Identity {
    /// A new one.
    #[must_use]
    pub fn draw(entropy: &dyn Entropy) -> Self {
        Self { secret: draw_secret(entropy), ring: None }
    }

    /// The same, opening no ring but this one.
    ///
    /// Whoever knows a public key can make a ring for it. One who can write where the ring lies could so put a ring of his
    /// own in its place, and read what is sealed with it from then on. A passphrase and a [`KeyWrap`](super::KeyWrap)
    /// know their ring by themselves; an identity has to be told.
    #[must_use]
    pub fn for_ring(self, ring: RingId) -> Self {
        Self { ring: Some(ring), ..self }
    }

    /// Its public half.
    #[must_use]
    pub fn recipient(&self) -> RecipientKey {
        RecipientKey(*PublicKey::from(&self.secret).as_bytes())
    }

    /// The identity as a text that [`parse`](Self::parse) reads. Keep it secret.
    #[must_use]
    pub fn to_text(&self) -> Zeroizing<String> {
        let mut text = Zeroizing::new(String::with_capacity(SECRET.len() + 2 * KEY_BYTES));
        text.push_str(SECRET);
        for byte in self.secret.as_bytes() {
            for digit in [byte >> 4, byte & 15] {
                text.push(char::from_digit(u32::from(digit), 16).unwrap_or_default());
            }
        }
        text
    }

    /// Reads what [`to_text`](Self::to_text) wrote; white space around it is nothing.
    ///
    /// # Errors
    /// [`InvalidKeyText`], without the text.
    pub fn parse(text: &str) -> Result<Self, InvalidKeyText> {
        Ok(Self { secret: StaticSecret::from(*unhex(SECRET, text)?), ring: None })
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity").field("ring", &self.ring).finish_non_exhaustive()
    }
}

fn unhex(prefix: &'static str, text: &str) -> Result<Zeroizing<[u8; KEY_BYTES]>, InvalidKeyText> {
    let invalid = InvalidKeyText { prefix };
    let digits = text.trim().strip_prefix(prefix).ok_or(invalid)?.as_bytes();
    let (pairs, []) = digits.as_chunks::<2>() else { return Err(invalid) };
    let mut bytes = Zeroizing::new([0; KEY_BYTES]);
    if pairs.len() != bytes.len() {
        return Err(invalid);
    }
    for (byte, pair) in bytes.iter_mut().zip(pairs) {
        for digit in pair {
            let digit = char::from(*digit).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
            *byte = *byte << 4 | digit.ok_or(invalid)?;
        }
    }
    Ok(bytes)
}

pub(super) fn draw_secret(entropy: &dyn Entropy) -> StaticSecret {
    let mut bytes = Zeroizing::new([0; KEY_BYTES]);
    entropy.fill(&mut *bytes);
    StaticSecret::from(*bytes)
}

pub(super) fn public_of(secret: &StaticSecret) -> [u8; KEY_BYTES] {
    *PublicKey::from(secret).as_bytes()
}

/// The key that the owners of a secret and a public key share. `None` when everybody would share it: there are a few public
/// keys of that kind.
pub(super) fn shared(secret: &StaticSecret, public: &[u8; KEY_BYTES]) -> Option<DataKey> {
    let shared = secret.diffie_hellman(&PublicKey::from(*public));
    if !shared.was_contributory() {
        return None;
    }
    let mut key = Zeroizing::new([0; KEY_BYTES]);
    Hkdf::<Sha256>::new(None, shared.as_bytes())
        .expand(b"locus ring shared secret", &mut *key)
        .expect("because HKDF gives up to 255 times as much");
    Some(DataKey::from_bytes(&key))
}

#[cfg(test)]
mod tests {
    use locus_testkit::SeededEntropy;

    use super::*;

    #[test]
    fn keys_survive_text_and_an_identity_shows_nothing_else() {
        let identity = Identity::draw(&SeededEntropy::new(1));
        let text = identity.to_text();
        let again = Identity::parse(&format!("\n {} \n", *text)).unwrap();
        assert_eq!(again.secret.as_bytes(), identity.secret.as_bytes());
        let public = identity.recipient();
        assert_eq!(public.to_string().parse(), Ok(public));
        assert_eq!(format!("{identity:?}"), "Identity { ring: None, .. }");
        let ring = RingId(public.0);
        assert_eq!(ring.to_string().parse(), Ok(ring));
    }

    #[test]
    fn a_text_that_is_no_key_is_refused_without_repeating_it() {
        let text = Identity::draw(&SeededEntropy::new(1)).to_text();
        let digits = text.strip_prefix(SECRET).unwrap();
        for bad in [
            digits,
            &text[1..],
            &text[..text.len() - 1],
            &text[..text.len() - 2],
            &format!("{SECRET}{digits}00"),
            "",
        ] {
            assert_eq!(Identity::parse(bad).unwrap_err(), InvalidKeyText { prefix: SECRET }, "{bad}");
        }
        let error = format!("{PUBLIC}{}", digits.replace(|_: char| true, "+")).parse::<RecipientKey>();
        assert_eq!(error.unwrap_err(), InvalidKeyText { prefix: PUBLIC });
        assert!(!InvalidKeyText { prefix: SECRET }.to_string().contains(digits));
    }

    /// The answer was computed by another implementation (OpenSSL's X25519).
    #[test]
    fn a_public_half_is_the_one_that_others_compute() {
        let digits: String = (0..32).map(|byte| format!("{byte:02x}")).collect();
        let public = Identity::parse(&format!("{SECRET}{digits}")).unwrap().recipient().to_string();
        assert_eq!(
            public,
            format!("{PUBLIC}8f40c5adb68f25624ae5b214ea767a6ec94d829d3d7b5e1ad1ba6f3e2138285f")
        );
    }

    #[test]
    fn public_keys_that_everybody_shares_a_secret_with_are_found() {
        let [own, other] = [1, 2].map(|seed| Identity::draw(&SeededEntropy::new(seed)));
        let (ours, theirs) = (other.recipient().0, own.recipient().0);
        let (ours, theirs) = (shared(&own.secret, &ours), shared(&other.secret, &theirs));
        assert_eq!(ours.map(|key| *key.expose()), theirs.map(|key| *key.expose()));
        let mut small = [0; 32];
        for order in 0..2 {
            small[0] = order;
            assert!(shared(&own.secret, &small).is_none());
        }
    }
}
