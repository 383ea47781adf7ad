//! The name of an entity, and what it is called on the disk.
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::{fmt, fmt::Write as _, str::FromStr, sync::Arc};

use locus_core::Checksum;
use serde::{Deserialize, Serialize};

use crate::error::VaultError;

/// Longest name of a database, in bytes.
pub const DATABASE_BYTES_MAX: usize = 128;

/// Longest key of an entity, in bytes.
pub const KEY_BYTES_MAX: usize = 1_024;

/// Longest name on the disk that is spelled out, in bytes. Prefixes and suffixes make it longer, and no file system takes
/// more than 255.
const SPELLED_BYTES_MAX: usize = 180;

/// The name of an entity: a database and a key in it. Prints as `database/key`.
///
/// Both are any text without control characters, not empty, of at most [`DATABASE_BYTES_MAX`] and [`KEY_BYTES_MAX`] bytes;
/// a database holds no `/`. They differ when a byte does: upper case from lower case, composed from decomposed. Cheap to
/// clone.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct EntityId {
    /// Both, with the `/` between them.
    text: Arc<str>,
    /// Where the `/` is.
    database_len: usize,
}

impl EntityId {
    /// The entity `key` of `database`.
    ///
    /// # Errors
    /// [`VaultError::InvalidId`] says what is wrong.
    pub fn new(database: &str, key: &str) -> Result<Self, VaultError> {
        let refused = |text: &str, why| VaultError::InvalidId { value: excerpt(text), why };
        match (database, key) {
            ("", _) => return Err(refused(key, "has no database: write database/key")),
            (_, "") => return Err(refused(database, "has no key: write database/key")),
            _ if database.len() > DATABASE_BYTES_MAX => {
                return Err(refused(database, "is longer than the 128 bytes of a database"));
            }
            _ if key.len() > KEY_BYTES_MAX => {
                return Err(refused(key, "is longer than the 1024 bytes of a key"));
            }
            _ if database.contains('/') => return Err(refused(database, "is a database with a /")),
            _ => {}
        }
        if let Some(bad) = [database, key].into_iter().find(|text| text.chars().any(char::is_control)) {
            return Err(refused(bad, "holds a control character"));
        }
        Ok(Self { text: format!("{database}/{key}").into(), database_len: database.len() })
    }

    /// The database.
    #[must_use]
    pub fn database(&self) -> &str {
        self.text.get(..self.database_len).unwrap_or_default()
    }

    /// The key in its database.
    #[must_use]
    pub fn key(&self) -> &str {
        self.text.get(self.database_len.saturating_add(1)..).unwrap_or_default()
    }

    /// What the entity's files are called, without a suffix: no two entities share one, on a file system that folds case
    /// neither. Of `a-z 0-9 - _ % + ~` alone, and at most 180 bytes long.
    ///
    /// Both parts with all other bytes as `%` and two hexadecimal digits, and a `+` between them; or, where that is too long,
    /// `~` and the BLAKE3 hash of the id.
    pub(crate) fn file_name(&self) -> String {
        let mut name = String::with_capacity(self.text.len().saturating_mul(2));
        spell(self.database(), &mut name);
        name.push('+');
        spell(self.key(), &mut name);
        if name.len() > SPELLED_BYTES_MAX {
            // The first `/` ends the database: no two ids have the same text.
            name = format!("~{}", Checksum::of(self.text.as_bytes()));
        }
        name
    }
}

/// Which of the 256 directories holds the files called `name`.
pub(crate) fn shard_of(name: &str) -> u8 {
    Checksum::of(name.as_bytes()).as_bytes().first().copied().unwrap_or_default()
}

fn spell(text: &str, name: &mut String) {
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' => name.push(char::from(byte)),
            // A string takes all that is written to it.
            _ => drop(write!(name, "%{byte:02x}")),
        }
    }
}

/// The beginning of a refused value, so that a message stays short and on its line.
pub(crate) fn excerpt(text: &str) -> String {
    const CHARS: usize = 80;
    let mut short: String = text.chars().take(CHARS).flat_map(char::escape_debug).collect();
    if text.chars().nth(CHARS).is_some() {
        short.push('…');
    }
    short
}

impl fmt::Display for EntityId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.text)
    }
}

impl fmt::Debug for EntityId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EntityId({})", self.text)
    }
}

/// As it is printed: up to the first `/` the database, behind it the key.
impl FromStr for EntityId {
    type Err = VaultError;

    fn from_str(text: &str) -> Result<Self, VaultError> {
        let (database, key) = text.split_once('/').unwrap_or((text, ""));
        Self::new(database, key)
    }
}

impl TryFrom<String> for EntityId {
    type Error = VaultError;

    fn try_from(text: String) -> Result<Self, VaultError> {
        text.parse()
    }
}

impl From<EntityId> for String {
    fn from(id: EntityId) -> Self {
        id.text.as_ref().into()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;

    fn id(database: &str, key: &str) -> EntityId {
        EntityId::new(database, key).unwrap()
    }

    #[rstest]
    #[case("", "k", "no database")]
    #[case("d", "", "no key")]
    #[case("a/b", "k", "with a /")]
    #[case("d", "a\0b", "control")]
    #[case("d\n", "k", "control")]
    #[case(&"d".repeat(129), "k", "128")]
    #[case("d", &"k".repeat(1_025), "1024")]
    fn an_id_that_is_none_is_refused_with_the_reason(
        #[case] database: &str,
        #[case] key: &str,
        #[case] why: &str,
    ) {
        let refused = EntityId::new(database, key).unwrap_err().to_string();
        assert!(refused.contains(why) && refused.len() < 250, "{refused}");
    }

    #[test]
    fn an_id_survives_its_text_form_and_its_parts_are_what_they_were() {
        for (database, key) in [("d", "a/b//c"), ("Ünï", "…"), (".", ".."), ("con", "nul"), ("d", "/")] {
            let id = id(database, key);
            assert_eq!((id.database(), id.key()), (database, key));
            assert_eq!(id.to_string().parse::<EntityId>().unwrap(), id);
        }
        for text in ["", "d", "/k", "d/"] {
            assert!(text.parse::<EntityId>().is_err(), "{text}");
        }
    }

    #[test]
    fn names_that_look_alike_are_told_apart_on_every_file_system() {
        let same: [[(&str, &str); 2]; 6] = [
            [("a_b", "c"), ("a", "b_c")],
            [("a", "b"), ("A", "b")],
            [("a", "%2f"), ("a", "/")],
            [("a+b", "c"), ("a", "b+c")],
            [("a", "é"), ("a", "e\u{301}")],
            [("~", "x"), ("%7e", "x")],
        ];
        for [(one, its), (other, others)] in same {
            assert_ne!(id(one, its).file_name(), id(other, others).file_name());
        }
        assert_eq!(id("con", "../A.b").file_name(), "con+%2e%2e%2f%41%2eb");
    }

    #[test]
    fn a_name_too_long_to_be_spelled_is_a_hash_of_all_of_it() {
        let (one, other) = (id("d", &"x".repeat(1_024)), id("d", &format!("{}y", "x".repeat(1_023))));
        assert_eq!(one.file_name().len(), 65);
        assert_ne!(one.file_name(), other.file_name());
        assert_eq!(id("d", &"x".repeat(178)).file_name().len(), 180);
        assert!(id("d", &"x".repeat(179)).file_name().starts_with('~'));
    }

    proptest! {
        #[test]
        fn any_two_ids_have_two_safe_names(
            ids in prop::collection::vec(("[a+%~/_A]{1,4}|\\PC{1,200}", "[a+%~/_A]{1,4}|\\PC{1,200}"), 2),
        ) {
            let ids: Vec<EntityId> = ids.iter().filter_map(|(d, k)| EntityId::new(d, k).ok()).collect();
            let names: Vec<String> = ids.iter().map(EntityId::file_name).collect();
            for name in &names {
                prop_assert!(name.len() <= SPELLED_BYTES_MAX);
                prop_assert!(name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-_%+~".contains(&b)));
            }
            if let ([one, other], [its, others]) = (&*ids, &*names) {
                prop_assert_eq!(one == other, its == others);
            }
        }
    }
}
