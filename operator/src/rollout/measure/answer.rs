//! What an answer of Prometheus measures. Pure.
//!
//! Every number is looked at before it is believed: a sample may be NaN or infinite, a count negative or absurd, a
//! label missing or there twice.

use std::collections::BTreeSet;
use std::time::Duration;

use prometheus_http_query::response::{Data, InstantVector};
use rollout_core::judge::Measured;
use traffic_core::contract::label;

use crate::rollout::checks::Query;
use crate::rollout::checks::builtin::{self, End, MetricsSource};

/// Beyond it, a float does not count by ones any more.
const LARGEST_COUNT: f64 = 9_007_199_254_740_992.0;

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Measurement {
    pub(super) measured: Measured,
    /// Requests to the canary, where any were counted.
    pub(super) requests: Option<u64>,
}

/// Why an answer measures nothing. None of these shows a label or a value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Nothing {
    #[error(
        "Prometheus has no samples of the canary in this window: either no request reached it, or analysis.interval is \
         shorter than two scrapes, or nothing is scraped"
    )]
    NoSamples,
    #[error("no request to the canary is in this window")]
    NoRequest,
    #[error(
        "a window of {}s has less than two scrapes, and a rate needs two: make analysis.interval at least twice the scrape interval of Prometheus",
        .0.as_secs_f64()
    )]
    TooShort(Duration),
    #[error(
        "Prometheus has no metrics of {0:?} about this Service, of any revision: have it scrape the sidecars (docs/prometheus.md), or name another source in spec.analysis.prometheus.metrics"
    )]
    NotScraped(MetricsSource),
    #[error(
        "Prometheus has no metrics of {0:?} about this Service under job {1}: correct spec.analysis.prometheus.job, or have that job scrape the sidecars (docs/prometheus.md)"
    )]
    NotInJob(MetricsSource, String),
    #[error("the query gave a {0}; it has to give one number")]
    Kind(&'static str),
    #[error(
        "the query gave no series: nothing matches it, or the range in it is shorter than two scrapes"
    )]
    NoSeries,
    #[error("the query gave {0} series; it has to give exactly one")]
    Many(usize),
    #[error("the query gave a value that is not a finite number")]
    NotFinite,
    #[error(
        "Prometheus counts requests that cannot be: a count is negative, not finite, or beyond 2^53"
    )]
    NoCount,
    #[error("a series of the canary's requests has no label {0} that makes sense")]
    Label(&'static str),
    #[error("two series of the canary's requests have the same label {0}")]
    Twice(&'static str),
    #[error("the histogram has no +Inf bucket")]
    NoInfinity,
}

pub(super) fn read(
    query: &Query,
    source: MetricsSource,
    data: &Data,
) -> Result<Measurement, Nothing> {
    match query {
        Query::Successes => successes(source, vector(data)?),
        Query::FasterThan { seconds, .. } => {
            faster_than(vector(data)?, *seconds / builtin::bucket_unit(source))
        }
        Query::Custom(_) => number(data),
    }
}

/// Requests a minute from outside the mesh. A hint: whatever else the answer says, it says nothing.
pub(super) fn outside(data: &Data) -> Option<u64> {
    match vector(data).ok()? {
        [one] => count(one).ok().map(whole),
        [] | [_, _, ..] => None,
    }
}

/// The most samples that a series has. No series: none.
pub(super) fn samples(data: &Data) -> Option<u64> {
    match vector(data).ok()? {
        [] => Some(0),
        [one] => count(one).ok().map(whole),
        [_, _, ..] => None,
    }
}

fn vector(data: &Data) -> Result<&[InstantVector], Nothing> {
    match data {
        Data::Vector(series) => Ok(series),
        Data::Matrix(_) => Err(Nothing::Kind("matrix")),
        Data::Scalar(_) => Err(Nothing::Kind("scalar")),
    }
}

fn number(data: &Data) -> Result<Measurement, Nothing> {
    let value = match data {
        Data::Scalar(sample) => sample.value(),
        Data::Vector(series) => match series.as_slice() {
            [] => return Err(Nothing::NoSeries),
            [one] => one.sample().value(),
            many => return Err(Nothing::Many(many.len())),
        },
        Data::Matrix(_) => return Err(Nothing::Kind("matrix")),
    };
    if !value.is_finite() {
        return Err(Nothing::NotFinite);
    }
    Ok(Measurement {
        measured: Measured::Number(value),
        requests: None,
    })
}

/// Requests by how they ended; what the caller gave up itself says nothing about the canary.
fn successes(source: MetricsSource, series: &[InstantVector]) -> Result<Measurement, Nothing> {
    if series.is_empty() {
        return Err(Nothing::NoSamples);
    }
    let labels = builtin::ends(source);
    let (mut good, mut bad) = (0.0, 0.0);
    let mut seen = BTreeSet::new();
    for one in series {
        let end = builtin::end(source, one.metric()).map_err(Nothing::Label)?;
        let values: Vec<&str> = labels
            .iter()
            .map(|label| one.metric().get(*label).map_or("", String::as_str))
            .collect();
        if !seen.insert(values) {
            return Err(Nothing::Twice(labels[0]));
        }
        let count = count(one)?;
        match end {
            End::Good => good += count,
            End::Bad => bad += count,
            End::Left => {}
        }
    }
    share(good, good + bad)
}

/// The share of requests that took at most `bound`, in the unit of the buckets: linear inside a bucket, as `histogram_quantile` reads it.
fn faster_than(series: &[InstantVector], bound: f64) -> Result<Measurement, Nothing> {
    const LABEL: &str = label::LE;
    let mut buckets: Vec<(f64, f64)> = Vec::with_capacity(series.len());
    for one in series {
        let le = one.metric().get(LABEL).ok_or(Nothing::Label(LABEL))?;
        let le: f64 = le.parse().map_err(|_| Nothing::Label(LABEL))?;
        if le.is_nan() {
            return Err(Nothing::Label(LABEL));
        }
        buckets.push((le, count(one)?));
    }
    buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
    if buckets.windows(2).any(|two| two[0].0 >= two[1].0) {
        return Err(Nothing::Twice(LABEL));
    }
    let &(last, total) = buckets.last().ok_or(Nothing::NoSamples)?;
    if last != f64::INFINITY {
        return Err(Nothing::NoInfinity);
    }
    let mut below = (0.0, 0.0);
    let mut good = total;
    for (le, count) in buckets {
        if le >= bound {
            let width = le - below.0;
            good = if width.is_finite() && width > 0.0 {
                below.1 + (count - below.1) * (bound - below.0) / width
            } else {
                below.1
            };
            break;
        }
        below = (le, count);
    }
    // Scrapes of many sidecars are not taken in the same instant: a bucket can be ahead of the total.
    share(good.clamp(0.0, total), total)
}

fn share(good: f64, total: f64) -> Result<Measurement, Nothing> {
    if total > LARGEST_COUNT {
        return Err(Nothing::NoCount);
    }
    Ok(Measurement {
        measured: Measured::Share { good, total },
        requests: Some(whole(total)),
    })
}

fn count(series: &InstantVector) -> Result<f64, Nothing> {
    let count = series.sample().value();
    if (0.0..=LARGEST_COUNT).contains(&count) {
        Ok(count)
    } else {
        Err(Nothing::NoCount)
    }
}

/// Prometheus extrapolates, so counts have fractions.
fn whole(count: f64) -> u64 {
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // between 0 and 2^53
    let whole = count.round() as u64;
    whole
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(label: &str, values: &[(&str, &str)]) -> Data {
        let one = |(name, value): &(&str, &str)| serde_json::json!({"metric": {label: name}, "value": [0, value]});
        let all: Vec<_> = values.iter().map(one).collect();
        serde_json::from_value(serde_json::json!({"resultType": "vector", "result": all})).unwrap()
    }

    fn faster_than(seconds: f64, data: &Data) -> Result<Measurement, Nothing> {
        let query = Query::FasterThan {
            seconds,
            quantile: 0.99,
        };
        read(&query, MetricsSource::Aviary, data)
    }

    #[test]
    fn what_clients_gave_up_is_no_evidence() {
        let classes = [
            ("success", "95"),
            ("failure", "4"),
            ("unsent", "1"),
            ("client_closed", "50"),
        ];
        let measured = Measured::Share {
            good: 95.0,
            total: 100.0,
        };
        assert_eq!(
            read(
                &Query::Successes,
                MetricsSource::Aviary,
                &series("class", &classes)
            ),
            Ok(Measurement {
                measured,
                requests: Some(100)
            })
        );
    }

    #[test]
    fn no_series_is_nothing_and_says_what_may_be_wrong() {
        let empty = series("class", &[]);
        let why = read(&Query::Successes, MetricsSource::Aviary, &empty).unwrap_err();
        assert!(why.to_string().contains("analysis.interval"), "{why}");
        assert_eq!(faster_than(0.5, &empty), Err(Nothing::NoSamples));
    }

    #[test]
    fn latency_is_interpolated_inside_its_bucket() {
        let buckets = series(
            "le",
            &[
                ("0.1", "50"),
                ("0.2", "90"),
                ("0.4", "100"),
                ("+Inf", "100"),
            ],
        );
        let share = |seconds| match faster_than(seconds, &buckets).unwrap().measured {
            Measured::Share { good, total } => good / total,
            other @ (Measured::Number(_) | Measured::Absent(_)) => panic!("{other:?}"),
        };
        assert!((share(0.1) - 0.50).abs() < 1e-9);
        assert!((share(0.15) - 0.70).abs() < 1e-9);
        assert!((share(0.2) - 0.90).abs() < 1e-9);
        assert!((share(0.3) - 0.95).abs() < 1e-9);
        // All finite buckets are below: only +Inf is left, and it is empty.
        assert!((share(1.0) - 1.0).abs() < 1e-9);
    }

    #[test]
    fn requests_beyond_the_last_bucket_are_too_slow() {
        let slow = series("le", &[("0.1", "0"), ("+Inf", "10")]);
        let measured = Measured::Share {
            good: 0.0,
            total: 10.0,
        };
        assert_eq!(faster_than(0.5, &slow).unwrap().measured, measured);
    }

    #[test]
    fn a_bucket_that_is_ahead_of_the_total_makes_no_share_above_the_whole() {
        let ahead = series("le", &[("0.1", "12"), ("+Inf", "10")]);
        let measured = Measured::Share {
            good: 10.0,
            total: 10.0,
        };
        assert_eq!(faster_than(0.1, &ahead).unwrap().measured, measured);
    }
}
