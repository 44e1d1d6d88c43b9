//! The API server refuses, or is slow, for one release; the others go on.

use std::time::Duration;

use anyhow::{Context, ensure};
use aviary_e2e::control_plane::pods::SILENT_NODE;
use aviary_e2e::control_plane::{Matching, Plan, Shop};
use http::{Method, StatusCode};
use k8s_openapi::jiff::Timestamp;
use kube::core::DynamicObject;
use serde_json::json;

use super::hall::Scene;

/// As long as twenty windows.
const OUTAGE: Duration = Duration::from_secs(20);

/// The request that opens it, or closes it.
fn gate(shop: &Shop<'_>) -> Matching {
    let web = format!("/namespaces/{}/deployments/web?", shop.namespace);
    Matching::method(Method::PATCH).path(web).body("paused")
}

pub(crate) async fn a_canary_that_turns_bad_while_no_status_can_be_written_goes_to_0_within_three_windows(
    scene: &Scene<'_>,
) -> anyhow::Result<()> {
    let shop = scene.shop_with(&Plan::default().soaking_at(50)).await?;
    shop.soak("v2").await?;
    let path = format!("/namespaces/{}/canaryrollouts/", shop.namespace);
    let unwritable = shop.bench.wire.answer(
        Matching::writes().path(path).path("/status"),
        StatusCode::INTERNAL_SERVER_ERROR,
    );
    let began = Timestamp::now();
    shop.bench.evidence.set(&shop.namespace, 9);
    // What lasts so long is the outage; nothing is waited for.
    tokio::time::sleep(OUTAGE).await;
    let ended = Timestamp::now();
    ensure!(unwritable.count() > 0, "no status was written anyway");
    drop(unwritable);
    let seen = shop
        .until("the status tells of the rollback", |seen| {
            let told = seen.condition("RolledBack") == "True" && seen.has_event("RolledBack");
            told.then(|| seen.clone())
        })
        .await?;
    let at = seen.status("/failure/at").as_str().context("no time")?;
    let at: Timestamp = at.parse()?;
    ensure!(
        at < ended,
        "it went to 0 at {at}, after the outage of {began} to {ended}: {seen}"
    );
    let windows = at.as_second() - began.as_second();
    // Three that fail; the others are the machine's.
    ensure!(windows <= 12, "it took {windows} windows: {seen}");
    Ok(())
}

pub(crate) async fn a_version_that_is_stored_while_the_gate_opens_is_released_step_by_step(
    scene: &Scene<'_>,
) -> anyhow::Result<()> {
    let plan = Plan::default().soaking_at(50);
    let shop = scene.shop_with(&plan).await?;
    shop.soak("v2").await?;
    let opening = shop.bench.wire.hold(gate(&shop));
    shop.change_to("v1").await?;
    opening.at_least(1).await?;
    shop.change_to("v3").await?;
    drop(opening);
    // Were the gate open, v3 would be everywhere at once.
    let seen = shop
        .until("v3 soaks, or serves", |seen| {
            let soaks = seen.phase() == "Soaking" && seen.copies_are("v3");
            (soaks || seen.ready("v3") > 0).then(|| seen.clone())
        })
        .await?;
    ensure!(seen.ready("v3") == 0, "v3 rolled out ungated: {seen}");
    ensure!(seen.is_paused() && seen.ready("v1") == 3, "{seen}");
    Ok(())
}

pub(crate) async fn a_version_that_is_stored_while_a_promotion_begins_is_released_step_by_step(
    scene: &Scene<'_>,
) -> anyhow::Result<()> {
    let shop = scene.shop().await?;
    let opening = shop.bench.wire.hold(gate(&shop));
    shop.change_to("v2").await?;
    opening.at_least(1).await?;
    shop.change_to("v3").await?;
    drop(opening);
    let seen = shop
        .until("v3 has a canary, or serves", |seen| {
            (seen.has_copy_of("v3") || seen.ready("v3") > 0).then(|| seen.clone())
        })
        .await?;
    ensure!(seen.ready("v3") == 0, "v3 rolled out ungated: {seen}");
    Ok(())
}

pub(crate) async fn a_canary_pod_on_a_node_that_does_not_answer_keeps_no_rollback_from_ending(
    scene: &Scene<'_>,
) -> anyhow::Result<()> {
    // A pod that may take no time to end is gone at once, whatever its node says.
    let shop = Shop::with_deployment(scene.bench, &scene.namespace, |web| {
        web["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] = json!(30);
    })
    .await?;
    shop.adopt(&Plan::default().soaking_at(50)).await?;
    shop.soak("v2").await?;
    let canary = "--selector=aviary.dev/revision";
    let silent = format!("{SILENT_NODE}=yes");
    let silenced = ["annotate", "pods", canary, &silent];
    let silenced = shop.kubectl(&silenced).await?.stdout;
    shop.bench.evidence.set(&shop.namespace, 9);
    let seen = shop
        .until("the rollback ends while its pods do not", |seen| {
            let leaving = |pod: &DynamicObject| pod.metadata.deletion_timestamp.is_some();
            let over = seen.phase() == "Failed" && seen.copies().is_empty();
            (over && seen.pods().any(leaving)).then(|| seen.clone())
        })
        .await?;
    ensure!(seen.ready("v1") == 3 && seen.weight() == 0, "{seen}");
    // The node answers again, and the namespace can go.
    let answers = format!("{SILENT_NODE}-");
    let still_there = ["annotate", "pods", canary, &answers];
    let still_there = shop.kubectl(&still_there).await?.stdout;
    ensure!(
        silenced.contains("pod/") && still_there == silenced,
        "pods were gone before their node said so: {silenced} {still_there}"
    );
    Ok(())
}

pub(crate) async fn conflicts_and_throttling_delay_a_release_and_nothing_else(
    scene: &Scene<'_>,
) -> anyhow::Result<()> {
    let shop = scene.shop().await?;
    let path = format!("/namespaces/{}/", shop.namespace);
    for status in [StatusCode::CONFLICT, StatusCode::TOO_MANY_REQUESTS] {
        let refused = shop
            .bench
            .wire
            .answer(Matching::writes().path(path.clone()), status);
        let version = format!("v{}", status.as_u16());
        shop.change_to(&version).await?;
        refused.at_least(3).await?;
        drop(refused);
        shop.until(&format!("{version} is promoted"), |seen| {
            (seen.is_stable() && seen.ready(&version) == 3 && seen.copies().is_empty())
                .then_some(())
        })
        .await?;
    }
    Ok(())
}

pub(crate) async fn a_bad_canary_goes_to_0_although_its_copy_cannot_be_scaled(
    scene: &Scene<'_>,
) -> anyhow::Result<()> {
    let shop = scene.shop().await?;
    let path = format!("/namespaces/{}/deployments/web-canary-", shop.namespace);
    let denied = shop.bench.wire.answer(
        Matching::method(Method::PATCH).path(path),
        StatusCode::FORBIDDEN,
    );
    shop.change_to("v2").await?;
    denied.at_least(1).await?;
    let seen = shop.seen();
    ensure!(seen.weight() == 50, "the first step passed: {seen}");
    shop.bench.evidence.set(&shop.namespace, 9);
    let seen = shop
        .until(
            "it is rolled back while its copy cannot be scaled",
            |seen| {
                let back = matches!(seen.phase(), "RollingBack" | "Failed") && seen.weight() == 0;
                back.then(|| seen.clone())
            },
        )
        .await?;
    ensure!(seen.condition("RolledBack") == "True", "{seen}");
    drop(denied);
    Ok(())
}
