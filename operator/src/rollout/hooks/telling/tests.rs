use rollout_core::Cause;
use rollout_core::plan::Percent;
use rollout_core::state::Phase;
use serde_json::json;

use super::*;
use crate::key::Key;
use crate::reason::Tone;
use crate::rollout::hooks::CallError;
use crate::rollout::hooks::tests::hook;
use crate::rollout::testing;

fn hooks() -> Vec<Hook> {
    let told = |name: &str| hook(json!({"name": name, "when": "AfterResult", "retries": 1}));
    vec![hook(json!({"name": "asked"})), told("a"), told("b")]
}

fn about(run: u64) -> Option<Subject> {
    let mut state = testing::state(Phase::Stable);
    state.run.as_mut().unwrap().number = run;
    Subject::of(&Key::new("shop", "web"), "uid", &state)
}

fn rolled_back() -> [Event; 1] {
    [Event::RolledBack {
        revision: "new".to_owned(),
        cause: Cause::AnalysisFailed,
        from: Percent::new(10).unwrap(),
    }]
}

fn promoted() -> [Event; 1] {
    let revision = "new".to_owned();
    [Event::Promoted { revision }]
}

fn says(telling: &mut Telling, result: Result<(), CallError>, now: Time) -> (String, Option<Note>) {
    let call = telling.tell(&hooks(), now).expect("a call is due");
    let called = Called {
        id: call.id,
        result,
    };
    let key = call.message.key().to_owned();
    (key, telling.take(&called, &hooks(), now))
}

#[test]
fn everybody_is_told_once_in_the_order_in_which_runs_ended() {
    let mut telling = Telling::default();
    telling.note(&rolled_back(), &hooks(), about(7));
    telling.note(&promoted(), &hooks(), about(8));
    let call = telling.tell(&hooks(), Time(0)).unwrap();
    assert_eq!(
        serde_json::to_value(&call.message).unwrap(),
        json!({
            "hook": "a", "when": "AfterResult", "namespace": "shop", "name": "web", "uid": "uid", "run": 7,
            "canary": "new", "stable": "old", "phase": "RollingBack", "steps": 2, "weight": 10,
            "result": "RolledBack", "cause": "AnalysisFailed", "key": "uid/7/result/a", "attempt": 1,
        })
    );
    assert_eq!(telling.tell(&hooks(), Time(0)), None, "it is under way");
    telling.under_way = None;
    let keys: Vec<String> = (0..4)
        .map(|_| says(&mut telling, Ok(()), Time(0)).0)
        .collect();
    let expected = [
        "uid/7/result/a",
        "uid/7/result/b",
        "uid/8/result/a",
        "uid/8/result/b",
    ];
    assert_eq!(keys, expected);
    assert_eq!(telling.tell(&hooks(), Time(0)), None);
    assert_eq!(telling.untold(), []);
}

#[test]
fn what_is_promoted_is_stable_whatever_its_run_was_doing() {
    let mut telling = Telling::default();
    telling.note(&promoted(), &hooks(), about(7));
    let call = telling.tell(&hooks(), Time(0)).unwrap();
    let message = serde_json::to_value(&call.message).unwrap();
    let said = ["canary", "stable", "phase", "weight", "result"].map(|field| &message[field]);
    assert_eq!(
        said,
        ["new", "new", "Stable", "100", "Promoted"]
            .map(|it| it.parse().map_or(json!(it), |number: u64| json!(number)))
            .each_ref()
    );
}

#[test]
fn whoever_cannot_be_told_is_given_up_and_that_is_said() {
    let mut telling = Telling::default();
    telling.note(&promoted(), &hooks(), about(7));
    assert_eq!(
        says(&mut telling, Err(CallError::Status(500)), Time(0)).1,
        None
    );
    assert_eq!(telling.next(), Some(Time(1000)));
    assert_eq!(telling.tell(&hooks(), Time(999)), None, "too early");
    let note = says(&mut telling, Err(CallError::Status(500)), Time(1000))
        .1
        .unwrap();
    assert_eq!(note.tone, Tone::Warning);
    assert_eq!(
        note.text,
        "hook a could not be told of the promotion of run 7 in 2 tries (HTTP status 500); nothing waits for it"
    );
    assert_eq!(says(&mut telling, Ok(()), Time(1000)).0, "uid/7/result/b");
}

#[test]
fn a_restarted_operator_tells_those_who_were_not_told() {
    let mut before = Telling::default();
    before.note(&promoted(), &hooks(), about(7));
    says(&mut before, Ok(()), Time(0));
    let kept = serde_json::to_value(before.untold()).unwrap();
    let mut after = Telling::recall(serde_json::from_value(kept).unwrap());
    assert_eq!(says(&mut after, Ok(()), Time(0)).0, "uid/7/result/b");
}

#[test]
fn where_nobody_wants_to_know_nothing_is_kept_and_only_so_much_where_somebody_does() {
    let mut telling = Telling::default();
    telling.note(&promoted(), &hooks()[..1], about(7));
    telling.note(&[Event::Recreated], &hooks(), about(7));
    assert_eq!(telling.untold(), []);
    for run in 0..10 {
        telling.note(&promoted(), &hooks(), about(run));
    }
    let runs: Vec<u64> = telling.untold().iter().map(|it| it.subject.run).collect();
    assert_eq!(runs, [6, 7, 8, 9]);
    // The hooks were taken out of the spec.
    assert_eq!(telling.tell(&[], Time(0)), None);
    assert_eq!(telling.untold(), []);
}
