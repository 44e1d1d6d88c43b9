//! `kubectl aviary uninstall`: takes releases away from their Deployments, which go on with what serves, paused no more.
//!
//! It says what it would do, and with `--yes` does it. First every Deployment is brought back to what serves, while the operator
//! is still there to do that without a jump of the traffic; then the CanaryRollouts go; and, of the whole cluster, the webhooks,
//! so that no pod and no Deployment waits for an operator that is away. The rest goes as it came: `kubectl delete -k`.

mod plan;

use std::time::Duration;

use aviary_crds::status::Phase;
use aviary_crds::{CanaryRollout, ROLLOUT_LABEL};
use k8s_openapi::api::admissionregistration::v1::{
    MutatingWebhookConfiguration, ValidatingWebhookConfiguration,
};
use kube::api::{
    ApiResource, DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams,
};
use kube::core::gvk::GroupVersionKind;
use kube::{Api, ResourceExt};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::args::UninstallArgs;
use crate::cluster::{Cluster, ClusterError};
use crate::exit::Exit;
use crate::out;
use plan::{Action, action};

const WEBHOOKS: &str = "aviary-operator";
const PAUSE: Duration = Duration::from_millis(500);

/// One rollout, and what it needs.
struct Leaving {
    rollout: CanaryRollout,
    action: Action,
}

impl Leaving {
    fn namespace(&self) -> String {
        self.rollout.namespace().unwrap_or_default()
    }

    fn words(&self) -> String {
        let target = &self.rollout.spec.target_ref.name;
        let what = match &self.action {
            Action::Nothing => "goes on as it is".to_owned(),
            Action::Resume => "is resumed, on the template that serves".to_owned(),
            Action::PutBack { revision, .. } => {
                format!(
                    "gets the template of revision {revision} back, which serves, and is resumed"
                )
            }
            Action::Blocked { why } => {
                return format!(
                    "{}: Deployment {target} cannot be left now: {why}",
                    self.namespace()
                );
            }
        };
        let (namespace, name) = (self.namespace(), self.rollout.name_any());
        format!("{namespace}: Deployment {target} {what}; CanaryRollout {name} is deleted")
    }
}

/// Says what it would do; with `--yes`, does it.
pub async fn uninstall(cluster: &Cluster, args: &UninstallArgs) -> Result<Exit, ClusterError> {
    let leaving = look(cluster, args.all_namespaces).await?;
    for each in &leaving {
        out::line(each.words());
    }
    if leaving.is_empty() {
        out::line("there is no CanaryRollout");
    }
    if args.all_namespaces {
        out::line("the webhooks are deleted: nothing is gated, and new pods get no sidecar");
    }
    let is_blocked = |it: &Leaving| matches!(it.action, Action::Blocked { .. });
    if leaving.iter().any(is_blocked) {
        eprintln!("nothing was done");
        return Ok(Exit::Failed);
    }
    if !args.yes {
        eprintln!(
            "nothing was done: with --yes it is. GitOps may put back what it has: take the CanaryRollouts out of it first"
        );
        return Ok(Exit::Done);
    }
    for each in &leaving {
        let deadline = args.timeout.0.map(|length| Instant::now() + length);
        if !leave(cluster, each, deadline).await? {
            eprintln!(
                "{}: not done in time: see kubectl aviary status",
                each.words()
            );
            return Ok(Exit::Timeout);
        }
        out::line(format!("done: {}", each.words()));
    }
    if args.all_namespaces {
        webhooks(cluster).await?;
        out::line("done: the webhooks are deleted");
        out::line(
            "what is left: kubectl delete -k config/default; and the sidecars, which serve on until their pods are made anew: kubectl label namespace NAMESPACE aviary.dev/inject-; kubectl -n NAMESPACE rollout restart deployment",
        );
    }
    Ok(Exit::Done)
}

async fn look(cluster: &Cluster, everywhere: bool) -> Result<Vec<Leaving>, ClusterError> {
    let mut leaving = Vec::new();
    for rollout in cluster.rollouts(everywhere).await? {
        let namespace = rollout.namespace().unwrap_or_default();
        let ours = ListParams::default().labels(&format!("{ROLLOUT_LABEL}={}", rollout.name_any()));
        let sets = api(cluster, &namespace, "ReplicaSet");
        let kept = api(cluster, &namespace, "ControllerRevision");
        let deployments = api(cluster, &namespace, "Deployment");
        let (deployment, all) = (
            deployments.get_opt(&rollout.spec.target_ref.name),
            ListParams::default(),
        );
        let (deployment, sets, kept) = tokio::join!(deployment, sets.list(&all), kept.list(&ours));
        let what = "read Deployments, ReplicaSets and ControllerRevisions";
        let failed = |error| ClusterError::of(what, error);
        let (sets, kept) = (sets.map_err(failed)?, kept.map_err(failed)?);
        let deployment = deployment.map_err(failed)?;
        leaving.push(Leaving {
            action: action(&rollout, deployment.as_ref(), &sets.items, &kept.items),
            rollout,
        });
    }
    Ok(leaving)
}

/// False: not in time.
async fn leave(
    cluster: &Cluster,
    leaving: &Leaving,
    deadline: Option<Instant>,
) -> Result<bool, ClusterError> {
    let namespace = leaving.namespace();
    let name = &leaving.rollout.spec.target_ref.name;
    let deployments = api(cluster, &namespace, "Deployment");
    let failed = |error| ClusterError::of("change Deployments", error);
    match &leaving.action {
        Action::Nothing | Action::Blocked { .. } => {}
        Action::Resume => {
            let patch = Patch::Merge(json!({"spec": {"paused": false}}));
            let resumed = deployments
                .patch(name, &PatchParams::default(), &patch)
                .await;
            resumed.map_err(failed)?;
        }
        Action::PutBack { template, .. } => {
            let mut deployment = deployments.get(name).await.map_err(failed)?;
            deployment.data["spec"]["template"] = template.clone();
            // Refused if it has changed since.
            let put = deployments
                .replace(name, &PostParams::default(), &deployment)
                .await;
            put.map_err(failed)?;
        }
    }
    let rollouts: Api<CanaryRollout> = Api::namespaced(cluster.client().clone(), &namespace);
    let rollout = leaving.rollout.name_any();
    let free = until(deadline, async || {
        let deployment = deployments.get_opt(name).await.map_err(failed)?;
        let now = rollouts.get_opt(&rollout).await;
        let now = now.map_err(|error| ClusterError::of("read CanaryRollouts", error))?;
        let paused =
            |it: &DynamicObject| it.data.pointer("/spec/paused") == Some(&Value::Bool(true));
        let phase = now.as_ref().and_then(|it| it.status.as_ref()?.phase);
        let at_rest = matches!(phase, None | Some(Phase::Stable | Phase::Unsettled));
        Ok(at_rest && !deployment.as_ref().is_some_and(paused))
    });
    if !free.await? {
        return Ok(false);
    }
    let deleted = rollouts.delete(&rollout, &DeleteParams::default()).await;
    deleted.map_err(|error| ClusterError::of("delete CanaryRollouts", error))?;
    let gone = until(deadline, async || {
        let there = rollouts.get_opt(&rollout).await;
        let there = there.map_err(|error| ClusterError::of("read CanaryRollouts", error))?;
        Ok(there.is_none())
    });
    gone.await
}

/// Asks until it is so; false: not in time.
async fn until(
    deadline: Option<Instant>,
    is_so: impl AsyncFn() -> Result<bool, ClusterError>,
) -> Result<bool, ClusterError> {
    while !is_so().await? {
        if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
            return Ok(false);
        }
        sleep(PAUSE).await;
    }
    Ok(true)
}

async fn webhooks(cluster: &Cluster) -> Result<(), ClusterError> {
    let mutating: Api<MutatingWebhookConfiguration> = Api::all(cluster.client().clone());
    let validating: Api<ValidatingWebhookConfiguration> = Api::all(cluster.client().clone());
    let params = DeleteParams::default();
    let (mutating, validating) = tokio::join!(
        mutating.delete(WEBHOOKS, &params),
        validating.delete(WEBHOOKS, &params)
    );
    for deleted in [mutating.map(|_| ()), validating.map(|_| ())] {
        match deleted {
            Ok(()) => {}
            Err(kube::Error::Api(status)) if status.code == 404 => {}
            Err(error) => return Err(ClusterError::of("delete the webhooks", error)),
        }
    }
    Ok(())
}

fn api(cluster: &Cluster, namespace: &str, kind: &str) -> Api<DynamicObject> {
    let kind = ApiResource::from_gvk(&GroupVersionKind::gvk("apps", "v1", kind));
    Api::namespaced_with(cluster.client().clone(), namespace, &kind)
}
