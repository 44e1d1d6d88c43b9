use aviary_crds::CanaryRollout;
use serde_json::Value;

use super::words::lines;
use super::*;

fn soaking() -> (CanaryRollout, Timestamp) {
    let value: Value = serde_json::from_str(include_str!("../view/testdata/soaking.json")).unwrap();
    let rollout = serde_json::from_value(value["rollout"].clone()).unwrap();
    (rollout, value["now"].as_str().unwrap().parse().unwrap())
}

#[test]
fn decisions_are_told_with_all_that_was_known() {
    let (rollout, now) = soaking();
    let text = lines(&why(&rollout, false), now).join("\n") + "\n";
    assert_eq!(text, include_str!("testdata/soaking.txt"));
}

#[test]
fn the_newest_release_is_told_unless_all_are_asked_for() {
    let (mut rollout, _) = soaking();
    let decisions = &mut rollout.status.as_mut().unwrap().decisions;
    decisions[0].run = 7;
    decisions[0].revision = "before".to_owned();
    let runs = |all| {
        let releases = why(&rollout, all).releases.into_iter();
        releases.map(|release| release.run).collect::<Vec<i64>>()
    };
    assert_eq!(runs(false), [1_772_618_400]);
    assert_eq!(runs(true), [7, 1_772_618_400]);
}

#[test]
fn a_rollout_that_nothing_was_decided_about_says_so() {
    let (mut rollout, now) = soaking();
    rollout.status = None;
    assert_eq!(
        lines(&why(&rollout, false), now),
        ["shop/payment: nothing was decided yet"]
    );
}
