//! A few steps of each kind, one after the other, over two openings.

use std::sync::{Arc, atomic::AtomicU64};

use locus_tests::Plan;
use tokio::runtime;

use crate::store::Store;

pub(crate) fn run(plan: &Plan) {
    let runtime =
        runtime::Builder::new_current_thread().enable_time().max_blocking_threads(1).build().unwrap();
    runtime.block_on(async {
        let next = Arc::new(AtomicU64::new(plan.first));
        if let Some(store) = Store::open(plan, &next).await {
            first(&store).await;
            store.shutdown().await;
        }
        if let Some(store) = Store::open(plan, &next).await {
            second(&store).await;
            store.shutdown().await;
        }
    });
}

async fn first(store: &Store) {
    for bytes in [100, 40_000, 0, 16 << 10, 30_000, 5_000, (16 << 10) + 1] {
        store.write(bytes).await;
    }
    store.write_batch(2, 1_000).await;
    store.write_batch(2, 20_000).await;
    for tenant in 0..3 {
        let leased = [store.lease(tenant).await, store.lease(tenant).await];
        match leased {
            [Some(one), Some(two)] if tenant == 0 => store.complete(&[one, two]).await,
            [Some(one), Some((_, two))] if tenant == 1 => {
                store.complete(&[one]).await;
                store.fail(&two).await;
            }
            [Some((_, one)), _] => store.release(&one).await,
            _ => {}
        }
    }
    store.settle().await;
    store.delete().await;
    store.sync().await;
    store.write(200).await;
    store.write(50_000).await;
}

async fn second(store: &Store) {
    store.write(300).await;
    store.write(60_000).await;
    for _ in 0..3 {
        if let Some(file) = store.lease_any().await {
            store.complete(&[file]).await;
        }
    }
    store.settle().await;
    store.write(400).await;
}
