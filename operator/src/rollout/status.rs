//! The machine's state and the status of a CanaryRollout: converted here, both ways, and nowhere else.

use aviary_crds::status::{
    CanaryRolloutStatus, CanaryStatus, CauseStatus, FailureStatus, Phase as PhaseName,
    RevokedStatus, StableStatus, StepStatus, TargetStatus,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use k8s_openapi::jiff::Timestamp;
use rollout_core::plan::Plan;
use rollout_core::state::{Cause, Failure, Phase, Revoked, Run, State, Template};
use rollout_core::time::Time;

/// Why a status does not hold a state. It was edited by hand, or written by a version that this one cannot read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("status.{0} is missing or makes no sense")]
pub struct UnreadableStatus(&'static str);

pub fn micro_time(time: Time) -> MicroTime {
    MicroTime(Timestamp::from_millisecond(time.0).unwrap_or(Timestamp::UNIX_EPOCH))
}

fn time(micro: &MicroTime) -> Time {
    Time(micro.0.as_millisecond())
}

/// Writes the state into a status; what is only for display is left as it is.
pub fn write(status: &mut CanaryRolloutStatus, plan: Option<&Plan>, state: &State) {
    status.phase = Some(phase_name(state.phase));
    status.phase_since = since(state.phase).map(micro_time);
    status.stable = Some(StableStatus {
        revision: state.stable.revision.clone(),
        content: state.stable.content.clone(),
    });
    status.target = Some(TargetStatus {
        revision: state.target.revision.clone(),
        content: state.target.content.clone(),
        generation: state.generation,
        gated: state.gated,
    });
    let (ready, needed) = status
        .canary
        .as_ref()
        .map_or((None, None), |canary| (canary.ready, canary.needed));
    status.canary = state.run.as_ref().map(|run| CanaryStatus {
        revision: run.canary.revision.clone(),
        content: run.canary.content.clone(),
        run: signed(run.number),
        started_at: Some(micro_time(run.started_at)),
        base_replicas: i32::try_from(run.base_replicas).unwrap_or(i32::MAX),
        ready,
        needed,
        unready_since: run.unready_since.map(micro_time),
        held_since: run.held_since.map(micro_time),
        requests: signed(run.requests),
        failed_windows: i32::try_from(run.failed_in_a_row).unwrap_or(i32::MAX),
        judged_until: Some(micro_time(run.judged_until)),
        passed: run.passed,
    });
    status.step = step(state.phase).map(|index| StepStatus {
        index: i32::try_from(index).unwrap_or(i32::MAX),
        position: plan.map_or_else(
            || (index + 1).to_string(),
            |plan| format!("{}/{}", index + 1, plan.steps().len()),
        ),
        weight: plan.map_or(0, |plan| i32::from(plan.step(index).weight.get())),
        soak_ends_at: match (state.phase, plan) {
            (Phase::Soaking { step, since }, Some(plan)) => {
                Some(micro_time(since + plan.step(step).soak))
            }
            _ => None,
        },
    });
    status.failure = state.failure.as_ref().map(|failure| FailureStatus {
        revision: failure.template.revision.clone(),
        content: failure.template.content.clone(),
        run: signed(failure.run),
        cause: cause_name(failure.cause),
        at: Some(micro_time(failure.at)),
        message: match &status.failure {
            Some(old) if old.run == signed(failure.run) => old.message.clone(),
            Some(_) | None => String::new(),
        },
    });
    status.revoked = state
        .revoked
        .iter()
        .map(|revoked| RevokedStatus {
            revision: revoked.revision.clone(),
            run: signed(revoked.run),
        })
        .collect();
}

/// The state that a status holds; `None` for a CanaryRollout that has not adopted its Deployment yet.
pub fn read(status: &CanaryRolloutStatus) -> Result<Option<State>, UnreadableStatus> {
    let (Some(name), Some(stable), Some(target)) = (status.phase, &status.stable, &status.target)
    else {
        return Ok(None);
    };
    let run = status.canary.as_ref().map(|canary| {
        let started_at = canary.started_at.as_ref().map_or(Time(0), time);
        Run {
            canary: Template {
                revision: canary.revision.clone(),
                content: canary.content.clone(),
            },
            number: unsigned(canary.run),
            started_at,
            base_replicas: u32::try_from(canary.base_replicas).unwrap_or(0),
            judged_until: canary.judged_until.as_ref().map_or(started_at, time),
            failed_in_a_row: u32::try_from(canary.failed_windows).unwrap_or(0),
            requests: unsigned(canary.requests),
            passed: canary.passed,
            unready_since: canary.unready_since.as_ref().map(time),
            held_since: canary.held_since.as_ref().map(time),
        }
    });
    let failure = status.failure.as_ref().map(|failure| Failure {
        template: Template {
            revision: failure.revision.clone(),
            content: failure.content.clone(),
        },
        run: unsigned(failure.run),
        cause: cause(failure.cause),
        at: failure.at.as_ref().map_or(Time(0), time),
    });
    let since = status.phase_since.as_ref().map(time);
    let index = || {
        let step = status.step.as_ref().ok_or(UnreadableStatus("step"))?;
        usize::try_from(step.index).map_err(|_| UnreadableStatus("step.index"))
    };
    let began = || since.ok_or(UnreadableStatus("phaseSince"));
    let phase = match name {
        PhaseName::Stable => Phase::Stable,
        PhaseName::Starting | PhaseName::Scaling => Phase::Scaling {
            step: index()?,
            since: began()?,
        },
        PhaseName::Shifting => Phase::Shifting {
            step: index()?,
            since: began()?,
        },
        PhaseName::Soaking => Phase::Soaking {
            step: index()?,
            since: began()?,
        },
        PhaseName::Promoting => Phase::Promoting { since: began()? },
        PhaseName::RollingBack => Phase::RollingBack {
            cause: failure
                .as_ref()
                .map(|failure| failure.cause)
                .ok_or(UnreadableStatus("failure"))?,
            since: began()?,
        },
        PhaseName::Failed => Phase::Failed,
        PhaseName::Returning | PhaseName::Unsettled => return Err(UnreadableStatus("phase")),
    };
    if run.is_none() && !matches!(phase, Phase::Stable) {
        return Err(UnreadableStatus("canary"));
    }
    Ok(Some(State {
        phase,
        stable: Template {
            revision: stable.revision.clone(),
            content: stable.content.clone(),
        },
        target: Template {
            revision: target.revision.clone(),
            content: target.content.clone(),
        },
        generation: target.generation,
        gated: target.gated,
        run,
        failure,
        revoked: status
            .revoked
            .iter()
            .map(|revoked| Revoked {
                revision: revoked.revision.clone(),
                run: unsigned(revoked.run),
            })
            .collect(),
    }))
}

pub fn phase_name(phase: Phase) -> PhaseName {
    match phase {
        Phase::Stable => PhaseName::Stable,
        Phase::Scaling { step: 0, .. } => PhaseName::Starting,
        Phase::Scaling { .. } => PhaseName::Scaling,
        Phase::Shifting { .. } => PhaseName::Shifting,
        Phase::Soaking { .. } => PhaseName::Soaking,
        Phase::Promoting { .. } => PhaseName::Promoting,
        Phase::RollingBack { .. } => PhaseName::RollingBack,
        Phase::Failed => PhaseName::Failed,
    }
}

fn since(phase: Phase) -> Option<Time> {
    match phase {
        Phase::Scaling { since, .. }
        | Phase::Shifting { since, .. }
        | Phase::Soaking { since, .. }
        | Phase::Promoting { since }
        | Phase::RollingBack { since, .. } => Some(since),
        Phase::Stable | Phase::Failed => None,
    }
}

pub fn step(phase: Phase) -> Option<usize> {
    match phase {
        Phase::Scaling { step, .. }
        | Phase::Shifting { step, .. }
        | Phase::Soaking { step, .. } => Some(step),
        Phase::Stable | Phase::Promoting { .. } | Phase::RollingBack { .. } | Phase::Failed => None,
    }
}

fn cause_name(cause: Cause) -> CauseStatus {
    match cause {
        Cause::AnalysisFailed => CauseStatus::AnalysisFailed,
        Cause::ProgressDeadlineExceeded => CauseStatus::ProgressDeadlineExceeded,
        Cause::CanaryLost => CauseStatus::CanaryLost,
        Cause::NotMeshed => CauseStatus::NotMeshed,
        Cause::Revoked => CauseStatus::Revoked,
        Cause::TemplateReverted => CauseStatus::TemplateReverted,
        Cause::Deleted => CauseStatus::Deleted,
    }
}

fn cause(name: CauseStatus) -> Cause {
    match name {
        CauseStatus::AnalysisFailed => Cause::AnalysisFailed,
        CauseStatus::ProgressDeadlineExceeded => Cause::ProgressDeadlineExceeded,
        CauseStatus::CanaryLost => Cause::CanaryLost,
        CauseStatus::NotMeshed => Cause::NotMeshed,
        CauseStatus::Revoked => Cause::Revoked,
        CauseStatus::TemplateReverted => Cause::TemplateReverted,
        CauseStatus::Deleted => Cause::Deleted,
    }
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn template(name: &str) -> Template {
        Template {
            revision: name.to_owned(),
            content: format!("{name}-content"),
        }
    }

    fn states() -> Vec<State> {
        let since = Time(1_790_000_000_123);
        let mut phases = vec![Phase::Stable, Phase::Failed, Phase::Promoting { since }];
        for step in 0..4 {
            phases.extend([
                Phase::Scaling { step, since },
                Phase::Shifting { step, since },
                Phase::Soaking { step, since },
            ]);
        }
        phases.extend(Cause::ALL.map(|cause| Phase::RollingBack { cause, since }));
        phases
            .into_iter()
            .map(|phase| State {
                phase,
                stable: template("stable"),
                target: template("canary"),
                generation: 7,
                gated: true,
                run: Some(Run {
                    canary: template("canary"),
                    number: 1_790_000_000,
                    started_at: since,
                    base_replicas: 4,
                    judged_until: Time(since.0 + 5000),
                    failed_in_a_row: 1,
                    requests: 250,
                    passed: true,
                    unready_since: Some(Time(since.0 + 1)),
                    held_since: Some(Time(since.0 + 2)),
                }),
                failure: match phase {
                    Phase::RollingBack { cause, .. } => Some(Failure {
                        template: template("canary"),
                        run: 1_790_000_000,
                        cause,
                        at: since,
                    }),
                    Phase::Failed => Some(Failure {
                        template: template("canary"),
                        run: 1_790_000_000,
                        cause: Cause::AnalysisFailed,
                        at: since,
                    }),
                    _ => None,
                },
                revoked: vec![Revoked {
                    revision: "older".to_owned(),
                    run: 3,
                }],
            })
            .collect()
    }

    #[test]
    fn a_restarted_operator_reads_back_exactly_what_was_written() {
        for state in states() {
            let mut status = CanaryRolloutStatus::default();
            write(&mut status, None, &state);
            let json = serde_json::to_string(&status).unwrap();
            let back: CanaryRolloutStatus = serde_json::from_str(&json).unwrap();
            assert_eq!(read(&back), Ok(Some(state)));
        }
    }

    #[test]
    fn an_empty_status_is_a_rollout_that_has_adopted_nothing() {
        assert_eq!(read(&CanaryRolloutStatus::default()), Ok(None));
    }

    #[test]
    fn a_mutilated_status_is_refused_by_the_name_of_what_is_missing() {
        let soaking = states()
            .into_iter()
            .find(|s| matches!(s.phase, Phase::Soaking { .. }))
            .unwrap();
        let mut status = CanaryRolloutStatus::default();
        write(&mut status, None, &soaking);
        let without_step = CanaryRolloutStatus {
            step: None,
            ..status.clone()
        };
        assert_eq!(read(&without_step), Err(UnreadableStatus("step")));
        let without_canary = CanaryRolloutStatus {
            canary: None,
            ..status
        };
        assert_eq!(read(&without_canary), Err(UnreadableStatus("canary")));
    }
}
