//! The public behaviour of `locus-watcher`.

mod after;
mod changes;
mod crashes;
mod folders;
mod hanging;
mod ledgers;
mod looks;
mod once;
mod removal;
mod rules;
mod targets;
mod traps;
mod unreadable;
mod world;
