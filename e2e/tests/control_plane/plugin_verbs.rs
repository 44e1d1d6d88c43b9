//! `kubectl aviary abort` and its like against a real API server and operator.

use anyhow::ensure;
use aviary_e2e::control_plane::{Plan, Shop};
use serde_json::json;

use super::hall::Scene;

pub(crate) async fn the_plugin_refuses_what_makes_no_sense_and_names_the_right_that_is_missing(
    scene: &Scene<'_>,
) -> anyhow::Result<()> {
    let shop = scene.shop_with(&Plan::default().soaking_at(50)).await?;
    for verb in ["abort", "pause", "resume", "promote", "retry"] {
        let ended = shop.plugin(&[verb, "web"]).await?;
        ensure!(ended.code == Some(1), "{verb} at rest: {ended}");
    }
    let ended = shop.plugin(&["abort", "web"]).await?;
    ensure!(
        ended.stderr.contains("nothing is being released"),
        "{ended}"
    );

    shop.soak("v2").await?;
    let ended = shop.plugin(&["promote", "web"]).await?;
    ensure!(ended.code == Some(1), "{ended}");
    ensure!(ended.stderr.contains("waits for nobody"), "{ended}");
    let ended = shop.plugin(&["abort", "web", "--revision=another"]).await?;
    ensure!(ended.code == Some(1), "{ended}");

    // Jane may look, and nothing else.
    let look = [
        "create",
        "rolebinding",
        "jane",
        "--clusterrole=aviary-view",
        "--user=jane",
    ];
    shop.kubectl(&look).await?;
    let ended = shop.plugin(&["status", "web", "--as=jane"]).await?;
    ensure!(ended.code == Some(0), "{ended}");
    let ended = shop.plugin(&["abort", "web", "--as=jane"]).await?;
    ensure!(ended.code == Some(2), "{ended}");
    ensure!(
        ended.stderr.contains("the ClusterRole aviary-release"),
        "{ended}"
    );
    ensure!(shop.seen().phase() == "Soaking", "{}", shop.seen());
    Ok(())
}

/// Asks, is heeded, and is told so.
async fn heeded(shop: &Shop<'_>, args: &[&str], event: &str) -> anyhow::Result<()> {
    let ended = shop.plugin(args).await?;
    ensure!(ended.code == Some(0), "{args:?}: {ended}");
    ensure!(ended.stdout.starts_with(event), "{args:?}: {ended}");
    Ok(())
}

pub(crate) async fn the_plugin_holds_aborts_and_tries_a_release_again(
    scene: &Scene<'_>,
) -> anyhow::Result<()> {
    let shop = scene.shop_with(&Plan::default().soaking_at(50)).await?;
    shop.soak("v2").await?;
    heeded(&shop, &["pause", "web"], "PausedByPerson: ").await?;
    let ended = shop.plugin(&["status", "web", "--wait"]).await?;
    ensure!(ended.code == Some(4), "somebody holds it: {ended}");
    let ended = shop.plugin(&["pause", "web"]).await?;
    ensure!(ended.code == Some(1), "already: {ended}");
    heeded(&shop, &["resume", "web"], "Resumed: ").await?;

    heeded(&shop, &["abort", "web"], "RolledBack: ").await?;
    let ended = shop.plugin(&["status", "web", "--wait"]).await?;
    ensure!(ended.code == Some(1), "{ended}");
    ensure!(ended.stdout.contains("Aborted"), "{ended}");

    heeded(&shop, &["retry", "web"], "Retried: ").await?;
    shop.until("it soaks again", |seen| {
        (seen.phase() == "Soaking").then_some(())
    })
    .await?;
    let why = shop.plugin(&["why", "web"]).await?;
    ensure!(why.stdout.contains("WeightRaised"), "{why}");
    Ok(())
}

pub(crate) async fn the_plugin_promotes_what_waits_and_with_now_whatever_is_left(
    scene: &Scene<'_>,
) -> anyhow::Result<()> {
    let steps = json!([{"weight": 50, "soak": "1s", "pause": {}}, {"weight": 100, "soak": "1s"}]);
    let shop = scene
        .shop_with(&Plan::default().with("/steps", steps))
        .await?;
    shop.change_to("v2").await?;
    let wait = ["status", "web", "--wait", "--timeout=120s"];
    let ended = shop.plugin(&wait).await?;
    ensure!(ended.code == Some(4), "its step pauses: {ended}");
    heeded(&shop, &["promote", "web"], "LetOn: ").await?;
    let ended = shop.plugin(&wait).await?;
    ensure!(ended.code == Some(0), "{ended}");

    shop.plan(&Plan::default().soaking_at(10)).await?;
    shop.soak("v3").await?;
    heeded(&shop, &["promote", "web", "--now"], "JudgementSkipped: ").await?;
    let ended = shop.plugin(&wait).await?;
    ensure!(ended.code == Some(0), "{ended}");
    ensure!(shop.seen().version() == "v3", "{}", shop.seen());
    Ok(())
}
