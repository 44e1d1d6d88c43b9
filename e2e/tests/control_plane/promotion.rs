//! A promotion that is stuck can be left.

use anyhow::ensure;
use aviary_e2e::control_plane::{Plan, Seen, Shop};
use serde_json::json;

use super::hall::Scene;
use super::refused::counted;

pub(crate) async fn a_stuck_promotion_is_left_by_going_back_to_the_stable_template(
    scene: &Scene<'_>,
) -> anyhow::Result<()> {
    let shop = scene.shop().await?;
    let before = shop.seen().stable().to_owned();
    get_stuck(&shop).await?;
    shop.change_to("v1").await?;
    let seen = shop
        .until("v1 serves everyone again", |seen| {
            let over = seen.is_stable() && seen.copies().is_empty() && seen.ready("v1") == 3;
            (over && !seen.is_paused()).then(|| seen.clone())
        })
        .await?;
    ensure!(seen.stable() == before, "{seen}");
    ensure!(seen.condition("Promoted") != "True", "{seen}");
    Ok(())
}

pub(crate) async fn a_stuck_promotion_is_left_by_a_version_that_is_mended(
    scene: &Scene<'_>,
) -> anyhow::Result<()> {
    let shop = scene.shop().await?;
    get_stuck(&shop).await?;
    shop.change_to("v3").await?;
    shop.kubectl(&["delete", "resourcequota/tight"]).await?;
    shop.until("v3 is released and promoted", |seen| {
        let over = seen.is_stable() && seen.copies().is_empty();
        (over && seen.ready("v3") == 3 && seen.condition("Promoted") == "True").then_some(())
    })
    .await?;
    Ok(())
}

pub(crate) async fn a_stuck_promotion_is_left_by_deleting_the_rollout(
    scene: &Scene<'_>,
) -> anyhow::Result<()> {
    let shop = scene.shop().await?;
    get_stuck(&shop).await?;
    shop.kubectl(&["delete", "canaryrollout/web", "--wait=false"])
        .await?;
    shop.until("the rollout and its copy are gone", |seen| {
        (seen.rollout("web").is_none() && seen.copies().is_empty()).then_some(())
    })
    .await?;
    let seen = shop.seen();
    ensure!(
        seen.ready("v1") + seen.ready("v2") >= 3,
        "somebody serves: {seen}"
    );
    Ok(())
}

pub(crate) async fn a_promotion_that_goes_on_takes_a_third_version_after_itself(
    scene: &Scene<'_>,
) -> anyhow::Result<()> {
    let shop = scene.shop().await?;
    get_stuck(&shop).await?;
    // One pod of v2 can come up, and no more.
    let room = quota(7);
    shop.apply(&room).await?;
    shop.until("the Deployment has a pod of v2", |seen| {
        (seen.ready("v2") > 0).then_some(())
    })
    .await?;
    shop.change_to("v3").await?;
    shop.kubectl(&["delete", "resourcequota/tight"]).await?;
    let seen = shop
        .until("v3 is promoted after v2", |seen| {
            let over = seen.is_stable() && seen.copies().is_empty() && seen.ready("v3") == 3;
            over.then(|| seen.clone())
        })
        .await?;
    ensure!(seen.condition("Promoted") == "True", "{seen}");
    Ok(())
}

/// v2 has passed every step, and its promotion finds no room for a pod.
async fn get_stuck(shop: &Shop<'_>) -> anyhow::Result<Seen> {
    // It holds for the canary's pods too, which have to be there in time.
    shop.plan(&Plan::default().with("/progressDeadline", json!("20s")))
        .await?;
    // Three pods of v1, three of the canary.
    shop.apply(&quota(6)).await?;
    counted(shop, "tight").await?;
    shop.change_to("v2").await?;
    let seen = shop
        .until("the promotion is stuck and says so", |seen| {
            let stuck = seen.phase() == "Promoting" && seen.condition("Stalled") == "True";
            (stuck && seen.says("quota")).then(|| seen.clone())
        })
        .await?;
    Ok(seen)
}

fn quota(pods: u32) -> String {
    json!({
        "apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "tight"},
        "spec": {"hard": {"pods": pods.to_string()}},
    })
    .to_string()
}
