//! Events of the file system. They say that something happened and never what: a scan that comes earlier finds it.

use std::{path::Path, sync::Arc, time::Duration};

use tokio::sync::Notify;

const FIRST: Duration = Duration::from_secs(30);
const LONGEST: Duration = Duration::from_secs(60 * 60);

/// When to try to listen once more: to watch many folders costs much, also when there are no watches left at the end.
#[derive(Debug, Default)]
pub(crate) struct Retry {
    /// After the last failure; `None` when there was none.
    rest: Option<Duration>,
    from: Duration,
}

impl Retry {
    pub(crate) fn is_due(&self, now: Duration) -> bool {
        now >= self.from
    }

    /// It failed.
    pub(crate) fn failed(&mut self, now: Duration) {
        let rest = self.rest.map_or(FIRST, |rest| (rest * 2).min(LONGEST));
        (self.rest, self.from) = (Some(rest), now.saturating_add(rest));
    }
}

/// Listens for as long as it lives.
#[derive(Debug)]
pub(crate) struct Native {
    #[cfg(feature = "notify")]
    _watcher: notify::RecommendedWatcher,
}

#[cfg(feature = "notify")]
impl Native {
    /// Tells `hint` of what happens in the folder. Blocks the thread.
    ///
    /// # Errors
    /// Why there will be no events: too many watches, or a file system without them.
    pub(crate) fn listen(path: &Path, deep: bool, hint: Arc<Notify>) -> Result<Self, notify::Error> {
        use notify::{Config, Event, RecursiveMode, Watcher};
        let told = move |event: Result<Event, notify::Error>| {
            if is_news(&event) {
                hint.notify_one();
            }
        };
        let config = Config::default().with_follow_symlinks(false);
        let mut watcher = notify::RecommendedWatcher::new(told, config)?;
        let mode = if deep { RecursiveMode::Recursive } else { RecursiveMode::NonRecursive };
        watcher.watch(path, mode)?;
        Ok(Self { _watcher: watcher })
    }
}

/// Looking into the folder makes events, too. Lost events (an overflow) come as others do, or as errors.
#[cfg(feature = "notify")]
const fn is_news(event: &Result<notify::Event, notify::Error>) -> bool {
    !matches!(event, Ok(notify::Event { kind: notify::EventKind::Access(_), .. }))
}

#[cfg(not(feature = "notify"))]
impl Native {
    /// There are none: what happens is found by polling.
    pub(crate) fn listen(_: &Path, _: bool, _: Arc<Notify>) -> Result<Self, std::io::Error> {
        Ok(Self {})
    }
}

#[cfg(test)]
mod retries {
    use super::*;

    #[test]
    fn whoever_cannot_listen_tries_it_less_and_less_often() {
        let (mut retry, mut now, mut rests) = (Retry::default(), Duration::ZERO, Vec::new());
        for _ in 0..9 {
            assert!(retry.is_due(now));
            retry.failed(now);
            assert!(!retry.is_due(retry.from - Duration::from_secs(1)));
            rests.push((retry.from - now).as_secs());
            now = retry.from;
        }
        assert_eq!(rests, [30, 60, 120, 240, 480, 960, 1_920, 3_600, 3_600]);
    }
}

#[cfg(all(test, feature = "notify"))]
mod tests {
    use notify::{
        Event, EventKind,
        event::{AccessKind, CreateKind, Flag},
    };

    use super::*;

    #[test]
    fn b85_lost_events_bring_a_scan_forward_as_any_news_and_looking_into_a_folder_does_not() {
        let lost = Event::new(EventKind::Other).set_flag(Flag::Rescan);
        assert!(is_news(&Ok(lost)) && is_news(&Err(notify::Error::generic("overflow"))));
        assert!(is_news(&Ok(Event::new(EventKind::Create(CreateKind::File)))));
        assert!(!is_news(&Ok(Event::new(EventKind::Access(AccessKind::Read)))));
    }
}
