//! Where bytes rest inside a volume. No text of a caller's reaches a path but a sanitised extension.

use std::{fmt, str::FromStr, sync::Arc};

use serde::{Deserialize, Serialize, Serializer};

use crate::{
    Area, Error, FileKey, IdWord, TenantId,
    ids::{check_id, excerpt},
};

/// The first path component of a tenant's files on every volume: the tenant's id, or for a later incarnation of a
/// tenant of the same name `id+<8 hexadecimal digits>`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
#[serde(try_from = "String")]
pub struct StoragePath(Arc<str>);

impl StoragePath {
    /// Parses and checks `text`.
    ///
    /// # Errors
    /// [`Error::InvalidId`] says what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let refused = |why| Error::InvalidId { word: IdWord::StoragePath, value: excerpt(text), why };
        let id = match text.split_once('+') {
            None => text,
            Some((id, tag)) => {
                let hex = |b: u8| b.is_ascii_digit() || matches!(b, b'a'..=b'f');
                if tag.len() != 8 || !tag.bytes().all(hex) {
                    return Err(refused("has an incarnation that is not 8 hexadecimal digits"));
                }
                id
            }
        };
        check_id(id).map_err(refused)?;
        Ok(Self(text.into()))
    }

    /// The path of a later incarnation of a tenant.
    #[must_use]
    pub fn incarnation(tenant: &TenantId, number: u32) -> Self {
        Self(format!("{tenant}+{number:08x}").into())
    }

    /// The path component as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The tenant whose it is, or was in an earlier incarnation; `None` when no tenant can have this id.
    #[must_use]
    pub fn tenant(&self) -> Option<TenantId> {
        let id = self.0.split_once('+').map_or(&*self.0, |(id, _)| id);
        TenantId::parse(id).ok()
    }
}

impl From<&TenantId> for StoragePath {
    fn from(tenant: &TenantId) -> Self {
        Self(Arc::clone(&tenant.0))
    }
}

impl fmt::Display for StoragePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for StoragePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StoragePath({})", self.0)
    }
}

impl FromStr for StoragePath {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self, Error> {
        Self::parse(text)
    }
}

impl TryFrom<String> for StoragePath {
    type Error = Error;
    fn try_from(text: String) -> Result<Self, Error> {
        Self::parse(&text)
    }
}

impl Serialize for StoragePath {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl From<StoragePath> for String {
    fn from(path: StoragePath) -> String {
        String::from(&*path.0)
    }
}

/// A sanitised file extension without its dot: empty, or 1 to 16 of `a-z 0-9`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Extension {
    bytes: [u8; Extension::BYTES_MAX],
    len: u8,
}

impl Extension {
    /// Longest extension, in bytes. A longer one is left out, not cut.
    pub const BYTES_MAX: usize = 16;

    /// No extension.
    pub const NONE: Self = Self { bytes: [0; Self::BYTES_MAX], len: 0 };

    /// The extension of an original name, in lower case; none when the name has none that is safe on every disk.
    ///
    /// ```
    /// # use locus_core::Extension;
    /// assert_eq!(Extension::of("Scan.PDF").as_str(), "pdf");
    /// assert_eq!(Extension::of("x.tar.gz:stream").as_str(), "");
    /// ```
    #[must_use]
    pub fn of(original_name: &str) -> Self {
        let Some((stem, extension)) = original_name.rsplit_once('.') else { return Self::NONE };
        if stem.is_empty() || stem.ends_with('/') {
            return Self::NONE; // `.profile` is a name, not an extension
        }
        Self::parse(&extension.to_ascii_lowercase()).unwrap_or(Self::NONE)
    }

    /// The extension with this text, when it is one.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let ok = text.len() <= Self::BYTES_MAX
            && text.bytes().all(|b| b.is_ascii_digit() || b.is_ascii_lowercase());
        if !ok {
            return None;
        }
        let mut bytes = [0; Self::BYTES_MAX];
        bytes[..text.len()].copy_from_slice(text.as_bytes());
        Some(Self { bytes, len: text.len() as u8 })
    }

    /// The text without the dot.
    #[must_use]
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.bytes[..usize::from(self.len)]).unwrap_or_default()
    }

    /// Whether there is none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }
}

impl fmt::Debug for Extension {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Extension({:?})", self.as_str())
    }
}

impl fmt::Display for Extension {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// The address of one file's bytes inside a volume. A volume maps it to a path of its own: a volume mounted elsewhere
/// works.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BlobPath {
    /// In which part of the volume.
    pub area: Area,
    /// Whose file it is, as the first path component.
    pub owner: StoragePath,
    /// Which file.
    pub key: FileKey,
    /// Its extension.
    pub extension: Extension,
}

impl BlobPath {
    /// The address of the same blob in another area.
    #[must_use]
    pub fn in_area(&self, area: Area) -> Self {
        Self { area, ..self.clone() }
    }
}

impl fmt::Display for BlobPath {
    /// `owner/key.extension`, without the shard directories that a volume puts between, behind the directory of the area.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(dir) = self.area.dir() {
            write!(f, "{dir}/")?;
        }
        write!(f, "{}/{}", self.owner, self.key)?;
        if self.extension.is_empty() { Ok(()) } else { write!(f, ".{}", self.extension) }
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("scan.pdf", "pdf")]
    #[case("Scan.JPEG", "jpeg")]
    #[case("x.tar.gz", "gz")]
    #[case("x.tar.gz:stream", "")]
    #[case("../x", "")]
    #[case("a/b.c/d", "")]
    #[case(".profile", "")]
    #[case("dir/.profile", "")]
    #[case("x.", "")]
    #[case("x.\u{202e}fdp", "")]
    #[case("x.p\0f", "")]
    #[case("x.abcdefghijklmnopq", "")]
    #[case("CON", "")]
    fn b11_only_a_safe_extension_is_taken_from_a_name(#[case] name: &str, #[case] extension: &str) {
        assert_eq!(Extension::of(name).as_str(), extension);
    }

    #[test]
    fn a_storage_path_names_its_tenant_in_every_incarnation() {
        let acme = TenantId::parse("acme").unwrap();
        for text in ["acme", "acme+0123abcd"] {
            assert_eq!(StoragePath::parse(text).unwrap().tenant(), Some(acme.clone()));
        }
        for number in [0, 0x0123_abcd, u32::MAX] {
            let path = StoragePath::incarnation(&acme, number);
            assert_eq!(StoragePath::parse(path.as_str()).unwrap(), path);
            assert_eq!(path.tenant(), Some(acme.clone()));
        }
    }

    #[rstest]
    #[case("acme", true)]
    #[case("acme+0123abcd", true)]
    #[case("acme+0123ABCD", false)]
    #[case("acme+", false)]
    #[case("../x", false)]
    #[case("a/b", false)]
    fn a_storage_path_is_one_safe_component(#[case] text: &str, #[case] good: bool) {
        assert_eq!(StoragePath::parse(text).is_ok(), good);
    }
}
