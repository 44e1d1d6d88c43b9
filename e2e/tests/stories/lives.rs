//! How pods live and end.

mod memory;

use std::time::Duration;

use anyhow::{Context, ensure};
use aviary_e2e::harness::{Shop, Waited, Workload, eventually};
use k8s_openapi::api::core::v1::{ContainerStateTerminated, Pod};
use k8s_openapi::jiff::Timestamp;
use kube::api::EvictParams;
use kube::{Api, ResourceExt};

use super::theatre::Scene;

/// Calls the Service before its application starts, and once more by its application. Nothing tells its sidecar to end, and nobody tries again.
const JOB: &str = "
apiVersion: batch/v1
kind: Job
metadata: {name: report}
spec:
  backoffLimit: 0
  template:
    metadata: {labels: {app: report}}
    spec:
      restartPolicy: Never
      initContainers:
      - name: before
        image: aviary.local/demo:dev
        args: [ask]
        resources: {requests: {cpu: 1m}}
      containers:
      - name: app
        image: aviary.local/demo:dev
        args: [ask]
        resources: {requests: {cpu: 1m}}
";

/// Behind the Service, with an application that takes no connections where it is asked for. Its sidecar does.
const DEAD: &str = "
apiVersion: v1
kind: Pod
metadata:
  name: dead
  labels: {app: payment}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - name: http
    image: aviary.local/demo:dev
    args: [payment, --port=8081]
    readinessProbe: {httpGet: {path: /healthz, port: 8080}, periodSeconds: 1}
    resources: {requests: {cpu: 1m}}
  - name: tcp
    image: aviary.local/demo:dev
    args: [payment, --port=8082]
    readinessProbe: {tcpSocket: {port: 8080}, periodSeconds: 1}
    resources: {requests: {cpu: 1m}}
";

/// Pods on a busy machine.
const SOON: Duration = Duration::from_secs(180);

pub(crate) async fn pods_start_and_end_in_order_and_no_request_of_others_is_lost(
    scene: &Scene<'_>,
) -> anyhow::Result<()> {
    let shop = Shop::build(&scene.stage, &scene.namespace, &Workload::of_a_story()).await?;
    let pods: Api<Pod> = Api::namespaced(scene.stage.client.clone(), &scene.namespace);
    for manifest in [JOB, DEAD] {
        let (names, kubectl) = (&scene.stage.names, &scene.stage.kubectl);
        let manifest = names.write_into(manifest);
        kubectl.apply(&scene.namespace, &manifest).await?;
    }
    // Somebody ends one, and a drained node another.
    let serving = shop.pods("app=payment,pod-template-hash").await?;
    let [ended, evicted, ..] = &serving[..] else {
        anyhow::bail!("{} pods serve", serving.len());
    };
    pods.delete(&ended.name_any(), &Default::default()).await?;
    pods.evict(&evicted.name_any(), &EvictParams::default())
        .await?;

    let killed =
        memory::an_application_that_is_out_of_memory_comes_back_behind_its_sidecar(scene, &shop);
    tokio::try_join!(all_end(&shop, &pods, [ended, evicted]), killed)?;
    let stats = shop.until_sent_more(400).await?;
    ensure!(
        stats.failed.total() == 0,
        "requests failed: {:?}",
        stats.notes
    );
    Ok(())
}

async fn all_end(shop: &Shop, pods: &Api<Pod>, leaving: [&Pod; 2]) -> anyhow::Result<()> {
    let completed = ["wait", "job/report", "--for=condition=complete"];
    shop.kubectl_ok(&[&completed[..], &["--timeout=180s"]].concat())
        .await?;
    in_order(shop).await?;

    for gone in leaving {
        let pod = format!("pod/{}", gone.name_any());
        shop.kubectl_ok(&["wait", &pod, "--for=delete", "--timeout=180s"])
            .await?;
    }
    let whole = ["rollout", "status", "deployment/payment", "--timeout=180s"];
    shop.kubectl_ok(&whole).await?;
    looks_dead(shop, pods).await
}

/// The redirect, the sidecar, what calls before the application, the application; then the other way round.
async fn in_order(shop: &Shop) -> anyhow::Result<()> {
    let pods = shop.pods("app=report").await?;
    let [pod] = &pods[..] else {
        anyhow::bail!("{} pods, where nobody tries again", pods.len());
    };
    let [rules, proxy, before, app] = ["aviary-init", "aviary-proxy", "before", "app"]
        .map(|name| ended(pod, name).with_context(|| format!("{name} has not ended")));
    let (rules, proxy, before, app) = (rules?, proxy?, before?, app?);
    let times = [
        rules.ended,
        proxy.started,
        before.started,
        before.ended,
        app.started,
        app.ended,
        proxy.ended,
    ];
    ensure!(times.is_sorted(), "{times:?}");
    ensure!(proxy.code == 0, "the sidecar ended with {}", proxy.code);
    Ok(())
}

struct Life {
    started: Option<Timestamp>,
    ended: Option<Timestamp>,
    code: i32,
}

fn ended(pod: &Pod, container: &str) -> Option<Life> {
    let status = pod.status.as_ref()?;
    let inits = status.init_container_statuses.iter().flatten();
    let mut all = inits.chain(status.container_statuses.iter().flatten());
    let of = all.find(|status| status.name == container)?;
    let ContainerStateTerminated {
        started_at,
        finished_at,
        exit_code,
        ..
    } = of.state.as_ref()?.terminated.clone()?;
    Some(Life {
        started: started_at.map(|time| time.0),
        ended: finished_at.map(|time| time.0),
        code: exit_code,
    })
}

/// Its sidecar takes every connection, and its probes fail all the same.
async fn looks_dead(shop: &Shop, pods: &Api<Pod>) -> anyhow::Result<()> {
    let unhealthy = [
        "get",
        "events",
        "--field-selector=involvedObject.name=dead,reason=Unhealthy",
        "--output=jsonpath={.items[*].involvedObject.fieldPath}",
    ];
    let look = || async {
        match shop.kubectl_ok(&unhealthy).await {
            Ok(said)
                if ["{http}", "{tcp}"]
                    .iter()
                    .all(|of| said.stdout.contains(of)) =>
            {
                Waited::There(())
            }
            Ok(said) => Waited::not_yet(said),
            Err(error) => Waited::not_yet(error),
        }
    };
    eventually("both probes of the dead pod fail", SOON, look).await?;
    let status = pods.get("dead").await?.status.unwrap_or_default();
    let inits = status.init_container_statuses.iter().flatten();
    let is_ready: Vec<(String, bool)> = inits
        .chain(status.container_statuses.iter().flatten())
        .map(|container| (container.name.clone(), container.ready))
        .collect();
    let expected = [
        ("aviary-init", true),
        ("aviary-proxy", true),
        ("http", false),
        ("tcp", false),
    ];
    let expected = expected.map(|(name, ready)| (name.to_owned(), ready));
    ensure!(is_ready == expected, "{is_ready:?}");
    Ok(())
}
