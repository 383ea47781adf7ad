//! The older layout of two files for an entity: what they say, and what opens them. Knows no vault.
//!
//! `files/<id>.json.enc` is the sealed content, `files/<id>.meta.json` what is known about it, `templates/<schema>.json` a
//! schema. The content is sealed by AES-256-GCM without associated data: nothing binds what is known about it to it.

mod gcm;
mod meta;

pub(crate) use gcm::open;
pub(crate) use meta::{META_BYTES_MAX, OlderMeta};
