//! Single system calls of a program: counted, killed at, failed.

use std::{collections::BTreeMap, path::Path, process::Command};

use locus_tests::Plan;

use super::{
    need::{Need, can},
    victim::{Desk, within},
};

pub(crate) const NEEDS: [Need; 1] = [Need::Command("strace")];

/// One system call of a program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Call {
    pub(crate) name: &'static str,
    /// Of those of this name that a thread makes, counted from 1: the first thread to come so far meets what is done to it.
    pub(crate) k: u64,
}

/// What is done to a call. It is not carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Deed {
    Kill,
    Fail(&'static str),
}

/// What does `plan`, and meets `deed` at `call`.
pub(crate) fn meeting(plan: &Plan, call: Call, deed: Deed) -> Command {
    let deed = match deed {
        Deed::Kill => "signal=SIGKILL".to_owned(),
        Deed::Fail(errno) => format!("error={errno}"),
    };
    let mut strace = traced(&[call.name], Path::new("/dev/null"));
    strace.args(["-e", &format!("inject={}:{deed}:when={}", call.name, call.k)]);
    within(strace, plan)
}

/// Every call of these names that is made for a store while `plan` is done.
pub(crate) fn survey(plan: &Plan, names: &[&'static str]) -> Vec<Call> {
    let mut desk = Desk::new();
    let log = desk.path("calls");
    let all: Vec<&str> = names.iter().copied().chain(["write"]).collect();
    let status = desk.start(within(traced(&all, &log), plan)).wait();
    desk.check_words();
    assert!(status.success() && !desk.notes().is_empty(), "{status}");
    count(&log, names)
}

fn traced(names: &[&str], log: &Path) -> Command {
    let mut strace = Command::new("strace");
    strace.args(["-f", "-qq", "-e", &format!("trace={}", names.join(",")), "-o"]).arg(log);
    strace
}

/// Calls before the first note are those of the loader.
fn count(log: &Path, names: &[&'static str]) -> Vec<Call> {
    let text = std::fs::read_to_string(log).unwrap();
    let mut threads: BTreeMap<&str, BTreeMap<&str, u64>> = BTreeMap::new();
    let mut before: Option<BTreeMap<&str, u64>> = None;
    for line in text.lines() {
        let Some((thread, rest)) = line.split_once(' ') else { continue };
        let Some((name, arguments)) = rest.trim_start().split_once('(') else { continue };
        let counts = threads.entry(thread).or_default();
        if before.is_none() && name == "write" && arguments.starts_with("1, ") {
            before = Some(counts.clone());
        }
        *counts.entry(name).or_default() += 1;
    }
    let before = before.expect("because every program notes that it opens a store");
    let calls = names.iter().flat_map(|&name| {
        let most = threads.values().filter_map(|counts| counts.get(name)).max().copied().unwrap_or(0);
        let skipped = before.get(name).copied().unwrap_or(0);
        (skipped + 1..=most).map(move |k| Call { name, k })
    });
    calls.collect()
}

pub(crate) fn is_here(story: &str) -> bool {
    can(story, &NEEDS)
}
