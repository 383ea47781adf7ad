//! The way of watchers into the pool.

use std::{collections::BTreeSet, path::PathBuf, sync::Arc};

use async_trait::async_trait;
use locus_core::{
    Durability, FileKey, IdempotencyKey, Incoming, Intake, MetadataStore, Result, TenantAccess,
    TenantContext, TenantId, TenantManager, TenantStatus,
};
use locus_storage::{StoragePool, VolumeRegistry, WriteOptions};

use crate::gate::Gate;

/// Brings files in as any caller of the pool does, under names that are remembered until they are forgotten.
#[derive(Debug)]
pub(crate) struct PoolIntake {
    pub(crate) pool: StoragePool,
    pub(crate) gate: Arc<Gate>,
    pub(crate) store: Arc<dyn MetadataStore>,
    pub(crate) durability: Durability,
    /// What is mounted, and was since the start.
    pub(crate) volumes: Arc<VolumeRegistry>,
    /// The data directory, volumes that the settings name, those to spare among them, and those that were noted as mounted by
    /// an earlier run.
    pub(crate) places: Vec<PathBuf>,
}

#[async_trait]
impl Intake for PoolIntake {
    async fn is_known(&self, tenant: &TenantId, identity: &str) -> Result<bool> {
        Ok(self.store.remembered(tenant, identity).await?.is_some())
    }

    async fn bring_in(&self, file: Incoming) -> Result<FileKey> {
        let tenant = TenantContext::from(&*self.gate.check(&file.tenant, TenantAccess::Work)?);
        let options = WriteOptions::new()
            .original_name(file.original_name)
            .directory(file.directory.as_str())
            .idempotency_key(IdempotencyKey::until_forgotten(file.identity))
            .synced(); // the source is its only other copy
        self.pool.write(&tenant, file.content, options).await
    }

    async fn sync(&self) -> Result<()> {
        match self.durability {
            Durability::Durable => Ok(()), // as each write is
            Durability::Buffered => self.store.sync().await,
        }
    }

    async fn forget(&self, tenant: &TenantId, identity: &str) -> Result<()> {
        self.store.forget(tenant, identity).await.map(|_| ())
    }

    fn check_tenant(&self, tenant: &TenantId) -> Result<()> {
        self.gate.check(tenant, TenantAccess::Work).map(|_| ())
    }

    async fn enabled_tenants(&self) -> Result<Vec<TenantId>> {
        let all = self.gate.list().await?;
        let enabled = all.iter().filter(|tenant| tenant.status == TenantStatus::Enabled);
        Ok(enabled.map(|tenant| tenant.id.clone()).collect())
    }

    fn tenants_version(&self) -> u64 {
        self.gate.version()
    }

    async fn tenants_changed(&self, seen: u64) {
        self.gate.until_changed(seen).await;
    }

    fn own_places(&self) -> Vec<PathBuf> {
        // Files may wait in the directories of a volume that was unmounted.
        let mounted = self.volumes.places();
        let all: BTreeSet<_> = self.places.iter().cloned().chain(mounted).collect();
        all.into_iter().collect()
    }
}

#[cfg(all(test, unix))]
mod tests {
    use locus_core::{Error, VolumeSet};
    use locus_testkit::intake_suite;

    use super::*;
    use crate::prelude::*;

    async fn intake(dir: &std::path::Path, durability: Durability) -> (Locus, Arc<dyn Intake>) {
        let builder = Locus::builder().data_dir(dir.join("data")).durability(durability);
        let builder = builder.add_volume(LocalVolume::new("vol-1", dir.join("vol-1")));
        let locus = builder.add_tenant("acme").add_tenant("globex").build().await.expect("a good builder");
        let tools = &locus.opened().tools;
        let (pool, gate, store) = (tools.pool.clone(), Arc::clone(&tools.gate), Arc::clone(&tools.store));
        let volumes = VolumeRegistry::new();
        pool.volumes().iter().for_each(|volume| {
            let volume = VolumeSet::volume(&pool, &volume.id).expect("because it is mounted");
            volumes.insert(volume).expect("because it is there once");
        });
        let intake = PoolIntake { pool, gate, store, durability, volumes, places: vec![dir.join("data")] };
        (locus, Arc::new(intake))
    }

    #[tokio::test]
    async fn the_pool_keeps_the_contract_of_intakes() {
        for durability in [Durability::Durable, Durability::Buffered] {
            for case in 0..3 {
                let temp = tempfile::tempdir().unwrap();
                let (locus, intake) = intake(temp.path(), durability).await;
                match case {
                    0 => intake_suite::a_source_is_taken_in_once(intake).await,
                    1 => intake_suite::content_that_fails_is_not_taken_in(intake).await,
                    _ => intake_suite::only_tenants_take_files(intake).await,
                }
                .unwrap();
                locus.shutdown().await.unwrap();
            }
        }
    }

    #[tokio::test]
    async fn a_change_of_a_tenant_is_heard_and_in_force() {
        let temp = tempfile::tempdir().unwrap();
        let (locus, intake) = intake(temp.path(), Durability::Durable).await;
        let seen = intake.tenants_version();
        let hearing = tokio::spawn({
            let intake = Arc::clone(&intake);
            async move { intake.tenants_changed(seen).await }
        });
        locus.tenants().disable("acme").await.unwrap();
        hearing.await.unwrap();
        let acme = TenantId::parse("acme").unwrap();
        assert!(matches!(intake.check_tenant(&acme), Err(Error::TenantDisabled { .. })));
        assert_eq!(intake.enabled_tenants().await.unwrap().len(), 1);
        assert_eq!(intake.own_places(), [temp.path().join("data"), temp.path().join("vol-1")]);
        locus.shutdown().await.unwrap();
    }
}
