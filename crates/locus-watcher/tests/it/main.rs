//! The public behaviour of `locus-watcher`.

mod after;
mod changes;
mod crashes;
mod folders;
mod once;
mod rules;
mod traps;
mod world;
