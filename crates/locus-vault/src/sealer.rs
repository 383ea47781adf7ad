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
//! these the key of a content is derived, bound to the head and to the file's key. Details and texts bring a
//! salt of their own; details are bound to the checksum of the sealed content as well.

#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    ops::Range,
    sync::Arc,
};

use bytes::Bytes;
use data_encoding::BASE64_NOPAD;
use locus_core::{
    Checksum, Entropy, Error, KeyHold, OpenContent, Result, Seal, SealContent, SealKeyId, SealedDetails,
    SealedFile, Sealer, StoreId,
};
use parking_lot::{Mutex, RwLock};

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
    held: Mutex<Held>,
}

/// Keys that records under way name.
#[derive(Default)]
struct Held {
    holds: BTreeMap<SealKeyId, u64>,
    /// Of these no record may be written any more.
    retiring: BTreeSet<SealKeyId>,
}

/// No record under way names this key, and none will, as long as this lives.
pub struct Retiring {
    inner: Arc<Inner>,
    key: SealKeyId,
}

impl fmt::Debug for Retiring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Retiring").field("key", &self.key).finish_non_exhaustive()
    }
}

impl Drop for Retiring {
    fn drop(&mut self) {
        self.inner.held.lock().retiring.remove(&self.key);
    }
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
        let ring = RwLock::new(keyring);
        Self { inner: Arc::new(Inner { store, ring, entropy, held: Mutex::default() }) }
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

    /// Lets no record be written any more that names this key, for as long as the answer lives; the number of those that are
    /// just being written when there are some.
    ///
    /// # Errors
    /// That number.
    pub fn begin_retire(&self, key: KeyId) -> std::result::Result<Retiring, u64> {
        let key = SealKeyId::from_bytes(*key.as_bytes());
        let mut held = self.inner.held.lock();
        match held.holds.get(&key) {
            Some(count) => Err(*count),
            None => {
                held.retiring.insert(key);
                Ok(Retiring { inner: Arc::clone(&self.inner), key })
            }
        }
    }

    /// The key of something that was sealed with `key`.
    fn content_key(
        &self,
        file: &SealedFile,
        key: SealKeyId,
        salt: &Salt,
        what: What<'_>,
    ) -> Result<ContentKey> {
        let ring = self.keyring();
        let data_key = ring.key(KeyId::from_bytes(*key.as_bytes())).map_err(|_| Error::UnknownKey { key })?;
        Ok(self.derive(data_key, file, key, salt, what))
    }

    fn derive(
        &self,
        data_key: &DataKey,
        file: &SealedFile,
        key: SealKeyId,
        salt: &Salt,
        what: What<'_>,
    ) -> ContentKey {
        let tenant = [self.inner.store.as_bytes(), file.owner.as_str().as_bytes()];
        let tenant_key = data_key.derive(b"locus pool tenant", &tenant);
        let (label, of) = what.bound();
        let header = [file.key.as_bytes().as_slice(), key.as_bytes(), label, of].concat();
        ContentKey::derive(&tenant_key, salt, &header)
    }
}

/// What is sealed: none of these opens as another.
#[derive(Debug, Clone, Copy)]
enum What<'a> {
    Content,
    /// Of the content whose sealed bytes have this checksum.
    Details(&'a Checksum),
    Text,
}

impl<'a> What<'a> {
    /// Its label, and what else it is bound to.
    const fn bound(self) -> (&'static [u8], &'a [u8]) {
        match self {
            Self::Content => (b"locus pool content", &[]),
            Self::Details(of) => (b"locus pool details", of.as_bytes()),
            Self::Text => (b"locus pool text", &[]),
        }
    }
}

fn tampered(what: &str, file: &SealedFile) -> Error {
    Error::Tampered { place: format!("{what} of file {}", file.key) }
}

impl Sealer for PoolSealer {
    fn key(&self) -> SealKeyId {
        SealKeyId::from_bytes(*self.keyring().active().0.as_bytes())
    }

    fn check(&self, key: SealKeyId) -> Result<()> {
        let ring = self.keyring();
        ring.key(KeyId::from_bytes(*key.as_bytes())).map(drop).map_err(|_| Error::UnknownKey { key })
    }

    fn key_of(&self, head: &[u8]) -> Option<SealKeyId> {
        head.first_chunk().and_then(decode).map(|(key, _)| key)
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

    fn seal(&self, file: &SealedFile, key: SealKeyId) -> Result<Box<dyn SealContent>> {
        let salt = Salt::draw(&*self.inner.entropy);
        let content = self.content_key(file, key, &salt, What::Content)?;
        Ok(Box::new(Sealing { key, salt, content, next: 0 }))
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
        let salt = Salt::draw(&*self.inner.entropy);
        let plain = postcard::to_stdvec(details).expect("because every field can be written to memory");
        let details = self.content_key(file, key, &salt, What::Details(sealed))?.seal(&plain);
        Ok(Seal { key, details: [salt.as_bytes().as_slice(), &details].concat().into(), turn: 0 })
    }

    fn open_details(&self, file: &SealedFile, sealed: &Checksum, seal: &Seal) -> Result<SealedDetails> {
        let refused = || tampered("what is known", file);
        let (salt, details) = seal.details.split_first_chunk().ok_or_else(refused)?;
        let (salt, what) = (Salt::from_bytes(*salt), What::Details(sealed));
        let opened = self.content_key(file, seal.key, &salt, what)?.open(details);
        let opened = opened.map_err(|_| refused())?;
        postcard::from_bytes(&opened).map_err(|_| refused())
    }

    fn hold(&self, key: SealKeyId) -> Result<KeyHold> {
        let inner = Arc::clone(&self.inner);
        let mut held = inner.held.lock();
        if held.retiring.contains(&key) {
            return Err(Error::UnknownKey { key });
        }
        self.check(key)?;
        let count = held.holds.entry(key).or_default();
        *count = count.saturating_add(1);
        drop(held);
        Ok(KeyHold::new(move || {
            let mut held = inner.held.lock();
            if let Some(count) = held.holds.get_mut(&key) {
                *count = count.saturating_sub(1);
                if *count == 0 {
                    held.holds.remove(&key);
                }
            }
        }))
    }

    fn seal_text(&self, file: &SealedFile, key: SealKeyId, text: &str, bytes_max: usize) -> Result<String> {
        let room = bytes_max.saturating_sub(TEXT.len()).saturating_mul(3) / 4;
        let room = room.saturating_sub(KEY_ID_BYTES + SALT_BYTES).saturating_sub(sealed_len(0) as usize);
        let text = text.get(..text.floor_char_boundary(room)).unwrap_or_default();
        let salt = Salt::draw(&*self.inner.entropy);
        let content = self.content_key(file, key, &salt, What::Text)?;
        let sealed = content.seal(text.as_bytes());
        let sealed = [key.as_bytes().as_slice(), salt.as_bytes(), &sealed].concat();
        Ok(format!("{TEXT}{}", BASE64_NOPAD.encode(&sealed)))
    }

    fn open_text(&self, file: &SealedFile, text: String) -> Result<String> {
        let Some(sealed) = text.strip_prefix(TEXT) else { return Ok(text) };
        let refused = || tampered("an error", file);
        let sealed = BASE64_NOPAD.decode(sealed.as_bytes()).map_err(|_| refused())?;
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
        let head = HEAD_BYTES as u64;
        if self.plain_len == 0 {
            return head..sealed_len(0).saturating_add(head); // what proves that it is empty
        }
        let sealed = segments_of(plain, self.plain_len).sealed;
        sealed.start.saturating_add(head)..sealed.end.saturating_add(head)
    }

    fn open(&self, plain: Range<u64>, sealed: &[u8]) -> Result<Bytes> {
        let opened = match self.plain_len {
            0 => self.content.open(sealed),
            _ => self.content.open_range(plain, self.plain_len, sealed),
        };
        let mut opened = opened.map_err(|_| tampered("the content", &self.file))?;
        Ok(std::mem::take(&mut *opened).into())
    }
}

#[cfg(test)]
#[expect(clippy::indexing_slicing, clippy::arithmetic_side_effects, reason = "tests damage what they sealed")]
mod tests {
    use hkdf::Hkdf;
    use locus_core::{FileKey, StoragePath};
    use locus_testkit::{ManualClock, SeededEntropy, SimDisk, Stepper};
    use rstest::rstest;
    use sha2::Sha256;

    use super::*;
    use crate::{Argon2Cost, KeyringFile, NewRecipient, Passphrase};

    fn ring_file(seed: u64) -> (KeyringFile, Keyring) {
        let entropy = Arc::new(SeededEntropy::new(seed));
        let file = KeyringFile::new(SimDisk::new(seed), ManualClock::new(), entropy, "/keyring");
        let cost = Argon2Cost { memory_kib: 8, passes: 1, lanes: 1 };
        let first = NewRecipient::passphrase("test", Passphrase::new(b"sesame").unwrap()).cost(cost);
        let ring = Stepper::new(seed).block_on(file.create(first), || false).unwrap();
        (file, ring)
    }

    fn sealer(store: u8, ring: Keyring) -> PoolSealer {
        PoolSealer::new(StoreId::from_bytes([store; 16]), Arc::new(ring), Arc::new(SeededEntropy::new(7)))
    }

    fn file(owner: &str, key: u8) -> SealedFile {
        SealedFile { owner: StoragePath::parse(owner).unwrap(), key: FileKey::from_bytes([key; 16]) }
    }

    fn seal(sealer: &PoolSealer, of: &SealedFile, plain: &[u8]) -> Vec<u8> {
        let mut sealing = sealer.seal(of, sealer.key()).unwrap();
        let mut sealed = sealing.head();
        sealing.seal(plain, true, &mut sealed);
        sealed
    }

    fn open(sealer: &PoolSealer, of: &SealedFile, sealed: &[u8]) -> Result<Bytes> {
        let content = sealer.open(of, sealed, sealed.len() as u64)?;
        let all = 0..content.plain_len();
        let at = content.sealed(all.clone());
        content.open(all, &sealed[at.start as usize..at.end as usize])
    }

    fn details() -> SealedDetails {
        SealedDetails {
            size: 9,
            checksum: Checksum::of(b"plaintext"),
            original_name: Some("a.pdf".into()),
            properties: [("source".to_owned(), "scanner".to_owned())].into(),
        }
    }

    #[test]
    fn the_format_is_the_one_that_is_written_down() {
        let (_, ring) = ring_file(1);
        let (key, secret) = (*ring.active().0.as_bytes(), *ring.active().1.expose());
        let (sealer, of) = (sealer(3, ring), file("acme", 5));
        let sealed = seal(&sealer, &of, b"content");
        assert_eq!(sealed[..8], *b"LSEALD\x01\x01");
        assert_eq!(sealed[8..24], key);
        let salt = Salt::from_bytes(*sealed[24..].first_chunk().unwrap());
        let mut tenant = [0; 32];
        let info = [b"locus pool tenant".as_slice(), &[3; 16], b"acme"].concat();
        Hkdf::<Sha256>::new(None, &secret).expand(&info, &mut tenant).unwrap();
        let of_tenant = |salt: &Salt, what: &[u8]| {
            let header = [[5; 16].as_slice(), &key, what].concat();
            ContentKey::derive(&DataKey::from_bytes(&tenant), salt, &header)
        };
        let opened = of_tenant(&salt, b"locus pool content").open(&sealed[56..]).unwrap();
        assert_eq!(*opened, b"content");
        let seal =
            sealer.seal_details(&of, SealKeyId::from_bytes(key), &Checksum::of(b"x"), &details()).unwrap();
        let salt = Salt::from_bytes(*seal.details.first_chunk().unwrap());
        let what = [b"locus pool details".as_slice(), Checksum::of(b"x").as_bytes()].concat();
        let opened = of_tenant(&salt, &what).open(&seal.details[32..]).unwrap();
        assert_eq!(postcard::from_bytes::<SealedDetails>(&opened).unwrap(), details());
    }

    #[rstest]
    fn any_change_of_a_content_is_noticed(#[values(0, 1, 100)] len: usize) {
        let (sealer, of) = (sealer(1, ring_file(1).1), file("acme", 1));
        let plain = vec![7; len];
        let sealed = seal(&sealer, &of, &plain);
        assert_eq!(sealed.len() as u64, sealer.sealed_len(len as u64));
        assert_eq!(open(&sealer, &of, &sealed).unwrap(), plain);
        for at in 0..sealed.len() {
            let mut bad = sealed.clone();
            bad[at] ^= 1;
            match open(&sealer, &of, &bad) {
                Err(Error::UnknownKey { .. }) => assert!((8..24).contains(&at), "byte {at}"),
                Err(Error::Tampered { .. }) => {}
                other => panic!("byte {at}: {other:?}"),
            }
            assert!(open(&sealer, &of, &sealed[..at]).is_err(), "cut at {at}");
        }
    }

    #[test]
    fn what_is_of_one_file_tenant_or_store_opens_as_no_other() {
        let (ring_file, ring) = ring_file(1);
        let again = || Stepper::new(1).block_on(ring_file.refresh(&ring), || false).unwrap();
        let (one, other) = (sealer(1, again()), sealer(2, again()));
        let of = file("acme", 1);
        let (sealed, sum) = (seal(&one, &of, b"content"), Checksum::of(b"sealed"));
        let key = one.key_of(&sealed).unwrap();
        let known = one.seal_details(&of, key, &sum, &details()).unwrap();
        let text = one.seal_text(&of, key, "no such page", 1_024).unwrap();
        assert_eq!(one.open_details(&of, &sum, &known).unwrap(), details());
        assert_eq!(one.open_text(&of, text.clone()).unwrap(), "no such page");
        let others = [(&one, file("acme", 2)), (&one, file("acme+00000001", 1)), (&other, of.clone())];
        for (sealer, of) in others {
            assert!(matches!(open(sealer, &of, &sealed), Err(Error::Tampered { .. })), "{of:?}");
            assert!(matches!(sealer.open_details(&of, &sum, &known), Err(Error::Tampered { .. })), "{of:?}");
            assert!(matches!(sealer.open_text(&of, text.clone()), Err(Error::Tampered { .. })), "{of:?}");
        }
        let another = one.open_details(&of, &Checksum::of(b"other"), &known);
        assert!(matches!(another, Err(Error::Tampered { .. })), "details of another content");
        assert_ne!(seal(&one, &of, b"content"), sealed, "no two contents are sealed alike");
    }

    #[test]
    fn details_and_texts_that_were_changed_do_not_open() {
        let (sealer, of, sum) = (sealer(1, ring_file(1).1), file("acme", 1), Checksum::of(b"sealed"));
        let key = sealer.key_of(&seal(&sealer, &of, b"")).unwrap();
        let known = sealer.seal_details(&of, key, &sum, &details()).unwrap();
        for at in 0..known.details.len() {
            let mut bad = known.clone();
            bad.details[at] ^= 1;
            assert!(sealer.open_details(&of, &sum, &bad).is_err(), "byte {at}");
            let cut = Seal { details: known.details[..at].into(), ..known };
            assert!(sealer.open_details(&of, &sum, &cut).is_err(), "cut at {at}");
        }
        let text = sealer.seal_text(&of, sealer.key(), "no such page", 1_024).unwrap();
        for at in TEXT.len()..text.len() {
            let other = if text.as_bytes()[at] == b'A' { "B" } else { "A" };
            let bad = [&text[..at], other, &text[at + 1..]].concat();
            // The last digit may stand for bits that say nothing.
            assert!(sealer.open_text(&of, bad).is_err(), "digit {at}");
            assert!(sealer.open_text(&of, text[..at].to_owned()).is_err(), "cut at {at}");
        }
        assert_eq!(sealer.open_text(&of, "as it was said".into()).unwrap(), "as it was said");
    }

    #[test]
    fn what_was_sealed_before_a_key_was_changed_opens_and_what_comes_has_the_new_one() {
        let (ring_file, ring) = ring_file(1);
        let rotated = Stepper::new(1).block_on(ring_file.rotate(&ring), || false).unwrap();
        let (sealer, of) = (sealer(1, ring), file("acme", 1));
        let before = seal(&sealer, &of, b"before");
        sealer.set_keyring(Arc::new(rotated));
        let after = seal(&sealer, &of, b"after");
        assert_ne!(sealer.key_of(&before), sealer.key_of(&after));
        assert_eq!(open(&sealer, &of, &before).unwrap(), "before");
        assert_eq!(open(&sealer, &of, &after).unwrap(), "after");
        let key = sealer.key_of(&after).unwrap();
        assert!(sealer.check(key).is_ok());
        sealer.set_keyring(Arc::new(self::ring_file(2).1));
        for refused in [sealer.check(key), open(&sealer, &of, &after).map(drop)] {
            assert!(matches!(refused, Err(Error::UnknownKey { key: missing }) if missing == key));
        }
    }

    #[rstest]
    fn a_text_keeps_to_its_bound_and_to_whole_characters(
        #[values(0, 1, 697, 698, 699, 3_000)] len: usize,
        #[values("e", "é", "😀")] of_what: &str,
    ) {
        let (sealer, of) = (sealer(1, ring_file(1).1), file("acme", 1));
        let text: String = of_what.chars().cycle().take(len).collect();
        let sealed = sealer.seal_text(&of, sealer.key(), &text, 1_024).unwrap();
        assert!(sealed.len() <= 1_024, "{}", sealed.len());
        let opened = sealer.open_text(&of, sealed).unwrap();
        assert!(text.starts_with(&opened));
        assert!(opened == text || opened.len() + 4 > 698, "{}", opened.len());
    }

    #[test]
    fn a_key_is_given_up_only_when_no_record_under_way_names_it_and_none_comes_then() {
        let sealer = sealer(1, ring_file(1).1);
        let (key, of) = (sealer.key(), file("acme", 1));
        let id = KeyId::from_bytes(*key.as_bytes());
        let holds = [sealer.hold(key).unwrap(), sealer.hold(key).unwrap()];
        assert_eq!(sealer.begin_retire(id).unwrap_err(), 2);
        drop(holds);
        let retiring = sealer.begin_retire(id).unwrap();
        assert!(matches!(sealer.hold(key), Err(Error::UnknownKey { key: refused }) if refused == key));
        assert_eq!(open(&sealer, &of, &seal(&sealer, &of, b"it still opens")).unwrap(), "it still opens");
        drop(retiring);
        assert!(sealer.hold(key).is_ok());
        assert!(sealer.hold(SealKeyId::from_bytes([9; 16])).is_err(), "it is not there");
    }

    #[test]
    fn a_sealer_shows_nothing_of_its_keys() {
        let shown = format!("{:?}", sealer(1, ring_file(1).1));
        assert!(shown.starts_with("PoolSealer { store: ") && shown.len() < 80, "{shown}");
    }
}
