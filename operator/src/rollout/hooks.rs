//! Hooks: who is asked before a weight is raised or a release promoted, and who is told how it ended.
//!
//! ```text
//!   advance says what is ahead -> asking: whose turn it is -> Call -> driver -> call: signs and sends, beside everything
//!                                 asking <- what came of it, the input of a later step
//! ```
//!
//! - A hook is asked when nothing but its word is missing, one after the other, and at most one is under way.
//! - What it says holds a raise or ends the run ([`Hooks`](rollout_core::Hooks)); nothing that lowers waits for it.
//! - What was said is kept in memory only: a restarted operator asks again, with the same idempotency key.
//! - Nothing of an answer but its status is read, and no text of it is shown.

mod asking;
pub mod call;
mod message;
mod telling;

use std::time::Duration;

use aviary_crds::hook::{Hook as Spec, OnHookFailure, When};
use aviary_crds::units::{self, UnitError};
use rollout_core::Ahead;
use rollout_core::plan::{Percent, Plan};
use rollout_core::time::Span;

pub(super) use asking::{Asking, Waits};
pub use call::{Call, CallError, Called, Caller, Id};
pub use message::Outcome;
pub use message::{Message, Subject};
pub use telling::Ended;
pub(super) use telling::Telling;

/// A hook that is slower is not asked but waited for: a Gate is.
const LONGEST_TIMEOUT: Duration = Duration::from_secs(60);
const SHORTEST_INTERVAL: Duration = Duration::from_secs(1);

/// A hook of the spec, parsed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hook {
    pub name: String,
    pub when: When,
    /// Empty: before every one.
    weights: Vec<Percent>,
    pub url: String,
    pub timeout: Duration,
    retries: u32,
    interval: Span,
    on_failure: OnHookFailure,
    pub secret: Option<String>,
}

/// What the CRD's schema did not catch.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidHook {
    #[error("spec.hooks, {name}: {field}: {source}")]
    Unit {
        name: String,
        field: &'static str,
        source: UnitError,
    },
    #[error(
        "spec.hooks, {0}: timeout is at most 1m; let a Gate answer at once, and say yes when it is time"
    )]
    Timeout(String),
    #[error("spec.hooks, {0}: interval is at least 1s")]
    Interval(String),
    #[error("spec.hooks, {0}: {1} is no weight")]
    Weight(String, i32),
}

impl Hook {
    pub fn parse(spec: &Spec) -> Result<Hook, InvalidHook> {
        let name = || spec.name.clone();
        let duration = |field, text: &str| {
            units::duration(text).map_err(|source| InvalidHook::Unit {
                name: name(),
                field,
                source,
            })
        };
        let timeout = duration("timeout", &spec.timeout)?;
        if timeout > LONGEST_TIMEOUT {
            return Err(InvalidHook::Timeout(name()));
        }
        let interval = duration("interval", &spec.interval)?;
        if interval < SHORTEST_INTERVAL {
            return Err(InvalidHook::Interval(name()));
        }
        let mut weights = Vec::with_capacity(spec.weights.len());
        for weight in &spec.weights {
            let percent = Percent::new(i64::from(*weight));
            weights.push(percent.map_err(|_| InvalidHook::Weight(name(), *weight))?);
        }
        Ok(Hook {
            name: name(),
            when: spec.when,
            weights,
            url: spec.url.clone(),
            timeout,
            retries: u32::try_from(spec.retries).unwrap_or(0),
            interval: Span(i64::try_from(interval.as_millis()).unwrap_or(i64::MAX / 4)),
            on_failure: spec.on_failure.unwrap_or_default(),
            secret: spec.secret_ref.as_ref().map(|secret| secret.name.clone()),
        })
    }

    /// Whether it is asked about this, of a run with this plan.
    fn is_asked(&self, plan: &Plan, about: Ahead) -> bool {
        match (self.when, about) {
            (When::BeforeStep | When::Gate, Ahead::Step(step)) => {
                let weight = plan.step(step).weight;
                self.weights.is_empty() || self.weights.contains(&weight)
            }
            (When::BeforePromotion, Ahead::Promotion) => true,
            (When::Gate, Ahead::Promotion) => self.weights.is_empty(),
            (When::BeforeStep, Ahead::Promotion)
            | (When::BeforePromotion, Ahead::Step(_))
            | (When::AfterResult, Ahead::Step(_) | Ahead::Promotion) => false,
        }
    }
}

#[cfg(test)]
mod tests;
