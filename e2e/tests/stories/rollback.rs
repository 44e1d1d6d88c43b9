//! Releases that end at weight 0.

use anyhow::{Context, ensure};
use aviary_crds::status::{CauseStatus, Phase};
use aviary_e2e::harness::{Faults, Shop, Workload, condition, weights, zero_on_every_proxy};
use serde_json::json;

use super::theatre::Scene;

pub(crate) async fn a_bad_release_is_rolled_back_and_the_stable_version_serves(
    scene: &Scene<'_>,
) -> anyhow::Result<()> {
    // The checks alone: the guard would be sooner.
    let unguarded = Workload::of_a_story()
        .rate(200)
        .with("/analysis/guard", json!({"falseAlarm": "0%"}));
    let shop = scene.shop(&unguarded).await?;
    let stable = shop.status().await?.stable.unwrap_or_default().revision;

    let mark = shop.record.mark();
    shop.release("v2", Faults::Errors("5%")).await?;
    let rolling_back = shop
        .until_phase(mark, Phase::RollingBack)
        .await?
        .status
        .weight
        .unwrap_or_default();
    ensure!(
        (rolling_back.desired, rolling_back.sent) == (0, 0),
        "the rollback began with {rolling_back:?}"
    );
    let failed = shop.until_phase(mark, Phase::Failed).await?.status;

    let moments = shop.record.since(mark);
    ensure!(
        weights(&moments).iter().max() < Some(&100),
        "a bad version got everyone: {:?}",
        weights(&moments)
    );
    ensure!(
        failed.stable.clone().unwrap_or_default().revision == stable,
        "another revision is stable now"
    );
    ensure!(
        failed.failure.as_ref().map(|failure| failure.cause) == Some(CauseStatus::AnalysisFailed)
    );
    ensure!(condition(&failed, "RolledBack").is_some_and(|condition| condition.status == "True"));
    ensure!(condition(&failed, "Ready").is_some_and(|condition| condition.status == "False"));
    let note = shop.until_event("RolledBack").await?;
    ensure!(
        note.contains("success-rate"),
        "the event does not name the check: {note}"
    );
    shop.until_no_copy().await?;
    ensure!(
        shop.deployment()
            .await?
            .spec
            .is_some_and(|spec| spec.paused == Some(true)),
        "the bad template is not held"
    );

    let stats = only_serves(&shop, "v1", "v2").await?;
    let bad = stats.versions["v2"];
    ensure!(
        stats.failed.total() == bad.failed,
        "others than v2 failed: {:?}",
        stats.notes
    );
    let zero = zero_on_every_proxy(&moments).context("no moment of weight 0")?;
    let took = zero
        - bad
            .first_bad
            .context("v2 never failed, which its soak cannot have missed")?;
    ensure!(
        took < 60_000,
        "it took {took} ms from the first bad answer to weight 0"
    );
    Ok(())
}

/// Windows are a minute long, so nothing but the guard can have seen it.
pub(crate) async fn a_release_that_is_worse_than_stable_loses_its_weight_within_seconds(
    scene: &Scene<'_>,
) -> anyhow::Result<()> {
    let workload = Workload::of_a_story()
        .steps(&[(10, "10m"), (100, "1m")])
        .with("/analysis/interval", json!("1m"));
    let shop = scene.shop(&workload).await?;
    let mark = shop.record.mark();
    shop.release("v2", Faults::Errors("50%")).await?;
    let failed = shop.until_phase(mark, Phase::Failed).await?.status;
    let failure = failed.failure.context("the status says why")?;
    ensure!(failure.cause == CauseStatus::WorseThanStable, "{failure:?}");
    ensure!(
        failure.message.contains("first attempts failed"),
        "{failure:?}"
    );
    let note = shop.until_event("RolledBack").await?;
    ensure!(note.contains("worse than the stable revision"), "{note}");
    ensure!(note.contains("with status 500 from "), "{note}");
    let note = shop.until_event("HeldBack").await?;
    ensure!(note.contains("'s share to stable"), "{note}");
    let decided = failed.decisions.last().context("nothing was decided")?;
    ensure!(
        decided.decision == "RolledBack" && decided.weight == 0,
        "{decided:?}"
    );
    let judged = failed.verdicts.iter().find(|each| each.check == "guard");
    ensure!(judged.is_some(), "{:?}", failed.verdicts);

    let stats = only_serves(&shop, "v1", "v2").await?;
    let bad = stats.versions["v2"];
    let moments = shop.record.since(mark);
    let zero = zero_on_every_proxy(&moments).context("no moment of weight 0")?;
    let took = zero - bad.first_bad.context("v2 never failed")?;
    println!(
        "from the first bad answer to weight 0 on every proxy: {took} ms, {} failed requests",
        bad.failed
    );
    ensure!(took < 30_000, "it took {took} ms");
    Ok(())
}

pub(crate) async fn deleting_the_rollout_leaves_all_traffic_on_the_stable_version(
    scene: &Scene<'_>,
) -> anyhow::Result<()> {
    let shop = scene
        .shop(&Workload::of_a_story().steps(&[(50, "10m"), (100, "1m")]))
        .await?;
    let mark = shop.record.mark();
    shop.release("v2", Faults::None).await?;
    shop.until_soaking(mark, 50).await?;

    shop.kubectl_ok(&["delete", "canaryrollout", "payment", "--timeout=90s"])
        .await?;

    shop.until_no_copy().await?;
    only_serves(&shop, "v1", "v2").await?;
    let deployment = shop.deployment().await?.spec.unwrap_or_default();
    ensure!(
        deployment.paused == Some(true),
        "the new template rolls out by itself"
    );
    let pods = shop.pods("app=payment").await?;
    let annotated = pods
        .iter()
        .filter(|pod| pod.metadata.deletion_timestamp.is_none())
        .count();
    ensure!(annotated == 3, "there are {annotated} pods");
    Ok(())
}

/// An image that does not exist: no pod of it is ever Ready.
pub(crate) async fn a_version_that_never_starts_gets_no_traffic_and_is_given_up(
    scene: &Scene<'_>,
) -> anyhow::Result<()> {
    let shop = scene
        .shop(&Workload::of_a_story().with("/progressDeadline", json!("10s")))
        .await?;
    let mark = shop.record.mark();
    shop.kubectl_ok(&[
        "set",
        "image",
        "deployment/payment",
        "payment=aviary.local/demo:never-made",
    ])
    .await?;
    let failed = shop.until_phase(mark, Phase::Failed).await?.status;

    ensure!(
        failed.failure.map(|failure| failure.cause) == Some(CauseStatus::ProgressDeadlineExceeded)
    );
    let sent = weights(&shop.record.since(mark));
    ensure!(
        sent.iter().all(|weight| *weight == 0),
        "it was sent a weight: {sent:?}"
    );
    shop.until_no_copy().await?;
    let stats = shop.until_sent_more(200).await?;
    ensure!(stats.failed.total() == 0, "{:?}", stats.notes);
    Ok(())
}

/// From now on `stable` answers everything, and nothing was lost up to now.
async fn only_serves(
    shop: &Shop,
    stable: &str,
    other: &str,
) -> anyhow::Result<aviary_e2e::app::stats::Stats> {
    let before = shop.stats().await?;
    let after = shop.until_sent_more(400).await?;
    ensure!(
        after.versions[other].answered == before.versions[other].answered,
        "{other} still answers: {:?}",
        after.versions
    );
    ensure!(
        after.versions[stable].answered > before.versions[stable].answered,
        "{stable} does not answer"
    );
    ensure!(
        after.lost == 0,
        "requests were lost: {:?} {:?}",
        after.failed,
        after.notes
    );
    Ok(after)
}
