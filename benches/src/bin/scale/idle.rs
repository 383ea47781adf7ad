//! Tenants without work: what they cost while nothing happens.

use std::{path::Path, time::Duration};

use locus::prelude::*;
use locus_benches::{BoxError, Stopwatch, cpu_time, resident_bytes, thousands};

/// CPU time over a while with so many tenants, beside that with one.
pub(crate) async fn run(dir: &Path, full: bool) -> Result<(), BoxError> {
    let (tenants, time) =
        if full { (10_000, Duration::from_secs(60)) } else { (1_000, Duration::from_secs(5)) };
    println!("| tenants | created in | bytes of memory each | CPU over {time:?} |");
    println!("|---|---|---|---|");
    for many in [1, tenants] {
        measure(&dir.join(many.to_string()), many, time).await?;
    }
    Ok(())
}

async fn measure(dir: &Path, tenants: u64, time: Duration) -> Result<(), BoxError> {
    let locus = Locus::builder()
        .data_dir(dir.join("data"))
        .add_volume(LocalVolume::new("vol-001", dir.join("vol-001")))
        .build()
        .await?;
    let before = resident_bytes()?;
    let watch = Stopwatch::start();
    for number in 0..tenants {
        locus.tenants().create(format!("tenant-{number:06}")).await?;
    }
    let (created, each) = (watch.elapsed(), resident_bytes()?.saturating_sub(before) / tenants);
    locus.sync().await?;

    let before = cpu_time()?;
    tokio::time::sleep(time).await;
    let used = cpu_time()?.saturating_sub(before);
    let percent = 100.0 * used.as_secs_f64() / time.as_secs_f64();
    println!("| {} | {created:.2?} | {each} | {used:.0?}, {percent:.2} % |", thousands(tenants as f64));
    Ok(locus.shutdown().await?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(flavor = "multi_thread")]
    async fn tenants_are_made_and_watched() {
        let temp = tempfile::tempdir().unwrap();
        measure(temp.path(), 3, Duration::from_millis(1)).await.unwrap();
    }
}
