//! Settings: plain data, loaded from a file and the environment.

mod docs;
mod load;
mod model;
mod unit;

pub use docs::{settings_markdown, settings_toml};
pub(crate) use model::invalid;
pub use model::{
    BackgroundSettings, JournalSettings, LeaseSettings, QuotaSettings, RetrySettings, Settings,
    StoreSettings, TenantSettings, VolumeSettings, WorkerSettings,
};
