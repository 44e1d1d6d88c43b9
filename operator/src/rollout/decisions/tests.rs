use rollout_core::By;
use rollout_core::exposure::{ErrorBudget, Spent};
use rollout_core::guard::{Counts, Guard, Limits};
use rollout_core::plan::{Limits as PlanLimits, Percent, Plan};
use rollout_core::state::{Cause, Phase, Unsettled};

use super::*;
use crate::rollout::testing;
use crate::rollout::verdicts::Alarmed;

/// The run of revision `new` is promoted, and that of `third` begins.
struct Moment {
    before: State,
    after: State,
    verdicts: Verdicts,
    guarded: Option<Guarded>,
    spending: Option<Spending>,
}

impl Moment {
    fn new() -> Moment {
        let before = testing::state(Phase::Promoting { since: Time(0) });
        let mut after = testing::state(Phase::Scaling {
            step: 0,
            since: Time(0),
        });
        let next = after.run.as_mut().unwrap();
        next.number += 1;
        next.canary.revision = "third".to_owned();
        next.requests = 3;
        Moment {
            before,
            after,
            verdicts: Verdicts::default(),
            guarded: None,
            spending: None,
        }
    }

    fn record(&self, event: &Event) -> Option<DecisionRecord> {
        let known = Known {
            now: Time(0),
            after: &self.after,
            before: &self.before,
            verdicts: &self.verdicts,
            guarded: self.guarded.as_ref(),
            spending: self.spending.as_ref(),
        };
        record(event, "Reason", known)
    }

    fn promoted(&self) -> DecisionRecord {
        self.record(&Event::Promoted { revision: new() }).unwrap()
    }

    /// What the guard and the error budget know of this run.
    fn knows_of(mut self, run: u64) -> Moment {
        self.guarded = Some(Guarded {
            run,
            guard: Guard::new(Limits::try_new(10_000, 7_000).unwrap()),
            canary: Counts::default(),
            stable: Counts::default(),
        });
        self.spending = Some(Spending {
            run,
            spent: Spent::default(),
        });
        let run = self.before.run.as_mut().unwrap();
        let limits = PlanLimits {
            exposure: ErrorBudget::try_new(990_000, 1, 69_445).ok(),
            ..*run.plan
        };
        run.plan = Plan::new(run.plan.steps().to_vec(), limits).unwrap();
        self
    }

    fn number(&self) -> u64 {
        self.before.run.as_ref().unwrap().number
    }
}

fn new() -> String {
    "new".to_owned()
}

fn ada() -> By {
    By {
        user: Some("ada".to_owned()),
    }
}

/// Nobody's.
fn decisions() -> Vec<Event> {
    let (revision, weight, from) = (new(), Percent::ALL, Percent::ALL);
    vec![
        Event::RunStarted {
            revision: revision.clone(),
        },
        Event::Superseded {
            revision: revision.clone(),
        },
        Event::LeaseLapsed {
            revision: revision.clone(),
            from,
        },
        Event::WeightRaised { step: 0, weight },
        Event::AdvancedWithoutEvidence { step: 0 },
        Event::Paused { step: 0 },
        Event::PausedByFailure { weight },
        Event::StableFails,
        Event::PromotionStarted {
            revision: revision.clone(),
        },
        Event::Promoted {
            revision: revision.clone(),
        },
        Event::Returning { revision },
    ]
}

fn decisions_of_people() -> Vec<Event> {
    let weight = Percent::ALL;
    let aborted = Event::RolledBack {
        revision: new(),
        cause: Cause::Aborted,
        from: weight,
    };
    vec![
        Event::LetOn { weight, by: ada() },
        Event::JudgedAnew { weight, by: ada() },
        Event::JudgementSkipped { weight, by: ada() },
        Event::Held { weight, by: ada() },
        Event::Resumed { by: ada() },
        Event::Retried {
            revision: new(),
            by: ada(),
        },
        Event::PromotionAborted {
            revision: new(),
            by: ada(),
        },
        aborted,
    ]
}

fn what_only_happens() -> Vec<Event> {
    let (revision, weight) = (new(), Percent::ALL);
    vec![
        Event::Adopted {
            revision: revision.clone(),
        },
        Event::FoundPaused {
            revision: revision.clone(),
        },
        Event::Unsettled {
            why: Unsettled::Rolling,
        },
        Event::Recreated,
        Event::PlanChanged {
            plan: testing::plan(),
            step: 0,
        },
        Event::WeightAcknowledged { step: 0, weight },
        Event::WindowFailed {
            in_a_row: 1,
            tolerated: 2,
        },
        Event::StableRecovered,
        Event::Ungated {
            revision: revision.clone(),
        },
        Event::RollbackComplete {
            revision: revision.clone(),
        },
        Event::LetGo {
            revision: revision.clone(),
        },
        Event::Recovered { revision },
    ]
}

#[test]
fn every_decision_has_a_record_and_nothing_else_has() {
    let mut moment = Moment::new();
    moment.after.failure = testing::state(Phase::Failed).failure.map(|mut failure| {
        failure.by = Some(ada());
        failure
    });
    for event in decisions() {
        let record = moment.record(&event);
        let by = record.map(|record| record.by);
        assert_eq!(by, Some(None), "{event:?}");
    }
    for event in decisions_of_people() {
        let by = moment.record(&event).and_then(|record| record.by);
        assert_eq!(by, Some(ada().to_string()), "{event:?}");
    }
    for event in what_only_happens() {
        assert_eq!(moment.record(&event), None, "{event:?}");
    }
}

/// A third version has waited for the promotion to be over.
#[test]
fn the_end_of_one_run_and_the_beginning_of_the_next_are_each_of_their_own() {
    let moment = Moment::new();
    let of = |event: Event| {
        let record = moment.record(&event).unwrap();
        (
            record.revision,
            record.run - i64::try_from(moment.number()).unwrap(),
            record.requests,
        )
    };
    let promoted = Event::Promoted { revision: new() };
    assert_eq!(of(promoted), (new(), 0, 250));
    let third = "third".to_owned();
    let begins = [
        Event::RunStarted {
            revision: third.clone(),
        },
        Event::Retried {
            revision: third.clone(),
            by: ada(),
        },
    ];
    for event in begins {
        assert_eq!(of(event), (third.clone(), 1, 0));
    }
}

/// The next step counts anew.
#[test]
fn the_requests_are_those_that_were_decided_on() {
    let mut moment = Moment::new();
    moment.after = moment.before.clone();
    moment.after.run.as_mut().unwrap().requests = 0;
    assert_eq!(moment.promoted().requests, 250);
}

#[test]
fn what_is_known_of_another_run_is_not_in_the_record() {
    let number = Moment::new().number();
    let own = Moment::new().knows_of(number).promoted();
    assert!(own.guard.is_some() && own.exposure.is_some(), "{own:?}");
    let others = Moment::new().knows_of(number - 1).promoted();
    assert_eq!((others.guard, others.exposure), (None, None));
}

#[test]
fn a_judgement_is_cut() {
    let mut moment = Moment::new();
    let alarm = Alarmed {
        at: 1_790_000_000,
        words: "x".repeat(2 * JUDGED),
        requests: 250,
    };
    moment.verdicts.alarm(Some(alarm), Percent::ALL);
    let judged = moment.promoted().judged;
    assert!(judged.len() <= JUDGED, "{}", judged.len());
    assert!(judged.starts_with("guard: xxx"), "{judged}");
}
