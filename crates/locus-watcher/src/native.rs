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
        use notify::{Config, Event, EventKind, RecursiveMode, Watcher};
        let told = move |event: Result<Event, notify::Error>| {
            // Looking into the folder makes events, too. Lost events (an overflow) come as others do, or as errors.
            if !matches!(event, Ok(Event { kind: EventKind::Access(_), .. })) {
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

#[cfg(not(feature = "notify"))]
impl Native {
    /// There are none: what happens is found by polling.
    pub(crate) fn listen(_: &Path, _: bool, _: Arc<Notify>) -> Result<Self, std::io::Error> {
        Ok(Self {})
    }
}
