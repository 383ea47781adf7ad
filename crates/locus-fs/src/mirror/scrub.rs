//! All blobs looked at, and what was noted or suspected put right.

use std::sync::Arc;

use locus_core::{BlobPath, Result, ScrubProgress};
use tracing::{info, warn};

use crate::mirror::{core::Core, listing::Place, mend::Mended};

/// Blobs listed, and notes taken up, at a time.
const PAGE: usize = 256;

fn add(seen: &mut ScrubProgress, done: &Mended) {
    seen.looked_at += 1;
    seen.bytes = seen.bytes.saturating_add(done.bytes);
    seen.repaired_missing += done.missing;
    seen.repaired_damaged += done.damaged;
    seen.removed += done.removed;
    seen.undecidable += u64::from(done.undecidable);
    seen.postponed += u64::from(done.postponed);
}

impl Core {
    pub(crate) async fn scrub(
        &self,
        mut progress: impl FnMut(&ScrubProgress) + Send,
    ) -> Result<ScrubProgress> {
        let _turn = self.mending.lock().await;
        self.may_be_used()?;
        let mut seen = ScrubProgress::default();
        let doubts: Vec<_> = {
            let ledger = self.ledger.lock();
            (0..self.members.len()).map(|n| ledger.doubt_of(n)).collect()
        };
        self.mend_noted(&mut seen).await?;
        progress(&seen);
        let mut all_up = self.up().len() == self.members.len();
        let mut place = Place::default();
        let mut in_use = Vec::new();
        loop {
            self.may_be_used()?;
            let is_up = |n: usize| self.members[n].up().is_some();
            all_up &= (0..self.members.len()).all(is_up);
            let (blobs, next) = self.page(place, None, PAGE, is_up).await?;
            for blob in blobs {
                self.may_be_used()?; // a volume that is closed waits for this
                match self.busy.claim(&blob.path) {
                    Some(_claim) => add(&mut seen, &self.mend(&blob.path).await),
                    None => in_use.push(blob.path), // few: as many as calls are running
                }
                progress(&seen);
            }
            match next {
                Some(next) => place = next,
                None => break,
            }
        }
        for at in in_use {
            let _claim = self.busy.wait(&at).await;
            add(&mut seen, &self.mend(&at).await);
            progress(&seen);
        }
        if all_up && seen.postponed == 0 {
            let mut ledger = self.ledger.lock();
            doubts.iter().enumerate().for_each(|(n, doubt)| ledger.settle_whole(n, doubt));
        }
        self.forget_spent().await;
        progress(&seen);
        info!(volume = %self.id, looked_at = seen.looked_at, missing = seen.repaired_missing, damaged = seen.repaired_damaged, undecidable = seen.undecidable, "mirror scrubbed");
        Ok(seen)
    }

    /// Repairs what is noted of members that are here, and what reads found.
    pub(crate) async fn mend_all(&self) -> Result<ScrubProgress> {
        let _turn = self.mending.lock().await;
        let mut seen = ScrubProgress::default();
        self.mend_noted(&mut seen).await?;
        Ok(seen)
    }

    async fn mend_noted(&self, seen: &mut ScrubProgress) -> Result<()> {
        let mut after = None;
        loop {
            self.may_be_used()?;
            let is_up = |n: usize| self.members[n].writable().is_some();
            let page = self.ledger.lock().page(is_up, after.as_ref(), PAGE);
            let Some(last) = page.last() else { break };
            after = Some(last.clone());
            for (n, at) in &page {
                self.may_be_used()?;
                if self.ledger.lock().at(*n, at).is_some() {
                    self.look_after(at, seen).await; // unless it was settled along with another member's
                }
            }
        }
        let suspects = std::mem::take(&mut *self.suspects.lock());
        for at in suspects {
            self.look_after(&at, seen).await;
        }
        Ok(())
    }

    /// A blob in use, being written or deleted, is looked at another time.
    async fn look_after(&self, at: &BlobPath, seen: &mut ScrubProgress) {
        let done = match self.busy.claim(at) {
            Some(_claim) => self.mend(at).await,
            None => Mended { postponed: true, ..Mended::default() },
        };
        add(seen, &done);
    }

    /// Whether there is something to be repaired on members that are here.
    fn has_work(&self) -> bool {
        let ups: Vec<_> = (0..self.members.len()).filter(|n| self.members[*n].writable().is_some()).collect();
        let ledger = self.ledger.lock();
        !self.suspects.lock().is_empty()
            || ups.iter().any(|n| ledger.behind_of(*n) > 0)
            || self.is_in_doubt(&ups, &ledger)
    }

    /// A member may lack anything, and all are here to tell.
    fn is_in_doubt(&self, ups: &[usize], ledger: &crate::mirror::ledger::Ledger) -> bool {
        ups.len() == self.members.len() && ups.iter().any(|n| ledger.is_whole(*n))
    }

    /// Repairs beside everything else, when there is something to repair and nobody does it yet. Without a runtime it is
    /// done now.
    pub(crate) async fn tend(self: &Arc<Self>) {
        if !self.has_work() || self.mending.try_lock().is_err() {
            return;
        }
        let core = Arc::clone(self);
        let work = async move {
            let all_up = core.members.iter().all(|member| member.writable().is_some());
            let needs_scrub = core.ledger.lock().open().1 > 0 && all_up;
            let done = if needs_scrub { core.scrub(|_| {}).await } else { core.mend_all().await };
            if let Err(error) = done
                && !core.is_closed()
            {
                warn!(volume = %core.id, %error, "mirror could not be repaired; tried again at the next probe");
            }
        };
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) if self.context.disk.blocks() => drop(runtime.spawn(work)),
            _ => work.await,
        }
    }
}
