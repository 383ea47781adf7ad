//! Locus itself, through its public facade.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use locus::prelude::*;
use tokio::runtime::Handle;

use crate::{
    BoxError,
    cycles::{AsTask, Contender, Kind, Label, Load, Promise, Rests, Round},
    size, thousands,
};

/// Longest content that rests in the journal by default.
const INLINE_DEFAULT: usize = 64 << 10;

/// An open store with one volume and one tenant, and with the defaults but for what is promised and where contents rest.
#[derive(Debug)]
pub struct Queue {
    label: Label,
    place: Place,
    open: Arc<Open>,
    runtime: Handle,
}

/// Where contents rest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// In the journal up to the default limit; no longer ones are taken here.
    Journal,
    /// In the journal up to this limit; only contents that are longer than the default limit are taken here.
    JournalTo(usize),
    /// On the volume, however short.
    File,
}

#[derive(Debug)]
struct Open {
    locus: Locus,
    acme: TenantContext,
    /// Files that were leased, and those of them whose content was on a volume.
    leased: AtomicU64,
    on_volume: AtomicU64,
}

impl Place {
    fn name(self) -> String {
        match self {
            Self::Journal => "Locus journal".into(),
            Self::JournalTo(bytes) => format!("Locus journal to {}", size(bytes)),
            Self::File => "Locus file each".into(),
        }
    }

    fn rests(self) -> Rests {
        if self == Self::File { Rests::File } else { Rests::Journal }
    }

    /// `inline_content_max`, where that is not the default.
    fn inline_max(self) -> Option<usize> {
        match self {
            Self::Journal => None,
            Self::JournalTo(bytes) => Some(bytes),
            Self::File => Some(0),
        }
    }

    /// Whether contents of so many bytes are taken here.
    #[must_use]
    pub fn takes(self, bytes: usize) -> bool {
        match self {
            Self::Journal => bytes <= INLINE_DEFAULT,
            Self::JournalTo(most) => (INLINE_DEFAULT + 1..=most).contains(&bytes),
            Self::File => true,
        }
    }
}

impl Queue {
    /// Opens a store in `dir`.
    ///
    /// # Errors
    /// What Locus says.
    pub fn open(dir: &Path, place: Place, promise: Promise, runtime: Handle) -> Result<Self, BoxError> {
        let (durability, complete) = match promise {
            Promise::Durable => (Durability::Durable, Durability::Durable),
            Promise::LazyCompletions => (Durability::Durable, Durability::Buffered),
            Promise::Buffered => (Durability::Buffered, Durability::Buffered),
        };
        let mut builder = Locus::builder();
        if let Some(bytes) = place.inline_max() {
            builder = builder.inline_content_max(bytes as u64);
        }
        let builder = builder
            .data_dir(dir.join("data"))
            .add_volume(LocalVolume::new("vol-001", dir.join("vol-001")))
            .add_tenant("acme")
            .durability(durability)
            .complete_durability(complete);
        let open = runtime.block_on(async {
            let locus = builder.build().await?;
            let acme = locus.tenants().get("acme").await?;
            Ok::<_, BoxError>(Open { locus, acme, leased: AtomicU64::new(0), on_volume: AtomicU64::new(0) })
        })?;
        let label = Label::new(place.name(), Kind::Locus(place.rests()), promise);
        Ok(Self { label, place, open: Arc::new(open), runtime })
    }
}

impl Contender for Queue {
    fn label(&self) -> &Label {
        &self.label
    }

    fn settings(&self) -> String {
        let inline = self
            .place
            .inline_max()
            .map_or("defaults".into(), |bytes| format!("defaults but inline_content_max = {}", size(bytes)));
        let promise = match self.label.promise {
            Promise::Durable => "durability = Durable, complete_durability = Durable",
            Promise::LazyCompletions => "durability = Durable, complete_durability = Buffered",
            Promise::Buffered => "durability = Buffered, complete_durability = Buffered",
        };
        format!("{inline}; {promise}; one tenant, one volume")
    }

    fn takes(&self, bytes: usize) -> bool {
        self.place.takes(bytes)
    }

    fn round(&self, load: Load, content: &Bytes) -> Result<Round, BoxError> {
        Round::of_tasks(&self.runtime, &self.open, load, content)
    }

    /// Says where contents rested, as they were counted, and what became of the journal.
    fn close(self: Box<Self>) -> Result<Option<String>, BoxError> {
        let said = self.open.locus.statistics();
        self.runtime.block_on(self.open.locus.shutdown())?;
        let leased = self.open.leased.load(Ordering::Relaxed);
        let inside = leased - self.open.on_volume.load(Ordering::Relaxed);
        let percent = 100.0 * inside as f64 / leased.max(1) as f64;
        Ok(Some(format!(
            "{percent:.1} % of {} contents in the journal; {} MiB of journal, {} segments used again, {} checkpoints; \
             {} contents moved forward, {} to the volume",
            thousands(leased as f64),
            said.journal_bytes >> 20,
            thousands(said.segments_reused as f64),
            said.checkpoints,
            thousands(said.copied_forward as f64),
            thousands(said.spilled as f64)
        )))
    }
}

impl AsTask for Open {
    /// Each worker has written a file before it leases one, so there is always one to be leased.
    async fn cycle(&self, content: &Bytes, _alone: bool) -> Result<(), BoxError> {
        let Self { locus, acme, leased, on_volume } = self;
        locus.pool().write(acme, content.clone(), WriteOptions::new()).await?;
        let file = locus.scheduler().next(acme).await?.ok_or("no file was ready")?;
        if locus.pool().read(acme, &file.key).await?.bytes().await? != content {
            return Err("another content came back".into());
        }
        locus.scheduler().complete(&file.lease).await?;
        leased.fetch_add(1, Ordering::Relaxed);
        on_volume.fetch_add(u64::from(file.location().volume_id.is_some()), Ordering::Relaxed);
        Ok(())
    }

    /// Until the bytes are gone.
    async fn settle(&self) -> Result<(), BoxError> {
        Ok(self.locus.cleanup().settled().await?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_content_has_one_place_in_a_journal_and_one_on_a_volume() {
        let places = [Place::Journal, Place::JournalTo(1 << 20), Place::File];
        for bytes in [1 << 10, 16 << 10, 64 << 10, 100 << 10, 1 << 20] {
            assert_eq!(places.iter().filter(|place| place.takes(bytes)).count(), 2, "{bytes}");
        }
        assert!(Place::Journal.takes(INLINE_DEFAULT) && !Place::Journal.takes(INLINE_DEFAULT + 1));
    }
}
