//! Does what the plan in its only argument says, and tells each step on its standard output, until it is over or killed.
#![expect(clippy::unwrap_used, reason = "this program may panic as tests may: its parent looks")]

mod busy;
mod short;
mod store;
mod stream;
mod upload;
mod watch;

use locus_tests::{Form, Note, Plan};

fn main() {
    let plan: Plan = serde_json::from_str(&std::env::args().nth(1).unwrap()).unwrap();
    match plan.form {
        Form::Busy => busy::run(&plan),
        Form::Short => short::run(&plan),
        Form::Upload { bytes, piece, begun } => upload::run(&plan, bytes, piece, begun),
        Form::Stream { bytes } => stream::run(&plan, bytes),
        Form::Watch => watch::run(&plan),
    }
    Note::Over.tell();
}
