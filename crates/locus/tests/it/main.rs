//! The facade: what a program that embeds Locus sees.

mod bad_calls;
mod care;
mod counting;
mod dead_letters;
mod expansion;
mod placement;
mod queue;
mod quotas;
mod reading;
mod removing;
mod settings;
mod start;
mod stop;
mod support;
mod sweeps;
mod tenants;
mod volumes;
mod watchers;
mod workers;
