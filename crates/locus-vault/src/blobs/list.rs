//! What blobs there are.

use std::{io, path::PathBuf};

use locus_fs::EntryKind;

use super::shelf::{SUFFIX, Shelf, misplaced};
use crate::{error::VaultError, metadata::EntityMetadata};

/// A page ends with the directory in which it came to hold this many.
const PAGE_MIN: usize = 256;

/// Where a list goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ListCursor(u8);

impl ListCursor {
    /// How many of the 256 directories lie before it.
    pub(crate) fn directories(self) -> u16 {
        self.0.into()
    }
}

/// Some of the entities, in no order.
#[derive(Debug, Default)]
pub struct ListPage {
    /// What their files say. Nothing is proven of it.
    pub entries: Vec<EntityMetadata>,
    /// Files that cannot be read.
    pub unreadable: Vec<Unreadable>,
    /// Where it goes on; `None` at the end.
    pub next: Option<ListCursor>,
}

/// A file that cannot be read.
#[derive(Debug)]
pub struct Unreadable {
    /// Where it lies.
    pub path: PathBuf,
    /// Why not.
    pub why: VaultError,
}

/// What lies in one of the directories of entities.
#[derive(Debug, Default)]
pub(super) struct ShardNames {
    /// Files of entities.
    pub(super) entities: Vec<PathBuf>,
    /// What writes left that did not come to their end, or are not there yet.
    pub(super) drafts: Vec<PathBuf>,
}

impl Shelf {
    /// A page of the entities, deleted ones too when they are asked for.
    pub(crate) fn list(&self, after: Option<ListCursor>, deleted: bool) -> Result<ListPage, VaultError> {
        let mut page = ListPage::default();
        let mut shard = Some(after.map_or(0, |after| after.0));
        while let Some(at) = shard {
            shard = at.checked_add(1);
            for path in self.names(at)?.entities {
                match self.entry(&path) {
                    Ok(Some(metadata)) if deleted || !metadata.is_deleted => page.entries.push(metadata),
                    Ok(_) => {}
                    Err(why) => page.unreadable.push(Unreadable { path, why }),
                }
            }
            if page.entries.len() >= PAGE_MIN {
                break;
            }
        }
        page.next = shard.map(ListCursor);
        Ok(page)
    }

    /// What the file at `path` says; `None` when it has gone.
    pub(super) fn entry(&self, path: &std::path::Path) -> Result<Option<EntityMetadata>, VaultError> {
        let Some(found) = self.look(path, |_| 0)? else { return Ok(None) };
        if self.path(&found.metadata.id) != path {
            return Err(misplaced(path, &found.metadata));
        }
        Ok(Some(found.metadata))
    }

    /// What lies in directory `shard`.
    pub(super) fn names(&self, shard: u8) -> Result<ShardNames, VaultError> {
        let dir = self.shard(shard);
        let mut names = ShardNames::default();
        let entries = match self.disk.read_dir(dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(names),
            other => other.map_err(VaultError::read("list", dir))?,
        };
        for entry in entries {
            let entry = entry.map_err(VaultError::read("list", dir))?;
            let Some(name) = entry.name.to_str().filter(|_| entry.kind == EntryKind::File) else { continue };
            if name.starts_with('.') {
                names.drafts.push(dir.join(name));
            } else if name.ends_with(SUFFIX) {
                names.entities.push(dir.join(name));
            }
        }
        Ok(names)
    }
}
