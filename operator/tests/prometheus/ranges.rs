//! Windows and scrapes: a window that is too short, counters that begin anew, series that end.

use std::time::Duration;

use aviary_crds::prometheus::MetricsSource;
use rollout_core::judge::{Bound, Verdict};

use aviary_operator::rollout::checks::{Check, Query, Scope};

use super::series::Samples;
use super::server::Server;
use super::{judged, scope, success_rate};

fn series(namespace: &str, revision: &str, class: &str) -> String {
    format!(
        r#"aviary_outbound_first_attempts_total{{job="aviary-proxy",dst_namespace="{namespace}",dst_service="payment",revision="{revision}",class="{class}",pod="one"}}"#
    )
}

fn window(namespace: &str, seconds: u64) -> Scope {
    Scope {
        interval: Duration::from_secs(seconds),
        ..scope(MetricsSource::Aviary, namespace)
    }
}

#[tokio::test]
async fn a_window_that_has_no_samples_says_which_of_the_reasons_it_is() {
    let mut samples = Samples::default();
    samples.counter(&series("slow", "bbbb", "success"), 30, 10);
    samples.counter(&series("idle", "aaaa", "success"), 5, 10);
    let server = Server::with_samples(&samples.0);
    let url = server.url("http");
    for (namespace, seconds, words) in [
        (
            "slow",
            20,
            "a window of 20s has less than two scrapes, and a rate needs two: make analysis.interval at least twice the scrape interval of Prometheus",
        ),
        ("idle", 20, "no request to the canary is in this window"),
        (
            "elsewhere",
            20,
            "Prometheus has no metrics of Aviary about this Service, of any revision: have it scrape the sidecars (docs/prometheus.md), or name another source in spec.analysis.prometheus.metrics",
        ),
    ] {
        let outcome = judged(&url, &window(namespace, seconds), success_rate()).await;
        assert_eq!(outcome.verdict, Verdict::NoEvidence, "{namespace}");
        assert_eq!(outcome.reason, words, "{namespace}");
    }
    // Twice the scrape interval is enough.
    let outcome = judged(&url, &window("slow", 60), success_rate()).await;
    assert_eq!(outcome.verdict, Verdict::Pass, "{outcome:?}");
    assert_eq!(outcome.requests, Some(20));
}

#[tokio::test]
async fn a_rate_of_ones_own_over_less_than_two_scrapes_says_so() {
    let mut samples = Samples::default();
    samples.counter("jobs_total", 30, 10);
    let server = Server::with_samples(&samples.0);
    let check = Check {
        name: "jobs".to_owned(),
        query: Query::Custom("sum(rate(jobs_total[{{ interval }}]))".to_owned()),
        bound: Bound::Between {
            at_least: Some(0.25),
            at_most: None,
        },
    };
    let url = server.url("http");
    let outcome = judged(&url, &window("shop", 20), check.clone()).await;
    assert_eq!(
        outcome.reason,
        "the query gave no series: nothing matches it, or the range in it is shorter than two scrapes"
    );
    let outcome = judged(&url, &window("shop", 60), check).await;
    assert_eq!(outcome.verdict, Verdict::Pass, "{outcome:?}");
    assert_eq!(outcome.reason, "0.333, at least 0.25 asked for");
}

#[tokio::test]
async fn a_counter_that_begins_anew_loses_nothing_and_counts_nothing_twice() {
    let mut samples = Samples::default();
    samples.restarting(&series("shop", "bbbb", "success"), 5, 9);
    samples.restarting(&series("shop", "bbbb", "failure"), 5, 1);
    let server = Server::with_samples(&samples.0);
    let outcome = judged(&server.url("http"), &window("shop", 60), success_rate()).await;
    assert_eq!(outcome.verdict, Verdict::Fail, "{outcome:?}");
    assert_eq!(
        outcome.reason,
        "90.00% of 120 requests, at least 99% asked for"
    );
}

/// The caller that has seen the failures is gone; what it has seen still counts, and no more than it has seen.
#[tokio::test]
async fn a_series_that_ends_in_the_window_counts_for_as_long_as_it_was() {
    let mut samples = Samples::default();
    samples.ended(&series("shop", "bbbb", "failure"), 5, 10, 120);
    samples.counter(&series("shop", "bbbb", "success"), 5, 10);
    // Of this one everything is before the window.
    samples.ended(&series("gone", "bbbb", "failure"), 5, 10, 500);
    samples.counter(&series("gone", "aaaa", "success"), 5, 10);
    let server = Server::with_samples(&samples.0);
    let url = server.url("http");
    let outcome = judged(&url, &window("shop", 300), success_rate()).await;
    assert_eq!(outcome.verdict, Verdict::Fail, "{outcome:?}");
    // 600 successes, and two a second of the failures for the 180 seconds, less what has passed since.
    let requests = outcome.requests.unwrap();
    assert!((720..=975).contains(&requests), "{outcome:?}");
    let outcome = judged(&url, &window("gone", 300), success_rate()).await;
    assert_eq!(outcome.reason, "no request to the canary is in this window");
}
