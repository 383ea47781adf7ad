//! Calls that are refused: each with a named error, and nothing half done.
#![expect(clippy::unwrap_used, reason = "helpers of tests may panic as tests may")]

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    pin::Pin,
    sync::Arc,
};

use locus::{
    Checksum, Chunk, DrainOptions, Retire, TenantCounts, UploadInfo, Usage, VerifyLevel, prelude::*,
};
use rstest::rstest;

use crate::support::{builder, open_with};

/// A store with a file on its only volume, an upload with a hole, and a second tenant.
struct Scene {
    locus: Locus,
    acme: TenantContext,
    beta: TenantContext,
    upload: Upload,
    dir: PathBuf,
}

type Answer = Pin<Box<dyn Future<Output = Result<(), Error>>>>;

/// All that a refused call could have changed.
#[derive(Debug, PartialEq)]
struct State {
    volumes: Vec<(VolumeId, u64, u64, u64, bool, Option<String>)>,
    counts: Vec<(TenantId, TenantCounts)>,
    tenants: Vec<Arc<Tenant>>,
    usage: Vec<Usage>,
    uploads: Vec<Vec<UploadInfo>>,
    paths: BTreeSet<PathBuf>,
}

fn paths_below(dir: &Path) -> BTreeSet<PathBuf> {
    let mut paths = BTreeSet::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            paths.extend(paths_below(&path));
        }
        paths.insert(path);
    }
    paths
}

impl Scene {
    async fn open(dir: &Path) -> Self {
        let (locus, acme) = open_with(builder(dir).inline_content_max(0)).await;
        let beta = locus.tenants().create("beta").await.unwrap();
        locus.pool().write(&acme, "hello", WriteOptions::new()).await.unwrap();
        let upload = locus.pool().upload(&acme, UploadOptions::new(10)).await.unwrap();
        upload.write_at(2, "cdef").await.unwrap();
        Self { locus, acme, beta, upload, dir: dir.to_owned() }
    }

    async fn state(&self) -> State {
        let Self { locus, acme, beta, dir, .. } = self;
        let volumes = locus.pool().volumes().into_iter().map(|volume| {
            let unusable = volume.unusable.map(|why| why.to_string());
            (volume.id, volume.files, volume.bytes, volume.in_flight, volume.draining, unusable)
        });
        let scopes = [Scope::Global, Scope::Tenant(acme.id().clone()), Scope::Tenant(beta.id().clone())];
        let mut uploads = Vec::new();
        for tenant in [acme, beta] {
            uploads.push(locus.pool().uploads(tenant, None).await.unwrap());
        }
        State {
            volumes: volumes.collect(),
            counts: locus.counts().into_iter().collect(),
            tenants: locus.tenants().list().await.unwrap(),
            usage: scopes.iter().map(|scope| locus.quotas().usage(scope)).collect(),
            uploads,
            paths: paths_below(dir).into_iter().filter(|path| !path.starts_with(dir.join("data"))).collect(),
        }
    }

    fn mount(&self, id: &str, name: &str) -> Answer {
        let (locus, volume) = (self.locus.clone(), LocalVolume::new(id, self.dir.join(name)));
        Box::pin(async move { locus.pool().mount(volume).await.map(drop) })
    }

    fn drain(&self, id: &str, options: DrainOptions) -> Answer {
        let (locus, id) = (self.locus.clone(), VolumeId::parse(id).unwrap());
        Box::pin(async move { locus.pool().drain_with(&id, options, |_| ()).await.map(drop) })
    }

    /// What `call` does with the pool and the volume `id`.
    fn on<F>(&self, id: &str, call: impl FnOnce(StoragePool, VolumeId) -> F) -> Answer
    where
        F: Future<Output = Result<(), Error>> + 'static,
    {
        Box::pin(call(self.locus.pool().clone(), VolumeId::parse(id).unwrap()))
    }

    fn create(&self, id: &'static str) -> Answer {
        let tenants = self.locus.tenants();
        Box::pin(async move { tenants.create(id).await.map(drop) })
    }

    fn send(&self, offset: u64, chunk: impl Into<Chunk>) -> Answer {
        let (upload, chunk) = (self.upload.clone(), chunk.into());
        Box::pin(async move { upload.write_at(offset, chunk).await })
    }

    fn begin(&self, options: UploadOptions) -> Answer {
        let (locus, acme) = (self.locus.clone(), self.acme.clone());
        Box::pin(async move { locus.pool().upload(&acme, options).await.map(drop) })
    }

    /// A write below a limit that was lowered to less than there is.
    fn write_below(&self, limit: Limit) -> Answer {
        let (locus, acme) = (self.locus.clone(), self.acme.clone());
        let scope = Scope::Tenant(acme.id().clone());
        Box::pin(async move {
            locus.quotas().set_limit(scope.clone(), limit).await?;
            let refused = locus.pool().write(&acme, "more", WriteOptions::new()).await.map(drop);
            locus.quotas().set_limit(scope, Limit::Inherit).await?;
            refused
        })
    }
}

fn drains(at_once: usize) -> DrainOptions {
    DrainOptions::new().at_once(at_once)
}

#[rstest]
#[case::a_mount_twice(|s: &Scene| s.mount("vol-001", "elsewhere"), "volume vol-001 is mounted already")]
#[case::a_volume_whose_id_differs_by_case(|s: &Scene| s.mount("VOL-001", "elsewhere"), "volume id \"VOL-001\"")]
#[case::a_place_twice(|s: &Scene| s.mount("vol-002", "vol-001"), "")]
#[case::a_tenant_twice(|s: &Scene| s.create("beta"), "tenant beta exists already")]
#[case::a_tenant_whose_id_differs_by_case(|s: &Scene| s.create("Beta"), "tenant id \"Beta\"")]
#[case::a_drain_with_nowhere_to_go(|s: &Scene| s.drain("vol-001", drains(1)), "no other volume is mounted")]
#[case::a_drain_of_no_file_at_a_time(|s: &Scene| s.drain("vol-001", drains(0)), "argument ")]
#[case::a_drain_of_an_unknown_volume(|s: &Scene| s.drain("vol-002", drains(1)), "there is no volume vol-002")]
#[case::an_unmount_of_an_unknown_volume(
    |s: &Scene| s.on("vol-002", |pool, id| async move { pool.unmount(&id).await }), "there is no volume vol-002"
)]
#[case::a_volume_removed_with_files_on_it(
    |s: &Scene| s.on("vol-001", |pool, id| async move { pool.remove(&id).await }), "volume vol-001 still holds"
)]
#[case::an_unknown_volume_retired(
    |s: &Scene| s.on("vol-002", |pool, id| async move { pool.retire(&id, Retire::Keep).await.map(drop) }), "there is no volume vol-002"
)]
#[case::a_limit_below_the_present_count(|s: &Scene| s.write_below(Limit::Files(1)), "tenant acme is full: 2 of 1 files")]
#[case::a_limit_below_the_present_bytes(|s: &Scene| s.write_below(Limit::Bytes(7)), "tenant acme is full: 15 of 7 bytes")]
#[case::a_limit_of_an_unknown_tenant(
    |s: &Scene| {
        let quotas = s.locus.quotas();
        Box::pin(async move { quotas.set_limit(Scope::Tenant(TenantId::parse("gamma").unwrap()), Limit::Files(1)).await }) as Answer
    },
    "there is no tenant gamma"
)]
#[case::a_chunk_beyond_the_end(|s: &Scene| s.send(7, "hijk"), "argument offset leads beyond")]
#[case::a_chunk_beyond_all_numbers(|s: &Scene| s.send(u64::MAX, "x"), "argument offset leads beyond")]
#[case::a_chunk_with_a_wrong_checksum(
    |s: &Scene| s.send(6, Chunk::new("gh").checksum(Checksum::of(b"hg"))), "content of a piece has checksum"
)]
#[case::a_chunk_that_differs_from_what_is_confirmed(|s: &Scene| s.send(0, "abcX"), "argument chunk differs")]
#[case::a_finish_with_a_hole(
    |s: &Scene| {
        let upload = s.upload.clone();
        Box::pin(async move { upload.finish().await.map(drop) }) as Answer
    },
    "bytes 0 to 2 are missing"
)]
#[case::an_upload_of_another_tenant_gone_on_with(
    |s: &Scene| {
        let (locus, beta, id) = (s.locus.clone(), s.beta.clone(), s.upload.id());
        Box::pin(async move { locus.pool().resume_upload(&beta, &id).await.map(drop) }) as Answer
    },
    "there is no upload"
)]
#[case::an_upload_of_another_tenant_finished(
    |s: &Scene| {
        let (locus, beta, id) = (s.locus.clone(), s.beta.clone(), s.upload.id());
        Box::pin(async move { locus.pool().finish_upload(&beta, &id).await.map(drop) }) as Answer
    },
    "there is no upload"
)]
#[case::an_upload_larger_than_any_volume(|s: &Scene| s.begin(UploadOptions::new(1 << 60)), "not enough room")]
#[case::an_upload_larger_than_any_number(|s: &Scene| s.begin(UploadOptions::new(u64::MAX)), "the store is full: 15 of")]
#[case::an_upload_with_too_long_a_name(
    |s: &Scene| s.begin(UploadOptions::new(1).original_name("x".repeat(1_025))), "more than the 1024"
)]
#[tokio::test]
async fn a_bad_call_is_refused_by_name_and_nothing_is_half_done(
    #[case] call: fn(&Scene) -> Answer,
    #[case] said: &str,
) {
    let temp = tempfile::tempdir().unwrap();
    let scene = Scene::open(temp.path()).await;
    let before = scene.state().await;
    for _ in 0..2 {
        let refused = call(&scene).await.expect_err("a bad call");
        assert!(refused.to_string().contains(said), "{refused}");
        assert_eq!(scene.state().await, before, "{refused}");
    }
    // Everything goes on.
    scene.upload.write_at(0, "abcdefghij").await.unwrap();
    let key = scene.upload.finish().await.unwrap();
    let content = scene.locus.pool().read(&scene.acme, &key).await.unwrap().bytes().await.unwrap();
    assert_eq!(content, "abcdefghij");
    scene.locus.pool().write(&scene.acme, "more", WriteOptions::new()).await.unwrap();
    let found = scene.locus.verify(VerifyLevel::Contents).await.unwrap();
    assert!(found.findings.is_empty(), "{:?}", found.findings);
    scene.locus.shutdown().await.unwrap();
}
