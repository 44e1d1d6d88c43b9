//! Releases that wait for a person or for evidence: what `kubectl` shows, how they go on, and how they end.

use std::time::Duration;

use anyhow::{Context, ensure};
use aviary_e2e::control_plane::{Evidence, Plan, Seen, Shop};
use serde_json::json;

use super::hall::Scene;

/// The first step, of 50 %, pauses like this once it has passed.
fn pausing(pause: serde_json::Value) -> Plan {
    let steps = json!([
        {"weight": 50, "soak": "1s", "pause": pause},
        {"weight": 100, "soak": "1s"},
    ]);
    Plan::default().with("/steps", steps)
}

/// Runs the command that the status gives.
async fn as_told(shop: &Shop<'_>, seen: &Seen) -> anyhow::Result<()> {
    let message = seen.message();
    let value = message
        .split("aviary.dev/request=")
        .nth(1)
        .and_then(|rest| rest.split([')', ',', '.', ' ', ';']).next());
    let value = value.with_context(|| format!("no command in {message}"))?;
    shop.kubectl(&[
        "annotate",
        "canaryrollout/web",
        &format!("aviary.dev/request={value}"),
    ])
    .await?;
    Ok(())
}

/// What a person sees.
async fn shown(shop: &Shop<'_>) -> anyhow::Result<()> {
    for args in [
        &["get", "canaryrollout/web", "-o", "wide"][..],
        &["describe", "canaryrollout/web"],
    ] {
        let said = shop.kubectl(args).await?;
        println!("$ kubectl {}\n{}", args.join(" "), said.stdout);
    }
    Ok(())
}

pub(crate) async fn a_paused_step_waits_for_a_person_and_is_not_stalled(
    scene: &Scene<'_>,
) -> anyhow::Result<()> {
    let shop = scene.shop_with(&pausing(json!({}))).await?;
    shop.change_to("v2").await?;
    let seen = shop
        .until("the step pauses, and an Event says so", |seen| {
            (seen.phase() == "Paused" && seen.has_event("Paused")).then(|| seen.clone())
        })
        .await?;
    ensure!(seen.weight() == 50, "{seen}");
    ensure!(seen.reason("Reconciling") == "Paused", "{seen}");
    ensure!(seen.condition("Stalled") == "False", "{seen}");
    shown(&shop).await?;
    let raised = shop
        .never("the weight rises", Duration::from_secs(3), |seen| {
            (seen.weight() > 50).then_some(())
        })
        .await;
    ensure!(raised.is_ok(), "nobody said so: {}", shop.seen());
    as_told(&shop, &seen).await?;
    shop.until("it is promoted, and the request is gone", |seen| {
        let rollout = seen.rollout("web")?;
        let asked = rollout.metadata.annotations.as_ref();
        let gone = asked.is_none_or(|all| !all.contains_key("aviary.dev/request"));
        (gone && seen.is_stable() && seen.ready("v2") == 3 && seen.has_event("LetOn")).then_some(())
    })
    .await?;
    ensure!(!shop.seen().has_event("RequestIgnored"), "{}", shop.seen());
    Ok(())
}

pub(crate) async fn a_request_for_another_revision_or_weight_is_taken_away_and_said(
    scene: &Scene<'_>,
) -> anyhow::Result<()> {
    let shop = scene.shop_with(&pausing(json!({}))).await?;
    shop.change_to("v2").await?;
    shop.until("the step pauses", |seen| {
        (seen.phase() == "Paused").then_some(())
    })
    .await?;
    shop.kubectl(&[
        "annotate",
        "canaryrollout/web",
        "aviary.dev/request=promote:another@50",
    ])
    .await?;
    let seen = shop
        .until("it is taken away, and an Event says why", |seen| {
            let rollout = seen.rollout("web")?;
            let asked = rollout.metadata.annotations.as_ref();
            let gone = asked.is_none_or(|all| !all.contains_key("aviary.dev/request"));
            (gone && seen.has_event("RequestIgnored")).then(|| seen.clone())
        })
        .await?;
    ensure!(seen.weight() == 50 && seen.phase() == "Paused", "{seen}");
    Ok(())
}

pub(crate) async fn a_pause_with_a_length_ends_by_itself(scene: &Scene<'_>) -> anyhow::Result<()> {
    let shop = scene.shop_with(&pausing(json!({"for": "3s"}))).await?;
    shop.release("v2").await?;
    let seen = shop.seen();
    ensure!(
        seen.has_event("Paused") && !seen.has_event("LetOn"),
        "{seen}"
    );
    Ok(())
}

pub(crate) async fn taking_the_pause_out_of_the_spec_lets_the_release_go_on(
    scene: &Scene<'_>,
) -> anyhow::Result<()> {
    let shop = scene.shop_with(&pausing(json!({}))).await?;
    shop.change_to("v2").await?;
    shop.until("the step pauses", |seen| {
        (seen.phase() == "Paused").then_some(())
    })
    .await?;
    shop.plan(&Plan::default()).await?;
    shop.until("it is promoted", |seen| {
        (seen.is_stable() && seen.ready("v2") == 3).then_some(())
    })
    .await?;
    Ok(())
}

pub(crate) async fn a_failure_that_pauses_keeps_its_weight_until_the_stable_template_is_back(
    scene: &Scene<'_>,
) -> anyhow::Result<()> {
    let plan = Plan::default().soaking_at(50);
    let shop = scene
        .shop_with(&plan.with("/onFailure", json!("Pause")))
        .await?;
    shop.soak("v2").await?;
    shop.bench.evidence.set(&shop.namespace, 9);
    let seen = shop
        .until("the failure pauses", |seen| {
            (seen.reason("Stalled") == "FailurePaused").then(|| seen.clone())
        })
        .await?;
    ensure!(seen.condition("Stalled") == "True", "{seen}");
    ensure!(seen.phase() == "Paused" && seen.weight() == 50, "{seen}");
    shown(&shop).await?;
    shop.bench.evidence.set(&shop.namespace, 0);
    as_told(&shop, &seen).await?;
    shop.until("it is judged anew", |seen| {
        (seen.has_event("JudgedAnew") && seen.phase() == "Soaking").then_some(())
    })
    .await?;
    shop.change_to("v1").await?;
    shop.until("stable serves", |seen| {
        (seen.is_stable() && seen.weight() == 0).then_some(())
    })
    .await?;
    Ok(())
}

pub(crate) async fn without_evidence_a_step_waits_for_a_person_who_takes_it_on(
    scene: &Scene<'_>,
) -> anyhow::Result<()> {
    let nothing =
        json!([{"name": "errors", "prometheus": {"query": "e2e_nobody_has_this", "atMost": 0}}]);
    let plan = Plan::default().with("/analysis/checks", nothing).with(
        "/analysis/noEvidence",
        json!({"hold": "2s", "then": "Pause"}),
    );
    let shop = scene.shop_with(&plan).await?;
    shop.change_to("v2").await?;
    let seen = shop
        .until("the hold is over", |seen| {
            (seen.reason("Stalled") == "Inconclusive").then(|| seen.clone())
        })
        .await?;
    ensure!(seen.weight() == 50 && seen.says("no series"), "{seen}");
    shown(&shop).await?;
    as_told(&shop, &seen).await?;
    shop.until("the next step", |seen| (seen.weight() == 100).then_some(()))
        .await?;
    Ok(())
}

pub(crate) async fn a_release_does_not_rise_while_stable_fails_the_same_checks(
    scene: &Scene<'_>,
) -> anyhow::Result<()> {
    // One number for both revisions: whatever happens, it happens to stable too.
    let query = format!(
        r#"label_replace({}, "revision", "{{{{ canary.revision }}}}", "", "")"#,
        Evidence::QUERY
    );
    let checks = json!([{"name": "errors", "prometheus": {"query": query, "atMost": 0}}]);
    let plan = Plan::default().with("/analysis/checks", checks);
    let shop = scene.shop_with(&plan).await?;
    shop.bench.evidence.set(&shop.namespace, 9);
    shop.change_to("v2").await?;
    let seen = shop
        .until("it is held because stable fails", |seen| {
            let told = seen.has_event("StableFailing");
            (told && seen.reason("Stalled") == "StableFailing").then(|| seen.clone())
        })
        .await?;
    ensure!(seen.weight() == 50, "the canary is not to blame: {seen}");
    shown(&shop).await?;
    let moved = shop
        .never("the weight changes", Duration::from_secs(4), |seen| {
            (seen.weight() != 50).then_some(())
        })
        .await;
    ensure!(moved.is_ok(), "{}", shop.seen());
    shop.bench.evidence.set(&shop.namespace, 0);
    shop.until("stable has recovered, and v2 is promoted", |seen| {
        (seen.is_stable() && seen.ready("v2") == 3).then_some(())
    })
    .await?;
    ensure!(!shop.seen().has_event("RolledBack"), "{}", shop.seen());
    Ok(())
}

pub(crate) async fn a_deleted_rollout_that_promotes_goes_to_0_first_and_then_rolls(
    scene: &Scene<'_>,
) -> anyhow::Result<()> {
    let plan = Plan::default().soaking_at(50);
    let shop = scene
        .shop_with(&plan.with("/deletionPolicy", json!("Promote")))
        .await?;
    shop.soak("v2").await?;
    shop.kubectl(&["delete", "canaryrollout/web", "--wait=false"])
        .await?;
    shop.until(
        "v2 serves everyone, and nothing of the release is left",
        |seen| {
            let over = seen.rollout("web").is_none() && seen.copies().is_empty();
            (over && !seen.is_paused() && seen.ready("v2") == 3).then_some(())
        },
    )
    .await?;
    ensure!(shop.seen().has_event("LetGo"), "{}", shop.seen());
    Ok(())
}
