//! How content is sealed: AES-256-GCM in segments, with a key of its own for each content. Knows nothing of entities.
//!
//! The content's key is HKDF-SHA256 of the data key with a salt that is drawn for each write, bound to the content's
//! header. So no two writes share a key, and the nonces can simply count: 3 zero bytes, the segment's index (8 bytes,
//! big-endian), and 1 for the last segment or 0. (Hoang, Reyhanitabar, Rogaway, Vizár: *Online Authenticated-Encryption
//! and its Nonce-Reuse Misuse-Resistance*, CRYPTO 2015: STREAM.)

mod aead;
mod content_key;
mod data_key;
mod salt;
mod segments;
mod suite;
#[cfg(feature = "entities")]
mod wiped;

#[cfg(feature = "entities")]
pub(crate) use aead::{Aes256Gcm, NONCE_BYTES};
pub use content_key::{ContentKey, Tampered};
pub use data_key::DataKey;
pub use salt::{SALT_BYTES, Salt};
pub use segments::{SEGMENT_BYTES, Segments, TAG_BYTES, plain_len, sealed_len, segments_of};
pub use suite::Suite;
#[cfg(feature = "entities")]
pub(crate) use wiped::Wiped;
