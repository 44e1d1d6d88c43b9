//! Mistakes in a CanaryRollout.

use anyhow::{Context, ensure};
use aviary_crds::status::Phase;
use aviary_e2e::harness::{Shop, Workload, condition};
use serde_json::{Value, json};

use super::theatre::Scene;

pub(crate) async fn nonsense_is_refused_and_the_message_says_how_to_mend_it(
    scene: &Scene<'_>,
) -> anyhow::Result<()> {
    let shop = Shop::found(&scene.stage, &scene.namespace).await?;
    let steps = |weights: &[i32]| {
        weights
            .iter()
            .map(|weight| json!({"weight": weight}))
            .collect::<Value>()
    };
    let query = |text: &str| json!([{"name": "queue", "prometheus": {"query": text, "atMost": 1}}]);
    for (field, value, told) in [
        ("/stepz", json!([]), "unknown field \"spec.stepz\""),
        (
            "/steps",
            steps(&[10, 5, 100]),
            "weights must rise from step to step",
        ),
        (
            "/steps",
            steps(&[1, 50]),
            "the last step must have weight 100",
        ),
        ("/steps", steps(&[0, 100]), "spec.steps[0].weight"),
        (
            "/split",
            json!({"sticky": {"header": "x-user", "cookie": "user"}}),
            "exactly one of header and cookie",
        ),
        (
            "/steps",
            json!([{"weight": 100, "pause": {"for": "0s"}}]),
            "steps[].pause.for must be longer than 0s",
        ),
        (
            "/targetRef",
            json!({"kind": "StatefulSet", "name": "payment"}),
            "must be Deployment",
        ),
        (
            "/analysis/interval",
            json!("soon"),
            "spec.analysis.interval",
        ),
        (
            "/analysis/checks",
            query("sum(rate(requests_total[5m])"),
            "spec.analysis.checks[0].prometheus.query",
        ),
        (
            "/analysis/prometheus",
            json!({"address": "http://169.254.169.254"}),
            "spec.analysis.prometheus.address",
        ),
    ] {
        let rollout = Workload::of_a_story().with(field, value.clone()).rollout();
        let said = scene
            .stage
            .kubectl
            .try_apply(&scene.namespace, &rollout)
            .await?;
        ensure!(!said.ok, "{field}: {value} was accepted: {said}");
        ensure!(
            said.stderr.contains(told),
            "{field}: '{told}' is not in what kubectl said:\n{said}"
        );
    }
    ensure!(shop.record.mark() == 0, "something was stored");
    Ok(())
}

pub(crate) async fn a_rollout_without_its_deployment_or_service_waits_and_says_so(
    scene: &Scene<'_>,
) -> anyhow::Result<()> {
    let shop = Shop::found(&scene.stage, &scene.namespace).await?;
    let workload = Workload::of_a_story().replicas(1);
    let said = scene
        .stage
        .kubectl
        .apply(&scene.namespace, &workload.rollout())
        .await?;
    ensure!(
        said.warnings()
            .iter()
            .any(|warning| warning.contains("there is no Deployment payment")),
        "kubectl said:\n{said}"
    );

    let waits = shop.until(0, "a condition that names the Deployment", |status| {
        condition(status, "Ready").is_some_and(|ready| {
            ready.status == "False" && ready.message.contains("Deployment payment")
        })
    });
    let waits = waits.await?.status;
    let stalled = condition(&waits, "Stalled").context("no condition Stalled")?;
    ensure!(stalled.status == "True", "Stalled is {stalled:?}");

    scene
        .stage
        .kubectl
        .apply(&scene.namespace, &workload.payment())
        .await?;
    let ready = |status: &aviary_crds::CanaryRolloutStatus| {
        condition(status, "Ready").is_some_and(|ready| ready.status == "True")
    };
    let adopted = shop
        .until(0, "the Deployment is adopted", ready)
        .await?
        .status;
    ensure!(
        adopted.phase == Some(Phase::Stable),
        "the phase is {:?}",
        adopted.phase
    );
    Ok(())
}
