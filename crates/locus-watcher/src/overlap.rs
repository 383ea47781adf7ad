//! Folders that may not be watched: those of the store, and those that are watched already.

use std::path::PathBuf;

use locus_core::{Result, WatcherId};

use crate::{
    config::{AfterImport, FileWatcherConfig, invalid},
    places::{Places, Whereabouts},
    target::within,
};

/// Refuses a folder that is a place of the store or lies in one: the store would eat itself. So it is with one that is
/// marked as any store's, a volume that is not mounted at present among them.
pub(crate) fn check_within<'a>(
    id: &WatcherId,
    folder: &Whereabouts,
    own: impl IntoIterator<Item = &'a Whereabouts>,
) -> Result<()> {
    match own.into_iter().find(|place| folder.lies_in(place)) {
        Some(place) => {
            invalid(id, "path", format!("lies in {}, which is the store's own", place.path.display()))
        }
        None if folder.is_marked() => {
            invalid(id, "path", "lies in a volume or a data directory, as the marker there says")
        }
        None => Ok(()),
    }
}

/// Refuses a folder in which a place of the store lies.
pub(crate) fn check_around<'a>(
    id: &WatcherId,
    folder: &Whereabouts,
    own: impl IntoIterator<Item = &'a Whereabouts>,
) -> Result<()> {
    match own.into_iter().find(|place| place.lies_in(folder)) {
        Some(place) => {
            invalid(id, "path", format!("contains {}, which is the store's own", place.path.display()))
        }
        None => Ok(()),
    }
}

/// A watched folder.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Watched<'a> {
    pub(crate) id: &'a WatcherId,
    pub(crate) config: &'a FileWatcherConfig,
    pub(crate) at: &'a Whereabouts,
    /// Where its sources are moved to.
    pub(crate) target: Option<&'a Whereabouts>,
}

impl Watched<'_> {
    const fn reaches_below(&self) -> bool {
        self.config.subdirectories || self.config.multi_tenant
    }
}

/// Refuses a folder that another watcher watches, or that lies in one whose subdirectories another watches, or the other
/// way round: each source would be imported twice.
pub(crate) fn check_other(watched: Watched<'_>, other: Watched<'_>) -> Result<()> {
    check_folders(watched, other)?;
    check_targets(watched, other)
}

/// As [`check_other`], of the watched folders alone.
pub(crate) fn check_folders(watched: Watched<'_>, other: Watched<'_>) -> Result<()> {
    let (is_within, is_around) = (watched.at.lies_in(other.at), other.at.lies_in(watched.at));
    let is_refused =
        is_within && (is_around || other.reaches_below()) || is_around && watched.reaches_below();
    if is_refused {
        let why = format!("is watched by {} already, in {}", other.id, other.at.path.display());
        return invalid(watched.id, "path", why);
    }
    Ok(())
}

/// Where a watcher moves sources to, when it does.
pub(crate) fn target_of(config: &FileWatcherConfig) -> Option<&PathBuf> {
    match &config.after_import {
        AfterImport::Move(to) => Some(to),
        _ => None,
    }
}

/// Where they were seen to be moved to.
pub(crate) fn target_seen(config: &FileWatcherConfig, places: &Places) -> Option<Whereabouts> {
    target_of(config).map(|to| places.seen(to))
}

/// Refuses to move sources to where they would be imported again, or eaten by the store.
pub(crate) fn check_target<'a>(
    Watched { id, config, at, target }: Watched<'_>,
    own: impl IntoIterator<Item = &'a Whereabouts>,
) -> Result<()> {
    let Some(target) = target else { return Ok(()) };
    let refuse = |why: &str| invalid(id, "after_import", why);
    if target.is_uncertain() {
        return refuse("names a directory by way of one that is not there");
    }
    if at.lies_in(target) {
        return refuse("moves sources to the watched folder, or to one that holds it");
    }
    if target.lies_in(at) && within(config, &target.path).is_none() {
        return refuse(
            "names a directory in the watched folder by another path: let it begin as `path` does",
        );
    }
    if let Some(place) = own.into_iter().find(|place| target.lies_in(place) || place.lies_in(target)) {
        let place = place.path.display();
        return refuse(&format!("moves sources into or around {place}, which is the store's own"));
    }
    if target.is_marked() {
        return refuse("moves sources into a volume or a data directory, as the marker there says");
    }
    Ok(())
}

/// Refuses to move sources to where the other watcher takes them in, and the other way round.
pub(crate) fn check_targets(watched: Watched<'_>, other: Watched<'_>) -> Result<()> {
    if watched.target.is_some_and(|target| reaches(other, watched, target)) {
        let why =
            format!("moves sources to where {} takes them in, in {}", other.id, other.at.path.display());
        return invalid(watched.id, "after_import", why);
    }
    if other.target.is_some_and(|target| reaches(watched, other, target)) {
        return invalid(watched.id, "path", format!("is where {} moves sources to", other.id));
    }
    Ok(())
}

/// Whether a watcher takes in what the other one moves to its target.
fn reaches(watcher: Watched<'_>, mover: Watched<'_>, target: &Whereabouts) -> bool {
    let (is_within, is_around) = (target.lies_in(watcher.at), watcher.at.lies_in(target));
    is_within && (is_around || watcher.reaches_below()) || is_around && mover.reaches_below()
}

#[cfg(all(test, unix))]
mod tests {
    use locus_core::SystemClock;
    use rstest::rstest;

    use super::*;
    use crate::places::Places;

    async fn at(path: std::path::PathBuf) -> Whereabouts {
        Places::new(std::sync::Arc::new(SystemClock::new()), false).look_at(path).await.at
    }

    #[rstest]
    #[case::beside("in", "out", true, true)]
    #[case::the_same("in", "in", true, false)]
    #[case::within("in", "in/deep", true, false)]
    #[case::around("in/deep", "in", true, false)]
    #[case::within_out_of_reach("in", "in/deep", false, true)]
    #[case::a_name_that_begins_alike("in", "in2", true, true)]
    #[case::through_a_link("in", "link", true, false)]
    #[tokio::test]
    async fn two_watchers_do_not_take_the_same_files(
        #[case] first: &str,
        #[case] second: &str,
        #[case] subdirectories: bool,
        #[case] good: bool,
    ) {
        let temp = tempfile::tempdir().unwrap();
        std::fs::create_dir(temp.path().join("in")).unwrap();
        std::os::unix::fs::symlink("in", temp.path().join("link")).unwrap();
        let config = FileWatcherConfig::new("x").tenant("acme").subdirectories(subdirectories);
        let (a, b) = (WatcherId::parse("a").unwrap(), WatcherId::parse("b").unwrap());
        let (first, second) = (at(temp.path().join(first)).await, at(temp.path().join(second)).await);
        let checked = check_other(
            Watched { id: &b, config: &config, at: &second, target: None },
            Watched { id: &a, config: &config, at: &first, target: None },
        );
        assert_eq!(checked.is_ok(), good, "{checked:?}");
    }

    #[rstest]
    #[case::beside("in", true)]
    #[case::in_it("data/in", false)]
    #[case::around_it("", false)]
    #[case::it("data", false)]
    #[case::through_a_link("link/in", false)]
    #[tokio::test]
    async fn a_folder_of_the_store_is_not_watched(#[case] path: &str, #[case] good: bool) {
        let temp = tempfile::tempdir().unwrap();
        std::fs::create_dir(temp.path().join("data")).unwrap();
        std::os::unix::fs::symlink("data", temp.path().join("link")).unwrap();
        let (folder, own) = (at(temp.path().join(path)).await, at(temp.path().join("data")).await);
        let id = WatcherId::parse("in").unwrap();
        let checked = check_within(&id, &folder, [&own]).and_then(|()| check_around(&id, &folder, [&own]));
        assert_eq!(checked.is_ok(), good, "{checked:?}");
    }
}
