//! A world that does what it is asked, with knobs for what goes wrong.

use rollout_core::advance::window_due;
use rollout_core::exposure::Defect;
use rollout_core::judge::Verdict;
use rollout_core::observation::{CopySeen, Hooks, Observation, Original, Serving, Traffic, Window};
use rollout_core::plan::{Capacity, Deletion, Limits, OnFailure, Pause, Percent, Plan, Step, Then};
use rollout_core::state::{Cause, Phase, State, Template, Unsettled};
use rollout_core::{
    By, Copies, Desired, Event, Exposed, Gate, Request, Span, Time, Transition, Verb, Waiting,
    advance, desired, effective, waiting,
};

/// The Deployment, its copy, its proxies and the people around it.
pub(crate) struct World {
    pub plan: Plan,
    pub state: State,
    pub now: Time,
    pub uid: &'static str,
    pub template: Template,
    pub generation: i64,
    pub replicas: u32,
    pub paused: bool,
    pub rolled_out: bool,
    pub serving: Serving,
    pub stable_ready: u32,
    pub canary_pods: u32,
    pub canary_complete: bool,
    /// `None`: as many as are asked for.
    pub ready: Option<u32>,
    pub without_sidecar: bool,
    /// The copy is there although nobody wants it any more.
    pub lingers: bool,
    /// The copy is not there although it is wanted.
    pub vanished: bool,
    pub acknowledges: bool,
    pub verdict: Option<Verdict>,
    /// Judged requests of a window.
    pub requests: u64,
    pub request: Option<Request>,
    pub stable_fails: Option<bool>,
    pub may_raise: bool,
    pub hooks: Hooks,
    pub deleted: bool,
    pub break_glass: bool,
    pub lapsed: bool,
    pub(crate) alarm: bool,
    pub(crate) doubt: bool,
    pub(crate) exposed: Exposed,
    pub revoked: Option<u64>,
    /// The state can be written.
    pub persists: bool,
    pub events: Vec<Event>,
    pub weights: Vec<u8>,
}

pub(crate) fn template(name: &str) -> Template {
    Template {
        revision: name.to_owned(),
        content: name.to_owned(),
    }
}

pub(crate) fn alice() -> By {
    By {
        user: Some("alice".to_owned()),
    }
}

pub(crate) fn request(verb: Verb, revision: &str, weight: Option<Percent>) -> Request {
    Request {
        verb,
        revision: revision.to_owned(),
        weight,
        by: alice(),
    }
}

pub(crate) fn one(name: &str) -> Serving {
    Serving::One(template(name))
}

pub(crate) fn percent(percent: i64) -> Percent {
    Percent::new(percent).unwrap()
}

pub(crate) fn plan(weights: &[i64]) -> Plan {
    let step = |weight: &i64| Step {
        weight: percent(*weight),
        soak: Span::seconds(60),
        min_requests: 20,
        pause: None,
    };
    let limits = Limits {
        failure_limit: 2,
        interval: Span::seconds(10),
        hold: Span::seconds(120),
        then: Then::Advance,
        progress_deadline: Span::seconds(300),
        capacity: Capacity::Proportional,
        on_failure: OnFailure::Rollback,
        deletion: Deletion::Leave,
        exposure: None,
    };
    Plan::new(weights.iter().map(step).collect(), limits).unwrap()
}

/// The same plan with other limits.
pub(crate) fn limited(plan: &Plan, change: impl FnOnce(&mut Limits)) -> Plan {
    let mut limits = **plan;
    change(&mut limits);
    Plan::new(plan.steps().to_vec(), limits).unwrap()
}

/// The same plan with a pause after the step at `index`.
pub(crate) fn pausing(plan: &Plan, index: usize, pause: Option<Pause>) -> Plan {
    let mut steps = plan.steps().to_vec();
    steps[index].pause = pause;
    Plan::new(steps, **plan).unwrap()
}

pub(crate) fn weights(plan: &Plan) -> Vec<u8> {
    plan.steps().iter().map(|step| step.weight.get()).collect()
}

impl World {
    /// The Deployment as it is at the first sight, before the first look.
    pub(crate) fn unseen() -> World {
        let now = Time(1_790_000_000_000);
        World {
            plan: plan(&[1, 10, 50, 100]),
            state: State::unsettled("uid-1".to_owned(), template("v1"), 1, now),
            now,
            uid: "uid-1",
            template: template("v1"),
            generation: 1,
            replicas: 4,
            paused: false,
            rolled_out: true,
            serving: one("v1"),
            stable_ready: 4,
            canary_pods: 0,
            canary_complete: false,
            ready: None,
            without_sidecar: false,
            lingers: false,
            vanished: false,
            acknowledges: true,
            verdict: Some(Verdict::Pass),
            requests: 10,
            request: None,
            stable_fails: None,
            may_raise: true,
            hooks: Hooks::Agree,
            deleted: false,
            break_glass: false,
            lapsed: false,
            alarm: false,
            doubt: false,
            exposed: Exposed {
                defect: Defect::NONE,
                spent: Span(0),
            },
            revoked: None,
            persists: true,
            events: Vec::new(),
            weights: Vec::new(),
        }
    }

    /// The same, but it asks for another template than the one that serves.
    pub(crate) fn unseen_asking_for(name: &str) -> World {
        let mut world = World::unseen();
        world.template = template(name);
        world.rolled_out = false;
        world.state = State::unsettled("uid-1".to_owned(), template(name), 1, world.now);
        world
    }

    /// Version 1 serves.
    pub(crate) fn new() -> World {
        let mut world = World::unseen();
        world.look();
        assert_eq!(world.state.phase, Phase::Stable);
        world.events.clear();
        world
    }

    /// Version 2 is being released and soaks in `step`.
    pub(crate) fn soaking(step: usize) -> World {
        let mut world = World::new();
        world.change(template("v2"));
        world.soak(step);
        world
    }

    /// Version 2 has passed every step.
    pub(crate) fn promoting() -> World {
        let mut world = World::soaking(3);
        world.until("the promotion", |w| {
            matches!(w.state.phase, Phase::Promoting { .. })
        });
        world
    }

    /// Version 2 has failed.
    pub(crate) fn failed() -> World {
        let mut world = World::soaking(0);
        world.verdict = Some(Verdict::Fail);
        world.until("the failure", |w| w.state.phase == Phase::Failed);
        world.verdict = Some(Verdict::Pass);
        world
    }

    /// One world in each phase, with the name of the phase.
    pub(crate) fn in_every_phase() -> Vec<World> {
        let mut unsettled = World::unseen();
        unsettled.serving = Serving::Unclear(Unsettled::Rolling);
        unsettled.look();
        let mut scaling = World::new();
        scaling.change(template("v2"));
        scaling.look();
        let mut shifting = World::new();
        shifting.change(template("v2"));
        shifting.until("the first raise", |w| {
            matches!(w.state.phase, Phase::Shifting { .. })
        });
        let mut rolling_back = World::soaking(1);
        rolling_back.lingers = true;
        rolling_back.change(template("v1"));
        rolling_back.look();
        let mut returning = World::promoting();
        returning.stable_ready = 1;
        returning.change(template("v1"));
        returning.look();
        let worlds = vec![
            unsettled,
            World::new(),
            scaling,
            shifting,
            World::soaking(2),
            World::promoting(),
            returning,
            rolling_back,
            World::failed(),
        ];
        let phases: Vec<&str> = worlds.iter().map(World::phase).collect();
        assert_eq!(
            phases,
            [
                "Unsettled",
                "Stable",
                "Scaling",
                "Shifting",
                "Soaking",
                "Promoting",
                "Returning",
                "RollingBack",
                "Failed"
            ]
        );
        worlds
    }

    pub(crate) fn phase(&self) -> &'static str {
        match self.state.phase {
            Phase::Unsettled { .. } => "Unsettled",
            Phase::Stable => "Stable",
            Phase::Scaling { .. } => "Scaling",
            Phase::Shifting { .. } => "Shifting",
            Phase::Soaking { .. } => "Soaking",
            Phase::Promoting { .. } => "Promoting",
            Phase::Returning { .. } => "Returning",
            Phase::RollingBack { .. } => "RollingBack",
            Phase::Failed => "Failed",
        }
    }

    /// Somebody applies another template; the gate pauses what is not stable, unless the glass is broken.
    pub(crate) fn change(&mut self, to: Template) {
        self.template = to;
        self.generation += 1;
        self.rolled_out = self.serving == Serving::One(self.template.clone());
        if self.template != self.state.stable && !self.break_glass {
            self.paused = true;
        }
    }

    /// Every pod of the Deployment is now of its template, and nobody holds it back.
    pub(crate) fn rolls(&mut self) {
        self.paused = false;
        self.rolled_out = true;
        self.serving = Serving::One(self.template.clone());
        let of = |template: Option<&Template>| template == Some(&self.template);
        let canary = of(self.state.run.as_ref().map(|run| &run.canary));
        self.canary_pods = if canary { self.replicas } else { 0 };
        self.canary_complete = canary;
        self.stable_ready = if of(Some(&self.state.stable)) {
            self.replicas
        } else {
            0
        };
    }

    pub(crate) fn wanted(&self) -> Desired {
        desired(&self.state)
    }

    pub(crate) fn observe(&self) -> Observation {
        let wanted = self.wanted();
        let (exists, replicas) = match &wanted.copy {
            Copies::One { replicas, .. } => (!self.vanished, *replicas),
            Copies::None => (self.lingers, 0),
        };
        let ready = if exists {
            self.ready.unwrap_or(replicas)
        } else {
            0
        };
        let window =
            window_due(&self.state, self.now)
                .zip(self.verdict)
                .map(|((start, end), verdict)| Window {
                    start,
                    end,
                    verdict,
                    requests: self.requests,
                    stable_fails: self.stable_fails,
                });
        Observation {
            now: self.now,
            deployment: self.uid.to_owned(),
            template: self.template.clone(),
            generation: self.generation,
            original: Original {
                replicas: self.replicas,
                paused: self.paused,
                rolled_out: self.rolled_out,
                serving: self.serving.clone(),
                stable_ready: self.stable_ready,
                canary_pods: self.canary_pods,
                canary_complete: self.canary_complete,
            },
            copy: CopySeen {
                exists,
                ready,
                without_sidecar: self.without_sidecar,
            },
            traffic: Traffic {
                sent: wanted
                    .canary()
                    .map(|canary| (canary.run, effective(canary.weight, ready, replicas))),
                acknowledged: self.acknowledges,
            },
            window,
            alarm: self.alarm,
            doubt: self.doubt,
            exposed: self.exposed,
            revoked: self.revoked,
            lapsed: self.lapsed,
            deleted: self.deleted,
            break_glass: self.break_glass,
            request: self.request.clone(),
            may_raise: self.may_raise,
            hooks: self.hooks,
        }
    }

    pub(crate) fn look(&mut self) -> Transition {
        let seen = self.observe();
        self.see(&seen)
    }

    pub(crate) fn see(&mut self, seen: &Observation) -> Transition {
        let step = advance(&self.plan, &self.state, seen);
        assert!(
            desired(&step.held).weight() <= self.wanted().weight(),
            "raised without a written state: {:?}",
            step.held
        );
        assert!(
            step.wake.is_none_or(|at| at > seen.now),
            "it wakes in the past"
        );
        self.events.extend(step.happened.clone());
        if self.persists {
            self.state = step.next.clone();
            self.events.extend(step.earned.clone());
        } else {
            self.state = step.held.clone();
        }
        match self.wanted().gate {
            Gate::Closed => self.paused = true,
            Gate::Open => self.paused = false,
            Gate::Leave => {}
        }
        let weight = self.weight();
        if self.weights.last() != Some(&weight) {
            self.weights.push(weight);
        }
        step
    }

    pub(crate) fn weight(&self) -> u8 {
        self.wanted().weight().get()
    }

    /// Looks every five seconds until it is so.
    pub(crate) fn until(&mut self, what: &str, so: impl Fn(&World) -> bool) {
        for _ in 0..20_000 {
            if so(self) {
                return;
            }
            self.pass(5);
        }
        panic!("it never came to this: {what}; {:?}", self.state);
    }

    /// Looks once, `seconds` later.
    pub(crate) fn pass(&mut self, seconds: i64) -> Transition {
        self.now = self.now + Span::seconds(seconds);
        self.look()
    }

    /// Looks every five seconds for that long.
    pub(crate) fn for_seconds(&mut self, seconds: i64) {
        let end = self.now + Span::seconds(seconds);
        self.until("the time", |w| w.now >= end);
    }

    pub(crate) fn soak(&mut self, step: usize) {
        self.until(
            "a soak",
            |w| matches!(w.state.phase, Phase::Soaking { step: at, .. } if at == step),
        );
    }

    /// Looks until one more window is judged.
    pub(crate) fn window(&mut self, verdict: Verdict) {
        let judged = self.state.run.as_ref().unwrap().judged_until;
        self.verdict = Some(verdict);
        self.until("a window", |w| {
            w.state.run.as_ref().unwrap().judged_until > judged
        });
    }

    pub(crate) fn waiting(&self) -> Option<Waiting> {
        waiting(&self.state, self.doubt, self.exposed, self.now)
    }

    pub(crate) fn inconclusive(&self) -> bool {
        self.waiting() == Some(Waiting::Evidence)
    }

    /// A person asks it to go on, and takes the request back when it is heeded or not.
    pub(crate) fn promotes(&mut self) {
        self.asks(Verb::Promote);
    }

    /// A person asks something of version 2, and takes the request back when it is heeded or not.
    pub(crate) fn asks(&mut self, verb: Verb) {
        self.request = Some(self.request(verb));
        self.look();
        self.request = None;
    }

    /// What a person asks of version 2 as it is now.
    pub(crate) fn request(&self, verb: Verb) -> Request {
        let weight = (verb == Verb::Promote).then(|| self.wanted().weight());
        request(verb, "v2", weight)
    }

    pub(crate) fn cause(&self) -> Option<Cause> {
        self.state.failure.as_ref().map(|failure| failure.cause)
    }

    pub(crate) fn run(&self) -> u64 {
        self.state.run.as_ref().unwrap().number
    }

    pub(crate) fn said(&self, so: impl Fn(&Event) -> bool) -> bool {
        self.events.iter().any(so)
    }
}
