//! A run: files are taken in and processed at the same time, until there is nothing left to do.

use std::{fs, path::PathBuf, pin::pin, sync::Arc};

use locus::{Builder, Clock, SystemClock, prelude::*};
use locus_core::BoxError;

use crate::{
    intake::Intake,
    plan::Plan,
    progress::Progress,
    report::{Places, Report},
    stop::Stop,
    tally::Tally,
    work::Work,
};

/// The property of the first tenant that says how many share the data directory.
const TENANTS: &str = "tenants";

/// Takes in what is missing, processes what waits, and closes the store, whatever happened.
pub(crate) async fn run(plan: &Plan) -> Result<Report, BoxError> {
    let clock = SystemClock::new();
    let start = clock.monotonic();
    let locus = builder(plan)?.build().await?;
    let done = work(plan, &locus).await;
    let closed = locus.shutdown().await;
    let mut report = done?;
    closed?;
    report.took(clock.monotonic().saturating_sub(start));
    Ok(report)
}

fn builder(plan: &Plan) -> Result<Builder, BoxError> {
    // An input inside the data directory would be Locus's own files.
    if fs::canonicalize(&plan.data).is_ok_and(|data| plan.input.starts_with(data)) {
        return Err(format!(
            "the input {} lies in the data directory {}",
            plan.input.display(),
            plan.data.display()
        )
        .into());
    }
    let builder = Locus::builder().settings(plan.settings.clone()).data_dir(&plan.data);
    Ok(plan
        .own_volumes()
        .fold(builder, |builder, (name, path)| builder.add_volume(LocalVolume::new(&name, path))))
}

async fn work(plan: &Plan, locus: &Locus) -> Result<Report, BoxError> {
    let tenants = tenants(plan, locus).await?;
    let before = locus.statistics().idempotency_keys;
    let progress = Progress::new(plan.json);
    progress.recovered(locus.open_report().recovered);
    let tally = Arc::new(Tally::default());
    let stop = Stop::new();
    let listener = progress.clone();
    stop.at_ctrl_c(move || listener.say("stopping: files in hand are finished first"));

    let intake = Intake {
        locus: locus.clone(),
        tenants: tenants.into(),
        again: plan.again && locus.counts().values().all(|tenant| tenant.files() == 0),
        before,
        tally: Arc::clone(&tally),
        progress: progress.clone(),
        stop: stop.clone(),
    };
    let work =
        Work { fail_percent: plan.fail_percent, tally: Arc::clone(&tally), progress: progress.clone() };
    let workers = locus.workers_any().concurrency(plan.workers);

    let handler = work.clone();
    let meanwhile = workers.clone().spawn(move |file| handler.clone().process(file))?;
    let taken_in = intake.run(plan.input.clone(), left_out(plan, locus)).await;
    meanwhile.stop().await?;
    taken_in?;

    if !stop.is_asked() {
        let mut drained = pin!(workers.run_until_drained(move |file| work.clone().process(file)));
        tokio::select! {
            biased;
            drained = &mut drained => drop(drained?),
            () = stop.asked() => {
                locus.shutdown().await?; // ends the workers too
                if let Err(error) = drained.await && !matches!(error, Error::ShuttingDown) {
                    return Err(error.into());
                }
            }
        }
    }
    let interrupted = stop.is_asked();
    let places = if interrupted {
        Places::left_in(&plan.data).await?
    } else {
        locus.cleanup().settled().await?;
        Places::now(locus)
    };
    progress.end();
    Ok(Report::new(locus, &tally, before, places, interrupted))
}

/// The tenants that share the files. A source must find its tenant again, so their number stays what it was at first.
async fn tenants(plan: &Plan, locus: &Locus) -> Result<Vec<TenantContext>, BoxError> {
    let first = "tenant-1";
    if locus.tenants().try_get(first).await?.is_none() {
        let properties = Properties::from([(TENANTS.to_owned(), plan.tenants.to_string())]);
        locus.tenants().create_with(first, properties).await?;
    }
    let known = locus.tenants().info(first).await?;
    if let Some(known) = known.properties.get(TENANTS).filter(|known| **known != plan.tenants.to_string()) {
        return Err(format!(
            "the files in {} are shared by {known} tenants: use --tenants {known}, or another --data",
            plan.data.display()
        )
        .into());
    }
    let mut tenants = Vec::new();
    for n in 1..=plan.tenants {
        let name = format!("tenant-{n}");
        tenants.push(match locus.tenants().try_get(&name).await? {
            Some(tenant) => tenant,
            None => locus.tenants().create(&name).await?,
        });
    }
    Ok(tenants)
}

/// Locus's own folders, which may lie in the input.
fn left_out(plan: &Plan, locus: &Locus) -> Vec<PathBuf> {
    let volumes = locus.pool().volumes().into_iter().filter_map(|volume| volume.mount_path);
    volumes.chain([plan.data.clone()]).filter_map(|path| fs::canonicalize(path).ok()).collect()
}
