//! The public behaviour of locus-storage.
#![expect(clippy::unwrap_used, reason = "helpers of tests may panic as tests may")]

mod backup;
mod bench;
mod clock;
mod copies;
mod damage;
mod dead_letters;
mod drain;
mod faults;
mod hung;
mod inline;
mod inline_pool;
mod leasing;
mod leaving;
mod pool;
mod quotas;
mod recovery;
mod retention;
mod salvage;
mod scenarios;
mod scheduler;
mod sealing;
mod standings;
mod timeouts;
mod upkeep;
mod uploads;
mod verify;
mod volumes;
mod world;
