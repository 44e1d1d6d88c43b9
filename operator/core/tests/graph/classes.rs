//! The classes of observations of a folded state: what a phase reads is varied against everything else that it reads;
//! what ends a run, one by one and in pairs, against what could keep it.

use rollout_core::exposure::Defect;
use rollout_core::judge::Verdict;
use rollout_core::observation::{CopySeen, Hooks, Observation, Original, Serving, Traffic, Window};
use rollout_core::plan::{Percent, Plan};
use rollout_core::state::{Phase, State, Template, Unsettled};
use rollout_core::{Copies, Exposed, Request, Span, Time, Verb, desired};

use crate::roles::{
    BASE, ELSEWHERE, GROWN, HERE, NOW, TICK, asks, plans, present, role, running, weight,
};

/// Nothing is spent, and every fault is ruled out.
const KNOWN: Exposed = Exposed {
    defect: Defect::NONE,
    spent: Span(0),
};
/// Nothing is ruled out.
pub(crate) const UNKNOWN: Exposed = Exposed {
    defect: Defect::ALL,
    ..KNOWN
};
/// More than any budget of the graph's plans.
pub(crate) const SPENT: Exposed = Exposed {
    spent: Span(1_037),
    ..KNOWN
};

/// An observation and the plan that the spec has then.
#[derive(Clone)]
pub(crate) struct Class {
    pub plan: Plan,
    pub seen: Observation,
}

/// A world in which everything is as `state` wants it.
pub(crate) fn good(state: &State) -> Class {
    let wanted = desired(state);
    let ready = match wanted.copy {
        Copies::One { replicas, .. } => replicas,
        Copies::None => 0,
    };
    let plan = present(state).map_or_else(|| plans()[0].clone(), |run| run.asked.clone());
    Class {
        plan,
        seen: Observation {
            now: NOW,
            deployment: HERE.to_owned(),
            template: state.target.clone(),
            generation: state.generation,
            original: Original {
                replicas: BASE,
                paused: state.gated,
                rolled_out: state.target == state.stable,
                serving: Serving::One(state.stable.clone()),
                stable_ready: BASE,
                canary_pods: 0,
                canary_complete: false,
            },
            copy: CopySeen {
                exists: ready > 0,
                ready,
                without_sidecar: false,
            },
            traffic: Traffic {
                sent: wanted.canary().map(|canary| (canary.run, canary.weight)),
                acknowledged: true,
            },
            window: None,
            alarm: false,
            doubt: false,
            exposed: KNOWN,
            revoked: None,
            lapsed: false,
            deleted: false,
            break_glass: false,
            request: None,
            may_raise: true,
            hooks: Hooks::Agree,
        },
    }
}

/// Every class of observation of `state`.
pub(crate) fn classes(state: &State, mut visit: impl FnMut(&Class)) {
    match state.phase {
        Phase::Scaling { .. } | Phase::Shifting { .. } | Phase::Soaking { .. } => {
            held_or_raised(state, &mut visit);
            ended(state, &mut visit);
        }
        Phase::Promoting { .. } | Phase::Returning { .. } => promoting(state, &mut visit),
        Phase::RollingBack { .. } => rolling_back(state, &mut visit),
        Phase::Unsettled { .. } | Phase::Stable | Phase::Failed => resting(state, &mut visit),
    }
}

fn window(now: Time, verdict: Verdict, requests: u64) -> Option<Window> {
    Some(Window {
        start: now + Span(-5000),
        end: now,
        verdict,
        requests,
        stable_fails: None,
    })
}

/// The same, and what the window says of the stable revision.
fn beside_stable(now: Time, verdict: Verdict, fails: bool) -> Option<Window> {
    window(now, verdict, 20).map(|window| Window {
        stable_fails: Some(fails),
        ..window
    })
}

/// What is needed for a raise, each with each.
fn held_or_raised(state: &State, visit: &mut impl FnMut(&Class)) {
    let good = good(state);
    let run = state.run.as_ref().expect("a running state has a run");
    let wanted = weight(state);
    let need = good.seen.copy.ready;
    let mut ready = vec![0, need.saturating_sub(1), need, GROWN];
    ready.sort_unstable();
    ready.dedup();
    let traffics = [
        (None, true),
        (Some((run.number, wanted)), false),
        (Some((run.number, Percent::ZERO)), true),
        (Some((run.number - 1, wanted)), true),
    ];
    for elapsed in [Span(0), TICK] {
        let now = NOW + elapsed;
        let windows = [
            None,
            beside_stable(now, Verdict::Pass, false),
            window(now, Verdict::Pass, 3),
            window(now, Verdict::Fail, 20),
            window(now, Verdict::NoEvidence, 12),
            // One that was judged already, and one of a clock that was set back since.
            Some(Window {
                start: Time(0),
                end: run.judged_until,
                verdict: Verdict::Fail,
                requests: 20,
                stable_fails: Some(true),
            }),
            window(now + Span(5000), Verdict::Fail, 20),
            // One that began before any soak.
            Some(Window {
                start: Time(0),
                end: now,
                verdict: Verdict::Pass,
                requests: 20,
                stable_fails: None,
            }),
            beside_stable(now, Verdict::Pass, true),
            beside_stable(now, Verdict::NoEvidence, true),
        ];
        // What a person holds is raised by nothing: windows only ever take it down.
        let (met, held) = match run.on_hold {
            Some(_) => (&windows[..4], true),
            None => (&windows[..], false),
        };
        for ready in &ready {
            for window in met.iter().copied() {
                for (may_raise, promote) in [(false, true), (true, false), (true, true)] {
                    let mut class = good.clone();
                    class.seen.now = now;
                    class.seen.copy.ready = *ready;
                    class.seen.window = window;
                    class.seen.may_raise = may_raise;
                    class.seen.request = promote.then(|| asks(state, Verb::Promote));
                    visit(&class);
                }
            }
        }
        if held {
            continue;
        }
        for exposed in [UNKNOWN, SPENT] {
            for window in &windows[..3] {
                for (may_raise, promote) in [(false, true), (true, false), (true, true)] {
                    let mut class = good.clone();
                    class.seen.now = now;
                    class.seen.copy.ready = GROWN;
                    class.seen.exposed = exposed;
                    class.seen.window = *window;
                    class.seen.may_raise = may_raise;
                    class.seen.request = promote.then(|| asks(state, Verb::Promote));
                    visit(&class);
                }
            }
        }
        // What is not acknowledged only ever keeps a raise away, or a person's word.
        for (sent, acknowledged) in traffics {
            for window in &windows[..3] {
                for promote in [false, true] {
                    let mut class = good.clone();
                    class.seen.now = now;
                    class.seen.copy.ready = GROWN;
                    class.seen.traffic = Traffic { sent, acknowledged };
                    class.seen.window = *window;
                    class.seen.request = promote.then(|| asks(state, Verb::Promote));
                    visit(&class);
                }
            }
        }
    }
}

type Change = fn(&State, &mut Class);

/// What ends a run, takes it back, or must not touch it.
const CHANGES: [Change; 36] = [
    |_, class| class.seen.deleted = true,
    |_, class| class.seen.break_glass = true,
    |_, class| class.seen.alarm = true,
    |_, class| class.seen.doubt = true,
    |_, class| class.seen.revoked = Some(1),
    |_, class| class.seen.revoked = Some(0),
    |_, class| class.seen.lapsed = true,
    |_, class| class.seen.deployment = ELSEWHERE.to_owned(),
    |_, class| class.seen.copy.without_sidecar = true,
    |_, class| {
        class.seen.copy = CopySeen {
            exists: false,
            ready: 0,
            without_sidecar: false,
        };
    },
    |_, class| asks_for(class, "stable"),
    |_, class| asks_for(class, "canary"),
    |_, class| asks_for(class, "canary-annotated"),
    |_, class| asks_for(class, "other"),
    // A hash that differs without a new generation.
    |_, class| class.seen.template = role("other"),
    |_, class| rolled(class, "canary"),
    |_, class| rolled(class, "other"),
    |_, class| class.seen.original.serving = Serving::One(role("other")),
    |_, class| class.seen.original.serving = Serving::Unclear(Unsettled::HalfRolled),
    |_, class| class.seen.original.paused = false,
    |_, class| class.seen.original.replicas = GROWN,
    |state, class| class.seen.request = Some(asks(state, Verb::Promote)),
    |state, class| class.seen.request = Some(asks(state, Verb::PromoteNow)),
    |state, class| class.seen.request = Some(asks(state, Verb::Abort)),
    |state, class| class.seen.request = Some(asks(state, Verb::Pause)),
    |state, class| class.seen.request = Some(asks(state, Verb::Resume)),
    |state, class| class.seen.request = Some(asks(state, Verb::Retry)),
    // Of a revision that is not released.
    |state, class| {
        class.seen.request = Some(Request {
            revision: "other".to_owned(),
            ..asks(state, Verb::Abort)
        });
    },
    |_, class| class.seen.now = class.seen.now + Span(-2 * TICK.0),
    |state, class| edit(state, class, 0),
    |state, class| edit(state, class, 1),
    |_, class| class.seen.original.replicas = 0,
    |_, class| class.seen.hooks = Hooks::Hold,
    |_, class| class.seen.hooks = Hooks::Refuse,
    |_, class| class.seen.exposed = UNKNOWN,
    |_, class| class.seen.exposed = SPENT,
];

fn asks_for(class: &mut Class, name: &str) {
    class.seen.template = role(name);
    class.seen.generation = 2;
}

/// Somebody went past the gate.
fn rolled(class: &mut Class, name: &str) {
    asks_for(class, name);
    class.seen.original.paused = false;
    class.seen.original.rolled_out = true;
    class.seen.original.serving = Serving::One(role(name));
    class.seen.original.stable_ready = 0;
}

fn edit(state: &State, class: &mut Class, plan: usize) {
    class.plan = plans()[plan].clone();
    // Enough for whatever step is next in it: the edit alone is what must not raise.
    if class.seen.copy.ready > 0
        && state
            .run
            .as_ref()
            .is_some_and(|run| run.asked != class.plan)
    {
        class.seen.copy.ready = GROWN;
    }
}

fn ended(state: &State, visit: &mut impl FnMut(&Class)) {
    for elapsed in [Span(0), TICK] {
        let now = NOW + elapsed;
        for window in [None, window(now, Verdict::Fail, 20)] {
            for helpful in [false, true] {
                let mut base = good(state);
                base.seen.now = now;
                base.seen.window = window;
                if !helpful {
                    base.seen.may_raise = false;
                    base.seen.copy.ready = 0;
                    base.seen.traffic.acknowledged = false;
                }
                for change in CHANGES {
                    let mut class = base.clone();
                    change(state, &mut class);
                    visit(&class);
                }
            }
        }
    }
    if running(state).is_some_and(|run| run.on_hold.is_some()) {
        return;
    }
    for (first, change) in CHANGES.iter().enumerate() {
        for other in &CHANGES[first + 1..] {
            let mut class = good(state);
            change(state, &mut class);
            other(state, &mut class);
            visit(&class);
        }
    }
}

/// Templates that the Deployment may ask for, with its generation.
fn templates(state: &State) -> Vec<(Template, i64)> {
    let roles = ["stable", "canary", "canary-annotated", "other"].map(role);
    let mut templates: Vec<(Template, i64)> = roles.into_iter().map(|t| (t, 2)).collect();
    templates.push((state.target.clone(), 1));
    templates.push((role("other"), 1));
    templates
}

fn promoting(state: &State, visit: &mut impl FnMut(&Class)) {
    let good = good(state);
    for (template, generation) in templates(state) {
        for (paused, rolled_out) in [(true, false), (true, true), (false, false), (false, true)] {
            for (replicas, stable_ready, canary_pods, canary_complete) in [
                (BASE, BASE, 0, false),
                (BASE, BASE, 1, false),
                (BASE, 3, 2, false),
                (BASE, 0, 0, false),
                (BASE, 0, 3, false),
                (BASE, 0, BASE, true),
                (GROWN, 3, 1, false),
                (GROWN, GROWN, 0, false),
                (0, 0, 0, false),
            ] {
                for serving in [
                    Serving::One(role("stable")),
                    Serving::One(role("canary")),
                    Serving::One(template.clone()),
                    Serving::Unclear(Unsettled::Rolling),
                ] {
                    // An abort meets every one of them, and nothing else that a promotion does not read.
                    for switches in (0..=16_u8).chain(32..48) {
                        let on = |bit: u8| switches & (1 << bit) != 0;
                        let mut class = good.clone();
                        let seen = &mut class.seen;
                        seen.template = template.clone();
                        seen.generation = generation;
                        seen.original = Original {
                            replicas,
                            paused,
                            rolled_out,
                            serving: serving.clone(),
                            stable_ready,
                            canary_pods,
                            canary_complete,
                        };
                        seen.deleted = on(0);
                        seen.break_glass = on(1);
                        seen.may_raise = on(2);
                        seen.request = on(5).then(|| asks(state, Verb::Abort));
                        if on(3) {
                            seen.deployment = ELSEWHERE.to_owned();
                        }
                        if on(4) {
                            // What a promotion does not read.
                            seen.now = NOW + TICK;
                            seen.copy = CopySeen {
                                exists: false,
                                ready: 0,
                                without_sidecar: false,
                            };
                            seen.traffic.acknowledged = false;
                            seen.lapsed = true;
                            seen.revoked = Some(1);
                            seen.alarm = true;
                            seen.hooks = Hooks::Refuse;
                            seen.window = window(seen.now, Verdict::Fail, 20);
                            class.plan = plans()[1].clone();
                        }
                        visit(&class);
                    }
                }
            }
        }
    }
}

fn rolling_back(state: &State, visit: &mut impl FnMut(&Class)) {
    let good = good(state);
    for (template, generation) in templates(state) {
        for (paused, rolled_out) in [(true, false), (true, true), (false, false), (false, true)] {
            for serving in servings(&template) {
                for switches in 0..64_u8 {
                    let on = |bit: u8| switches & (1 << bit) != 0;
                    let mut class = good.clone();
                    let seen = &mut class.seen;
                    seen.template = template.clone();
                    seen.generation = generation;
                    seen.original.paused = paused;
                    seen.original.rolled_out = rolled_out;
                    seen.original.serving = serving.clone();
                    seen.copy.exists = on(0);
                    seen.deleted = on(1);
                    seen.break_glass = on(2);
                    if on(3) {
                        seen.deployment = ELSEWHERE.to_owned();
                    }
                    if on(4) {
                        seen.traffic.sent = Some((1, Percent::ALL));
                    }
                    seen.traffic.acknowledged = on(5);
                    seen.request = on(5).then(|| asks(state, Verb::Retry));
                    visit(&class);
                }
            }
        }
    }
}

fn servings(template: &Template) -> Vec<Serving> {
    let mut servings = ["stable", "canary", "other"]
        .map(|name| Serving::One(role(name)))
        .to_vec();
    servings.push(Serving::One(template.clone()));
    servings.extend(
        [
            Unsettled::Rolling,
            Unsettled::HalfRolled,
            Unsettled::NothingServes,
        ]
        .map(Serving::Unclear),
    );
    servings
}

fn resting(state: &State, visit: &mut impl FnMut(&Class)) {
    let good = good(state);
    // Only what failed is tried again.
    let requests: u8 = if state.phase == Phase::Failed {
        128
    } else {
        64
    };
    for (template, generation) in templates(state) {
        for (paused, rolled_out) in [(true, false), (true, true), (false, false), (false, true)] {
            for serving in servings(&template) {
                for switches in 0..requests {
                    let on = |bit: u8| switches & (1 << bit) != 0;
                    let mut class = good.clone();
                    let seen = &mut class.seen;
                    seen.template = template.clone();
                    seen.generation = generation;
                    seen.original.paused = paused;
                    seen.original.rolled_out = rolled_out;
                    seen.original.serving = serving.clone();
                    seen.copy.exists = on(0);
                    seen.deleted = on(1);
                    seen.break_glass = on(2);
                    if on(3) {
                        seen.deployment = ELSEWHERE.to_owned();
                    }
                    seen.may_raise = on(4);
                    seen.request = on(6).then(|| Request {
                        revision: seen.template.revision.clone(),
                        ..asks(state, Verb::Retry)
                    });
                    if on(5) {
                        seen.original.replicas = GROWN;
                        seen.now = NOW + TICK;
                        class.plan = plans()[1].clone();
                    }
                    visit(&class);
                }
            }
        }
    }
}
