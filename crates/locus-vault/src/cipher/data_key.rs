//! The key beneath the keys of contents.

use std::fmt;

use hkdf::Hkdf;
use locus_core::Entropy;
use sha2::Sha256;
use zeroize::Zeroizing;

/// Length of a [`DataKey`], in bytes.
pub(crate) const DATA_KEY_BYTES: usize = 32;

/// A secret from which the keys of contents are derived. Overwritten when it is dropped, shown by nothing, and only
/// copied by name.
pub struct DataKey(Box<Zeroizing<[u8; DATA_KEY_BYTES]>>);

impl DataKey {
    /// A new one.
    #[must_use]
    pub fn draw(entropy: &dyn Entropy) -> Self {
        let mut key = Self::zeroed();
        entropy.fill(key.0.as_mut_slice());
        key
    }

    /// The key with these bytes, for a key that comes from elsewhere. The caller's copy is the caller's to overwrite.
    #[must_use]
    pub fn from_bytes(bytes: &[u8; DATA_KEY_BYTES]) -> Self {
        let mut key = Self::zeroed();
        key.0.copy_from_slice(bytes);
        key
    }

    /// A key of its own for each label and parts, from which this one cannot be told.
    pub(crate) fn derive(&self, label: &[u8], parts: &[&[u8]]) -> Self {
        let mut key = Self::zeroed();
        Hkdf::<Sha256>::new(None, self.expose())
            .expand_multi_info(&[&[label], parts].concat(), key.0.as_mut_slice())
            .expect("because HKDF gives up to 255 times as much");
        key
    }

    pub(crate) fn expose(&self) -> &[u8; DATA_KEY_BYTES] {
        &self.0
    }

    /// On the heap from the beginning: what is moved leaves no copy behind.
    fn zeroed() -> Self {
        Self(Box::default())
    }
}

impl fmt::Debug for DataKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DataKey(..)")
    }
}

#[cfg(test)]
mod tests {
    use locus_testkit::SeededEntropy;

    use super::*;

    #[test]
    fn a_data_key_shows_nothing_of_itself() {
        let key = DataKey::draw(&SeededEntropy::new(1));
        assert_eq!(format!("{key:?} {key:#?}"), "DataKey(..) DataKey(..)");
        assert_ne!(key.expose(), DataKey::draw(&SeededEntropy::new(2)).expose());
    }
}
