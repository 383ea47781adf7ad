//! Identifiers. Parsed once at the door, trusted afterwards: a [`TenantId`] is safe as one path component because no
//! other value of that type exists.

use std::{borrow::Borrow, fmt, str::FromStr, sync::Arc};

use serde::{Deserialize, Serialize, Serializer};
use uuid::Uuid;

use crate::{Error, Timestamp};

/// Which kind of identifier a refused value was meant to be. Part of [`Error::InvalidId`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum IdWord {
    /// A [`TenantId`].
    Tenant,
    /// A [`VolumeId`].
    Volume,
    /// A [`WatcherId`].
    Watcher,
    /// A [`FileKey`].
    File,
    /// A [`StoragePath`](crate::StoragePath).
    StoragePath,
}

impl fmt::Display for IdWord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            IdWord::Tenant => "tenant id",
            IdWord::Volume => "volume id",
            IdWord::Watcher => "watcher id",
            IdWord::File => "file key",
            IdWord::StoragePath => "storage path",
        })
    }
}

/// Longest identifier, in bytes.
const ID_BYTES_MAX: usize = 63;

/// Checks the grammar that tenants, volumes and watchers share; the answer says what is wrong.
pub(crate) fn check_id(text: &str) -> Result<(), &'static str> {
    if text.is_empty() {
        return Err("is empty: use 1 to 63 of a-z 0-9 - _ .");
    }
    if text.len() > ID_BYTES_MAX {
        return Err("is longer than 63 bytes");
    }
    if !text.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.')) {
        if text.bytes().any(|b| b.is_ascii_uppercase()) {
            return Err(
                "holds a character outside a-z 0-9 - _ .: ids are lower-case, so that none differ by case only",
            );
        }
        return Err("holds a character outside a-z 0-9 - _ .");
    }
    let ends = |b: Option<u8>| b.is_some_and(|b| b.is_ascii_alphanumeric());
    if !ends(text.bytes().next()) || !ends(text.bytes().last()) {
        return Err("must begin and end with a letter or a digit");
    }
    if text.contains("..") {
        return Err("holds two dots in a row");
    }
    // A reserved device name stays reserved with any extension (`con.txt`), see "Naming Files" in the Win32 docs.
    let stem = text.split('.').next().unwrap_or(text);
    let numbered = |prefix: &str| {
        stem.strip_prefix(prefix)
            .is_some_and(|n| n.len() == 1 && n != "0" && n.as_bytes()[0].is_ascii_digit())
    };
    if matches!(stem, "con" | "prn" | "aux" | "nul") || numbered("com") || numbered("lpt") {
        return Err("is a device name reserved by Windows");
    }
    Ok(())
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $word:expr) => {
        $(#[$doc])*
        ///
        /// 1 to 63 of `a-z 0-9 - _ .`, begins and ends with a letter or digit, no `..`, no Windows reserved name.
        /// Cheap to clone.
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
        #[serde(try_from = "String")]
        pub struct $name(pub(crate) Arc<str>);

        impl $name {
            /// Parses and checks `text`.
            ///
            /// # Errors
            /// [`Error::InvalidId`] says what is wrong with it.
            pub fn parse(text: &str) -> Result<Self, Error> {
                match check_id(text) {
                    Ok(()) => Ok(Self(text.into())),
                    Err(why) => Err(Error::InvalidId { word: $word, value: excerpt(text), why }),
                }
            }

            /// The identifier as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.0)
            }
        }

        impl FromStr for $name {
            type Err = Error;
            fn from_str(text: &str) -> Result<Self, Error> {
                Self::parse(text)
            }
        }

        impl TryFrom<String> for $name {
            type Error = Error;
            fn try_from(text: String) -> Result<Self, Error> {
                Self::parse(&text)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> String {
                String::from(&*id.0)
            }
        }

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }
    };
}

id!(
    /// The name of a tenant, an isolated owner of files.
    TenantId,
    IdWord::Tenant
);
id!(
    /// The name of a volume, a place for bytes.
    VolumeId,
    IdWord::Volume
);
id!(
    /// The name of a watcher, which imports files from a folder.
    WatcherId,
    IdWord::Watcher
);

/// The first characters of a refused value, so that an error message stays short whatever was passed in.
pub(crate) fn excerpt(text: &str) -> String {
    const CHARS: usize = 80;
    let mut short: String = text.chars().take(CHARS).flat_map(char::escape_debug).collect();
    if text.chars().nth(CHARS).is_some() {
        short.push('…');
    }
    short
}

/// The key of one file: a UUID version 7 (RFC 9562), generated by Locus and never chosen by the caller.
///
/// Keys made later sort after keys made earlier to the millisecond; use the accept order of the queue, not the key,
/// where order matters.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct FileKey(Uuid);

impl FileKey {
    /// Makes a key from the wall clock and 10 bytes of randomness (74 bits of them are used).
    #[must_use]
    pub fn generate(wall: Timestamp, random: &[u8; 10]) -> Self {
        let millis = u64::try_from(wall.as_micros() / 1_000).unwrap_or(0);
        Self(uuid::Builder::from_unix_timestamp_millis(millis, random).into_uuid())
    }

    /// When it was drawn, to the millisecond, by the wall clock of then; `None` of what
    /// [`generate`](Self::generate) did not make.
    #[must_use]
    pub fn drawn_at(&self) -> Option<Timestamp> {
        let bytes = self.as_bytes();
        let millis = bytes[..6].iter().fold(0, |millis, byte| millis << 8 | i64::from(*byte));
        (self.0.get_version_num() == 7).then(|| Timestamp::from_micros(millis.saturating_mul(1_000)))
    }

    /// The 16 bytes of the key.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 16] {
        self.0.as_bytes()
    }

    /// The key with these 16 bytes, as [`as_bytes`](Self::as_bytes) gave them.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(Uuid::from_bytes(bytes))
    }

    /// Parses the hyphenated form that `Display` prints.
    ///
    /// # Errors
    /// [`Error::InvalidId`] when the text is no UUID.
    pub fn parse(text: &str) -> Result<Self, Error> {
        Uuid::try_parse(text).map(Self).map_err(|_| Error::InvalidId {
            word: IdWord::File,
            value: excerpt(text),
            why: "is no UUID: pass a key as Locus returned it",
        })
    }
}

impl fmt::Display for FileKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0.hyphenated(), f)
    }
}

impl fmt::Debug for FileKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FileKey({})", self.0.hyphenated())
    }
}

impl FromStr for FileKey {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self, Error> {
        Self::parse(text)
    }
}

/// The identity of one store: 128 random bits drawn when its directory was made. A volume's marker names the store it
/// belongs to. Prints as 32 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct StoreId([u8; 16]);

impl StoreId {
    /// The identity with these bytes.
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

impl fmt::Display for StoreId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for StoreId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StoreId({self})")
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("acme")]
    #[case("a")]
    #[case("acme.eu-1_x")]
    #[case("0")]
    #[case("com")]
    #[case("com0")]
    #[case("com10")]
    #[case("console")]
    fn a_good_id_is_accepted(#[case] text: &str) {
        assert_eq!(TenantId::parse(text).unwrap().as_str(), text);
    }

    #[rstest]
    #[case("", "empty")]
    #[case("Acme", "outside a-z")]
    #[case("Acme", "lower-case")]
    #[case("a/b", "outside a-z")]
    #[case("a\0", "outside a-z")]
    #[case("..", "begin and end")]
    #[case("-a", "begin and end")]
    #[case("a.", "begin and end")]
    #[case("a..b", "two dots")]
    #[case("con", "reserved")]
    #[case("nul.txt", "reserved")]
    #[case("lpt9", "reserved")]
    #[case(&"a".repeat(64), "longer")]
    fn b82_a_bad_id_is_refused_with_its_reason(#[case] text: &str, #[case] reason: &str) {
        let message = TenantId::parse(text).unwrap_err().to_string();
        assert!(message.contains(reason), "{message}");
    }

    #[test]
    fn an_id_is_checked_when_it_is_deserialised() {
        assert!(serde_json::from_str::<VolumeId>("\"vol-001\"").is_ok());
        assert!(serde_json::from_str::<VolumeId>("\"../x\"").is_err());
    }

    #[test]
    fn a_key_survives_its_text_form() {
        let key = FileKey::generate(Timestamp::from_micros(1_700_000_000_000_000), &[7; 10]);
        assert_eq!(FileKey::parse(&key.to_string()).unwrap(), key);
        assert!(FileKey::parse("hello").is_err());
    }
}
