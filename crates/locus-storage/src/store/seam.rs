//! The seams that the embedded store fills.

use std::{ops::Range, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use locus_core::{
    BlobPath, Checksum, Claim, Compacted, Error, FailOutcome, FileKey, FilePage, FileRecord, FileStatus,
    Holdings, IdempotencyKey, InlineLimits, Knowledge, Landing, Lease, LeaseOptions, Leased, Leaving, Limit,
    LogicalDir, MetadataStore, Moving, NewFile, NewUpload, Orphan, Reapable, Reservation, Reserved,
    RestingPage, Result, Scope, Seal, SealKeyId, SealedAnew, StoragePath, StoreCounts, Stored, TenantId,
    Upkeep, UploadId, UploadInfo, UploadLoad, Usage, UsagePage, VolumeId, VolumeStanding, Waiting,
};

use super::{decide, embedded::EmbeddedStore};

#[async_trait]
impl MetadataStore for EmbeddedStore {
    async fn reserve(
        &self,
        tenant: &TenantId,
        directory: &LogicalDir,
        bytes: Option<u64>,
        idempotency: Option<&IdempotencyKey>,
    ) -> Result<Reserved> {
        self.reserve_room(tenant, directory, bytes, idempotency).await
    }

    fn check_room(&self, tenant: &TenantId, directory: &LogicalDir, bytes: u64) -> Result<()> {
        self.look_for_room(tenant, directory, bytes)
    }

    async fn accept(&self, files: Vec<(NewFile, Reservation)>) -> Result<Vec<FileKey>> {
        self.accept_files(files).await
    }

    async fn begin_upload(&self, upload: NewUpload, room: Reservation) -> Result<UploadId> {
        self.note_upload(upload, room).await
    }

    async fn stage_upload(&self, tenant: &TenantId, id: &UploadId) -> Result<UploadInfo> {
        self.note_staging(tenant, id).await
    }

    async fn confirm_upload(
        &self,
        tenant: &TenantId,
        id: &UploadId,
        staging: &FileKey,
        ranges: &[Range<u64>],
    ) -> Result<bool> {
        self.note_ranges(tenant, id, staging, ranges).await
    }

    async fn settle_upload(&self, tenant: &TenantId, id: &UploadId) -> Result<()> {
        self.make_upload_durable(tenant, id).await
    }

    async fn finish_upload(
        &self,
        tenant: &TenantId,
        id: &UploadId,
        checksum: Checksum,
        seal: Option<Seal>,
    ) -> Result<FileKey> {
        self.accept_upload(tenant, id, checksum, seal).await
    }

    async fn finished_upload(&self, tenant: &TenantId, id: &UploadId) -> Result<Option<FileKey>> {
        self.accepted_upload(tenant, id).await
    }

    async fn end_upload(&self, tenant: &TenantId, id: &UploadId) -> Result<bool> {
        self.drop_upload(tenant, id).await
    }

    fn upload(&self, tenant: &TenantId, id: &UploadId) -> Option<UploadInfo> {
        self.upload_info(tenant, id)
    }

    fn uploads(&self, tenant: &TenantId, after: Option<&UploadId>, max: usize) -> Vec<UploadInfo> {
        self.upload_infos(tenant, after, max)
    }

    fn uploads_on(&self, volume: &VolumeId) -> UploadLoad {
        self.places.find(volume).map_or_else(UploadLoad::default, |no| self.places.uploads_on(no))
    }

    fn inline_limits(&self) -> InlineLimits {
        self.inline_limits
    }

    async fn land(&self, bytes: u64) -> Option<Landing> {
        self.land_content(bytes).await
    }

    async fn content(&self, record: &FileRecord, range: Range<u64>) -> Result<Bytes> {
        self.read_content(record, range).await
    }

    fn begin_move(&self, tenant: &TenantId, key: &FileKey) -> Option<Moving> {
        self.begin_moving(tenant, key)
    }

    fn begin_move_from(&self, tenant: &TenantId, key: &FileKey, volume: &VolumeId) -> Option<Moving> {
        self.begin_moving_from(tenant, key, volume)
    }

    fn begin_dead_letter(&self, tenant: &TenantId, key: &FileKey) -> Result<Option<Moving>> {
        self.begin_dead_lettering(tenant, key)
    }

    fn begin_requeue(&self, tenant: &TenantId, key: &FileKey) -> Result<Option<Moving>> {
        self.begin_requeueing(tenant, key)
    }

    async fn announce(&self, moving: &Moving, volume: &VolumeId) -> Result<bool> {
        self.announce_target(moving, volume).await
    }

    fn resting_on(&self, volume: &VolumeId, from: Option<u64>, max: usize) -> RestingPage {
        self.resting_page(volume, from, max)
    }

    fn not_sealed_with(&self, key: SealKeyId, from: Option<u64>, max: usize) -> RestingPage {
        self.page_not_sealed_with(key, from, max)
    }

    fn begin_seal(&self, tenant: &TenantId, key: &FileKey, with: SealKeyId) -> Result<Option<Moving>> {
        self.begin_sealing(tenant, key, with)
    }

    async fn seal_anew(&self, moving: Moving, to: SealedAnew) -> Result<bool> {
        self.seal_content(moving, to).await
    }

    async fn forget_on(&self, volume: &VolumeId, max: usize) -> Result<u64> {
        self.forget_some_on(volume, max).await
    }

    fn standing_of(&self, volume: &VolumeId) -> VolumeStanding {
        self.standings.read().of(volume)
    }

    fn standings(&self) -> Vec<(VolumeId, VolumeStanding)> {
        let standings = self.standings.read();
        let decided = standings.all().filter(|(_, standing, _)| *standing != VolumeStanding::InUse);
        decided.map(|(volume, standing, _)| (volume.clone(), standing)).collect()
    }

    async fn set_standing(&self, volume: &VolumeId, standing: VolumeStanding) -> Result<VolumeStanding> {
        self.store_standing(volume, standing).await
    }

    async fn relocate(&self, moving: Moving, to: Stored) -> Result<bool> {
        self.relocate_content(moving, to).await
    }

    async fn spillable(&self, files: usize, bytes: u64) -> Result<Vec<Moving>> {
        self.take_spillable(files, bytes).await
    }

    async fn spill_wanted(&self) {
        self.wait_spill_wanted().await;
    }

    async fn lease(&self, tenant: &TenantId, max: usize, options: &LeaseOptions) -> Result<Vec<Leased>> {
        self.lease_some(tenant, max, options).await
    }

    async fn lease_any(
        &self,
        max: usize,
        options: &LeaseOptions,
        weigh: &(dyn for<'a> Fn(&'a TenantId) -> u32 + Send + Sync),
    ) -> Result<Vec<Leased>> {
        self.lease_fairly(max, options, weigh).await
    }

    async fn lease_key(&self, tenant: &TenantId, key: &FileKey, options: &LeaseOptions) -> Result<Leased> {
        self.lease_one(tenant, key, options).await
    }

    async fn renew(&self, lease: &Lease, ttl: Option<Duration>) -> Result<Lease> {
        self.renew_lease(lease, ttl).await
    }

    async fn release(&self, lease: &Lease) -> Result<()> {
        self.release_lease(lease).await
    }

    async fn complete(&self, leases: &[Lease]) -> Result<()> {
        self.complete_leases(leases).await
    }

    async fn fail(&self, lease: &Lease, error: &str) -> Result<FailOutcome> {
        self.fail_lease(lease, error).await
    }

    async fn reset(&self, tenant: &TenantId, key: &FileKey) -> Result<()> {
        self.reset_file(tenant, key).await
    }

    async fn delete(&self, tenant: &TenantId, key: &FileKey, force: bool) -> Result<()> {
        self.delete_file(tenant, key, force).await
    }

    async fn purge(&self, tenant: &TenantId, key: &FileKey) -> Result<()> {
        self.purge_dead_letter(tenant, key).await
    }

    async fn get(&self, tenant: &TenantId, key: &FileKey) -> Result<Option<FileRecord>> {
        let Some(cell) = self.cell(tenant) else { return Ok(None) };
        let state = cell.state.lock();
        let Some(entry) = state.visible(key, self.watermark()) else {
            return Ok(None);
        };
        self.check_certain(entry.last)?;
        Ok(Some(state.record(entry, &self.places, &self.clock)))
    }

    async fn leased(&self, lease: &Lease) -> Result<FileRecord> {
        let cell = self.cell(&lease.tenant);
        let state = cell.as_ref().map(|cell| cell.state.lock());
        let entry = state.as_ref().and_then(|state| state.get(&lease.key));
        decide::hold(entry, lease.key, lease.token)?;
        match (state.as_ref(), entry) {
            (Some(state), Some(entry)) => Ok(state.record(entry, &self.places, &self.clock)),
            _ => Err(Error::FileNotFound { key: lease.key }),
        }
    }

    async fn ready(&self, tenant: &TenantId) -> Result<()> {
        self.ready_for(tenant).await
    }

    async fn ready_any(&self) -> Result<()> {
        self.ready_for_any().await
    }

    async fn sync(&self) -> Result<()> {
        let told = self.tell_background_error();
        // Whatever failed before: what can be made durable now is. Each failure is told once.
        match (told, self.barrier().await) {
            (Err(told), Err(tried)) => {
                *self.background_error.lock() = Some(tried);
                Err(told)
            }
            (told, tried) => told.and(tried),
        }
    }

    fn volume_available(&self, volume: &VolumeId, available: bool) {
        self.set_volume_available(volume, available);
    }

    fn files_on(&self, volume: &VolumeId) -> u64 {
        self.places.find(volume).map_or(0, |no| self.places.files_on(no) + self.places.copies_on(no))
    }

    fn bytes_on(&self, volume: &VolumeId) -> u64 {
        self.places.find(volume).map_or(0, |no| self.places.bytes_on(no))
    }

    fn tenant_changed(&self, tenant: &TenantId) {
        self.look_again(tenant);
    }

    fn holdings(&self, tenant: &TenantId) -> Holdings {
        self.holdings_of(tenant)
    }

    fn begin_leaving(&self, tenant: &TenantId, when_empty: bool) -> Result<Leaving> {
        self.leave(tenant, when_empty)
    }

    async fn end_files(&self, leaving: &Leaving, from: u32, max: usize) -> Result<(u64, Option<u32>)> {
        self.end_some(leaving, from, max).await
    }

    async fn forget_tenant(&self, leaving: &Leaving) -> Result<()> {
        self.forget_all_of(leaving).await
    }

    fn tenants_with_files(&self) -> Vec<(TenantId, StoragePath)> {
        self.owners()
    }

    async fn remembered(&self, tenant: &TenantId, idempotency: &str) -> Result<Option<FileKey>> {
        self.find_remembered(tenant, idempotency).await
    }

    async fn forget(&self, tenant: &TenantId, idempotency: &str) -> Result<bool> {
        self.forget_key(tenant, idempotency).await
    }

    async fn set_limit(&self, scope: Scope, limit: Limit) -> Result<()> {
        self.store_limit(scope, limit).await
    }

    fn usage(&self, scope: &Scope) -> Usage {
        self.usage_of(scope)
    }

    fn directory_usage(&self, tenant: &TenantId, from: Option<u64>, max: usize) -> UsagePage {
        self.directory_usages(tenant, from, max)
    }

    fn counts(&self) -> StoreCounts {
        self.counts_by_tenant()
    }

    fn seal_keys(&self) -> Vec<(SealKeyId, u64)> {
        self.places.seals().into_iter().collect()
    }
}

#[async_trait]
impl Upkeep for EmbeddedStore {
    async fn reapable(&self, of: Option<&TenantId>, max: usize) -> Result<Vec<Reapable>> {
        Ok(self.take_reapable(of, max))
    }

    async fn reaped(&self, files: &[Reapable]) -> Result<()> {
        self.record_reaped(files).await
    }

    fn not_reaped(&self, files: Vec<Reapable>) {
        self.give_back_unreaped(files);
    }

    async fn reapable_ready(&self) {
        self.wait_reapable().await;
    }

    async fn settled(&self) -> Result<()> {
        self.wait_settled().await
    }

    async fn emptied(&self, leaving: &Leaving) -> Result<()> {
        self.wait_emptied(leaving).await
    }

    async fn expire(&self, of: Option<&TenantId>, max: usize) -> Result<usize> {
        match of {
            Some(tenant) => self.expire_some_of(tenant, max).await,
            None => self.expire_some(max).await,
        }
    }

    async fn expirable(&self) {
        self.wait_expirable().await;
    }

    fn page(
        &self,
        tenant: &TenantId,
        status: FileStatus,
        older_than: Duration,
        from: Option<u64>,
        max: usize,
    ) -> FilePage {
        self.status_page(tenant, status, older_than, from, max)
    }

    fn tenants_with(&self, status: FileStatus) -> Vec<TenantId> {
        self.with_any(status)
    }

    fn on_volume(&self, volume: &VolumeId, from: Option<u64>, max: usize) -> FilePage {
        self.volume_page(volume, from, max)
    }

    async fn forget_missing(&self, record: &FileRecord) -> Result<bool> {
        self.end_missing(record).await
    }

    async fn expire_uploads(&self, of: Option<&TenantId>, max: usize) -> Result<usize> {
        self.end_idle_uploads(of, max).await
    }

    fn is_staging(&self, owner: &StoragePath, staging: &FileKey) -> bool {
        self.is_staged(owner, staging)
    }

    fn knows(&self, volume: &VolumeId, at: &BlobPath) -> Knowledge {
        self.knowledge(volume, at)
    }

    fn claim(&self, volume: &VolumeId, at: &BlobPath) -> Option<Claim> {
        self.claim_unknown(volume, at)
    }

    async fn adopt(&self, claim: Claim, orphan: Orphan) -> Result<bool> {
        self.adopt_orphan(claim, orphan).await
    }

    async fn dispose(&self, tenant: &TenantId, key: &FileKey, status: FileStatus) -> Result<bool> {
        self.dispose_of(tenant, key, status).await
    }

    async fn compact(&self) -> Result<Compacted> {
        let bytes_before = self.record_bytes();
        self.checkpoint().await?;
        self.checkpoint().await?; // the second of two frees what waits for the older one
        Ok(Compacted { bytes_before, bytes_after: self.record_bytes() })
    }

    fn waiting(&self, of: Option<&TenantId>) -> Waiting {
        self.all_that_waits(of)
    }

    fn is_trustworthy(&self) -> bool {
        !self.journal.is_poisoned()
    }
}
