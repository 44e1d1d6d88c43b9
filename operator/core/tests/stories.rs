//! Stories of releases, told to the machine alone: one observation after the other, and what has to become of it.

#![allow(clippy::unwrap_used)] // a test says so by panicking

use rollout_core::judge::Verdict;
use rollout_core::observation::{CopySeen, Observation, Original, Traffic, Window};
use rollout_core::plan::{Capacity, Limits, Percent, Plan, Step, Then};
use rollout_core::state::{Cause, Phase, Revoked, State, Template};
use rollout_core::{Copy, Event, Gate, Span, Time, advance, desired};

/// A world that does what it is asked, with knobs for what goes wrong.
struct World {
    plan: Plan,
    state: State,
    now: Time,
    template: Template,
    generation: i64,
    replicas: u32,
    ready: Option<u32>,
    acknowledges: bool,
    verdict: Option<Verdict>,
    may_raise: bool,
    deleted: bool,
    revoked: Option<u64>,
    rolled_out: bool,
    events: Vec<Event>,
    weights: Vec<u8>,
}

fn template(name: &str) -> Template {
    Template {
        revision: name.to_owned(),
        content: name.to_owned(),
    }
}

impl World {
    fn new() -> World {
        let step = |weight| Step {
            weight: Percent::new(weight).unwrap(),
            soak: Span::seconds(60),
            min_requests: 20,
        };
        let limits = Limits {
            failure_limit: 2,
            interval: Span::seconds(10),
            hold: Span::seconds(120),
            then: Then::Advance,
            progress_deadline: Span::seconds(300),
            capacity: Capacity::Proportional,
        };
        World {
            plan: Plan::new([1, 10, 50, 100].map(step).to_vec(), limits).unwrap(),
            state: State::adopt(template("v1"), 1),
            now: Time(1_790_000_000_000),
            template: template("v1"),
            generation: 1,
            replicas: 4,
            ready: None,
            acknowledges: true,
            verdict: Some(Verdict::Pass),
            may_raise: true,
            deleted: false,
            revoked: None,
            rolled_out: true,
            events: Vec::new(),
            weights: Vec::new(),
        }
    }

    fn change(&mut self, to: Template) {
        self.template = to;
        self.generation += 1;
        self.rolled_out = self.template == self.state.stable;
    }

    fn look(&mut self) {
        let wanted = desired(&self.plan, &self.state);
        let copy = match wanted.copy {
            Copy::Present { replicas, .. } => CopySeen {
                exists: true,
                ready: self.ready.unwrap_or(replicas),
                without_sidecar: false,
            },
            Copy::Absent => CopySeen {
                exists: false,
                ready: 0,
                without_sidecar: false,
            },
        };
        let window = rollout_core::advance::window_due(&self.plan, &self.state, self.now)
            .zip(self.verdict)
            .map(|((start, end), verdict)| Window {
                start,
                end,
                verdict,
                requests: 10,
            });
        let seen = Observation {
            now: self.now,
            template: self.template.clone(),
            generation: self.generation,
            original: Original {
                replicas: self.replicas,
                paused: wanted.gate == Gate::Closed,
                rolled_out: self.rolled_out,
            },
            copy,
            traffic: Traffic {
                sent: wanted.share.map(|share| (share.run, share.weight)),
                acknowledged: self.acknowledges,
            },
            window,
            revoked: self.revoked,
            deleted: self.deleted,
            may_raise: self.may_raise,
        };
        let step = advance(&self.plan, &self.state, &seen);
        self.state = step.next;
        self.events.extend(step.events);
        let weight = self.weight();
        if self.weights.last() != Some(&weight) {
            self.weights.push(weight);
        }
    }

    fn weight(&self) -> u8 {
        desired(&self.plan, &self.state)
            .share
            .map_or(0, |share| share.weight.get())
    }

    /// Looks every five seconds until it is so.
    fn until(&mut self, what: &str, so: impl Fn(&World) -> bool) {
        for _ in 0..2000 {
            if so(self) {
                return;
            }
            self.now = self.now + Span::seconds(5);
            self.look();
        }
        panic!("it never came to this: {what}; {:?}", self.state);
    }

    fn soak(&mut self, step: usize) {
        self.until(
            "a soak",
            |w| matches!(w.state.phase, Phase::Soaking { step: at, .. } if at == step),
        );
    }

    fn cause(&self) -> Option<Cause> {
        self.state.failure.as_ref().map(|failure| failure.cause)
    }
}

#[test]
fn a_good_release_goes_up_the_steps_and_is_promoted() {
    let mut world = World::new();
    world.change(template("v2"));
    world.until("the promotion", |w| {
        matches!(w.state.phase, Phase::Promoting { .. })
    });
    assert_eq!(desired(&world.plan, &world.state).gate, Gate::Open);
    world.rolled_out = true;
    world.until("the end", |w| w.state.phase == Phase::Stable);
    assert_eq!(world.state.stable, template("v2"));
    assert_eq!(world.weights, [0, 1, 10, 50, 100, 0]);
    assert!(world.events.contains(&Event::Promoted {
        revision: "v2".to_owned()
    }));
}

#[test]
fn a_bad_release_goes_down_after_one_failed_window_more_than_tolerated() {
    let mut world = World::new();
    world.change(template("v2"));
    world.soak(1);
    world.verdict = Some(Verdict::Fail);
    world.until("the rollback", |w| w.weight() == 0);
    assert_eq!(world.cause(), Some(Cause::AnalysisFailed));
    assert_eq!(world.state.run.as_ref().unwrap().failed_in_a_row, 3);
    world.until("the end", |w| w.state.phase == Phase::Failed);
    assert_eq!(desired(&world.plan, &world.state).gate, Gate::Closed);
    assert_eq!(
        world.state.revoked,
        [Revoked {
            revision: "v2".to_owned(),
            run: world.state.run.as_ref().unwrap().number
        }]
    );
}

#[test]
fn a_pass_between_failures_starts_the_count_anew() {
    let mut world = World::new();
    world.change(template("v2"));
    world.soak(1);
    for verdict in [
        Verdict::Fail,
        Verdict::Fail,
        Verdict::Pass,
        Verdict::Fail,
        Verdict::Fail,
        Verdict::Pass,
    ] {
        let judged = world.state.run.as_ref().unwrap().judged_until;
        world.verdict = Some(verdict);
        world.until("a window", |w| {
            w.state.run.as_ref().unwrap().judged_until > judged
        });
    }
    assert_ne!(world.weight(), 0);
}

#[test]
fn without_evidence_a_step_holds_and_then_does_what_the_plan_says() {
    let mut world = World::new();
    world.change(template("v2"));
    world.soak(0);
    let since = world.now;
    world.verdict = Some(Verdict::NoEvidence);
    world.until("the end of the hold", |w| {
        w.now - since >= Span::seconds(175)
    });
    assert_eq!(
        world.weight(),
        1,
        "neither up nor down while the hold lasts"
    );
    world.until("the next step", |w| w.weight() == 10);
    assert!(
        world
            .events
            .contains(&Event::AdvancedWithoutEvidence { step: 0 })
    );

    let mut world = World::new();
    world.plan.then = Then::Pause;
    world.change(template("v2"));
    world.soak(0);
    world.verdict = None;
    let since = world.now;
    world.until("two hours", |w| w.now - since >= Span::seconds(7200));
    assert_eq!(world.weight(), 1);
}

#[test]
fn a_laggard_holds_raising_until_the_deadline_and_never_lowering() {
    let mut world = World::new();
    world.change(template("v2"));
    world.soak(0);
    world.acknowledges = false;
    let since = world.now;
    world.until("ten minutes", |w| w.now - since >= Span::seconds(600));
    assert_eq!(
        world.weight(),
        1,
        "a soak is never cut short, and never ends without the proxies"
    );
    world.change(template("v1"));
    world.look();
    assert_eq!(world.weight(), 0);
}

#[test]
fn canary_pods_that_never_get_ready_get_no_traffic_and_the_release_fails() {
    let mut world = World::new();
    world.ready = Some(0);
    world.change(template("v2"));
    world.until("the deadline", |w| w.state.phase == Phase::Failed);
    assert_eq!(world.cause(), Some(Cause::ProgressDeadlineExceeded));
    assert_eq!(world.weights, [0]);
}

#[test]
fn time_in_which_somebody_holds_the_release_does_not_count_for_the_deadline() {
    let mut world = World::new();
    world.ready = Some(0);
    world.change(template("v2"));
    world.look();
    world.may_raise = false;
    let since = world.now;
    world.until("an hour", |w| w.now - since >= Span::seconds(3600));
    world.may_raise = true;
    world.look();
    assert!(
        matches!(world.state.phase, Phase::Scaling { step: 0, .. }),
        "{:?}",
        world.state.phase
    );
    world.ready = None;
    world.soak(0);
}

#[test]
fn a_newer_template_starts_at_0_and_the_one_before_is_revoked() {
    let mut world = World::new();
    world.change(template("v2"));
    world.soak(2);
    world.change(template("v3"));
    world.look();
    assert_eq!(world.weight(), 0);
    let run = world.state.run.clone().unwrap();
    assert_eq!(run.canary, template("v3"));
    assert_eq!(
        world
            .state
            .revoked
            .last()
            .map(|revoked| revoked.revision.as_str()),
        Some("v2")
    );
    assert!(run.number > world.state.revoked[0].run);
}

#[test]
fn the_stable_template_ends_the_release_without_analysis_and_opens_the_gate() {
    let mut world = World::new();
    world.change(template("v2"));
    world.soak(2);
    world.change(template("v1"));
    world.look();
    assert_eq!(
        (world.weight(), world.cause()),
        (0, Some(Cause::TemplateReverted))
    );
    world.until("the end", |w| w.state.phase == Phase::Stable);
    assert_eq!(desired(&world.plan, &world.state).gate, Gate::Open);
    world.look();
    world.look();
    assert_eq!(desired(&world.plan, &world.state).gate, Gate::Leave);
}

#[test]
fn a_failed_template_is_tried_again_only_when_more_than_annotations_changed() {
    let mut world = World::new();
    world.change(template("v2"));
    world.soak(0);
    world.verdict = Some(Verdict::Fail);
    world.until("the failure", |w| w.state.phase == Phase::Failed);
    world.verdict = Some(Verdict::Pass);
    world.change(Template {
        revision: "v2-restarted".to_owned(),
        content: "v2".to_owned(),
    });
    world.look();
    assert_eq!(world.state.phase, Phase::Failed);
    world.change(template("v3"));
    world.look();
    assert!(matches!(world.state.phase, Phase::Scaling { step: 0, .. }));
}

#[test]
fn a_hash_that_differs_without_a_new_generation_starts_nothing() {
    let mut world = World::new();
    world.template = template("v1-with-a-new-default");
    world.look();
    assert_eq!(world.state.phase, Phase::Stable);
    assert_eq!(world.state.stable, template("v1-with-a-new-default"));
    assert_eq!(world.events, []);
}

#[test]
fn a_revocation_that_a_proxy_remembers_rolls_back_unless_the_run_is_newer() {
    let mut world = World::new();
    world.change(template("v2"));
    world.soak(1);
    let number = world.state.run.as_ref().unwrap().number;
    world.revoked = Some(number - 1);
    world.look();
    assert_eq!(world.weight(), 10);
    world.revoked = Some(number);
    world.look();
    assert_eq!((world.weight(), world.cause()), (0, Some(Cause::Revoked)));
}

#[test]
fn deleting_the_rollout_goes_to_0_but_a_promotion_is_finished_first() {
    let mut world = World::new();
    world.change(template("v2"));
    world.soak(3);
    world.deleted = true;
    world.look();
    assert_eq!((world.weight(), world.cause()), (0, Some(Cause::Deleted)));

    let mut world = World::new();
    world.change(template("v2"));
    world.until("the promotion", |w| {
        matches!(w.state.phase, Phase::Promoting { .. })
    });
    world.deleted = true;
    world.look();
    assert_eq!(
        world.weight(),
        100,
        "the old pods are going away: traffic stays on the canary"
    );
    world.rolled_out = true;
    world.look();
    assert_eq!(
        (world.state.phase, &world.state.stable),
        (Phase::Stable, &template("v2"))
    );
}

#[test]
fn growth_of_the_deployment_within_a_step_does_not_grow_the_canary() {
    let mut world = World::new();
    world.change(template("v2"));
    world.soak(2);
    let before = desired(&world.plan, &world.state).copy;
    world.replicas = 12;
    world.look();
    assert_eq!(desired(&world.plan, &world.state).copy, before);
    world.soak(3);
    assert_eq!(
        desired(&world.plan, &world.state).copy,
        Copy::Present {
            revision: "v2".to_owned(),
            replicas: 12
        }
    );
}
