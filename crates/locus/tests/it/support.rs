//! What the tests share.

use std::{path::Path, time::Duration};

use locus::{Builder, OrphanPolicy, prelude::*};

/// Blobs that no record names are removed as soon as they are found.
pub(crate) fn sweep_at_once() -> Settings {
    let mut settings = Settings::default();
    let orphans = &mut settings.cleanup.orphans;
    (orphans.age, orphans.policy) = (Duration::ZERO, OrphanPolicy::Delete);
    settings
}

/// A store in `dir` with one volume and the tenant `acme`.
pub(crate) fn builder(dir: &Path) -> Builder {
    Locus::builder()
        .settings(sweep_at_once())
        .data_dir(dir.join("data"))
        .add_volume(LocalVolume::new("vol-001", dir.join("vol-001")))
        .add_tenant("acme")
}

pub(crate) async fn open(dir: &Path) -> (Locus, TenantContext) {
    open_with(builder(dir)).await
}

/// As [`open`], every content a file on the volume.
pub(crate) async fn open_without_inline(dir: &Path) -> (Locus, TenantContext) {
    open_with(builder(dir).inline_content_max(0)).await
}

pub(crate) async fn open_with(builder: Builder) -> (Locus, TenantContext) {
    let locus = builder.build().await.expect("a good builder");
    let acme = locus.tenants().get("acme").await.expect("the builder's tenant");
    (locus, acme)
}

pub(crate) async fn write(locus: &Locus, tenant: &TenantContext, text: &str) -> FileKey {
    locus.pool().write(tenant, text, WriteOptions::new()).await.expect("room for a small file")
}

/// Gives way until `condition` holds; a test that waits in vain fails.
pub(crate) async fn until<F: Future<Output = bool>>(what: &str, mut condition: impl FnMut() -> F) {
    let waiting = async {
        while !condition().await {
            tokio::task::yield_now().await;
        }
    };
    in_time(what, waiting).await;
}

/// Fails instead of hanging.
pub(crate) async fn in_time<F: Future>(what: &str, future: F) -> F::Output {
    match tokio::time::timeout(Duration::from_secs(60), future).await {
        Ok(output) => output,
        Err(_) => panic!("waited in vain: {what}"),
    }
}

pub(crate) fn setting_of(error: &Error) -> &str {
    match error {
        Error::InvalidSetting { name, .. } => name,
        other => panic!("not about a setting: {other}"),
    }
}
