//! What keeps a rollout from doing what it is asked, and how that is said; and what other objects make impossible.

use aviary_crds::CanaryRollout;
use kube::api::DynamicObject;

use super::views::Views;
use crate::admission::rollout::{Facts, PrometheusPolicy, Severity, Target, validate};
use crate::key::Key;
use crate::reason::Reason;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    pub reason: Reason,
    pub message: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blocking {
    pub problem: Problem,
    /// No release starts and no weight rises.
    pub blocks: bool,
}

impl Blocking {
    pub fn new(reason: Reason, message: String) -> Blocking {
        Blocking {
            problem: Problem { reason, message },
            blocks: true,
        }
    }
}

/// What the other objects make impossible. A running release is not stopped by it: it counts before one starts.
pub(super) fn of_objects(
    views: &Views,
    rollout: &CanaryRollout,
    deployment: Option<&std::sync::Arc<DynamicObject>>,
    policy: &PrometheusPolicy,
) -> Option<Blocking> {
    let deployment = deployment?;
    let key = Key::of(rollout);
    let rivals = views.rivals(&key.beside(&rollout.spec.target_ref.name));
    let mounted = Target::from(&**deployment).claims;
    let service = views.service(&key.beside(&rollout.spec.service.name));
    let facts = Facts::from_objects(
        Some(deployment),
        service.as_deref(),
        rivals.iter().map(|rival| &**rival),
        views.claims(&key.namespace, &mounted),
        policy,
    );
    let worst = validate(rollout, &facts)
        .into_iter()
        .filter(|problem| problem.severity > Severity::Note)
        .max_by_key(|problem| problem.severity)?;
    let reason = match worst.severity {
        Severity::Refuse => Reason::Refused,
        Severity::Wait | Severity::Note => Reason::NotFound,
    };
    Some(Blocking::new(reason, worst.to_string()))
}
