//! Against servers that speak HTTP, but not what a Prometheus should say.

use std::convert::Infallible;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::response::Response;
use axum::routing::{MethodRouter, get};
use futures::{Stream, StreamExt, stream};
use rollout_core::judge::Bound;

use super::access::{Access, Own};
use super::*;

/// Without credentials.
async fn prometheus(address: &str) -> Result<Prometheus, String> {
    let nobody = tower::service_fn(|_: http::Request<kube::client::Body>| async {
        let why = std::io::Error::other("no Secret is asked for");
        Err::<http::Response<kube::client::Body>, _>(why)
    });
    let kube = kube::Client::new(nobody, "default");
    let access = Access::new(kube, Own::default()).unwrap();
    access.to("shop", Some(address), None).await
}

/// In every answer, at a place where other people's metrics would be.
const SECRET: &str = "customer-4711";

/// A server that answers every query alike.
async fn server(answer: impl Fn() -> Response + Clone + Send + Sync + 'static) -> String {
    serve(get(move || async move { answer() })).await
}

async fn serve(query: MethodRouter) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let routes = Router::new().route("/api/v1/query", query);
    tokio::spawn(async move { axum::serve(listener, routes).await });
    address
}

fn response(status: u16, content_type: &str, body: impl Into<Body>) -> Response {
    Response::builder()
        .status(status)
        .header("content-type", content_type)
        .body(body.into())
        .unwrap()
}

async fn json_server(status: u16, body: String) -> String {
    server(move || response(status, "application/json", body.clone())).await
}

fn streaming(chunks: impl Stream<Item = &'static str> + Send + 'static) -> Response {
    let chunks = chunks.map(|chunk| Ok::<_, Infallible>(Bytes::from_static(chunk.as_bytes())));
    response(200, "application/json", Body::from_stream(chunks))
}

fn custom() -> Query {
    Query::Custom("up".to_owned())
}

fn latency() -> Query {
    Query::FasterThan {
        seconds: 0.5,
        quantile: 0.99,
    }
}

async fn outcome(address: &str, query: Query) -> Outcome {
    let bound = match query {
        Query::Successes | Query::FasterThan { .. } => Bound::ShareAtLeast(0.99),
        Query::Custom(_) => Bound::Between {
            at_least: None,
            at_most: Some(100.0),
        },
    };
    let check = Check {
        name: "check".to_owned(),
        query,
        bound,
    };
    let window = judge_window(prometheus(address).await, &scope(), &[check]).await;
    assert_eq!(window.verdict, window.outcomes[0].verdict);
    window.outcomes[0].clone()
}

fn scope() -> Scope {
    Scope {
        namespace: "shop".to_owned(),
        service: "payment".to_owned(),
        ports: Vec::new(),
        deployment: "payment".to_owned(),
        stable: "aaaaaaaaaa".to_owned(),
        canary: "bbbbbbbbbb".to_owned(),
        interval: Duration::from_secs(30),
        metrics: MetricsSource::Aviary,
        job: None,
        beside_stable: false,
        settled: Duration::from_secs(600),
    }
}

/// No evidence, for a reason that says `part`, is short and repeats nothing.
async fn nothing(address: &str, query: Query, part: &str) {
    let outcome = outcome(address, query.clone()).await;
    let reason = &outcome.reason;
    assert_eq!(outcome.verdict, Verdict::NoEvidence, "{query:?}: {reason}");
    assert_eq!(outcome.requests, None, "{query:?}: {reason}");
    assert!(reason.contains(part), "{query:?}: {reason}, and not {part}");
    assert!(reason.len() <= LONGEST_REASON, "{reason}");
    assert!(!reason.contains(SECRET), "{reason}");
}

fn result(kind: &str, result: &str) -> String {
    format!(r#"{{"status":"success","data":{{"resultType":"{kind}","result":{result}}}}}"#)
}

fn series(labels: &str, value: &str) -> String {
    format!(r#"{{"metric":{{{labels}}},"value":[1,"{value}"]}}"#)
}

#[tokio::test]
async fn what_prometheus_says_is_judged() {
    for (query, body, verdict, requests) in [
        (
            custom(),
            result("scalar", r#"[1,"7"]"#),
            Verdict::Pass,
            None,
        ),
        (
            custom(),
            result("vector", &format!("[{}]", series("", "700"))),
            Verdict::Fail,
            None,
        ),
        (
            Query::Successes,
            result(
                "vector",
                &format!(
                    "[{},{}]",
                    series(r#""class":"success""#, "999.6"),
                    series(r#""class":"failure""#, "0.4")
                ),
            ),
            Verdict::Pass,
            Some(1000),
        ),
        (
            latency(),
            result(
                "vector",
                &format!(
                    "[{},{}]",
                    series(r#""le":"0.5""#, "10"),
                    series(r#""le":"+Inf""#, "1000")
                ),
            ),
            Verdict::Fail,
            Some(1000),
        ),
    ] {
        let address = json_server(200, body.clone()).await;
        let outcome = outcome(&address, query).await;
        assert_eq!(outcome.verdict, verdict, "{body}: {}", outcome.reason);
        assert_eq!(outcome.requests, requests, "{body}");
    }
}

#[tokio::test]
async fn an_answer_that_makes_no_sense_measures_nothing() {
    let own = format!(r#""tenant":"{SECRET}""#);
    let two = format!("[{},{}]", series(&own, "1"), series("", "2"));
    let of = |label: &str, value: &str| format!("[{}]", series(label, value));
    let twice = |label: &str| format!("[{0},{0}]", series(label, "1"));
    let class = r#""class":"success""#;
    let infinity = r#""le":"+Inf""#;
    let strange = format!(r#""le":"{SECRET}""#);
    for (query, kind, value, part) in [
        // The user's own query.
        (custom(), "vector", "[]".to_owned(), "no series"),
        (custom(), "vector", two, "gave 2 series"),
        (custom(), "vector", of(&own, "NaN"), "not a finite number"),
        (custom(), "vector", of(&own, "+Inf"), "not a finite number"),
        (custom(), "vector", of(&own, "1e999"), "not a finite number"),
        (
            custom(),
            "scalar",
            r#"[1,"NaN"]"#.to_owned(),
            "not a finite number",
        ),
        (custom(), "matrix", "[]".to_owned(), "gave a matrix"),
        // The operator's.
        (
            Query::Successes,
            "vector",
            "[]".to_owned(),
            "no metrics of Aviary about this Service",
        ),
        (
            Query::Successes,
            "scalar",
            r#"[1,"7"]"#.to_owned(),
            "gave a scalar",
        ),
        (Query::Successes, "matrix", "[]".to_owned(), "gave a matrix"),
        (Query::Successes, "vector", of(&own, "7"), "no label class"),
        (Query::Successes, "vector", of(class, "NaN"), "cannot be"),
        (Query::Successes, "vector", of(class, "-1"), "cannot be"),
        (Query::Successes, "vector", of(class, "1e300"), "cannot be"),
        (Query::Successes, "vector", twice(class), "same label class"),
        (
            latency(),
            "vector",
            "[]".to_owned(),
            "no metrics of Aviary about this Service",
        ),
        (latency(), "vector", of(&own, "7"), "no label le"),
        (latency(), "vector", of(&strange, "7"), "no label le"),
        (latency(), "vector", of(r#""le":"NaN""#, "7"), "no label le"),
        (
            latency(),
            "vector",
            of(r#""le":"0.5""#, "7"),
            "no +Inf bucket",
        ),
        (latency(), "vector", of(infinity, "+Inf"), "cannot be"),
        (latency(), "vector", twice(infinity), "same label le"),
    ] {
        let address = json_server(200, result(kind, &value)).await;
        nothing(&address, query, part).await;
    }
}

/// Whatever another mesh's metrics are called, what is in them is looked at as closely.
#[tokio::test]
async fn the_series_of_another_mesh_are_no_more_believed_than_our_own() {
    for (metrics, labels) in [
        (MetricsSource::Istio, r#""response_code":"200""#),
        (MetricsSource::Linkerd, r#""classification":"success""#),
        (MetricsSource::Envoy, r#""envoy_response_code_class":"2""#),
    ] {
        let strange = format!(r#""tenant":"{SECRET}""#);
        for (all, part) in [
            (series(labels, "-1"), "cannot be"),
            (series(labels, "+Inf"), "cannot be"),
            (series(labels, "NaN"), "cannot be"),
            (format!("{0},{0}", series(labels, "1")), "the same label"),
            (series(&strange, "1"), "has no label"),
        ] {
            let address = json_server(200, result("vector", &format!("[{all}]"))).await;
            let check = Check {
                name: "check".to_owned(),
                query: Query::Successes,
                bound: Bound::ShareAtLeast(0.99),
            };
            let of_mesh = Scope { metrics, ..scope() };
            let window = judge_window(prometheus(&address).await, &of_mesh, &[check]).await;
            let reason = &window.outcomes[0].reason;
            assert_eq!(window.verdict, Verdict::NoEvidence, "{metrics:?}: {reason}");
            assert!(
                reason.contains(part) && !reason.contains(SECRET),
                "{reason}"
            );
        }
    }
}

#[tokio::test]
async fn an_answer_of_another_form_measures_nothing() {
    let secret = format!(r#"["{SECRET}"]"#);
    for body in [
        String::new(),
        "null".to_owned(),
        "[]".to_owned(),
        format!(r#"{{"{SECRET}":1}}"#),
        r#"{"status":"success"}"#.to_owned(),
        result("vector", &secret),
        result(
            "vector",
            &format!(r#"[{{"metric":{{}},"value":[1,"{SECRET}"]}}]"#),
        ),
        result("vector", r#"[{"metric":{},"value":[1,7]}]"#),
        result("vector", r#"[{"metric":{"class":7},"value":[1,"7"]}]"#),
        result("vector", r#"[{"metric":{},"value":[]}]"#),
        result("vector", r#"[{"metric":{}}]"#),
        result("scalar", "[]"),
        result("string", &format!(r#"[1,"{SECRET}"]"#)),
        result(SECRET, "[]"),
        "[".repeat(100_000),
        result("vector", "[]")[..20].to_owned(),
    ] {
        let address = json_server(200, body.clone()).await;
        for query in [custom(), Query::Successes, latency()] {
            nothing(&address, query, "no result of a query (HTTP status 200)").await;
        }
    }
    // A good result does not go with a bad status.
    let address = json_server(500, result("scalar", r#"[1,"7"]"#)).await;
    nothing(&address, custom(), "no result of a query (HTTP status 500)").await;
}

#[tokio::test]
async fn an_error_of_prometheus_is_named_by_its_kind_and_not_repeated() {
    for kind in [
        "bad_data",
        "execution",
        "timeout",
        "internal",
        "unavailable",
    ] {
        let body = format!(
            r#"{{"status":"error","errorType":"{kind}","error":"found duplicate series for {SECRET}"}}"#
        );
        let address = json_server(422, body).await;
        nothing(&address, custom(), &format!("refused the query ({kind})")).await;
    }
}

#[tokio::test]
async fn a_server_that_speaks_html_measures_nothing() {
    for (status, content_type) in [(200, "text/html"), (502, "text/html"), (302, "text/plain")] {
        let page = format!("<html>{SECRET}</html>");
        let address = server(move || response(status, content_type, page.clone())).await;
        let part = format!("does not speak JSON (HTTP status {status})");
        nothing(&address, custom(), &part).await;
    }
}

#[tokio::test]
async fn an_answer_without_an_end_is_given_up_at_one_mebibyte() {
    let address = server(|| streaming(stream::repeat("[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[["))).await;
    let began = Instant::now();
    nothing(&address, Query::Successes, "larger than 1 MiB").await;
    assert!(
        began.elapsed() < ask::PATIENCE,
        "it waited for the deadline"
    );
}

/// It says how much comes, and nobody waits for it.
#[tokio::test]
async fn an_answer_of_a_gigabyte_is_given_up_at_one_mebibyte() {
    let gigabyte = || {
        let megabyte = Bytes::from(vec![b' '; 1024 * 1024]);
        let all = stream::iter(std::iter::repeat_n(megabyte, 1024)).map(Ok::<_, Infallible>);
        let mut response = response(200, "application/json", Body::from_stream(all));
        let length = (1_u64 << 30).into();
        response.headers_mut().insert("content-length", length);
        response
    };
    let address = server(gigabyte).await;
    let began = Instant::now();
    nothing(&address, custom(), "larger than 1 MiB").await;
    assert!(
        began.elapsed() < ask::PATIENCE,
        "it waited for the deadline"
    );
}

/// Its clock is a day off, either way. It is asked about its own present, and the time of its answer changes nothing.
#[tokio::test]
async fn a_prometheus_whose_time_is_off_is_asked_about_its_own_present() {
    let answer = |uri: axum::http::Uri| async move {
        let asked = uri.query().unwrap_or_default().to_owned();
        assert!(!asked.contains("time="), "{asked}");
        let day = if asked.contains("yesterday") {
            -86_400
        } else {
            86_400
        };
        let at = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs();
        let at = i64::try_from(at).unwrap() + day;
        let body = result("scalar", &format!(r#"[{at},"7"]"#));
        response(200, "application/json", body)
    };
    let address = serve(get(answer)).await;
    for query in ["yesterday", "tomorrow"] {
        let outcome = outcome(&address, Query::Custom(query.to_owned())).await;
        assert_eq!(outcome.verdict, Verdict::Pass, "{}", outcome.reason);
    }
}

#[tokio::test]
async fn whoever_asks_for_a_login_is_told_apart_from_whoever_is_no_prometheus() {
    for status in [401, 403] {
        let page = format!("<html>{SECRET}</html>");
        let address = server(move || response(status, "text/html", page.clone())).await;
        let part = format!("does not let the operator in (HTTP status {status})");
        nothing(&address, custom(), &part).await;
    }
}

/// Everything that is asked is answered with the same number.
#[tokio::test]
async fn without_samples_the_reason_is_looked_for() {
    for (window, long, words) in [
        ("2", "40", "no request to the canary is in this window"),
        ("1", "40", "a window of 30s has less than two scrapes"),
        ("0", "40", "a window of 30s has less than two scrapes"),
        ("NaN", "40", "no samples of the canary in this window"),
        ("1", "-1", "no samples of the canary in this window"),
    ] {
        let answer = move |uri: axum::http::Uri| async move {
            let asked = uri.query().unwrap_or_default().to_owned();
            let value = match () {
                () if !asked.contains("count_over_time") => None,
                () if asked.contains("600000ms") => Some(long),
                () => Some(window),
            };
            let one = value.map(|value| series("", value)).unwrap_or_default();
            let body = result("vector", &format!("[{one}]"));
            response(200, "application/json", body)
        };
        let address = serve(get(answer)).await;
        nothing(&address, Query::Successes, words).await;
    }
}

#[tokio::test]
async fn the_largest_answer_is_still_read() {
    let answer = result("scalar", r#"[1,"7"]"#);
    for (length, verdict) in [
        (1024 * 1024, Verdict::Pass),
        (1024 * 1024 + 1, Verdict::NoEvidence),
    ] {
        let address = json_server(200, answer.clone() + &" ".repeat(length - answer.len())).await;
        let outcome = outcome(&address, custom()).await;
        assert_eq!(outcome.verdict, verdict, "{length}: {}", outcome.reason);
    }
}

async fn asked(address: &str, patience: Duration) -> String {
    let prometheus = prometheus(address).await.unwrap();
    let began = Instant::now();
    let answer = ask::ask(&prometheus, "up", patience).await;
    assert!(began.elapsed() < patience + Duration::from_secs(30));
    answer.unwrap_err().to_string()
}

#[tokio::test]
async fn a_server_that_hangs_is_away_after_its_time_wherever_it_hangs() {
    let patience = Duration::from_millis(300);
    let too_late = "Prometheus did not answer within 0.3s";
    // Before the head: nobody accepts.
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", silent.local_addr().unwrap());
    assert_eq!(asked(&address, patience).await, too_late);
    // After it.
    let address = server(|| streaming(stream::pending())).await;
    assert_eq!(asked(&address, patience).await, too_late);
    // A byte now and then is no answer either.
    let trickle = || {
        streaming(stream::repeat(" ").then(|byte| async move {
            tokio::time::sleep(Duration::from_millis(20)).await;
            byte
        }))
    };
    let address = server(trickle).await;
    assert_eq!(asked(&address, patience).await, too_late);
}

#[tokio::test]
async fn nobody_at_the_address_measures_nothing() {
    let gone = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", gone.local_addr().unwrap());
    drop(gone);
    nothing(
        &address,
        custom(),
        "Prometheus did not answer: Connection refused",
    )
    .await;
    nothing("not an address", custom(), "is no address of a Prometheus").await;
    nothing(&"x".repeat(2048), custom(), "...").await;
}

/// Whatever is asked beside it, the check is judged.
#[tokio::test]
async fn calls_from_outside_are_a_number_or_nothing_and_never_change_a_judgement() {
    let one = |value: &str| result("vector", &format!("[{}]", series("", value)));
    for (answer, expected) in [
        (one("119.6"), Some(120)),
        (one("0"), Some(0)),
        (one("NaN"), None),
        (one("-1"), None),
        (one("1e300"), None),
        (result("vector", "[]"), None),
        (
            result(
                "vector",
                &format!("[{},{}]", series("", "1"), series(r#""a":"b""#, "2")),
            ),
            None,
        ),
        (result("scalar", r#"[1,"7"]"#), None),
        ("<html>".to_owned(), None),
    ] {
        let beside = answer.clone();
        let of_query = move |uri: axum::http::Uri| async move {
            let body = if uri.query().unwrap_or_default().contains("outside") {
                beside
            } else {
                result("scalar", r#"[1,"7"]"#)
            };
            response(200, "application/json", body)
        };
        let address = serve(get(of_query)).await;
        let check = Check {
            name: "check".to_owned(),
            query: custom(),
            bound: Bound::Between {
                at_least: None,
                at_most: Some(100.0),
            },
        };
        let window = judge_window(prometheus(&address).await, &scope(), &[check]).await;
        assert_eq!(window.outside, expected, "{answer}");
        assert_eq!(window.verdict, Verdict::Pass, "{answer}");
        assert_eq!(window.outcomes.len(), 1, "{answer}");
    }
    let nowhere = judge_window(Err("no Prometheus".to_owned()), &scope(), &[]).await;
    assert_eq!(nowhere.outside, None);
}

/// A Prometheus that has seen 1000 requests to each revision, of which this share failed.
async fn revisions(canary_failed: u32, stable_failed: u32) -> String {
    let of_query = move |uri: axum::http::Uri| async move {
        let query = uri.query().unwrap_or_default().to_owned();
        let failed = if query.contains("bbbbbbbbbb") {
            canary_failed
        } else {
            stable_failed
        };
        let good = series(r#""class":"success""#, &(1000 - failed).to_string());
        let bad = series(r#""class":"failure""#, &failed.to_string());
        response(
            200,
            "application/json",
            result("vector", &format!("[{good},{bad}]")),
        )
    };
    serve(get(of_query)).await
}

#[tokio::test]
async fn the_canary_is_judged_beside_stable_in_the_same_window() {
    let check = Check {
        name: "success-rate".to_owned(),
        query: Query::Successes,
        bound: Bound::ShareAtLeast(0.99),
    };
    for (canary, stable, verdict, fails) in [
        (0, 0, Verdict::Pass, Some(false)),
        (100, 0, Verdict::Fail, Some(false)),
        (100, 100, Verdict::NoEvidence, Some(true)),
        (500, 100, Verdict::Fail, Some(true)),
        (0, 100, Verdict::Pass, Some(true)),
    ] {
        let address = revisions(canary, stable).await;
        let beside = Scope {
            beside_stable: true,
            ..scope()
        };
        let window = judge_window(
            prometheus(&address).await,
            &beside,
            std::slice::from_ref(&check),
        )
        .await;
        assert_eq!(window.verdict, verdict, "{canary} and {stable}");
        assert_eq!(window.stable.fails, fails, "{canary} and {stable}");
        assert_eq!(window.stable.words.is_empty(), fails != Some(true));
        let alone = judge_window(
            prometheus(&address).await,
            &scope(),
            std::slice::from_ref(&check),
        )
        .await;
        assert_eq!(alone.stable, StableOutcome::default(), "it has no requests");
    }
}

#[test]
fn reasons_are_cut_between_characters() {
    let reason = cut("\u{e9}".repeat(200));
    assert!(reason.len() <= LONGEST_REASON && reason.len() > LONGEST_REASON - 3);
    assert!(reason.ends_with("\u{e9}..."), "{reason}");
    assert_eq!(cut("short".to_owned()), "short");
}
