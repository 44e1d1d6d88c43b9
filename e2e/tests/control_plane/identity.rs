//! Certificates of pods, with the tokens and the rights of a real API server.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use aviary_e2e::connection::Connection;
use aviary_e2e::control_plane::Shop;
use aviary_e2e::harness::{Waited, eventually};
use aviary_xds::identity::grpc::Client as Identity;
use aviary_xds::identity::{self, SignRequest, Signed};
use aviary_xds::resources::INBOUND;
use aviary_xds::{DeltaClient, Kind, Node, Request, grpc};
use futures::StreamExt;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{Pod, Secret, Service};
use kube::Api;
use kube::api::{ListParams, Patch, PatchParams};
use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair};
use rustls::pki_types::{CertificateDer, UnixTime};
use serde_json::json;
use webpki::{EndEntityCert, KeyUsage};

use super::hall::Scene;

const PATIENCE: Duration = Duration::from_secs(60);

async fn pods(shop: &Shop<'_>) -> anyhow::Result<Vec<Pod>> {
    let pods: Api<Pod> = Api::namespaced(shop.bench.client.clone(), &shop.namespace);
    Ok(pods.list(&ListParams::default()).await?.items)
}

async fn connection(shop: &Shop<'_>, pod: &Pod) -> anyhow::Result<Connection> {
    let port = shop.bench.operator.xds();
    Ok(Connection::of(&shop.bench.client, port, pod).await?)
}

async fn signed(connection: &Connection) -> anyhow::Result<Signed> {
    let csr = CertificateParams::default().serialize_request(&KeyPair::generate()?)?;
    let request = connection.signed(SignRequest {
        csr: csr.der().to_vec(),
    })?;
    let answer = Identity::new(connection.channel()).sign(request).await?;
    Ok(identity::decode(answer.into_inner())?)
}

fn verify(signed: &Signed) -> anyhow::Result<()> {
    let certificates = |all: &[Vec<u8>]| -> Vec<CertificateDer<'static>> {
        all.iter().cloned().map(CertificateDer::from).collect()
    };
    let (chain, roots) = (certificates(&signed.chain), certificates(&signed.roots));
    let anchors = roots.iter().map(webpki::anchor_from_trusted_cert);
    let anchors = anchors.collect::<Result<Vec<_>, _>>()?;
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    let leaf = EndEntityCert::try_from(&chain[0])?;
    for usage in [KeyUsage::client_auth(), KeyUsage::server_auth()] {
        leaf.verify_for_usage(
            provider.signature_verification_algorithms.all,
            &anchors,
            &chain[1..],
            UnixTime::now(),
            usage,
            None,
            None,
        )?;
    }
    let names: Vec<&str> = leaf.valid_uri_names().collect();
    ensure!(names == [signed.id.as_str()], "{names:?}");
    Ok(())
}

pub(crate) async fn a_pod_gets_its_certificate_and_callers_are_told_that_it_accepts_tls(
    scene: &Scene<'_>,
) -> anyhow::Result<()> {
    let shop = scene.shop().await?;
    let pods = pods(&shop).await?;
    let [web, caller, ..] = &pods[..] else {
        anyhow::bail!("{} pods", pods.len());
    };
    let web_connection = connection(&shop, web).await?;
    let signed = signed(&web_connection).await?;
    verify(&signed)?;
    let id = format!("spiffe://cluster.local/ns/{}/sa/default", shop.namespace);
    ensure!(signed.id.as_str() == id, "{}", signed.id);

    // It says that it accepts TLS, and goes on to say so.
    let accepts = Request {
        type_url: Kind::Route.type_url().to_owned(),
        resource_names_subscribe: vec![INBOUND.to_owned()],
        ..Request::default()
    };
    let said = futures::stream::iter([accepts]).chain(futures::stream::pending());
    let mut ads = grpc::Client::new(web_connection.channel());
    let stream = ads
        .delta_aggregated_resources(web_connection.signed(said)?)
        .await?;
    let status = web.status.as_ref();
    let address = status.and_then(|status| status.pod_ip.clone());
    let address = address.context("the pod has no address")?;
    let told = tokio::time::timeout(PATIENCE, told(&shop, caller, &address, &id));
    let accepting = told.await.context("no caller is told")??;
    ensure!(
        accepting == BTreeSet::from([address]),
        "only one pod has said it: {accepting:?}"
    );
    drop(stream);
    Ok(())
}

/// What a caller is told: the addresses at which TLS is accepted, once this one is among them.
async fn told(
    shop: &Shop<'_>,
    caller: &Pod,
    address: &str,
    id: &str,
) -> anyhow::Result<BTreeSet<String>> {
    let services: Api<Service> = Api::namespaced(shop.bench.client.clone(), &shop.namespace);
    let spec = services.get("web").await?.spec.unwrap_or_default();
    let port = spec.ports.unwrap_or_default();
    let port = port.first().context("no port")?.port;
    let destination = format!("{}:{port}", spec.cluster_ip.unwrap_or_default());
    let destination: SocketAddr = destination.parse()?;
    let connection = connection(shop, caller).await?;
    let mut client = DeltaClient::new(0.5);
    let (requests, to_server) = tokio::sync::mpsc::unbounded_channel();
    let to_server = futures::stream::unfold(to_server, |mut messages| async move {
        let message: Request = messages.recv().await?;
        Some((message, messages))
    });
    let first = client.connected(&Node::default());
    let calls = client.demand([destination]);
    for request in first.requests.into_iter().chain(calls.requests) {
        requests.send(request)?;
    }
    let mut ads = grpc::Client::new(connection.channel());
    let answer = ads.delta_aggregated_resources(connection.signed(to_server)?);
    let mut responses = answer.await?.into_inner();
    loop {
        let response = responses.message().await?.context("the stream ended")?;
        let mut output = client.received(response, Instant::now());
        loop {
            for request in output.requests {
                requests.send(request)?;
            }
            let Some((generation, snapshot)) = output.snapshot else {
                break;
            };
            let endpoints = snapshot.clusters.values();
            let endpoints = endpoints.flat_map(|cluster| &cluster.endpoints);
            let mut accepting = BTreeSet::new();
            for endpoint in endpoints {
                let expected = endpoint.identity.as_ref();
                let expected = expected.context("an endpoint has no name")?;
                ensure!(&*expected.id == id, "{expected:?}");
                if expected.accepts {
                    accepting.insert(endpoint.address.ip().to_string());
                }
            }
            if accepting.contains(address) {
                return Ok(accepting);
            }
            output = client.installed(generation);
        }
    }
}

pub(crate) async fn another_issuer_is_taken_up_and_one_that_is_no_good_is_not(
    scene: &Scene<'_>,
) -> anyhow::Result<()> {
    let shop = scene.shop().await?;
    let pods = pods(&shop).await?;
    let connection = connection(&shop, pods.first().context("no pod")?).await?;
    let first = signed(&connection).await?;
    let secrets: Api<Secret> = Api::namespaced(shop.bench.client.clone(), "aviary-system");
    let own = secrets.get("aviary-workload-ca").await?;
    let put = async |data: serde_json::Value| {
        let patch = Patch::Merge(json!({"data": data}));
        secrets
            .patch("aviary-workload-ca", &PatchParams::default(), &patch)
            .await
    };
    let text = |text: String| ByteString(text.into_bytes());
    let key = KeyPair::generate()?;
    let mut root = CertificateParams::default();
    root.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let root = root.self_signed(&key)?;

    put(json!({"tls.key": text("x".to_owned())})).await?;
    let refused = said(&shop, &["Secret aviary-workload-ca", "tls.key is not PEM"]).await;
    let meanwhile = signed(&connection).await;
    let other = json!({
        "tls.crt": text(root.pem()), "tls.key": text(key.serialize_pem()), "ca.crt": text(root.pem()),
    });
    put(other).await?;
    let taken_up = said(&shop, &["another issuer signs for pods"]).await;
    let second = signed(&connection).await;
    put(serde_json::to_value(&own.data)?).await?;
    refused?;
    ensure!(meanwhile?.roots == first.roots, "the last good one signs");
    taken_up?;
    let second = second?;
    verify(&second)?;
    ensure!(second.roots == [root.der().to_vec()], "the other one signs");
    Ok(())
}

/// Waits until the operator's log has a line with all of these.
async fn said(shop: &Shop<'_>, parts: &[&str]) -> anyhow::Result<()> {
    let said = eventually("the log says it", PATIENCE, || async {
        let log = shop.bench.operator.end_of_log(5_000);
        let mut lines = log.lines();
        if lines.any(|line| parts.iter().all(|part| line.contains(part))) {
            Waited::There(())
        } else {
            Waited::not_yet("not said")
        }
    });
    Ok(said.await?)
}
