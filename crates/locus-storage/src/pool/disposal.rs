//! What a sweeper asks of a pool.

use async_trait::async_trait;
use locus_core::{Disposal, FileKey, Result, TenantId, Upkeep};

use super::StoragePool;

#[async_trait]
impl Disposal for StoragePool {
    async fn dead_letter(&self, tenant: &TenantId, key: &FileKey) -> Result<bool> {
        StoragePool::dead_letter(self, tenant, key).await
    }

    async fn tidy_residue(&self, upkeep: &dyn Upkeep) -> usize {
        StoragePool::tidy_residue(self, upkeep).await
    }
}
