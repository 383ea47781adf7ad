//! What a `.meta.json` says.
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::borrow::Cow;

use data_encoding::{BASE64, BASE64_NOPAD, BASE64URL, BASE64URL_NOPAD};
use locus_core::Timestamp;
use serde_json::{Map, Value};

use crate::cipher::NONCE_BYTES;
use crate::{cipher::TAG_BYTES, error::VaultError, id::EntityId};

/// The longest one that is read, in bytes.
pub(crate) const META_BYTES_MAX: u64 = 64 << 10;

/// What it says, in the words of this crate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct OlderMeta {
    pub(crate) id: EntityId,
    pub(crate) nonce: [u8; NONCE_BYTES],
    /// `None` when it stands behind the sealed content.
    pub(crate) tag: Option<[u8; TAG_BYTES]>,
    pub(crate) schema: Option<String>,
    /// Whatever was counted there; 0 when it does not say.
    pub(crate) version: u64,
    pub(crate) writer: Option<String>,
    pub(crate) written_at: Option<Timestamp>,
}

/// Why it is refused.
pub(crate) type Refused = Cow<'static, str>;

impl OlderMeta {
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, Refused> {
        let Ok(Value::Object(object)) = serde_json::from_slice(bytes) else {
            return Err("its metadata are no JSON object".into());
        };
        let fields = Fields::of(object)?;
        if let Some(algorithm) = fields.text("algorithm", &["algorithm", "alg"])? {
            let plain: String = algorithm.chars().filter(char::is_ascii_alphanumeric).collect();
            if !plain.eq_ignore_ascii_case("aes256gcm") {
                return Err("it was sealed by another algorithm than AES-256-GCM".into());
            }
        }
        let nonce = fields.bytes("iv", &["iv", "nonce"])?.ok_or("its metadata have no iv")?;
        let nonce = nonce.try_into().map_err(|_| "its iv is not 12 bytes long")?;
        let tag = match fields.bytes("tag", &["tag", "authtag"])? {
            None => None,
            Some(tag) if tag.is_empty() => None,
            Some(tag) => Some(tag.try_into().map_err(|_| "its tag is not 16 bytes long")?),
        };
        let database =
            fields.text("database", &["database", "db"])?.ok_or("its metadata name no database")?;
        let key =
            fields.text("entity key", &["entitykey", "key"])?.ok_or("its metadata name no entity key")?;
        let id = EntityId::new(&database, &key).map_err(|error| match error {
            VaultError::InvalidId { why, .. } => format!("its name {why}").into(),
            other => Refused::from(other.to_string()),
        })?;
        Ok(Self {
            id,
            nonce,
            tag,
            schema: fields.text("schema id", &["schemaid", "schema"])?.filter(|schema| !schema.is_empty()),
            version: fields.version()?,
            writer: fields.text("writer id", &["writerid", "writer"])?,
            written_at: fields.time()?,
        })
    }
}

/// The fields by their names in small letters and digits alone: `keyId`, `key_id` and `KeyID` are one.
struct Fields(Map<String, Value>);

impl Fields {
    fn of(object: Map<String, Value>) -> Result<Self, Refused> {
        let mut fields = Map::new();
        for (name, value) in object {
            let name: String = name.chars().filter(char::is_ascii_alphanumeric).collect();
            // What `null` says is nothing.
            if !value.is_null() && fields.insert(name.to_ascii_lowercase(), value).is_some() {
                return Err("its metadata say something twice".into());
            }
        }
        Ok(Self(fields))
    }

    fn get(&self, what: &str, names: &[&str]) -> Result<Option<&Value>, Refused> {
        let mut found = names.iter().filter_map(|name| self.0.get(*name));
        match (found.next(), found.next()) {
            (_, Some(_)) => Err(format!("its metadata say the {what} twice").into()),
            (found, None) => Ok(found),
        }
    }

    fn text(&self, what: &str, names: &[&str]) -> Result<Option<String>, Refused> {
        match self.get(what, names)? {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.clone())),
            Some(_) => Err(format!("its {what} is no text").into()),
        }
    }

    fn bytes(&self, what: &str, names: &[&str]) -> Result<Option<Vec<u8>>, Refused> {
        let Some(text) = self.text(what, names)? else { return Ok(None) };
        let decoded = [BASE64, BASE64_NOPAD, BASE64URL, BASE64URL_NOPAD]
            .into_iter()
            .find_map(|base64| base64.decode(text.as_bytes()).ok());
        decoded.map(Some).ok_or_else(|| format!("its {what} is no base64").into())
    }

    fn version(&self) -> Result<u64, Refused> {
        let number = match self.get("version", &["version"])? {
            None => return Ok(0),
            Some(Value::String(text)) => text.parse().ok(),
            Some(value) => value.as_u64(),
        };
        // A larger one was never counted, and would leave none to go on with.
        let number = number.filter(|number| *number <= 1 << 53);
        number.ok_or_else(|| "its version is no whole number from 0 to 2^53".into())
    }

    fn time(&self) -> Result<Option<Timestamp>, Refused> {
        let at = match self.get("timestamp", &["timestamp", "writtenat", "updatedat"])? {
            None => return Ok(None),
            Some(Value::String(text)) => text.parse::<jiff::Timestamp>().ok(),
            Some(value) => value.as_i64().and_then(of_number),
        };
        let at = at.ok_or("its timestamp is neither RFC 3339 nor a time since 1970")?;
        Ok(Some(Timestamp::from_micros(at.as_microsecond())))
    }
}

/// Seconds, milliseconds, microseconds or nanoseconds since 1970: which, its size tells, from 1973 to the year 5138.
fn of_number(number: i64) -> Option<jiff::Timestamp> {
    match number.unsigned_abs() {
        0..100_000_000_000 => jiff::Timestamp::from_second(number).ok(),
        100_000_000_000..100_000_000_000_000 => jiff::Timestamp::from_millisecond(number).ok(),
        100_000_000_000_000..100_000_000_000_000_000 => jiff::Timestamp::from_microsecond(number).ok(),
        _ => jiff::Timestamp::from_nanosecond(number.into()).ok(),
    }
}

#[cfg(test)]
#[expect(clippy::indexing_slicing, reason = "tests change what they wrote")]
mod tests {
    use rstest::rstest;
    use serde_json::json;

    use super::*;

    fn good() -> Value {
        json!({
            "keyId": "key-1", "algorithm": "AES-256-GCM", "iv": BASE64.encode(&[1; 12]),
            "tag": BASE64.encode(&[2; 16]), "schemaId": "person", "version": 7, "writerId": "worker-1",
            "timestamp": "2025-11-03T10:15:30.25Z", "database": "accounts", "entityKey": "mail/ada",
        })
    }

    fn parse(value: &Value) -> Result<OlderMeta, Refused> {
        OlderMeta::parse(value.to_string().as_bytes())
    }

    fn with(name: &str, value: Value) -> Value {
        let mut meta = good();
        meta[name] = value;
        meta
    }

    #[test]
    fn metadata_are_read_in_every_common_spelling() {
        let expected = OlderMeta {
            id: "accounts/mail/ada".parse().unwrap(),
            nonce: [1; 12],
            tag: Some([2; 16]),
            schema: Some("person".into()),
            version: 7,
            writer: Some("worker-1".into()),
            written_at: Some(Timestamp::from_micros(1_762_164_930_250_000)),
        };
        assert_eq!(parse(&good()), Ok(expected.clone()));
        let snake = json!({
            "key_id": "key-1", "alg": "aes_256_gcm", "nonce": BASE64_NOPAD.encode(&[1; 12]),
            "auth_tag": BASE64URL.encode(&[2; 16]), "schema_id": "person", "version": "7",
            "writer_id": "worker-1", "written_at": 1_762_164_930_250_u64, "db": "accounts",
            "entity_key": "mail/ada",
        });
        assert_eq!(parse(&snake), Ok(expected.clone()));
        let pascal = json!({
            "KeyID": "key-1", "Algorithm": "AES256GCM", "IV": BASE64.encode(&[1; 12]),
            "Tag": BASE64.encode(&[2; 16]), "SchemaID": "person", "Version": 7, "WriterID": "worker-1",
            "Timestamp": 1_762_164_930_250_000_u64, "Database": "accounts", "Key": "mail/ada",
        });
        assert_eq!(parse(&pascal), Ok(expected));
    }

    #[test]
    fn what_is_not_said_is_not_invented() {
        let least =
            json!({"iv": BASE64.encode(&[1; 12]), "database": "d", "key": "k", "tag": "", "schema": null});
        let meta = parse(&least).unwrap();
        assert_eq!((meta.tag, meta.schema, meta.version), (None, None, 0));
        assert_eq!((meta.writer, meta.written_at), (None, None));
    }

    #[rstest]
    #[case::seconds(1_762_164_930)]
    #[case::millis(1_762_164_930_000)]
    #[case::micros(1_762_164_930_000_000)]
    #[case::nanos(1_762_164_930_000_000_000)]
    fn a_timestamp_may_be_a_number_of_any_unit(#[case] number: i64) {
        let at = parse(&with("timestamp", number.into())).unwrap().written_at;
        assert_eq!(at, Some(Timestamp::from_micros(1_762_164_930_000_000)));
    }

    #[rstest]
    #[case(json!([]), "no JSON object")]
    #[case(with("algorithm", json!("AES-128-CBC")), "another algorithm")]
    #[case(with("iv", json!("AA==")), "12 bytes")]
    #[case(with("iv", json!("no base64!")), "no base64")]
    #[case(with("iv", Value::Null), "no iv")]
    #[case(with("tag", json!("AAAA")), "16 bytes")]
    #[case(with("database", json!("a/b")), "database with a /")]
    #[case(with("database", json!("..\u{0}")), "control character")]
    #[case(with("database", Value::Null), "no database")]
    #[case(with("entityKey", json!("")), "no key")]
    #[case(with("entityKey", json!(7)), "no text")]
    #[case(with("version", json!(-1)), "version")]
    #[case(with("version", json!("x")), "version")]
    #[case(with("version", json!(u64::MAX)), "version")]
    #[case(with("timestamp", json!("yesterday")), "timestamp")]
    #[case(with("entity_key", json!("other")), "twice")]
    #[case(with("nonce", json!("AAAAAAAAAAAAAAAA")), "iv twice")]
    fn metadata_that_do_not_say_what_they_must_are_refused(#[case] meta: Value, #[case] why: &str) {
        let refused = parse(&meta).unwrap_err();
        assert!(refused.contains(why), "{refused}");
    }
}
