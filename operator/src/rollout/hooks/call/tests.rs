//! Against servers that answer, refuse, hang or lead elsewhere.

use std::sync::Mutex;
use std::time::Instant;

use axum::Router;
use axum::body::Bytes;
use axum::routing::{get, post};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderMap;
use kube::Config;
use rollout_core::Ahead;
use rollout_core::state::Phase;
use rollout_core::time::Time;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::*;
use crate::key::Key;
use crate::rollout::hooks::Subject;
use crate::rollout::hooks::tests::hook;
use crate::rollout::testing;

type Heard = Arc<Mutex<Vec<(HeaderMap, Bytes)>>>;

async fn serve(routes: Router) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, routes).await });
    address
}

/// A receiver, and what it has heard.
async fn receiver() -> (String, Heard) {
    let heard = Heard::default();
    let hears = Arc::clone(&heard);
    let yes = move |headers: HeaderMap, body: Bytes| async move {
        hears.lock().unwrap().push((headers, body));
        "yes"
    };
    let routes = Router::new()
        .route("/yes", post(yes))
        .route("/no", post(|| async { http::StatusCode::CONFLICT }))
        .route(
            "/away",
            post(|| async { axum::response::Redirect::temporary("/yes") }),
        )
        .route("/hangs", post(std::future::pending::<()>))
        .route(
            "/endless",
            post(|| async {
                let bytes = std::iter::repeat_with(|| {
                    Ok::<_, std::convert::Infallible>("x".repeat(65_536))
                });
                axum::body::Body::from_stream(futures::stream::iter(bytes))
            }),
        );
    (serve(routes).await, heard)
}

/// An API server with this Secret.
async fn kubernetes(secret: Value) -> Client {
    let routes = Router::new()
        .route(
            "/api/v1/namespaces/shop/secrets/hook",
            get(move || async move { axum::Json(secret) }),
        )
        .route(
            "/api/v1/namespaces/shop/secrets/forbidden",
            get(|| async { failure(http::StatusCode::FORBIDDEN, "Forbidden") }),
        )
        .fallback(|| async { failure(http::StatusCode::NOT_FOUND, "NotFound") });
    let address = serve(routes).await;
    Client::try_from(Config::new(address.parse().unwrap())).unwrap()
}

fn failure(code: http::StatusCode, reason: &str) -> (http::StatusCode, axum::Json<Value>) {
    let status = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": "", "reason": reason,
        "code": code.as_u16(),
    });
    (code, axum::Json(status))
}

fn secret(address: &str, data: Value) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Secret",
        "metadata": {"name": "hook", "namespace": "shop", "annotations": {"aviary.dev/credentials-for": address}},
        "data": data,
    })
}

fn call(url: &str, more: Value) -> Call {
    let mut spec = json!({"url": url});
    json_patch::merge(&mut spec, &more);
    let state = testing::state(Phase::Scaling {
        step: 0,
        since: Time(0),
    });
    let subject = Subject::of(&Key::new("shop", "web"), "uid", &state).unwrap();
    let hook = hook(spec);
    let message = Message::ask(&hook, subject, Ahead::Step(0), Some(10), 1);
    Call::new(Id::Asks(1), &hook, message)
}

async fn caller(allowed: &str, secret: Value) -> Caller {
    let allowed = AllowList::from(vec![allowed.parse().unwrap()]);
    Caller::new(kubernetes(secret).await, allowed).unwrap()
}

fn header<'a>(headers: &'a HeaderMap, name: &str) -> &'a str {
    headers
        .get(name)
        .map_or("", |value| value.to_str().unwrap())
}

#[tokio::test]
async fn a_call_is_signed_over_its_second_and_its_body() {
    let (address, heard) = receiver().await;
    // "0123456789abcdef" and "s3cret\n"
    let keys = secret(
        &address,
        json!({"hmac-key": "MDEyMzQ1Njc4OWFiY2RlZg==", "token": "czNjcmV0Cg=="}),
    );
    let caller = caller(&address, keys).await;
    let call = call(
        &format!("{address}/yes"),
        json!({"secretRef": {"name": "hook"}}),
    );
    caller.call("shop", &call).await.unwrap();
    let heard = heard.lock().unwrap();
    let (headers, body) = &heard[0];
    let second: i64 = header(headers, TIMESTAMP).parse().unwrap();
    assert!((Timestamp::now().as_second() - second).abs() < 60);
    assert_eq!(
        header(headers, SIGNATURE),
        signature(b"0123456789abcdef", second, body)
    );
    assert_eq!(header(headers, "authorization"), "Bearer s3cret");
    assert_eq!(header(headers, IDEMPOTENCY_KEY), "uid/7/step-1/a");
    assert_eq!(header(headers, "content-type"), "application/json");
    let body: Value = serde_json::from_slice(body).unwrap();
    assert_eq!(
        (&body["namespace"], &body["nextWeight"]),
        (&json!("shop"), &json!(10))
    );
}

#[tokio::test]
async fn without_a_secret_a_call_says_nothing_of_one() {
    let (address, heard) = receiver().await;
    let caller = caller(&address, Value::Null).await;
    caller
        .call("shop", &call(&format!("{address}/yes"), json!({})))
        .await
        .unwrap();
    let heard = heard.lock().unwrap();
    for name in [SIGNATURE, "authorization"] {
        assert_eq!(header(&heard[0].0, name), "");
    }
}

#[tokio::test]
async fn whatever_is_no_yes_says_why_and_shows_nothing_of_the_answer() {
    let (address, heard) = receiver().await;
    let closed = {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        format!("http://{}", listener.local_addr().unwrap())
    };
    let short = json!({"timeout": "200ms"});
    for (allowed, url, more, category, says) in [
        (
            &address,
            format!("{address}/no"),
            json!({}),
            "status",
            "HTTP status 409",
        ),
        (
            &address,
            format!("{address}/none"),
            json!({}),
            "status",
            "HTTP status 404",
        ),
        (
            &address,
            format!("{address}/away"),
            json!({}),
            "status",
            "HTTP status 307: redirects are not followed",
        ),
        (
            &address,
            format!("{address}/hangs"),
            short,
            "timeout",
            "no answer within 0.2s",
        ),
        (
            &closed,
            format!("{closed}/x"),
            json!({}),
            "unreachable",
            "no answer: ",
        ),
        (
            &address,
            format!("{closed}/x"),
            json!({}),
            "not_allowed",
            "the operator does not call ",
        ),
        (
            &address,
            format!("{address}/yes"),
            json!({"secretRef": {"name": "none"}}),
            "credentials",
            "there is no Secret none",
        ),
        (
            &address,
            format!("{address}/yes"),
            json!({"secretRef": {"name": "forbidden"}}),
            "credentials",
            "the operator may not read Secret forbidden",
        ),
        (
            &address,
            format!("{address}/yes"),
            json!({"secretRef": {"name": "hook"}}),
            "credentials",
            "none of the keys",
        ),
    ] {
        let caller = caller(allowed, secret(allowed, json!({}))).await;
        let begun = Instant::now();
        let error = caller.call("shop", &call(&url, more)).await.unwrap_err();
        assert!(begun.elapsed() < Duration::from_secs(5), "{url}");
        assert_eq!(error.category(), category, "{url}: {error}");
        assert!(
            error.to_string().starts_with(says) || error.to_string().contains(says),
            "{url}: {error}"
        );
        assert!(CallError::CATEGORIES.contains(&error.category()));
    }
    assert!(
        heard.lock().unwrap().is_empty(),
        "nobody was called whom nothing allows"
    );
}

#[tokio::test]
async fn an_answer_without_an_end_is_not_read() {
    let (address, _) = receiver().await;
    let caller = caller(&address, Value::Null).await;
    let call = call(&format!("{address}/endless"), json!({}));
    let begun = Instant::now();
    caller.call("shop", &call).await.unwrap();
    assert!(begun.elapsed() < Duration::from_secs(5));
}

#[tokio::test]
async fn authorities_that_are_none_are_refused() {
    let caller = caller(
        "https://localhost",
        secret("https://localhost", json!({"ca.crt": "bm9uZQ=="})),
    )
    .await;
    let call = call(
        "https://localhost/x",
        json!({"secretRef": {"name": "hook"}}),
    );
    let error = caller.call("shop", &call).await.unwrap_err();
    assert!(matches!(error, CallError::Authorities), "{error}");
}

/// A receiver with a certificate for loopback that an authority of its own has signed; its address, and the authority in PEM.
async fn receiver_with_tls(name: &str, answers: usize) -> (String, String) {
    let authority = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let names = &mut params.distinguished_name;
    names.push(rcgen::DnType::CommonName, name);
    let ca = params.self_signed(&authority).unwrap().pem();
    let issuer = rcgen::Issuer::new(params, authority);
    let key = rcgen::KeyPair::generate().unwrap();
    let params = rcgen::CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
    let certificate = params.signed_by(&key, &issuer).unwrap();
    let key = rustls_pki_types::PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key)
        .unwrap();
    let tls = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("https://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        let mut left = answers;
        while let Ok((stream, _)) = listener.accept().await {
            // Whoever does not trust it breaks off.
            let Ok(mut stream) = tls.accept(stream).await else {
                continue;
            };
            let mut heard = Vec::new();
            while !heard.ends_with(b"}") {
                assert!(stream.read_buf(&mut heard).await.unwrap() > 0);
            }
            assert!(heard.starts_with(b"POST /yes HTTP/1.1\r\n"));
            assert!(left > 0, "called by somebody who must not trust it");
            left -= 1;
            let yes = b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
            stream.write_all(yes).await.unwrap();
            let _ = stream.shutdown().await;
        }
    });
    (address, ca)
}

fn with_ca(address: &str, pem: &str) -> Value {
    secret(address, json!({"ca.crt": STANDARD.encode(pem)}))
}

#[tokio::test]
async fn a_hook_with_https_is_called_with_the_authority_of_its_secret() {
    let (address, ca) = receiver_with_tls("hooks", 1).await;
    let caller = caller(&address, with_ca(&address, &ca)).await;
    let named = json!({"secretRef": {"name": "hook"}});
    caller
        .call("shop", &call(&format!("{address}/yes"), named))
        .await
        .unwrap();
}

#[tokio::test]
async fn a_hook_whose_authority_nobody_gave_is_not_called_and_the_mend_is_said() {
    let (address, _) = receiver_with_tls("hooks", 0).await;
    let (_, other) = receiver_with_tls("another", 0).await;
    let url = format!("{address}/yes");
    for (given, more) in [
        (Value::Null, json!({})),
        (
            with_ca(&address, &other),
            json!({"secretRef": {"name": "hook"}}),
        ),
    ] {
        let caller = caller(&address, given).await;
        let error = caller.call("shop", &call(&url, more)).await.unwrap_err();
        assert_eq!(error.category(), "unreachable");
        let says = "the certificate of its server is not trusted (UnknownIssuer): put the authority that signed it into ca.crt of the Secret that its secretRef names";
        assert_eq!(error.to_string(), says);
    }
}
