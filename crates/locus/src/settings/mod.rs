//! Settings: plain data, loaded from a file and the environment.

mod docs;
mod expansion;
mod load;
mod model;
mod unit;
mod volume;
mod watcher;

pub use docs::{settings_markdown, settings_toml};
pub use expansion::ExpansionSettings;
pub(crate) use expansion::Spares;
pub(crate) use model::invalid;
pub use model::{
    BackgroundSettings, JournalSettings, LeaseSettings, QuotaSettings, RetrySettings, Settings,
    StoreSettings, TenantSettings, WorkerSettings,
};
pub use volume::{VolumeKind, VolumeSettings};
pub use watcher::{AfterImportKind, WatcherSettings};
