//! `kubectl aviary check`, `why` and `proxy` against a real API server and operator.

use anyhow::{Context, ensure};
use aviary_e2e::connection::Connection;
use aviary_e2e::control_plane::{Plan, Shop, deployment};
use aviary_e2e::harness::{Waited, eventually};
use aviary_xds::resources::INBOUND;
use aviary_xds::{Kind, Request, grpc};
use futures::StreamExt;
use k8s_openapi::api::core::v1::Pod;
use kube::api::ListParams;
use kube::{Api, ResourceExt};
use serde_json::{Value, json};
use std::time::Duration;

use super::hall::Scene;

/// What was found about what has this in its words.
fn about<'a>(findings: &'a Value, what: &str) -> anyhow::Result<&'a Value> {
    let all = findings.as_array().context("findings are a list")?;
    let says = |it: &&Value| it["what"].as_str().is_some_and(|it| it.contains(what));
    let found = all.iter().find(says);
    found.with_context(|| format!("{what} is in none of {findings:#}"))
}

/// `check web -o json`, with an operator's Deployment looked for in the case's own namespace: here it is a process.
async fn check(shop: &Shop<'_>) -> anyhow::Result<(Option<i32>, Value)> {
    let namespace = format!("--operator-namespace={}", shop.namespace);
    let ended = shop
        .plugin(&["check", "web", "-o", "json", &namespace])
        .await?;
    let findings = serde_json::from_str(&ended.stdout).with_context(|| ended.to_string())?;
    Ok((ended.code, findings))
}

pub(crate) async fn the_plugin_checks_what_is_right_and_names_the_mend_of_what_is_not(
    scene: &Scene<'_>,
) -> anyhow::Result<()> {
    let shop = scene.shop().await?;
    let (code, findings) = check(&shop).await?;
    for what in [
        "has native sidecars",
        "the cluster has the type CanaryRollout",
        "the cluster has the type CallerPolicy",
        "the mutating webhooks",
        "the validating webhooks",
        "a pod that asks for a sidecar gets one",
        "that asks for a sidecar has one",
        "Deployment web is there",
        "Service web selects",
        "gets on",
        "compute the same revision",
    ] {
        let finding = about(&findings, what)?;
        ensure!(finding["outcome"] == "Passed", "{finding:#}");
    }
    let decides = about(&findings, "one replica of the operator decides")?;
    ensure!(decides["outcome"] == "Failed", "{decides:#}");
    let operator = about(&findings, "the operator runs")?;
    ensure!(
        operator["outcome"] == "Failed" && code == Some(1),
        "{operator:#}"
    );
    ensure!(
        operator["mend"]
            .as_str()
            .is_some_and(|it| it.contains("kubectl apply -k")),
        "{operator:#}"
    );

    // What stands for it here: a Lease that somebody holds, and pods.
    let now = jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%S%.6fZ");
    let lease = json!({
        "apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "aviary-operator"},
        "spec": {"holderIdentity": "aviary-operator-0", "renewTime": now.to_string()},
    });
    shop.apply(&lease.to_string()).await?;
    let mut operator = deployment("aviary-operator", "v1");
    operator["spec"]["replicas"] = json!(1);
    // It has a sidecar as everything here, and no pod is made without.
    shop.apply(&operator.to_string()).await?;
    shop.until("what stands for the operator is Ready", |seen| {
        let status = &seen.deployment("aviary-operator")?.data["status"];
        (status["readyReplicas"] == 1).then_some(())
    })
    .await?;
    let (code, findings) = check(&shop).await?;
    ensure!(code == Some(0), "nothing fails: {findings:#}");

    // A pod that was made without a sidecar, and a Service that leads elsewhere.
    let refuses = "--labels=aviary.dev/inject=false";
    shop.kubectl(&["run", "bare", "--image=shop.test/app:v1", refuses])
        .await?;
    shop.kubectl(&["label", "pod/bare", "aviary.dev/inject-"])
        .await?;
    let selector = r#"{"spec":{"selector":{"app":"other"}}}"#;
    shop.kubectl(&["patch", "service/web", "-p", selector])
        .await?;
    let (code, findings) = check(&shop).await?;
    ensure!(code == Some(1), "{findings:#}");
    let pods = about(&findings, "that asks for a sidecar has one")?;
    ensure!(
        pods["seen"]
            .as_str()
            .is_some_and(|it| it.ends_with("have none: bare")),
        "{pods:#}"
    );
    let service = about(&findings, "Service web selects")?;
    ensure!(service["outcome"] == "Failed", "{service:#}");

    let ended = shop.plugin(&["check", "web", "--as=nobody"]).await?;
    ensure!(
        ended.code == Some(2),
        "not even its rollout may be read: {ended}"
    );
    Ok(())
}

pub(crate) async fn the_plugin_tells_why_a_release_was_rolled_back(
    scene: &Scene<'_>,
) -> anyhow::Result<()> {
    let shop = scene.shop_with(&Plan::default()).await?;
    let seen = shop.fail("v2").await?;
    let failed = seen
        .status("/failure/revision")
        .as_str()
        .unwrap_or_default();
    let ended = shop.plugin(&["why", "web", "-o", "json"]).await?;
    let why: Value = serde_json::from_str(&ended.stdout).with_context(|| ended.to_string())?;
    let decisions = why["releases"][0]["decisions"].as_array();
    let decisions: Vec<&str> = decisions
        .into_iter()
        .flatten()
        .filter_map(|it| it["decision"].as_str())
        .collect();
    ensure!(
        decisions == ["ReleaseStarted", "WeightRaised", "RolledBack"],
        "{why:#}"
    );
    ensure!(why["failure"]["cause"] == "AnalysisFailed", "{why:#}");
    let ended = shop.plugin(&["why", "web"]).await?;
    for text in [failed, "errors Fail at 50%", "WeightRaised: it has 50%"] {
        ensure!(ended.stdout.contains(text), "{text}: {ended}");
    }
    Ok(())
}

pub(crate) async fn the_plugin_shows_proxies_as_the_operator_knows_them(
    scene: &Scene<'_>,
) -> anyhow::Result<()> {
    let shop = scene.shop().await?;
    let address = format!(
        "--operator-address=127.0.0.1:{}",
        shop.bench.operator.admin()
    );
    let ask = ["proxy", "status", "-o", "json", &address];
    let ended = shop.plugin(&ask).await?;
    ensure!(
        ended.code == Some(0) && ended.stdout.trim() == "[]",
        "nobody: {ended}"
    );

    let pods: Api<Pod> = Api::namespaced(shop.bench.client.clone(), &shop.namespace);
    let pods = pods.list(&ListParams::default()).await?.items;
    let pod = pods.first().context("there are pods")?;
    let connection = Connection::of(&shop.bench.client, shop.bench.operator.xds(), pod).await?;
    let accepts = Request {
        type_url: Kind::Route.type_url().to_owned(),
        resource_names_subscribe: vec![INBOUND.to_owned()],
        ..Request::default()
    };
    let said = futures::stream::iter([accepts]).chain(futures::stream::pending());
    let mut ads = grpc::Client::new(connection.channel());
    let stream = ads
        .delta_aggregated_resources(connection.signed(said)?)
        .await?;
    let shown = eventually("the plugin shows it", Duration::from_secs(180), || async {
        match shop.plugin(&ask).await {
            Ok(ended) if ended.stdout.contains(&pod.name_any()) => Waited::There(Ok(ended)),
            Ok(ended) => Waited::not_yet(ended),
            Err(error) => Waited::There(Err(error)),
        }
    });
    let shown = shown.await??;
    let proxies: Value = serde_json::from_str(&shown.stdout)?;
    ensure!(
        proxies[0]["connected"] == true && proxies[0]["tls"] == true,
        "{shown}"
    );
    let table = shop.plugin(&["proxy", "status", &address]).await?;
    ensure!(table.stdout.contains("calls no rollout"), "{table}");
    drop(stream);
    Ok(())
}

pub(crate) async fn the_plugin_leaves_every_deployment_on_what_serves_and_unpaused(
    scene: &Scene<'_>,
) -> anyhow::Result<()> {
    let shop = scene.shop_with(&Plan::default().soaking_at(50)).await?;
    shop.soak("v2").await?;
    let ended = shop.plugin(&["uninstall"]).await?;
    ensure!(ended.code == Some(0), "{ended}");
    ensure!(
        ended
            .stdout
            .contains("Deployment web gets the template of revision"),
        "{ended}"
    );
    ensure!(
        shop.seen().phase() == "Soaking",
        "nothing was done: {}",
        shop.seen()
    );

    let ended = shop.plugin(&["uninstall", "--yes"]).await?;
    ensure!(ended.code == Some(0), "{ended}");
    let seen = shop
        .until("the rollout and its copy are gone", |seen| {
            (seen.rollout("web").is_none() && seen.copies().is_empty()).then(|| seen.clone())
        })
        .await?;
    ensure!(!seen.is_paused() && seen.version() == "v1", "{seen}");
    ensure!(seen.ready("v1") == 3 && seen.ready("v2") == 0, "{seen}");
    Ok(())
}
