//! AES-256-GCM as others use it: one nonce, one tag, no segments.

use zeroize::Zeroizing;

use crate::cipher::{Aes256Gcm, DataKey, NONCE_BYTES, TAG_BYTES};

/// Opens `sealed`; `None` when it is not what was sealed with this key, nonce and tag.
pub(crate) fn open(
    key: &DataKey,
    nonce: &[u8; NONCE_BYTES],
    sealed: &[u8],
    tag: &[u8; TAG_BYTES],
) -> Option<Zeroizing<Vec<u8>>> {
    let mut plain = Zeroizing::new(vec![0; sealed.len()]);
    Aes256Gcm::new(key.expose()).open(*nonce, sealed, tag, &mut plain).then_some(plain)
}
