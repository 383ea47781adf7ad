//! The caller's own key-value pairs on a file or tenant, and the bounds on everything a caller names.

use std::collections::BTreeMap;

use crate::Error;

/// Key-value pairs of the caller's, kept in order of their keys.
pub type Properties = BTreeMap<String, String>;

/// Longest original name, in bytes. Longer ones are refused.
pub const ORIGINAL_NAME_BYTES_MAX: usize = 1_024;

/// Most bytes that all keys and values of one file's properties may take together. More are refused.
pub const PROPERTIES_BYTES_MAX: usize = 1_024;

/// Longest error text that is kept with a failed file, in bytes. Longer ones are cut at a character.
pub const ERROR_BYTES_MAX: usize = 1_024;

/// Refuses what is over `limit` by its name.
pub(crate) fn check_size(what: &'static str, size: usize, limit: usize) -> Result<(), Error> {
    if size > limit { Err(Error::TooLarge { what, size: size as u64, limit: limit as u64 }) } else { Ok(()) }
}

/// Bytes of all keys and values together.
pub(crate) fn properties_bytes(properties: &Properties) -> usize {
    properties.iter().map(|(key, value)| key.len() + value.len()).sum()
}
