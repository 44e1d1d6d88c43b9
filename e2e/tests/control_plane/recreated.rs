//! Another Deployment than the one that was adopted: what serves is stable, and nothing of it is a canary.

use anyhow::ensure;
use aviary_e2e::control_plane::{Plan, Seen, Shop, deployment};
use serde_json::json;

use super::hall::Scene;

pub(crate) async fn a_deployment_that_is_recreated_between_releases_is_adopted_afresh(
    scene: &Scene<'_>,
) -> anyhow::Result<()> {
    let shop = scene.shop().await?;
    with_a_past(&shop).await?;
    let before = shop.seen().stable().to_owned();
    recreate(&shop, "v2").await?;
    let seen = adopted(&shop, &before, "v2").await?;
    ensure!(
        !seen.has_event("ReleaseStarted"),
        "nobody changed a template, so nothing is released: {seen}"
    );
    Ok(())
}

pub(crate) async fn a_deployment_that_is_recreated_during_a_release_is_adopted_afresh(
    scene: &Scene<'_>,
) -> anyhow::Result<()> {
    let shop = scene.shop_with(&Plan::default().soaking_at(50)).await?;
    let before = shop.seen().stable().to_owned();
    shop.soak("v2").await?;
    recreate(&shop, "v3").await?;
    let seen = adopted(&shop, &before, "v3").await?;
    ensure!(seen.condition("Promoted") != "True", "v2 was not: {seen}");
    Ok(())
}

pub(crate) async fn a_deployment_that_comes_after_its_rollout_is_adopted(
    scene: &Scene<'_>,
) -> anyhow::Result<()> {
    let shop = scene.shop().await?;
    with_a_past(&shop).await?;
    shop.kubectl(&["delete", "deployment", "web"]).await?;
    let seen = shop
        .until("the Deployment is missed, and named", |seen| {
            let missed = seen.reason("Stalled") == "TargetNotFound";
            (missed && seen.says("Deployment web")).then(|| seen.clone())
        })
        .await?;
    let before = seen.stable().to_owned();
    // Nobody asks for it again and again: that it is there is seen.
    shop.apply(&deployment("web", "v2").to_string()).await?;
    adopted(&shop, &before, "v2").await?;
    Ok(())
}

pub(crate) async fn a_rollout_that_is_pointed_at_another_deployment_adopts_that_one(
    scene: &Scene<'_>,
) -> anyhow::Result<()> {
    let shop = scene.shop().await?;
    with_a_past(&shop).await?;
    let before = shop.seen().stable().to_owned();
    let mut other = deployment("other", "v9");
    // The Service's pods, too.
    for labels in [
        "/spec/selector/matchLabels",
        "/spec/template/metadata/labels",
    ] {
        if let Some(labels) = other.pointer_mut(labels) {
            *labels = json!({"app": "web", "part": "other"});
        }
    }
    shop.apply(&other.to_string()).await?;
    shop.kubectl(&["rollout", "status", "deployment/other", "--timeout=180s"])
        .await?;
    shop.plan(&Plan::default().with("/targetRef/name", json!("other")))
        .await?;
    let seen = shop
        .until("the other Deployment's revision is stable", |seen| {
            // The first one's pods are behind the Service too, which is said, and is no reason to wait.
            let there = seen.phase() == "Stable" && seen.stable() != before;
            there.then(|| seen.clone())
        })
        .await?;
    ensure!(!seen.has_event("ReleaseStarted"), "{seen}");
    ensure!(seen.copies().is_empty(), "{seen}");
    let other = shop.get("deployment/other").await?;
    ensure!(other["spec"]["paused"] != true, "it serves: {other}");
    ensure!(other["metadata"]["labels"]["aviary.dev/rollout"] == "web");
    Ok(())
}

/// Its generation is not that of a new Deployment.
async fn with_a_past(shop: &Shop<'_>) -> anyhow::Result<()> {
    for replicas in ["--replicas=4", "--replicas=3"] {
        shop.kubectl(&["scale", "deployment/web", replicas]).await?;
    }
    shop.until("all of it is seen", |seen| {
        let web = seen.deployment("web")?;
        (web.metadata.generation == Some(3) && seen.ready("v1") == 3).then_some(())
    })
    .await?;
    Ok(())
}

/// The selector cannot be changed in place, so people and tools do this.
async fn recreate(shop: &Shop<'_>, version: &str) -> anyhow::Result<()> {
    let manifest = deployment("web", version).to_string();
    let said = shop
        .try_kubectl(&["replace", "--force", "-f", "-"], &manifest)
        .await?;
    ensure!(said.ok, "{said}");
    Ok(())
}

async fn adopted(shop: &Shop<'_>, before: &str, version: &str) -> anyhow::Result<Seen> {
    let what = format!("{version} is adopted as the stable version");
    let seen = shop
        .until(&what, |seen| {
            let stable = seen.is_stable() && seen.stable() != before && seen.weight() == 0;
            let serves = seen.ready(version) == 3 && !seen.is_paused() && seen.copies().is_empty();
            (stable && serves).then(|| seen.clone())
        })
        .await?;
    let weight = seen.highest_weight_of(seen.stable());
    ensure!(
        weight == 0,
        "{version} had weight {weight} as a canary: {seen}"
    );
    Ok(seen)
}
