//! A data directory that is there: opened with the volumes that it had.

use std::path::Path;

use locus::prelude::*;
use locus_core::BoxError;

/// Opens it. No watcher runs, and no sweep unless it is asked for.
pub(crate) async fn open(data: &Path, config: Option<&Path>) -> Result<Locus, BoxError> {
    let inspection = Locus::inspect(data).await?;
    let mut settings = match config {
        Some(file) => Settings::load(file)?,
        None => Settings::default(),
    };
    settings.watchers.clear(); // their folders need not be there
    let builder = Locus::builder().settings(settings).data_dir(data).on_request();
    let builder = inspection.volumes.iter().fold(builder, |builder, volume| {
        builder.add_volume(LocalVolume::new(volume.id.as_str(), &volume.path))
    });
    Ok(builder.build().await?)
}
