//! Writers and workers of all tenants beside each other, and now and then a new start, for ever.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
};

use locus::Entropy;
use locus_testkit::SeededEntropy;
use locus_tests::Plan;
use tokio::{runtime, task::JoinSet};

use crate::store::Store;

const WRITERS: u64 = 3;
const WORKERS: u64 = 3;

/// Writers wait beyond so many files.
const WAITING_MAX: u64 = 60;

/// Most steps of a writer until the store is closed and opened again.
const STEPS_MAX: u64 = 150;

pub(crate) fn run(plan: &Plan) {
    let runtime = runtime::Builder::new_multi_thread().worker_threads(2).enable_time().build().unwrap();
    runtime.block_on(async {
        let next = Arc::new(AtomicU64::new(plan.first));
        let random = SeededEntropy::new(plan.seed ^ plan.first);
        while let Some(store) = Store::open(plan, &next).await {
            open(&store, &random).await;
            store.shutdown().await;
        }
    });
}

/// What happens between two openings.
async fn open(store: &Store, random: &SeededEntropy) {
    let (mut writers, mut workers) = (JoinSet::new(), JoinSet::new());
    let over = Arc::new(AtomicBool::new(false));
    for _ in 0..WRITERS {
        let (store, random) = (store.clone(), SeededEntropy::new(random.next_u64()));
        writers.spawn(async move {
            for _ in 0..20 + random.below(STEPS_MAX) {
                write(&store, &random).await;
            }
        });
    }
    for _ in 0..WORKERS {
        let (store, random, over) = (store.clone(), SeededEntropy::new(random.next_u64()), Arc::clone(&over));
        workers.spawn(async move {
            while !over.load(Relaxed) {
                work(&store, &random).await;
                tokio::task::yield_now().await;
            }
        });
    }
    writers.join_all().await;
    over.store(true, Relaxed);
    workers.join_all().await;
}

async fn write(store: &Store, random: &SeededEntropy) {
    match random.below(24) {
        0 => store.delete().await,
        1 => store.sync().await,
        2 => store.settle().await,
        3 => store.write_batch(1 + random.below(4), random.below(24 << 10)).await,
        4..10 => store.write(random.below(100 << 10)).await,
        _ => store.write(random.below(16 << 10)).await,
    }
    let mut patience = 200;
    while store.waiting() > WAITING_MAX && patience > 0 {
        tokio::task::yield_now().await;
        patience -= 1;
    }
}

async fn work(store: &Store, random: &SeededEntropy) {
    let file = match random.below(3) {
        0 => store.lease(random.below(3)).await,
        _ => store.lease_any().await,
    };
    let Some(file) = file else { return };
    match random.below(16) {
        0 | 1 => drop(store.fail(&file.1).await),
        2 => store.release(&file.1).await,
        3 => {} // left lying until the lease runs out or the process dies
        4..7 => {
            let mut batch = vec![file];
            batch.extend(store.lease(batch[0].0).await);
            store.complete(&batch).await;
        }
        _ => store.complete(&[file]).await,
    }
}
