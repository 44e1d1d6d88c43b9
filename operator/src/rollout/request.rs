//! What a person asks of a release: the annotation `aviary.dev/request` on its CanaryRollout, and the words about it.
//!
//! Its value binds it to one revision, and a promotion to one weight. So it is heeded once: in the next step, and in another
//! release, it is another one. GitOps does not take it back, since it is in nobody's manifest; the operator does, once it is
//! heeded or can never be.

use aviary_crds::request::InvalidRequest;
use aviary_crds::{CanaryRollout, REQUEST_ANNOTATION, REQUESTED_BY_ANNOTATION, request};
use kube::ResourceExt;
use rollout_core::plan::Percent;
use rollout_core::state::{Phase, State};
use rollout_core::{By, Refusal, Request, Verb, desired};

use crate::key::Key;
use crate::text::cut;

/// The longest name of a user that is shown, in bytes.
const USER: usize = 120;

/// What is asked. `None`: nothing; an error: nobody can say what.
pub(super) fn asked(rollout: &CanaryRollout) -> Option<Result<Request, InvalidRequest>> {
    let annotations = rollout.annotations();
    let text = annotations.get(REQUEST_ANNOTATION)?;
    let user = annotations.get(REQUESTED_BY_ANNOTATION);
    let by = By {
        user: user.map(|user| cut(user.clone(), USER)),
    };
    let request = text.parse::<request::Request>();
    Some(request.map(|request| {
        Request {
            verb: of(request.verb),
            weight: request
                .weight
                .and_then(|weight| Percent::new(i64::from(weight)).ok()),
            revision: request.revision,
            by,
        }
    }))
}

fn of(verb: request::Verb) -> Verb {
    match verb {
        request::Verb::Promote => Verb::Promote,
        request::Verb::PromoteNow => Verb::PromoteNow,
        request::Verb::Abort => Verb::Abort,
        request::Verb::Retry => Verb::Retry,
        request::Verb::Pause => Verb::Pause,
        request::Verb::Resume => Verb::Resume,
        request::Verb::Undo => Verb::Undo,
        request::Verb::Restart => Verb::Restart,
    }
}

/// How a person says that what waits goes on.
pub(super) fn promote(key: &Key, state: &State) -> Option<String> {
    Some(command(key, &value_for(state)?))
}

/// How a person ends the pause of a run.
pub(super) fn resume(key: &Key, revision: &str) -> String {
    command(key, &format!("{}:{revision}", request::Verb::Resume))
}

/// How a person has a revision tried again.
pub(crate) fn retry(key: &Key, revision: &str) -> String {
    command(key, &format!("{}:{revision}", request::Verb::Retry))
}

/// How a person skips the judgement of a revision.
pub(crate) fn promote_now(key: &Key, revision: &str) -> String {
    command(key, &format!("{}:{revision}", request::Verb::PromoteNow))
}

/// How a person takes a revision to weight 0.
fn abort(key: &Key, revision: &str) -> String {
    command(key, &format!("{}:{revision}", request::Verb::Abort))
}

/// Whole, so that it can be copied. A request that has not been taken away yet is replaced.
fn command(key: &Key, value: &str) -> String {
    let Key { namespace, name } = key;
    format!(
        "kubectl -n {namespace} annotate --overwrite canaryrollout {name} {REQUEST_ANNOTATION}={value}"
    )
}

/// The value that lets the present run go on from the weight that it has.
pub(super) fn value_for(state: &State) -> Option<String> {
    let run = state.running()?;
    let weight = desired(state).weight().get();
    let verb = request::Verb::Promote;
    Some(format!("{verb}:{}@{weight}", run.canary.revision))
}

/// Why a request is taken away unheeded, and what can be done instead.
pub(super) fn because(refusal: Refusal, request: &Request, state: &State, key: &Key) -> String {
    let stable = &state.stable.revision;
    let run = state.run.as_ref();
    let canary = run.map_or("none", |run| run.canary.revision.as_str());
    let weight = desired(state).weight();
    match refusal {
        Refusal::Unsettled => "it is not clear which revision serves".to_owned(),
        Refusal::NothingRuns if state.target != state.stable => format!(
            "revision {} waits to be released and has no weight; put the stable template back to call it off",
            state.target.revision
        ),
        Refusal::NothingRuns => {
            format!("nothing is released, and revision {stable} serves everyone")
        }
        Refusal::OtherRevision => {
            format!("the release is of revision {canary}, at weight {weight}")
        }
        Refusal::OtherWeight => format!(
            "revision {canary} has weight {weight}: {}",
            value_for(state).unwrap_or_default()
        ),
        Refusal::NotWaiting => format!(
            "revision {canary} has weight {weight} and waits for nobody there; it goes on by itself when that is earned"
        ),
        Refusal::OnHold => {
            let by = run.and_then(|run| run.on_hold.as_ref());
            let by = by.map_or_else(By::default, |hold| hold.by.clone());
            format!(
                "{by} has paused the release; to end that: {}",
                resume(key, canary)
            )
        }
        Refusal::NotOnHold => format!("nobody has paused the release of revision {canary}"),
        Refusal::AlreadySkipped => {
            format!("the judgement of revision {canary} is skipped already")
        }
        Refusal::Promoting => {
            format!(
                "every step is over, and the Deployment rolls to revision {canary}; to leave that: {}",
                abort(key, canary)
            )
        }
        Refusal::GoingBack => format!("revision {canary} is on its way to weight 0 already"),
        Refusal::RolledBack => format!(
            "revision {canary} was rolled back, and revision {stable} serves everyone; to try it again: {}",
            retry(key, &state.target.revision)
        ),
        Refusal::NotFailed => {
            let failed = state.failure.as_ref();
            failed.filter(|_| state.phase == Phase::Failed).map_or_else(
                || format!("revision {} has not failed", request.revision),
                |failure| format!("what failed is revision {}", failure.template.revision),
            )
        }
        Refusal::Unsupported => unsupported(request, key),
    }
}

fn unsupported(request: &Request, key: &Key) -> String {
    if request.verb == Verb::Restart {
        return "restarting without a new revision is not supported yet; kubectl rollout restart releases the same version with new pods, step by step".to_owned();
    }
    format!(
        "going back to an older revision is not supported yet; apply its manifest, and once it is being released skip its judgement: {}",
        promote_now(key, &request.revision)
    )
}
