//! Requests under the names, labels and buckets of Istio's standard metrics, where a pod wants them: dashboards and tools that know those then work as they are.
//!
//! | name | type | unit |
//! |---|---|---|
//! | `istio_requests_total` | counter | requests, at their end |
//! | `istio_request_duration_milliseconds` | histogram | from a request's head to the end of its answer |
//! | `istio_request_bytes`, `istio_response_bytes` | histogram | bytes of the bodies, as they went on |
//!
//! What a sidecar does not know is `unknown`, as in Istio. Not there: what would be a guess (`*_app`, `*_version`, `*_cluster`, `*_canonical_*`), the counters of
//! gRPC's messages, and those of TCP.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;

use super::ports::Workload;
use super::series;

/// Sets of labels that are told apart. Where there are more, the one that was unused for longest goes: answers may have any status, and releases come and go.
const MOST: usize = 1000;
/// What is not known.
const UNKNOWN: &str = "unknown";
/// What a gRPC status is that is none (gRPC, status codes: UNKNOWN).
const GRPC_UNKNOWN: u16 = 2;
const GRPC_LAST: u16 = 16;

/// Upper bounds of the buckets, of times in milliseconds and of sizes in bytes alike: Istio's own.
const BOUNDS: [f64; 19] = [
    0.5,
    1.0,
    5.0,
    10.0,
    25.0,
    50.0,
    100.0,
    250.0,
    500.0,
    1_000.0,
    2_500.0,
    5_000.0,
    10_000.0,
    30_000.0,
    60_000.0,
    300_000.0,
    600_000.0,
    1_800_000.0,
    3_600_000.0,
];

/// At which end a request was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reporter {
    /// By the caller's sidecar, or by one that has picked the revision for a caller that has none.
    Source,
    /// By the called one's.
    Destination,
}

/// One end of a request.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Party {
    pub workload: Option<Arc<str>>,
    pub namespace: Option<Arc<str>>,
    /// A SPIFFE ID that was proven.
    pub principal: Option<Arc<str>>,
}

/// The Service that was called.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Service {
    pub name: Box<str>,
    pub namespace: Box<str>,
}

/// What tells one series from another.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Labels {
    pub reporter: Reporter,
    pub source: Party,
    pub destination: Party,
    pub service: Option<Service>,
    /// gRPC, with the status that came, if any did; `None`: HTTP.
    pub grpc: Option<Option<u16>>,
    /// 0: the caller left before there was any.
    pub code: u16,
    pub flags: Cow<'static, str>,
}

/// What is added to a series.
#[derive(Clone, Copy, Debug)]
pub struct Measures {
    pub duration: Duration,
    pub received: u64,
    pub sent: u64,
}

#[derive(Debug)]
pub struct Istio {
    own: Party,
    series: Mutex<HashMap<Labels, Sums>>,
}

#[derive(Clone, Debug)]
struct Sums {
    used: Instant,
    duration: Buckets,
    received: Buckets,
    sent: Buckets,
}

#[derive(Clone, Debug, Default)]
struct Buckets {
    /// The last one takes what is above every bound.
    counts: [u64; BOUNDS.len() + 1],
    sum: f64,
}

impl Istio {
    /// In a pod of this workload.
    pub fn of(workload: &Workload) -> Istio {
        let known = |text: &str| (!text.is_empty()).then(|| Arc::from(text));
        Istio {
            own: Party {
                workload: known(&workload.name),
                namespace: known(&workload.namespace),
                principal: None,
            },
            series: Mutex::default(),
        }
    }

    /// This pod, with the SPIFFE ID that it has shown.
    pub fn own(&self, principal: Option<Arc<str>>) -> Party {
        Party {
            principal,
            ..self.own.clone()
        }
    }

    pub fn count(&self, labels: Labels, measures: &Measures, now: Instant) {
        let mut all = self.series.lock().unwrap_or_else(PoisonError::into_inner);
        if !all.contains_key(&labels) && all.len() >= MOST {
            let oldest = all.iter().min_by_key(|(_, sums)| sums.used);
            if let Some(oldest) = oldest.map(|(labels, _)| labels.clone()) {
                all.remove(&oldest);
            }
        }
        let sums = all.entry(labels).or_insert_with(|| Sums::new(now));
        sums.used = now;
        sums.duration.add(measures.duration.as_secs_f64() * 1e3);
        sums.received.add(measures.received as f64);
        sums.sent.add(measures.sent as f64);
    }

    pub(super) fn encode(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let series: Vec<(series::Labels<'static>, Sums)> = {
            let all = self.series.lock().unwrap_or_else(PoisonError::into_inner);
            all.iter()
                .map(|(labels, sums)| (labels.pairs(), sums.clone()))
                .collect()
        };
        series::counted(
            encoder,
            "istio_requests",
            "Requests, as Istio's sidecars count them",
            &series,
            |sums| sums.duration.count(),
        )?;
        type Of = fn(&Sums) -> &Buckets;
        let histograms: [(&str, &str, Of); 3] = [
            (
                "istio_request_duration_milliseconds",
                "From a request's head to the end of its answer, as Istio's sidecars count it",
                |sums| &sums.duration,
            ),
            (
                "istio_request_bytes",
                "Bytes of a request's body, as Istio's sidecars count them",
                |sums| &sums.received,
            ),
            (
                "istio_response_bytes",
                "Bytes of an answer's body, as Istio's sidecars count them",
                |sums| &sums.sent,
            ),
        ];
        for (name, help, of) in histograms {
            let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Histogram)?;
            for (labels, sums) in &series {
                let buckets = of(sums);
                let bounds = BOUNDS.into_iter().chain([f64::INFINITY]);
                let pairs: Vec<(f64, u64)> = bounds.zip(buckets.counts).collect();
                metric
                    .encode_family(labels)?
                    .encode_histogram::<NoLabelSet>(buckets.sum, buckets.count(), &pairs, None)?;
            }
        }
        Ok(())
    }
}

impl Sums {
    fn new(now: Instant) -> Sums {
        Sums {
            used: now,
            duration: Buckets::default(),
            received: Buckets::default(),
            sent: Buckets::default(),
        }
    }
}

impl Buckets {
    fn add(&mut self, value: f64) {
        self.counts[BOUNDS.partition_point(|bound| *bound < value)] += 1;
        self.sum += value;
    }

    fn count(&self) -> u64 {
        self.counts.iter().sum()
    }
}

impl Labels {
    /// The names and their order are Istio's.
    fn pairs(&self) -> series::Labels<'static> {
        let or_unknown = |text: &Option<Arc<str>>| text.as_deref().unwrap_or(UNKNOWN).to_owned();
        let service = self.service.as_ref();
        let of_service =
            |text: fn(&Service) -> String| service.map_or_else(|| UNKNOWN.to_owned(), text);
        let (protocol, grpc_status) = match self.grpc {
            None => ("http", String::new()),
            Some(None) => ("grpc", String::new()),
            Some(Some(status @ 0..=GRPC_LAST)) => ("grpc", status.to_string()),
            Some(Some(_)) => ("grpc", GRPC_UNKNOWN.to_string()),
        };
        let security = match (self.reporter, &self.source.principal) {
            // The caller's sidecar leaves that to the called one, as Istio's does.
            (Reporter::Source, _) => UNKNOWN,
            (Reporter::Destination, Some(_)) => "mutual_tls",
            (Reporter::Destination, None) => "none",
        };
        vec![
            (
                "reporter",
                match self.reporter {
                    Reporter::Source => "source",
                    Reporter::Destination => "destination",
                }
                .to_owned(),
            ),
            ("source_workload", or_unknown(&self.source.workload)),
            (
                "source_workload_namespace",
                or_unknown(&self.source.namespace),
            ),
            ("source_principal", or_unknown(&self.source.principal)),
            (
                "destination_workload",
                or_unknown(&self.destination.workload),
            ),
            (
                "destination_workload_namespace",
                or_unknown(&self.destination.namespace),
            ),
            (
                "destination_principal",
                or_unknown(&self.destination.principal),
            ),
            (
                "destination_service",
                of_service(|it| format!("{}.{}.svc.cluster.local", it.name, it.namespace)),
            ),
            (
                "destination_service_name",
                of_service(|it| it.name.to_string()),
            ),
            (
                "destination_service_namespace",
                of_service(|it| it.namespace.to_string()),
            ),
            ("request_protocol", protocol.to_owned()),
            ("response_code", self.code.to_string()),
            ("grpc_response_status", grpc_status),
            ("response_flags", self.flags.clone().into_owned()),
            ("connection_security_policy", security.to_owned()),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(code: u16) -> Labels {
        Labels {
            reporter: Reporter::Source,
            source: Party::default(),
            destination: Party::default(),
            service: None,
            grpc: None,
            code,
            flags: "-".into(),
        }
    }

    #[test]
    fn of_many_sets_of_labels_the_one_that_was_unused_for_longest_goes() {
        let (istio, start) = (Istio::of(&Workload::default()), Instant::now());
        let measures = Measures {
            duration: Duration::from_millis(7),
            received: 0,
            sent: 10,
        };
        let count =
            |code, at| istio.count(labels(code), &measures, start + Duration::from_secs(at));
        for code in 0..1000 {
            count(code, u64::from(code));
        }
        count(0, 2_000);
        count(1000, 2_001);
        let all = istio.series.lock().unwrap();
        assert_eq!(all.len(), MOST);
        assert_eq!(all[&labels(0)].duration.count(), 2);
        assert!(!all.contains_key(&labels(1)) && all.contains_key(&labels(1000)));
    }

    #[test]
    fn a_value_lands_in_the_bucket_whose_bound_it_does_not_exceed() {
        let mut buckets = Buckets::default();
        for value in [0.0, 0.5, 0.6, 3_600_000.0, 3_600_001.0] {
            buckets.add(value);
        }
        let filled: Vec<usize> = (0..20).filter(|at| buckets.counts[*at] > 0).collect();
        assert_eq!(filled, [0, 1, 18, 19]);
        assert_eq!((buckets.counts[0], buckets.count()), (2, 5));
    }

    #[test]
    fn what_is_not_known_is_unknown_and_a_status_that_is_none_is_2() {
        let of = |grpc, name: &str| {
            let labels = Labels {
                grpc,
                ..labels(200)
            };
            let pairs = labels.pairs();
            let found = pairs.iter().find(|(label, _)| *label == name);
            found.unwrap().1.clone()
        };
        for (grpc, status) in [
            (None, ""),
            (Some(None), ""),
            (Some(Some(0)), "0"),
            (Some(Some(16)), "16"),
            (Some(Some(17)), "2"),
            (Some(Some(u16::MAX)), "2"),
        ] {
            assert_eq!(of(grpc, "grpc_response_status"), status);
            let protocol = if grpc.is_some() { "grpc" } else { "http" };
            assert_eq!(of(grpc, "request_protocol"), protocol);
        }
        for label in ["source_workload", "destination_service", "source_principal"] {
            assert_eq!(of(None, label), "unknown");
        }
    }
}
