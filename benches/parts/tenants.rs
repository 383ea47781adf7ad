//! A look-up of a tenant.

use std::{hint::black_box, path::Path, sync::Arc};

use criterion::Criterion;
use locus_benches::BoxError;
use locus_core::{Properties, SystemClock, TenantAccess, TenantId, TenantManager};
use locus_fs::{OsDisk, create_dirs};
use locus_tenant::TenantDirectory;
use tokio::runtime::Runtime;

/// Tenants among which one is looked up in turn.
const TENANTS: usize = 1_000;

/// Whether a tenant may work, with many of them.
pub(crate) fn look_ups(criterion: &mut Criterion, runtime: &Runtime, dir: &Path) -> Result<(), BoxError> {
    create_dirs(&OsDisk, dir)?;
    let tenants = TenantDirectory::open(Arc::new(OsDisk), Arc::new(SystemClock::new()), dir.join("tenants"))?;
    let mut ids = Vec::new();
    for number in 0..TENANTS {
        let id = TenantId::parse(&format!("tenant-{number:06}"))?;
        runtime.block_on(tenants.create(&id, Properties::new()))?;
        ids.push(id);
    }
    let mut ids = ids.iter().cycle();
    criterion.bench_function(&format!("tenant look-up, {TENANTS} tenants"), |bencher| {
        bencher.iter(|| {
            let id = ids.next().expect("because there is one");
            black_box(tenants.check(id, TenantAccess::Work)).expect("because it is enabled")
        });
    });
    Ok(())
}
