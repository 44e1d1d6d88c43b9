//! The invariants of the design, section 3, on one edge: what has to be true at once, and what once it is written.

use rollout_core::judge::Verdict;
use rollout_core::observation::{CopySeen, Hooks, Observation, Serving, Traffic};
use rollout_core::plan::{Deletion, OnFailure, Pause, Percent, Plan, Then};
use rollout_core::state::{Cause, Phase, Run, State, Template, Unsettled};
use rollout_core::{
    Ahead, By, Event, Gate, Lease, Span, Time, Transition, Verb, advance, ahead, desired,
};

use crate::classes::Class;
use crate::roles::{present, running, weight};

macro_rules! hold {
    ($condition:expr, $($what:tt)+) => { if !$condition { return Err(format!($($what)+)); } };
}

/// The template that counts: one that differs without a new generation is no change of the user's.
fn asked<'a>(state: &'a State, seen: &'a Observation) -> &'a Template {
    if seen.generation == state.generation {
        &state.target
    } else {
        &seen.template
    }
}

fn number(state: &State) -> u64 {
    state.run.as_ref().map_or(0, |run| run.number)
}

/// The step whose pods a running state needs.
fn step_of(phase: Phase) -> usize {
    match phase {
        Phase::Scaling { step, .. }
        | Phase::Shifting { step, .. }
        | Phase::Soaking { step, .. } => step,
        Phase::Unsettled { .. }
        | Phase::Stable
        | Phase::Promoting { .. }
        | Phase::Returning { .. }
        | Phase::RollingBack { .. }
        | Phase::Failed => panic!("{phase:?} has no step"),
    }
}

fn revoked(state: &State, run: &Run) -> bool {
    state
        .revoked
        .iter()
        .any(|revoked| revoked.revision == run.canary.revision && revoked.run == run.number)
}

/// The Deployment runs a template that nobody released.
fn ungated(from: &State, seen: &Observation) -> bool {
    let target = asked(from, seen);
    *target != from.stable
        && !seen.original.paused
        && seen.original.rolled_out
        && seen.original.serving == Serving::One(target.clone())
}

/// A person asks this of the run of `from`.
fn is_asked(from: &State, seen: &Observation, verb: Verb) -> bool {
    let canary = from.run.as_ref().map(|run| run.canary.revision.as_str());
    let request = seen.request.as_ref();
    request.is_some_and(|request| request.verb == verb && Some(request.revision.as_str()) == canary)
}

/// Nobody may raise it: what is around it says so, or a person who has paused the run.
fn is_held(run: &Run, from: &State, seen: &Observation) -> bool {
    !seen.may_raise || run.on_hold.is_some() || is_asked(from, seen, Verb::Pause)
}

/// Windows that failed in a row, with the one that is seen now.
fn failures(from: &State, run: &Run, seen: &Observation) -> u32 {
    let judged_until = run.judged_until.min(seen.now);
    let counted = seen.window.filter(|window| {
        run.skips.is_none()
            && weight(from) > Percent::ZERO
            && window.end > judged_until
            && window.end <= seen.now
    });
    match counted.map(|window| window.verdict) {
        // What a paused failure adds to it says nothing new.
        Some(Verdict::Fail) => match run.plan.on_failure {
            OnFailure::Pause => (run.failed_in_a_row + 1).min(run.plan.failure_limit + 1),
            OnFailure::Rollback => run.failed_in_a_row + 1,
        },
        Some(Verdict::Pass) => 0,
        Some(Verdict::NoEvidence) | None => run.failed_in_a_row,
    }
}

/// Pods have been missing for the deadline; while they come up, without the time in which the run is held.
fn overdue(from: &State, run: &Run, seen: &Observation) -> bool {
    let need = run
        .plan
        .replicas(run.base_replicas, run.plan.step(step_of(from.phase)).weight);
    let Some(unready) = run.unready_since.filter(|_| seen.copy.ready < need) else {
        return false;
    };
    let unready = unready.min(seen.now);
    let until = match (from.phase, run.held_since) {
        (Phase::Scaling { .. }, _) if is_held(run, from, seen) => return false,
        (Phase::Scaling { .. }, Some(held)) => held.min(seen.now).max(unready),
        _ => seen.now,
    };
    until - unready >= run.plan.progress_deadline
}

/// Pods of the weight that is sent have been missing for the deadline while those of the next step come up, whoever holds
/// the run.
fn lost(from: &State, run: &Run, seen: &Observation) -> bool {
    let need = run.plan.replicas(run.base_replicas, weight(from));
    let missing = weight(from) > Percent::ZERO && seen.copy.ready < need.min(run.sent_needs);
    let since = run.lost_since.filter(|_| missing);
    since.is_some_and(|since| seen.now - since.min(seen.now) >= run.plan.progress_deadline)
}

/// Raising to this step, or promoting (`None`), could spend more than is left of the plan's error budget.
fn overspends(plan: &Plan, step: Option<usize>, seen: &Observation) -> bool {
    let Some(budget) = plan.exposure else {
        return false;
    };
    let could = step.map_or(0.0, |step| {
        let step = plan.step(step);
        let defect = f64::from(seen.exposed.defect.millionths()) / 1e6;
        f64::from(step.weight.get()) / 100.0 * defect * step.soak.0 as f64
    });
    seen.exposed.spent.0 as f64 + could > budget.of_release().0 as f64
}

/// The guard speaks of a canary that has a weight.
fn alarmed(from: &State, seen: &Observation) -> bool {
    seen.alarm && weight(from) > Percent::ZERO
}

/// More windows failed than are tolerated, or the guard has an alarm, and the plan does not say to pause then, or no more.
fn failed(from: &State, run: &Run, class: &Class) -> bool {
    let too_many =
        failures(from, run, &class.seen) > run.plan.failure_limit || alarmed(from, &class.seen);
    let paused = run.failed_since.is_some();
    let pauses = paused || run.plan.on_failure == OnFailure::Pause;
    (too_many || paused) && !(pauses && class.plan.on_failure == OnFailure::Pause)
}

/// A run has to end now.
fn ends(from: &State, run: &Run, class: &Class) -> bool {
    let seen = &class.seen;
    let first = matches!(from.phase, Phase::Scaling { step: 0, .. });
    seen.deleted
        || seen.break_glass
        || seen.deployment != from.deployment
        || seen.revoked.is_some_and(|revoked| revoked >= run.number)
        || *asked(from, seen) != run.canary
        || ungated(from, seen)
        || seen.copy.without_sidecar
        || seen.hooks == Hooks::Refuse
        || is_asked(from, seen, Verb::Abort)
        || (!first && !seen.copy.exists)
        || failed(from, run, class)
        || overdue(from, run, seen)
        || (matches!(from.phase, Phase::Scaling { .. }) && lost(from, run, seen))
}

pub(crate) fn check(from: &State, class: &Class, step: &Transition) -> Result<(), String> {
    let seen = &class.seen;
    hold!(
        step.wake.is_none_or(|at| at > seen.now),
        "it wakes in the past"
    );
    at_once(from, class, step)?;
    again(class, from, step)?;
    unheard(class, from, step)?;
    earned(from, class, step)?;
    asked_first(from, class, step)?;
    stable(from, seen, &step.held, false)?;
    stable(from, seen, &step.next, true)
}

/// `held`: never a higher weight, and every way down.
fn at_once(from: &State, class: &Class, step: &Transition) -> Result<(), String> {
    let (seen, held) = (&class.seen, &step.held);
    let (before, now) = (weight(from), weight(held));
    hold!(
        now <= before,
        "1: {before} became {now} without a written state"
    );
    let wanted = desired(held);
    hold!(
        !seen.break_glass || (wanted.gate == Gate::Leave && wanted.serves.is_none()),
        "a person is fought: {wanted:?}"
    );
    let replaced = matches!(
        held.phase,
        Phase::Promoting { .. } | Phase::Returning { .. }
    );
    hold!(
        wanted
            .canary()
            .is_none_or(|canary| (canary.lease == Lease::None) == replaced),
        "7: proxies go back to stable by themselves only while it is all there: {wanted:?}"
    );
    let gone = seen.deleted || seen.break_glass || seen.deployment != from.deployment;
    hold!(
        !gone || now == Percent::ZERO,
        "6: an abort left weight {now}"
    );
    match from.phase {
        Phase::Scaling { .. } | Phase::Shifting { .. } | Phase::Soaking { .. } => {
            let run = from.run.as_ref().ok_or("a running state without a run")?;
            running_at_once(from, run, class, step)
        }
        Phase::Promoting { .. } | Phase::Returning { .. } => {
            let run = from.run.as_ref().ok_or("a promotion without a run")?;
            promotion_at_once(from, run, seen, held)
        }
        Phase::Unsettled { .. } | Phase::Stable | Phase::RollingBack { .. } | Phase::Failed => {
            hold!(
                number(held) == number(from) || held.run.is_none(),
                "3: a run started without a written state"
            );
            Ok(())
        }
    }
}

fn running_at_once(
    from: &State,
    run: &Run,
    class: &Class,
    step: &Transition,
) -> Result<(), String> {
    let (seen, held) = (&class.seen, &step.held);
    let (before, now) = (weight(from), weight(held));
    if ends(from, run, class) {
        hold!(now == Percent::ZERO, "2: an end left weight {now}");
        hold!(
            running(held).is_none_or(|new| new.number > run.number),
            "2: an ended run goes on"
        );
        hold!(revoked(held, run), "2: an ended run was not revoked");
        return Ok(());
    }
    let same = running(held).filter(|same| same.number == run.number);
    let same = same.ok_or("2: it ended without a cause")?;
    if seen.lapsed && before > Percent::ZERO {
        hold!(
            now == Percent::ZERO && matches!(held.phase, Phase::Scaling { step: 0, .. }),
            "4: a lapsed lease left weight {now} in {:?}",
            held.phase
        );
        hold!(
            (same.failed_in_a_row, same.requests, same.passed) == (0, 0, false),
            "4: evidence outlived the lease"
        );
        return Ok(());
    }
    hold!(
        same.on_hold.is_some() == (run.on_hold.is_some() || is_asked(from, seen, Verb::Pause)),
        "1: a person's pause was lost, or nobody paused it"
    );
    hold!(
        same.skips == run.skips,
        "1: the judgement was skipped before it was written"
    );
    let paused = run.failed_since.is_some()
        || failures(from, run, seen) > run.plan.failure_limit
        || alarmed(from, seen);
    hold!(
        same.failed_since.is_some() == paused,
        "2: a failure that pauses was lost, or came from nowhere"
    );
    hold!(
        same.failed_in_a_row == failures(from, run, seen),
        "5: {} failures became {}",
        run.failed_in_a_row,
        same.failed_in_a_row
    );
    if run.asked == class.plan {
        hold!(now == before, "2: {before} became {now} without a cause");
        hold!(same.plan == run.plan, "3: the plan changed by itself");
        return Ok(());
    }
    // 3. An edit lowers at once what it lowers, and changes nothing else that is sent.
    let place = match from.phase {
        Phase::Scaling { step, .. } => step.checked_sub(1),
        phase => Some(step_of(phase)),
    };
    let edited = place.and_then(|place| class.plan.steps().get(place));
    // What goes straight on has no step of the spec's any more.
    let edited = edited.filter(|_| run.skips.is_none());
    let expected = edited.map_or(before, |edited| edited.weight.min(before));
    hold!(now == expected, "3: an edit made {now} of {before}");
    hold!(same.asked == class.plan, "3: an edit was not taken in");
    if let (true, Phase::Soaking { .. }) = (now < before, from.phase) {
        hold!(
            matches!(held.phase, Phase::Shifting { .. }) && !same.passed && same.requests == 0,
            "3: a lowered weight kept the soak of a higher one"
        );
    }
    let said = Event::PlanChanged {
        plan: same.plan.clone(),
        step: step_of(held.phase),
    };
    hold!(
        step.happened.contains(&said),
        "3: the plan in force was not said"
    );
    Ok(())
}

fn promotion_at_once(
    from: &State,
    run: &Run,
    seen: &Observation,
    held: &State,
) -> Result<(), String> {
    let (before, now) = (weight(from), weight(held));
    let promoting = matches!(from.phase, Phase::Promoting { .. });
    let target = asked(from, seen);
    if seen.deleted || seen.break_glass || seen.deployment != from.deployment {
        hold!(
            matches!(held.phase, Phase::Unsettled { .. }) && revoked(held, run),
            "6: a promotion was not left: {:?}",
            held.phase
        );
        return Ok(());
    }
    if ungated(from, seen) && !(promoting && *target == run.canary) {
        hold!(
            now == Percent::ZERO && held.stable == *target && revoked(held, run),
            "6: what rolled past a promotion is not what serves"
        );
        return Ok(());
    }
    let over = if *target == run.canary {
        seen.original.rolled_out
    } else {
        seen.original.canary_complete
    };
    let aborts = is_asked(from, seen, Verb::Abort) && !over;
    hold!(
        !aborts || !promoting || held.run.as_ref().is_some_and(|run| run.aborted.is_some()),
        "6: an abort did not leave the promotion"
    );
    if !promoting || *target == from.stable || aborts {
        // 7. Requests go back to stable as far as its pods are there, and only so far.
        let there = Percent::covered(seen.original.stable_ready, seen.original.replicas).rest();
        hold!(
            now == there.min(before),
            "7: {now} on the way back, {there} would be covered"
        );
        hold!(
            now > Percent::ZERO || revoked(held, run),
            "2: a run that was taken back is not revoked"
        );
        return Ok(());
    }
    if *target != run.canary && seen.original.canary_pods == 0 {
        hold!(
            now == Percent::ZERO && revoked(held, run) && number(held) > run.number,
            "9: a third template before anything rolled did not start anew"
        );
        return Ok(());
    }
    hold!(
        now == Percent::ALL && matches!(held.phase, Phase::Promoting { .. }),
        "7: traffic left the canary during a promotion"
    );
    Ok(())
}

/// What is seen of the run that is there after a step that may have begun another one.
fn seen_again(from: &State, class: &Class, held: &State) -> Observation {
    let mut seen = class.seen.clone();
    if number(held) != number(from) {
        // Where nothing is released, copies of any run count.
        if !matches!(held.phase, Phase::Unsettled { .. }) {
            seen.copy = CopySeen {
                exists: false,
                ready: 0,
                without_sidecar: false,
            };
        }
        seen.traffic = Traffic {
            sent: None,
            acknowledged: true,
        };
        seen.revoked = None;
        seen.hooks = Hooks::Agree;
        // What was asked of a run that is only now there is heeded now.
        seen.request = None;
    }
    seen
}

/// 4. The same observation once more changes nothing, and nothing happens twice; a window counts once.
fn again(class: &Class, from: &State, step: &Transition) -> Result<(), String> {
    let seen = seen_again(from, class, &step.held);
    let second = advance(&class.plan, &step.held, &seen);
    let without_hold = |state: &State| {
        let mut state = state.clone();
        if let Some(run) = &mut state.run {
            run.held_since = None;
        }
        state
    };
    let records_a_hash = step.held.phase == Phase::Stable
        && step.held.target == step.held.stable
        && step.held.target != seen.template;
    let same = if records_a_hash {
        second.held.stable == seen.template && second.held.phase == Phase::Stable
    } else if number(&step.held) == number(from) {
        second.held == step.held
    } else {
        // Who holds a new run holds it from its first look on.
        without_hold(&second.held) == without_hold(&step.held)
    };
    hold!(same, "4: once more it became {:?}", second.held);
    hold!(
        second.happened.is_empty(),
        "4: it happened twice: {:?}",
        second.happened
    );
    let mut seen_written = seen_again(from, class, &step.next);
    seen_written.request.clone_from(&class.seen.request);
    let third = advance(&class.plan, &step.next, &seen_written);
    let answers = |events: &[Event]| events.iter().filter(|event| is_answer(event)).count();
    hold!(
        answers(&third.happened) + answers(&third.earned) == 0
            || answers(&step.happened) + answers(&step.earned) == 0,
        "4: a request was heeded twice: {:?}",
        third.earned
    );
    if let (Some(_), Some(once)) = (seen.window, running(&step.next))
        && once.number == number(from)
    {
        let written = advance(&class.plan, &step.next, &seen).held;
        hold!(
            running(&written).is_none_or(|twice| twice.failed_in_a_row == once.failed_in_a_row),
            "4: a window was judged once more after the state was written"
        );
    }
    Ok(())
}

/// A person was heeded.
fn is_answer(event: &Event) -> bool {
    matches!(
        event,
        Event::LetOn { .. }
            | Event::JudgedAnew { .. }
            | Event::JudgementSkipped { .. }
            | Event::Held { .. }
            | Event::Resumed { .. }
            | Event::Retried { .. }
            | Event::PromotionAborted { .. }
    )
}

/// Whether proxies acknowledge changes nothing of what is true at once: a missing acknowledgement never ends a run.
fn unheard(class: &Class, from: &State, step: &Transition) -> Result<(), String> {
    if class.seen.traffic.acknowledged {
        return Ok(());
    }
    let mut heard = class.seen.clone();
    heard.traffic.acknowledged = true;
    let heard = advance(&class.plan, from, &heard);
    hold!(
        heard.held == step.held && heard.happened == step.happened,
        "2: a missing acknowledgement made a difference: {:?}",
        heard.held
    );
    hold!(
        !matches!(step.next.phase, Phase::RollingBack { .. })
            || matches!(heard.next.phase, Phase::RollingBack { .. }),
        "2: a missing acknowledgement rolled back"
    );
    Ok(())
}

/// 1. A raise and a promotion wait for the hooks, which are asked about just that; and nothing that is true at once does.
fn asked_first(from: &State, class: &Class, step: &Transition) -> Result<(), String> {
    let earned = step.earned.iter().find_map(Ahead::of);
    hold!(
        earned.is_none() || class.seen.hooks == Hooks::Agree,
        "1: {earned:?} waited for no hook"
    );
    if earned.is_none() {
        return Ok(());
    }
    hold!(
        ahead(&class.plan, from, &class.seen) == earned,
        "1: the hooks are asked about something else than {earned:?}"
    );
    let mut seen = class.seen.clone();
    seen.hooks = Hooks::Hold;
    let waits = advance(&class.plan, from, &seen);
    hold!(
        ahead(&class.plan, from, &seen) == earned,
        "1: what the hooks say changes what they are asked"
    );
    hold!(
        waits.held == step.held && waits.happened == step.happened,
        "2: a hook that is waited for made a difference at once: {:?}",
        waits.held
    );
    hold!(
        waits.next == waits.held && waits.earned.is_empty(),
        "1: something was earned while a hook is waited for: {:?}",
        waits.earned
    );
    Ok(())
}

/// `next`: what was earned.
fn earned(from: &State, class: &Class, step: &Transition) -> Result<(), String> {
    let (seen, held, next) = (&class.seen, &step.held, &step.next);
    let (before, after) = (weight(held), weight(next));
    let same_run = number(held) == number(next);
    if after > before {
        raised(from, class, step)?;
    }
    soaked(from, class, step)?;
    if let (Phase::Shifting { .. }, Phase::Soaking { since, .. }) = (held.phase, next.phase) {
        let run = next.run.as_ref().ok_or("a soak without a run")?;
        hold!(
            (run.requests, run.passed, run.judged_until, since) == (0, false, seen.now, seen.now),
            "1: a soak began with evidence that is not its own"
        );
    }
    if let (Phase::Soaking { .. }, Phase::Scaling { .. }) = (held.phase, next.phase) {
        hold!(
            next.run.as_ref().map(|run| run.base_replicas) == Some(seen.original.replicas),
            "1: the next step's pods are a share of another size"
        );
    }
    if let (Phase::Unsettled { .. }, Phase::Stable | Phase::Failed) = (held.phase, next.phase) {
        hold!(
            !seen.copy.exists && !seen.deleted,
            "what serves was settled while a copy was there or the rollout went"
        );
    }
    // 2. After its end a run never gets a share again.
    if matches!(
        held.phase,
        Phase::Unsettled { .. } | Phase::Stable | Phase::RollingBack { .. } | Phase::Failed
    ) {
        hold!(
            after == Percent::ZERO,
            "2: weight {after} out of {:?}",
            held.phase
        );
    }
    // 3. A weight belongs to a run: another run starts at 0, with a higher number, when somebody asks for it.
    if next.run.is_some() && !same_run {
        hold!(
            next.last_run > held.last_run && number(next) == next.last_run,
            "3: run numbers do not rise"
        );
        hold!(
            after == Percent::ZERO && matches!(next.phase, Phase::Scaling { step: 0, .. }),
            "3: a new run did not start at 0"
        );
        let canary = &next.run.as_ref().ok_or("no run")?.canary;
        hold!(*canary != next.stable, "3: the stable template is released");
        hold!(
            *canary == next.target,
            "3: nobody asks for what is released"
        );
        hold!(
            seen.may_raise && !seen.deleted && !seen.break_glass,
            "3: a run started while it must not"
        );
        hold!(next.gated, "3: a run started and its gate is not ours");
        hold!(
            next.run.as_ref().is_some_and(|run| run.plan == class.plan),
            "3: a run started with another plan than the spec's"
        );
    }
    // 8. A failed template is not tried again because of an annotation.
    let retried = step
        .earned
        .iter()
        .any(|event| matches!(event, Event::Retried { .. }));
    let request = seen.request.as_ref();
    hold!(
        !retried
            || request.is_some_and(|request| {
                request.verb == Verb::Retry && request.revision == next.target.revision
            }),
        "8: tried again what nobody asked for"
    );
    if let (Phase::Failed, Some(failure), false) = (held.phase, &held.failure, retried)
        && held.target.content == failure.template.content
        && failure.cause != Cause::TemplateReverted
        && held.target != held.stable
    {
        hold!(
            next.phase == Phase::Failed,
            "8: a failed template was tried again"
        );
    }
    // 7. A promotion ends when the Deployment has rolled, or its ReplicaSets have.
    if matches!(held.phase, Phase::Promoting { .. }) && next.phase != held.phase {
        let run = held.run.as_ref().ok_or("a promotion without a run")?;
        let rolled = if held.target == run.canary {
            seen.original.rolled_out
        } else {
            seen.original.canary_complete
        };
        hold!(
            rolled && next.stable == run.canary,
            "7: a promotion ended before its end"
        );
    }
    // A rollback ends when no proxy uses the canary and its copy is gone, and not later.
    if matches!(held.phase, Phase::RollingBack { .. }) {
        let done = !seen.copy.exists && seen.traffic.sent.is_none();
        hold!(
            (next.phase != held.phase) == done,
            "6: a rollback ended at the wrong time"
        );
    }
    if let Phase::Unsettled { why, .. } = next.phase {
        hold!(
            (why == Unsettled::BreakGlass) == seen.break_glass,
            "what is said of broken glass is not so: {why:?}"
        );
    }
    let lets_go = |state: &State| {
        matches!(
            state.phase,
            Phase::Unsettled {
                why: Unsettled::LetGo,
                ..
            }
        )
    };
    if lets_go(next) && !lets_go(from) {
        let failed = from
            .failure
            .as_ref()
            .is_some_and(|failure| failure.cause != Cause::Deleted)
            || present(from).is_some_and(|run| {
                next.target != run.canary || run.failed_in_a_row > 0 || run.failed_since.is_some()
            });
        hold!(
            seen.deleted
                && !seen.break_glass
                && class.plan.deletion == Deletion::Promote
                && !failed,
            "a template was let go that nobody wants to be promoted"
        );
    }
    if seen.break_glass {
        hold!(
            matches!(
                next.phase,
                Phase::Unsettled { .. }
                    | Phase::RollingBack {
                        cause: Cause::BreakGlass,
                        ..
                    }
            ),
            "a person is fought in {:?}",
            next.phase
        );
    }
    Ok(())
}

/// 1, 3. A weight rises only when everything allows it, by one step of the plan that is asked for.
fn raised(from: &State, class: &Class, step: &Transition) -> Result<(), String> {
    let (seen, held, next) = (&class.seen, &step.held, &step.next);
    let (before, after) = (weight(held), weight(next));
    let run = running(held).ok_or("1: raised out of no run")?;
    let new = running(next).ok_or("1: raised into no run")?;
    hold!(new.number == number(from), "1: a new run began above 0");
    hold!(!ends(from, run, class), "1: raised a run that ends");
    hold!(!is_held(run, from, seen), "1: raised while held");
    hold!(seen.hooks == Hooks::Agree, "1: raised against a hook");
    hold!(!seen.lapsed, "1: raised without a lease");
    hold!(
        seen.traffic.acknowledged && seen.traffic.sent == Some((run.number, before)),
        "1: raised without acknowledgement"
    );
    hold!(
        seen.copy.exists && seen.copy.ready >= new.plan.replicas(new.base_replicas, after),
        "1: raised without Ready pods"
    );
    hold!(
        new.failed_in_a_row == 0 && new.failed_since.is_none(),
        "1: raised on a failed window"
    );
    hold!(
        !new.stable_fails || new.answered == Some(before),
        "1: raised while stable fails the same checks"
    );
    hold!(
        !overspends(&new.plan, Some(step_of(next.phase)), seen)
            || new.answered == Some(before)
            || new.skips.is_some(),
        "1: raised beyond the error budget"
    );
    hold!(
        matches!((held.phase, next.phase), (Phase::Scaling { step: a, .. }, Phase::Shifting { step: b, .. }) if a == b),
        "1: raised by another way than Scaling to Shifting"
    );
    let next_step = |plan: &Plan| {
        let mut weights = plan.steps().iter().map(|step| step.weight);
        weights.find(|weight| *weight > before)
    };
    hold!(
        Some(after) == next_step(&new.plan)
            && (Some(after) <= next_step(&class.plan) || new.skips.is_some()),
        "3: {before} became {after}, and that is not the next step"
    );
    Ok(())
}

/// 1, the evidence. A soak ends by a pass of its own windows, or on the terms of noEvidence.
fn soaked(from: &State, class: &Class, step: &Transition) -> Result<(), String> {
    let (seen, held, next) = (&class.seen, &step.held, &step.next);
    let Phase::Soaking { since, step: at } = held.phase else {
        return Ok(());
    };
    let same_phase = next.phase == held.phase && step.earned.is_empty();
    let begins_to_pause = step.earned == [Event::Paused { step: at }];
    if same_phase || begins_to_pause || number(next) != number(from) {
        return Ok(());
    }
    if step
        .earned
        .iter()
        .any(|event| matches!(event, Event::Resumed { .. }))
    {
        hold!(
            is_asked(from, seen, Verb::Resume) && next.phase == held.phase,
            "1: a pause ended that nobody ended, or something else with it"
        );
        return Ok(());
    }
    if running(next).is_some_and(|run| run.skips.is_some())
        && from.run.as_ref().is_some_and(|run| run.skips.is_none())
    {
        return skipped(from, seen, held, next);
    }
    let anew = Event::JudgedAnew {
        weight: weight(held),
        by: By::default(),
    };
    if step.earned.contains(&anew) {
        let forgiven = held.run.as_ref().ok_or("a soak without a run")?;
        let run = next.run.as_ref().ok_or("a soak without a run")?;
        hold!(
            is_asked(from, seen, Verb::Promote)
                && !is_held(forgiven, from, seen)
                && (forgiven.failed_in_a_row > 0 || forgiven.failed_since.is_some()),
            "1: judged anew what did not fail, or nobody wanted that"
        );
        hold!(
            (
                run.requests,
                run.passed,
                run.failed_in_a_row,
                run.failed_since
            ) == (0, false, 0, None)
                && next.phase
                    == Phase::Soaking {
                        step: at,
                        since: seen.now,
                    },
            "1: what is judged anew keeps old evidence"
        );
        return Ok(());
    }
    hold!(
        matches!(next.phase, Phase::Scaling { .. } | Phase::Promoting { .. }),
        "1: a soak became {:?}",
        next.phase
    );
    let before = from.run.as_ref().ok_or("a soak without a run")?;
    let run = next.run.as_ref().ok_or("a soak without a run")?;
    let plan: &Plan = &run.plan;
    let soaked = seen.now - since;
    let counts = |end: Time| end > before.judged_until.min(seen.now) && end <= seen.now;
    let fresh = seen.window.filter(|window| counts(window.end));
    let of_this_soak = fresh.filter(|window| window.start >= since);
    let requests = before.requests + of_this_soak.map_or(0, |window| window.requests);
    let passed = match fresh.map(|window| window.verdict) {
        Some(Verdict::Pass) => before.passed || of_this_soak.is_some(),
        Some(Verdict::Fail) => false,
        Some(Verdict::NoEvidence) | None => before.passed,
    };
    let evidence = passed && requests >= plan.step(at).min_requests;
    let without = plan.then == Then::Advance
        && soaked >= plan.step(at).soak + plan.hold
        && requests >= 15
        && !seen.doubt;
    hold!(soaked >= plan.step(at).soak, "1: a soak ended early");
    let fails = fresh.and_then(|window| window.stable_fails);
    let stable_fails = fails.unwrap_or(before.stable_fails);
    let paused = plan.step(at).pause.is_some_and(|pause| {
        let over = |length: Span| {
            let began = before.paused_since.map(|since| since.min(seen.now));
            began.is_some_and(|since| seen.now - since >= length)
        };
        match pause {
            Pause::Promote => true,
            Pause::For(length) => !over(length),
        }
    });
    let ahead = (!plan.is_last(at)).then_some(at + 1);
    let fits = !overspends(plan, ahead, seen);
    let alone = (evidence || without) && !stable_fails && !paused && fits;
    let answered = step.earned.contains(&Event::LetOn {
        weight: weight(held),
        by: By::default(),
    });
    let skips = before.skips.is_some();
    hold!(
        alone || skips || (answered && is_asked(from, seen, Verb::Promote)),
        "1: a soak ended without evidence, before its pause, beyond the error budget, or while stable fails"
    );
    hold!(
        skips || !alone || !answered || before.paused_since.is_some(),
        "1: a person answered what nobody asked"
    );
    hold!(
        (without && !evidence && !skips)
            == step
                .earned
                .contains(&Event::AdvancedWithoutEvidence { step: at }),
        "5: whether it advanced without evidence was not said"
    );
    let need = before
        .plan
        .replicas(before.base_replicas, plan.step(at).weight);
    hold!(
        run.failed_in_a_row == 0
            && !is_held(before, from, seen)
            && seen.traffic.acknowledged
            && seen.traffic.sent == Some((run.number, weight(held)))
            && seen.copy.ready >= need,
        "1: a soak ended against a condition"
    );
    hold!(
        matches!(next.phase, Phase::Promoting { .. }) == (weight(held) == Percent::ALL),
        "1: promoted before the last step"
    );
    hold!(weight(next) == weight(held), "1: a soak's end raised");
    Ok(())
}

/// 1. Who skips the judgement raises nothing by it: the whole capacity and everything else that a raise needs comes first.
fn skipped(from: &State, seen: &Observation, held: &State, next: &State) -> Result<(), String> {
    let run = next.run.as_ref().ok_or("skipped without a run")?;
    hold!(
        is_asked(from, seen, Verb::PromoteNow),
        "1: the judgement was skipped, and nobody asked for it"
    );
    hold!(
        weight(next) == weight(held) && number(next) == number(held),
        "1: {} became {} by skipping the judgement",
        weight(held),
        weight(next)
    );
    let weights: Vec<Percent> = run.plan.steps().iter().map(|step| step.weight).collect();
    let mut expected = vec![weight(held), Percent::ALL];
    expected.retain(|weight| *weight > Percent::ZERO);
    expected.dedup();
    hold!(
        weights == expected
            && run.plan.failure_limit == held.run.as_ref().map_or(0, |run| run.plan.failure_limit),
        "1: {weights:?} is not the straight way"
    );
    Ok(())
}

/// Stable is only what serves, what was promoted, or a hash that was recorded silently.
fn stable(from: &State, seen: &Observation, to: &State, written: bool) -> Result<(), String> {
    if to.stable == from.stable {
        return Ok(());
    }
    let serves = seen.original.serving == Serving::One(to.stable.clone());
    let recreated =
        seen.deployment != from.deployment && matches!(to.phase, Phase::Unsettled { .. });
    let promoted = written
        && matches!(from.phase, Phase::Promoting { .. })
        && from.run.as_ref().is_some_and(|run| run.canary == to.stable);
    let recorded = from.phase == Phase::Stable
        && from.target == from.stable
        && seen.generation == from.generation
        && to.target == to.stable
        && to.stable == seen.template;
    hold!(
        serves || recreated || promoted || recorded,
        "stable became {:?} in {:?}",
        to.stable,
        to.phase
    );
    Ok(())
}
