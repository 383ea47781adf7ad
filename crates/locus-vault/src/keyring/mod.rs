//! Keys: their ids, what they may be used for, and who may have them.

mod key_id;

pub use key_id::KeyId;
