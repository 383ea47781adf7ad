//! A door for fuzzers to what this crate reads from a disk. Nothing may panic, and what was read and is written again reads
//! the same. Not part of the API.

use std::path::Path;

use crate::{record, removed};

/// The file that says how many tenants were removed: as it is, and as the body of one whose checksum is right.
pub fn removed(bytes: &[u8]) {
    for bytes in [bytes, &removed::FRAME.seal(bytes)] {
        if let Ok(count) = removed::decode(Path::new("x"), bytes) {
            assert_eq!(removed::encode(count), bytes);
        }
    }
}

/// A tenant's file: as it is, and as the body of one whose checksum is right.
pub fn tenant(bytes: &[u8]) {
    for bytes in [bytes, &record::FRAME.seal(bytes)] {
        if let Ok(tenant) = record::decode(Path::new("x"), bytes) {
            let again = record::decode(Path::new("x"), &record::encode(&tenant));
            assert_eq!(again.expect("because it was written just now"), tenant);
        }
    }
}

#[cfg(test)]
mod tests {
    use locus_core::{Properties, StoragePath, Tenant, TenantId, TenantStatus, Timestamp};
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..700)) {
            tenant(&bytes);
        }

        #[test]
        fn a_tenant_survives_its_encoding_and_harm_does_no_harm(
            times: [i64; 2], weight: u32, properties in prop::collection::btree_map("[a-z]{0,9}", ".{0,30}", 0..9),
            at in prop::collection::vec(any::<(usize, u8)>(), 0..6), cut: usize,
        ) {
            let id = TenantId::parse("acme").unwrap();
            let written = Tenant {
                storage_path: StoragePath::from(&id),
                id,
                status: TenantStatus::Disabled,
                created_at: Timestamp::from_micros(times[0]),
                updated_at: Timestamp::from_micros(times[1]),
                properties: properties.into_iter().collect::<Properties>(),
                weight,
            };
            let mut bytes = record::encode(&written);
            prop_assert_eq!(record::decode(Path::new("x"), &bytes).unwrap(), written);
            let length = bytes.len();
            at.iter().for_each(|(place, byte)| bytes[place % length] ^= byte);
            bytes.truncate(cut % (length + 1));
            tenant(&bytes);
            tenant(bytes.get(16..).unwrap_or_default());
        }
    }
}
