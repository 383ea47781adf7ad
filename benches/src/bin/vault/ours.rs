//! The vault's calls.

use std::{path::Path, sync::Arc};

use bytes::Bytes;
use locus_benches::{
    BoxError,
    cycles::{AsTask, Contender, Kind, Label, Load, Promise, Rests, Round},
};
use locus_vault::{
    Caching, EntityId, Expect, Keyring, PutOptions, SchemaMode, SchemaModes, Vault, VaultOptions,
};
use serde_json::Value;
use tokio::runtime::Runtime;

use crate::{
    entrants::Call,
    json,
    slots::{ENTITIES, Slots},
};

const DATABASE: &str = "bench";
const SCHEMA: &str = "accounts";

/// What is put and got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum What {
    /// Bytes; nothing is kept in memory.
    Bytes,
    /// Bytes; what was opened is kept, and believed after a look at the file.
    Cached,
    /// A JSON document of about as many bytes.
    Json,
    /// The same, which has to keep to a schema.
    JsonBySchema,
}

/// A vault that makes one kind of call.
#[derive(Debug)]
pub(crate) struct Ours {
    label: Label,
    shared: Arc<Shared>,
    runtime: tokio::runtime::Handle,
}

#[derive(Debug)]
struct Shared {
    call: Call,
    what: What,
    vault: Vault,
    ids: Vec<EntityId>,
    slots: Slots,
    document: Value,
}

impl Ours {
    /// Makes a vault in `dir`, and puts into each of its entities what is to be got from it.
    pub(crate) fn open(
        dir: &Path,
        call: Call,
        what: What,
        content: &[u8],
        ring: &Arc<Keyring>,
        runtime: &Runtime,
    ) -> Result<Self, BoxError> {
        let (name, kind) = match (call, what) {
            (_, What::Bytes) => ("vault", Kind::Locus(Rests::File)),
            (_, What::Cached) => ("vault, cached", Kind::LeanFloor),
            (Call::Put, What::Json) => ("vault, from JSON", Kind::LeanFloor),
            (Call::Get, What::Json) => ("vault, to JSON", Kind::LeanFloor),
            (_, What::JsonBySchema) => ("vault, from JSON, by a schema", Kind::LeanFloor),
        };
        let label = Label::new(name, kind, Promise::Durable);
        let shared = runtime.block_on(Shared::open(dir, call, what, content, ring))?;
        Ok(Self { label, shared: Arc::new(shared), runtime: runtime.handle().clone() })
    }
}

impl Contender for Ours {
    fn label(&self) -> &Label {
        &self.label
    }

    fn settings(&self) -> String {
        match self.shared.what {
            What::Bytes => "bytes; nothing is kept in memory".into(),
            What::Cached => "bytes; kept in memory, the file is looked at (the default)".into(),
            What::Json => "a document of about as many bytes, serialised and parsed by serde_json".into(),
            What::JsonBySchema => "the same, checked against a schema, which its database requires".into(),
        }
    }

    fn round(&self, load: Load, content: &Bytes) -> Result<Round, BoxError> {
        Round::of_tasks(&self.runtime, &self.shared, load, content)
    }
}

impl Shared {
    async fn open(
        dir: &Path,
        call: Call,
        what: What,
        content: &[u8],
        ring: &Arc<Keyring>,
    ) -> Result<Self, BoxError> {
        let mode = if what == What::JsonBySchema { SchemaMode::Required } else { SchemaMode::Off };
        let schemas = SchemaModes { default: mode, ..SchemaModes::default() };
        let caching = if what == What::Cached { Caching::Strict } else { Caching::Off };
        let kept_max = 4 * (ENTITIES * (content.len() + 1_024)) as u64; // one half of it may be of what is old
        let options = VaultOptions::new(Arc::clone(ring)).schemas(schemas).caching(caching);
        let vault = Vault::open(dir, options.cache_bytes_max(kept_max)).await?;
        vault.schemas().put(SCHEMA, json::schema()).await?;
        let ids = (0..ENTITIES).map(|number| EntityId::new(DATABASE, &format!("entity-{number:03}")));
        let (ids, document) = (ids.collect::<Result<Vec<_>, _>>()?, json::document(content.len()));
        let shared = Self { call, what, vault, ids, slots: Slots::new(), document };
        for id in &shared.ids {
            shared.put(id, content).await?;
        }
        Ok(shared)
    }

    async fn put(&self, id: &EntityId, content: &[u8]) -> Result<(), BoxError> {
        match self.what {
            What::Bytes | What::Cached => {
                self.vault.put_bytes(id, content.to_vec(), Expect::Any).await?;
            }
            What::Json => {
                self.vault.put(id, &self.document, Expect::Any).await?;
            }
            What::JsonBySchema => {
                self.vault.put(id, &self.document, PutOptions::default().schema(SCHEMA)).await?;
            }
        }
        Ok(())
    }

    async fn get(&self, id: &EntityId, content: &[u8]) -> Result<(), BoxError> {
        let entity = self.vault.get(id).await?;
        let is_it = match self.what {
            What::Bytes | What::Cached => entity.bytes() == content,
            What::Json | What::JsonBySchema => entity.json::<Value>()? == self.document,
        };
        if is_it { Ok(()) } else { Err("another content came back".into()) }
    }
}

impl AsTask for Shared {
    async fn cycle(&self, content: &Bytes, _alone: bool) -> Result<(), BoxError> {
        let slot = self.slots.take().ok_or("all entities are in use")?;
        let id = &self.ids[slot.number];
        match self.call {
            Call::Put => self.put(id, content).await,
            Call::Get => self.get(id, content).await,
        }
    }
}
