//! A tenant on the disk.
//!
//! | bytes | what |
//! |---|---|
//! | 7 | `LTENANT` |
//! | 1 | format, 1 |
//! | 8 | the first 8 bytes of BLAKE3 over the format and the body |
//! | rest | the body in postcard: id, status (1, 2 or 3), created and updated (microseconds since the Unix epoch), weight, storage path, properties |

#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::path::Path;

use locus_core::{
    Error, FileFrame, Properties, Result, StoragePath, Tenant, TenantId, TenantStatus, Timestamp,
};
use serde::{Deserialize, Serialize};

/// No tenant file is longer, in bytes. Properties take at most 1,024 and their lengths about as much.
pub(crate) const FILE_BYTES_MAX: u64 = 16 * 1024;

/// Of the files of tenants.
pub(crate) const FRAME: FileFrame = FileFrame::new(b"LTENANT", 1);

#[derive(Serialize, Deserialize)]
struct Body {
    id: TenantId,
    status: u8,
    created_at: Timestamp,
    updated_at: Timestamp,
    weight: u32,
    storage_path: StoragePath,
    properties: Properties,
}

pub(crate) fn encode(tenant: &Tenant) -> Vec<u8> {
    let body = Body {
        id: tenant.id.clone(),
        status: tenant.status as u8,
        created_at: tenant.created_at,
        updated_at: tenant.updated_at,
        weight: tenant.weight,
        storage_path: tenant.storage_path.clone(),
        properties: tenant.properties.clone(),
    };
    FRAME.seal(&postcard::to_stdvec(&body).expect("because every field can be written to memory"))
}

/// The tenant in `bytes`, which were read from `path`.
pub(crate) fn decode(path: &Path, bytes: &[u8]) -> Result<Tenant> {
    let corrupt = |why: &'static str| Error::Corrupt { place: path.display().to_string(), why: why.into() };
    let body = FRAME.open(path, bytes)?;
    let body: Body = postcard::from_bytes(body).map_err(|_| corrupt("its content is no tenant"))?;
    let status = match body.status {
        1 => TenantStatus::Enabled,
        2 => TenantStatus::Disabled,
        3 => TenantStatus::Suspended,
        _ => return Err(corrupt("its status is unknown")),
    };
    Ok(Tenant {
        id: body.id,
        status,
        created_at: body.created_at,
        updated_at: body.updated_at,
        properties: body.properties,
        weight: body.weight,
        storage_path: body.storage_path,
    })
}

#[cfg(test)]
#[expect(clippy::indexing_slicing, reason = "tests damage what they wrote")]
mod tests {
    use super::*;

    fn tenant() -> Tenant {
        let id = TenantId::parse("acme").unwrap();
        Tenant {
            storage_path: StoragePath::from(&id),
            id,
            status: TenantStatus::Suspended,
            created_at: Timestamp::from_micros(-5),
            updated_at: Timestamp::from_micros(7),
            properties: Properties::from([("city".into(), "Graz".into())]),
            weight: 3,
        }
    }

    #[test]
    fn a_tenant_survives_the_disk() {
        assert_eq!(decode(Path::new("x"), &encode(&tenant())).unwrap(), tenant());
    }

    #[test]
    fn any_damaged_byte_and_any_missing_end_is_named() {
        let good = encode(&tenant());
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 0x10;
            let error = decode(Path::new("tenants/acme"), &bad).unwrap_err();
            assert!(error.to_string().starts_with("tenants/acme"), "byte {at}: {error}");
            assert!(decode(Path::new("x"), &good[..at]).is_err(), "cut at {at}");
        }
    }

    #[test]
    fn b68_a_newer_format_is_refused_by_name() {
        let mut newer = encode(&tenant());
        newer[7] = 2;
        let error = decode(Path::new("x"), &newer).unwrap_err();
        assert!(matches!(error, Error::NewerFormat { found: 2, supported: 1, .. }), "{error}");
    }

    #[test]
    fn the_largest_tenant_fits_its_bound() {
        let mut largest = tenant();
        largest.properties = (0..512_u16).map(|n| (format!("{n:02x}"), String::new())).collect();
        assert!((encode(&largest).len() as u64) < FILE_BYTES_MAX / 2);
    }
}
