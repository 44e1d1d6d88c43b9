//! Events, conditions and causes: `events.md`.

use aviary_crds::condition;
use aviary_operator::reason::{Reason, Seen};
use aviary_operator::rollout::events::because;
use rollout_core::Cause;

use crate::markdown::{GENERATED, code, table};

/// What a cause is about, where its sentence has something to quote.
const DETAIL: &str = "..";

/// Conditions with reasons of their own, and what they say.
const CONDITIONS: [(&str, &str); 6] = [
    (
        condition::ANALYSIS,
        "The newest judgement of the checks: `True` passed, `False` failed, `Unknown` without evidence.",
    ),
    (
        condition::PROMOTED,
        "`True` when the last release was promoted.",
    ),
    (
        condition::ROLLED_BACK,
        "`True` when the last release was rolled back; the reason is the cause, below.",
    ),
    (
        condition::OUTSIDE_CALLERS,
        "`True` while a release runs and callers without a sidecar come to pods that do not split them.",
    ),
    (
        condition::MESHED,
        "`False` while pods of the namespace should have a sidecar and have none, or an old one.",
    ),
    (
        condition::EXCLUSIVE,
        "`False` while pods of something else are behind the rollout's Services.",
    ),
];

pub(crate) fn page() -> String {
    let events = table(
        &["reason", "type", "when"],
        Reason::ALL.iter().filter_map(|reason| {
            let type_ = reason.seen().iter().find_map(|seen| match seen {
                Seen::Normal => Some("Normal"),
                Seen::Warning => Some("Warning"),
                Seen::OfNamespace(_) | Seen::Condition(_) => None,
            })?;
            Some(row(*reason, Some(type_)))
        }),
    );
    let namespaces = table(
        &["reason", "type", "when"],
        Reason::ALL.iter().filter_map(|reason| {
            let type_ = reason.seen().iter().find_map(|seen| match seen {
                Seen::OfNamespace(tone) => Some(tone.name()),
                Seen::Normal | Seen::Warning | Seen::Condition(_) => None,
            })?;
            Some(row(*reason, Some(type_)))
        }),
    );
    let standing = of_condition(condition::READY);
    let others: String = CONDITIONS
        .iter()
        .map(|(type_, what)| format!("### `{type_}`\n\n{what}\n\n{}\n", of_condition(type_)))
        .collect();
    let causes = table(
        &["cause", "in words"],
        Cause::ALL.map(|cause| vec![code(cause.name()), because(cause, DETAIL)]),
    );
    format!(
        "{GENERATED}
# Events, conditions and causes

What to do about each reason of `Stalled`: [what-status-says.md](../what-status-says.md).

## Events of a CanaryRollout

`kubectl describe canaryrollout NAME`, or `kubectl events --for canaryrollout/NAME`.

{events}
## Events of a namespace

About the label `aviary.dev/mtls` ([authorization.md](../authorization.md)).

{namespaces}
## Conditions of a CanaryRollout

### `Ready`, `Reconciling`, `Stalled`

By the rules of kstatus: `Ready` when the template that the Deployment asks for serves everyone, `Reconciling` while a release runs, `Stalled` when nothing moves until somebody acts. All
three have one reason: the phase ([canaryrollout.md](canaryrollout.md#status)), or one of these.

{standing}
{others}## Causes

Why a weight went to 0: the reason of `RolledBack`, and `status.failure.cause`.

{causes}"
    )
}

fn row(reason: Reason, type_: Option<&str>) -> Vec<String> {
    let mut cells = vec![code(reason.name())];
    cells.extend(type_.map(str::to_owned));
    cells.push(reason.meaning().to_owned());
    cells
}

fn of_condition(type_: &'static str) -> String {
    let of = |reason: &&Reason| reason.seen().contains(&Seen::Condition(type_));
    let rows: Vec<Vec<String>> = Reason::ALL
        .iter()
        .filter(of)
        .map(|reason| row(*reason, None))
        .collect();
    table(&["reason", "what"], rows)
}
