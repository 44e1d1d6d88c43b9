//! Aviary for one namespace (`config/namespaced`): the operator has rights there and hardly any elsewhere, and releases all the same.

use std::time::Duration;

use anyhow::{Context, ensure};
use aviary_e2e::control_plane::{Bench, Plan, Shop, deployment, list, service};
use aviary_e2e::harness::{Waited, eventually};
use serde_json::Value;
use tokio::task::block_in_place;

use super::hall::Scene;

const OVERLAY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../config/namespaced");
const OPERATOR: &str = "--as=system:serviceaccount:aviary-system:aviary-operator";
const PATIENCE: Duration = Duration::from_secs(180);
/// What of it is of the whole cluster, or is for the operator alone.
const RIGHTS: [&str; 5] = [
    "Role",
    "RoleBinding",
    "ClusterRole",
    "ClusterRoleBinding",
    "ValidatingAdmissionPolicy",
];

/// The rights and the policies of the overlay, with this namespace in it.
async fn rights(bench: &Bench, namespace: &str) -> anyhow::Result<String> {
    let manifests = bench.kubectl.ok(&["kustomize", OVERLAY]).await?.stdout;
    let all: Vec<Value> = serde_saphyr::from_multiple(&manifests)?;
    let ours = all.into_iter().filter(|each| {
        let name = each["metadata"]["name"].as_str().unwrap_or_default();
        let kind = each["kind"].as_str().unwrap_or_default();
        let is_new = name.starts_with("aviary-operator-") || name == "aviary-one-namespace";
        is_new && RIGHTS.iter().any(|of| kind.starts_with(of))
    });
    let mut ours: Vec<Value> = ours.collect();
    ours.iter_mut().for_each(|each| rename(each, namespace));
    Ok(list(&ours))
}

/// Writes another name wherever the overlay has its own.
fn rename(value: &mut Value, namespace: &str) {
    match value {
        Value::String(text) if text == "shop" => *text = namespace.to_owned(),
        Value::Array(items) => items.iter_mut().for_each(|item| rename(item, namespace)),
        Value::Object(fields) => fields.values_mut().for_each(|it| rename(it, namespace)),
        Value::String(_) | Value::Number(_) | Value::Bool(_) | Value::Null => {}
    }
}

async fn may(bench: &Bench, verb: &str, what: &str, namespace: &str) -> anyhow::Result<bool> {
    let can = [
        "auth",
        "can-i",
        verb,
        what,
        "--namespace",
        namespace,
        OPERATOR,
    ];
    let said = bench.kubectl.run(&can).await?;
    Ok(said.stdout.lines().any(|line| line == "yes"))
}

async fn lives_in_one(scene: &Scene<'_>, other: &str) -> anyhow::Result<()> {
    let bench = scene.bench;
    let shop = Shop::empty(bench, &scene.namespace).await?;
    let rights = rights(bench, &scene.namespace).await?;
    bench
        .kubectl
        .ok_with(&["apply", "-f", "-"], &rights)
        .await?;
    let everywhere = [
        "delete",
        "clusterrolebinding/aviary-operator",
        "clusterrole/aviary-operator",
    ];
    bench.kubectl.ok(&everywhere).await?;
    let taken = eventually("its rights are gone elsewhere", PATIENCE, || async {
        let there = may(bench, "patch", "deployments", &scene.namespace).await;
        let elsewhere = may(bench, "list", "pods", other).await;
        match (there, elsewhere) {
            (Ok(true), Ok(false)) => Waited::There(Ok(())),
            (Ok(there), Ok(elsewhere)) => Waited::not_yet(format!("{there} {elsewhere}")),
            (Err(error), _) | (_, Err(error)) => Waited::There(Err(error)),
        }
    });
    taken.await??;

    let operator = bench
        .operator
        .with_other("AVIARY_WATCH_NAMESPACE", &scene.namespace);
    block_in_place(|| operator.start())?;
    let released = async {
        let objects = [deployment("web", "v1"), service()];
        shop.apply(&list(&objects)).await?;
        shop.until("v1 serves", |seen| (seen.ready("v1") == 3).then_some(()))
            .await?;
        shop.adopt(&Plan::default()).await?;
        shop.release("v2").await?;
        shop.fail("v3").await?;
        // What nobody would look at is refused.
        let said = bench
            .kubectl
            .try_apply(other, &Plan::default().to_string())
            .await?;
        ensure!(!said.ok, "it is accepted: {said}");
        ensure!(
            said.stderr.contains("nobody would look at anything in"),
            "{said}"
        );
        let log = operator.end_of_log(400);
        let log = log
            .rsplit("--- started by the test")
            .next()
            .unwrap_or_default();
        ensure!(
            !log.contains("orbidden"),
            "it asks for what it may not: {log}"
        );
        anyhow::Ok(())
    };
    let released = released.await.context(operator.end_of_log(20));
    block_in_place(|| operator.stop());
    released
}

pub(crate) async fn for_one_namespace_the_operator_releases_with_rights_in_it_alone(
    scene: &Scene<'_>,
) -> anyhow::Result<()> {
    let (bench, other) = (scene.bench, format!("{}-other", scene.namespace));
    bench.kubectl.ok(&["create", "namespace", &other]).await?;
    block_in_place(|| bench.operator.stop());
    let lived = lives_in_one(scene, &other).await;
    let policy = [
        "delete",
        "validatingadmissionpolicybinding/aviary-one-namespace",
        "validatingadmissionpolicy/aviary-one-namespace",
        "clusterrolebinding/aviary-operator-cluster",
        "clusterrole/aviary-operator-cluster",
        "--ignore-not-found",
    ];
    bench.kubectl.ok(&policy).await?;
    bench
        .kubectl
        .ok(&["delete", "namespace", &other, "--wait=false"])
        .await?;
    bench.install_again().await?;
    lived
}
