//! Keys: what they may be used for, who may have them, and the one file in which they lie.
//!
//! A [`Keyring`] is what was read, with its keys open; [`KeyringFile`] reads it and makes every change. Each change draws
//! a new *ring key*, seals the data keys and the ring's own secret with it, and wraps it for every recipient: for a public
//! key of X25519, so that no recipient has to be there. The secret half of that key is with the recipient ([`Identity`]),
//! or in the ring, sealed by a key from a [`Passphrase`] or by a [`KeyWrap`].
//!
//! Whoever knows a public key can wrap anything for it. So a ring is named by the hash of its own secret, and opens only
//! when that secret is in it: only who could open a ring can make its successor. A passphrase or a `KeyWrap` seals the
//! ring's name beside the recipient's secret, so as to open no other.

mod file;
mod format;
mod identity;
mod ids;
mod key_wrap;
mod passphrase;
mod recipient;
mod ring;

pub use file::KeyringFile;
pub use identity::{Identity, InvalidKeyText, RecipientKey, RingId};
pub(crate) use ids::id;
pub use ids::{InvalidUuid, KeyId, RecipientId};
pub use key_wrap::KeyWrap;
pub use passphrase::{Argon2Cost, Passphrase};
pub use recipient::{NewRecipient, Recipient, RecipientKind, Unlock};
pub use ring::{KeyInfo, KeyState, Keyring, RingInfo};

/// See [`fuzzing`](crate::fuzzing).
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn fuzz(bytes: &[u8]) {
    let path = std::path::Path::new("x");
    for bytes in [bytes, &format::summed(bytes)] {
        let Ok(file) = format::decode(path, bytes) else { continue };
        let header = format::header_bytes(&file.header);
        let again = format::decode(path, &format::encode(&header, &file.sealed));
        let again = again.expect("because it was written just now");
        assert_eq!((again.header, again.sealed), (file.header, file.sealed));
    }
}
