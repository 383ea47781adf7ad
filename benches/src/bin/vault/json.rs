//! A document, and the schema that it keeps to.

use serde_json::{Value, json};

/// One of about so many bytes: accounts of about 100 bytes each.
pub(crate) fn document(bytes: usize) -> Value {
    let account = |number: usize| {
        json!({
            "user": format!("user-{number:06}"),
            "note": format!("{:016x}", (number as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15)),
            "logins": number,
            "active": number.is_multiple_of(3),
        })
    };
    let each = account(0).to_string().len();
    json!({ "accounts": (0..(bytes / each).max(1)).map(account).collect::<Vec<_>>() })
}

/// Says of every field what it is.
pub(crate) fn schema() -> Value {
    json!({
        "type": "object",
        "required": ["accounts"],
        "additionalProperties": false,
        "properties": {
            "accounts": {
                "type": "array",
                "items": {
                    "type": "object",
                    "required": ["user", "note", "logins", "active"],
                    "additionalProperties": false,
                    "properties": {
                        "user": { "type": "string", "minLength": 1 },
                        "note": { "type": "string", "maxLength": 64 },
                        "logins": { "type": "integer", "minimum": 0 },
                        "active": { "type": "boolean" },
                    },
                },
            },
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_is_about_as_long_as_was_asked_for() {
        for bytes in [4 << 10, 64 << 10, 1 << 20] {
            let len = document(bytes).to_string().len();
            assert!(len.abs_diff(bytes) < bytes / 10, "{len} for {bytes}");
        }
    }
}
