//! Folders that may not be watched: those of the store, and those that are watched already.

use std::path::{Path, PathBuf};

use locus_core::{Result, WatcherId};

use crate::config::{FileWatcherConfig, invalid};

/// Refuses a folder that lies in a place of the store or contains one whose files it would take. Blocks the thread.
pub(crate) fn check_own(id: &WatcherId, config: &FileWatcherConfig, own: &[PathBuf]) -> Result<()> {
    let folder = real(&config.path);
    for place in own {
        let place = real(place);
        if folder.starts_with(&place) {
            return invalid(id, "path", format!("lies in {}, which is the store's own", place.display()));
        }
        if place.starts_with(&folder) {
            return invalid(id, "path", format!("contains {}, which is the store's own", place.display()));
        }
    }
    Ok(())
}

/// Refuses a folder that another watcher watches, or that lies in one whose subdirectories another watches, or the other
/// way round: each source would be imported twice. Blocks the thread.
pub(crate) fn check_other(
    id: &WatcherId,
    config: &FileWatcherConfig,
    other_id: &WatcherId,
    other: &FileWatcherConfig,
) -> Result<()> {
    let (folder, taken) = (real(&config.path), real(&other.path));
    let reaches = |config: &FileWatcherConfig| config.subdirectories || config.multi_tenant;
    let refused = folder == taken
        || folder.starts_with(&taken) && reaches(other)
        || taken.starts_with(&folder) && reaches(config);
    if refused {
        return invalid(id, "path", format!("is watched by {other_id} already, in {}", taken.display()));
    }
    Ok(())
}

/// Refuses a path that leads to something that is no folder. One that leads nowhere may come to be. Blocks the thread.
pub(crate) fn check_folder(id: &WatcherId, config: &FileWatcherConfig) -> Result<()> {
    match std::fs::metadata(&config.path) {
        Ok(found) if !found.is_dir() => invalid(id, "path", "is no folder"),
        _ => Ok(()),
    }
}

/// Where a path leads, as far as it leads anywhere.
pub(crate) fn real(path: &Path) -> PathBuf {
    if let Ok(real) = std::fs::canonicalize(path) {
        return real;
    }
    match (path.parent(), path.file_name()) {
        (Some(parent), Some(name)) if !parent.as_os_str().is_empty() => real(parent).join(name),
        _ => path.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::beside("in", "out", true, true)]
    #[case::the_same("in", "in", true, false)]
    #[case::within("in", "in/deep", true, false)]
    #[case::around("in/deep", "in", true, false)]
    #[case::within_out_of_reach("in", "in/deep", false, true)]
    #[case::a_name_that_begins_alike("in", "in2", true, true)]
    #[case::through_a_link("in", "link", true, false)]
    fn two_watchers_do_not_take_the_same_files(
        #[case] first: &str,
        #[case] second: &str,
        #[case] subdirectories: bool,
        #[case] good: bool,
    ) {
        let temp = tempfile::tempdir().unwrap();
        std::fs::create_dir(temp.path().join("in")).unwrap();
        #[cfg(unix)]
        std::os::unix::fs::symlink("in", temp.path().join("link")).unwrap();
        let config = |path: &str| {
            FileWatcherConfig::new(temp.path().join(path)).tenant("acme").subdirectories(subdirectories)
        };
        let id = |text: &str| WatcherId::parse(text).unwrap();
        let checked = check_other(&id("b"), &config(second), &id("a"), &config(first));
        assert_eq!(checked.is_ok(), good, "{checked:?}");
    }

    #[rstest]
    #[case::beside("in", true)]
    #[case::in_it("data/in", false)]
    #[case::around_it("", false)]
    #[case::it("data", false)]
    fn a_folder_of_the_store_is_not_watched(#[case] path: &str, #[case] good: bool) {
        let temp = tempfile::tempdir().unwrap();
        std::fs::create_dir(temp.path().join("data")).unwrap();
        let config = FileWatcherConfig::new(temp.path().join(path)).tenant("acme");
        let own = [temp.path().join("data")];
        let checked = check_own(&WatcherId::parse("in").unwrap(), &config, &own);
        assert_eq!(checked.is_ok(), good, "{checked:?}");
    }
}
