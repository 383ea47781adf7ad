//! Progress bars, where somebody watches.

use std::{fmt::Display, io::IsTerminal};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Two bars on stderr, or none when that is no terminal.
#[derive(Debug, Clone)]
pub(crate) struct Progress {
    bars: MultiProgress,
    taken: ProgressBar,
    processed: ProgressBar,
}

impl Progress {
    pub(crate) fn new(is_quiet: bool) -> Self {
        let is_watched = !is_quiet && std::io::stderr().is_terminal();
        let target = if is_watched { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let bars = MultiProgress::with_draw_target(target);
        let style = ProgressStyle::with_template("{prefix:>10} {bar:40} {pos:>8} of {len} {per_sec}")
            .unwrap_or_else(|_| ProgressStyle::default_bar());
        let bar = |prefix: &'static str| {
            bars.add(ProgressBar::new(0).with_style(style.clone()).with_prefix(prefix))
        };
        Self { taken: bar("taken in"), processed: bar("processed"), bars }
    }

    /// So many files were found waiting.
    pub(crate) fn recovered(&self, files: u64) {
        self.processed.set_length(files);
    }

    pub(crate) fn found_one(&self) {
        self.taken.inc_length(1);
    }

    /// A source was taken in; so many files are to be processed in all.
    pub(crate) fn took_in(&self, to_process: u64) {
        self.taken.inc(1);
        self.processed.set_length(to_process);
    }

    pub(crate) fn processed_one(&self) {
        self.processed.inc(1);
    }

    /// Says something without tearing the bars.
    pub(crate) fn say(&self, what: impl Display) {
        self.bars.suspend(|| eprintln!("{what}"));
    }

    pub(crate) fn end(&self) {
        self.taken.finish_and_clear();
        self.processed.finish_and_clear();
    }
}
