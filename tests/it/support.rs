//! What the stories share.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use locus::{Entropy, SystemEntropy};

pub(crate) use locus_tests::content;

/// A number from the environment.
pub(crate) fn number(name: &str, default: u64) -> u64 {
    match std::env::var(name) {
        Ok(text) => text.parse().unwrap_or_else(|error| panic!("{name} is {text}: {error}")),
        Err(_) => default,
    }
}

/// What makes a run of a story its own; printed, and taken from the environment when it is there.
pub(crate) fn seed() -> u64 {
    let seed = number("LOCUS_STORY_SEED", SystemEntropy.next_u64());
    println!("LOCUS_STORY_SEED={seed}");
    seed
}

/// Fails instead of hanging.
pub(crate) async fn in_time<F: Future>(what: &str, future: F) -> F::Output {
    match tokio::time::timeout(Duration::from_secs(120), future).await {
        Ok(output) => output,
        Err(_) => panic!("waited in vain: {what}"),
    }
}

/// An error and its causes, on one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

/// Files anywhere below a directory.
pub(crate) fn files_below(dir: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { files.extend(files_below(&path)) } else { files.push(path) }
    }
    files
}
