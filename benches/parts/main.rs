//! Parts of a cycle, one by one: a record through the store, with and without a content in the journal, a content read back,
//! a lease, a completion, look-ups, a checkpoint, a replay, a file on a volume.

mod pending;
mod records;
mod replay;
mod tenants;
mod volumes;

use std::time::Duration;

use criterion::Criterion;
use locus_benches::{BoxError, Ground, is_full, is_quick};
use locus_core::Durability;
use locus_storage::EngineOptions;
use tokio::runtime::Runtime;

fn main() -> Result<(), BoxError> {
    let ground = Ground::open(env!("CARGO_TARGET_TMPDIR"))?;
    println!("# Parts\n\n{ground}\nsettings:    defaults, Buffered but where it says durable; one tenant\n");
    let quick = is_quick();
    let mut criterion = Criterion::default()
        .warm_up_time(Duration::from_millis(if quick { 100 } else { 500 }))
        .measurement_time(Duration::from_millis(if quick { 300 } else { 2_000 }))
        .sample_size(if quick { 10 } else { 20 })
        .configure_from_args();
    let pending = match (is_full(), quick) {
        (true, _) => [1_000, 1_000_000, 10_000_000],
        (_, true) => [1_000, 10_000, 100_000],
        _ => [1_000, 100_000, 1_000_000],
    };
    let runtime = Runtime::new()?;
    records::appends(&mut criterion, &runtime, &ground.path().join("appends"))?;
    records::reads(&mut criterion, &runtime, &ground.path().join("reads"))?;
    records::work(&mut criterion, &runtime, &ground.path().join("work"))?;
    tenants::look_ups(&mut criterion, &runtime, &ground.path().join("tenants"))?;
    pending::files(&mut criterion, &runtime, &ground.path().join("pending"), &pending)?;
    replay::replays(
        &mut criterion,
        &runtime,
        &ground.path().join("replay"),
        if quick { 10_000 } else { 200_000 },
    )?;
    volumes::writes(&mut criterion, &runtime, &ground.path().join("volumes"))?;
    criterion.final_summary();
    Ok(())
}

fn options() -> EngineOptions {
    EngineOptions { durability: Durability::Buffered, ..EngineOptions::default() }
}
