//! The calls of a store, each with its notes.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use locus::{FailOutcome, Outcome, prelude::*};
use locus_tests::{Note, Plan, content};

/// Calls that find a lease without effect when the file was deleted meanwhile.
const OF_A_LEASE: [&str; 4] = ["complete", "fail", "release", "read"];

/// An open store, told of by [`Note`]s.
#[derive(Debug, Clone)]
pub(crate) struct Store {
    plan: Arc<Plan>,
    pub(crate) locus: Locus,
    tenants: Arc<HashMap<String, TenantContext>>,
    next: Arc<AtomicU64>,
    syncs: Arc<AtomicU64>,
    /// Written here, by key; not all of them live.
    written: Arc<Mutex<Vec<(u64, FileKey)>>>,
}

impl Store {
    /// `None` when it cannot be opened. `next` is the number of the next write.
    pub(crate) async fn open(plan: &Plan, next: &Arc<AtomicU64>) -> Option<Self> {
        Note::Opening.tell();
        let locus = match plan.builder().build().await {
            Ok(locus) => locus,
            Err(error) => return told("open", &error),
        };
        let mut tenants = HashMap::new();
        for id in locus_tests::TENANTS {
            match locus.tenants().get(id).await {
                Ok(context) => tenants.insert(id.to_owned(), context),
                Err(error) => return told("get a tenant", &error),
            };
        }
        Note::Opened.tell();
        let (plan, tenants) = (Arc::new(plan.clone()), Arc::new(tenants));
        Some(Self {
            plan,
            locus,
            tenants,
            next: Arc::clone(next),
            syncs: Arc::default(),
            written: Arc::default(),
        })
    }

    pub(crate) fn tenant(&self, n: u64) -> &TenantContext {
        &self.tenants[Plan::tenant(n)]
    }

    pub(crate) async fn write(&self, bytes: u64) {
        let n = self.next.fetch_add(1, Relaxed);
        let content = content(self.plan.seed, n, bytes);
        let options = WriteOptions::new().original_name(Plan::name(n)).directory(Plan::directory(n));
        Note::Write { n, bytes }.tell();
        match self.locus.pool().write(self.tenant(n), content, options).await {
            Ok(key) => {
                Note::Wrote { n, key }.tell();
                self.written.lock().unwrap().push((n, key));
            }
            Err(error) => {
                told::<()>("write", &error);
                if !is_unknown(&error) {
                    Note::Refused { n }.tell();
                }
            }
        }
    }

    /// Several files of one tenant by one record.
    pub(crate) async fn write_batch(&self, files: u64, bytes: u64) {
        let first = self.next.fetch_add(3 * files, Relaxed);
        let each: Vec<u64> = (0..files).map(|at| first + 3 * at).collect();
        let batch = each.iter().map(|&n| {
            Note::Write { n, bytes }.tell();
            let options = WriteOptions::new().original_name(Plan::name(n)).directory(Plan::directory(n));
            (Content::from(content(self.plan.seed, n, bytes)), options)
        });
        match self.locus.pool().write_batch(self.tenant(first), batch.collect()).await {
            Ok(keys) => each.iter().zip(keys).for_each(|(&n, key)| Note::Wrote { n, key }.tell()),
            Err(error) => {
                told::<()>("write a batch", &error);
                if !is_unknown(&error) {
                    each.iter().for_each(|&n| Note::Refused { n }.tell());
                }
            }
        }
    }

    /// Leases the next file of the tenant of `n`, and looks at it.
    pub(crate) async fn lease(&self, n: u64) -> Option<(u64, LeasedFile)> {
        let file = match self.locus.scheduler().next(self.tenant(n)).await {
            Ok(file) => file?,
            Err(error) => return told("lease", &error),
        };
        self.look_at(file).await
    }

    pub(crate) async fn lease_any(&self) -> Option<(u64, LeasedFile)> {
        let file = match self.locus.scheduler().next_any().await {
            Ok(file) => file?,
            Err(error) => return told("lease any", &error),
        };
        self.look_at(file).await
    }

    async fn look_at(&self, file: LeasedFile) -> Option<(u64, LeasedFile)> {
        let Some(n) = Plan::number(file.original_name.as_deref()) else {
            Note::Broken { text: format!("nobody wrote {file:?}") }.tell();
            return None;
        };
        let read = match self.locus.pool().read_leased(&file.lease).await {
            Ok(reader) => reader.bytes().await,
            Err(error) => Err(error),
        };
        match read {
            Ok(bytes) if bytes[..] == content(self.plan.seed, n, file.size)[..] => {
                Note::Leased { n, key: file.key }.tell();
                Some((n, file))
            }
            Ok(_) => {
                Note::Broken { text: format!("other content: {file:?}") }.tell();
                None
            }
            Err(error) => told("read", &error),
        }
    }

    pub(crate) async fn complete(&self, files: &[(u64, LeasedFile)]) {
        files.iter().for_each(|&(n, _)| Note::End { n }.tell());
        let leases: Vec<Lease> = files.iter().map(|(_, file)| file.lease.clone()).collect();
        let done = match &leases[..] {
            [lease] => self.locus.scheduler().complete(lease).await,
            leases => self.locus.scheduler().complete_batch(leases).await,
        };
        for &(n, _) in files {
            ended("complete", n, &done);
        }
    }

    pub(crate) async fn fail(&self, file: &LeasedFile) -> Option<FailOutcome> {
        match self.locus.scheduler().fail(&file.lease, "not today").await {
            Ok(outcome) => Some(outcome),
            Err(error) => told("fail", &error),
        }
    }

    pub(crate) async fn release(&self, file: &LeasedFile) {
        if let Err(error) = self.locus.scheduler().release(&file.lease).await {
            told::<()>("release", &error);
        }
    }

    /// Deletes the file that was written last, leased or not.
    pub(crate) async fn delete(&self) {
        let Some((n, key)) = self.newest() else { return };
        Note::End { n }.tell();
        match self.locus.pool().delete_with(self.tenant(n), &key, true).await {
            Err(Error::FileNotFound { .. }) => {} // its worker was faster
            done => ended("delete", n, &done),
        }
    }

    fn newest(&self) -> Option<(u64, FileKey)> {
        self.written.lock().unwrap().pop()
    }

    pub(crate) async fn sync(&self) {
        let id = self.syncs.fetch_add(1, Relaxed);
        Note::Sync { id }.tell();
        match self.locus.sync().await {
            Ok(()) => Note::Synced { id }.tell(),
            Err(error) => drop(told::<()>("sync", &error)),
        }
    }

    pub(crate) async fn settle(&self) {
        if let Err(error) = self.locus.cleanup().settled().await {
            told::<()>("settle", &error);
        }
    }

    pub(crate) async fn shutdown(self) {
        if let Err(error) = self.locus.shutdown().await {
            told::<()>("shut down", &error);
        }
    }

    /// Files that somebody may still be given.
    pub(crate) fn waiting(&self) -> u64 {
        self.locus.counts().values().map(|counts| counts.pending).sum()
    }
}

fn ended(op: &str, n: u64, done: &Result<(), Error>) {
    match done {
        Ok(()) => Note::Ended { n }.tell(),
        Err(error) => {
            told::<()>(op, error);
            if !is_unknown(error) {
                Note::Kept { n }.tell();
            }
        }
    }
}

fn is_unknown(error: &Error) -> bool {
    matches!(error, Error::Poisoned { outcome: Outcome::Unknown })
}

/// Tells of an error that a caller has to expect, and of a broken promise where it is none of these.
fn told<T>(op: &str, error: &Error) -> Option<T> {
    let causes = std::iter::successors(Some(error as &dyn std::error::Error), |error| error.source());
    let causes: Vec<String> = causes.map(ToString::to_string).collect();
    let text = format!("{} ({error:?})", causes.join(": "));
    let op = op.to_owned();
    match error {
        // Its owner deleted it while it was out.
        Error::LeaseLost { .. } | Error::FileNotFound { .. } if OF_A_LEASE.contains(&&*op) => {}
        Error::InsufficientStorage { .. }
        | Error::VolumeUnavailable { .. }
        | Error::Poisoned { .. }
        | Error::ShuttingDown
        | Error::Io { .. } => Note::Error { op, text }.tell(),
        _ => Note::Broken { text: format!("{op}: {text}") }.tell(),
    }
    None
}
