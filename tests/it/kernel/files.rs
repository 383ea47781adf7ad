//! Files that a story writes and comes back to, beside an open store.

use locus::prelude::*;
use locus_tests::Plan;

use crate::support::{chain, content, in_time};

/// What was confirmed and lives, by the number of its write.
#[derive(Debug)]
pub(crate) struct Files {
    seed: u64,
    next: u64,
    living: Vec<(u64, u64, FileKey)>,
}

impl Files {
    pub(crate) fn new(seed: u64) -> Self {
        Self { seed, next: 0, living: Vec::new() }
    }

    pub(crate) async fn write(&mut self, locus: &Locus, bytes: u64) -> Result<(), Error> {
        let n = self.next;
        self.next += 1;
        let tenant = locus.tenants().get(Plan::tenant(n)).await.unwrap();
        let options = WriteOptions::new().original_name(Plan::name(n)).directory(Plan::directory(n));
        let key =
            in_time("a write", locus.pool().write(&tenant, content(self.seed, n, bytes), options)).await?;
        self.living.push((n, bytes, key));
        Ok(())
    }

    /// Every file is there, with its content.
    pub(crate) async fn check(&self, locus: &Locus) {
        for (n, bytes, key) in &self.living {
            let tenant = locus.tenants().get(Plan::tenant(*n)).await.unwrap();
            let read = async { locus.pool().read(&tenant, key).await?.bytes().await };
            let read =
                in_time("a read", read).await.unwrap_or_else(|error| panic!("write {n}: {}", chain(&error)));
            assert!(read[..] == content(self.seed, *n, *bytes)[..], "write {n} has other content");
        }
    }

    /// Completes up to so many files, and says how many there were.
    pub(crate) async fn complete(&mut self, locus: &Locus, files: usize) -> usize {
        for done in 0..files {
            let leased = in_time("a lease", locus.scheduler().next_any()).await;
            let Some(file) = leased.unwrap_or_else(|error| panic!("lease: {}", chain(&error))) else {
                return done;
            };
            let completed = in_time("a completion", locus.scheduler().complete(&file.lease)).await;
            completed.unwrap_or_else(|error| panic!("complete: {}", chain(&error)));
            self.living.retain(|(_, _, key)| *key != file.key);
        }
        files
    }

    pub(crate) fn count(&self) -> usize {
        self.living.len()
    }
}
