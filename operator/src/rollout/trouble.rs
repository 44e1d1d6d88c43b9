//! Requests that fail: when they are tried again, and what people are told. A request that fails switches nothing else off.

use std::collections::{BTreeMap, BTreeSet};

use rollout_core::time::{Span, Time};

use super::events::Note;
use super::problems::Problem;
use super::write::WriteError;
use crate::reason::Reason;

/// The first pause, and the longest, in milliseconds; each is twice the one before.
const FIRST: i64 = 200;
const LONGEST: i64 = 15_000;
/// What lasts shorter than this many tries is nobody's business.
const WORTH_TELLING: u32 = 3;
/// That something exists may only mean that we made it and a slow watch has not told of it yet: it has six seconds for that.
const A_STRANGERS: u32 = 6;

/// What was done is not asked for again for this long: the views have to see it first.
const SEEN: Span = Span::seconds(1);

#[derive(Clone, Debug, Default)]
pub(super) struct Troubles {
    failing: BTreeMap<String, Trouble>,
    /// Until when what was done is waited for to be seen.
    done: BTreeMap<String, Time>,
}

#[derive(Clone, Debug)]
struct Trouble {
    reason: Reason,
    message: String,
    /// What it is about does not exist.
    missing: bool,
    tries: u32,
    next: Time,
    shown: bool,
}

impl Troubles {
    /// Whether this may be tried now. `what` names the request.
    pub(super) fn may_try(&self, what: &str, now: Time) -> bool {
        let failing = self.failing.get(what).map(|trouble| trouble.next);
        let done = self.done.get(what).copied();
        failing.max(done).is_none_or(|next| next <= now)
    }

    /// It failed. What is new to people comes back.
    pub(super) fn failed(
        &mut self,
        what: &str,
        reason: Reason,
        failing: &str,
        error: &WriteError,
        now: Time,
    ) -> Option<Note> {
        let trouble = self.failing.entry(what.to_owned()).or_insert(Trouble {
            reason,
            message: String::new(),
            missing: false,
            tries: 0,
            next: now,
            shown: false,
        });
        trouble.missing = matches!(error, WriteError::Gone);
        trouble.tries = trouble.tries.saturating_add(1);
        let pause = FIRST
            .saturating_mul(1 << trouble.tries.min(10).saturating_sub(1))
            .min(LONGEST);
        trouble.next = now + Span(pause);
        let message = format!("{failing}: {error}");
        let enough = match error {
            WriteError::Refused(_) | WriteError::Gone => 1,
            WriteError::Conflict | WriteError::Unavailable(_) => WORTH_TELLING,
            WriteError::Exists => A_STRANGERS,
        };
        let show = trouble.tries >= enough;
        let is_new = show && (!trouble.shown || trouble.message != message);
        trouble.shown = show;
        trouble.message = message.clone();
        is_new.then(|| Note::warning(reason, message))
    }

    /// Whether it failed because what it is about does not exist.
    pub(super) fn is_missing(&self, what: &str) -> bool {
        self.failing.get(what).is_some_and(|it| it.missing)
    }

    /// Whether people should know that it fails.
    pub(super) fn is_shown(&self, what: &str) -> bool {
        self.failing.get(what).is_some_and(|it| it.shown)
    }

    pub(super) fn over(&mut self, what: &str) {
        self.failing.remove(what);
    }

    /// It is done, and will be seen in a moment.
    pub(super) fn done(&mut self, what: &str, now: Time) {
        self.failing.remove(what);
        self.done.insert(what.to_owned(), now + SEEN);
    }

    /// What is not asked for any more is no trouble.
    pub(super) fn only(&mut self, asked: &BTreeSet<String>, now: Time) {
        self.failing.retain(|what, _| asked.contains(what));
        // What was just done is remembered all the same: if somebody undoes it at once, it is not done again at once.
        self.done.retain(|_, until| *until > now);
    }

    /// The clock was set.
    pub(super) fn shift(&mut self, by: Span) {
        let failing = self.failing.values_mut().map(|trouble| &mut trouble.next);
        for time in failing.chain(self.done.values_mut()) {
            *time = *time + by;
        }
    }

    /// The first of those that people should know of.
    pub(super) fn problem(&self) -> Option<Problem> {
        let shown = self.failing.values().find(|trouble| trouble.shown)?;
        Some(Problem {
            reason: shown.reason,
            message: shown.message.clone(),
        })
    }

    /// The next moment at which something may be tried again. One that is past hides none that is to come.
    pub(super) fn next(&self, now: Time) -> Option<Time> {
        let failing = self.failing.values().map(|trouble| trouble.next);
        failing
            .chain(self.done.values().copied())
            .filter(|at| *at > now)
            .min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fail(troubles: &mut Troubles, error: &WriteError, now: i64) -> Option<Note> {
        troubles.failed(
            "x",
            Reason::CopyNotMade,
            "the copy cannot be made",
            error,
            Time(now),
        )
    }

    #[test]
    fn a_refusal_is_told_once_and_tried_again_ever_more_slowly() {
        let mut troubles = Troubles::default();
        let refused = WriteError::Refused("exceeded quota".to_owned());
        let note = fail(&mut troubles, &refused, 0).unwrap();
        assert_eq!(note.reason, "CopyNotMade");
        assert!(note.text.contains("exceeded quota"), "{}", note.text);
        let mut pauses = Vec::new();
        for _ in 0..10 {
            let before = Time(0);
            let now = troubles.next(before).unwrap();
            assert!(!troubles.may_try("x", Time(now.0 - 1)) && troubles.may_try("x", now));
            assert_eq!(fail(&mut troubles, &refused, now.0), None, "told before");
            pauses.push((troubles.next(before).unwrap() - now).0);
        }
        assert!(
            pauses.is_sorted() && *pauses.last().unwrap() == LONGEST,
            "{pauses:?}"
        );
        assert!(troubles.problem().is_some());
        troubles.over("x");
        assert!(troubles.problem().is_none() && troubles.may_try("x", Time(0)));
    }

    #[test]
    fn what_is_done_is_not_asked_for_again_before_it_can_be_seen() {
        let mut troubles = Troubles::default();
        troubles.done("x", Time(0));
        assert!(!troubles.may_try("x", Time(999)) && troubles.may_try("x", Time(1000)));
        assert_eq!(troubles.next(Time(0)), Some(Time(1000)));
        troubles.only(&BTreeSet::new(), Time(500));
        assert!(
            !troubles.may_try("x", Time(999)),
            "undone at once, it waits all the same"
        );
        troubles.only(&BTreeSet::new(), Time(1000));
        assert_eq!(troubles.next(Time(0)), None, "it was seen");
    }

    #[test]
    fn what_lasts_a_moment_is_nobodys_business() {
        let mut troubles = Troubles::default();
        let away = WriteError::Unavailable("too many requests".to_owned());
        assert_eq!(fail(&mut troubles, &away, 0), None);
        assert_eq!(fail(&mut troubles, &away, 1), None);
        assert!(troubles.problem().is_none());
        assert!(fail(&mut troubles, &away, 2).is_some());
    }

    #[test]
    fn what_exists_is_a_strangers_when_a_slow_watch_would_have_told_of_it() {
        let mut troubles = Troubles::default();
        let mut now = Time(0);
        while fail(&mut troubles, &WriteError::Exists, now.0).is_none() {
            now = troubles.next(now).unwrap();
        }
        assert_eq!(now, Time(6200));
    }

    #[test]
    fn what_is_past_hides_nothing_that_is_to_come() {
        let mut troubles = Troubles::default();
        let away = WriteError::Unavailable("no answer in time".to_owned());
        fail(&mut troubles, &away, 0);
        troubles.failed(
            "y",
            Reason::NotRead,
            "it cannot be read",
            &away,
            Time(10_000),
        );
        assert_eq!(troubles.next(Time(10_000)), Some(Time(10_200)));
    }
}
