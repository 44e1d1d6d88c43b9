//! Writes the status: at once when the state changed, else at most every ten seconds, and always on the version that was read.

use std::time::{Duration, Instant};

use aviary_crds::CanaryRollout;
use aviary_crds::status::{
    CanaryRolloutStatus, Verdict as VerdictName, VerdictRecord, WeightStatus,
};
use kube::{Api, ResourceExt};
use rollout_core::desired;
use rollout_core::judge::Verdict;
use rollout_core::plan::Percent;
use rollout_core::state::{Phase, State};
use rollout_core::time::Time;

use super::conditions::{self, Facts, Problem};
use super::controller::Context;
use super::memory::{WindowInFlight, Written};
use super::observe::Acknowledgement;
use super::persist::{self, PersistError};
use super::traffic::Sent;
use super::{events, measure, status};

/// What is only for display is written at most this often.
pub(super) const DISPLAY: Duration = Duration::from_secs(10);

/// The longest list of judgements that a status keeps.
pub(super) const VERDICTS: usize = 20;

/// Writes the status: at once when the state changed, else at most every ten seconds.
pub(super) async fn write_status(
    context: &Context,
    rollout: &CanaryRollout,
    facts: &Facts<'_>,
    problem: Option<&Problem>,
    sent: &Sent,
) -> Result<(), PersistError> {
    let (namespace, name) = (rollout.namespace().unwrap_or_default(), rollout.name_any());
    let written = context
        .memories
        .with(&namespace, &name, |memory| memory.written.clone())
        .flatten();
    let mut new = written
        .as_ref()
        .map(|w| w.status.clone())
        .or_else(|| rollout.status.clone())
        .unwrap_or_default();
    render(
        context, &namespace, &name, &mut new, rollout, facts, problem, sent,
    );
    let changed = match &written {
        None => true,
        Some(written) => {
            written.state != *facts.state
                || new.verdicts.len() != written.status.verdicts.len()
                || new.verdicts.last() != written.status.verdicts.last()
                || reasons(&new) != reasons(&written.status)
                || new.observed_generation != written.status.observed_generation
                || (new != written.status && written.at.elapsed() >= DISPLAY)
        }
    };
    if !changed {
        context.memories.with(&namespace, &name, |memory| {
            memory.state = facts.state.clone()
        });
        return Ok(());
    }
    let version = written.as_ref().map_or_else(
        || rollout.resource_version(),
        |w| newest(w.resource_version.clone(), rollout.resource_version()),
    );
    match persist::status(&context.client, rollout, version, new).await {
        Ok(object) => {
            let written = Written {
                state: facts.state.clone(),
                status: object.status.clone().unwrap_or_default(),
                resource_version: object.resource_version(),
                at: Instant::now(),
            };
            context.memories.with(&namespace, &name, |memory| {
                memory.state = facts.state.clone();
                memory.written = Some(written);
                memory.window = match std::mem::take(&mut memory.window) {
                    WindowInFlight::Answered { .. } | WindowInFlight::None => WindowInFlight::None,
                    asked @ WindowInFlight::Asked { .. } => asked,
                };
            });
            Ok(())
        }
        Err(PersistError::Conflict) => {
            reread(context, rollout, written.as_ref()).await?;
            Err(PersistError::Conflict)
        }
        Err(error) => Err(error),
    }
}

/// resourceVersions of one kind of object are comparable numbers (KEP-5504).
pub(super) fn newest(a: Option<String>, b: Option<String>) -> Option<String> {
    let number =
        |version: &Option<String>| version.as_ref().and_then(|text| text.parse::<u128>().ok());
    if number(&b) > number(&a) { b } else { a }
}

pub(super) fn reasons(status: &CanaryRolloutStatus) -> Vec<(&str, &str, &str)> {
    status
        .conditions
        .iter()
        .map(|c| (c.type_.as_str(), c.status.as_str(), c.reason.as_str()))
        .collect()
}

/// Whether `ours` has revoked the run that `theirs` goes on with.
fn took_down(ours: &State, theirs: Option<&State>) -> bool {
    let Some((theirs, run)) = theirs.and_then(|theirs| Some((theirs, theirs.run.as_ref()?))) else {
        return false;
    };
    let revoked = |state: &State| {
        state
            .revoked
            .iter()
            .any(|revoked| revoked.run == run.number)
    };
    revoked(ours) && !revoked(theirs)
}

/// Somebody wrote: if it was the state, theirs counts, and what we decided on ours is void; but a run that we took to 0 stays there.
pub(super) async fn reread(
    context: &Context,
    rollout: &CanaryRollout,
    written: Option<&Written>,
) -> Result<(), PersistError> {
    let (namespace, name) = (rollout.namespace().unwrap_or_default(), rollout.name_any());
    let api: Api<CanaryRollout> = Api::namespaced(context.client.clone(), &namespace);
    let Some(fresh) = api.get_opt(&name).await.map_err(PersistError::Status)? else {
        context.memories.forget(&namespace, &name);
        return Ok(());
    };
    let theirs = fresh
        .status
        .as_ref()
        .and_then(|status| status::read(status).ok().flatten());
    let ours = written.map(|written| &written.state);
    let down = context
        .memories
        .with(&namespace, &name, |memory| {
            took_down(&memory.state, theirs.as_ref())
        })
        .unwrap_or(false);
    if theirs.is_some() && theirs.as_ref() != ours && !down {
        tracing::warn!(
            namespace,
            rollout = name,
            "the status was changed by somebody else: theirs counts"
        );
        context.memories.forget(&namespace, &name);
    } else {
        context.memories.with(&namespace, &name, |memory| {
            if let Some(written) = &mut memory.written {
                written.resource_version = fresh.resource_version();
            }
        });
    }
    Ok(())
}

#[allow(clippy::too_many_arguments)] // the whole of what a status shows
pub(super) fn render(
    context: &Context,
    namespace: &str,
    name: &str,
    new: &mut CanaryRolloutStatus,
    rollout: &CanaryRollout,
    facts: &Facts<'_>,
    problem: Option<&Problem>,
    sent: &Sent,
) {
    status::write(new, Some(facts.plan), facts.state);
    let desired = desired(facts.plan, facts.state);
    let percent = |weight: Percent| i32::from(weight.get());
    let Acknowledgement {
        proxies,
        acknowledged,
        ..
    } = facts.acknowledgement;
    let count = |n: u32| i32::try_from(n).unwrap_or(i32::MAX);
    let wanted = desired
        .share
        .as_ref()
        .map_or(0, |share| percent(share.weight));
    new.weight = Some(WeightStatus {
        desired: wanted,
        sent: sent
            .canary
            .map_or(0, |(_, weight)| percent(weight))
            .min(wanted),
        acknowledged: count(*acknowledged),
        proxies: count(*proxies),
    });
    if let Some(canary) = &mut new.canary {
        let running = !matches!(facts.state.phase, Phase::Stable | Phase::Failed);
        canary.ready = running.then(|| count(facts.ready));
        canary.needed = running.then(|| count(facts.needed));
    }
    if let Some(failure) = &mut new.failure {
        failure.message = facts.failure.to_owned();
    }
    context.memories.with(namespace, name, |memory| {
        if let WindowInFlight::Answered {
            run, end, outcome, ..
        } = &memory.window
            && facts
                .state
                .run
                .as_ref()
                .is_some_and(|current| current.number == *run)
        {
            record(new, *end, wanted_or_last(new, wanted), outcome);
        }
    });
    if facts
        .state
        .run
        .as_ref()
        .is_none_or(|run| run.judged_until == run.started_at)
        && matches!(facts.state.phase, Phase::Scaling { step: 0, .. })
    {
        new.verdict = None;
    }
    new.observed_generation = rollout.metadata.generation;
    conditions::set(new, Some(facts), problem, rollout.metadata.generation);
}

/// A window that ended the run was judged at the weight that it had.
pub(super) fn wanted_or_last(status: &CanaryRolloutStatus, wanted: i32) -> i32 {
    if wanted > 0 {
        wanted
    } else {
        status.verdicts.last().map_or(0, |last| last.weight)
    }
}

pub(super) fn record(
    new: &mut CanaryRolloutStatus,
    end: Time,
    weight: i32,
    outcome: &measure::WindowOutcome,
) {
    let at = status::micro_time(end);
    if new.verdicts.iter().any(|verdict| verdict.at == at) {
        return;
    }
    let name = |verdict: Verdict| match verdict {
        Verdict::Pass => VerdictName::Pass,
        Verdict::Fail => VerdictName::Fail,
        Verdict::NoEvidence => VerdictName::NoEvidence,
    };
    new.verdict = Some(name(outcome.verdict));
    new.verdicts
        .extend(outcome.outcomes.iter().map(|one| VerdictRecord {
            at: at.clone(),
            weight,
            check: one.check.clone(),
            verdict: name(one.verdict),
            requests: one.requests.map(|n| i64::try_from(n).unwrap_or(i64::MAX)),
            reason: events::cut(one.reason.clone()),
        }));
    let surplus = new.verdicts.len().saturating_sub(VERDICTS);
    new.verdicts.drain(..surplus);
}

#[cfg(test)]
mod tests {
    use super::*;
    use rollout_core::state::{Revoked, Run, Template};

    fn running(number: u64, revoked: &[u64]) -> State {
        let template = Template {
            revision: "new".to_owned(),
            content: "new".to_owned(),
        };
        let mut state = State::adopt(template.clone(), 1);
        state.run = Some(Run {
            canary: template,
            number,
            started_at: Time(0),
            base_replicas: 1,
            judged_until: Time(0),
            failed_in_a_row: 0,
            requests: 0,
            passed: false,
            unready_since: None,
            held_since: None,
        });
        state.revoked = revoked
            .iter()
            .map(|run| Revoked {
                revision: "new".to_owned(),
                run: *run,
            })
            .collect();
        state
    }

    #[test]
    fn a_run_that_we_took_to_0_stays_there_whoever_else_writes() {
        assert!(took_down(&running(7, &[7]), Some(&running(7, &[]))));
        assert!(
            !took_down(&running(7, &[7]), Some(&running(7, &[7]))),
            "they know"
        );
        assert!(
            !took_down(&running(7, &[7]), Some(&running(8, &[]))),
            "a newer run"
        );
        assert!(!took_down(&running(7, &[]), Some(&running(7, &[]))));
        assert!(!took_down(&running(7, &[7]), None));
    }

    #[test]
    fn the_newest_resource_version_is_the_highest_number() {
        let version = |text: &str| Some(text.to_owned());
        assert_eq!(newest(version("9"), version("10")), version("10"));
        assert_eq!(newest(version("11"), version("10")), version("11"));
        assert_eq!(newest(None, version("10")), version("10"));
        assert_eq!(newest(version("10"), None), version("10"));
    }
}
