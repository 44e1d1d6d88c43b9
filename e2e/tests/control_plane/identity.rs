//! Certificates of pods, with the tokens and the rights of a real API server.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context, ensure};
use aviary_e2e::connection::Connection;
use aviary_e2e::control_plane::Shop;
use aviary_e2e::harness::{Waited, eventually};
use aviary_xds::identity::grpc::Client as Identity;
use aviary_xds::identity::{self, SignRequest, Signed};
use aviary_xds::resources::INBOUND;
use aviary_xds::{Kind, Request, grpc};
use futures::StreamExt;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use kube::api::{Patch, PatchParams};
use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair};
use rustls::pki_types::{CertificateDer, UnixTime};
use serde_json::json;
use traffic_core::config::Snapshot;
use webpki::{EndEntityCert, KeyUsage};

use super::caller::{self, connection, pods};
use super::hall::Scene;

const PATIENCE: Duration = Duration::from_secs(180);

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
    let accepting = caller::told(&shop, caller, |snapshot| accepting(snapshot, &address, &id));
    let accepting = accepting.await?;
    ensure!(
        accepting == BTreeSet::from([address]),
        "only one pod has said it: {accepting:?}"
    );
    drop(stream);
    Ok(())
}

/// The addresses at which TLS is accepted, once `address` is among them; everybody there is `id`.
fn accepting(
    snapshot: &Snapshot,
    address: &str,
    id: &str,
) -> anyhow::Result<Option<BTreeSet<String>>> {
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
    Ok(accepting.contains(address).then_some(accepting))
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
