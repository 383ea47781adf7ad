//! The task of one watcher: looks when it is time, when something happened, and when somebody asks.

use std::{sync::Arc, time::Duration};

use locus_core::{Error, Result, Timestamp};
use parking_lot::Mutex;
use tokio::{
    sync::{
        Notify, mpsc,
        oneshot::{self, error::TryRecvError},
    },
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::{
    door::Door,
    looks::Looks,
    native::{Native, Retry},
    places::Place,
    reason::SkipReason,
    report::ScanReport,
    scan::{Memory, Scanned, Scanner},
};

/// Scans that may be asked for and not be begun.
const ASKED_MAX: usize = 64;
/// Shortest time between two scans that nobody asked for.
const GAP_MIN: Duration = Duration::from_millis(500);
/// One that found nothing to do is followed by so many times its own length of rest, at least.
const GAP_SHARE: u32 = 9;

type Answer = oneshot::Sender<Result<ScanReport>>;

/// What is known about a watcher that runs.
#[derive(Debug, Clone, Default)]
pub(crate) struct Status {
    pub(crate) last_scan: Option<Timestamp>,
    pub(crate) last: Option<ScanReport>,
    pub(crate) total: ScanReport,
    /// On the monotonic clock.
    pub(crate) next_look: Option<Duration>,
    /// Why the last scan failed.
    pub(crate) trouble: Option<String>,
}

impl Status {
    /// A scan ended.
    pub(crate) fn note(&mut self, scanned: &Scanned, trouble: Option<&Error>, now: Timestamp) {
        self.total.add(&scanned.report);
        (self.last_scan, self.last) = (Some(now), Some(scanned.report.clone()));
        self.trouble = trouble.map(ToString::to_string);
    }
}

/// A watcher that runs. Dropping it stops it at its next `.await`.
#[derive(Debug)]
pub(crate) struct Running {
    asked: mpsc::Sender<Answer>,
    stop: CancellationToken,
    task: JoinHandle<()>,
    pub(crate) status: Arc<Mutex<Status>>,
    pub(crate) memory: Arc<Mutex<Memory>>,
}

impl Running {
    /// Looks for the first time when those `before` have ended, which were halted.
    pub(crate) fn start(scanner: Scanner, before: Arc<Looks>) -> Self {
        let (asked, requests) = mpsc::channel(ASKED_MAX);
        let stop = CancellationToken::new();
        let status = Arc::new(Mutex::new(Status::default()));
        let memory = Arc::clone(&scanner.memory);
        let listening = Door::new(Arc::clone(&scanner.clock), scanner.door.in_place, 1);
        let task = Task {
            scanner,
            before,
            listening,
            requests,
            status: Arc::clone(&status),
            hint: Arc::default(),
            native: Events::None,
            heard: None,
            retry: Retry::default(),
            is_away: false,
            tenants_version: 0,
            lacks_tenant: false,
        };
        let task = tokio::spawn(task.run(stop.clone()));
        Self { asked, stop, task, status, memory }
    }

    /// Asks for a scan that begins from now on.
    ///
    /// # Errors
    /// As the scan; [`Error::ShuttingDown`] when it is stopped meanwhile.
    pub(crate) fn ask(&self) -> impl Future<Output = Result<ScanReport>> + use<> {
        let (answer, told) = oneshot::channel();
        let asked = self.asked.clone();
        async move {
            asked.send(answer).await.map_err(|_| Error::ShuttingDown)?;
            drop(asked);
            told.await.unwrap_or(Err(Error::ShuttingDown))
        }
    }

    /// Tells it to stop.
    pub(crate) fn halt(&self) {
        self.stop.cancel();
    }

    /// Stops it and waits. Not for calls into its folder: one may hang. What it imports at the moment is dropped: it is in the store wholly or not at all.
    pub(crate) async fn stop(mut self) {
        self.stop.cancel();
        if let Err(error) = (&mut self.task).await
            && error.is_panic()
        {
            warn!(%error, "a watcher ended in a panic");
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

struct Task {
    scanner: Scanner,
    before: Arc<Looks>,
    requests: mpsc::Receiver<Answer>,
    status: Arc<Mutex<Status>>,
    hint: Arc<Notify>,
    native: Events,
    /// The folder that is listened to: another one may have come to its place.
    heard: Option<Place>,
    retry: Retry,
    /// To the watched folder, for who listens: that takes long where there are many folders.
    listening: Door,
    /// The folder could not be looked into, and that was told.
    is_away: bool,
    /// What the last scan knew of tenants.
    tenants_version: u64,
    /// Its one tenant took no files then.
    lacks_tenant: bool,
}

impl Task {
    async fn run(mut self, stop: CancellationToken) {
        tokio::select! {
            biased;
            () = stop.cancelled() => {}
            () = self.before.ended() => {}
        }
        let mut next = self.scanner.clock.monotonic();
        let mut earliest = next;
        loop {
            self.status.lock().next_look = Some(next);
            let woken = tokio::select! {
                biased;
                () = stop.cancelled() => break,
                woken = self.wait(next) => woken,
            };
            let mut answers = match woken {
                Woken::Asked(answer) => vec![answer],
                Woken::Due => Vec::new(),
                Woken::Hinted => {
                    next = next.min(earliest.max(self.scanner.clock.monotonic()));
                    continue;
                }
                Woken::Abandoned => break,
            };
            while let Ok(answer) = self.requests.try_recv() {
                answers.push(answer);
            }
            let begun = self.scanner.clock.monotonic();
            self.tenants_version = self.scanner.intake.tenants_version();
            let mut scanned = Scanned::default();
            let ended = tokio::select! {
                biased;
                () = stop.cancelled() => break,
                ended = self.scanner.scan(&mut scanned) => ended,
            };
            let now = self.scanner.clock.monotonic();
            let productive = scanned.report.imported > 0;
            let rest = if productive { 1 } else { GAP_SHARE };
            earliest = now.saturating_add(GAP_MIN.max(now.saturating_sub(begun).saturating_mul(rest)));
            next = self.after(&scanned, &ended, now, earliest);
            if matches!(ended, Err(Error::ShuttingDown)) {
                answers.into_iter().for_each(|answer| drop(answer.send(Err(Error::ShuttingDown))));
                break;
            }
            self.tell(&scanned, ended, next, answers);
            self.listen();
        }
        // What is written of the ledger is written before anybody else may have its directory.
        self.scanner.ledger.rest().await;
    }

    async fn wait(&mut self, next: Duration) -> Woken {
        let seen = self.tenants_version;
        let follows_tenants = self.scanner.config.multi_tenant || self.lacks_tenant;
        let (intake, clock) = (Arc::clone(&self.scanner.intake), Arc::clone(&self.scanner.clock));
        tokio::select! {
            biased;
            asked = self.requests.recv() => asked.map_or(Woken::Abandoned, Woken::Asked),
            () = clock.sleep_until(next) => Woken::Due,
            () = self.hint.notified() => Woken::Hinted,
            () = intake.tenants_changed(seen), if follows_tenants => {
                self.tenants_version = intake.tenants_version(); // told once
                Woken::Hinted
            }
        }
    }

    fn after(&self, scanned: &Scanned, ended: &Result<()>, now: Duration, earliest: Duration) -> Duration {
        let poll = now.saturating_add(self.scanner.config.polling_interval);
        let due = scanned.due.filter(|_| ended.is_ok());
        due.map_or(poll, |due| due.max(earliest).min(poll.max(earliest)))
    }

    fn tell(&mut self, scanned: &Scanned, ended: Result<()>, next: Duration, answers: Vec<Answer>) {
        let watcher = &self.scanner.rules.id;
        let mut status = self.status.lock();
        status.next_look = Some(next);
        status.note(scanned, ended.as_ref().err(), self.scanner.clock.wall());
        match ended {
            Ok(()) => {
                if std::mem::take(&mut self.is_away) {
                    info!(%watcher, "watched folder can be looked into again");
                }
                let skipped = &scanned.report.skipped;
                self.lacks_tenant = skipped.contains_key(&SkipReason::TenantDisabled)
                    || skipped.contains_key(&SkipReason::UnknownTenant);
                debug!(%watcher, imported = scanned.report.imported, discovered = scanned.report.discovered, "folder scanned");
                for answer in answers {
                    let _ = answer.send(Ok(scanned.report.clone())); // who asked may be gone
                }
            }
            Err(error) => {
                if !std::mem::replace(&mut self.is_away, true) {
                    warn!(%watcher, error = &error as &dyn std::error::Error, "folder could not be scanned, tried again at each interval");
                }
                drop(status);
                let mut again = Some(error);
                for answer in answers {
                    // An error cannot be shared; the others look at the same folder.
                    let error = again.take().unwrap_or_else(|| self.not_scanned());
                    let _ = answer.send(Err(error));
                }
            }
        }
    }

    fn not_scanned(&self) -> Error {
        let (watcher, path) = (self.scanner.rules.id.clone(), self.scanner.config.path.clone());
        Error::FolderUnavailable { watcher, path, source: std::io::Error::other("the scan failed") }
    }

    /// Listens for events once the folder is there; nobody waits until that is so. A folder that vanished is listened to anew
    /// when it is back, and so is another one that came to its place.
    fn listen(&mut self) {
        let (now, there) = (self.scanner.clock.monotonic(), self.scanner.place());
        if self.is_away || self.heard != there {
            (self.native, self.heard, self.retry) = (Events::None, there, Retry::default());
        }
        if let Events::Asked(told) = &mut self.native {
            match told.try_recv() {
                Ok(native) => (self.native, self.retry) = (Events::Here(native), Retry::default()),
                Err(TryRecvError::Closed) => {
                    self.native = Events::None;
                    self.retry.failed(now);
                }
                Err(TryRecvError::Empty) => {}
            }
        }
        let may_listen = !self.listening.in_place && !self.listening.is_busy() && self.retry.is_due(now);
        if matches!(self.native, Events::None) && !self.is_away && may_listen {
            let (config, hint) = (Arc::clone(&self.scanner.config), Arc::clone(&self.hint));
            let (door, watcher) = (self.listening.clone(), self.scanner.rules.id.clone());
            let (tell, told) = oneshot::channel();
            self.native = Events::Asked(told);
            tokio::spawn(async move {
                let deep = config.subdirectories || config.multi_tenant;
                let asked = Arc::clone(&hint);
                match door.ask(move || Native::listen(&config.path, deep, asked)).await {
                    Ok(Ok(native)) => {
                        let _ = tell.send(native); // it may be stopped
                        hint.notify_one(); // what came in between
                    }
                    Ok(Err(error)) => {
                        debug!(%watcher, %error, "no events from the watched folder, it is polled");
                    }
                    Err(error) => debug!(%watcher, %error, "watched folder is not listened to, it is polled"),
                }
            });
        }
    }
}

/// Whether events of the folder are heard.
enum Events {
    None,
    /// They will be, perhaps.
    Asked(oneshot::Receiver<Native>),
    Here(#[expect(dead_code, reason = "it is heard as long as it is kept")] Native),
}

enum Woken {
    Asked(Answer),
    Due,
    Hinted,
    /// Nobody can ask any more.
    Abandoned,
}
