//! What a run is asked to do.

use std::{
    fs,
    path::{Path, PathBuf},
};

use locus::{BoxError, JournalSettings, Settings};
use locus_core::Error;

use crate::args::RunArgs;

/// Where files are kept unless `--data` or a settings file says otherwise.
pub(crate) const DATA_DIR: &str = "./locus-console-data";

/// Where files that were dropped are kept unless `--data` says otherwise.
pub(crate) const WATCH_DATA_DIR: &str = "./locus-console-watch";

/// The settings of this sample, in the repository.
const CONSOLE_TOML: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/console.toml");

/// The repository.
const REPOSITORY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");

/// Of the files of the demonstration, so many % fail once.
const DEMO_FAIL_PERCENT: f64 = 5.0;

/// A landing zone that was asked for has so many segments.
const SEGMENTS: u64 = 8;
/// Segments are never smaller.
const SEGMENT_SIZE_MIN: u64 = 1 << 20;
/// Segments are a multiple of this, which every disk can write as a whole.
const SEGMENT_STEP: u64 = 4 << 10;
/// A segment holds at least so many of the longest contents.
const CONTENTS_PER_SEGMENT: u64 = 16;

/// What a run is asked to do, checked.
#[derive(Debug)]
pub(crate) struct Plan {
    /// The folder to take in, without links in its path.
    pub(crate) input: PathBuf,
    /// The data directory.
    pub(crate) data: PathBuf,
    pub(crate) settings: Settings,
    /// Volumes to make in the data directory, beside those of the settings.
    pub(crate) volumes: u32,
    pub(crate) tenants: u32,
    pub(crate) workers: usize,
    pub(crate) fail_percent: f64,
    pub(crate) json: bool,
    /// Takes sources in again that were finished in an earlier run.
    pub(crate) again: bool,
}

impl Plan {
    /// The run that is made without arguments: the repository's own files, each time anew.
    pub(crate) fn demo() -> Result<Self, BoxError> {
        let args = RunArgs {
            input: REPOSITORY.into(),
            data: None,
            volumes: None,
            tenants: 2,
            workers: Some(8),
            fail_percent: DEMO_FAIL_PERCENT,
            durability: None,
            max_deliveries: None,
            inline: None,
            landing_zone: None,
            config: None,
            json: false,
        };
        Ok(Self { again: true, ..Self::of(args)? })
    }

    /// The run that was asked for.
    pub(crate) fn of(args: RunArgs) -> Result<Self, BoxError> {
        let input = existing_folder(&args.input)?;
        let mut settings = match &args.config {
            Some(file) => Settings::load(file)?,
            None => sample_settings()?,
        };
        settings.watchers.clear(); // a run takes its folder in by itself
        if let Some(durability) = args.durability {
            settings.store.durability = durability.into();
        }
        if let Some(deliveries) = args.max_deliveries {
            settings.leases.max_deliveries = Some(deliveries);
        }
        if let Some(bytes) = args.inline {
            settings.journal.inline_content_max = bytes;
        }
        if let Some(bytes) = args.landing_zone {
            divide_landing_zone(&mut settings.journal, bytes);
        }
        let data = match (args.data, &args.config) {
            (Some(data), _) => data,
            (None, Some(_)) => settings.store.data_dir.clone(),
            (None, None) => DATA_DIR.into(),
        };
        let ours = args.volumes.unwrap_or(if settings.volumes.is_empty() { 2 } else { 0 });
        let volumes = ours.max(volumes_in(&data));
        let workers = args.workers.map_or(settings.workers.concurrency, |workers| workers as usize);
        Ok(Self {
            input,
            data,
            settings,
            volumes,
            tenants: args.tenants,
            workers,
            fail_percent: args.fail_percent,
            json: args.json,
            again: false,
        })
    }

    /// Names and paths of the volumes to make in the data directory.
    pub(crate) fn own_volumes(&self) -> impl Iterator<Item = (String, PathBuf)> {
        (1..=self.volumes).map(|n| {
            let name = volume_name(n);
            let path = self.data.join(&name);
            (name, path)
        })
    }
}

/// A landing zone of so many bytes: segments of an eighth of it, at most as large as the settings say, and an inline limit
/// that fits them.
fn divide_landing_zone(journal: &mut JournalSettings, bytes: u64) {
    let eighth = bytes / SEGMENTS / SEGMENT_STEP * SEGMENT_STEP;
    journal.landing_zone_max = Some(bytes);
    journal.segment_size = eighth.min(journal.segment_size).max(SEGMENT_SIZE_MIN);
    let longest = journal.segment_size / CONTENTS_PER_SEGMENT;
    journal.inline_content_max = journal.inline_content_max.min(longest);
}

fn volume_name(n: u32) -> String {
    format!("vol-{n:03}")
}

/// How many volumes an earlier run made: files may wait on them.
fn volumes_in(data: &Path) -> u32 {
    (1..1_000).rev().find(|n| data.join(volume_name(*n)).is_dir()).unwrap_or(0)
}

fn existing_folder(path: &Path) -> Result<PathBuf, BoxError> {
    let found = fs::canonicalize(path).map_err(Error::io("open the input folder", path))?;
    if !found.is_dir() {
        return Err(format!("the input {} is not a folder", path.display()).into());
    }
    Ok(found)
}

/// The file `console.toml`, or the same settings where the repository is not at hand.
fn sample_settings() -> Result<Settings, BoxError> {
    if Path::new(CONSOLE_TOML).is_file() {
        return Ok(Settings::load(CONSOLE_TOML)?);
    }
    Ok(built_in_settings())
}

/// The settings of this sample with the folders that they watch.
pub(crate) fn settings_with_watchers() -> Result<Settings, BoxError> {
    if !Path::new(CONSOLE_TOML).is_file() {
        return Err("the sample's own settings are not at hand: name a file with --config".into());
    }
    Ok(Settings::load(CONSOLE_TOML)?)
}

fn built_in_settings() -> Settings {
    let mut settings = Settings::default();
    settings.retry.initial_delay = std::time::Duration::from_millis(100);
    settings.leases.max_deliveries = Some(1_000);
    settings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_landing_zone_is_divided_into_eight_segments_that_hold_sixteen_contents() {
        for (zone, inline, segment, longest) in [
            (4 << 20, 64 << 10, 1 << 20, 64 << 10),
            (8 << 20, 1 << 20, 1 << 20, 64 << 10),
            (64 << 20, 64 << 10, 8 << 20, 64 << 10),
            (64 << 20, 1 << 20, 8 << 20, 512 << 10),
            ((16 << 20) + 999, 0, 2 << 20, 0),
            (4 << 30, 64 << 10, 64 << 20, 64 << 10),
        ] {
            let mut settings = Settings::default();
            settings.journal.inline_content_max = inline;
            divide_landing_zone(&mut settings.journal, zone);
            settings.check().unwrap();
            let journal = &settings.journal;
            assert_eq!((journal.segment_size, journal.inline_content_max), (segment, longest), "{zone}");
            assert_eq!(journal.landing_zone_max, Some(zone));
        }
        let mut settings = Settings::default();
        divide_landing_zone(&mut settings.journal, (4 << 20) - 1);
        assert!(settings.check().unwrap_err().to_string().contains("journal.landing_zone_max"));
    }

    #[test]
    fn the_built_in_settings_are_those_of_the_file() {
        let mut of_file = Settings::load_with(Path::new(CONSOLE_TOML), []).unwrap();
        of_file.store.data_dir = Settings::default().store.data_dir; // relative to the file
        assert_eq!(of_file.watchers.len(), 2, "one of each mode");
        of_file.watchers.clear();
        of_file.cleanup = Settings::default().cleanup; // a run ends before anything is swept
        assert_eq!(of_file, built_in_settings());
    }
}
