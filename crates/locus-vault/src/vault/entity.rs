//! An entity that was opened.

use std::{fmt, sync::Arc};

use serde::de::DeserializeOwned;

use crate::{
    cipher::Wiped,
    error::{Result, VaultError},
    id::EntityId,
    metadata::{EntityMetadata, Version},
};

/// One version of an entity, as it was written, proven by its seal. Cheap to clone. The content is overwritten when the
/// last clone is dropped, and shown by nothing; what is made of it ([`json`](Self::json)) is the caller's.
#[derive(Clone)]
pub struct Entity {
    pub(super) metadata: Arc<EntityMetadata>,
    pub(super) content: Arc<Wiped>,
}

impl Entity {
    /// What is known about it.
    #[must_use]
    pub fn metadata(&self) -> &EntityMetadata {
        &self.metadata
    }

    /// Which version it is: what a change of it expects.
    #[must_use]
    pub fn version(&self) -> Version {
        self.metadata.version
    }

    /// The content.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.content
    }

    /// The content as JSON.
    ///
    /// # Errors
    /// [`VaultError::NotJson`] says where it is none of this type.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T> {
        parse(&self.metadata.id, &self.content)
    }
}

/// The error tells the place alone: what stands there may be secret.
pub(super) fn parse<T: DeserializeOwned>(id: &EntityId, content: &[u8]) -> Result<T> {
    serde_json::from_slice(content).map_err(|error| not_json(id, &error))
}

pub(super) fn not_json(id: &EntityId, error: &serde_json::Error) -> VaultError {
    VaultError::NotJson { id: id.clone(), line: error.line(), column: error.column() }
}

impl fmt::Debug for Entity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Entity").field("metadata", &self.metadata).finish_non_exhaustive()
    }
}
