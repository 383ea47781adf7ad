//! Tidies a data directory, or says what there would be to tidy.

use std::io::IsTerminal;

use locus::{CleanupStatistics, StorageCleanup, Sweep, prelude::*};
use locus_core::BoxError;

use crate::{
    args::SweepArgs,
    existing,
    table::{align_numbers, size, table},
};

pub(crate) async fn sweep(args: SweepArgs) -> Result<(), BoxError> {
    let locus = existing::open(&args.data, args.config.as_deref()).await?;
    let done = run(&locus, &args).await;
    locus.shutdown().await?;
    let done = done?;
    if args.json {
        println!("{}", serde_json::to_string(&done)?);
    } else {
        print(&done, args.dry_run);
    }
    Ok(())
}

async fn run(locus: &Locus, args: &SweepArgs) -> Result<CleanupStatistics, BoxError> {
    let jobs = match &args.job {
        None => None,
        Some(name) => Some(Sweep::ALL.into_iter().find(|job| job.name() == name).ok_or_else(|| {
            let names = Sweep::ALL.map(Sweep::name).join(", ");
            format!("there is no job {name:?}: choose one of {names}")
        })?),
    };
    let mut cleanup: StorageCleanup = locus.cleanup();
    if let Some(tenant) = &args.tenant {
        cleanup = cleanup.for_tenant(locus.tenants().get(tenant).await?.id());
    }
    if args.dry_run {
        cleanup = cleanup.dry_run();
    }
    if std::io::stderr().is_terminal() && !args.json {
        cleanup = cleanup.on_progress(|done| eprint!("\r{} freed so far", size(done.space_freed)));
    }
    Ok(match jobs {
        Some(job) => cleanup.run(job).await?,
        None => cleanup.run_all().await?,
    })
}

fn print(done: &CleanupStatistics, dry_run: bool) {
    let rows = [
        ("completed files removed", done.completed_removed),
        ("leases that ran out, written back", done.timed_out_reset),
        ("failed for good: deleted", done.permanently_failed_removed),
        ("failed for good: moved to the dead letters", done.dead_lettered),
        ("dead letters purged", done.dead_letters_removed),
        ("orphans imported", done.orphans_imported),
        ("orphans put into quarantine", done.orphans_quarantined),
        ("orphans removed", done.orphans_removed),
        ("orphans left alone", done.orphans_skipped),
        ("residue and staging removed", done.residue_removed + done.staging_removed + done.copies_removed),
        ("uploads that were given up", done.uploads_expired),
        ("records whose bytes are gone", done.missing_found),
        ("of these, removed", done.missing_removed),
        ("files of other programs removed", done.junk_removed),
        ("empty directories removed", done.empty_directories_removed),
        ("failures", done.errors),
    ];
    let mut report = table([if dry_run { "would be" } else { "done" }, "number"]);
    for (what, number) in rows.into_iter().filter(|(_, number)| *number > 0) {
        report.add_row([what.to_owned(), number.to_string()]);
    }
    align_numbers(&mut report, 1);
    println!("{report}");
    println!("{} freed in {:.1} s", size(done.space_freed), done.duration.as_secs_f64());
    for failure in &done.failures {
        println!("  {}: {}", failure.place, failure.error);
    }
}
