//! The names of keys and recipients.

/// A text is no id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an id is a UUID, as it is printed")]
pub struct InvalidUuid;

/// A name that is drawn, and not chosen.
macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        ///
        /// UUID v7: not secret, never used twice, sorted by when it was drawn to the millisecond.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
        #[serde(transparent)]
        pub struct $name(uuid::Uuid);

        impl $name {
            /// A new one.
            #[must_use]
            pub fn draw(wall: locus_core::Timestamp, entropy: &dyn locus_core::Entropy) -> Self {
                let mut random = [0; 10];
                entropy.fill(&mut random);
                let millis = u64::try_from(wall.as_micros() / 1_000).unwrap_or(0);
                Self(uuid::Builder::from_unix_timestamp_millis(millis, &random).into_uuid())
            }

            /// The id with these 16 bytes, as [`as_bytes`](Self::as_bytes) gave them.
            #[must_use]
            pub const fn from_bytes(bytes: [u8; 16]) -> Self {
                Self(uuid::Uuid::from_bytes(bytes))
            }

            /// Its 16 bytes.
            #[must_use]
            pub const fn as_bytes(&self) -> &[u8; 16] {
                self.0.as_bytes()
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                std::fmt::Display::fmt(self.0.as_hyphenated(), f)
            }
        }

        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self)
            }
        }

        impl std::str::FromStr for $name {
            type Err = crate::InvalidUuid;

            fn from_str(text: &str) -> Result<Self, crate::InvalidUuid> {
                uuid::Uuid::try_parse(text).map(Self).map_err(|_| crate::InvalidUuid)
            }
        }
    };
}
pub(crate) use id;

id!(
    /// The name of a data key.
    KeyId
);
id!(
    /// The name of one who can open a keyring.
    RecipientId
);

#[cfg(test)]
mod tests {
    use locus_core::Timestamp;
    use locus_testkit::SeededEntropy;

    use super::*;

    #[test]
    fn ids_survive_text_and_bytes_and_sort_by_time() {
        let random = SeededEntropy::new(1);
        let [early, late] = [1_700_000_000_000_000, 1_700_000_000_001_000]
            .map(|at| KeyId::draw(Timestamp::from_micros(at), &random));
        assert!(early < late);
        assert_eq!(early.to_string().parse(), Ok(early));
        assert_eq!(KeyId::from_bytes(*early.as_bytes()), early);
        assert_eq!("a key".parse::<KeyId>(), Err(InvalidUuid));
    }
}
