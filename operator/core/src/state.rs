//! Where a rollout is: all that survives a restart. The shell keeps it in `status.machine` of the CanaryRollout.

use serde::{Deserialize, Serialize};

use crate::plan::{Percent, Plan};
use crate::time::{Span, Time};

/// A pod template, by its hashes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Template {
    /// Of the whole template.
    pub revision: String,
    /// Of the template without its annotations.
    pub content: String,
}

/// What the machine knows of one CanaryRollout.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct State {
    /// The uid of the Deployment that all of this is about: another one of the same name is another story.
    pub deployment: String,
    pub phase: Phase,
    /// What serves everyone, or everyone but the canary's share. While [`Phase::Unsettled`]: what did last.
    pub stable: Template,
    /// The template that the Deployment asked for last, and the Deployment's generation then. A hash that differs
    /// while the generation is the same is no change of the user's (a new default of the API, a new operator).
    pub target: Template,
    pub generation: i64,
    /// The Deployment was paused by us and has to be resumed once it may roll.
    pub gated: bool,
    /// The newest run: the present one, or the last one.
    pub run: Option<Run>,
    /// The number of the newest run ever, over Deployments too: revocations name it, so it only rises.
    pub last_run: u64,
    /// How the newest run failed; `None` when it has not.
    pub failure: Option<Failure>,
    /// Rolled-back revisions, oldest first, at most [`Revoked::KEPT`].
    pub revoked: Vec<Revoked>,
}

impl State {
    /// The first sight of a Deployment: what serves is to be found out.
    pub fn unsettled(deployment: String, template: Template, generation: i64, now: Time) -> State {
        State {
            deployment,
            phase: Phase::Unsettled {
                why: Unsettled::Rolling,
                since: now,
            },
            stable: template.clone(),
            target: template,
            generation,
            gated: false,
            run: None,
            last_run: 0,
            failure: None,
            revoked: Vec::new(),
        }
    }

    /// The run that has, or is about to get, a share of the requests that is judged.
    pub fn running(&self) -> Option<&Run> {
        match self.phase {
            Phase::Scaling { .. } | Phase::Shifting { .. } | Phase::Soaking { .. } => {
                self.run.as_ref()
            }
            Phase::Unsettled { .. }
            | Phase::Stable
            | Phase::Promoting { .. }
            | Phase::Returning { .. }
            | Phase::RollingBack { .. }
            | Phase::Failed => None,
        }
    }

    /// The same state on a clock that reads `by` more: what the clock did is not time that passed.
    #[must_use]
    pub fn shifted(mut self, by: Span) -> State {
        self.times(|time| *time = *time + by);
        self
    }

    /// No moment later than `now`: a clock that was set back must not hold anything up.
    pub(crate) fn not_after(&mut self, now: Time) {
        self.times(|time| *time = (*time).min(now));
    }

    /// Every moment that something is counted from.
    fn times(&mut self, mut each: impl FnMut(&mut Time)) {
        match &mut self.phase {
            Phase::Unsettled { since, .. }
            | Phase::Scaling { since, .. }
            | Phase::Shifting { since, .. }
            | Phase::Soaking { since, .. }
            | Phase::Promoting { since }
            | Phase::Returning { since, .. }
            | Phase::RollingBack { since, .. } => each(since),
            Phase::Stable | Phase::Failed => {}
        }
        if let Some(run) = &mut self.run {
            each(&mut run.judged_until);
            run.unready_since.iter_mut().for_each(&mut each);
            run.held_since.iter_mut().for_each(&mut each);
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(tag = "name", rename_all_fields = "camelCase")]
pub enum Phase {
    /// It is not clear which revision serves: nothing is split, nothing is paused, nothing is released.
    Unsettled { why: Unsettled, since: Time },
    /// The stable revision serves everyone.
    Stable,
    /// The canary's pods for `step` are coming up; the weight is still that of the step before (0 before the first).
    Scaling { step: usize, since: Time },
    /// The step's weight was sent, and not every live proxy has acknowledged it.
    Shifting { step: usize, since: Time },
    /// Every live proxy uses the step's weight; windows are judged.
    Soaking { step: usize, since: Time },
    /// The Deployment rolls to the new template; the canary's revision carries all traffic. When the Deployment asks for a
    /// third template meanwhile, the promotion is finished in its ReplicaSets.
    Promoting { since: Time },
    /// A promotion was left for the stable template: its pods come back and take over as far as they are Ready.
    Returning { covered: Percent, since: Time },
    /// The weight is 0; the copy goes once every proxy has acknowledged it. The cause is that of the run's failure, unless
    /// a person took over meanwhile.
    RollingBack { cause: Cause, since: Time },
    /// The run failed; the Deployment still asks for the failed template and stays paused.
    Failed,
}

/// Why it is not clear which revision serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Unsettled {
    /// The Deployment rolls by itself.
    Rolling,
    /// It is paused with pods of several revisions.
    HalfRolled,
    /// It is paused and has no pods.
    NothingServes,
    /// A person has taken over, by the annotation `aviary.dev/break-glass`.
    BreakGlass,
    /// One revision serves; the pods of a release that ended here have to be gone before anything is called stable.
    Clearing,
    /// The CanaryRollout was deleted while the Deployment rolled to a version that had passed every step.
    Leaving,
}

impl Unsettled {
    pub const ALL: [Unsettled; 6] = [
        Unsettled::Rolling,
        Unsettled::HalfRolled,
        Unsettled::NothingServes,
        Unsettled::BreakGlass,
        Unsettled::Clearing,
        Unsettled::Leaving,
    ];
}

/// One release of one revision.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Run {
    pub canary: Template,
    /// Higher than that of every run before: revocations name it.
    pub number: u64,
    /// The plan in force: that of the spec when the run began, and, after an edit, the edited one around the step that
    /// was begun.
    pub plan: Plan,
    /// The plan of the spec that was taken in last.
    pub asked: Plan,
    pub started_at: Time,
    /// The Deployment's replicas when the present step began: growth of an autoscaler within a step changes nothing.
    pub base_replicas: u32,
    /// Up to when windows have been judged: a window is judged once.
    pub judged_until: Time,
    pub failed_in_a_row: u32,
    /// Judged requests of the canary in the present step.
    pub requests: u64,
    /// A whole window of the present step's soak passed, and none has failed since.
    pub passed: bool,
    /// Since when the canary has had fewer Ready pods than it needs; for a step's pods, since the step was begun.
    pub unready_since: Option<Time>,
    /// Since when a person, a freeze or a lost lease has held the run: deadlines do not count that time.
    pub held_since: Option<Time>,
}

/// Why a weight went to 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Cause {
    /// More failed windows in a row than the failure limit.
    AnalysisFailed,
    /// The canary's pods took longer than the progress deadline.
    ProgressDeadlineExceeded,
    /// The canary's pods were taken away or stopped being Ready for longer than the progress deadline.
    CanaryLost,
    /// A canary pod has no sidecar: what it does cannot be seen.
    NotMeshed,
    /// A proxy has seen this run revoked: an operator before this one rolled it back.
    Revoked,
    /// The Deployment's template is the stable one again.
    TemplateReverted,
    /// The CanaryRollout is being deleted.
    Deleted,
    /// A person has taken over, by the annotation `aviary.dev/break-glass`.
    BreakGlass,
    /// No run: the Deployment was found paused on a template that does not serve.
    FoundPaused,
}

impl Cause {
    pub fn name(self) -> &'static str {
        match self {
            Cause::AnalysisFailed => "AnalysisFailed",
            Cause::ProgressDeadlineExceeded => "ProgressDeadlineExceeded",
            Cause::CanaryLost => "CanaryLost",
            Cause::NotMeshed => "NotMeshed",
            Cause::Revoked => "Revoked",
            Cause::TemplateReverted => "TemplateReverted",
            Cause::Deleted => "Deleted",
            Cause::BreakGlass => "BreakGlass",
            Cause::FoundPaused => "FoundPaused",
        }
    }

    pub const ALL: [Cause; 9] = [
        Cause::AnalysisFailed,
        Cause::ProgressDeadlineExceeded,
        Cause::CanaryLost,
        Cause::NotMeshed,
        Cause::Revoked,
        Cause::TemplateReverted,
        Cause::Deleted,
        Cause::BreakGlass,
        Cause::FoundPaused,
    ];
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Failure {
    pub template: Template,
    pub run: u64,
    pub cause: Cause,
    pub at: Time,
}

/// No proxy raises `revision` again for a run that is not newer than `run`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Revoked {
    pub revision: String,
    pub run: u64,
}

impl Revoked {
    pub const KEPT: usize = 8;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{Capacity, Limits, Step, Then};

    fn template(name: &str) -> Template {
        Template {
            revision: format!("{name}-revision"),
            content: format!("{name}-content"),
        }
    }

    fn plan(weights: &[i64]) -> Plan {
        let step = |weight: &i64| Step {
            weight: Percent::new(*weight).unwrap(),
            soak: Span::seconds(60),
            min_requests: 100,
        };
        let limits = Limits {
            failure_limit: 2,
            interval: Span::seconds(10),
            hold: Span::seconds(600),
            then: Then::Pause,
            progress_deadline: Span::seconds(300),
            capacity: Capacity::Full,
        };
        Plan::new(weights.iter().map(step).collect(), limits).unwrap()
    }

    fn state(phase: Phase) -> State {
        State {
            deployment: "uid".to_owned(),
            phase,
            stable: template("stable"),
            target: template("canary"),
            generation: 7,
            gated: true,
            run: Some(Run {
                canary: template("canary"),
                number: 12,
                plan: plan(&[1, 100]),
                asked: plan(&[100]),
                started_at: Time(500),
                base_replicas: 4,
                judged_until: Time(3000),
                failed_in_a_row: 1,
                requests: 30,
                passed: true,
                unready_since: Some(Time(4000)),
                held_since: Some(Time(5000)),
            }),
            last_run: 12,
            failure: Some(Failure {
                template: template("other"),
                run: 11,
                cause: Cause::NotMeshed,
                at: Time(600),
            }),
            revoked: vec![Revoked {
                revision: "other-revision".to_owned(),
                run: 11,
            }],
        }
    }

    /// Every phase, begun at `since`; with every reason that it can have.
    fn phases(since: Time) -> Vec<Phase> {
        let covered = Percent::new(75).unwrap();
        let mut phases = vec![
            Phase::Stable,
            Phase::Scaling { step: 0, since },
            Phase::Shifting { step: 1, since },
            Phase::Soaking { step: 2, since },
            Phase::Promoting { since },
            Phase::Returning { covered, since },
            Phase::Failed,
        ];
        phases.extend(Unsettled::ALL.map(|why| Phase::Unsettled { why, since }));
        phases.extend(Cause::ALL.map(|cause| Phase::RollingBack { cause, since }));
        phases
    }

    fn counted_from(state: &State) -> [Option<Time>; 4] {
        let since = match state.phase {
            Phase::Unsettled { since, .. }
            | Phase::Scaling { since, .. }
            | Phase::Shifting { since, .. }
            | Phase::Soaking { since, .. }
            | Phase::Promoting { since }
            | Phase::Returning { since, .. }
            | Phase::RollingBack { since, .. } => Some(since),
            Phase::Stable | Phase::Failed => None,
        };
        let run = state.run.as_ref().unwrap();
        [
            since,
            Some(run.judged_until),
            run.unready_since,
            run.held_since,
        ]
    }

    #[test]
    fn a_shifted_state_counts_from_shifted_moments_and_nothing_else_changes() {
        for phase in phases(Time(2000)) {
            let state = state(phase);
            let shifted = state.clone().shifted(Span(-700));
            let expected = counted_from(&state).map(|at| at.map(|at| at + Span(-700)));
            assert_eq!(counted_from(&shifted), expected, "{phase:?}");
            let failed_at = |state: &State| state.failure.as_ref().map(|failure| failure.at);
            assert_eq!(failed_at(&shifted), failed_at(&state), "history stays");
            assert_eq!(shifted.run.as_ref().unwrap().started_at, Time(500));
            assert_eq!(shifted.shifted(Span(700)), state, "{phase:?}");
        }
    }

    #[test]
    fn no_moment_that_is_counted_from_is_later_than_now() {
        for phase in phases(Time(2000)) {
            for now in [0, 1999, 2000, 3500, 4500, 9000].map(Time) {
                let mut clamped = state(phase);
                clamped.not_after(now);
                let expected =
                    counted_from(&state(phase)).map(|at| at.map(|at| Time(at.0.min(now.0))));
                assert_eq!(counted_from(&clamped), expected, "{phase:?} at {now:?}");
            }
            let mut later = state(phase);
            later.not_after(Time(9000));
            assert_eq!(later, state(phase), "the past stays as it is");
        }
    }

    #[test]
    fn a_state_without_a_run_is_shifted_too() {
        let unsettled = State::unsettled("uid".to_owned(), template("stable"), 1, Time(2000));
        let mut clamped = unsettled.clone();
        clamped.not_after(Time(1500));
        assert_eq!(clamped, unsettled.shifted(Span(-500)));
    }

    #[test]
    fn every_phase_is_read_back_as_it_was_stored() {
        for phase in phases(Time(2000)) {
            let state = state(phase);
            let json = serde_json::to_string(&state).unwrap();
            assert_eq!(serde_json::from_str::<State>(&json).unwrap(), state);
        }
        let unsettled = State::unsettled("uid".to_owned(), template("stable"), 1, Time(2000));
        let json = serde_json::to_string(&unsettled).unwrap();
        assert_eq!(serde_json::from_str::<State>(&json).unwrap(), unsettled);
    }

    #[test]
    fn a_state_that_an_operator_before_this_one_stored_is_read() {
        let template = |name: &str| serde_json::json!({"revision": format!("{name}-revision"), "content": format!("{name}-content")});
        let plan = |weights: &[i64]| {
            let step = |weight: &i64| serde_json::json!({"weight": weight, "soak": 60_000, "minRequests": 100});
            serde_json::json!({
                "steps": weights.iter().map(step).collect::<Vec<_>>(),
                "limits": {
                    "failureLimit": 2, "interval": 10_000, "hold": 600_000, "then": "Pause",
                    "progressDeadline": 300_000, "capacity": "Full"
                }
            })
        };
        let json = serde_json::json!({
            "deployment": "uid",
            "phase": {"name": "Returning", "covered": 75, "since": 2000},
            "stable": template("stable"),
            "target": template("canary"),
            "generation": 7,
            "gated": true,
            "run": {
                "canary": template("canary"), "number": 12,
                "plan": plan(&[1, 100]), "asked": plan(&[100]),
                "startedAt": 500, "baseReplicas": 4, "judgedUntil": 3000, "failedInARow": 1,
                "requests": 30, "passed": true, "unreadySince": 4000, "heldSince": 5000
            },
            "lastRun": 12,
            "failure": {"template": template("other"), "run": 11, "cause": "NotMeshed", "at": 600},
            "revoked": [{"revision": "other-revision", "run": 11}]
        });
        let returning = Phase::Returning {
            covered: Percent::new(75).unwrap(),
            since: Time(2000),
        };
        assert_eq!(
            serde_json::to_value(state(returning)).unwrap(),
            json,
            "a name that changes here is a state that nobody can read"
        );
        assert_eq!(
            serde_json::from_value::<State>(json).unwrap(),
            state(returning)
        );
    }

    #[test]
    fn what_this_machine_does_not_know_is_no_state() {
        let stored = serde_json::to_value(state(Phase::Soaking {
            step: 0,
            since: Time(2000),
        }))
        .unwrap();
        let spoilt: [(&str, serde_json::Value); 6] = [
            ("/phase/name", "Levitating".into()),
            ("/phase/step", (-1).into()),
            ("/phase/since", "yesterday".into()),
            ("/failure/cause", "Mood".into()),
            ("/run/plan/steps", serde_json::json!([])),
            ("/run/plan/steps/0/weight", 101.into()),
        ];
        for (field, value) in spoilt {
            let mut json = stored.clone();
            *json.pointer_mut(field).unwrap() = value;
            assert!(serde_json::from_value::<State>(json).is_err(), "{field}");
        }
        for field in ["phase", "stable", "deployment", "generation"] {
            let mut json = stored.clone();
            json.as_object_mut().unwrap().remove(field);
            assert!(
                serde_json::from_value::<State>(json).is_err(),
                "{field} is missing"
            );
        }
    }

    #[test]
    fn every_cause_has_a_name_of_its_own_that_is_the_one_it_is_stored_by() {
        for cause in Cause::ALL {
            assert_eq!(serde_json::to_value(cause).unwrap(), cause.name());
        }
    }
}
