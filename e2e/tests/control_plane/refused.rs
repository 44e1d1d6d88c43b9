//! What the operator wants to do and may not: a condition and an Event that a user sees.

use anyhow::ensure;
use aviary_e2e::control_plane::{Matching, Plan, Shop, deployment, list, service};
use http::{Method, StatusCode};
use serde_json::json;

use super::hall::Scene;

pub(crate) async fn a_copy_that_may_not_be_created_is_said_and_tried_again(
    scene: &Scene<'_>,
) -> anyhow::Result<()> {
    let shop = scene.shop().await?;
    let quota = json!({
        "apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "one-deployment"},
        "spec": {"hard": {"count/deployments.apps": "1"}},
    });
    shop.apply(&quota.to_string()).await?;
    counted(&shop, "one-deployment").await?;
    shop.change_to("v2").await?;
    let seen = shop
        .until(
            "a condition and an Event say why no canary comes up",
            |seen| (seen.says("quota") && seen.told_of("quota")).then(|| seen.clone()),
        )
        .await?;
    ensure!(seen.weight() == 0 && seen.copies().is_empty(), "{seen}");
    ensure!(seen.ready("v1") == 3, "{seen}");
    shop.kubectl(&["delete", "resourcequota/one-deployment"])
        .await?;
    shop.until("v2 is promoted after all", |seen| {
        (seen.is_stable() && seen.ready("v2") == 3 && !seen.says("quota")).then_some(())
    })
    .await?;
    Ok(())
}

pub(crate) async fn a_deployment_of_the_users_with_the_copys_name_is_never_adopted(
    scene: &Scene<'_>,
) -> anyhow::Result<()> {
    let shop = scene.shop().await?;
    // A first release shows the name.
    let failed = shop.fail("v2").await?;
    let revision = failed
        .status("/canary/revision")
        .as_str()
        .map(str::to_owned);
    let name = format!("web-canary-{}", revision.unwrap_or_default());
    shop.change_to("v1").await?;
    shop.until("v1 is asked for again", |seen| {
        seen.is_stable().then_some(())
    })
    .await?;
    shop.apply(&deployment(&name, "v7").to_string()).await?;
    let theirs = shop.get(&format!("deployment/{name}")).await?;
    shop.change_to("v2").await?;
    let seen = shop
        .until(
            "a condition and an Event name the Deployment in the way",
            |seen| (seen.says(&name) && seen.told_of(&name)).then(|| seen.clone()),
        )
        .await?;
    ensure!(seen.weight() == 0, "{seen}");
    let now = shop.get(&format!("deployment/{name}")).await?;
    ensure!(now["metadata"]["uid"] == theirs["metadata"]["uid"]);
    ensure!(now["spec"] == theirs["spec"], "it is the user's: {now}");
    Ok(())
}

pub(crate) async fn a_rollout_whose_name_is_no_label_says_so(
    scene: &Scene<'_>,
) -> anyhow::Result<()> {
    let shop = Shop::empty(scene.bench, &scene.namespace).await?;
    shop.apply(&list(&[deployment("web", "v1"), service()]))
        .await?;
    let name = "w".repeat(70);
    let rollout = json!({
        "apiVersion": "aviary.dev/v1alpha1", "kind": "CanaryRollout", "metadata": {"name": name},
        "spec": {"targetRef": {"kind": "Deployment", "name": "web"}, "service": {"name": "web"}},
    });
    let said = shop
        .try_kubectl(&["apply", "-f", "-"], &rollout.to_string())
        .await?;
    if !said.ok {
        ensure!(said.stderr.contains("63"), "the limit is named: {said}");
        return Ok(());
    }
    shop.until("a condition says what is wrong", |seen| {
        let status = seen.rollout(&name)?.data.get("status")?;
        let conditions = status["conditions"].as_array()?;
        let stalled = conditions
            .iter()
            .any(|condition| condition["type"] == "Stalled" && condition["status"] == "True");
        stalled.then_some(())
    })
    .await?;
    Ok(())
}

pub(crate) async fn the_younger_of_two_rollouts_on_one_deployment_waits_and_says_so(
    scene: &Scene<'_>,
) -> anyhow::Result<()> {
    let shop = scene.shop().await?;
    // Of two that were created in the same second, the first by name counts as the older.
    let manifest = json!({
        "apiVersion": "aviary.dev/v1alpha1", "kind": "CanaryRollout", "metadata": {"name": "younger"},
        "spec": {"targetRef": {"kind": "Deployment", "name": "web"}, "service": {"name": "web"}},
    });
    let said = shop
        .try_kubectl(&["apply", "-f", "-"], &manifest.to_string())
        .await?;
    if !said.ok {
        ensure!(said.stderr.contains("web"), "{said}");
        return Ok(());
    }
    shop.until("it names the older one", |seen| {
        let younger = seen.rollout("younger")?;
        let message = younger.data.pointer("/status/message")?.as_str()?;
        message.contains("web").then_some(())
    })
    .await?;
    shop.plan(&Plan::default()).await?;
    shop.release("v2").await?;
    Ok(())
}

pub(crate) async fn what_cannot_be_released_is_refused_although_lookups_fail(
    scene: &Scene<'_>,
) -> anyhow::Result<()> {
    let shop = scene.shop().await?;
    let path = format!("/namespaces/{}/", shop.namespace);
    let _unanswered = shop.bench.wire.answer(
        Matching::method(Method::GET).path(path),
        StatusCode::INTERNAL_SERVER_ERROR,
    );
    let recreate = r#"{"spec":{"strategy":{"type":"Recreate","rollingUpdate":null}}}"#;
    shop.kubectl(&["patch", "deployment/web", "--patch", recreate])
        .await?;
    shop.change_to("v2").await?;
    let seen = shop
        .until("it is refused, or released", |seen| {
            (seen.says("Recreate") || seen.has_event("ReleaseStarted")).then(|| seen.clone())
        })
        .await?;
    ensure!(!seen.has_event("ReleaseStarted"), "{seen}");
    ensure!(seen.copies().is_empty(), "{seen}");
    Ok(())
}

pub(crate) async fn a_service_that_ties_clients_to_pods_is_refused(
    scene: &Scene<'_>,
) -> anyhow::Result<()> {
    let shop = Shop::with_deployment(scene.bench, &scene.namespace, |_| {}).await?;
    let affinity = |value: &str| format!(r#"{{"spec":{{"sessionAffinity":"{value}"}}}}"#);
    let patch = ["patch", "service/web", "--patch"];
    shop.kubectl(&[&patch[..], &[&affinity("ClientIP")]].concat())
        .await?;
    let plan = Plan::default();
    let said = shop
        .try_kubectl(&["apply", "-f", "-"], &plan.to_string())
        .await?;
    ensure!(!said.ok && said.stderr.contains("ClientIP"), "{said}");
    // And when it comes later.
    shop.kubectl(&[&patch[..], &[&affinity("None")]].concat())
        .await?;
    shop.adopt(&plan).await?;
    shop.kubectl(&[&patch[..], &[&affinity("ClientIP")]].concat())
        .await?;
    shop.change_to("v2").await?;
    let seen = shop
        .until("a condition says so", |seen| {
            seen.says("ClientIP").then(|| seen.clone())
        })
        .await?;
    ensure!(seen.weight() == 0, "{seen}");
    Ok(())
}

pub(crate) async fn strangers_behind_the_service_are_said(scene: &Scene<'_>) -> anyhow::Result<()> {
    let shop = scene.shop().await?;
    let mut stranger = deployment("stranger", "v9");
    for labels in [
        "/spec/selector/matchLabels",
        "/spec/template/metadata/labels",
    ] {
        if let Some(labels) = stranger.pointer_mut(labels) {
            *labels = json!({"app": "web", "part": "stranger"});
        }
    }
    shop.apply(&stranger.to_string()).await?;
    shop.until("a condition says that pods of others serve, too", |seen| {
        seen.says("NotExclusive").then_some(())
    })
    .await?;
    Ok(())
}

/// A quota refuses once its controller has counted.
pub(crate) async fn counted(shop: &Shop<'_>, quota: &str) -> anyhow::Result<()> {
    let quota = format!("resourcequota/{quota}");
    let wait = [
        "wait",
        &quota,
        "--for=jsonpath={.status.used}",
        "--timeout=180s",
    ];
    shop.kubectl(&wait).await?;
    Ok(())
}
