//! Tenants that sources of a watcher belonged to before it was given another: what was brought in for them is known.

use std::{collections::BTreeSet, path::Path};

use locus_core::{Intake, Result, TenantId, WatcherId};

use crate::{folder::path_of, source::Noted};

/// Those of which the ledger names sources that would be another tenant's now.
#[derive(Debug, Default)]
pub(crate) struct Former {
    /// Of all that lay in the watched folder.
    of_all: BTreeSet<TenantId>,
    /// Whose a source was, its first folder said.
    of_folders: bool,
}

impl Former {
    /// The store knows this source. `present` is the one tenant that all belongs to now, if there is one.
    pub(crate) fn note(&mut self, noted: &Noted, present: Option<&TenantId>) {
        let of_folder = of_folder(noted);
        if present.or(of_folder.as_ref()) == Some(&noted.tenant) {
            return;
        }
        if of_folder.as_ref() == Some(&noted.tenant) {
            self.of_folders = true;
        } else {
            self.of_all.insert(noted.tenant.clone());
        }
    }

    /// The tenant for which the store knows a source: its present one, or one that it had.
    ///
    /// # Errors
    /// What the store says.
    pub(crate) async fn owner(
        &self,
        intake: &dyn Intake,
        watcher: &WatcherId,
        noted: &Noted,
    ) -> Result<Option<TenantId>> {
        let identity = noted.identity(watcher);
        if intake.is_known(&noted.tenant, &identity).await? {
            return Ok(Some(noted.tenant.clone()));
        }
        let of_folder = if self.of_folders { of_folder(noted) } else { None };
        for tenant in self.of_all.iter().chain(&of_folder) {
            if intake.is_known(tenant, &identity).await? {
                return Ok(Some(tenant.clone()));
            }
        }
        Ok(None)
    }
}

/// The tenant that the first folder of a source names.
fn of_folder(noted: &Noted) -> Option<TenantId> {
    let path = path_of(noted.path.clone());
    let mut folders = path.parent().unwrap_or(Path::new("")).iter();
    TenantId::parse(folders.next()?.to_str()?).ok()
}
