//! What became of first attempts, second by second, as a stream of the load reporting service (LRS v3): one ClusterStats is one
//! arm in one second.
//!
//! The standard's fields say what they can: issued, successful and failed requests, those in progress (long streams to a revision without a weight), and where some of the last failed (an
//! endpoint with what it said as its metadata, `status` or `grpc-status`, and of the latest `trace-id` and `path`). The rest are metrics of the locality:
//! `second` (since the Unix epoch, by the proxy's clock), one for each [`Class`] and, with the prefix `late_`, for each class
//! of attempts whose second was closed before, `withheld` for requests that a fuse gave to stable, and `latency_ms` once for each bucket that has something in it.

use envoy_types::pb::envoy::config::core::v3 as core;
use envoy_types::pb::envoy::config::endpoint::v3 as wire;
use envoy_types::pb::google::protobuf::{Duration as WireDuration, Struct};
use traffic_core::outcome::failures::MOST_PLACES;
use traffic_core::outcome::{
    Bucket, Class, Counts, Failed, Failures, PerClass, Place, Said, Sketch, Trace,
};

use crate::address;
use crate::metadata::{self, FieldProblem, Fields};

/// What a proxy sends.
pub type Request = envoy_types::pb::envoy::service::load_stats::v3::LoadStatsRequest;
/// What the control plane sends: once, how often it wants to hear.
pub type Response = envoy_types::pb::envoy::service::load_stats::v3::LoadStatsResponse;

/// The gRPC service, for the two shells that carry the messages.
pub mod grpc {
    pub use envoy_types::pb::envoy::service::load_stats::v3::load_reporting_service_client::LoadReportingServiceClient as Client;
    pub use envoy_types::pb::envoy::service::load_stats::v3::load_reporting_service_server::{
        LoadReportingService as Service, LoadReportingServiceServer as Server,
    };
}

/// The most reports in one message.
pub const MOST_REPORTS: usize = 100;
/// The most bytes of a cluster's name.
pub const LONGEST_NAME: usize = 300;
/// The most of anything in one second of one proxy: more than any proxy can count.
pub const MOST: u64 = 1 << 32;

const SECOND: &str = "second";
const LATENCY: &str = "latency_ms";
const LATE: &str = "late_";
const WITHHELD: &str = "withheld";
const STATUS: &str = "status";
const GRPC_STATUS: &str = "grpc-status";
const TRACE_ID: &str = "trace-id";
const PATH: &str = "path";

/// What is new of one arm's second, as one proxy saw it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// `<namespace>/<service>/<port>/<revision>`.
    pub cluster: String,
    /// Since the Unix epoch, by the proxy's clock.
    pub second: u64,
    pub counts: Counts,
}

/// A report that is not one of ours; the stream ends with this text.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("load report of cluster `{cluster}`: {problem}")]
pub struct InvalidReport {
    pub cluster: String,
    pub problem: ReportProblem,
}

#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ReportProblem {
    #[error("the message has {0} reports, the limit is {MOST_REPORTS}")]
    TooMany(usize),
    #[error("its name has {0} bytes, the limit is {LONGEST_NAME}, and it needs one")]
    Name(usize),
    #[error("it has {0} localities, expected 1")]
    Localities(usize),
    #[error("{what} is {count}, the limit is {MOST}")]
    Count { what: &'static str, count: u64 },
    #[error("`second` is {0}, which is no second since the Unix epoch")]
    Second(f64),
    #[error("it does not say of which second it is")]
    NoSecond,
    #[error("failures at {0} endpoints, the limit is {MOST_PLACES}")]
    Places(usize),
    #[error("a failure at an endpoint that has no address")]
    Place,
    #[error("what an endpoint said: {0}")]
    Said(#[from] FieldProblem),
    #[error("a latency of {0} ms on average")]
    Latency(f64),
}

/// The first message of a stream: who speaks. The control plane believes the token, not this.
pub fn hello(id: &str) -> Request {
    Request {
        node: Some(core::Node {
            id: id.to_owned(),
            ..core::Node::default()
        }),
        cluster_stats: Vec::new(),
    }
}

/// What the control plane answers to the first message: all of it, every second.
pub fn wanted() -> Response {
    Response {
        send_all_clusters: true,
        load_reporting_interval: Some(SECONDS_1),
        ..Response::default()
    }
}

const SECONDS_1: WireDuration = WireDuration {
    seconds: 1,
    nanos: 0,
};

/// How often the control plane wants to hear; `None` if it does not say.
pub fn interval(response: &Response) -> Option<std::time::Duration> {
    let said = response.load_reporting_interval?;
    let seconds = u64::try_from(said.seconds).ok()?;
    let nanos = u32::try_from(said.nanos)
        .ok()
        .filter(|nanos| *nanos < 1_000_000_000)?;
    Some(std::time::Duration::new(seconds, nanos))
}

/// As few messages as carry all of it.
pub fn encode(reports: &[Report]) -> impl Iterator<Item = Request> + '_ {
    reports.chunks(MOST_REPORTS).map(|reports| Request {
        node: None,
        cluster_stats: reports.iter().map(stats).collect(),
    })
}

fn stats(report: &Report) -> wire::ClusterStats {
    let counts = &report.counts;
    let mut metrics = vec![metric(SECOND, 1, report.second as f64)];
    for class in Class::ALL {
        let mut say = |name: String, count: u64| {
            if count > 0 {
                metrics.push(metric(&name, count, count as f64));
            }
        };
        say(class.as_str().to_owned(), counts.ended[class]);
        say(format!("{LATE}{}", class.as_str()), counts.late[class]);
    }
    if counts.withheld > 0 {
        metrics.push(metric(WITHHELD, counts.withheld, counts.withheld as f64));
    }
    metrics.extend(counts.latency.buckets().map(|(bucket, times)| {
        let millis = bucket.middle().as_secs_f64() * 1e3;
        metric(LATENCY, times.into(), millis * f64::from(times))
    }));
    let locality = wire::UpstreamLocalityStats {
        total_issued_requests: counts.started,
        total_successful_requests: counts.ended[Class::Success],
        total_error_requests: counts.ended.errors(),
        total_requests_in_progress: counts.open,
        load_metric_stats: metrics,
        upstream_endpoint_stats: counts.failures.places().map(place_stats).collect(),
        ..wire::UpstreamLocalityStats::default()
    };
    wire::ClusterStats {
        cluster_name: report.cluster.clone(),
        upstream_locality_stats: vec![locality],
        load_report_interval: Some(SECONDS_1),
        ..wire::ClusterStats::default()
    }
}

fn place_stats(failed: &Failed) -> wire::UpstreamEndpointStats {
    let said = match failed.place.said {
        Said::Nothing => None,
        Said::Status(status) => Some((STATUS, status)),
        Said::Grpc(status) => Some((GRPC_STATUS, status)),
    };
    let said = said.map(|(field, status)| (field, metadata::text(status.to_string())));
    let trace = failed.trace.iter().flat_map(|trace| {
        let path = metadata::text(trace.path().to_owned());
        [(TRACE_ID, metadata::text(trace.id())), (PATH, path)]
    });
    let mut about = said.into_iter().chain(trace).peekable();
    wire::UpstreamEndpointStats {
        address: Some(address::encode(failed.place.endpoint)),
        metadata: about.peek().is_some().then(|| metadata::fields(about)),
        total_error_requests: failed.times,
        ..wire::UpstreamEndpointStats::default()
    }
}

fn metric(name: &str, requests: u64, value: f64) -> wire::EndpointLoadMetricStats {
    wire::EndpointLoadMetricStats {
        metric_name: name.to_owned(),
        num_requests_finished_with_metric: requests,
        total_metric_value: value,
    }
}

/// All or nothing of a message.
pub fn decode(request: &Request) -> Result<Vec<Report>, InvalidReport> {
    decode_wanted(request, |_| true).map(|(reports, _)| reports)
}

/// All or nothing of what a message says of clusters that are `wanted`, and how many reports of others there are: those are not read.
pub fn decode_wanted(
    request: &Request,
    wanted: impl Fn(&str) -> bool,
) -> Result<(Vec<Report>, usize), InvalidReport> {
    let stats = &request.cluster_stats;
    if stats.len() > MOST_REPORTS {
        return Err(InvalidReport {
            cluster: String::new(),
            problem: ReportProblem::TooMany(stats.len()),
        });
    }
    let read = stats.iter().filter(|stats| wanted(&stats.cluster_name));
    let read = read.map(|stats| {
        report(stats).map_err(|problem| InvalidReport {
            cluster: stats.cluster_name.chars().take(LONGEST_NAME).collect(),
            problem,
        })
    });
    let reports: Vec<Report> = read.collect::<Result<_, _>>()?;
    let unread = stats.len() - reports.len();
    Ok((reports, unread))
}

fn report(stats: &wire::ClusterStats) -> Result<Report, ReportProblem> {
    let bytes = stats.cluster_name.len();
    if bytes == 0 || bytes > LONGEST_NAME {
        return Err(ReportProblem::Name(bytes));
    }
    let [locality] = stats.upstream_locality_stats.as_slice() else {
        return Err(ReportProblem::Localities(
            stats.upstream_locality_stats.len(),
        ));
    };
    let mut second = None;
    let (mut ended, mut late) = (PerClass::default(), PerClass::default());
    let (mut latency, mut withheld) = (Sketch::default(), 0);
    for metric in &locality.load_metric_stats {
        let count = metric.num_requests_finished_with_metric;
        match metric.metric_name.as_str() {
            SECOND => second = Some(whole_second(metric.total_metric_value)?),
            LATENCY => {
                let times = bounded("latency_ms", count)?;
                if let Some(bucket) = bucket(metric.total_metric_value, count)? {
                    latency.add(bucket, u32::try_from(times).unwrap_or(u32::MAX));
                }
            }
            WITHHELD => withheld = bounded(WITHHELD, count)?,
            name => {
                let (of, name) = match name.strip_prefix(LATE) {
                    Some(name) => (&mut late, name),
                    None => (&mut ended, name),
                };
                // A newer proxy may say more than is known here.
                if let Some(class) = Class::ALL.into_iter().find(|it| it.as_str() == name) {
                    of[class] = bounded(class.as_str(), count)?;
                }
            }
        }
    }
    Ok(Report {
        cluster: stats.cluster_name.clone(),
        second: second.ok_or(ReportProblem::NoSecond)?,
        counts: Counts {
            started: bounded("total_issued_requests", locality.total_issued_requests)?,
            ended,
            late,
            latency,
            withheld,
            open: bounded(
                "total_requests_in_progress",
                locality.total_requests_in_progress,
            )?,
            failures: failures(&locality.upstream_endpoint_stats)?,
        },
    })
}

fn failures(stats: &[wire::UpstreamEndpointStats]) -> Result<Failures, ReportProblem> {
    if stats.len() > MOST_PLACES {
        return Err(ReportProblem::Places(stats.len()));
    }
    let mut failures = Failures::default();
    for each in stats {
        let endpoint = address::decode(each.address.as_ref());
        let place = Place {
            endpoint: endpoint.map_err(|_| ReportProblem::Place)?,
            said: each.metadata.as_ref().map_or(Ok(Said::Nothing), said)?,
        };
        let times = bounded("total_error_requests", each.total_error_requests)?;
        failures.add_traced(place, times, each.metadata.as_ref().and_then(trace));
    }
    Ok(failures)
}

/// What is no trace is none: it is only for people, and no reason to end a stream.
fn trace(about: &Struct) -> Option<Trace> {
    let about = Fields(about);
    let id = about.text(TRACE_ID).ok()?;
    let path = about.text(PATH).unwrap_or_default();
    Trace::read(id.as_bytes(), path.as_bytes())
}

fn said(about: &Struct) -> Result<Said, FieldProblem> {
    let about = Fields(about);
    // Nothing above 65535 is a status of anybody.
    let status = |number| u16::try_from(number).unwrap_or(u16::MAX);
    Ok(
        match (
            about.number_if_any(STATUS)?,
            about.number_if_any(GRPC_STATUS)?,
        ) {
            (Some(number), _) => Said::Status(status(number)),
            (None, Some(number)) => Said::Grpc(status(number)),
            (None, None) => Said::Nothing,
        },
    )
}

fn bounded(what: &'static str, count: u64) -> Result<u64, ReportProblem> {
    if count > MOST {
        return Err(ReportProblem::Count { what, count });
    }
    Ok(count)
}

fn whole_second(value: f64) -> Result<u64, ReportProblem> {
    // Exact in an f64, and the year is below 10,000.
    let sane = value.fract() == 0.0 && (0.0..253_402_300_800.0).contains(&value);
    if !sane {
        return Err(ReportProblem::Second(value));
    }
    Ok(value as u64)
}

/// The bucket of an average; `None` without any.
fn bucket(total: f64, count: u64) -> Result<Option<Bucket>, ReportProblem> {
    if count == 0 {
        return Ok(None);
    }
    let micros = (total / count as f64 * 1e3).round();
    let time = std::time::Duration::try_from_secs_f64(micros / 1e6);
    let time = time.map_err(|_| ReportProblem::Latency(total / count as f64))?;
    Ok(Some(Bucket::of(time)))
}

#[cfg(test)]
mod tests;
