//! After a release that failed.

use anyhow::ensure;
use aviary_e2e::control_plane::Plan;

use super::hall::Scene;

pub(crate) async fn a_rollout_that_is_made_anew_after_a_failure_does_not_call_the_bad_version_stable(
    scene: &Scene<'_>,
) -> anyhow::Result<()> {
    let shop = scene.shop().await?;
    let stable = shop.seen().stable().to_owned();
    shop.fail("v2").await?;
    shop.kubectl(&["delete", "canaryrollout/web"]).await?;
    shop.plan(&Plan::default()).await?;
    let seen = shop
        .until("the new CanaryRollout says what it found", |seen| {
            (!seen.stable().is_empty()).then(|| seen.clone())
        })
        .await?;
    ensure!(seen.stable() == stable, "v1 serves: {seen}");
    let seen = shop
        .until("it says that the Deployment was found paused", |seen| {
            let said = seen.condition("Ready") == "False" && seen.says("paused");
            said.then(|| seen.clone())
        })
        .await?;
    ensure!(seen.is_paused() && seen.copies().is_empty(), "{seen}");
    let resumed = shop
        .try_kubectl(&["rollout", "resume", "deployment/web"], "")
        .await?;
    ensure!(!resumed.ok, "the bad version is still held back: {resumed}");
    // And the way out is the usual one.
    shop.release("v3").await?;
    Ok(())
}

pub(crate) async fn deleting_a_failed_rollout_says_that_the_deployment_stays_paused(
    scene: &Scene<'_>,
) -> anyhow::Result<()> {
    let shop = scene.shop().await?;
    shop.fail("v2").await?;
    shop.kubectl(&["delete", "canaryrollout/web", "--timeout=180s"])
        .await?;
    shop.until("an Event says so", |seen| {
        seen.has_event("DeploymentLeftPaused").then_some(())
    })
    .await?;
    let seen = shop.seen();
    ensure!(seen.is_paused() && seen.version() == "v2", "{seen}");
    ensure!(seen.ready("v1") == 3, "{seen}");
    Ok(())
}

pub(crate) async fn deleting_the_rollout_during_a_release_takes_the_canary_away_and_says_what_stays_paused(
    scene: &Scene<'_>,
) -> anyhow::Result<()> {
    let shop = scene.shop_with(&Plan::default().soaking_at(50)).await?;
    shop.soak("v2").await?;
    shop.kubectl(&["delete", "canaryrollout/web", "--wait=false"])
        .await?;
    let seen = shop
        .until(
            "the rollout and its copy are gone, and an Event says why",
            |seen| {
                let gone = seen.rollout("web").is_none() && seen.copies().is_empty();
                (gone && seen.has_event("DeploymentLeftPaused")).then(|| seen.clone())
            },
        )
        .await?;
    ensure!(seen.is_paused() && seen.ready("v1") == 3, "{seen}");
    Ok(())
}

pub(crate) async fn a_namespace_with_a_running_release_can_be_deleted(
    scene: &Scene<'_>,
) -> anyhow::Result<()> {
    let shop = scene.shop_with(&Plan::default().soaking_at(50)).await?;
    shop.soak("v2").await?;
    let delete = ["delete", "namespace", &shop.namespace, "--timeout=180s"];
    scene.bench.kubectl.ok(&delete).await?;
    Ok(())
}

pub(crate) async fn deleting_the_rollout_of_a_deployment_at_rest_leaves_it_unpaused(
    scene: &Scene<'_>,
) -> anyhow::Result<()> {
    let shop = scene.shop().await?;
    shop.kubectl(&["delete", "canaryrollout/web", "--timeout=180s"])
        .await?;
    let said = shop.change_to("v2").await?;
    shop.until("v2 rolls out by the Deployment's own strategy", |seen| {
        (seen.ready("v2") == 3 && seen.copies().is_empty()).then_some(())
    })
    .await?;
    let seen = shop.seen();
    ensure!(!seen.is_paused(), "{seen}");
    ensure!(!seen.has_event("DeploymentLeftPaused"), "{seen}{said}");
    Ok(())
}

pub(crate) async fn an_annotation_alone_does_not_try_a_failed_version_again(
    scene: &Scene<'_>,
) -> anyhow::Result<()> {
    let shop = scene.shop().await?;
    shop.fail("v2").await?;
    let patch = r#"{"spec":{"template":{"metadata":{"annotations":{"a":"b"}}}}}"#;
    let said = shop
        .kubectl(&["patch", "deployment/web", "--type=merge", "--patch", patch])
        .await?;
    let warned = said.warnings().join("\n");
    ensure!(
        !warned.contains("now releases"),
        "nothing is released: {warned}"
    );
    let seen = shop
        .until("the operator has seen the change", |seen| {
            let web = seen.deployment("web")?;
            let generation = web.metadata.generation?;
            let observed = web.data.pointer("/status/observedGeneration")?.as_i64()?;
            (observed == generation && seen.phase() == "Failed").then(|| seen.clone())
        })
        .await?;
    ensure!(seen.events("ReleaseStarted").len() == 1, "{seen}");
    // A fixed version is another matter.
    shop.release("v3").await?;
    Ok(())
}

pub(crate) async fn a_copy_whose_rollout_went_without_its_finalizer_is_removed(
    scene: &Scene<'_>,
) -> anyhow::Result<()> {
    let shop = scene.shop_with(&Plan::default().soaking_at(50)).await?;
    shop.soak("v2").await?;
    shop.kubectl(&["delete", "canaryrollout/web", "--wait=false"])
        .await?;
    let strip = r#"{"metadata":{"finalizers":null}}"#;
    // It may be gone by itself in the meantime.
    shop.try_kubectl(
        &[
            "patch",
            "canaryrollout/web",
            "--type=merge",
            "--patch",
            strip,
        ],
        "",
    )
    .await?;
    shop.until("the rollout and its copy are gone", |seen| {
        (seen.rollout("web").is_none() && seen.copies().is_empty()).then_some(())
    })
    .await?;
    ensure!(shop.seen().ready("v1") == 3, "{}", shop.seen());
    Ok(())
}
