//! Parts that are away for a while.

use std::time::Duration;

use anyhow::{Context, ensure};
use aviary_crds::status::{Phase, Verdict};
use aviary_e2e::app::stats::Stats;
use aviary_e2e::harness::{Faults, Waited, Workload, condition, eventually, soaks, weights};
use serde_json::json;

use super::theatre::Scene;

pub(crate) async fn a_killed_operator_goes_on_from_the_same_step_with_the_same_soak(
    scene: &Scene<'_>,
) -> anyhow::Result<()> {
    let shop = scene
        .shop(&Workload::of_a_story().steps(&[(10, "20s"), (100, "6s")]))
        .await?;
    let mark = shop.record.mark();
    shop.release("v2", Faults::None).await?;
    let before = shop.until_soaking(mark, 10).await?.status;

    let operator = "--selector=app.kubernetes.io/name=aviary-operator";
    let kill = [
        "delete",
        "pods",
        operator,
        "--namespace=aviary-system",
        "--grace-period=0",
        "--force",
    ];
    scene.stage.kubectl.ok(&kill).await?;
    shop.until_promoted(mark).await?;

    let moments = shop.record.since(mark);
    let soak = soaks(&moments)
        .into_iter()
        .find(|soak| soak.weight == 10)
        .context("there was no soak at 10 %")?;
    let since = before
        .phase_since
        .context("no phaseSince")?
        .0
        .as_millisecond();
    let of_the_step: Vec<_> = moments
        .iter()
        .filter(|m| m.status.phase == Some(Phase::Soaking))
        .collect();
    let again = of_the_step
        .iter()
        .filter(|m| m.status.step.as_ref().is_some_and(|step| step.index == 0));
    for moment in again {
        let there = moment
            .status
            .phase_since
            .as_ref()
            .map(|since| since.0.as_millisecond());
        ensure!(
            there == Some(since),
            "the soak began anew: {there:?} instead of {since}"
        );
    }
    let lasted = soak.to.context("the soak did not end")? - soak.from;
    ensure!(lasted >= 20_000, "the soak of 20 s lasted {lasted} ms");
    let rising: Vec<i32> = weights(&moments)
        .into_iter()
        .skip_while(|weight| *weight == 0)
        .take_while(|w| *w < 100)
        .collect();
    ensure!(
        rising == [10],
        "the weight was not held: {:?}",
        weights(&moments)
    );
    let stats = shop.until_sent_more(200).await?;
    ensure!(
        stats.failed.total() == 0,
        "requests failed: {:?}",
        stats.notes
    );
    Ok(())
}

pub(crate) async fn without_prometheus_a_release_holds_and_then_goes_on(
    scene: &Scene<'_>,
) -> anyhow::Result<()> {
    let workload = Workload::of_a_story()
        .steps(&[(50, "6s"), (100, "6s")])
        .with("/analysis/noEvidence", json!({"hold": "10m"}));
    let shop = scene.shop(&workload).await?;
    let mark = shop.record.mark();
    shop.release("v2", Faults::None).await?;
    shop.until_phase(mark, Phase::Starting).await?;
    tokio::task::block_in_place(|| scene.ground.take_prometheus())?;

    // Two windows after the soak was over.
    let soaking = shop.until_soaking(mark, 50).await?.status;
    let over = soaking
        .step
        .and_then(|step| step.soak_ends_at)
        .context("no end of the soak")?
        .0
        .as_millisecond();
    let held = shop.until(mark, "two windows after the soak", |status| {
        let late = status
            .verdicts
            .iter()
            .filter(|verdict| verdict.at.0.as_millisecond() > over);
        late.map(|verdict| verdict.at.0)
            .collect::<std::collections::BTreeSet<_>>()
            .len()
            >= 2
    });
    let held = held.await?.status;
    ensure!(
        held.phase == Some(Phase::Soaking),
        "it did not hold: {:?}",
        held.phase
    );
    ensure!(
        held.verdict == Some(Verdict::NoEvidence),
        "the verdict is {:?}",
        held.verdict
    );
    ensure!(
        held.canary
            .as_ref()
            .is_some_and(|canary| canary.failed_windows == 0),
        "windows failed"
    );
    let analysis = condition(&held, "Analysis").context("no condition Analysis")?;
    ensure!(
        analysis.status == "Unknown" && analysis.reason == "NoEvidence",
        "Analysis is {analysis:?}"
    );

    tokio::task::block_in_place(|| scene.ground.give_prometheus_back())?;
    shop.until_promoted(mark).await?;
    let stats = shop.until_sent_more(200).await?;
    ensure!(
        stats.failed.total() == 0,
        "requests failed: {:?}",
        stats.notes
    );
    Ok(())
}

/// Shorter than the node's lease: else Kubernetes itself takes all pods for lost, mesh or not.
const AWAY: Duration = Duration::from_secs(30);

pub(crate) async fn without_the_api_server_traffic_goes_on(
    scene: &Scene<'_>,
) -> anyhow::Result<()> {
    let shop = scene
        .shop(&Workload::of_a_story().steps(&[(50, "20s"), (100, "6s")]))
        .await?;
    let mark = shop.record.mark();
    shop.release("v2", Faults::None).await?;
    shop.until_soaking(mark, 50).await?;
    let address = shop.stats_address().await?;

    let frozen = scene.ground.freeze_api_server()?;
    let before = direct(&address).await?;
    let enough = before.sent + AWAY.as_secs() * 100;
    let goes_on = eventually(
        "the caller goes on",
        AWAY + Duration::from_secs(30),
        || async {
            match direct(&address).await {
                Ok(stats) if stats.sent >= enough => Waited::There(stats),
                Ok(stats) => Waited::not_yet(format!("{} of {enough} sent", stats.sent)),
                Err(error) => Waited::not_yet(error),
            }
        },
    );
    let after = goes_on.await?;
    drop(frozen);

    ensure!(
        after.failed.total() == 0,
        "requests failed: {:?}",
        after.notes
    );
    let share = after
        .share("v2", before.now, after.now)
        .map(|(share, _)| share * 100.0);
    ensure!(
        share.is_some_and(|share| (share - 50.0).abs() <= 1.0),
        "the share was {share:?}"
    );
    shop.until_promoted(mark).await?;
    let stats = shop.until_sent_more(200).await?;
    ensure!(
        stats.failed.total() == 0,
        "requests failed afterwards: {:?}",
        stats.notes
    );
    Ok(())
}

/// The caller's statistics without the API server.
async fn direct(address: &str) -> anyhow::Result<Stats> {
    let client = reqwest::Client::builder()
        .timeout(Duration::from_secs(5))
        .build()?;
    Ok(client.get(address).send().await?.json().await?)
}
