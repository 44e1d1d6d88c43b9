//! The operator is upgraded, and loses the replica that decides, while a release is under way and requests flow.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, ensure};
use aviary_crds::status::Phase;
use aviary_e2e::harness::{Faults, Shop, Waited, Workload, eventually, weights};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Pod;
use kube::api::ListParams;
use kube::{Api, ResourceExt};

use super::theatre::Scene;

const NAMESPACE: &str = "aviary-system";
const PATIENCE: Duration = Duration::from_secs(120);

/// Every pod of the shop, and how often its containers have started.
async fn starts(shop: &Shop) -> anyhow::Result<BTreeMap<String, i32>> {
    let pods = shop.pods("").await?;
    let starts = pods.iter().map(|pod| {
        let status = pod.status.as_ref();
        let all = status.and_then(|it| it.container_statuses.as_ref());
        let first = status.and_then(|it| it.init_container_statuses.as_ref());
        let all = all.into_iter().flatten().chain(first.into_iter().flatten());
        let restarts = all.map(|it| it.restart_count).sum();
        (pod.uid().unwrap_or_default(), restarts)
    });
    Ok(starts.collect())
}

/// The pod that decides.
async fn holder(scene: &Scene<'_>) -> anyhow::Result<String> {
    let leases: Api<Lease> = Api::namespaced(scene.stage.client.clone(), NAMESPACE);
    let lease = leases.get("aviary-operator").await?;
    let holder = lease.spec.and_then(|spec| spec.holder_identity);
    holder.context("nobody holds the Lease")
}

/// Waits until the one that decides is another one, and stays: it is none of those that end.
async fn another_decides(scene: &Scene<'_>, before: &str) -> anyhow::Result<String> {
    let pods: Api<Pod> = Api::namespaced(scene.stage.client.clone(), NAMESPACE);
    let ours = ListParams::default().labels("app.kubernetes.io/name=aviary-operator");
    let decides = eventually("another replica decides", PATIENCE, || async {
        let (holder, pods) = match (holder(scene).await, pods.list(&ours).await) {
            (Ok(holder), Ok(pods)) => (holder, pods.items),
            (Err(error), _) => return Waited::not_yet(format!("{error:#}")),
            (_, Err(error)) => return Waited::not_yet(error),
        };
        let ends = |pod: &Pod| pod.metadata.deletion_timestamp.is_some();
        let is_there = pods.iter().any(|pod| pod.name_any() == holder);
        if holder != before && is_there && !pods.iter().any(ends) {
            Waited::There(holder)
        } else {
            Waited::not_yet(holder)
        }
    });
    Ok(decides.await?)
}

pub(crate) async fn an_upgrade_and_a_lost_replica_cost_no_request_and_change_no_weight(
    scene: &Scene<'_>,
) -> anyhow::Result<()> {
    let workload = Workload::of_a_story().steps(&[(50, "1h"), (100, "6s")]);
    let shop = scene.shop(&workload).await?;
    let mark = shop.record.mark();
    shop.release("v2", Faults::None).await?;
    shop.until_soaking(mark, 50).await?;
    let (mark, before) = (shop.record.mark(), starts(&shop).await?);

    // Another version, as far as Kubernetes can tell: every replica is replaced, one after the other.
    let (kubectl, namespace) = (&scene.stage.kubectl, format!("--namespace={NAMESPACE}"));
    let old = holder(scene).await?;
    let upgrade = ["set", "env", "deployment/aviary-operator", &namespace];
    kubectl
        .ok(&[&upgrade[..], &[&format!("UPGRADED={}", fastrand::u32(..))]].concat())
        .await?;
    let done = [
        "rollout",
        "status",
        "deployment/aviary-operator",
        &namespace,
    ];
    kubectl
        .ok(&[&done[..], &["--timeout=180s"]].concat())
        .await?;
    let holder = another_decides(scene, &old).await?;

    // And without a word.
    let kill = [
        "delete",
        "pod",
        &holder,
        &namespace,
        "--grace-period=0",
        "--force",
    ];
    kubectl.ok(&kill).await?;
    another_decides(scene, &holder).await?;
    let stats = shop.until_sent_more(500).await?;
    kubectl
        .ok(&[&done[..], &["--timeout=180s"]].concat())
        .await?;

    ensure!(
        stats.failed.total() == 0,
        "requests failed: {:?}",
        stats.notes
    );
    let moments = shop.record.since(mark);
    let others = weights(&moments).into_iter().find(|weight| *weight != 50);
    ensure!(others.is_none(), "the weight was {others:?}");
    let left = moments
        .iter()
        .find(|it| it.status.phase != Some(Phase::Soaking));
    ensure!(left.is_none(), "the soak ended: {left:?}");
    ensure!(starts(&shop).await? == before, "pods were restarted");
    Ok(())
}
