//! Random workloads and crashes over the real engine (pool, scheduler, store, tenants, volumes, sweeper, watchers) on a simulated
//! disk and clock, checked against a model that is kept outside.
//!
//! A seed decides everything, bit by bit: the calls, the order in which tasks are polled, where the power goes and what
//! the disk keeps. Calls are made one after another or a few side by side; the log's order is then known but for what one
//! round did. After a crash the state must be that after some prefix of the rounds, and the prefix must hold every call
//! whose answer promised so.

#[cfg(feature = "break-sites")]
pub mod breaking;
pub mod call;
mod copy;
pub mod enumerate;
pub mod inbox;
pub mod life;
pub mod limits;
pub mod looking;
pub mod model;
pub mod plan;
mod recovered;
pub mod report;
mod rest;
pub mod story;
mod upkeep;
pub mod uploads;
mod violation;
mod volumes;

pub mod world;
