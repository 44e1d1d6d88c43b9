//! What else happens in a cluster while people are served.

use anyhow::{Context, ensure};
use aviary_crds::status::Phase;
use aviary_e2e::harness::{Faults, Workload, condition};
use serde_json::Value;

use super::theatre::Scene;

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

/// They are spread by kube-proxy, and no check sees them: a person has to know.
pub(crate) async fn callers_outside_the_mesh_are_said_while_a_release_runs(
    scene: &Scene<'_>,
) -> anyhow::Result<()> {
    let workload = Workload::of_a_story().steps(&[(50, "60s"), (100, "6s")]);
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
    let mark = shop.record.mark();
    shop.release("v2", Faults::None).await?;
    let said = shop
        .until(mark, "OutsideCallers is True", |status| {
            condition(status, "OutsideCallers").is_some_and(|c| c.status == "True")
        })
        .await?
        .status;
    let condition = condition(&said, "OutsideCallers").context("no condition")?;
    ensure!(
        condition.message.contains("outside the mesh"),
        "{condition:?}"
    );
    shop.until_event("CallsFromOutside").await?;
    Ok(())
}
