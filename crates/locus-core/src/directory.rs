//! Logical directories: the caller's own grouping of files, never a physical path.

use std::{
    borrow::Cow,
    fmt,
    str::FromStr,
    sync::{Arc, LazyLock},
};

use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{self, Visitor},
};

use crate::Error;

/// A normalised logical directory such as `/invoices/2026`. Used for quotas and queries; it never reaches a disk.
///
/// `a`, `/a/`, `//a`, `./a`, `/x/../a`, `/../a` and `/a /` are all `/a`; blank is `/`; a backslash is an ordinary
/// character.
/// At most 1,024 bytes and 32 levels. Cheap to clone.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LogicalDir(Arc<str>);

impl LogicalDir {
    /// Longest directory, in bytes, after it was normalised.
    pub const BYTES_MAX: usize = 1_024;
    /// Deepest directory, in levels, after it was normalised.
    pub const DEPTH_MAX: usize = 32;

    /// The root, `/`.
    #[must_use]
    pub fn root() -> Self {
        static ROOT: LazyLock<LogicalDir> = LazyLock::new(|| LogicalDir("/".into()));
        ROOT.clone()
    }

    /// Normalises `text`.
    ///
    /// # Errors
    /// [`Error::TooLarge`] beyond 1,024 bytes or 32 levels.
    pub fn parse(text: &str) -> Result<Self, Error> {
        if matches!(text, "" | "/") {
            return Ok(Self::root()); // of most files
        }
        let (mut path, mut depth) = match depth_of_normal(text) {
            Some(depth) => (Cow::Borrowed(text), depth),
            None => normalised(text),
        };
        // What stood before a last slash may end with a blank: read back, it must be the directory that it was.
        while path.ends_with(char::is_whitespace) {
            (path, depth) = normalised(&path);
        }
        if depth > Self::DEPTH_MAX {
            return Err(Error::TooLarge {
                what: "directory depth",
                size: depth as u64,
                limit: Self::DEPTH_MAX as u64,
            });
        }
        if path.len() > Self::BYTES_MAX {
            return Err(Error::TooLarge {
                what: "directory",
                size: path.len() as u64,
                limit: Self::BYTES_MAX as u64,
            });
        }
        Ok(Self(path.into()))
    }

    /// The normalised text; begins with `/`.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The directory above; `None` for the root.
    #[must_use]
    pub fn parent(&self) -> Option<Self> {
        let (above, _) = self.0.rsplit_once('/').filter(|_| !self.is_root())?;
        Some(if above.is_empty() { Self::root() } else { Self(above.into()) })
    }

    /// Whether this is `/`.
    #[must_use]
    pub fn is_root(&self) -> bool {
        &*self.0 == "/"
    }
}

/// The depth of a path that is spelled as it is kept.
fn depth_of_normal(text: &str) -> Option<usize> {
    let levels = text.strip_prefix('/')?;
    let mut depth = 0;
    for level in levels.split('/') {
        if matches!(level, "" | "." | "..") {
            return None;
        }
        depth += 1;
    }
    (!levels.ends_with(char::is_whitespace)).then_some(depth)
}

/// The path and its depth.
fn normalised(text: &str) -> (Cow<'static, str>, usize) {
    let mut levels: Vec<&str> = Vec::new();
    for level in text.trim().split('/') {
        match level {
            "" | "." => {}
            ".." => {
                levels.pop();
            }
            name => levels.push(name),
        }
    }
    (format!("/{}", levels.join("/")).into(), levels.len())
}

impl Default for LogicalDir {
    fn default() -> Self {
        Self::root()
    }
}

impl fmt::Display for LogicalDir {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for LogicalDir {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LogicalDir({:?})", &*self.0)
    }
}

impl FromStr for LogicalDir {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self, Error> {
        Self::parse(text)
    }
}

impl TryFrom<String> for LogicalDir {
    type Error = Error;
    fn try_from(text: String) -> Result<Self, Error> {
        Self::parse(&text)
    }
}

impl Serialize for LogicalDir {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for LogicalDir {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        /// Takes the text where it lies.
        struct Text;

        impl Visitor<'_> for Text {
            type Value = LogicalDir;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a logical directory")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<LogicalDir, E> {
                LogicalDir::parse(text).map_err(E::custom)
            }
        }

        deserializer.deserialize_str(Text)
    }
}

impl From<LogicalDir> for String {
    fn from(dir: LogicalDir) -> String {
        String::from(&*dir.0)
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("a", "/a")]
    #[case("/a/", "/a")]
    #[case("//a", "/a")]
    #[case("./a", "/a")]
    #[case("/x/../a", "/a")]
    #[case("/../a", "/a")]
    #[case("", "/")]
    #[case("   ", "/")]
    #[case("/", "/")]
    #[case("a\\b", "/a\\b")]
    #[case("a /", "/a")]
    #[case("a/b/.. //", "/a")]
    #[case(" a / b ", "/a / b")]
    fn b53_spellings_of_one_directory_are_one(#[case] text: &str, #[case] normal: &str) {
        let dir = LogicalDir::parse(text).unwrap();
        assert_eq!(dir.as_str(), normal);
        assert_eq!(LogicalDir::parse(normal).unwrap(), dir, "it is the same when it is read back");
    }

    #[test]
    fn the_bounds_are_refused_by_name() {
        let deep = vec!["d"; 33].join("/");
        assert!(LogicalDir::parse(&deep).unwrap_err().to_string().contains("directory depth"));
        let long = "d".repeat(1_024);
        assert!(LogicalDir::parse(&long).unwrap_err().to_string().contains("directory"));
        assert!(LogicalDir::parse(&"d".repeat(1_023)).is_ok());
    }
}
