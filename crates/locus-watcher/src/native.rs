//! Events of the file system. They say that something happened and never what: a scan that comes earlier finds it.

use std::{path::Path, sync::Arc};

use tokio::sync::Notify;

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
