//! How many requests the canary gets: for people.

use std::collections::VecDeque;

/// How many requests the canary gets, of late.
#[derive(Clone, Debug, Default)]
pub(super) struct Pace(VecDeque<(i64, u64)>);

impl Pace {
    const SECONDS: i64 = 10;

    /// Started in this second; `None`: it was under no weight, or another one.
    pub(super) fn note(&mut self, at: i64, started: Option<u64>) {
        let Some(started) = started else {
            self.0.clear();
            return;
        };
        self.0.push_back((at, started));
        while self
            .0
            .front()
            .is_some_and(|(of, _)| *of <= at - Pace::SECONDS)
        {
            self.0.pop_front();
        }
    }

    pub(super) fn per_second(&self) -> Option<f64> {
        let ((first, _), (last, _)) = (self.0.front()?, self.0.back()?);
        let started: u64 = self.0.iter().map(|(_, started)| started).sum();
        Some(started as f64 / (last - first + 1) as f64)
    }
}
