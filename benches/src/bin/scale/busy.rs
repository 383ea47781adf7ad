//! Many tenants with work: whether they share syncs as well as one does.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use locus::prelude::*;
use locus_benches::{
    BoxError, Ground, Spread,
    cycles::{AsTask, Form, Load, Round, content},
    rate, thousands,
};
use tokio::runtime::{Handle, Runtime};

const SIZE: usize = 1 << 10;
const IN_FLIGHT: usize = 64;

/// A store whose tenants take turns, cycle by cycle.
#[derive(Debug)]
struct Shop {
    locus: Locus,
    tenants: Vec<TenantContext>,
    next: AtomicUsize,
}

/// Durable cycles of many tenants beside those of one, in turns.
pub(crate) fn run(ground: &Ground, dir: &Path, full: bool) -> Result<(), BoxError> {
    let form = if full {
        Form { round: Duration::from_secs(1), runs: 9 }
    } else {
        Form { round: Duration::from_millis(300), runs: 3 }
    };
    let many = if full { 1_000 } else { 100 };
    println!("Durable, 1 KiB / {IN_FLIGHT} in flight, {} rounds of {:?} in turns.\n", form.runs, form.round);
    let runtime = Runtime::new()?;
    let shops =
        [1, many].map(|tenants| Shop::open(&dir.join(tenants.to_string()), tenants, runtime.handle()));
    let rates = contest(ground, &shops.into_iter().collect::<Result<Vec<_>, _>>()?, form, &runtime)?;
    println!("| tenants | cycles/s |\n|---|---|");
    for (tenants, rates) in [1, many].iter().zip(&rates) {
        println!("| {} | {} |", thousands(*tenants as f64), Spread::of(rates));
    }
    let times = rates[0].iter().zip(&rates[1]).map(|(one, many)| one / many).collect::<Vec<_>>();
    println!("\none tenant over {}: {}", thousands(many as f64), Spread::of(&times));
    Ok(())
}

fn contest(
    ground: &Ground,
    shops: &[Arc<Shop>],
    form: Form,
    runtime: &Runtime,
) -> Result<Vec<Vec<f64>>, BoxError> {
    let load = Load { in_flight: IN_FLIGHT, cycles_max: u64::MAX, time_max: form.round };
    let content = content(SIZE);
    let mut rates = vec![Vec::new(); shops.len()];
    for turn in 0..=form.runs {
        for who in (0..shops.len()).map(|n| (turn + n) % shops.len()) {
            ground.settle()?;
            let round = Round::of_tasks(runtime.handle(), &shops[who], load, &content)?;
            if turn > 0 {
                rates[who].push(rate(round.times.len() as u64, round.took));
            }
        }
    }
    for shop in shops {
        runtime.block_on(shop.locus.shutdown())?;
    }
    Ok(rates)
}

impl Shop {
    fn open(dir: &Path, tenants: usize, runtime: &Handle) -> Result<Arc<Self>, BoxError> {
        runtime.block_on(async {
            let locus = Locus::builder()
                .data_dir(dir.join("data"))
                .add_volume(LocalVolume::new("vol-001", dir.join("vol-001")))
                .build()
                .await?;
            let mut contexts = Vec::new();
            for number in 0..tenants {
                contexts.push(locus.tenants().create(format!("tenant-{number:06}")).await?);
            }
            Ok(Arc::new(Self { locus, tenants: contexts, next: AtomicUsize::new(0) }))
        })
    }
}

impl AsTask for Shop {
    /// Whoever leases has written a file of that tenant before.
    async fn cycle(&self, content: &Bytes, _alone: bool) -> Result<(), BoxError> {
        let tenant = &self.tenants[self.next.fetch_add(1, Ordering::Relaxed) % self.tenants.len()];
        self.locus.pool().write(tenant, content.clone(), WriteOptions::new()).await?;
        let file = self.locus.scheduler().next(tenant).await?.ok_or("no file was ready")?;
        if self.locus.pool().read(tenant, &file.key).await?.bytes().await? != content {
            return Err("another content came back".into());
        }
        Ok(self.locus.scheduler().complete(&file.lease).await?)
    }

    async fn settle(&self) -> Result<(), BoxError> {
        Ok(self.locus.cleanup().settled().await?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shop_has_its_turns() {
        let temp = tempfile::tempdir().unwrap();
        let (ground, runtime) = (Ground::below(temp.path()).unwrap(), Runtime::new().unwrap());
        let open = |tenants: usize| {
            Shop::open(&temp.path().join(tenants.to_string()), tenants, runtime.handle()).unwrap()
        };
        let form = Form { round: Duration::from_millis(10), runs: 2 };
        let rates = contest(&ground, &[open(1), open(3)], form, &runtime).unwrap();
        assert!(rates.iter().all(|rates| rates.len() == 2 && rates.iter().all(|rate| *rate > 0.0)));
    }
}
