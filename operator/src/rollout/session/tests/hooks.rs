//! Hooks: what waits for them, and what does not.

use super::*;
use crate::rollout::hooks::{CallError, Called};

/// A release whose pods are there, with this hook before its first raise.
fn asking(hook: Value) -> Shop {
    let mut shop = Shop::open();
    let mut one = json!({"name": "load-test", "when": "BeforeStep", "url": "https://hooks.example/", "retries": 1});
    json_patch::merge(&mut one, &hook);
    shop.store(|stored| stored["spec"]["hooks"] = json!([one]));
    shop.watch();
    shop.rest(Api::Works);
    shop.deployment("v2", 2, true);
    shop.rest(Api::Works);
    assert_eq!(shop.phase(), "Starting");
    shop
}

impl Shop {
    /// The call that is due, or was since somebody looked last.
    fn call(&mut self) -> Call {
        self.rest(Api::Works);
        assert_eq!(self.calls.len(), 1, "one at a time");
        self.calls.remove(0)
    }

    /// Nobody is called.
    fn is_quiet(&mut self) -> bool {
        self.rest(Api::Works);
        self.calls.is_empty()
    }

    fn answer(&mut self, call: &Call, result: Result<(), CallError>) {
        let called = Called {
            id: call.id,
            result,
        };
        self.session.called(&called, clock(self.now));
    }

    /// Every try of it fails.
    fn fails(&mut self, call: &Call) {
        self.answer(call, Err(CallError::Status(503)));
        self.now = self.now + Span(1_000);
        let again = self.call();
        self.answer(&again, Err(CallError::Status(503)));
        self.rest(Api::Works);
    }

    fn message(&self) -> &str {
        self.stored["status"]["message"].as_str().unwrap()
    }
}

#[test]
fn a_hook_is_asked_when_the_pods_are_ready_and_the_weight_waits_for_its_word() {
    let mut shop = asking(json!({}));
    assert!(shop.is_quiet(), "there are no pods yet");
    shop.copy(1);
    let call = shop.call();
    shop.now = shop.now + Span(60_000);
    shop.rest(Api::Works);
    assert!(shop.is_quiet(), "it is under way");
    assert_eq!((shop.sent(), shop.phase().as_str()), (0, "Starting"));
    assert_eq!(shop.reason("Reconciling"), "HookWaiting");
    assert!(
        shop.message()
            .contains("step 1/2: waiting for hook load-test before weight 50%, being asked"),
        "{}",
        shop.message()
    );
    shop.answer(&call, Ok(()));
    shop.rest(Api::Works);
    assert_eq!(shop.sent(), 50);
    assert!(shop.told.contains(&"HookAgreed"), "{:?}", shop.told);
}

#[test]
fn a_hook_that_fails_holds_and_says_so_and_is_asked_again() {
    let mut shop = asking(json!({}));
    shop.copy(1);
    let call = shop.call();
    shop.fails(&call);
    assert_eq!(shop.sent(), 0);
    assert_eq!(shop.reason("Stalled"), "HookFailed");
    assert!(
        shop.message()
            .contains("tried 2 times (HTTP status 503), asked again at "),
        "{}",
        shop.message()
    );
    assert!(shop.told.contains(&"HookFailed"), "{:?}", shop.told);
    let wake = shop.step().wake.unwrap();
    assert!(wake <= shop.now + Span(30_000), "somebody has to wake it");
    shop.now = shop.now + Span(30_000);
    let call = shop.call();
    shop.answer(&call, Ok(()));
    shop.rest(Api::Works);
    assert_eq!(shop.sent(), 50);
    assert_eq!(shop.reason("Stalled"), "Soaking");
}

#[test]
fn a_hook_that_rolls_back_ends_the_run_with_its_words() {
    let mut shop = asking(json!({"onFailure": "Rollback", "retries": 1}));
    shop.copy(1);
    let call = shop.call();
    shop.fails(&call);
    assert_eq!(shop.phase(), "RollingBack");
    assert_eq!(shop.reason("RolledBack"), "HookRefused");
    assert!(
        shop.message()
            .contains("a hook did not agree (hook load-test: HTTP status 503)"),
        "{}",
        shop.message()
    );
}

/// A window that is judged meanwhile is not why.
#[test]
fn a_hook_that_ends_a_run_is_why_whatever_else_was_judged() {
    let mut shop = asking(json!({"weights": [100], "onFailure": "Rollback", "retries": 0}));
    shop.copy(1);
    shop.rest(Api::Works);
    shop.judge(Verdict::Pass, Api::Works);
    shop.judge(Verdict::Pass, Api::Works);
    shop.copy(2);
    let call = shop.call();
    shop.now = shop.now + Span(5_000);
    let step = shop.step();
    let question = step.question.expect("a window is due");
    if let Some(write) = step.write {
        let written = shop.perform(&write, Api::Works);
        shop.session.wrote(written, clock(shop.now));
    }
    shop.answer(&call, Err(CallError::Status(500)));
    shop.session.answered(Answer {
        run: question.run,
        start: question.start,
        end: question.end,
        outcome: testing::answer(None).outcome,
    });
    shop.rest(Api::Works);
    assert_eq!(shop.reason("RolledBack"), "HookRefused");
    let failure = &shop.stored["status"]["failure"]["message"];
    assert_eq!(failure, "hook load-test: HTTP status 500");
}

#[test]
fn a_rollback_waits_for_no_hook_and_a_late_yes_raises_nothing() {
    let mut shop = asking(json!({"weights": [100]}));
    shop.copy(1);
    shop.rest(Api::Works);
    assert_eq!(shop.sent(), 50, "it is not asked about this weight");
    shop.judge(Verdict::Pass, Api::Works);
    shop.judge(Verdict::Pass, Api::Works);
    assert!(shop.is_quiet(), "its second pod is not there");
    shop.copy(2);
    let call = shop.call();
    shop.rest(Api::Works);
    assert_eq!((shop.sent(), shop.phase().as_str()), (50, "Scaling"));
    // It hangs, and meanwhile the stable template is back, and the API server is away.
    shop.deployment("v1", 3, true);
    shop.rest(Api::Away);
    assert_eq!(shop.sent(), 0);
    shop.answer(&call, Ok(()));
    shop.now = shop.now + Span(60_000);
    shop.rest(Api::Works);
    assert_eq!(shop.sent(), 0);
}

#[test]
fn windows_are_judged_while_a_hook_is_waited_for() {
    let mut shop = asking(json!({"weights": [100]}));
    shop.copy(1);
    shop.rest(Api::Works);
    shop.judge(Verdict::Pass, Api::Works);
    shop.judge(Verdict::Pass, Api::Works);
    assert!(shop.is_quiet(), "its second pod is not there");
    shop.copy(2);
    let _hangs = shop.call();
    for _ in 0..3 {
        shop.judge(Verdict::Fail, Api::Works);
    }
    assert_eq!(shop.sent(), 0);
    assert_eq!(shop.reason("RolledBack"), "AnalysisFailed");
}

#[test]
fn an_operator_that_takes_over_asks_again_with_the_same_key() {
    let mut shop = asking(json!({}));
    shop.copy(1);
    let before = shop.call();
    shop.session = Session::new(
        Arc::new(serde_json::from_value(shop.stored.clone()).unwrap()),
        shop.now,
    );
    let after = shop.call();
    assert_eq!(before.message.key(), after.message.key());
    shop.answer(&after, Ok(()));
    shop.rest(Api::Works);
    assert_eq!(shop.sent(), 50);
}

#[test]
fn a_suspended_release_asks_nobody() {
    let mut shop = asking(json!({}));
    shop.store(|stored| stored["spec"]["suspend"] = json!(true));
    shop.watch();
    shop.copy(1);
    shop.rest(Api::Works);
    assert!(shop.is_quiet());
    assert_eq!(shop.sent(), 0);
}

#[test]
fn a_result_is_told_once_and_nothing_waits_for_it() {
    let mut shop = asking(json!({"when": "AfterResult"}));
    shop.copy(1);
    shop.rest(Api::Works);
    assert_eq!(shop.sent(), 50, "it is asked about nothing");
    shop.deployment("v1", 3, true);
    let call = shop.call();
    assert_eq!(shop.sent(), 0);
    let message = serde_json::to_value(&call.message).unwrap();
    assert_eq!(message["result"], "RolledBack");
    assert_eq!(message["cause"], "TemplateReverted");
    assert_eq!(message["weight"], 50);
    // It hangs.
    shop.delete_copy();
    for _ in 0..3 {
        shop.now = shop.now + Span(10_000);
        shop.rest(Api::Works);
    }
    assert_eq!(shop.phase(), "Stable");
    assert_eq!(
        shop.stored["status"]["machine"]["ended"][0]["result"],
        "RolledBack"
    );
    // Whoever takes over tells it again, with the same key.
    shop.session = Session::new(
        Arc::new(serde_json::from_value(shop.stored.clone()).unwrap()),
        shop.now,
    );
    let again = shop.call();
    assert_eq!(call.message.key(), again.message.key());
    shop.answer(&again, Ok(()));
    shop.rest(Api::Works);
    assert_eq!(shop.stored["status"]["machine"]["ended"], json!([]));
    assert!(shop.is_quiet());
}
