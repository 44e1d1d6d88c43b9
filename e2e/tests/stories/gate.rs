//! What a person who works with kubectl is told.

use anyhow::ensure;
use aviary_crds::status::Phase;
use aviary_e2e::harness::{Faults, Workload};

use super::theatre::Scene;

pub(crate) async fn a_changed_template_is_answered_with_who_releases_it(
    scene: &Scene<'_>,
) -> anyhow::Result<()> {
    let shop = scene
        .shop(&Workload::of_a_story().steps(&[(10, "10m"), (100, "1m")]))
        .await?;
    let namespace = &scene.namespace;
    let follow = format!("to follow it: kubectl get canaryrollout payment -n {namespace} --watch");

    let by_env = shop.release("v2", Faults::None).await?;
    let by_image = shop
        .kubectl_ok(&[
            "set",
            "image",
            "deployment/payment",
            "payment=aviary.local/demo:never-made",
        ])
        .await?;

    for said in [by_env, by_image] {
        let warnings = said.warnings();
        let releases = warnings.iter().any(|warning| {
            warning.contains(&format!("Deployment {namespace}/payment: paused; CanaryRollout payment now releases revision"))
                && warning.contains("10% -> 100%")
        });
        ensure!(
            releases && warnings.contains(&follow.as_str()),
            "kubectl said:\n{said}"
        );
    }
    ensure!(
        shop.deployment()
            .await?
            .spec
            .is_some_and(|spec| spec.paused == Some(true))
    );
    // Nothing that a person reads is longer than what the API server lets through.
    let scaled = shop
        .kubectl_ok(&["scale", "deployment/payment", "--replicas=4"])
        .await?;
    ensure!(
        scaled.warnings().is_empty(),
        "scaling is none of the gate's business: {scaled}"
    );
    Ok(())
}

pub(crate) async fn resuming_a_failed_release_is_refused_and_says_what_to_do(
    scene: &Scene<'_>,
) -> anyhow::Result<()> {
    let shop = scene
        .shop(&Workload::of_a_story().steps(&[(20, "6s"), (100, "6s")]))
        .await?;
    let mark = shop.record.mark();
    shop.release("v2", Faults::Errors("50%")).await?;
    shop.until_phase(mark, Phase::Failed).await?;

    let resumed = shop
        .kubectl(&["rollout", "resume", "deployment/payment"])
        .await?;
    ensure!(!resumed.ok, "it was resumed: {resumed}");
    for part in [
        "was rolled back by CanaryRollout payment",
        "kubectl describe canaryrollout payment",
        "To go back:",
        "To go forward:",
    ] {
        ensure!(
            resumed.stderr.contains(part),
            "'{part}' is not in what kubectl said:\n{resumed}"
        );
    }
    ensure!(
        shop.deployment()
            .await?
            .spec
            .is_some_and(|spec| spec.paused == Some(true))
    );

    // One of the ways that it names.
    let mark = shop.record.mark();
    shop.release("v1", Faults::None).await?;
    shop.until_phase(mark, Phase::Stable).await?;
    let before = shop.stats().await?;
    let after = shop.until_sent_more(400).await?;
    ensure!(
        after.failed.total() == before.failed.total() && after.lost == 0,
        "requests failed: {:?}",
        after.notes
    );
    Ok(())
}
