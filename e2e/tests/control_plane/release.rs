//! A release, good or bad, and nothing else happens.

use anyhow::ensure;

use super::hall::Scene;

pub(crate) async fn a_good_release_is_promoted(scene: &Scene<'_>) -> anyhow::Result<()> {
    let shop = scene.shop().await?;
    let before = shop.seen().stable().to_owned();
    let seen = shop.release("v2").await?;
    ensure!(seen.stable() != before, "another revision is stable");
    ensure!(seen.condition("Promoted") == "True", "{seen}");
    shop.until(
        "the gate is open and nothing is left of the canary",
        |seen| (!seen.is_paused() && seen.copies().is_empty() && seen.weight() == 0).then_some(()),
    )
    .await?;
    Ok(())
}

pub(crate) async fn a_bad_release_is_rolled_back_and_the_deployment_stays_paused(
    scene: &Scene<'_>,
) -> anyhow::Result<()> {
    let shop = scene.shop().await?;
    let before = shop.seen().stable().to_owned();
    shop.fail("v2").await?;
    let seen = shop
        .until("an Event tells of it", |seen| {
            seen.has_event("RolledBack").then(|| seen.clone())
        })
        .await?;
    ensure!(seen.condition("RolledBack") == "True", "{seen}");
    ensure!(
        seen.stable() == before,
        "v1 is still the stable one: {seen}"
    );
    ensure!(seen.is_paused() && seen.version() == "v2", "{seen}");
    ensure!(seen.ready("v1") == 3 && seen.ready("v2") == 0, "{seen}");
    ensure!(seen.weight() == 0, "{seen}");
    Ok(())
}
