//! AES-256-GCM as others use it: one nonce, one tag, no segments.

use zeroize::Zeroizing;

use crate::cipher::{DataKey, TAG_BYTES};

/// Length of a nonce, in bytes.
pub(super) const NONCE_BYTES: usize = 12;

/// Opens `sealed`; `None` when it is not what was sealed with this key, nonce and tag.
pub(crate) fn open(
    key: &DataKey,
    nonce: &[u8; NONCE_BYTES],
    sealed: &[u8],
    tag: &[u8; TAG_BYTES],
) -> Option<Zeroizing<Vec<u8>>> {
    let mut plain = Zeroizing::new(vec![0; sealed.len()]);
    is_opened(key.expose(), *nonce, sealed, tag, &mut plain).then_some(plain)
}

#[cfg(feature = "aws-lc")]
fn is_opened(
    key: &[u8; 32],
    nonce: [u8; NONCE_BYTES],
    sealed: &[u8],
    tag: &[u8; TAG_BYTES],
    out: &mut [u8],
) -> bool {
    use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
    let key = UnboundKey::new(&AES_256_GCM, key).expect("because the key has the cipher's length");
    let nonce = Nonce::assume_unique_for_key(nonce);
    LessSafeKey::new(key).open_separate_gather(nonce, Aad::empty(), sealed, tag, out).is_ok()
}

#[cfg(not(feature = "aws-lc"))]
fn is_opened(
    key: &[u8; 32],
    nonce: [u8; NONCE_BYTES],
    sealed: &[u8],
    tag: &[u8; TAG_BYTES],
    out: &mut [u8],
) -> bool {
    use aes_gcm::{Aes256Gcm, KeyInit, aead::AeadInOut};
    out.copy_from_slice(sealed);
    Aes256Gcm::new(key.into()).decrypt_inout_detached(&nonce.into(), b"", out.into(), tag.into()).is_ok()
}
