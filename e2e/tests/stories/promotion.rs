//! Good releases.

use anyhow::ensure;
use aviary_crds::status::Phase;
use aviary_e2e::app::stats::Kind;
use aviary_e2e::harness::{Faults, Workload, condition, shares, soaks, weights};

use super::theatre::Scene;

/// HTTP/1.1 keep-alive GET and POST and gRPC, over every weight change, the promotion and the end of the copy.
pub(crate) async fn a_good_release_is_promoted_step_by_step_and_no_request_fails(
    scene: &Scene<'_>,
) -> anyhow::Result<()> {
    let shop = scene.shop(&Workload::of_a_story().rate(200)).await?;
    let stable = shop.status().await?.stable.unwrap_or_default().revision;

    let mark = shop.record.mark();
    shop.release("v2", Faults::None).await?;
    let promoted = shop.until_promoted(mark).await?.status;

    let moments = shop.record.since(mark);
    let rising: Vec<i32> = weights(&moments)
        .into_iter()
        .filter(|weight| *weight > 0)
        .collect();
    ensure!(rising == [1, 10, 50, 100], "the weights were {rising:?}");
    let new = promoted.stable.unwrap_or_default().revision;
    ensure!(
        new != stable && Some(new) == promoted.canary.map(|canary| canary.revision),
        "the canary is not stable"
    );
    shop.until_no_copy().await?;

    let stats = shop.until_sent_more(400).await?;
    ensure!(
        stats.failed.total() == 0,
        "requests failed: {:?} {:?}",
        stats.failed,
        stats.notes
    );
    for kind in [Kind::Get, Kind::Post, Kind::Grpc] {
        ensure!(
            stats
                .kinds
                .get(&kind)
                .is_some_and(|count| count.sent > 1000),
            "too few {kind:?}: {:?}",
            stats.kinds
        );
    }
    let seen = shares(&soaks(&moments), &stats, "v2");
    ensure!(seen.len() == 4, "there were {} soaks: {seen:?}", seen.len());
    for share in &seen {
        ensure!(
            share.deviation().is_some_and(|points| points <= 1.0),
            "the caller saw {share:?}"
        );
    }
    let later = shop.until_sent_more(400).await?;
    ensure!(
        later.versions["v1"] == stats.versions["v1"],
        "v1 still answers: {:?}",
        later.versions
    );

    let status = shop.status().await?;
    for (type_, expected) in [
        ("Ready", "True"),
        ("Reconciling", "False"),
        ("Promoted", "True"),
        ("RolledBack", "False"),
    ] {
        let there = condition(&status, type_).map(|condition| condition.status.as_str());
        ensure!(
            there == Some(expected),
            "the condition {type_} is {there:?}"
        );
    }
    ensure!(status.phase == Some(Phase::Stable));
    ensure!(
        shop.deployment()
            .await?
            .spec
            .is_some_and(|spec| spec.paused != Some(true)),
        "the Deployment is still paused"
    );
    for reason in [
        "ReleaseStarted",
        "WeightRaised",
        "SoakStarted",
        "Promoting",
        "Promoted",
    ] {
        shop.until_event(reason).await?;
    }
    Ok(())
}
