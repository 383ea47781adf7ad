//! Contenders take turns.

use std::time::Duration;

use bytes::Bytes;

use super::{Contender, Load, Outcome};
use crate::{BoxError, Ground};

/// Most cycles of a round: what they took is kept.
const CYCLES_MAX: u64 = 250_000;

/// How long a round is, and how many there are.
#[derive(Debug, Clone, Copy)]
pub struct Form {
    /// No cycle of a round begins later.
    pub round: Duration,
    /// Rounds of each contender in each cell.
    pub runs: usize,
}

/// Contenders who take turns on one ground.
#[derive(Debug)]
pub struct Contest<'a> {
    ground: &'a Ground,
    form: Form,
    contenders: Vec<Option<Box<dyn Contender>>>,
    failed: Vec<String>,
}

impl<'a> Contest<'a> {
    /// Of these.
    #[must_use]
    pub fn new(ground: &'a Ground, form: Form, contenders: Vec<Box<dyn Contender>>) -> Self {
        Self { ground, form, contenders: contenders.into_iter().map(Some).collect(), failed: Vec::new() }
    }

    /// A cell: one round each to get warm, then turns (A B C D, B C D A, ...), so that a busy minute hits all of them. Nothing is left to be
    /// written by others when a round begins. Whoever fails is out from here on.
    ///
    /// # Errors
    /// When the ground cannot be settled.
    pub fn cell(&mut self, content: &Bytes, in_flight: usize) -> Result<Vec<Outcome>, BoxError> {
        let mut outcomes = self
            .contenders
            .iter()
            .map(|contender| {
                let contender = contender.as_ref().filter(|one| one.takes(content.len()))?;
                Some(Outcome::new(contender.label().clone(), content.len(), in_flight))
            })
            .collect::<Vec<_>>();
        let whole = Load { in_flight, cycles_max: CYCLES_MAX, time_max: self.form.round };
        let warm = Load { time_max: self.form.round / 3, ..whole };
        let many = self.contenders.len();
        for turn in 0..=self.form.runs {
            for who in (0..many).map(|n| (turn + n) % many) {
                let (Some(contender), Some(outcome)) = (&self.contenders[who], &mut outcomes[who]) else {
                    continue;
                };
                self.ground.settle()?;
                match contender.round(if turn == 0 { warm } else { whole }, content) {
                    Ok(round) if turn > 0 => outcome.add(round),
                    Ok(_) => {}
                    Err(error) => {
                        let name = &contender.label().name;
                        let cell = format!("{} / {in_flight}", crate::size(content.len()));
                        self.failed.push(format!("{name}, {cell}: {error}"));
                        (self.contenders[who], outcomes[who]) = (None, None);
                    }
                }
            }
        }
        Ok(outcomes.into_iter().flatten().collect())
    }

    /// Ends all of them. Gives what they say at the end, and how those failed who did.
    #[must_use]
    pub fn close(self) -> (Vec<String>, Vec<String>) {
        let Self { contenders, mut failed, .. } = self;
        let mut said = Vec::new();
        for contender in contenders.into_iter().flatten() {
            let name = contender.label().name.clone();
            match contender.close() {
                Ok(words) => said.extend(words.map(|words| format!("{name}: {words}"))),
                Err(error) => failed.push(format!("{name}, at the end: {error}")),
            }
        }
        (said, failed)
    }
}

/// Bytes that do not repeat soon.
#[must_use]
pub fn content(size: usize) -> Bytes {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let step = |_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[0]
    };
    (0..size).map(step).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;
    use crate::cycles::{Kind, Label, Promise, Round};

    #[derive(Debug)]
    struct Told {
        label: Label,
        told: Arc<Mutex<String>>,
        size_max: usize,
        breaks: bool,
    }

    impl Contender for Told {
        fn label(&self) -> &Label {
            &self.label
        }

        fn settings(&self) -> String {
            String::new()
        }

        fn takes(&self, bytes: usize) -> bool {
            bytes <= self.size_max
        }

        fn round(&self, _load: Load, content: &Bytes) -> Result<Round, BoxError> {
            self.told.lock().unwrap().push_str(&self.label.name);
            if self.breaks && content.len() > 1 {
                return Err("broken".into());
            }
            Ok(Round { took: Duration::from_secs(1), times: vec![Duration::ZERO; 2] })
        }
    }

    #[test]
    fn they_take_turns_and_who_fails_is_out() {
        let temp = tempfile::tempdir().unwrap();
        let ground = Ground::below(temp.path()).unwrap();
        let told = Arc::new(Mutex::new(String::new()));
        let one = |name: &str, size_max, breaks| {
            let label = Label::new(name, Kind::Stock, Promise::Durable);
            Box::new(Told { label, told: Arc::clone(&told), size_max, breaks }) as Box<dyn Contender>
        };
        let form = Form { round: Duration::from_secs(1), runs: 2 };
        let all = vec![one("A", 9, false), one("B", 9, true), one("C", 1, false)];
        let mut contest = Contest::new(&ground, form, all);

        let first = contest.cell(&content(1), 1).unwrap();
        assert_eq!(told.lock().unwrap().split_off(0), "ABCBCACAB");
        assert!(first.iter().all(|outcome| outcome.rates == [2.0, 2.0]) && first.len() == 3);

        let second = contest.cell(&content(2), 1).unwrap();
        assert_eq!(told.lock().unwrap().split_off(0), "ABAA", "C takes no such size, and B is out");
        assert_eq!(second.len(), 1);
        assert_eq!(contest.cell(&content(2), 8).unwrap().len(), 1);
        assert_eq!(told.lock().unwrap().split_off(0), "AAA", "B stays out");
        assert_eq!(contest.close(), (vec![], vec!["B, 2 B / 1: broken".into()]));
    }
}
