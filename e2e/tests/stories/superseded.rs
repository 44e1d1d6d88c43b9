//! Templates that change while a release runs.

use anyhow::{Context, ensure};
use aviary_crds::status::{CauseStatus, Phase};
use aviary_e2e::harness::{Faults, Workload};
use serde_json::Value;

use super::theatre::Scene;

pub(crate) async fn a_newer_template_starts_at_weight_0_and_the_one_before_goes_to_0(
    scene: &Scene<'_>,
) -> anyhow::Result<()> {
    let shop = scene
        .shop(&Workload::of_a_story().steps(&[(50, "10m"), (100, "1m")]))
        .await?;
    let mark = shop.record.mark();
    shop.release("v2", Faults::None).await?;
    let second = shop
        .until_soaking(mark, 50)
        .await?
        .status
        .canary
        .context("no canary")?
        .revision;

    let mark = shop.record.mark();
    shop.release("v3", Faults::None).await?;
    let another = shop
        .until(mark, "another canary", |status| {
            status.canary.as_ref().is_some_and(|c| c.revision != second)
        })
        .await?
        .status;

    let weight = another.weight.unwrap_or_default();
    ensure!(
        (weight.desired, weight.sent) == (0, 0),
        "v3 began with {weight:?}"
    );
    ensure!(
        another.phase == Some(Phase::Starting),
        "v3 began with {:?}",
        another.phase
    );
    // The machine's own memory: that v2 went to 0 outlives this operator.
    let machine = Value::from(&another.machine.context("no memory")?);
    let revoked = machine
        .pointer("/state/revoked")
        .and_then(|all| all.as_array());
    ensure!(
        revoked.is_some_and(|all| all.iter().any(|each| each["revision"] == *second)),
        "v2 is not revoked: {machine}"
    );
    shop.until_event("Superseded").await?;
    let third = another.canary.context("no canary")?.revision;
    let soaking = shop.until_soaking(mark, 50).await?.status;
    ensure!(
        soaking.canary.map(|canary| canary.revision) == Some(third),
        "the weight is not v3's"
    );

    shop.until_stats("v3 answers", |stats| stats.versions.contains_key("v3"))
        .await?;
    let before = shop.stats().await?;
    let after = shop.until_sent_more(400).await?;
    ensure!(
        after.versions["v2"].answered == before.versions["v2"].answered,
        "v2 still answers: {:?}",
        after.versions
    );
    ensure!(
        after.failed.total() == 0,
        "requests failed: {:?}",
        after.notes
    );
    Ok(())
}

pub(crate) async fn going_back_to_the_stable_template_ends_the_release_at_weight_0(
    scene: &Scene<'_>,
) -> anyhow::Result<()> {
    let shop = scene
        .shop(&Workload::of_a_story().steps(&[(50, "10m"), (100, "1m")]))
        .await?;
    let stable = shop.status().await?.stable.unwrap_or_default().revision;
    let mark = shop.record.mark();
    shop.release("v2", Faults::None).await?;
    shop.until_soaking(mark, 50).await?;

    let mark = shop.record.mark();
    let said = shop.release("v1", Faults::None).await?;
    ensure!(
        said.warnings()
            .iter()
            .any(|warning| warning.contains("the template is the stable one again")),
        "{said}"
    );
    let back = shop.until_phase(mark, Phase::Stable).await?.status;

    ensure!(
        back.stable.unwrap_or_default().revision == stable,
        "another revision is stable now"
    );
    ensure!(back.failure.map(|failure| failure.cause) == Some(CauseStatus::TemplateReverted));
    shop.until_no_copy().await?;
    let open = |spec: Option<k8s_openapi::api::apps::v1::DeploymentSpec>| {
        spec.is_some_and(|spec| spec.paused != Some(true))
    };
    ensure!(
        open(shop.deployment().await?.spec),
        "the Deployment is still paused"
    );
    let before = shop.stats().await?;
    let after = shop.until_sent_more(400).await?;
    ensure!(
        after.versions["v2"].answered == before.versions["v2"].answered,
        "v2 still answers: {:?}",
        after.versions
    );
    ensure!(
        after.failed.total() == 0,
        "requests failed: {:?}",
        after.notes
    );
    Ok(())
}
