use std::sync::{Arc, Mutex};

use aws_lc_rs::encoding::{AsDer, EcPrivateKeyRfc5915Der};
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use k8s_openapi::ByteString;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose, SanType,
};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivateSec1KeyDer};
use time::Duration as Span;
use traffic_core::spiffe::TrustDomain;
use webpki::{EndEntityCert, KeyUsage};
use x509_parser::extensions::{GeneralName, ParsedExtension};

use super::super::testing::{Server, client};
use super::csr::tests::request;
use super::issuer::verify;
use super::*;

const ID: &str = "spiffe://cluster.local/ns/shop/sa/web";

fn terms() -> Terms {
    Terms {
        trust_domain: TrustDomain::parse("cluster.local").unwrap(),
        lifetime: LIFETIME,
    }
}

fn at(seconds: i64) -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp(1_800_000_000 + seconds).unwrap()
}

fn csr() -> Vec<u8> {
    request(&KeyPair::generate().unwrap(), CertificateParams::default())
}

/// An authority, signed by the one above it or by itself.
struct Ca {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Ca {
    fn params(name: &str) -> CertificateParams {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.not_before = at(-3600);
        params.not_after = at(10 * 24 * 3600);
        params
    }

    fn root(name: &str) -> Ca {
        let key = KeyPair::generate().unwrap();
        Ca {
            issuer: CertifiedIssuer::self_signed(Ca::params(name), key).unwrap(),
        }
    }

    fn below(&self, params: CertificateParams) -> Ca {
        let key = KeyPair::generate().unwrap();
        Ca {
            issuer: CertifiedIssuer::signed_by(params, key, &self.issuer).unwrap(),
        }
    }

    fn pem(&self) -> String {
        self.issuer.pem()
    }

    fn key(&self) -> String {
        self.issuer.key().serialize_pem()
    }

    fn parsed(&self, certificates: &str, roots: Option<&str>) -> Result<Issuer, IssuerError> {
        Issuer::parse(certificates, &self.key(), roots, at(0))
    }
}

fn workloads(issuer: Issuer) -> Workloads {
    let workloads = Workloads::new(terms());
    workloads.adopt(issuer);
    workloads
}

fn verified(signed: &Signed, now: OffsetDateTime) -> Result<(), webpki::Error> {
    let certificates = |all: &[Vec<u8>]| -> Vec<CertificateDer<'static>> {
        all.iter().cloned().map(CertificateDer::from).collect()
    };
    let (chain, roots) = (certificates(&signed.chain), certificates(&signed.roots));
    for usage in [KeyUsage::client_auth(), KeyUsage::server_auth()] {
        verify(&chain[0], &chain[1..], &roots, usage, now)?;
    }
    Ok(())
}

#[test]
fn a_pod_gets_a_certificate_of_its_service_account_that_both_ends_can_verify() {
    let root = Ca::root("r");
    let workloads = workloads(root.parsed(&root.pem(), None).unwrap());
    let signed = workloads.sign("shop", "web", &csr(), at(0)).unwrap();
    assert_eq!(signed.id.as_str(), ID);
    assert_eq!(signed.left, LIFETIME);
    assert_eq!(signed.chain.len(), 1, "a root need not be sent");
    let leaf = CertificateDer::from(signed.chain[0].clone());
    let names: Vec<_> = EndEntityCert::try_from(&leaf)
        .unwrap()
        .valid_uri_names()
        .map(str::to_owned)
        .collect();
    assert_eq!(names, [ID]);
    verified(&signed, at(0)).unwrap();
    verified(&signed, at(24 * 3600 - 1)).unwrap();
    // A clock that is a little behind is no obstacle, and one that is far off is.
    verified(&signed, at(-240)).unwrap();
    verified(&signed, at(-3600)).unwrap_err();
    verified(&signed, at(24 * 3600 + 1)).unwrap_err();
    let other = Ca::root("r");
    let strange = Signed {
        roots: vec![other.issuer.der().to_vec()],
        ..signed.clone()
    };
    verified(&strange, at(0)).unwrap_err();
    let again = workloads.sign("shop", "web", &csr(), at(0)).unwrap();
    let serial = |signed: &Signed| {
        let (_, leaf) = x509_parser::parse_x509_certificate(&signed.chain[0]).unwrap();
        leaf.serial.clone()
    };
    assert_ne!(serial(&signed), serial(&again));
}

/// What somebody asks for who wants more.
fn greedy() -> CertificateParams {
    let mut params =
        CertificateParams::new(vec!["payment.shop.svc".to_owned(), "10.0.0.1".to_owned()]).unwrap();
    let admin = "spiffe://cluster.local/ns/kube-system/sa/admin";
    params
        .subject_alt_names
        .push(SanType::URI(admin.try_into().unwrap()));
    params
        .distinguished_name
        .push(DnType::CommonName, "aviary-operator");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::Any];
    params
}

#[test]
fn nothing_but_the_key_of_a_request_is_used() {
    let root = Ca::root("r");
    let workloads = workloads(root.parsed(&root.pem(), None).unwrap());
    let key = KeyPair::generate().unwrap();
    let csr = request(&key, greedy());
    let signed = workloads.sign("shop", "web", &csr, at(0)).unwrap();
    let (_, leaf) = x509_parser::parse_x509_certificate(&signed.chain[0]).unwrap();
    assert_eq!(leaf.subject().iter().count(), 0);
    assert_eq!(
        leaf.public_key().subject_public_key.data,
        rcgen::PublicKeyData::der_bytes(&key)
    );
    let constraints = leaf.basic_constraints().unwrap().unwrap().value;
    assert!(!constraints.ca);
    let names = leaf.subject_alternative_name().unwrap().unwrap();
    assert!(names.critical);
    assert_eq!(names.value.general_names, [GeneralName::URI(ID)]);
    let usage = leaf.key_usage().unwrap().unwrap().value;
    assert!(usage.digital_signature() && !usage.key_cert_sign());
    let extended = leaf.extended_key_usage().unwrap().unwrap().value;
    assert!(extended.client_auth && extended.server_auth && !extended.any);
    let known = |extension: &ParsedExtension<'_>| {
        matches!(
            extension,
            ParsedExtension::AuthorityKeyIdentifier(_)
                | ParsedExtension::SubjectAlternativeName(_)
                | ParsedExtension::KeyUsage(_)
                | ParsedExtension::ExtendedKeyUsage(_)
                | ParsedExtension::SubjectKeyIdentifier(_)
                | ParsedExtension::BasicConstraints(_)
        )
    };
    assert!(
        leaf.extensions()
            .iter()
            .all(|each| known(each.parsed_extension()))
    );
    verified(&signed, at(0)).unwrap();
}

#[test]
fn nobody_gets_a_certificate_for_a_request_that_is_no_good_or_without_an_issuer() {
    let root = Ca::root("r");
    let with = workloads(root.parsed(&root.pem(), None).unwrap());
    let refused = |workloads: &Workloads, csr: &[u8], account: &str| {
        let refusal = workloads.sign("shop", account, csr, at(0)).unwrap_err();
        (refusal.reason(), refusal.to_string())
    };
    let (reason, text) = refused(&with, b"x", "web");
    assert_eq!(reason, "request");
    assert_eq!(
        text,
        "the request: it is no certification request (PKCS #10, DER)"
    );
    assert_eq!(refused(&with, &csr(), "a/b").0, "name");
    let without = Workloads::new(terms());
    assert_eq!(refused(&without, &csr(), "web").0, "no_issuer");
    assert_eq!(without.expires_at(), None);
}

#[test]
fn nothing_holds_longer_than_what_it_was_signed_with() {
    let root = Ca::root("r");
    let mut params = Ca::params("i");
    params.not_after = at(3600);
    let intermediate = root.below(params);
    let issuer = intermediate
        .parsed(&intermediate.pem(), Some(&root.pem()))
        .unwrap();
    let workloads = workloads(issuer);
    assert_eq!(workloads.expires_at(), Some(at(3600).unix_timestamp()));
    let sign = |now| workloads.sign("shop", "web", &csr(), now);
    let signed = sign(at(0)).unwrap();
    assert_eq!(signed.left, Duration::from_secs(3600));
    verified(&signed, at(3599)).unwrap();
    assert_eq!(sign(at(3600)).unwrap_err().reason(), "expired");
    let late = intermediate.parsed(&intermediate.pem(), Some(&root.pem()));
    drop(late.unwrap());
    let expired = Issuer::parse(
        &intermediate.pem(),
        &intermediate.key(),
        Some(&root.pem()),
        at(3601),
    );
    assert_eq!(expired.err().unwrap().to_string(), "tls.crt has expired");
}

#[test]
fn an_intermediate_is_sent_with_the_leaf_and_the_root_is_not() {
    let root = Ca::root("r");
    let upper = root.below(Ca::params("u"));
    let lower = upper.below(Ca::params("l"));
    let with_root = [lower.pem(), upper.pem(), root.pem()].concat();
    let without = [lower.pem(), upper.pem()].concat();
    for (certificates, roots) in [
        (&with_root, None),
        (&with_root, Some(root.pem())),
        (&without, Some(root.pem())),
        // cert-manager leaves it empty if it does not know the root.
        (&with_root, Some(String::new())),
    ] {
        let issuer = lower.parsed(certificates, roots.as_deref()).unwrap();
        let signed = workloads(issuer)
            .sign("shop", "web", &csr(), at(0))
            .unwrap();
        let [_, one, two] = &signed.chain[..] else {
            panic!("{} certificates", signed.chain.len());
        };
        assert_eq!(
            [one, two],
            [lower.issuer.der(), upper.issuer.der()].map(|der| der.as_ref())
        );
        assert_eq!(signed.roots, [root.issuer.der().to_vec()]);
        verified(&signed, at(0)).unwrap();
    }
}

#[test]
fn a_root_beside_the_issuers_own_is_trusted_too() {
    let (old, new) = (Ca::root("old"), Ca::root("new"));
    let roots = [old.pem(), new.pem()].concat();
    let issuer = old.parsed(&old.pem(), Some(&roots)).unwrap();
    let signed = workloads(issuer)
        .sign("shop", "web", &csr(), at(0))
        .unwrap();
    assert_eq!(signed.chain.len(), 1);
    assert_eq!(
        signed.roots,
        [old.issuer.der().to_vec(), new.issuer.der().to_vec()]
    );
}

#[test]
fn an_issuer_that_nobody_could_verify_is_refused_with_the_key_of_the_secret() {
    let root = Ca::root("r");
    let intermediate = root.below(Ca::params("i"));
    let problem = |ca: &Ca, certificates: &str, roots: Option<&str>| {
        let refused = ca.parsed(certificates, roots);
        crate::text::chain(&refused.err().expect("it is of no use"))
    };
    let text = problem(&intermediate, &intermediate.pem(), None);
    assert!(text.contains("there is no ca.crt"), "{text}");
    let text = problem(
        &intermediate,
        &intermediate.pem(),
        Some(&Ca::root("x").pem()),
    );
    assert!(text.contains("roots in ca.crt"), "{text}");
    let text = problem(&root, "x", None);
    assert!(text.starts_with("tls.crt is not PEM"), "{text}");
    let text = problem(&root, &intermediate.pem(), Some(&root.pem()));
    assert!(
        text.starts_with("tls.key is not the key of tls.crt"),
        "{text}"
    );
    let text = problem(
        &root,
        &root.pem(),
        Some("-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n"),
    );
    assert!(text.starts_with("ca.crt is not PEM"), "{text}");
    let none = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    let text = problem(&root, &root.pem(), Some(none));
    assert!(
        text.starts_with("ca.crt has a certificate that cannot be read"),
        "{text}"
    );

    // One that is no authority, and one that may sign for nobody's use of it.
    let mut params = Ca::params("leaf");
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = Vec::new();
    let leaf = root.below(params);
    let text = problem(&leaf, &leaf.pem(), Some(&root.pem()));
    assert!(text.contains("cannot be verified"), "{text}");
    let mut params = Ca::params("servers");
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let servers = root.below(params);
    let text = problem(&servers, &servers.pem(), Some(&root.pem()));
    assert!(text.contains("cannot be verified"), "{text}");
}

/// Its keys are PKCS #1 or SEC 1, unless told otherwise.
#[test]
fn a_key_in_the_form_of_cert_manager_is_read() {
    let key = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).unwrap();
    let sec1: EcPrivateKeyRfc5915Der<'_> = key.private_key().as_der().unwrap();
    let sec1 = sec1.as_ref().to_vec();
    let pem = format!(
        "-----BEGIN EC PRIVATE KEY-----\n{}\n-----END EC PRIVATE KEY-----\n",
        STANDARD.encode(&sec1)
    );
    PrivateKeyDer::from_pem_slice(pem.as_bytes()).unwrap();
    let key = PrivateKeyDer::from(PrivateSec1KeyDer::from(sec1));
    let key = KeyPair::try_from(&key).unwrap();
    let root = Ca::params("r").self_signed(&key).unwrap();
    let issuer = Issuer::parse(&root.pem(), &pem, Some(&root.pem()), at(0)).unwrap();
    let signed = workloads(issuer)
        .sign("shop", "web", &csr(), at(0))
        .unwrap();
    verified(&signed, at(0)).unwrap();
}

async fn load(server: &Arc<Mutex<Server>>) -> Result<Issuer, SecretError> {
    let shared = WorkloadSecret {
        now: OffsetDateTime::now_utc(),
    };
    shared::load_or_create(client(server), "aviary-system", &shared).await
}

#[tokio::test]
async fn two_operators_that_start_at_once_have_the_same_issuer() {
    let first = Arc::new(Mutex::new(Server::default()));
    let made = load(&first).await.unwrap();
    let stored = first.lock().unwrap().stored.clone().unwrap();
    assert_eq!(stored.metadata.name.as_deref(), Some("aviary-workload-ca"));
    let keys: Vec<String> = stored.data.clone().unwrap().into_keys().collect();
    assert_eq!(keys, ["ca.crt", "tls.crt", "tls.key"]);
    let second = Arc::new(Mutex::new(Server {
        faster: Some(stored),
        ..Server::default()
    }));
    let found = load(&second).await.unwrap();
    assert!(found.is_same(&made));
    let left = made.expires_at() - OffsetDateTime::now_utc();
    assert!(left > Span::days(3000), "{left}");
}

#[tokio::test]
async fn a_secret_that_is_no_good_is_named_with_its_key_and_never_written_to() {
    let root = Ca::root("r");
    let texts = [("tls.crt", root.pem()), ("ca.crt", root.pem())];
    let server = Arc::new(Mutex::new(Server {
        stored: Some(shared::secret(names::WORKLOAD_CA_SECRET, texts)),
        ..Server::default()
    }));
    let error = load(&server).await.err().unwrap().to_string();
    assert!(
        error.starts_with("Secret aviary-workload-ca: has no 'tls.key'"),
        "{error}"
    );
    assert_eq!(server.lock().unwrap().calls, [http::Method::GET]);
}

#[test]
fn a_change_of_the_secret_is_taken_up_and_one_that_is_no_good_is_not() {
    let now = OffsetDateTime::now_utc();
    let root = |name: &str| {
        let mut params = Ca::params(name);
        params.not_before = now - Span::HOUR;
        params.not_after = now + Span::DAY;
        let key = KeyPair::generate().unwrap();
        let issuer = CertifiedIssuer::self_signed(params, key).unwrap();
        Ca { issuer }
    };
    let secret = |ca: &Ca| {
        let texts = [("tls.crt", ca.pem()), ("tls.key", ca.key())];
        shared::secret(names::WORKLOAD_CA_SECRET, texts)
    };
    let (old, new) = (root("old"), root("new"));
    let (workloads, mut said) = (Workloads::new(terms()), String::new());
    let signs = |workloads: &Workloads| {
        let signed = workloads.sign("shop", "web", &csr(), now).unwrap();
        verified(&signed, now).unwrap();
        signed.roots[0].clone()
    };
    workloads.take(&secret(&old), &mut said);
    assert_eq!(signs(&workloads), old.issuer.der().to_vec());
    let mut bad = secret(&new);
    let data = bad.data.as_mut().unwrap();
    data.insert("tls.key".to_owned(), ByteString(b"x".to_vec()));
    workloads.take(&bad, &mut said);
    assert!(
        said.contains("Secret aviary-workload-ca") && said.contains("tls.key is not PEM"),
        "{said}"
    );
    assert_eq!(signs(&workloads), old.issuer.der().to_vec());
    workloads.take(&secret(&new), &mut said);
    assert_eq!(signs(&workloads), new.issuer.der().to_vec());
    assert_eq!(said, "");
}

#[test]
fn what_is_issued_and_refused_is_counted_by_reason() {
    let root = Ca::root("r");
    let workloads = workloads(root.parsed(&root.pem(), None).unwrap());
    let mut registry = Registry::default();
    workloads.register(&mut registry);
    workloads.sign("shop", "web", &csr(), at(0)).unwrap();
    let refused = workloads.sign("shop", "web", b"", at(0)).unwrap_err();
    workloads.refused(&refused);
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
    for line in [
        "aviary_operator_workload_certificates_issued_total 1",
        r#"aviary_operator_workload_certificates_refused_total{reason="request"} 1"#,
        r#"aviary_operator_workload_certificates_refused_total{reason="token"} 0"#,
    ] {
        assert!(
            text.lines().any(|each| each == line),
            "{line} is not in\n{text}"
        );
    }
}
