//! What else happens in a cluster while people are served.

use std::time::Duration;

use anyhow::{Context, ensure};
use aviary_crds::status::Phase;
use aviary_e2e::harness::{Faults, Waited, Workload, condition, eventually, shares, soaks};
use serde_json::Value;

use super::theatre::Scene;

/// Pods on a busy machine.
const STARTS: Duration = Duration::from_secs(180);

/// Whoever calls through the mesh is sent to pods that are there, whatever Deployment they belong to.
pub(crate) async fn a_deployment_that_is_recreated_with_another_version_loses_no_request(
    scene: &Scene<'_>,
) -> anyhow::Result<()> {
    let workload = Workload::of_a_story();
    let shop = scene.shop(&workload).await?;
    let mark = shop.record.mark();
    let before = shop.status().await?.stable.context("no stable revision")?;

    let got = shop
        .kubectl_ok(&["get", "deployment/payment", "--output=json"])
        .await?;
    let mut another: Value = serde_json::from_str(&got.stdout)?;
    another["spec"]["template"]["spec"]["containers"][0]["env"] =
        serde_json::json!([{"name": "VERSION", "value": "v2"}]);
    for (parent, field) in [
        ("/metadata", "uid"),
        ("/metadata", "resourceVersion"),
        ("/metadata", "labels"),
        ("", "status"),
    ] {
        let parent = another.pointer_mut(parent).context("no such part")?;
        parent.as_object_mut().context("no object")?.remove(field);
    }
    // Its pods stay, so there is always somebody who can answer.
    shop.kubectl_ok(&["delete", "deployment/payment", "--cascade=orphan"])
        .await?;
    scene
        .stage
        .kubectl
        .apply(&scene.namespace, &another.to_string())
        .await?;

    let adopted = shop
        .until(mark, "what serves now is stable", |status| {
            let stable = status.stable.as_ref();
            status.phase == Some(Phase::Stable)
                && stable.is_some_and(|stable| stable.revision != before.revision)
        })
        .await?
        .status;
    ensure!(
        adopted.weight.is_none_or(|weight| weight.sent == 0),
        "all of it was taken for a canary"
    );
    shop.until_event("Recreated").await?;
    let first = shop.until_sent_more(400).await?;
    let then = shop.until_sent_more(400).await?;
    ensure!(
        then.versions["v1"].answered == first.versions["v1"].answered,
        "v1 still answers: {:?}",
        then.versions
    );
    ensure!(
        then.failed.total() == 0,
        "requests failed: {:?}",
        then.notes
    );
    Ok(())
}

/// kube-proxy brings them to any pod, and the pod that they come to picks the revision.
pub(crate) async fn callers_outside_the_mesh_are_split_by_weight(
    scene: &Scene<'_>,
) -> anyhow::Result<()> {
    let workload = Workload::of_a_story().rate(200).steps(&[
        (1, "12s"),
        (10, "12s"),
        (50, "12s"),
        (100, "6s"),
    ]);
    let shop = scene.shop(&workload).await?;
    let outsider = workload
        .client()
        .replace("name: client", "name: outsider")
        .replace(
            "labels: {app: client}",
            "labels: {app: outsider, aviary.dev/inject: \"false\"}",
        )
        .replace("matchLabels: {app: client}", "matchLabels: {app: outsider}");
    let outsider = scene.stage.names.write_into(&outsider);
    scene
        .stage
        .kubectl
        .apply(&scene.namespace, &outsider)
        .await?;
    let calls = || async {
        match shop.stats_of("outsider").await {
            Ok(stats) if stats.sent > 400 => Waited::There(()),
            Ok(stats) => Waited::not_yet(format!("{} sent", stats.sent)),
            Err(error) => Waited::not_yet(error),
        }
    };
    eventually("the outsider calls", STARTS, calls).await?;

    let mark = shop.record.mark();
    shop.release("v2", Faults::None).await?;
    shop.until_promoted(mark).await?;
    let moments = shop.record.since(mark);
    let stats = shop.stats_of("outsider").await?;
    let seen = shares(&soaks(&moments), &stats, "v2");
    ensure!(seen.len() == 4, "there were {} soaks: {seen:?}", seen.len());
    for share in &seen {
        ensure!(
            share.deviation().is_some_and(|points| points <= 1.0),
            "the outsider saw {share:?}"
        );
    }
    for moment in &moments {
        let said = condition(&moment.status, "OutsideCallers");
        ensure!(
            said.is_none_or(|said| said.status != "True"),
            "some were not split: {said:?}"
        );
    }
    Ok(())
}
