//! An application that the kernel kills for its memory, and that comes back in the same pod.

use anyhow::{Context, ensure};
use aviary_e2e::harness::{Shop, Waited, eventually};
use http::Request;
use k8s_openapi::api::core::v1::{ContainerStateTerminated, ContainerStatus, Pod};
use k8s_openapi::jiff::Timestamp;
use kube::Api;

use super::SOON;
use crate::stories::theatre::Scene;

/// A Service of its own, for what was sent to the one that is killed is lost.
const LEDGER: &str = r#"
apiVersion: v1
kind: Service
metadata: {name: ledger}
spec:
  selector: {part: ledger}
  ports: [{name: http, port: 8080}]
"#;

/// An order is held in memory whole: a large one is more than `small` may have.
const PODS: [(&str, &str); 2] = [("small", "limits: {memory: 32Mi}"), ("large", "limits: {}")];

fn ledger() -> String {
    let pods = PODS.map(|(name, limits)| {
        format!(
            r#"---
apiVersion: v1
kind: Pod
metadata: {{name: {name}, labels: {{part: ledger}}}}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - name: app
    image: aviary.local/demo:dev
    args: [payment, --version={name}]
    readinessProbe: {{httpGet: {{path: /healthz, port: 8080}}, periodSeconds: 1}}
    resources: {{requests: {{cpu: 1m}}, {limits}}}
"#
        )
    });
    LEDGER.to_owned() + &pods.concat()
}

const ACCOUNTANT: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: accountant, labels: {app: accountant}}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - name: app
    image: aviary.local/demo:dev
    args: [client, "--target=http://ledger:8080", --rate=20, --timeout=30s]
    readinessProbe: {httpGet: {path: /healthz, port: 9090}, periodSeconds: 1}
    resources: {requests: {cpu: 1m}}
"#;

/// Bytes.
const LARGE_ORDER: usize = 64 << 20;

pub(super) async fn an_application_that_is_out_of_memory_comes_back_behind_its_sidecar(
    scene: &Scene<'_>,
    shop: &Shop,
) -> anyhow::Result<()> {
    let pods: Api<Pod> = Api::namespaced(scene.stage.client.clone(), &scene.namespace);
    for (manifest, ready) in [
        (&*ledger(), &["pod/small", "pod/large"][..]),
        (ACCOUNTANT, &["pod/accountant"]),
    ] {
        let manifest = scene.stage.names.write_into(manifest);
        let kubectl = &scene.stage.kubectl;
        kubectl.apply(&scene.namespace, &manifest).await?;
        let wait = ["wait", "--for=condition=Ready", "--timeout=180s"];
        shop.kubectl_ok(&[&wait, ready].concat()).await?;
    }
    until_answered(shop, ["small", "large"], [0, 0]).await?;
    let before = container(&pods.get("small").await?, "aviary-proxy")?;

    let refusal = order(scene).await;
    let (of_pod, death) = until_killed_and_ready(&pods).await?;

    let sidecar = container(&of_pod, "aviary-proxy")?;
    ensure!(
        (sidecar.restart_count, &sidecar.container_id) == (0, &before.container_id),
        "the sidecar did not stay: {sidecar:?}"
    );
    ensure!(
        refusal.contains("502"),
        "the order has another answer: {refusal}"
    );
    let stats = shop.stats_of("accountant").await?;
    let answered = ["small", "large"].map(|of| stats.versions.get(of).map_or(0, |v| v.answered));
    let stats = until_answered(shop, ["small", "large"], answered).await?;
    // What it had when it was killed, and nothing from then on.
    let killed = death.as_second();
    let lost: Vec<i64> = stats
        .seconds
        .iter()
        .filter(|second| second.failed > 0)
        .map(|second| second.at)
        .collect();
    ensure!(
        lost.iter().all(|at| *at <= killed),
        "killed at {killed}, requests of {lost:?} failed: {:?}",
        stats.notes
    );
    ensure!(
        stats
            .notes
            .iter()
            .all(|note| ["status 502", "grpc-status 14"].contains(&&*note.what)),
        "{:?}",
        stats.notes
    );
    Ok(())
}

/// Sends what is too large; what became of it.
async fn order(scene: &Scene<'_>) -> String {
    let path = format!(
        "/api/v1/namespaces/{}/pods/small:8080/proxy/pay",
        scene.namespace
    );
    let order = Request::post(path)
        .body(vec![b'1'; LARGE_ORDER])
        .expect("names of Kubernetes make a path");
    match scene.stage.client.request_text(order).await {
        Ok(receipt) => receipt,
        Err(error) => format!("{error:?}"),
    }
}

/// Until each has answered more than so many.
async fn until_answered(
    shop: &Shop,
    versions: [&str; 2],
    than: [u64; 2],
) -> anyhow::Result<aviary_e2e::app::stats::Stats> {
    let look = || async {
        let stats = match shop.stats_of("accountant").await {
            Ok(stats) => stats,
            Err(error) => return Waited::not_yet(error),
        };
        let answered = versions.map(|of| stats.versions.get(of).map_or(0, |v| v.answered));
        match answered.iter().zip(than).all(|(now, than)| *now > than) {
            true => Waited::There(stats),
            false => Waited::not_yet(format!("{:?}, {:?}", stats.versions, stats.notes)),
        }
    };
    Ok(eventually("both pods answer", SOON, look).await?)
}

/// The pod as it is then, and when its application ended.
async fn until_killed_and_ready(pods: &Api<Pod>) -> anyhow::Result<(Pod, Timestamp)> {
    let look = || async {
        let pod = match pods.get("small").await {
            Ok(pod) => pod,
            Err(error) => return Waited::not_yet(error),
        };
        match came_back(&pod) {
            Some(death) => Waited::There((pod, death)),
            None => Waited::not_yet(format!("{:?}", container(&pod, "app"))),
        }
    };
    Ok(eventually("it was killed, and is ready again", SOON, look).await?)
}

/// Out of memory, in another container of the same pod, and ready since then.
fn came_back(pod: &Pod) -> Option<Timestamp> {
    let app = container(pod, "app").ok()?;
    let ContainerStateTerminated {
        reason,
        finished_at,
        ..
    } = app.last_state?.terminated?;
    let ready = pod.status.as_ref()?.conditions.as_ref()?;
    let ready = ready.iter().find(|condition| condition.type_ == "Ready")?;
    let death = finished_at?.0;
    let is_later = ready.last_transition_time.as_ref()?.0 >= death;
    (reason.as_deref() == Some("OOMKilled")
        && app.restart_count == 1
        && ready.status == "True"
        && is_later)
        .then_some(death)
}

fn container(pod: &Pod, name: &str) -> anyhow::Result<ContainerStatus> {
    let status = pod.status.as_ref().context("no status")?;
    let inits = status.init_container_statuses.iter().flatten();
    let mut all = inits.chain(status.container_statuses.iter().flatten());
    let of = all.find(|status| status.name == name);
    of.cloned().with_context(|| format!("no container {name}"))
}
