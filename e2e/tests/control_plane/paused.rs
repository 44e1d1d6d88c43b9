//! What a paused Deployment does, and what Aviary does about it: the design's table, line by line.

use std::time::Duration;

use anyhow::{Context, ensure};
use aviary_e2e::control_plane::{Plan, Revision, Shop, deployment, list, service};
use aviary_e2e::harness::{Waited, eventually};
use k8s_openapi::jiff::Timestamp;
use serde_json::{Value, json};

use super::hall::Scene;

pub(crate) async fn applying_the_same_manifest_again_leaves_the_gate_closed(
    scene: &Scene<'_>,
) -> anyhow::Result<()> {
    let shop = scene.shop_with(&Plan::default().soaking_at(50)).await?;
    let manifest = deployment("web", "v2").to_string();
    for apply in [
        &["apply", "--server-side", "--force-conflicts", "-f", "-"][..],
        &["apply", "-f", "-"],
    ] {
        let first = shop.try_kubectl(apply, &manifest).await?;
        ensure!(first.ok, "{first}");
        soaks(&shop, "v2").await?;
        let before = shop.get("deployment/web").await?;
        let again = shop.try_kubectl(apply, &manifest).await?;
        ensure!(again.ok, "{again}");
        let after = shop.get("deployment/web").await?;
        ensure!(after["spec"]["paused"] == true);
        ensure!(
            after["metadata"]["generation"] == before["metadata"]["generation"],
            "{apply:?} changed the spec"
        );
    }
    Ok(())
}

pub(crate) async fn replacing_the_manifest_drops_neither_the_pause_nor_the_label(
    scene: &Scene<'_>,
) -> anyhow::Result<()> {
    let shop = scene.shop().await?;
    shop.fail("v2").await?;
    let said = shop
        .try_kubectl(
            &["replace", "-f", "-"],
            &deployment("web", "v2").to_string(),
        )
        .await?;
    ensure!(said.ok, "a denial would fail a sync: {said}");
    ensure!(!said.warnings().is_empty(), "{said}");
    still_held(&shop).await
}

pub(crate) async fn paused_false_in_the_manifest_does_not_open_the_gate(
    scene: &Scene<'_>,
) -> anyhow::Result<()> {
    let shop = scene.shop().await?;
    shop.fail("v2").await?;
    let mut manifest = deployment("web", "v2");
    manifest["spec"]["paused"] = json!(false);
    let server_side = ["apply", "--server-side", "--force-conflicts", "-f", "-"];
    for apply in [&["apply", "-f", "-"][..], &server_side] {
        let said = shop.try_kubectl(apply, &manifest.to_string()).await?;
        ensure!(said.ok, "a denial would fail a sync: {said}");
        still_held(&shop).await?;
    }
    Ok(())
}

pub(crate) async fn undo_and_restart_are_refused_by_kubectl_and_resume_by_the_gate(
    scene: &Scene<'_>,
) -> anyhow::Result<()> {
    let shop = scene.shop().await?;
    shop.fail("v2").await?;
    for verb in ["undo", "restart"] {
        let said = shop
            .try_kubectl(&["rollout", verb, "deployment/web"], "")
            .await?;
        ensure!(!said.ok, "kubectl rollout {verb}: {said}");
        still_held(&shop).await?;
    }
    let said = shop
        .try_kubectl(&["rollout", "resume", "deployment/web"], "")
        .await?;
    ensure!(!said.ok, "{said}");
    for way_out in ["describe canaryrollout", "apply"] {
        ensure!(
            said.stderr.contains(way_out),
            "it names the right verbs: {said}"
        );
    }
    still_held(&shop).await
}

pub(crate) async fn scaling_scales_the_stable_version(scene: &Scene<'_>) -> anyhow::Result<()> {
    let shop = scene.shop().await?;
    shop.fail("v2").await?;
    shop.kubectl(&["scale", "deployment/web", "--replicas=5"])
        .await?;
    serves_alone(&shop, "v1", 5).await?;
    shop.kubectl(&["scale", "deployment/web", "--replicas=2"])
        .await?;
    serves_alone(&shop, "v1", 2).await?;
    still_held(&shop).await
}

pub(crate) async fn scaled_to_nothing_and_back_the_stable_version_serves_again_and_no_older_one(
    scene: &Scene<'_>,
) -> anyhow::Result<()> {
    let shop = Shop::with_deployment(scene.bench, &scene.namespace, |_| {}).await?;
    // v2's ReplicaSet is the newer one now, by the clock of the API server, which has seconds.
    another_second(&shop).await?;
    for version in ["v2", "v1"] {
        shop.change_to(version).await?;
        shop.kubectl(&["rollout", "status", "deployment/web", "--timeout=180s"])
            .await?;
    }
    shop.adopt(&Plan::default()).await?;
    let stable = shop.seen().stable().to_owned();
    shop.fail("v3").await?;
    to_nothing_and_back(&shop).await?;
    serves_alone(&shop, "v1", 3).await?;
    let seen = shop.seen();
    ensure!(seen.stable() == stable, "{seen}");
    ensure!(
        !seen.pods().any(|pod| image(&pod.data).ends_with(":v2")),
        "no pod of v2 came up: {seen}"
    );
    still_held(&shop).await?;
    // What was put away can be gone back to.
    shop.release("v2").await?;
    Ok(())
}

pub(crate) async fn without_history_the_stable_version_comes_back_from_nothing_too(
    scene: &Scene<'_>,
) -> anyhow::Result<()> {
    let shop = Shop::with_deployment(scene.bench, &scene.namespace, |web| {
        web["spec"]["revisionHistoryLimit"] = json!(0);
    })
    .await?;
    shop.adopt(&Plan::default()).await?;
    shop.fail("v2").await?;
    to_nothing_and_back(&shop).await?;
    serves_alone(&shop, "v1", 3).await?;
    still_held(&shop).await
}

pub(crate) async fn a_stable_replica_set_that_is_deleted_is_rebuilt_at_once(
    scene: &Scene<'_>,
) -> anyhow::Result<()> {
    let shop = scene.shop_with(&Plan::default().soaking_at(50)).await?;
    let before = shop.seen().stable().to_owned();
    shop.soak("v2").await?;
    let stable = shop
        .seen()
        .revisions()
        .into_iter()
        .find(|revision| revision.version == "v1");
    let stable = stable.expect("v1 serves");
    let name = format!("replicaset/{}", stable.replica_set);
    shop.kubectl(&["delete", &name]).await?;
    shop.until("v1 serves again", |seen| {
        let mut revisions = seen.revisions().into_iter();
        let rebuilt = revisions.any(|one| {
            one.version == "v1" && one.uid != stable.uid && one.wanted == 3 && one.ready == 3
        });
        rebuilt.then_some(())
    })
    .await?;
    let seen = shop
        .until("an Event says so", |seen| {
            let told = seen.told_of("rebuil") || seen.told_of("restor");
            told.then(|| seen.clone())
        })
        .await?;
    ensure!(seen.stable() == before, "{seen}");
    ensure!(seen.ready("v2") == 0, "{seen}");
    Ok(())
}

pub(crate) async fn another_replica_set_that_somebody_scales_up_is_scaled_down_again(
    scene: &Scene<'_>,
) -> anyhow::Result<()> {
    let shop = Shop::with_deployment(scene.bench, &scene.namespace, |_| {}).await?;
    shop.change_to("v2").await?;
    shop.kubectl(&["rollout", "status", "deployment/web", "--timeout=180s"])
        .await?;
    shop.adopt(&Plan::default()).await?;
    shop.fail("v3").await?;
    let find = |all: Vec<Revision>| all.into_iter().find(|one| one.version == "v1");
    let old = find(shop.seen().revisions()).context("v1 has no ReplicaSet")?;
    let name = format!("replicaset/{}", old.replica_set);
    shop.kubectl(&["scale", &name, "--replicas=2"]).await?;
    shop.until("v1 is scaled down again", |seen| {
        let now = find(seen.revisions())?;
        (now.generation >= old.generation + 2 && now.wanted == 0).then_some(())
    })
    .await?;
    serves_alone(&shop, "v2", 3).await?;
    still_held(&shop).await
}

pub(crate) async fn going_back_to_the_stable_template_ends_the_run_and_opens_the_gate(
    scene: &Scene<'_>,
) -> anyhow::Result<()> {
    let shop = scene.shop_with(&Plan::default().soaking_at(50)).await?;
    let before = shop.seen().stable().to_owned();
    shop.soak("v2").await?;
    shop.change_to("v1").await?;
    let seen = shop
        .until("the run is over and the gate is open", |seen| {
            let over = seen.is_stable() && seen.weight() == 0 && seen.copies().is_empty();
            (over && !seen.is_paused()).then(|| seen.clone())
        })
        .await?;
    ensure!(seen.stable() == before && seen.ready("v1") == 3, "{seen}");
    Ok(())
}

pub(crate) async fn a_deployment_that_is_paused_at_first_sight_is_held_and_said(
    scene: &Scene<'_>,
) -> anyhow::Result<()> {
    let shop = Shop::empty(scene.bench, &scene.namespace).await?;
    shop.apply(&list(&[deployment("web", "v1"), service()]))
        .await?;
    shop.until("v1 serves", |seen| (seen.ready("v1") == 3).then_some(()))
        .await?;
    shop.kubectl(&["rollout", "pause", "deployment/web"])
        .await?;
    shop.change_to("v2").await?;
    shop.plan(&Plan::default()).await?;
    let seen = shop
        .until("it is said that the Deployment was found paused", |seen| {
            let said = seen.condition("Ready") == "False" && seen.says("paused");
            said.then(|| seen.clone())
        })
        .await?;
    ensure!(
        !seen.has_event("ReleaseStarted") && seen.copies().is_empty(),
        "nobody asked for a release: {seen}"
    );
    ensure!(seen.is_paused() && seen.ready("v1") == 3, "{seen}");
    ensure!(seen.ready("v2") == 0, "{seen}");
    Ok(())
}

async fn soaks(shop: &Shop<'_>, version: &str) -> anyhow::Result<()> {
    shop.until(&format!("{version} soaks"), |seen| {
        (seen.phase() == "Soaking" && seen.copies_are(version)).then_some(())
    })
    .await?;
    Ok(())
}

/// Waits until what is created now is newer than what there is.
async fn another_second(shop: &Shop<'_>) -> anyhow::Result<()> {
    let there = shop.seen();
    let newest = there.deployment("web").and_then(|web| {
        let created = web.metadata.creation_timestamp.as_ref()?;
        Some(created.0.as_second())
    });
    let newest = newest.context("there is no Deployment")? + 1;
    eventually("the clock goes on", Duration::from_secs(10), || async {
        match Timestamp::now().as_second() {
            now if now > newest => Waited::There(()),
            now => Waited::not_yet(now),
        }
    })
    .await?;
    Ok(())
}

async fn to_nothing_and_back(shop: &Shop<'_>) -> anyhow::Result<()> {
    shop.kubectl(&["scale", "deployment/web", "--replicas=0"])
        .await?;
    shop.until("no pod is left", |seen| {
        (seen.pods().count() == 0).then_some(())
    })
    .await?;
    shop.kubectl(&["scale", "deployment/web", "--replicas=3"])
        .await?;
    Ok(())
}

/// The Deployment has so many Ready pods of this version and wants none of another.
async fn serves_alone(shop: &Shop<'_>, version: &str, pods: u64) -> anyhow::Result<()> {
    shop.until(&format!("{pods} pods of {version} serve"), |seen| {
        let wanted: Vec<String> = seen.wanted().into_iter().collect();
        (seen.ready(version) == pods && wanted == [version]).then_some(())
    })
    .await?;
    Ok(())
}

/// As the API server has it now: paused, adopted, and on a version that serves nobody.
async fn still_held(shop: &Shop<'_>) -> anyhow::Result<()> {
    let web = shop.get("deployment/web").await?;
    ensure!(web["spec"]["paused"] == true, "{web}");
    ensure!(web["metadata"]["labels"]["aviary.dev/rollout"] == "web");
    let seen = shop.seen();
    ensure!(seen.ready(seen.version()) == 0, "{seen}");
    Ok(())
}

fn image(pod: &Value) -> &str {
    pod.pointer("/spec/containers/0/image")
        .and_then(Value::as_str)
        .unwrap_or_default()
}
