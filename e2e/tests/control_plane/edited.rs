//! A CanaryRollout that is edited while a release runs.

use std::time::Duration;

use anyhow::ensure;
use aviary_e2e::control_plane::Plan;
use serde_json::json;

use super::hall::Scene;

pub(crate) async fn edited_steps_do_not_raise_the_weight_of_a_running_release(
    scene: &Scene<'_>,
) -> anyhow::Result<()> {
    let shop = scene.shop_with(&Plan::default().soaking_at(10)).await?;
    shop.soak("v2").await?;
    let everything = json!([{"weight": 100, "soak": "1s"}]);
    shop.plan(&Plan::default().with("/steps", everything))
        .await?;
    shop.until("an Event says which plan is in force", |seen| {
        (seen.told_of("plan") || seen.weight() > 10).then_some(())
    })
    .await?;
    let raised = shop
        .never("the weight rises", Duration::from_secs(3), |seen| {
            (seen.weight() > 10).then_some(())
        })
        .await;
    ensure!(raised.is_ok(), "nobody earned that: {}", shop.seen());
    Ok(())
}

pub(crate) async fn edited_steps_lower_the_weight_at_once(scene: &Scene<'_>) -> anyhow::Result<()> {
    let shop = scene.shop_with(&Plan::default().soaking_at(50)).await?;
    shop.soak("v2").await?;
    shop.plan(&Plan::default().soaking_at(10)).await?;
    shop.until("the weight is lower, and it soaks there", |seen| {
        (seen.weight() == 10 && seen.phase() == "Soaking").then_some(())
    })
    .await?;
    Ok(())
}

pub(crate) async fn a_suspended_release_holds_and_still_rolls_back(
    scene: &Scene<'_>,
) -> anyhow::Result<()> {
    let plan = Plan::default().soaking_at(50);
    let shop = scene.shop_with(&plan).await?;
    shop.soak("v2").await?;
    shop.plan(&plan.with("/suspend", json!(true))).await?;
    shop.until("it says that it is suspended", |seen| {
        seen.says("suspended").then_some(())
    })
    .await?;
    shop.bench.evidence.set(&shop.namespace, 9);
    shop.until("it is rolled back all the same", |seen| {
        (seen.phase() == "Failed" && seen.weight() == 0).then_some(())
    })
    .await?;
    Ok(())
}
