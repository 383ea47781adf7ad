//! One content in pieces, several at a time and in any order, as often as it takes.

use std::{future::pending, sync::Arc};

use locus::{UploadId, UploadOptions, prelude::*};
use locus_testkit::SeededEntropy;
use locus_tests::{Note, Plan, content};
use parking_lot::Mutex;
use tokio::{runtime, task::JoinSet};

/// Pieces on their way at the same time.
const AT_ONCE: usize = 4;

pub(crate) fn run(plan: &Plan, bytes: u64, piece: u64, begun: Option<UploadId>) {
    let runtime = runtime::Builder::new_multi_thread().worker_threads(2).enable_time().build().unwrap();
    runtime.block_on(async {
        let locus = plan.open().await.unwrap();
        let acme = locus.tenants().get(Plan::tenant(0)).await.unwrap();
        let id = match begun {
            Some(id) => id,
            None => begin(&locus, &acme, plan, bytes).await,
        };
        match locus.pool().resume_upload(&acme, &id).await {
            Ok(upload) => send(plan, &upload, piece).await,
            Err(Error::UploadNotFound { .. }) => {} // its answer was lost
            Err(error) => panic!("{error:?}"),
        }
        let key = locus.pool().finish_upload(&acme, &id).await.unwrap();
        Note::Wrote { n: plan.first, key }.tell();
        pending::<()>().await;
    });
}

async fn begin(locus: &Locus, acme: &TenantContext, plan: &Plan, bytes: u64) -> UploadId {
    let options = UploadOptions::new(bytes).original_name(Plan::name(plan.first));
    let id = locus.pool().upload(acme, options).await.unwrap().id();
    Note::Begun { id }.tell();
    id
}

/// Sends what is not confirmed.
async fn send(plan: &Plan, upload: &locus::Upload, piece: u64) {
    let missing = upload.info().unwrap().missing();
    let mut pieces: Vec<_> = missing
        .iter()
        .flat_map(|range| {
            assert!(range.start.is_multiple_of(piece), "a piece is confirmed as a whole: {range:?}");
            (range.start..range.end).step_by(piece as usize).map(|from| (from, piece.min(range.end - from)))
        })
        .collect();
    let random = SeededEntropy::new(plan.seed ^ pieces.len() as u64);
    for at in (1..pieces.len()).rev() {
        pieces.swap(at, random.below(at as u64 + 1) as usize);
    }
    let (pieces, seed, mut tasks) = (Arc::new(Mutex::new(pieces)), plan.seed, JoinSet::new());
    for _ in 0..AT_ONCE {
        let (pieces, upload) = (Arc::clone(&pieces), upload.clone());
        tasks.spawn(async move {
            loop {
                let Some((from, bytes)) = pieces.lock().pop() else { return };
                let at = from / piece;
                upload.write_at(from, content(seed, at, bytes)).await.unwrap();
                Note::Piece { at }.tell();
            }
        });
    }
    tasks.join_all().await;
    Note::Finishing.tell();
}
