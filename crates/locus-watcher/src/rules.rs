//! Which sources are taken, and when. Pure: the caller brings the facts.

use std::{path::Path, time::Duration};

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};
use locus_core::{Result, TenantId, WatcherId};

use crate::{
    config::{FileWatcherConfig, invalid},
    reason::SkipReason,
    source::{Kind, Stat},
};

/// What a description says, ready to be asked.
#[derive(Debug, Clone)]
pub(crate) struct Rules {
    pub(crate) id: WatcherId,
    /// Whose everything is; `None` when the first folder says that.
    pub(crate) tenant: Option<TenantId>,
    include: Option<Patterns>,
    exclude: Patterns,
    age_min: Duration,
    stability_delay: Duration,
    size_max: u64,
}

/// How long a source has to be left alone still.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NotYet {
    pub(crate) why: SkipReason,
    pub(crate) wait: Duration,
}

impl Rules {
    pub(crate) fn new(id: WatcherId, tenant: Option<TenantId>, config: &FileWatcherConfig) -> Result<Self> {
        let exclude = Patterns::new(&id, "exclude", &config.exclude)?;
        let include = match config.include.as_slice() {
            [] => None,
            globs => Some(Patterns::new(&id, "include", globs)?),
        };
        Ok(Self {
            id,
            tenant,
            include,
            exclude,
            age_min: config.age_min,
            stability_delay: config.stability_delay,
            size_max: config.size_max.unwrap_or(u64::MAX),
        })
    }

    /// What holds a source back that the store does not know: one that it knows may be half-way to where it is moved to.
    pub(crate) fn refuse_new(stat: &Stat) -> Option<SkipReason> {
        (stat.links > 1).then_some(SkipReason::HardLinked)
    }

    /// Whether a folder is not looked into. `path` begins at the folder of the tenant.
    pub(crate) fn excludes_folder(&self, path: &Path) -> bool {
        self.exclude.match_(path)
    }

    /// What holds a source back that is there whole, however long it is watched. `path` begins at the folder of the
    /// tenant.
    pub(crate) fn refuse(&self, path: &Path, stat: &Stat) -> Option<SkipReason> {
        match stat.kind {
            Kind::File => {}
            Kind::Dir => return Some(SkipReason::Gone), // it was a file a moment ago
            Kind::Link => return Some(SkipReason::Link),
            Kind::Fifo => return Some(SkipReason::Fifo),
            Kind::Socket => return Some(SkipReason::Socket),
            Kind::Device => return Some(SkipReason::Device),
        }
        if self.exclude.match_(path) {
            return Some(SkipReason::Excluded);
        }
        if self.include.as_ref().is_some_and(|include| !include.match_(path)) {
            return Some(SkipReason::NotIncluded);
        }
        match stat {
            Stat { size: 0, .. } => Some(SkipReason::Empty),
            Stat { size, .. } if *size > self.size_max => Some(SkipReason::TooLarge),
            _ => None,
        }
    }

    /// Whether a source was left alone for long enough: by its own time it is `age` old (`None`: its time lies in the
    /// future, so that only what was seen counts), and it was seen unchanged for `alike` (`None`: there was no place to
    /// note it).
    pub(crate) fn settle(&self, age: Option<Duration>, alike: Option<Duration>) -> Result<(), NotYet> {
        let old = age.into_iter().chain(alike).max().unwrap_or_default();
        if old < self.age_min {
            return Err(NotYet { why: SkipReason::Young, wait: self.age_min - old });
        }
        if self.stability_delay.is_zero() {
            return Ok(());
        }
        match alike {
            Some(alike) if alike >= self.stability_delay => Ok(()),
            alike => {
                let wait = self.stability_delay - alike.unwrap_or_default();
                Err(NotYet { why: SkipReason::Settling, wait })
            }
        }
    }
}

/// Globs over names, and globs over paths.
#[derive(Debug, Clone)]
struct Patterns {
    names: GlobSet,
    paths: GlobSet,
}

impl Patterns {
    fn new(id: &WatcherId, field: &str, globs: &[String]) -> Result<Self> {
        let (mut names, mut paths) = (GlobSetBuilder::new(), GlobSetBuilder::new());
        let refuse = |why: globset::Error| invalid(id, field, format!("holds a pattern that is none: {why}"));
        for glob in globs {
            let of_path = glob.contains('/');
            let parsed = GlobBuilder::new(glob.trim_start_matches('/')).literal_separator(true).build();
            match parsed {
                Ok(glob) if of_path => paths.add(glob),
                Ok(glob) => names.add(glob),
                Err(why) => return refuse(why),
            };
        }
        match (names.build(), paths.build()) {
            (Ok(names), Ok(paths)) => Ok(Self { names, paths }),
            (Err(why), _) | (_, Err(why)) => refuse(why),
        }
    }

    fn match_(&self, path: &Path) -> bool {
        let of_name = || path.file_name().is_some_and(|name| self.names.is_match(name));
        (!self.names.is_empty() && of_name()) || (!self.paths.is_empty() && self.paths.is_match(path))
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    const S: Duration = Duration::from_secs(1);

    fn rules(change: fn(FileWatcherConfig) -> FileWatcherConfig) -> Rules {
        change(FileWatcherConfig::new("/inbox").tenant("acme")).rules().unwrap()
    }

    fn file(size: u64) -> Stat {
        Stat { size, links: 1, ..Stat::default() }
    }

    #[rstest]
    #[case::everything(|c: FileWatcherConfig| c, "a/b.txt", None)]
    #[case::included(|c: FileWatcherConfig| c.include("*.pdf").include("*.txt"), "a/b.txt", None)]
    #[case::not_included(|c: FileWatcherConfig| c.include("*.pdf"), "a/b.txt", Some(SkipReason::NotIncluded))]
    #[case::excluded(|c: FileWatcherConfig| c.include("*.txt").exclude("b.*"), "a/b.txt", Some(SkipReason::Excluded))]
    #[case::path(|c: FileWatcherConfig| c.exclude("a/*"), "a/b.txt", Some(SkipReason::Excluded))]
    #[case::rooted(|c: FileWatcherConfig| c.exclude("/b.txt"), "a/b.txt", None)]
    #[case::within_a_level(|c: FileWatcherConfig| c.exclude("a/*"), "a/c/b.txt", None)]
    #[case::across_levels(|c: FileWatcherConfig| c.exclude("**/tmp/**"), "a/tmp/c/b.txt", Some(SkipReason::Excluded))]
    fn b84_patterns_say_what_is_taken(
        #[case] change: fn(FileWatcherConfig) -> FileWatcherConfig,
        #[case] path: &str,
        #[case] refused: Option<SkipReason>,
    ) {
        assert_eq!(rules(change).refuse(Path::new(path), &file(1)), refused);
    }

    #[rstest]
    #[case(Stat { kind: Kind::Link, ..file(1) }, SkipReason::Link)]
    #[case(Stat { kind: Kind::Fifo, ..file(1) }, SkipReason::Fifo)]
    #[case(Stat { kind: Kind::Socket, ..file(1) }, SkipReason::Socket)]
    #[case(Stat { kind: Kind::Device, ..file(1) }, SkipReason::Device)]
    #[case(file(0), SkipReason::Empty)]
    #[case(file(11), SkipReason::TooLarge)]
    fn b84_what_is_no_plain_file_of_a_good_size_stays(#[case] stat: Stat, #[case] why: SkipReason) {
        let rules = rules(|c| c.size_max(10));
        assert_eq!(rules.refuse(Path::new("x"), &stat), Some(why));
        assert_eq!(rules.refuse(Path::new("x"), &file(10)), None);
    }

    #[rstest]
    #[case::young(Some(3 * S), Some(Duration::ZERO), Err(NotYet { why: SkipReason::Young, wait: 2 * S }))]
    #[case::not_seen(Some(9 * S), Some(Duration::ZERO), Err(NotYet { why: SkipReason::Settling, wait: 2 * S }))]
    #[case::no_place(Some(9 * S), None, Err(NotYet { why: SkipReason::Settling, wait: 2 * S }))]
    #[case::settling(Some(9 * S), Some(S), Err(NotYet { why: SkipReason::Settling, wait: S }))]
    #[case::ready(Some(5 * S), Some(2 * S), Ok(()))]
    #[case::from_the_future(None, Some(4 * S), Err(NotYet { why: SkipReason::Young, wait: S }))]
    #[case::future_and_seen(None, Some(5 * S), Ok(()))]
    fn b84_a_source_is_left_alone_until_it_rests(
        #[case] age: Option<Duration>,
        #[case] alike: Option<Duration>,
        #[case] settled: Result<(), NotYet>,
    ) {
        assert_eq!(rules(|c| c).settle(age, alike), settled);
    }

    #[test]
    fn without_age_and_delay_a_source_is_taken_at_once() {
        let eager = rules(|c| c.age_min(Duration::ZERO).stability_delay(Duration::ZERO));
        assert_eq!(eager.settle(None, None), Ok(()));
    }
}
