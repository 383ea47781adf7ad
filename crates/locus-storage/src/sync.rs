//! What threads and tasks meet at. Locks, atomics, wake-ups and threads of the journal and the store come from here alone, so that
//! `locus-interleave`, which compiles these sources too, has one place to put its own.

pub(crate) use std::{
    sync::atomic::{AtomicBool, AtomicU64},
    thread,
};

pub(crate) use parking_lot::{Condvar, Mutex, MutexGuard, RwLock};
pub(crate) use tokio::sync::{Notify, oneshot};
