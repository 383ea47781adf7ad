//! The seam of encryption at rest: content is sealed before it is placed anywhere, and opened after it is read. Whoever moves,
//! copies, counts or keeps it in between has sealed bytes and knows nothing of it.

use std::{
    fmt::{self, Debug},
    ops::Range,
    sync::Arc,
};

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::{Checksum, Extension, FileKey, Properties, Result, StoragePath};

/// Names a key that contents are sealed with. Prints as a hyphenated UUID.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SealKeyId([u8; 16]);

impl SealKeyId {
    /// The id with these bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// The 16 bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl fmt::Display for SealKeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&uuid::Uuid::from_bytes(self.0), f)
    }
}

impl Debug for SealKeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SealKeyId({self})")
    }
}

/// What a record says of a content that is sealed. The record's own length and checksum are those of the sealed bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seal {
    /// The key that content and details are sealed with.
    pub key: SealKeyId,
    /// [`SealedDetails`], sealed.
    pub details: Box<[u8]>,
    /// How often the content was sealed anew: each time its blob takes another name, which none of its file had before.
    pub turn: u32,
}

impl Seal {
    /// The extension of a blob that was sealed anew so often: what kind of content it is, is nobody's business.
    #[must_use]
    pub fn extension(turn: u32) -> Extension {
        if turn == 0 { Extension::NONE } else { Extension::parse(&turn.to_string()).unwrap_or_default() }
    }

    /// The extension of a content's blob: of its name, unless it is sealed.
    #[must_use]
    pub fn extension_of(seal: Option<&Self>, original_name: Option<&str>) -> Extension {
        match (seal, original_name) {
            (Some(seal), _) => Self::extension(seal.turn),
            (None, Some(name)) => Extension::of(name),
            (None, None) => Extension::NONE,
        }
    }

    /// How often a sealed blob with this extension was sealed anew; `None` when no sealed blob has it.
    #[must_use]
    pub fn turn_of(extension: Extension) -> Option<u32> {
        let turn = if extension.is_empty() { 0 } else { extension.as_str().parse().ok()? };
        (Self::extension(turn) == extension).then_some(turn)
    }
}

/// Longest sealed details, in bytes.
pub const SEALED_DETAILS_BYTES_MAX: u64 = 4_096;

/// What is known about a content, and only to who can open it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SealedDetails {
    /// Length of the plaintext, in bytes.
    pub size: u64,
    /// BLAKE3 of the plaintext.
    pub checksum: Checksum,
    /// The name the caller gave it.
    pub original_name: Option<String>,
    /// The caller's own key-value pairs.
    pub properties: Properties,
}

/// The file that something sealed belongs to: it opens beside no other.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SealedFile {
    /// The first path component of its bytes on volumes.
    pub owner: StoragePath,
    /// Its key.
    pub key: FileKey,
}

/// Seals contents, and what is known about them, and opens them again.
///
/// A sealed content begins with a head of [`head_len`](Self::head_len) bytes, which tells how it was sealed; no two contents are
/// sealed alike, be they the same. Calls may take some microseconds, and none waits for anything.
pub trait Sealer: Debug + Send + Sync {
    /// The key that new contents are sealed with.
    fn key(&self) -> SealKeyId;

    /// Refuses when what was sealed with this key could not be opened.
    ///
    /// # Errors
    /// [`Error::UnknownKey`](crate::Error::UnknownKey).
    fn check(&self, key: SealKeyId) -> Result<()>;

    /// The key of a content that begins with `head`; `None` when nothing that was sealed begins so.
    fn key_of(&self, head: &[u8]) -> Option<SealKeyId>;

    /// Length of every head, in bytes.
    fn head_len(&self) -> u64;

    /// How long a content of `plain` bytes is once it is sealed, head included.
    fn sealed_len(&self, plain: u64) -> u64;

    /// How long the content of a sealed one of so many bytes is; `None` when none has that length.
    fn plain_len(&self, sealed: u64) -> Option<u64>;

    /// Begins to seal a content as none was sealed before: a new one with the key [that is active](Self::key), a part of one that
    /// was begun with the key that it was begun with.
    ///
    /// # Errors
    /// [`Error::UnknownKey`](crate::Error::UnknownKey).
    fn seal(&self, file: &SealedFile, key: SealKeyId) -> Result<Box<dyn SealContent>>;

    /// Begins to open a sealed content of `sealed_len` bytes that begins with `head`.
    ///
    /// # Errors
    /// [`Error::UnknownKey`](crate::Error::UnknownKey); [`Error::Tampered`](crate::Error::Tampered) when nothing that was sealed begins so, or has that length.
    fn open(&self, file: &SealedFile, head: &[u8], sealed_len: u64) -> Result<Arc<dyn OpenContent>>;

    /// Seals what is known about a content that was sealed with `key` and whose sealed bytes have this checksum.
    ///
    /// # Errors
    /// [`Error::UnknownKey`](crate::Error::UnknownKey).
    fn seal_details(
        &self,
        file: &SealedFile,
        key: SealKeyId,
        sealed: &Checksum,
        details: &SealedDetails,
    ) -> Result<Seal>;

    /// Opens what is known about a content.
    ///
    /// # Errors
    /// [`Error::UnknownKey`](crate::Error::UnknownKey); [`Error::Tampered`](crate::Error::Tampered) when it was sealed for another file or content.
    fn open_details(&self, file: &SealedFile, sealed: &Checksum, seal: &Seal) -> Result<SealedDetails>;

    /// A record is about to be written that names this key, and it is not given up before the answer is dropped.
    ///
    /// # Errors
    /// [`Error::UnknownKey`](crate::Error::UnknownKey): it is not there, or just being given up.
    fn hold(&self, key: SealKeyId) -> Result<KeyHold>;

    /// A text, sealed with `key`, as a text of at most `bytes_max` bytes; what does not fit is cut off before.
    ///
    /// # Errors
    /// [`Error::UnknownKey`](crate::Error::UnknownKey).
    fn seal_text(&self, file: &SealedFile, key: SealKeyId, text: &str, bytes_max: usize) -> Result<String>;

    /// A text that was sealed; any other text as it is.
    ///
    /// # Errors
    /// [`Error::UnknownKey`](crate::Error::UnknownKey); [`Error::Tampered`](crate::Error::Tampered).
    fn open_text(&self, file: &SealedFile, text: String) -> Result<String>;
}

/// Keeps a key from being given up, until it is dropped.
#[must_use = "dropping it lets the key go"]
pub struct KeyHold(Option<Box<dyn FnOnce() + Send + Sync>>);

impl KeyHold {
    /// Runs `end` once, when it is dropped.
    pub fn new(end: impl FnOnce() + Send + Sync + 'static) -> Self {
        Self(Some(Box::new(end)))
    }
}

impl Debug for KeyHold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyHold")
    }
}

impl Drop for KeyHold {
    fn drop(&mut self) {
        if let Some(end) = self.0.take() {
            end();
        }
    }
}

/// A content on its way in.
pub trait SealContent: Send {
    /// The key that it is sealed with.
    fn key(&self) -> SealKeyId;

    /// What comes first.
    fn head(&self) -> Vec<u8>;

    /// Bytes of plaintext in each piece but the last.
    fn piece_bytes(&self) -> usize;

    /// Seals the next piece behind what is in `out`. Each has [`piece_bytes`](Self::piece_bytes) but the last, which may have
    /// less, and none only when it is the first as well.
    fn seal(&mut self, plain: &[u8], is_last: bool, out: &mut Vec<u8>);
}

/// A content on its way out.
pub trait OpenContent: Debug + Send + Sync {
    /// Length of the plaintext, in bytes.
    fn plain_len(&self) -> u64;

    /// Which sealed bytes, counted from the begin of the head, hold these bytes of the plaintext. What lies behind its end is cut
    /// off.
    fn sealed(&self, plain: Range<u64>) -> Range<u64>;

    /// Bytes `plain` of the plaintext, from the [sealed bytes that hold them](Self::sealed).
    ///
    /// # Errors
    /// [`Error::Tampered`](crate::Error::Tampered), and nothing of the content.
    fn open(&self, plain: Range<u64>, sealed: &[u8]) -> Result<Bytes>;
}
