use rollout_core::state::{Phase, State};
use serde_json::json;

use super::*;
use crate::key::Key;
use crate::reason::{Reason, Tone};
use crate::rollout::hooks::tests::hook;
use crate::rollout::testing;

/// Run 7 before its first raise, with these hooks.
struct Run {
    asking: Asking,
    hooks: Vec<Hook>,
    plan: Plan,
    state: State,
    ahead: Option<Ahead>,
    now: Time,
}

fn run(hooks: Vec<Hook>) -> Run {
    let state = testing::state(Phase::Scaling {
        step: 0,
        since: Time(0),
    });
    Run {
        asking: Asking::default(),
        hooks,
        plan: testing::plan(),
        state,
        ahead: Some(Ahead::Step(0)),
        now: Time(0),
    }
}

impl Run {
    fn look(&mut self) -> Option<Call> {
        let (hooks, number) = (&self.hooks, self.state.run.as_ref().unwrap().number);
        self.asking.follow(hooks, number, &self.plan, self.ahead);
        let subject = Subject::of(&Key::new("shop", "web"), "uid", &self.state).unwrap();
        let (plan, now) = (&self.plan, self.now);
        self.asking.ask(hooks, plan, self.ahead?, subject, now)
    }

    fn word(&self) -> Hooks {
        let number = self.state.run.as_ref().unwrap().number;
        let (plan, ahead) = (&self.plan, self.ahead);
        self.asking.word(&self.hooks, number, plan, ahead, self.now)
    }

    fn waits(&self) -> Option<Waits> {
        let (plan, ahead) = (&self.plan, self.ahead?);
        self.asking.waits(&self.hooks, plan, ahead, self.now)
    }

    /// The call that is due is made, and brings this.
    fn says(&mut self, result: Result<(), CallError>) -> Option<Note> {
        let call = self.look().expect("a call is due");
        let called = Called {
            id: call.id,
            result,
        };
        self.asking.take(&called, self.now)
    }

    /// It is asked again after so many seconds, and not before.
    fn pauses(&mut self, seconds: i64) {
        self.now = self.now + Span(seconds * 1000 - 1);
        assert_eq!(self.look(), None, "too early");
        self.now = self.now + Span(1);
        assert_eq!(self.asking.next(), Some(self.now));
    }
}

fn no() -> Result<(), CallError> {
    Err(CallError::Status(503))
}

#[test]
fn nobody_is_asked_where_there_is_no_hook() {
    let mut run = run(Vec::new());
    assert_eq!((run.look(), run.word()), (None, Hooks::Agree));
}

#[test]
fn hooks_are_asked_one_after_the_other_and_each_once() {
    let mut run = run(vec![
        hook(json!({"name": "b"})),
        hook(json!({"name": "other", "weights": [100]})),
        hook(json!({"name": "a", "when": "Gate"})),
    ]);
    assert_eq!(run.word(), Hooks::Hold, "before anybody was asked");
    let first = run.look().unwrap();
    assert_eq!(run.look(), None, "it is under way");
    let message = serde_json::to_value(&first.message).unwrap();
    assert_eq!(
        message,
        json!({
            "hook": "b", "when": "BeforeStep", "namespace": "shop", "name": "web", "uid": "uid", "run": 7,
            "canary": "new", "stable": "old", "phase": "Starting", "step": 1, "steps": 2, "weight": 0, "nextWeight": 10,
            "key": "uid/7/step-1/b", "attempt": 1,
        })
    );
    let called = Called {
        id: first.id,
        result: Ok(()),
    };
    let note = run.asking.take(&called, run.now).unwrap();
    assert_eq!((note.tone, note.reason), (Tone::Normal, Reason::HookAgreed));
    assert_eq!(note.text, "hook b agrees to weight 10%");
    assert_eq!(run.word(), Hooks::Hold, "the second has not agreed");
    assert!(run.says(Ok(())).is_some());
    assert_eq!((run.look(), run.word()), (None, Hooks::Agree));
    assert_eq!(run.asking.take(&called, run.now), None, "the same again");
}

#[test]
fn a_hook_is_tried_again_and_holds_until_it_agrees() {
    let mut run = run(vec![hook(json!({"retries": 2, "interval": "20s"}))]);
    assert_eq!(run.says(no()), None);
    run.pauses(1);
    assert_eq!(run.says(no()), None);
    assert!(!run.waits().unwrap().failed);
    run.pauses(2);
    let note = run.says(no()).unwrap();
    assert_eq!(
        (note.tone, note.reason),
        (Tone::Warning, Reason::HookFailed)
    );
    assert_eq!(
        note.text,
        "hook a did not agree to weight 10% in 3 tries (HTTP status 503): the weight stays, and it is asked again every 20s"
    );
    for tries in 4..10 {
        run.pauses(20);
        assert_eq!(run.says(no()), None, "it is said once");
        let waits = run.waits().unwrap();
        assert!(waits.failed);
        assert_eq!(waits.tries, tries);
        assert_eq!(run.word(), Hooks::Hold);
    }
    run.pauses(20);
    let called = run.look().unwrap();
    assert_eq!(
        serde_json::to_value(&called.message).unwrap()["attempt"],
        10
    );
    run.asking.under_way = None;
    assert!(run.says(Ok(())).is_some());
    assert_eq!(run.word(), Hooks::Agree);
}

#[test]
fn a_hook_that_rolls_back_refuses_and_one_that_is_ignored_agrees() {
    let mut refuses = run(vec![hook(json!({"retries": 0, "onFailure": "Rollback"}))]);
    let note = refuses.says(Err(CallError::TooLate(std::time::Duration::from_secs(10))));
    assert!(note.unwrap().text.ends_with("so the weight goes to 0"));
    assert_eq!(refuses.word(), Hooks::Refuse);
    let why = refuses.asking.refusal().unwrap();
    assert_eq!(why, "hook a: no answer within 10s");
    refuses.ahead = None;
    assert_eq!(
        refuses.word(),
        Hooks::Refuse,
        "whatever else is missing now"
    );
    refuses.state.run.as_mut().unwrap().number = 8;
    assert_eq!(refuses.word(), Hooks::Agree, "another run is another story");

    let mut ignored = run(vec![hook(json!({"retries": 0, "onFailure": "Ignore"}))]);
    assert_eq!(ignored.says(no()).unwrap().tone, Tone::Warning);
    assert_eq!((ignored.look(), ignored.word()), (None, Hooks::Agree));
}

#[test]
fn a_gate_is_asked_every_interval_and_its_word_does_not_last_longer() {
    let gate = hook(json!({"when": "Gate", "interval": "15s", "retries": 0}));
    let mut run = run(vec![gate]);
    let note = run.says(Err(CallError::Status(409))).unwrap();
    assert_eq!(
        (note.tone, note.reason),
        (Tone::Normal, Reason::HookWaiting)
    );
    for _ in 0..20 {
        run.pauses(15);
        assert_eq!(run.says(Err(CallError::Status(409))), None);
        let waits = run.waits().unwrap();
        assert!(waits.is_gate && !waits.failed);
    }
    run.pauses(15);
    assert!(run.says(Ok(())).is_some());
    assert_eq!(run.word(), Hooks::Agree);
    // Somebody holds the release for longer than that.
    run.ahead = None;
    run.now = run.now + Span::seconds(15);
    assert_eq!(run.look(), None);
    run.ahead = Some(Ahead::Step(0));
    assert_eq!(run.word(), Hooks::Hold);
    assert_eq!(run.says(Ok(())), None, "that it agrees is said once");
    assert_eq!(run.word(), Hooks::Agree);
}

#[test]
fn the_next_raise_and_the_next_run_are_other_questions() {
    let mut run = run(vec![hook(json!({"when": "Gate"}))]);
    let late = run.look().unwrap();
    run.ahead = Some(Ahead::Step(1));
    let call = run
        .look()
        .expect("it does not wait for the answer about another step");
    assert_ne!(call.id, late.id);
    let called = Called {
        id: late.id,
        result: Ok(()),
    };
    assert_eq!(run.asking.take(&called, run.now), None);
    assert_eq!(run.word(), Hooks::Hold, "a late answer says nothing");
    run.asking.under_way = None;
    assert!(run.says(Ok(())).is_some());
    for (number, ahead) in [(7, Ahead::Promotion), (8, Ahead::Promotion)] {
        run.state.run.as_mut().unwrap().number = number;
        run.ahead = Some(ahead);
        run.look().expect("asked again");
        assert_eq!(run.word(), Hooks::Hold);
        run.asking.under_way = None;
        assert!(run.says(Ok(())).is_some());
        assert_eq!(run.word(), Hooks::Agree);
    }
}

#[test]
fn a_hook_that_is_edited_is_asked_anew_and_one_that_is_taken_out_is_not_waited_for() {
    let mut run = run(vec![hook(json!({"retries": 0, "onFailure": "Rollback"}))]);
    run.says(no());
    run.hooks = vec![hook(json!({"url": "https://hooks.example/b"}))];
    let call = run.look().expect("it is another one");
    assert_eq!(run.word(), Hooks::Hold);
    run.hooks = Vec::new();
    assert_eq!((run.look(), run.word()), (None, Hooks::Agree));
    let called = Called {
        id: call.id,
        result: no(),
    };
    assert_eq!(run.asking.take(&called, run.now), None);
    assert_eq!(run.asking.next(), None);
}

#[test]
fn a_clock_that_is_set_puts_no_question_off() {
    let mut run = run(vec![hook(json!({}))]);
    run.says(no());
    run.asking.shift(Span(-50_000));
    run.now = Time(-50_000);
    run.pauses(1);
}

#[test]
fn pauses_double_and_end_at_half_a_minute() {
    let seconds: Vec<i64> = (1..8).map(|tries| pause(tries).0 / 1000).collect();
    assert_eq!(seconds, [1, 2, 4, 8, 16, 30, 30]);
    assert_eq!(pause(u32::MAX), Span(LONGEST));
}
