//! Names for sources whose name is taken where they are moved to.

use std::{
    ffi::{OsStr, OsString},
    path::Path,
};

/// Longest name that every file system takes, in bytes.
const NAME_BYTES_MAX: usize = 255;

/// `name` with a number before its extension: `report.pdf`, 2 gives `report-2.pdf`. A name without a stem (`.hidden`) has no
/// extension. What is too long with the number loses its extension, or the end of its stem.
pub(crate) fn numbered(name: &OsStr, number: u32) -> OsString {
    let path = Path::new(name);
    let stem = path.file_stem().unwrap_or(name);
    let mut tail = OsString::from(format!("-{number}"));
    if let Some(extension) = path.extension() {
        tail.push(".");
        tail.push(extension);
    }
    let mut numbered = stem.to_owned();
    if stem.len() + tail.len() > NAME_BYTES_MAX {
        tail = format!("-{number}").into();
        numbered =
            stem.to_string_lossy().chars().take((NAME_BYTES_MAX - tail.len()) / 4).collect::<String>().into();
    }
    numbered.push(tail);
    numbered
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("report.pdf", "report-2.pdf")]
    #[case("report", "report-2")]
    #[case("a.tar.gz", "a.tar-2.gz")]
    #[case(".hidden", ".hidden-2")]
    #[case("trailing.", "trailing-2.")]
    fn a_number_stands_before_the_extension(#[case] name: &str, #[case] with_two: &str) {
        assert_eq!(numbered(OsStr::new(name), 2), with_two);
    }

    #[test]
    fn a_long_name_stays_a_name() {
        for name in ["x".repeat(255), format!("{}.{}", "ä".repeat(100), "b".repeat(54))] {
            let numbered = numbered(OsStr::new(&name), u32::MAX);
            assert!(numbered.len() <= NAME_BYTES_MAX, "{numbered:?}");
            assert!(numbered.to_str().unwrap().contains("-4294967295"));
        }
    }
}
