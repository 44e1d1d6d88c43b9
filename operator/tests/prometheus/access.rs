//! As whom Prometheus is asked: a real one with TLS, certificates of clients and passwords, and one that looks at headers.

use std::time::{Duration, Instant};

use aviary_crds::prometheus::PrometheusAuth;
use aviary_operator::rollout::checks::{Check, Query};
use aviary_operator::rollout::measure::access::{Access, Own};
use aviary_operator::rollout::measure::{Outcome, judge_window};
use axum::Router;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::get;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rollout_core::judge::{Bound, Verdict};
use serde_json::json;

use super::secrets::Secrets;
use super::server::{Directory, Server};
use super::{MetricsSource, scope};

const PASSWORD: &str = "open sesame";
/// Of the password, as cheap as bcrypt can be.
const HASH: &str = "$2b$04$V988HYFbES2nmvt4tD0KN..Su7oyPnGN8RAQbstBs0EoGxULPVMky";
const STARTS: Duration = Duration::from_secs(60);

/// An authority, and what it has signed.
struct Authority {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Authority {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        Authority {
            pem: params.self_signed(&key).unwrap().pem(),
            issuer: Issuer::new(params, key),
        }
    }

    /// Certificate and key, for loopback.
    fn sign(&self) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        (certificate.pem(), key.serialize_pem())
    }
}

fn auth(parts: serde_json::Value) -> PrometheusAuth {
    let named = parts.as_object().unwrap().iter().map(|(part, name)| {
        let source = json!({"secretRef": {"name": name}});
        (part.clone(), source)
    });
    serde_json::from_value(named.collect::<serde_json::Map<_, _>>().into()).unwrap()
}

async fn asked(access: &Access, url: &str, auth: Option<&PrometheusAuth>) -> Outcome {
    let check = Check {
        name: "seven".to_owned(),
        query: Query::Custom("vector(7)".to_owned()),
        bound: Bound::Between {
            at_least: None,
            at_most: Some(100.0),
        },
    };
    let prometheus = access.to("shop", Some(url), auth).await;
    let scope = scope(MetricsSource::Istio, "shop");
    let mut window = judge_window(prometheus, &scope, &[check]).await;
    window.outcomes.remove(0)
}

/// No evidence, for a reason that says this and repeats no secret.
async fn refused(access: &Access, url: &str, auth: Option<&PrometheusAuth>, words: &str) {
    let outcome = asked(access, url, auth).await;
    assert_eq!(outcome.verdict, Verdict::NoEvidence, "{outcome:?}");
    assert!(
        outcome.reason.contains(words),
        "{outcome:?}, and not {words}"
    );
    assert!(!outcome.reason.contains("sesame"), "{outcome:?}");
}

#[tokio::test]
async fn a_prometheus_with_tls_and_passwords_is_asked_as_the_secrets_say() {
    let (authority, other) = (Authority::new(), Authority::new());
    let directory = Directory::new();
    let (certificate, key) = authority.sign();
    let of = |name: &str, text: &str| directory.file(name, text).display().to_string();
    let web = json!({
        "tls_server_config": {
            "cert_file": of("tls.crt", &certificate),
            "key_file": of("tls.key", &key),
            "client_auth_type": "RequireAndVerifyClientCert",
            "client_ca_file": of("ca.crt", &authority.pem),
        },
        "basic_auth_users": {"aviary": HASH},
    });
    let server = Server::with_web(directory, &web.to_string());
    let (url, secrets) = (server.url("https"), Secrets::default());
    let access = Access::new(secrets.client(), Own::default()).unwrap();

    let password = |value: &str| {
        secrets.set(
            "login",
            &url,
            &[("username", "aviary"), ("password", value)],
        );
    };
    let (certificate, key) = authority.sign();
    let (stranger, strangers_key) = other.sign();
    let tls = |name: &str, values: &[(&str, &str)]| secrets.set(name, &url, values);
    let (ca, crt) = (
        ("ca.crt", authority.pem.as_str()),
        ("tls.crt", certificate.as_str()),
    );
    password(PASSWORD);
    tls("tls", &[ca, crt, ("tls.key", &key)]);
    tls("ca", &[ca]);
    tls("pair", &[crt, ("tls.key", &key)]);
    tls(
        "other-ca",
        &[("ca.crt", &other.pem), crt, ("tls.key", &key)],
    );
    tls(
        "stranger",
        &[ca, ("tls.crt", &stranger), ("tls.key", &strangers_key)],
    );
    tls("mixed", &[ca, crt, ("tls.key", &strangers_key)]);

    let whole = auth(json!({"basic": "login", "tls": "tls"}));
    let began = Instant::now();
    let outcome = loop {
        let outcome = asked(&access, &url, Some(&whole)).await;
        if outcome.verdict == Verdict::Pass || began.elapsed() > STARTS {
            break outcome;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    assert_eq!(outcome.reason, "7, at most 100 asked for");
    let of_one_window = [
        "GET /api/v1/namespaces/shop/secrets/login?",
        "GET /api/v1/namespaces/shop/secrets/tls?",
    ];
    let gets: Vec<String> = secrets.asked().split_off(secrets.asked().len() - 2);
    let by_name = gets
        .iter()
        .zip(of_one_window)
        .all(|(get, name)| get.trim_end_matches('?') == name.trim_end_matches('?'));
    assert!(by_name, "by their names, and nothing else: {gets:?}");

    let untrusted = "the certificate of Prometheus is not trusted (";
    refused(&access, &url, None, untrusted).await;
    for (parts, words) in [
        (json!({"basic": "login"}), untrusted),
        (json!({"basic": "login", "tls": "pair"}), untrusted),
        (json!({"basic": "login", "tls": "other-ca"}), untrusted),
        (
            json!({"basic": "login", "tls": "ca"}),
            "Prometheus does not take the certificate that it was shown, or wants one (",
        ),
        (
            json!({"basic": "login", "tls": "stranger"}),
            "Prometheus does not take the certificate that it was shown, or wants one (",
        ),
        (
            json!({"basic": "login", "tls": "mixed"}),
            "tls.crt and tls.key in Secret mixed do not belong together",
        ),
        (
            json!({"tls": "tls"}),
            "Prometheus does not let the operator in (HTTP status 401); put what it asks for into a Secret",
        ),
    ] {
        refused(&access, &url, Some(&auth(parts)), words).await;
    }

    // A Secret that changes is heeded at the next window.
    password("open barley");
    refused(&access, &url, Some(&whole), "(HTTP status 401)").await;
    password(PASSWORD);
    let outcome = asked(&access, &url, Some(&whole)).await;
    assert_eq!(outcome.verdict, Verdict::Pass, "{outcome:?}");
}

/// Says seven to whoever shows this, and 401 to everybody else.
async fn who_shows(name: &'static str, value: &'static str) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let answer = move |headers: HeaderMap| async move {
        let shown = headers.get(name).is_some_and(|shown| shown == value);
        let seven = r#"{"status":"success","data":{"resultType":"scalar","result":[1,"7"]}}"#;
        let status = if shown {
            StatusCode::OK
        } else {
            StatusCode::UNAUTHORIZED
        };
        (status, [("content-type", "application/json")], seven)
    };
    let routes = Router::new().route("/api/v1/query", get(answer));
    tokio::spawn(async move { axum::serve(listener, routes).await });
    url
}

#[tokio::test]
async fn a_token_and_headers_are_shown_with_every_question() {
    let secrets = Secrets::default();
    let access = Access::new(secrets.client(), Own::default()).unwrap();
    let url = who_shows("authorization", "Bearer sesame").await;
    secrets.set("token", &url, &[("token", "sesame")]);
    let bearer = auth(json!({"bearer": "token"}));
    let outcome = asked(&access, &url, Some(&bearer)).await;
    assert_eq!(outcome.verdict, Verdict::Pass, "{outcome:?}");

    let url = who_shows("x-scope-orgid", "sesame").await;
    secrets.set("tenant", &url, &[("X-Scope-OrgID", "sesame")]);
    let headers = auth(json!({"headers": "tenant"}));
    let outcome = asked(&access, &url, Some(&headers)).await;
    assert_eq!(outcome.verdict, Verdict::Pass, "{outcome:?}");
    refused(&access, &url, None, "(HTTP status 401)").await;
}

#[tokio::test]
async fn a_secret_that_cannot_be_used_is_named_with_the_mend_and_nothing_is_asked() {
    let secrets = Secrets::default();
    let access = Access::new(secrets.client(), Own::default()).unwrap();
    // It would let everybody in.
    let url = who_shows("host", "").await;
    secrets.refuse("hidden", 403);
    secrets.refuse("broken", 500);
    secrets.set(
        "elsewhere",
        "http://prometheus.other:9090",
        &[("token", "sesame")],
    );
    secrets.set("unlabelled", "", &[("token", "sesame")]);
    secrets.set("login", &format!("{url}/"), &[("password", "sesame")]);
    secrets.set("line", &url, &[("token", "sesame\n")]);
    for (name, words) in [
        ("missing", "there is no Secret missing in this namespace: create it, or name another in spec.analysis.prometheus.auth".to_owned()),
        ("hidden", "the operator may not get Secret hidden: allow it by a Role and a RoleBinding (docs/prometheus.md has the commands)".to_owned()),
        ("broken", "Secret broken cannot be read now: the API server does not serve it".to_owned()),
        ("elsewhere", format!("Secret elsewhere is not for this address: kubectl annotate secret elsewhere aviary.dev/credentials-for={url}")),
        ("unlabelled", format!("Secret unlabelled is not for this address: kubectl annotate secret unlabelled aviary.dev/credentials-for={url}")),
        ("login", "Secret login has no key token, or nothing in it: bearer needs it".to_owned()),
        ("line", "the value of token in Secret line cannot be sent in a header: it has a line break".to_owned()),
    ] {
        refused(&access, &url, Some(&auth(json!({"bearer": name}))), &words).await;
    }
}

/// The operator's own credentials are for the operator's own address, and for rollouts that bring none.
#[tokio::test]
async fn what_the_flags_name_is_shown_at_the_operators_own_address_alone() {
    let directory = Directory::new();
    directory.file("bearer/token", "sesame");
    // As the kubelet mounts a Secret.
    directory.file("bearer/..data/token", "of the kubelet");
    let url = who_shows("authorization", "Bearer sesame").await;
    let elsewhere = who_shows("authorization", "Bearer sesame").await;
    let own = Own {
        address: Some(url.clone()),
        bearer: Some(directory.path().join("bearer")),
        ..Own::default()
    };
    let secrets = Secrets::default();
    let access = Access::new(secrets.client(), own).unwrap();
    for address in [url.clone(), format!("{url}/")] {
        let outcome = asked(&access, &address, None).await;
        assert_eq!(outcome.verdict, Verdict::Pass, "{outcome:?}");
    }
    refused(&access, &elsewhere, None, "(HTTP status 401)").await;
    assert!(secrets.asked().is_empty(), "nobody has named a Secret");
    secrets.set("token", &url, &[("token", "another")]);
    let bearer = auth(json!({"bearer": "token"}));
    refused(&access, &url, Some(&bearer), "(HTTP status 401)").await;

    directory.file("bearer/token", "");
    let words = format!(
        "{}/bearer has no key token, or nothing in it",
        directory.path().display()
    );
    refused(&access, &url, None, &words).await;
    let gone = Own {
        address: Some(url.clone()),
        tls: Some(directory.path().join("nowhere")),
        ..Own::default()
    };
    let access = Access::new(secrets.client(), gone).unwrap();
    refused(
        &access,
        &url,
        None,
        "/nowhere cannot be read (entity not found): mount a Secret there",
    )
    .await;
}
