//! Who gets a sidecar.

use anyhow::ensure;
use aviary_crds::status::{CauseStatus, Phase};
use aviary_e2e::harness::{Shop, Workload, weights};
use k8s_openapi::api::core::v1::Pod;

use super::theatre::Scene;

const POD: &str = "
apiVersion: v1
kind: Pod
metadata:
  name: NAME
  labels: {app: NAME, LABELS}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - name: app
    image: aviary.local/demo:dev
    args: [payment]
    resources:
      requests: {cpu: 1m}
";

pub(crate) async fn only_labelled_pods_of_labelled_namespaces_get_a_sidecar(
    scene: &Scene<'_>,
) -> anyhow::Result<()> {
    let shop = Shop::found(&scene.stage, &scene.namespace).await?;
    for (name, label) in [("plain", "a: b"), ("out", "aviary.dev/inject: \"false\"")] {
        apply(scene, name, label).await?;
    }
    let plain = shop.pods("app=plain").await?;
    ensure!(
        plain.first().is_some_and(has_sidecar),
        "a pod of a labelled namespace has no sidecar"
    );
    let out = shop.pods("app=out").await?;
    ensure!(
        out.first().is_some_and(|pod| !has_sidecar(pod)),
        "a pod that wants none has a sidecar"
    );

    shop.kubectl_ok(&["label", "namespace", &scene.namespace, "aviary.dev/inject-"])
        .await?;
    apply(scene, "outside", "a: b").await?;
    let outside = shop.pods("app=outside").await?;
    ensure!(
        outside.first().is_some_and(|pod| !has_sidecar(pod)),
        "a pod of another namespace has a sidecar"
    );
    Ok(())
}

pub(crate) async fn a_version_without_a_sidecar_gets_no_traffic(
    scene: &Scene<'_>,
) -> anyhow::Result<()> {
    let shop = scene.shop(&Workload::of_a_story()).await?;
    let mark = shop.record.mark();
    let template = r#"{"spec":{"template":{"metadata":{"labels":{"aviary.dev/inject":"false"}}}}}"#;
    shop.kubectl_ok(&["patch", "deployment/payment", "--patch", template])
        .await?;
    let failed = shop.until_phase(mark, Phase::Failed).await?.status;

    ensure!(failed.failure.map(|failure| failure.cause) == Some(CauseStatus::NotMeshed));
    let sent = weights(&shop.record.since(mark));
    ensure!(
        sent.iter().all(|weight| *weight == 0),
        "it was sent a weight: {sent:?}"
    );
    let note = shop.until_event("RolledBack").await?;
    ensure!(
        note.contains("no sidecar"),
        "the event does not say why: {note}"
    );
    let stats = shop.until_sent_more(200).await?;
    ensure!(
        stats.failed.total() == 0,
        "requests failed: {:?}",
        stats.notes
    );
    Ok(())
}

async fn apply(scene: &Scene<'_>, name: &str, label: &str) -> anyhow::Result<()> {
    let pod = scene
        .stage
        .names
        .write_into(&POD.replace("NAME", name).replace("LABELS", label));
    scene.stage.kubectl.apply(&scene.namespace, &pod).await?;
    Ok(())
}

fn has_sidecar(pod: &Pod) -> bool {
    let spec = pod.spec.clone().unwrap_or_default();
    let containers = spec
        .init_containers
        .unwrap_or_default()
        .into_iter()
        .chain(spec.containers);
    containers
        .into_iter()
        .any(|container| container.name == "aviary-proxy")
}
