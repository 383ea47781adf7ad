//! Ctrl-C, and whatever else asks a run to end.

use tokio::sync::watch;

/// Says once, to everybody, that the run is to end.
#[derive(Debug, Clone)]
pub(crate) struct Stop(watch::Sender<bool>);

impl Stop {
    pub(crate) fn new() -> Self {
        Self(watch::Sender::new(false))
    }

    pub(crate) fn now(&self) {
        self.0.send_replace(true);
    }

    pub(crate) fn is_asked(&self) -> bool {
        *self.0.borrow()
    }

    /// Returns once the run is to end.
    pub(crate) async fn asked(&self) {
        // The sender is ours and lives as long as this does.
        let _ = self.0.subscribe().wait_for(|asked| *asked).await;
    }

    /// Listens to the first Ctrl-C. The second one ends the program at once, which loses nothing either.
    pub(crate) fn at_ctrl_c(&self, interrupted: impl FnOnce() + Send + 'static) {
        let stop = self.clone();
        tokio::spawn(async move {
            signal().await;
            interrupted();
            stop.now();
            signal().await;
            std::process::exit(130);
        });
    }
}

/// Returns at Ctrl-C, and where there is one at a request to terminate.
async fn signal() {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        if let Ok(mut terminate) = signal(SignalKind::terminate()) {
            tokio::select! {
                _ = terminate.recv() => return,
                result = tokio::signal::ctrl_c() => if result.is_ok() { return },
            }
        }
    }
    if tokio::signal::ctrl_c().await.is_err() {
        std::future::pending::<()>().await; // nothing can be listened to
    }
}
