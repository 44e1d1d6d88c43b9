//! Namespaces that refuse plaintext, and policies that say who may call, with a real API server: what sidecars are told, and what people are.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use aviary_e2e::connection::Connection;
use aviary_e2e::control_plane::Shop;
use aviary_e2e::control_plane::pods::SIDECAR_STARTED;
use aviary_e2e::harness::{Waited, eventually};
use aviary_xds::client::Output;
use aviary_xds::{DeltaClient, Node, Request, grpc};
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Service};
use kube::api::ListParams;
use kube::{Api, ResourceExt};
use serde_json::{Value, json};
use tokio::sync::{mpsc, watch};
use tokio::task::AbortHandle;
use traffic_core::config::{Inbound, Snapshot};
use traffic_core::inbound::{Caller, Callers, Grant, Mtls, Unidentified};
use traffic_core::spiffe::TrustDomain;

use super::hall::Scene;

const PATIENCE: Duration = Duration::from_secs(180);

/// A pod's sidecar, as far as the operator sees it.
struct Sidecar {
    asks: mpsc::UnboundedSender<Ask>,
    shown: watch::Receiver<Arc<Snapshot>>,
    task: AbortHandle,
}

enum Ask {
    Accept,
    /// Somebody has called so long ago.
    Report(Vec<(Unidentified, Duration)>),
    Call(SocketAddr),
}

impl Drop for Sidecar {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Sidecar {
    async fn of(shop: &Shop<'_>, pod: &Pod) -> anyhow::Result<Sidecar> {
        let port = shop.bench.operator.xds();
        let connection = Connection::of(&shop.bench.client, port, pod).await?;
        let (asks, asked) = mpsc::unbounded_channel();
        let (show, shown) = watch::channel(Arc::default());
        let task = tokio::spawn(async move {
            if let Err(error) = serve(connection, asked, show).await {
                eprintln!("a sidecar ends: {error:#}");
            }
        });
        Ok(Sidecar {
            asks,
            shown,
            task: task.abort_handle(),
        })
    }

    fn ask(&self, ask: Ask) -> anyhow::Result<()> {
        self.asks.send(ask).ok().context("the sidecar has ended")
    }

    async fn until(&self, what: &str, mut is: impl FnMut(&Snapshot) -> bool) -> anyhow::Result<()> {
        let mut shown = self.shown.clone();
        let found = shown.wait_for(|snapshot| is(snapshot));
        let found = tokio::time::timeout(PATIENCE, found).await;
        let found = found.with_context(|| format!("never: {what}"))?;
        found.context("the sidecar has ended").map(drop)
    }

    async fn is_told(&self, mtls: Mtls) -> anyhow::Result<()> {
        let is = |inbound: &Inbound| inbound.mtls == mtls;
        self.until(&format!("{mtls:?}"), |shown| {
            shown.inbound.as_deref().is_some_and(is)
        })
        .await
    }

    fn mtls(&self) -> Option<Mtls> {
        self.shown.borrow().inbound.as_ref().map(|it| it.mtls)
    }
}

async fn serve(
    connection: Connection,
    mut asked: mpsc::UnboundedReceiver<Ask>,
    show: watch::Sender<Arc<Snapshot>>,
) -> anyhow::Result<()> {
    let mut client = DeltaClient::new(0.5);
    let (requests, to_server) = mpsc::unbounded_channel::<Request>();
    let to_server = futures::stream::unfold(to_server, |mut messages| async move {
        let message = messages.recv().await?;
        Some((message, messages))
    });
    for request in client.connected(&Node::default()).requests {
        requests.send(request)?;
    }
    let mut ads = grpc::Client::new(connection.channel());
    let answer = ads.delta_aggregated_resources(connection.signed(to_server)?);
    let mut responses = answer.await?.into_inner();
    loop {
        let mut output: Output = tokio::select! {
            response = responses.message() => {
                let response = response?.context("the stream ended")?;
                client.received(response, Instant::now())
            }
            ask = asked.recv() => match ask.context("nobody asks any more")? {
                Ask::Accept => client.accept_tls(),
                Ask::Report(seen) => client.report(&seen),
                Ask::Call(destination) => client.demand([destination]),
            },
        };
        loop {
            for request in output.requests {
                requests.send(request)?;
            }
            let Some((generation, snapshot)) = output.snapshot else {
                break;
            };
            show.send_replace(snapshot);
            output = client.installed(generation);
        }
    }
}

/// Three pods of `web` whose sidecars run.
async fn running<'a>(scene: &Scene<'a>) -> anyhow::Result<(Shop<'a>, Vec<Pod>)> {
    let shop = Shop::with_deployment(scene.bench, &scene.namespace, |web| {
        let metadata = &mut web["spec"]["template"]["metadata"];
        metadata["annotations"] = json!({SIDECAR_STARTED: ""});
        let app = &mut web["spec"]["template"]["spec"]["containers"][0];
        app["readinessProbe"] = json!({"httpGet": {"path": "/ready", "port": 8080}});
    })
    .await?;
    let pods: Api<Pod> = Api::namespaced(shop.bench.client.clone(), &shop.namespace);
    let pods = pods.list(&ListParams::default()).await?.items;
    ensure!(pods.len() == 3, "{} pods", pods.len());
    Ok((shop, pods))
}

fn address(pod: &Pod) -> anyhow::Result<IpAddr> {
    let ip = pod.status.as_ref().and_then(|status| status.pod_ip.clone());
    Ok(ip.context("the pod has no address")?.parse()?)
}

async fn label(shop: &Shop<'_>, mtls: &str) -> anyhow::Result<()> {
    let label = match mtls {
        "" => "aviary.dev/mtls-".to_owned(),
        mtls => format!("aviary.dev/mtls={mtls}"),
    };
    let args = ["label", "--overwrite", "namespace", &shop.namespace, &label];
    shop.kubectl(&args).await?;
    Ok(())
}

/// Waits for an Event of the namespace, found where its owner looks.
async fn event(shop: &Shop<'_>, reason: &str, parts: &[&str]) -> anyhow::Result<()> {
    let selector = "--field-selector=involvedObject.kind=Namespace,involvedObject.name=".to_owned()
        + &shop.namespace;
    let what = format!("an Event {reason}");
    let said = eventually(&what, PATIENCE, || async {
        let args = ["get", "events", &selector, "--output=json"];
        let events: Value = match shop.kubectl(&args).await {
            Ok(said) => serde_json::from_str(&said.stdout).unwrap_or_default(),
            Err(error) => return Waited::not_yet(error.to_string()),
        };
        let items = events["items"].as_array().cloned().unwrap_or_default();
        let says = |event: &Value| {
            let text = event["message"].as_str().unwrap_or_default();
            event["reason"] == reason && parts.iter().all(|part| text.contains(part))
        };
        if items.iter().any(says) {
            return Waited::There(());
        }
        let texts = items
            .iter()
            .map(|event| format!("{}: {}", event["reason"], event["message"]));
        Waited::not_yet(texts.collect::<Vec<_>>().join("\n"))
    });
    Ok(said.await?)
}

/// The namespaces that are written down.
async fn written(shop: &Shop<'_>) -> anyhow::Result<bool> {
    let maps: Api<ConfigMap> = Api::namespaced(shop.bench.client.clone(), "aviary-system");
    let map = maps.get_opt("aviary-mtls").await?;
    let data = map.and_then(|map| map.data).unwrap_or_default();
    Ok(data.contains_key(&shop.namespace))
}

pub(crate) async fn a_namespace_refuses_plaintext_once_nobody_calls_in_the_clear(
    scene: &Scene<'_>,
) -> anyhow::Result<()> {
    let (shop, pods) = running(scene).await?;
    let services: Api<Service> = Api::namespaced(shop.bench.client.clone(), &shop.namespace);
    let spec = services.get("web").await?.spec.unwrap_or_default();
    let destination = format!("{}:80", spec.cluster_ip.unwrap_or_default()).parse()?;
    label(&shop, "strict").await?;
    event(&shop, "StrictWaits", &["have not said who calls them"]).await?;

    let mut sidecars = Vec::new();
    for pod in &pods {
        let sidecar = Sidecar::of(&shop, pod).await?;
        sidecar.is_told(Mtls::Permissive).await?;
        let told = sidecar.shown.borrow().inbound.clone();
        let probes: Vec<String> = told
            .iter()
            .flat_map(|told| told.probes.iter().map(ToString::to_string))
            .collect();
        ensure!(probes == ["8080/ready"], "{probes:?}");
        sidecar.ask(Ask::Accept)?;
        sidecar.ask(Ask::Call(destination))?;
        sidecars.push(sidecar);
    }
    let [web, others @ ..] = &sidecars[..] else {
        anyhow::bail!("no sidecar");
    };
    for sidecar in others {
        sidecar.ask(Ask::Report(Vec::new()))?;
    }
    let port = 8080;
    let calls = |address: IpAddr, age| {
        let caller = Unidentified { address, port };
        Ask::Report(vec![(caller, Duration::from_secs(age))])
    };
    // A pod by its name, and whoever is none by its address.
    web.ask(calls(address(&pods[1])?, 0))?;
    let name = format!("pod {}/{}", shop.namespace, pods[1].name_any());
    let called = format!("port 8080 of pod {}", pods[0].name_any());
    event(&shop, "StrictWaits", &[&name, &called]).await?;
    web.ask(calls([192, 0, 2, 7].into(), 1))?;
    event(&shop, "StrictWaits", &["192.0.2.7 has called", &called]).await?;
    ensure!(web.mtls() == Some(Mtls::Permissive), "{:?}", web.mtls());
    ensure!(!written(&shop).await?, "it is not in force");

    // Ten minutes later.
    web.ask(calls([192, 0, 2, 7].into(), 600))?;
    for sidecar in &sidecars {
        sidecar.is_told(Mtls::Strict).await?;
        sidecar
            .until("endpoints that demand TLS", |shown| {
                let mut endpoints = shown.clusters.values().flat_map(|it| &it.endpoints);
                let demands = endpoints
                    .clone()
                    .all(|each| each.identity.as_ref().is_some_and(|it| it.demands));
                demands && endpoints.next().is_some()
            })
            .await?;
    }
    event(&shop, "PlaintextRefused", &[&shop.namespace]).await?;
    ensure!(written(&shop).await?, "it is in force and not written down");

    // New pods are closed until they are told more, and none goes around its sidecar.
    let pod = |annotations: Value| {
        json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": "late", "annotations": annotations},
            "spec": {"containers": [{
                "name": "app", "image": "shop.test/app:v1",
                "livenessProbe": {"grpc": {"port": 9090}},
            }]},
        })
        .to_string()
    };
    let create = [
        "create",
        "--dry-run=server",
        "--output=json",
        "--filename=-",
    ];
    let said = shop.try_kubectl(&create, &pod(json!({}))).await?;
    ensure!(said.ok, "{said}");
    let late: Value = serde_json::from_str(&said.stdout)?;
    let args = &late["spec"]["initContainers"][1]["args"];
    ensure!(
        *args == json!(["run", "--until-told=closed", "--probes=9090"]),
        "{args}"
    );
    let skips = json!({"aviary.dev/skip-inbound-ports": "9090"});
    let said = shop.try_kubectl(&create, &pod(skips)).await?;
    ensure!(
        !said.ok && said.stderr.contains("refuses plaintext"),
        "{said}"
    );

    // Whoever calls in the clear now takes nothing back; the label does, at once.
    web.ask(calls(address(&pods[1])?, 0))?;
    label(&shop, "").await?;
    for sidecar in &sidecars {
        sidecar.is_told(Mtls::Permissive).await?;
    }
    event(&shop, "PlaintextAccepted", &[&shop.namespace]).await?;
    let forgotten = eventually("it is not written down any more", PATIENCE, || async {
        match written(&shop).await {
            Ok(false) => Waited::There(()),
            Ok(true) => Waited::not_yet("it is"),
            Err(error) => Waited::not_yet(error.to_string()),
        }
    });
    forgotten.await?;
    label(&shop, "yes").await?;
    event(
        &shop,
        "UnknownMode",
        &["`yes`", "write strict or permissive"],
    )
    .await?;
    Ok(())
}

pub(crate) async fn a_policy_reaches_the_sidecars_of_the_pods_that_it_selects(
    scene: &Scene<'_>,
) -> anyhow::Result<()> {
    let (shop, pods) = running(scene).await?;
    let web = Sidecar::of(&shop, pods.first().context("no pod")?).await?;
    let until = async |callers: Callers| {
        web.until(&format!("{callers:?}"), |shown| {
            shown
                .inbound
                .as_ref()
                .is_some_and(|it| it.callers == callers)
        })
        .await
    };
    until(Callers::Anybody).await?;
    let policy = |name: &str, selector: Value, allow: Value| {
        json!({
            "apiVersion": "aviary.dev/v1alpha1", "kind": "CallerPolicy",
            "metadata": {"name": name}, "spec": {"selector": selector, "allow": allow},
        })
        .to_string()
    };
    shop.apply(&policy(
        "other",
        json!({"matchLabels": {"app": "other"}}),
        json!([]),
    ))
    .await?;
    shop.apply(&policy("closed", json!({}), json!([]))).await?;
    until(Callers::Only(vec![])).await?;
    let allow =
        json!([{"ports": [8080], "from": [{"namespace": "front", "serviceAccount": "client"}]}]);
    let web_only = json!({"matchLabels": {"app": "web"}});
    shop.apply(&policy("web", web_only, allow)).await?;
    let domain: TrustDomain = "cluster.local".parse()?;
    let client = Grant {
        ports: vec![8080],
        from: vec![Caller::account(&domain, "front", "client")?],
    };
    until(Callers::Only(vec![client])).await?;
    shop.kubectl(&["delete", "callerpolicies", "web"]).await?;
    until(Callers::Only(vec![])).await?;
    shop.kubectl(&["delete", "callerpolicies", "--all"]).await?;
    until(Callers::Anybody).await
}

pub(crate) async fn a_policy_that_makes_no_sense_is_refused_with_the_mend(
    scene: &Scene<'_>,
) -> anyhow::Result<()> {
    let shop = Shop::empty(scene.bench, &scene.namespace).await?;
    let dry = ["apply", "--dry-run=server", "--filename=-"];
    let apply = async |spec: Value| {
        let policy = json!({
            "apiVersion": "aviary.dev/v1alpha1", "kind": "CallerPolicy",
            "metadata": {"name": "p"}, "spec": spec,
        });
        shop.try_kubectl(&dry, &policy.to_string()).await
    };
    let from = json!([{"namespace": "front"}]);
    for good in [
        json!({"selector": {}}),
        json!({"selector": {"matchLabels": {"app": "web"}}, "allow": [{"from": from}]}),
    ] {
        let said = apply(good).await?;
        ensure!(said.ok, "{said}");
    }
    for (part, bad) in [
        ("spec.selector", json!({"allow": []})),
        (
            "name at least one caller",
            json!({"selector": {}, "allow": [{"from": []}]}),
        ),
        (
            "spec.allow[0].from",
            json!({"selector": {}, "allow": [{"ports": [80]}]}),
        ),
        (
            "for every ServiceAccount of the namespace, leave it out",
            json!({"selector": {}, "allow": [{"from": [{"namespace": "a", "serviceAccount": "*"}]}]}),
        ),
        (
            "spec.allow[0].from[0].namespace",
            json!({"selector": {}, "allow": [{"from": [{"namespace": "A/b"}]}]}),
        ),
        (
            "spec.allow[0].ports[0]",
            json!({"selector": {}, "allow": [{"ports": [65536], "from": from}]}),
        ),
        (
            "unknown field \"spec.deny\"",
            json!({"selector": {}, "deny": []}),
        ),
    ] {
        let said = apply(bad.clone()).await?;
        ensure!(!said.ok && said.stderr.contains(part), "{bad}: {said}");
    }
    Ok(())
}

/// A new operator has heard of nobody yet, and of the label only that it is there.
pub(crate) async fn a_restarted_operator_goes_on_to_refuse_plaintext(
    scene: &Scene<'_>,
) -> anyhow::Result<()> {
    let (shop, pods) = running(scene).await?;
    let mut sidecars = Vec::new();
    for pod in &pods {
        let sidecar = Sidecar::of(&shop, pod).await?;
        sidecar.is_told(Mtls::Permissive).await?;
        sidecar.ask(Ask::Accept)?;
        sidecar.ask(Ask::Report(Vec::new()))?;
        sidecars.push(sidecar);
    }
    label(&shop, "strict").await?;
    for sidecar in &sidecars {
        sidecar.is_told(Mtls::Strict).await?;
    }
    drop(sidecars);
    tokio::task::block_in_place(|| scene.bench.operator.kill());
    scene.bench.restart_operator().await?;
    let first = pods.first().context("no pod")?;
    let sidecar = Sidecar::of(&shop, first).await?;
    let told = |shown: &Snapshot| shown.inbound.is_some();
    sidecar.until("anything", told).await?;
    ensure!(sidecar.mtls() == Some(Mtls::Strict), "it was opened");
    // And what was asked for while it was away holds when it is back.
    drop(sidecar);
    tokio::task::block_in_place(|| scene.bench.operator.stop());
    let labelled = label(&shop, "permissive").await;
    scene.bench.restart_operator().await?;
    labelled?;
    let sidecar = Sidecar::of(&shop, first).await?;
    sidecar.is_told(Mtls::Permissive).await
}
