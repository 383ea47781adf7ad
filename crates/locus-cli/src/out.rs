//! What is told on stdout, and how far something is on stderr.

use std::{fmt::Display, io::IsTerminal};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::Value;

use crate::{content::to_stdout, failure::Failure};

/// How answers are told.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Out {
    pub(crate) json: bool,
}

impl Out {
    /// One line of text, or lines, or one object of JSON.
    pub(crate) fn say(self, text: impl Display, json: impl FnOnce() -> Value) -> Result<(), Failure> {
        let line = if self.json { json().to_string() } else { text.to_string() };
        if line.is_empty() {
            return Ok(());
        }
        to_stdout(format!("{line}\n").as_bytes())
    }

    /// A bar on stderr, where somebody watches.
    pub(crate) fn progress(self, of: u64, what: &'static str) -> ProgressBar {
        let watched = !self.json && std::io::stderr().is_terminal();
        let target = if watched { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let style = ProgressStyle::with_template("{prefix:>10} {bar:40} {percent:>3} % {msg}");
        let style = style.unwrap_or_else(|_| ProgressStyle::default_bar());
        ProgressBar::with_draw_target(Some(of), target).with_style(style).with_prefix(what)
    }
}
