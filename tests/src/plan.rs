//! What a program that may die is to do.

use std::{path::PathBuf, sync::Arc, time::Duration};

use locus::{
    Builder, Durability, Error, LocalVolume, Locus, OrphanPolicy, OsDisk, Result, RetryPolicy, Settings,
    UploadId,
};
use serde::{Deserialize, Serialize};

use crate::OnCaller;

/// The tenants of every plan.
pub const TENANTS: [&str; 3] = ["acme", "globex", "initech"];

/// Logical directories that each tenant uses.
pub const DIRECTORIES: u64 = 3;

const INLINE_MAX: u64 = 16 << 10;

/// What a program does until it dies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Form {
    /// Writers and workers of all tenants beside each other, and now and then a new start, for ever.
    Busy,
    /// A few steps of each kind, one after the other, over two openings.
    Short,
    /// Uploads content `first` in pieces, or goes on with that, then waits to be killed.
    Upload {
        /// Length of the whole.
        bytes: u64,
        /// Length of a piece.
        piece: u64,
        /// What was begun before.
        begun: Option<UploadId>,
    },
    /// Streams a content of unknown length in, and out to a worker.
    Stream {
        /// Length of the whole.
        bytes: u64,
    },
}

/// A store, and what is done with it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Plan {
    /// Where the store and its volumes lie.
    pub dir: PathBuf,
    /// What is promised.
    pub durability: Durability,
    /// What is done.
    pub form: Form,
    /// What makes the contents.
    pub seed: u64,
    /// The number of the first write.
    pub first: u64,
    /// All work of calls on disks is done on one thread.
    pub on_caller: bool,
}

impl Plan {
    /// The store of this plan.
    pub fn builder(&self) -> Builder {
        let mut settings = Settings::default();
        settings.background.probe_interval = Duration::from_millis(200);
        settings.journal.checkpoint_size = 256 << 10;
        let orphans = &mut settings.cleanup.orphans;
        (orphans.age, orphans.policy) = (Duration::ZERO, OrphanPolicy::Delete);
        let retry = RetryPolicy { initial_delay: Duration::from_millis(1), ..RetryPolicy::default() };
        let builder = Locus::builder()
            .settings(settings)
            .data_dir(self.dir.join("data"))
            .durability(self.durability)
            .retry_policy(retry)
            .segment_size(1 << 20)
            .landing_zone_max(4 << 20)
            .inline_content_max(INLINE_MAX);
        let builder = if self.on_caller {
            builder.disk(Arc::new(OnCaller::default()))
        } else {
            builder.disk(Arc::new(OsDisk))
        };
        let builder = TENANTS.into_iter().fold(builder, Builder::add_tenant);
        self.volumes().into_iter().enumerate().fold(builder, |builder, (at, dir)| {
            builder.add_volume(LocalVolume::new(format!("vol-{at}"), dir))
        })
    }

    /// Opens it. A program that another thread of this one is just starting holds the lock of a closed store for a moment,
    /// until it has become that program.
    ///
    /// # Errors
    /// What the store says.
    pub async fn open(&self) -> Result<Locus> {
        loop {
            match self.builder().build().await {
                Err(Error::AlreadyOpen { .. }) => tokio::task::yield_now().await,
                done => return done,
            }
        }
    }

    /// The directories of its volumes.
    #[must_use]
    pub fn volumes(&self) -> [PathBuf; 2] {
        [0, 1].map(|at| self.dir.join(format!("vol-{at}")))
    }

    /// Whose write number `n` is.
    #[must_use]
    pub fn tenant(n: u64) -> &'static str {
        TENANTS[usize::try_from(n % 3).expect("because it is small")]
    }

    /// The logical directory of write number `n`.
    #[must_use]
    pub fn directory(n: u64) -> String {
        format!("/{}", n / 3 % DIRECTORIES)
    }

    /// The name of write number `n`.
    #[must_use]
    pub fn name(n: u64) -> String {
        format!("{n}.bin")
    }

    /// The number of the write that brought a name.
    #[must_use]
    pub fn number(name: Option<&str>) -> Option<u64> {
        name?.strip_suffix(".bin")?.parse().ok()
    }
}
