//! Cycles: write, lease, read and complete one file; who makes them, how many at a time, and what came of it.

mod cell;
mod contender;
mod contest;
mod label;
mod load;
mod promise;
mod ratios;
mod round;

pub use self::{
    cell::{Cell, Outcome},
    contender::Contender,
    contest::{Contest, Form, content},
    label::{Kind, Label, Rests},
    load::{Load, Turns},
    promise::Promise,
    ratios::{Ratio, ratio_table, ratios},
    round::{AsTask, AsThread, Round},
};
