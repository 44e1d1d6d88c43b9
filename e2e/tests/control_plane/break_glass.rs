//! A person takes over: the annotation `aviary.dev/break-glass` on the Deployment.

use anyhow::ensure;
use aviary_e2e::control_plane::{Plan, Shop};

use super::hall::Scene;

const ANNOTATION: &str = "aviary.dev/break-glass";

pub(crate) async fn with_break_glass_a_person_rolls_the_new_version_out_and_the_operator_stands_back(
    scene: &Scene<'_>,
) -> anyhow::Result<()> {
    let shop = scene.shop_with(&Plan::default().soaking_at(50)).await?;
    let before = shop.seen().stable().to_owned();
    shop.soak("v2").await?;
    break_glass(&shop).await?;
    shop.kubectl(&["rollout", "resume", "deployment/web"])
        .await?;
    // No copy can be left: the person has the Deployment now.
    shop.until("v2 is rolled out and nobody has paused it", |seen| {
        let rolled = seen.ready("v2") == 3 && seen.ready("v1") == 0;
        (rolled && !seen.is_paused() && seen.copies().is_empty()).then_some(())
    })
    .await?;
    let seen = shop
        .until("a condition says who acts", |seen| {
            seen.says("break-glass").then(|| seen.clone())
        })
        .await?;
    ensure!(!seen.has_event("GateBypassed"), "{seen}");
    ensure!(seen.weight() == 0, "{seen}");

    shop.kubectl(&["annotate", "deployment/web", &format!("{ANNOTATION}-")])
        .await?;
    let seen = shop
        .until("what serves is adopted", |seen| {
            (seen.is_stable() && seen.stable() != before).then(|| seen.clone())
        })
        .await?;
    ensure!(!seen.is_paused() && seen.ready("v2") == 3, "{seen}");
    // Releases go on as ever.
    shop.plan(&Plan::default()).await?;
    shop.release("v3").await?;
    Ok(())
}

pub(crate) async fn with_break_glass_a_failed_version_is_not_paused_again(
    scene: &Scene<'_>,
) -> anyhow::Result<()> {
    let shop = scene.shop().await?;
    shop.fail("v2").await?;
    break_glass(&shop).await?;
    shop.kubectl(&["rollout", "resume", "deployment/web"])
        .await?;
    let seen = shop
        .until("v2 is rolled out", |seen| {
            let rolled = seen.ready("v2") == 3 && seen.ready("v1") == 0;
            (rolled && !seen.is_paused()).then(|| seen.clone())
        })
        .await?;
    ensure!(!seen.has_event("GateBypassed"), "{seen}");
    shop.until("a condition says who acts", |seen| {
        seen.says("break-glass").then_some(())
    })
    .await?;
    Ok(())
}

async fn break_glass(shop: &Shop<'_>) -> anyhow::Result<()> {
    let why = format!("{ANNOTATION}=the pager rang");
    shop.kubectl(&["annotate", "deployment/web", &why]).await?;
    Ok(())
}
