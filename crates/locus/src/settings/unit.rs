//! Sizes in settings: `64 MiB`, `4 GB`, or a plain number of bytes.

use bytesize::ByteSize;
use serde::{Deserialize, Deserializer, Serializer};

const UNITS: [(&str, u64); 4] = [("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];

/// `bytes` in the largest unit that says it exactly.
pub(crate) fn size_text(bytes: u64) -> String {
    UNITS
        .iter()
        .find(|(_, unit)| bytes >= *unit && bytes.is_multiple_of(*unit))
        .map_or_else(|| format!("{bytes} B"), |(name, unit)| format!("{} {name}", bytes / unit))
}

pub(crate) fn serialize<S: Serializer>(bytes: &u64, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(&size_text(*bytes))
}

pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<u64, D::Error> {
    // A number and a text alike: the environment knows only texts.
    parse(&String::deserialize(from)?)
}

fn parse<E: serde::de::Error>(text: &str) -> Result<u64, E> {
    match text.trim().parse::<ByteSize>() {
        Ok(size) => Ok(size.as_u64()),
        Err(why) => Err(E::custom(format!("{text:?} is no size such as \"64 MiB\": {why}"))),
    }
}

/// A size that may be unset.
pub(crate) mod option {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(crate) fn serialize<S: Serializer>(bytes: &Option<u64>, to: S) -> Result<S::Ok, S::Error> {
        bytes.map(super::size_text).serialize(to)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<u64>, D::Error> {
        Option::<String>::deserialize(from)?.map(|text| super::parse(&text)).transpose()
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case(64 << 20, "64 MiB")]
    #[case(1 << 40, "1 TiB")]
    #[case(1536, "1536 B")]
    #[case(0, "0 B")]
    fn a_size_is_written_exactly_and_read_back(#[case] bytes: u64, #[case] text: &str) {
        assert_eq!(size_text(bytes), text);
        assert_eq!(text.parse::<ByteSize>().unwrap().as_u64(), bytes);
    }
}
