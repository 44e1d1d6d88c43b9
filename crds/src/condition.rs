//! Condition types and reasons: a closed set, so that alerts and health checks can rely on them.
//!
//! `Ready`, `Reconciling` and `Stalled` follow kstatus (Flux and `kubectl wait` understand them).

/// True: the template that the Deployment asks for serves everyone. False while a release runs and after it failed.
pub const READY: &str = "Ready";
/// True while a release runs.
pub const RECONCILING: &str = "Reconciling";
/// True when nothing moves until somebody acts; the message says what to do.
pub const STALLED: &str = "Stalled";
/// The newest judgement of the checks: True passed, False failed, Unknown without evidence.
pub const ANALYSIS: &str = "Analysis";
/// True when the last release was promoted.
pub const PROMOTED: &str = "Promoted";
/// True when the last release was rolled back.
pub const ROLLED_BACK: &str = "RolledBack";
/// True while a release runs and requests of callers outside the mesh come to pods that do not split them: no weight holds those, and no check sees
/// them. The message says about how many that are. HTTP requests are split by the pods themselves otherwise, and are evidence like all others; opaque
/// TCP connections are neither split nor counted. Unknown without an answer of Prometheus.
pub const OUTSIDE_CALLERS: &str = "OutsideCallers";
/// False while pods of the rollout's namespace should have a sidecar and have none, or one that lacks what this operator counts on: no
/// weight holds what they call, and no check sees it. The message has the command that mends it.
pub const MESHED: &str = "Meshed";
/// On the Deployment's status: how the release of its newest template stands. True: it serves everyone. Unknown: it is on its way. False: it does
/// not, and nothing moves until somebody acts; the message begins with the generation that this is about.
pub const RELEASED: &str = "aviary.dev/Released";
/// False while pods of something else are behind the rollout's Services: they serve in the stable arm.
pub const EXCLUSIVE: &str = "Exclusive";
