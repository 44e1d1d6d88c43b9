//! Invariant 6: from every state of the graph a release comes to rest, and it can be left: in a world that does what it is asked,
//! in one that asks for something else, and in one in which nothing can be written.

use rollout_core::judge::Verdict;
use rollout_core::observation::{CopySeen, Serving, Window};
use rollout_core::plan::{OnFailure, Percent};
use rollout_core::state::{Phase, Run, State, Template, Unsettled};
use rollout_core::{Copies, Gate, Request, Span, Transition, Verb, advance, desired};

use crate::classes::{Class, SPENT, UNKNOWN, good};
use crate::roles::{BASE, TICK, asks, present, role, running, weight};

/// Longer than any release of the graph's plans lasts in a good world.
const ENOUGH: usize = 60;

/// A world that does at once what it is asked.
#[derive(Clone)]
struct World {
    state: State,
    class: Class,
    serving: Template,
    /// Stable's pods do not come back.
    stuck: bool,
    verdict: Verdict,
    /// What waits for a person gets an answer.
    helps: bool,
}

impl World {
    fn of(state: &State) -> World {
        let class = good(state);
        World {
            state: state.clone(),
            class,
            serving: state.stable.clone(),
            stuck: false,
            verdict: Verdict::Pass,
            helps: true,
        }
    }

    /// What a person asks who wants the release to go on. Who has been heeded takes it back before asking again.
    fn help(&self) -> Option<Request> {
        let on_hold = running(&self.state).is_some_and(|run| run.on_hold.is_some());
        let verb = if on_hold { Verb::Resume } else { Verb::Promote };
        let request = asks(&self.state, verb);
        let was_heeded = self.state.heeded.is_some();
        (self.helps && !was_heeded).then_some(request)
    }

    fn asks_for(mut self, template: Template) -> World {
        self.class.seen.generation += 1;
        self.class.seen.original.paused = template != self.state.stable;
        self.class.seen.template = template;
        self
    }

    /// What there is to see after everything that was asked for was done.
    fn observe(&mut self) {
        let wanted = desired(&self.state);
        let done = good(&self.state).seen;
        let help = self.help();
        let seen = &mut self.class.seen;
        match wanted.gate {
            Gate::Closed => seen.original.paused = true,
            Gate::Open => seen.original.paused = false,
            Gate::Leave => {}
        }
        if !seen.original.paused && !self.stuck {
            self.serving = seen.template.clone();
        }
        if let (Some(revision), false) = (wanted.serves, self.stuck) {
            self.serving = [&self.state.stable, &self.state.target, &seen.template]
                .into_iter()
                .chain(self.state.run.as_ref().map(|run| &run.canary))
                .find(|template| template.revision == revision)
                .expect("what serves is a template of the state")
                .clone();
        }
        if self.helps {
            self.class.seen.request = help;
        }
        let seen = &mut self.class.seen;
        let canary = self.state.run.as_ref().map(|run| &run.canary);
        seen.copy = done.copy;
        seen.copy.exists = wanted.copy != Copies::None;
        seen.traffic = done.traffic;
        seen.original.serving = Serving::One(self.serving.clone());
        seen.original.rolled_out = self.serving == seen.template;
        seen.original.canary_complete = canary == Some(&self.serving);
        seen.original.canary_pods = u32::from(seen.original.canary_complete) * BASE;
        seen.original.stable_ready = u32::from(self.serving == self.state.stable) * BASE;
        seen.window = running(&self.state)
            .filter(|run| seen.now >= run.judged_until + run.plan.interval)
            .map(|run| Window {
                start: seen.now + Span(-run.plan.interval.0),
                end: seen.now,
                verdict: self.verdict,
                requests: 20,
                stable_fails: None,
            });
    }

    fn look(&mut self) -> Transition {
        self.observe();
        let step = advance(&self.class.plan, &self.state, &self.class.seen);
        self.state = step.next.clone();
        step
    }

    /// Looks until nothing changes any more at this moment: a few times, or it is a busy loop.
    fn rest(&mut self) -> Result<Option<rollout_core::Time>, String> {
        for _ in 0..16 {
            let before = self.state.clone();
            let step = self.look();
            if step.next == before {
                return Ok(step.wake);
            }
        }
        Err(format!("it never rests at one moment: {:?}", self.state))
    }

    /// Before it wants to wake, time alone changes nothing.
    fn sleeps_well(&self, wake: Option<rollout_core::Time>) -> Result<(), String> {
        let mut early = self.clone();
        early.class.seen.window = None;
        early.class.seen.now = match wake {
            Some(wake) => wake + Span(-1),
            None => early.class.seen.now + Span(1_000_000),
        };
        let step = advance(&early.class.plan, &early.state, &early.class.seen);
        if step.next.phase == early.state.phase && step.happened.is_empty() {
            Ok(())
        } else {
            Err(format!(
                "it overslept: {:?} became {:?}, and it wanted to wake at {wake:?}",
                early.state, step.next
            ))
        }
    }

    fn until(mut self, what: &str, so: impl Fn(&World) -> bool) -> Result<World, String> {
        for _ in 0..ENOUGH {
            let wake = self.rest()?;
            self.sleeps_well(wake)?;
            if so(&self) {
                return Ok(self);
            }
            self.class.seen.now = self.class.seen.now + TICK;
        }
        Err(format!("{what}: it ended in {:?}", self.state))
    }
}

fn terminal(state: &State) -> bool {
    match state.phase {
        Phase::Stable | Phase::Failed => true,
        Phase::Unsettled { why, .. } => why != Unsettled::Rolling,
        Phase::Scaling { .. }
        | Phase::Shifting { .. }
        | Phase::Soaking { .. }
        | Phase::Promoting { .. }
        | Phase::Returning { .. }
        | Phase::RollingBack { .. } => false,
    }
}

pub(crate) fn check(state: &State) -> Result<(), String> {
    good_world(state)?;
    waiting_world(state)?;
    aborted(state)?;
    unwritten(state)?;
    left(state)
}

/// A good release is promoted; what must not be released waits for a person.
fn good_world(state: &State) -> Result<(), String> {
    let world = World::of(state).until("a good world", |world| terminal(&world.state))?;
    let promoted = running(state).is_none_or(|run| {
        run.failed_in_a_row > 0 || run.unready_since.is_some() || world.state.stable == run.canary
    });
    if promoted {
        Ok(())
    } else {
        Err(format!(
            "a good release was not promoted: {:?}",
            world.state
        ))
    }
}

/// In a world that only ever misses something, time goes by and nothing loops or oversleeps.
fn waiting_world(state: &State) -> Result<(), String> {
    let misses: [fn(&mut Class); 8] = [
        |class| class.seen.request = None,
        |class| class.seen.may_raise = false,
        |class| class.seen.traffic.acknowledged = false,
        |class| class.seen.copy.ready = 0,
        |class| class.seen.window = None,
        |class| class.seen.lapsed = true,
        |class| {
            class.seen.exposed = UNKNOWN;
            class.seen.request = None;
        },
        |class| {
            class.seen.exposed = SPENT;
            class.seen.request = None;
        },
    ];
    for miss in misses {
        let mut world = World::of(state);
        for _ in 0..4 {
            let mut looks = 0;
            let wake = loop {
                world.observe();
                miss(&mut world.class);
                let step = advance(&world.class.plan, &world.state, &world.class.seen);
                if step.next == world.state {
                    break step.wake;
                }
                world.state = step.next;
                looks += 1;
                if looks > 16 {
                    return Err(format!("it never rests at one moment: {:?}", world.state));
                }
            };
            world.sleeps_well(wake)?;
            world.class.seen.now = world.class.seen.now + TICK;
        }
    }
    Ok(())
}

/// Each abort leads to weight 0 and to an end, whatever the phase.
fn aborted(state: &State) -> Result<(), String> {
    let reverted = World::of(state).asks_for(role("stable"));
    let reverted = reverted.until("reverted", |world| world.state.phase == Phase::Stable)?;
    if reverted.state.stable != role("stable") {
        return Err(format!("another one is stable: {:?}", reverted.state));
    }
    let mut asked = World::of(state);
    asked.helps = false;
    asked.class.seen.request = Some(asks(state, Verb::Abort));
    let step = asked.look();
    if present(state).is_some() && running(state).is_some() && weight(&step.held) > Percent::ZERO {
        return Err(format!("an abort left {:?}", step.held));
    }
    asked.until("aborted by a person", |world| terminal(&world.state))?;
    let mut deleted = World::of(state);
    deleted.class.seen.deleted = true;
    deleted.until("deleted", |world| terminal(&world.state))?;
    let mut broken = World::of(state);
    broken.class.seen.break_glass = true;
    let mut broken = broken.until("break-glass", |world| {
        matches!(
            world.state.phase,
            Phase::Unsettled {
                why: Unsettled::BreakGlass,
                ..
            }
        )
    })?;
    broken.class.seen.break_glass = false;
    broken.until("whole glass", |world| {
        matches!(world.state.phase, Phase::Stable | Phase::Failed)
    })?;
    Ok(())
}

/// A canary that fails loses its share within its limit, or pauses, although nothing is ever written.
fn unwritten(state: &State) -> Result<(), String> {
    // Where a person has skipped the judgement, only the guard judges.
    let judged = |run: &&Run| weight(state) > Percent::ZERO && run.skips.is_none();
    let Some(run) = running(state).filter(judged) else {
        return Ok(());
    };
    let windows = run.plan.failure_limit + 1 - run.failed_in_a_row;
    let mut world = World::of(state);
    world.verdict = Verdict::Fail;
    for _ in 0..windows {
        world.class.seen.now = world.class.seen.now + TICK;
        world.observe();
        let before = weight(&world.state);
        // Nobody helps, either.
        world.class.seen.may_raise = false;
        world.class.seen.traffic.acknowledged = false;
        world.state = advance(&world.class.plan, &world.state, &world.class.seen).held;
        if weight(&world.state) > before {
            return Err(format!("raised without being written: {:?}", world.state));
        }
    }
    let pauses = run.plan.on_failure == OnFailure::Pause;
    let run = world.state.run.as_ref();
    if pauses != run.is_some_and(|run| run.failed_since.is_some()) {
        return Err(format!("{windows} failed windows made {:?}", world.state));
    }
    if weight(&world.state) > Percent::ZERO && !pauses {
        return Err(format!("{windows} failed windows left {:?}", world.state));
    }
    Ok(())
}

/// A promotion, and the way back from one, is left however stuck it is.
fn left(state: &State) -> Result<(), String> {
    if !matches!(
        state.phase,
        Phase::Promoting { .. } | Phase::Returning { .. }
    ) {
        return Ok(());
    }
    let gone = |world: &World| {
        !matches!(
            world.state.phase,
            Phase::Promoting { .. } | Phase::Returning { .. }
        )
    };
    for way in ["deleted", "break-glass"] {
        let mut world = World::of(state);
        world.stuck = true;
        world.class.seen.deleted = way == "deleted";
        world.class.seen.break_glass = way == "break-glass";
        world.class.seen.copy = CopySeen {
            exists: true,
            ready: 0,
            without_sidecar: true,
        };
        let step = advance(&world.class.plan, &world.state, &world.class.seen);
        world.state = step.held;
        if !gone(&world) {
            return Err(format!("{way} did not leave {:?}", state.phase));
        }
    }
    for name in ["stable", "other", "canary-annotated"] {
        World::of(state).asks_for(role(name)).until(name, gone)?;
    }
    // Stable's pods stay away for long: nothing is sent to them, and when they come they take over.
    let mut world = World::of(state).asks_for(role("stable"));
    world.serving = role("canary");
    world.stuck = true;
    let before = weight(state);
    for _ in 0..3 {
        world.class.seen.now = world.class.seen.now + TICK;
        world.look();
        if weight(&world.state) != before {
            return Err(format!(
                "sent to pods that are not there: {:?}",
                world.state
            ));
        }
    }
    world.stuck = false;
    world.until("stable's pods are back", |world| {
        world.state.phase == Phase::Stable
    })?;
    Ok(())
}
