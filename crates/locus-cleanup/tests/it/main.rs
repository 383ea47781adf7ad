//! The public behaviour of the sweeper, over a store and a volume that do what a test tells them.

mod fakes;
mod leftovers;
mod one_tenant;
mod reap;
mod resuming;
