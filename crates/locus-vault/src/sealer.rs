//! Encryption at rest for a pool: the [`Sealer`] over a keyring.
//!
//! Sealed content, all numbers little-endian:
//!
//! | bytes | what |
//! |---|---|
//! | 0..6 | `LSEALD` |
//! | 6 | format, 1 |
//! | 7 | cipher suite |
//! | 8..24 | id of the ring's key |
//! | 24..56 | salt, drawn for this content |
//! | 56.. | segments |
//!
//! Each tenant has data keys of its own, derived from the ring's by the tenant's name on volumes and the store's id; from one of
//! these the key of a content is derived, bound to the head and to the file's key. Details are sealed by the same data key with
//! the checksum of the sealed content in the place of the salt: no two contents have the same. A text brings its own salt.

#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::{fmt, ops::Range, sync::Arc};

use base64::{Engine, engine::general_purpose::STANDARD_NO_PAD};
use bytes::Bytes;
use locus_core::{
    Checksum, Entropy, Error, OpenContent, Result, Seal, SealContent, SealKeyId, SealedDetails, SealedFile,
    Sealer, StoreId,
};
use parking_lot::RwLock;

use crate::{
    cipher::{
        ContentKey, DataKey, SALT_BYTES, SEGMENT_BYTES, Salt, Suite, plain_len, sealed_len, segments_of,
    },
    keyring::{KeyId, Keyring},
};

const MAGIC: [u8; 6] = *b"LSEALD";
const FORMAT: u8 = 1;
const KEY_ID_BYTES: usize = 16;
/// Where the salt begins.
const SALT_AT: usize = MAGIC.len() + 2 + KEY_ID_BYTES;
const HEAD_BYTES: usize = SALT_AT + SALT_BYTES;

/// What a sealed text begins with. No worker's error does by accident: it holds a control character.
const TEXT: &str = "\u{1}sealed:";

/// Seals what a pool is given, and opens it again, with the keys of a ring. Cheap to clone; clones are the same.
#[derive(Clone)]
pub struct PoolSealer {
    inner: Arc<Inner>,
}

struct Inner {
    store: StoreId,
    ring: RwLock<Arc<Keyring>>,
    entropy: Arc<dyn Entropy>,
}

impl fmt::Debug for PoolSealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PoolSealer").field("store", &self.inner.store).finish_non_exhaustive()
    }
}

impl PoolSealer {
    /// For the pool over this store, which alone can open what it sealed.
    #[must_use]
    pub fn new(store: StoreId, keyring: Arc<Keyring>, entropy: Arc<dyn Entropy>) -> Self {
        Self { inner: Arc::new(Inner { store, ring: RwLock::new(keyring), entropy }) }
    }

    /// The ring that it seals and opens with.
    #[must_use]
    pub fn keyring(&self) -> Arc<Keyring> {
        Arc::clone(&self.inner.ring.read())
    }

    /// Seals and opens with these keys from now on: of the same ring, after it was changed.
    pub fn set_keyring(&self, keyring: Arc<Keyring>) {
        *self.inner.ring.write() = keyring;
    }

    /// The key of something that was sealed with `key`.
    fn content_key(&self, file: &SealedFile, key: SealKeyId, salt: &Salt, what: What) -> Result<ContentKey> {
        let ring = self.keyring();
        let data_key = ring.key(KeyId::from_bytes(*key.as_bytes())).map_err(|_| Error::UnknownKey { key })?;
        Ok(self.derive(data_key, file, key, salt, what))
    }

    /// The key of something new, and the ring's active key, which it comes from.
    fn new_key(&self, file: &SealedFile, salt: &Salt, what: What) -> (SealKeyId, ContentKey) {
        let ring = self.keyring();
        let (key, data_key) = ring.active();
        let key = SealKeyId::from_bytes(*key.as_bytes());
        (key, self.derive(data_key, file, key, salt, what))
    }

    fn derive(
        &self,
        data_key: &DataKey,
        file: &SealedFile,
        key: SealKeyId,
        salt: &Salt,
        what: What,
    ) -> ContentKey {
        let tenant = [self.inner.store.as_bytes(), file.owner.as_str().as_bytes()];
        let tenant_key = data_key.derive(b"locus pool tenant", &tenant);
        let header = [file.key.as_bytes().as_slice(), key.as_bytes(), what.label()].concat();
        ContentKey::derive(&tenant_key, salt, &header)
    }
}

/// What is sealed: none of these opens as another.
#[derive(Debug, Clone, Copy)]
enum What {
    Content,
    Details,
    Text,
}

impl What {
    const fn label(self) -> &'static [u8] {
        match self {
            Self::Content => b"locus pool content",
            Self::Details => b"locus pool details",
            Self::Text => b"locus pool text",
        }
    }
}

fn tampered(what: &str, file: &SealedFile) -> Error {
    Error::Tampered { place: format!("{what} of file {}", file.key) }
}

impl Sealer for PoolSealer {
    fn check(&self, key: SealKeyId) -> Result<()> {
        let ring = self.keyring();
        ring.key(KeyId::from_bytes(*key.as_bytes())).map(drop).map_err(|_| Error::UnknownKey { key })
    }

    fn head_len(&self) -> u64 {
        HEAD_BYTES as u64
    }

    fn sealed_len(&self, plain: u64) -> u64 {
        sealed_len(plain).saturating_add(HEAD_BYTES as u64)
    }

    fn plain_len(&self, sealed: u64) -> Option<u64> {
        plain_len(sealed.checked_sub(HEAD_BYTES as u64)?)
    }

    fn seal(&self, file: &SealedFile) -> Box<dyn SealContent> {
        let salt = Salt::draw(&*self.inner.entropy);
        let (key, content) = self.new_key(file, &salt, What::Content);
        Box::new(Sealing { key, salt, content, next: 0 })
    }

    fn open(&self, file: &SealedFile, head: &[u8], sealed_len: u64) -> Result<Arc<dyn OpenContent>> {
        let refused = || tampered("the content", file);
        let (key, salt) = head.first_chunk().and_then(decode).ok_or_else(refused)?;
        let plain_len = self.plain_len(sealed_len).ok_or_else(refused)?;
        let content = self.content_key(file, key, &salt, What::Content)?;
        Ok(Arc::new(Opening { content, plain_len, file: file.clone() }))
    }

    fn seal_details(
        &self,
        file: &SealedFile,
        key: SealKeyId,
        sealed: &Checksum,
        details: &SealedDetails,
    ) -> Result<Seal> {
        let salt = Salt::from_bytes(*sealed.as_bytes());
        let plain = postcard::to_stdvec(details).expect("because every field can be written to memory");
        let details = self.content_key(file, key, &salt, What::Details)?.seal(&plain).into();
        Ok(Seal { key, details })
    }

    fn open_details(&self, file: &SealedFile, sealed: &Checksum, seal: &Seal) -> Result<SealedDetails> {
        let salt = Salt::from_bytes(*sealed.as_bytes());
        let opened = self.content_key(file, seal.key, &salt, What::Details)?.open(&seal.details);
        let refused = || tampered("what is known", file);
        let opened = opened.map_err(|_| refused())?;
        postcard::from_bytes(&opened).map_err(|_| refused())
    }

    fn seal_text(&self, file: &SealedFile, text: &str, bytes_max: usize) -> String {
        let room = bytes_max.saturating_sub(TEXT.len()).saturating_mul(3) / 4;
        let room = room.saturating_sub(KEY_ID_BYTES + SALT_BYTES).saturating_sub(sealed_len(0) as usize);
        let text = text.get(..text.floor_char_boundary(room)).unwrap_or_default();
        let salt = Salt::draw(&*self.inner.entropy);
        let (key, content) = self.new_key(file, &salt, What::Text);
        let sealed = content.seal(text.as_bytes());
        let sealed = [key.as_bytes().as_slice(), salt.as_bytes(), &sealed].concat();
        format!("{TEXT}{}", STANDARD_NO_PAD.encode(sealed))
    }

    fn open_text(&self, file: &SealedFile, text: String) -> Result<String> {
        let Some(sealed) = text.strip_prefix(TEXT) else { return Ok(text) };
        let refused = || tampered("an error", file);
        let sealed = STANDARD_NO_PAD.decode(sealed).map_err(|_| refused())?;
        let (key, sealed) = sealed.split_first_chunk().ok_or_else(refused)?;
        let (salt, sealed) = sealed.split_first_chunk().ok_or_else(refused)?;
        let (key, salt) = (SealKeyId::from_bytes(*key), Salt::from_bytes(*salt));
        let opened = self.content_key(file, key, &salt, What::Text)?.open(sealed).map_err(|_| refused())?;
        std::str::from_utf8(&opened).map(String::from).map_err(|_| refused())
    }
}

/// What a head says; `None` when nothing that was sealed begins so.
pub(crate) fn decode(head: &[u8; HEAD_BYTES]) -> Option<(SealKeyId, Salt)> {
    let rest = head.strip_prefix(&MAGIC)?;
    let (&[format, suite], rest) = rest.split_first_chunk::<2>()?;
    let (key, salt) = rest.split_first_chunk()?;
    let known = format == FORMAT && Suite::try_from(suite).is_ok();
    known.then_some((SealKeyId::from_bytes(*key), Salt::from_bytes(*salt.first_chunk()?)))
}

struct Sealing {
    key: SealKeyId,
    salt: Salt,
    content: ContentKey,
    next: u64,
}

impl SealContent for Sealing {
    fn key(&self) -> SealKeyId {
        self.key
    }

    fn head(&self) -> Vec<u8> {
        let suite = [FORMAT, Suite::Aes256GcmHkdfSha256.into()];
        [MAGIC.as_slice(), &suite, self.key.as_bytes(), self.salt.as_bytes()].concat()
    }

    fn piece_bytes(&self) -> usize {
        SEGMENT_BYTES
    }

    fn seal(&mut self, plain: &[u8], is_last: bool, out: &mut Vec<u8>) {
        self.content.seal_segment(self.next, is_last, plain, out);
        self.next = self.next.saturating_add(1);
    }
}

struct Opening {
    content: ContentKey,
    plain_len: u64,
    file: SealedFile,
}

impl fmt::Debug for Opening {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Opening").field("file", &self.file).finish_non_exhaustive()
    }
}

impl OpenContent for Opening {
    fn plain_len(&self) -> u64 {
        self.plain_len
    }

    fn sealed(&self, plain: Range<u64>) -> Range<u64> {
        let sealed = segments_of(plain, self.plain_len).sealed;
        let head = HEAD_BYTES as u64;
        sealed.start.saturating_add(head)..sealed.end.saturating_add(head)
    }

    fn open(&self, plain: Range<u64>, sealed: &[u8]) -> Result<Bytes> {
        let opened = self.content.open_range(plain, self.plain_len, sealed);
        let mut opened = opened.map_err(|_| tampered("the content", &self.file))?;
        Ok(std::mem::take(&mut *opened).into())
    }
}
