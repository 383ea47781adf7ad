//! AES-256-GCM, from whom it is taken. Both have one face, and a test holds them against each other.

use super::{data_key::DATA_KEY_BYTES, segments::TAG_BYTES};

/// Length of a nonce, in bytes.
pub(crate) const NONCE_BYTES: usize = 12;

type Key = [u8; DATA_KEY_BYTES];
type Nonce = [u8; NONCE_BYTES];
type Tag = [u8; TAG_BYTES];

#[cfg(feature = "aws-lc")]
pub(crate) use aws_lc::Aes256Gcm;
#[cfg(all(feature = "rust-crypto", not(feature = "aws-lc")))]
pub(crate) use rust_crypto::Aes256Gcm;

#[cfg(not(any(feature = "aws-lc", feature = "rust-crypto")))]
compile_error!("locus-vault needs a cipher: the feature `aws-lc` or the feature `rust-crypto`");

#[cfg(feature = "aws-lc")]
mod aws_lc {
    use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce as TheirNonce, UnboundKey};

    use super::{Key, Nonce, Tag};

    pub(crate) struct Aes256Gcm(LessSafeKey);

    impl Aes256Gcm {
        pub(crate) fn new(key: &Key) -> Self {
            let key = UnboundKey::new(&AES_256_GCM, key).expect("because the key has the cipher's length");
            Self(LessSafeKey::new(key))
        }

        /// Seals `text` in its place.
        pub(crate) fn seal(&self, nonce: Nonce, text: &mut [u8]) -> Tag {
            let nonce = TheirNonce::assume_unique_for_key(nonce);
            let tag = self.0.seal_in_place_separate_tag(nonce, Aad::empty(), text);
            let tag = tag.expect("because a segment is shorter than what the cipher can seal");
            tag.as_ref().try_into().expect("because the cipher's tags have this length")
        }

        /// Opens `sealed` into `out`, which is as long. Whether it is what was sealed: else `out` means nothing.
        #[must_use]
        pub(crate) fn open(&self, nonce: Nonce, sealed: &[u8], tag: &Tag, out: &mut [u8]) -> bool {
            let nonce = TheirNonce::assume_unique_for_key(nonce);
            self.0.open_separate_gather(nonce, Aad::empty(), sealed, tag, out).is_ok()
        }

        /// Opens `segment`, what was sealed and its tag behind it, where it lies. Whether it is what was sealed: else it means
        /// nothing any more.
        #[cfg(feature = "entities")]
        #[must_use]
        pub(crate) fn open_in_place(&self, nonce: Nonce, segment: &mut [u8]) -> bool {
            self.0.open_in_place(TheirNonce::assume_unique_for_key(nonce), Aad::empty(), segment).is_ok()
        }
    }
}

#[cfg(any(test, all(feature = "rust-crypto", not(feature = "aws-lc"))))]
mod rust_crypto {
    use aes_gcm::{Aes256Gcm as Theirs, KeyInit, aead::AeadInOut};

    use super::{Key, Nonce, Tag};

    pub(crate) struct Aes256Gcm(Theirs);

    impl Aes256Gcm {
        pub(crate) fn new(key: &Key) -> Self {
            Self(Theirs::new(key.into()))
        }

        /// Seals `text` in its place.
        pub(crate) fn seal(&self, nonce: Nonce, text: &mut [u8]) -> Tag {
            let tag = self.0.encrypt_inout_detached(&nonce.into(), b"", text.into());
            tag.expect("because a segment is shorter than what the cipher can seal").into()
        }

        /// Opens `sealed` into `out`, which is as long. Whether it is what was sealed: else `out` means nothing.
        #[must_use]
        pub(crate) fn open(&self, nonce: Nonce, sealed: &[u8], tag: &Tag, out: &mut [u8]) -> bool {
            out.copy_from_slice(sealed);
            self.0.decrypt_inout_detached(&nonce.into(), b"", out.into(), tag.into()).is_ok()
        }

        /// Opens `segment`, what was sealed and its tag behind it, where it lies. Whether it is what was sealed: else it means
        /// nothing any more.
        #[cfg(feature = "entities")]
        #[must_use]
        pub(crate) fn open_in_place(&self, nonce: Nonce, segment: &mut [u8]) -> bool {
            let Some((text, tag)) = segment.split_last_chunk_mut() else { return false };
            self.0.decrypt_inout_detached(&nonce.into(), b"", text.into(), (&*tag).into()).is_ok()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Test case 14 of McGrew and Viega, *The Galois/Counter Mode of Operation* (GCM): zeros under a key of zeros.
    const ZEROS: ([u8; 16], Tag) = (
        0xcea7_403d_4d60_6b6e_074e_c5d3_baf3_9d18_u128.to_be_bytes(),
        0xd0d1_c8a7_9999_6bf0_265b_98b5_d48a_b919_u128.to_be_bytes(),
    );

    #[test]
    fn the_cipher_in_use_gives_the_published_answer() {
        let mut text = [0; 16];
        let tag = Aes256Gcm::new(&[0; 32]).seal([0; 12], &mut text);
        assert_eq!((text, tag), ZEROS);
    }

    #[test]
    fn the_cipher_in_rust_gives_the_published_answer() {
        let mut text = [0; 16];
        let tag = rust_crypto::Aes256Gcm::new(&[0; 32]).seal([0; 12], &mut text);
        assert_eq!((text, tag), ZEROS);
    }

    #[cfg(all(feature = "aws-lc", feature = "entities"))]
    #[test]
    fn either_opens_what_the_other_sealed() {
        use locus_core::Entropy;
        use locus_testkit::SeededEntropy;

        let random = SeededEntropy::new(14);
        for len in (0..70).chain([255, 4_096, 65_535, 65_536]) {
            let (mut key, mut nonce, mut text) = ([0; 32], [0; 12], vec![0; len]);
            random.fill(&mut key);
            random.fill(&mut nonce);
            random.fill(&mut text);
            let (ours, theirs) = (aws_lc::Aes256Gcm::new(&key), rust_crypto::Aes256Gcm::new(&key));
            let (mut one, mut other) = (text.clone(), text.clone());
            let tags = (ours.seal(nonce, &mut one), theirs.seal(nonce, &mut other));
            assert_eq!((&one, tags.0), (&other, tags.1), "{len} bytes");

            let (mut opened, mut opened_too) = (vec![0; len], vec![0; len]);
            assert!(ours.open(nonce, &other, &tags.1, &mut opened));
            assert!(theirs.open(nonce, &one, &tags.0, &mut opened_too));
            assert_eq!((&opened, &opened_too), (&text, &text));
            let segment = [one.as_slice(), &tags.0].concat();
            let (mut here, mut here_too) = (segment.clone(), segment.clone());
            assert!(ours.open_in_place(nonce, &mut here) && theirs.open_in_place(nonce, &mut here_too));
            assert_eq!((&here[..len], &here_too[..len]), (&*text, &*text));

            let wrong = tags.0.map(|byte| byte ^ 1);
            assert!(!ours.open(nonce, &one, &wrong, &mut opened));
            assert!(!theirs.open(nonce, &one, &wrong, &mut opened));
            let segment = [one.as_slice(), &wrong].concat();
            let (mut here, mut here_too) = (segment.clone(), segment);
            assert!(!ours.open_in_place(nonce, &mut here) && !theirs.open_in_place(nonce, &mut here_too));
            assert!(!ours.open_in_place(nonce, &mut [0; 15]) && !theirs.open_in_place(nonce, &mut [0; 15]));
        }
    }
}
