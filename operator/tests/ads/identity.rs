//! Certificates of pods, and who accepts TLS.

use std::time::Duration;

use aviary_operator::certificates::workload::{Issuer, LIFETIME, Terms, Workloads};
use aviary_operator::key::Key;
use aviary_proxy::control::{Link, Renewal};
use aviary_xds::identity::grpc::Client;
use aviary_xds::identity::{self, LONGEST_CSR, SignRequest, Signed};
use aviary_xds::resources::INBOUND;
use aviary_xds::{Kind, Request};
use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair, SanType};
use rustls_pki_types::{CertificateDer, UnixTime};
use time::OffsetDateTime;
use tokio_stream::StreamExt;
use tonic::{Code, Status};
use traffic_core::spiffe::TrustDomain;
use webpki::{EndEntityCert, KeyUsage};

use super::mesh::{Mesh, Proxy};

fn workloads(lifetime: Duration) -> Workloads {
    let workloads = without_issuer(lifetime);
    workloads.adopt(issuer());
    workloads
}

fn without_issuer(lifetime: Duration) -> Workloads {
    Workloads::new(Terms {
        trust_domain: TrustDomain::parse("cluster.local").unwrap(),
        lifetime,
    })
}

fn issuer() -> Issuer {
    let key = KeyPair::generate().unwrap();
    let mut root = CertificateParams::default();
    root.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let root = root.self_signed(&key).unwrap();
    let now = OffsetDateTime::now_utc();
    Issuer::parse(&root.pem(), &key.serialize_pem(), None, now).unwrap()
}

fn csr(params: CertificateParams) -> Vec<u8> {
    let key = KeyPair::generate().unwrap();
    params.serialize_request(&key).unwrap().der().to_vec()
}

async fn sign(mesh: &Mesh, token: Option<&str>, csr: Vec<u8>) -> Result<Signed, Status> {
    let mut request = tonic::Request::new(SignRequest { csr });
    if let Some(token) = token {
        let header = format!("Bearer {token}").parse().unwrap();
        request.metadata_mut().insert("authorization", header);
    }
    let mut client = Client::new(mesh.channel().await);
    let answer = client.sign(request).await?.into_inner();
    Ok(identity::decode(answer).unwrap())
}

fn plain() -> Vec<u8> {
    csr(CertificateParams::default())
}

#[tokio::test]
async fn a_pod_gets_a_certificate_of_its_own_service_account_that_webpki_verifies() {
    let mesh = Mesh::certifying(workloads(LIFETIME)).await;
    // It would like to be somebody else.
    let mut params = CertificateParams::new(vec!["payment.shop.svc".to_owned()]).unwrap();
    let other = "spiffe://cluster.local/ns/shop/sa/account-of-payment-1";
    let other = SanType::URI(other.try_into().unwrap());
    params.subject_alt_names.push(other);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let signed = sign(&mesh, Some("shop/web-1"), csr(params)).await.unwrap();
    let id = "spiffe://cluster.local/ns/shop/sa/account-of-web-1";
    assert_eq!(signed.id.as_str(), id);
    assert_eq!(signed.left, LIFETIME);

    let certificate = |der: &Vec<u8>| CertificateDer::from(der.clone());
    let leaf = certificate(&signed.chain[0]);
    let roots: Vec<_> = signed.roots.iter().map(certificate).collect();
    let anchors: Vec<_> = roots
        .iter()
        .map(|root| webpki::anchor_from_trusted_cert(root).unwrap())
        .collect();
    let leaf = EndEntityCert::try_from(&leaf).unwrap();
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    for usage in [KeyUsage::client_auth(), KeyUsage::server_auth()] {
        let algorithms = provider.signature_verification_algorithms.all;
        let between: Vec<_> = signed.chain[1..].iter().map(certificate).collect();
        leaf.verify_for_usage(
            algorithms,
            &anchors,
            &between,
            UnixTime::now(),
            usage,
            None,
            None,
        )
        .unwrap();
    }
    assert_eq!(leaf.valid_uri_names().collect::<Vec<_>>(), [id]);
    assert_eq!(leaf.valid_dns_names().count(), 0);
}

#[tokio::test]
async fn whoever_is_nobody_or_asks_for_nonsense_gets_no_certificate_and_a_sentence() {
    let mesh = Mesh::certifying(workloads(LIFETIME)).await;
    let refused = async |token, csr| sign(&mesh, token, csr).await.unwrap_err();
    let web = Some("shop/web-1");
    for (token, csr, code, text) in [
        (
            None,
            plain(),
            Code::Unauthenticated,
            "authorization: Bearer",
        ),
        (
            Some("stranger"),
            plain(),
            Code::Unauthenticated,
            "the token was refused",
        ),
        (
            Some("unreachable"),
            plain(),
            Code::Unavailable,
            "the API server is away",
        ),
        (
            web,
            b"x".to_vec(),
            Code::InvalidArgument,
            "it is no certification request",
        ),
        (
            web,
            vec![0; LONGEST_CSR + 1],
            Code::InvalidArgument,
            "it has 4097 bytes, the limit is 4096",
        ),
        (web, vec![0; 1 << 20], Code::OutOfRange, "too large"),
    ] {
        let status = refused(token, csr).await;
        assert_eq!(status.code(), code, "{status:?}");
        assert!(status.message().contains(text), "{status:?}");
    }
    sign(&mesh, web, plain()).await.unwrap();
}

#[tokio::test]
async fn a_pod_that_asks_without_end_is_stopped_and_others_are_not() {
    let mesh = Mesh::certifying(workloads(LIFETIME)).await;
    let mut codes = Vec::new();
    for _ in 0..21 {
        let signed = sign(&mesh, Some("shop/web-1"), plain()).await;
        codes.push(signed.map_or_else(|status| status.code(), |_| Code::Ok));
    }
    assert_eq!(codes[..20], [Code::Ok; 20]);
    assert_eq!(codes[20], Code::ResourceExhausted);
    sign(&mesh, Some("shop/web-2"), plain()).await.unwrap();
}

#[tokio::test]
async fn a_sidecar_gets_an_identity_and_renews_it_whatever_becomes_of_the_control_plane() {
    // The shortest wait between two is longer than half of this.
    let mut mesh = Mesh::certifying(workloads(Duration::from_secs(5))).await;
    let proxy = mesh.proxy("web-1").await;
    proxy.said(|news| *news == Renewal::Awaited).await;
    let id = "spiffe://cluster.local/ns/shop/sa/account-of-web-1".to_owned();
    let first = proxy.identified(|all| !all.is_empty()).await;
    assert_eq!(first, [(1, id.clone())]);
    let issued = |news: &Renewal| matches!(news, Renewal::Issued { .. });
    proxy.said(issued).await;
    mesh.restart().await;
    let second = proxy.identified(|all| all.len() == 2).await;
    assert_eq!(second[1], (2, id));
}

#[tokio::test]
async fn a_control_plane_that_gives_no_certificates_is_one_all_the_same() {
    let mut mesh = Mesh::serving(super::world(&[("web", 1)])).await;
    let mut proxy = mesh.proxy("web-1").await;
    proxy.said(|news| *news == Renewal::Unserved).await;
    proxy.call("web").await;
    proxy.shows("web", |_| true).await;
    // Another version of it takes its place.
    mesh.workloads = Some(workloads(LIFETIME));
    mesh.restart().await;
    proxy.identified(|all| all.len() == 1).await;
}

#[tokio::test]
async fn a_sidecar_asks_again_until_there_is_an_issuer() {
    let workloads = without_issuer(LIFETIME);
    let mesh = Mesh::certifying(workloads.clone()).await;
    let refused = sign(&mesh, Some("shop/web-2"), plain()).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unavailable);
    let proxy = Proxy::start("web-1", mesh.address(), mesh.root_pem(), Vec::new());
    proxy.is(Link::Connected).await;
    proxy.said(|news| *news == Renewal::Failed).await;
    workloads.adopt(issuer());
    proxy.identified(|all| all.len() == 1).await;
}

fn asking(subscribe: &[&str], unsubscribe: &[&str]) -> Request {
    let names = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
    Request {
        type_url: Kind::Route.type_url().to_owned(),
        resource_names_subscribe: names(subscribe),
        resource_names_unsubscribe: names(unsubscribe),
        ..Request::default()
    }
}

#[tokio::test]
async fn a_sidecar_says_that_it_accepts_tls_and_its_pod_is_known_for_it() {
    let mesh = Mesh::serving(super::world(&[("web", 1)])).await;
    let web = Key::new("shop", "web-1");
    let uid = |ads: &aviary_operator::ads::Ads| {
        let said = ads.accepting(&web);
        said.map(|(uid, _)| uid.to_string())
    };
    let own = Some("uid-of-web-1".to_owned());
    let (requests, outgoing) = tokio::sync::mpsc::channel(4);
    let outgoing = tokio_stream::wrappers::ReceiverStream::new(outgoing);
    let stream = mesh.stream("shop/web-1", outgoing).await;
    requests.send(asking(&["shop/web/80"], &[])).await.unwrap();
    mesh.until("entered", |ads| ads.is_connected(&web)).await;
    assert_eq!(uid(&mesh.ads), None);
    drop(mesh.ads.take_touched());
    requests.send(asking(&[INBOUND], &[])).await.unwrap();
    mesh.until("said", |ads| uid(ads) == own).await;
    assert!(mesh.ads.take_touched().pods.contains(&web));
    requests.send(asking(&[], &[INBOUND])).await.unwrap();
    mesh.until("taken back", |ads| uid(ads).is_none()).await;
    requests.send(asking(&[INBOUND], &[])).await.unwrap();
    mesh.until("said again", |ads| uid(ads) == own).await;
    drop((requests, stream));
    mesh.until("lost", |ads| !ads.is_connected(&web)).await;
    assert_eq!(
        uid(&mesh.ads),
        own,
        "the end of a stream takes nothing back"
    );

    // A new process in the pod, which has no certificate yet, and then has.
    let silent = mesh.silent_stream("shop/web-1").await;
    mesh.until("forgotten", |ads| uid(ads).is_none()).await;
    drop(silent);
    let first = tokio_stream::once(asking(&["shop/web/80", INBOUND], &[]));
    let _stream = mesh
        .stream("shop/web-1", first.chain(tokio_stream::pending()))
        .await;
    mesh.until("said at once", |ads| uid(ads) == own).await;
    mesh.ads.forget_pod(&web);
    assert_eq!(uid(&mesh.ads), None);
}
