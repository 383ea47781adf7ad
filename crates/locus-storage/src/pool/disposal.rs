//! What a sweeper asks of a pool.

use async_trait::async_trait;
use locus_core::{BlobPath, Checksum, Disposal, FileKey, Result, Seal, StorageVolume, TenantId, Upkeep};

use super::StoragePool;

#[async_trait]
impl Disposal for StoragePool {
    async fn dead_letter(&self, tenant: &TenantId, key: &FileKey) -> Result<bool> {
        StoragePool::dead_letter(self, tenant, key).await
    }

    async fn seal_of(
        &self,
        volume: &dyn StorageVolume,
        blob: &BlobPath,
        checksum: &Checksum,
    ) -> Result<Option<Seal>> {
        self.seal_found(volume, blob, checksum).await
    }

    async fn tidy_residue(&self, upkeep: &dyn Upkeep) -> usize {
        StoragePool::tidy_residue(self, upkeep).await
    }
}
