//! A check of the spec, parsed: what to ask Prometheus, and what the answer is held against.
//!
//! The built-in checks read the metrics of the calling sidecars (`aviary_outbound_*`): first attempts only, so that
//! retries are evidence for neither revision. They are asked for with the label `job` of the sidecars' scrape job, which
//! Prometheus sets itself: a pod that exports the same names under another job is no evidence. Latency is judged as a share too: "p99 at most 500 ms" is the same as
//! "at least 99 % of the requests took at most 500 ms", and a share has a confidence interval. What another mesh counts can be
//! read instead ([`builtin`]).

pub(crate) mod builtin;

use std::cell::Cell;
use std::time::Duration;

use aviary_crds::decimal::Decimal;
use aviary_crds::prometheus::MetricsSource;
use aviary_crds::spec::Check as SpecCheck;
use aviary_crds::units::{self, UnitError};
use rollout_core::judge::Bound;
use traffic_core::contract::{label, metric, peer};

use super::copy;
use crate::admission::rollout::query::{self, Placeholder, QueryError};

/// Requests from outside the mesh are counted over at least this long.
const MINUTE: Duration = Duration::from_secs(60);

#[derive(Clone, Debug, PartialEq)]
pub struct Check {
    pub name: String,
    pub query: Query,
    pub bound: Bound,
}

/// Where a measurement comes from.
#[derive(Clone, Debug, PartialEq)]
pub enum Query {
    /// First attempts by class.
    Successes,
    /// Requests by latency bucket: how many were at most this slow.
    FasterThan { seconds: f64, quantile: f64 },
    /// The user's own.
    Custom(String),
}

#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum InvalidCheck {
    #[error("spec.analysis.checks[{name}]: {source}")]
    Unit { name: String, source: UnitError },
    #[error(
        "spec.analysis.checks[{0}]: a check has exactly one of successRate, latency and prometheus"
    )]
    NotOne(String),
    #[error("spec.analysis.checks[{0}]: a prometheus check needs atMost or atLeast")]
    NoBound(String),
}

impl Check {
    pub fn parse(spec: &SpecCheck) -> Result<Check, InvalidCheck> {
        let name = spec.name.clone();
        let unit = |source| InvalidCheck::Unit {
            name: spec.name.clone(),
            source,
        };
        match (&spec.success_rate, &spec.latency, &spec.prometheus) {
            (Some(rate), None, None) => {
                let share = f64::from(units::percent(&rate.at_least).map_err(unit)?) / 100_000.0;
                Ok(Check {
                    name,
                    query: Query::Successes,
                    bound: Bound::ShareAtLeast(share),
                })
            }
            (None, Some(latency), None) => {
                let quantile = units::quantile(&latency.quantile).map_err(unit)?;
                let at_most: Duration = units::duration(&latency.at_most).map_err(unit)?;
                let query = Query::FasterThan {
                    seconds: at_most.as_secs_f64(),
                    quantile,
                };
                Ok(Check {
                    name,
                    query,
                    bound: Bound::ShareAtLeast(quantile),
                })
            }
            (None, None, Some(custom)) => {
                if custom.at_least.is_none() && custom.at_most.is_none() {
                    return Err(InvalidCheck::NoBound(name));
                }
                let number = |bound: &Option<Decimal>| {
                    let number = bound.as_ref().map(Decimal::number);
                    number.transpose().map_err(unit)
                };
                let bound = Bound::Between {
                    at_least: number(&custom.at_least)?,
                    at_most: number(&custom.at_most)?,
                };
                Ok(Check {
                    name,
                    query: Query::Custom(custom.query.clone()),
                    bound,
                })
            }
            (None | Some(_), None | Some(_), None | Some(_)) => Err(InvalidCheck::NotOne(name)),
        }
    }
}

/// What the placeholders of a query stand for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scope {
    pub namespace: String,
    pub service: String,
    pub ports: Vec<i32>,
    pub deployment: String,
    pub stable: String,
    pub canary: String,
    pub interval: Duration,
    /// Whose metrics the built-in checks read.
    pub metrics: MetricsSource,
    /// Under which job these are scraped. `None`: Aviary's as ever, and those of others under any.
    pub job: Option<String>,
    /// Stable has requests too, so that the canary can be judged beside it.
    pub beside_stable: bool,
    /// For how long every proxy has used the present weight.
    pub settled: Duration,
}

impl Scope {
    /// PromQL for a check over the window that ends when it is asked.
    pub fn promql(&self, query: &Query) -> Result<String, QueryError> {
        Ok(match query {
            Query::Successes => builtin::successes(self),
            Query::FasterThan { .. } => builtin::latencies(self),
            Query::Custom(text) => {
                return query::render(text, |placeholder| self.value(placeholder));
            }
        })
    }

    /// The scope that asks the same about the stable revision. `None`: it has no requests, or the query is not about one
    /// revision.
    pub fn of_stable(&self, query: &Query) -> Option<Scope> {
        let about_one = match query {
            Query::Successes | Query::FasterThan { .. } => true,
            Query::Custom(text) => {
                let (canary, stable) = (Cell::new(false), Cell::new(false));
                // Whatever the query says it asks is looked at when it is asked.
                let _ = query::render(text, |placeholder| {
                    canary.set(canary.get() || placeholder == Placeholder::CanaryRevision);
                    stable.set(stable.get() || placeholder == Placeholder::StableRevision);
                    String::new()
                });
                canary.get() && !stable.get()
            }
        };
        (self.beside_stable && about_one).then(|| Scope {
            canary: self.stable.clone(),
            ..self.clone()
        })
    }

    /// PromQL for the requests a minute that came to the Deployment's pods, or to the canary's, from outside the mesh and were not split. Over the
    /// last minute; over the interval if that is longer, since it is what says how often sidecars are scraped. But only over the time in which every
    /// proxy has used this weight: before a release nobody splits. `None`: that is too short.
    pub fn outside(&self) -> Option<String> {
        let workload = |name: &str| name.replace('.', "[.]");
        let counted = self.interval.max(MINUTE).min(self.settled);
        if counted < self.interval {
            return None;
        }
        Some(format!(
            r#"sum(rate({}{}{{{},{}="{}",{}="{}",{}=~"{}|{}"}}[{}])) * {}"#,
            metric::INBOUND_REQUESTS,
            metric::TOTAL,
            builtin::of_sidecars(self),
            label::PEER,
            peer::OUTSIDE,
            label::NAMESPACE,
            self.namespace,
            label::WORKLOAD,
            workload(&self.deployment),
            workload(&copy::name(&self.deployment, &self.canary)),
            window(counted),
            MINUTE.as_secs()
        ))
    }

    /// PromQL for the most samples that a series of the Service, of any revision, has in this long.
    pub(crate) fn samples(&self, length: Duration) -> String {
        builtin::samples(self, &window(length))
    }

    fn value(&self, placeholder: Placeholder) -> String {
        match placeholder {
            Placeholder::CanaryRevision => self.canary.clone(),
            Placeholder::StableRevision => self.stable.clone(),
            Placeholder::Namespace => self.namespace.clone(),
            Placeholder::Service => self.service.clone(),
            Placeholder::Deployment => self.deployment.clone(),
            Placeholder::Interval => window(self.interval),
        }
    }
}

fn window(interval: Duration) -> String {
    format!("{}ms", interval.as_millis())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scope() -> Scope {
        Scope {
            namespace: "shop".into(),
            service: "payment".into(),
            ports: vec![],
            deployment: "payment".into(),
            stable: "aaaa".into(),
            canary: "bbbb".into(),
            interval: Duration::from_secs(10),
            metrics: MetricsSource::Aviary,
            job: None,
            beside_stable: true,
            settled: Duration::from_secs(600),
        }
    }

    #[test]
    fn built_in_queries_name_the_canary_and_the_window() {
        assert_eq!(
            scope().promql(&Query::Successes).unwrap(),
            r#"sum by (class) (increase(aviary_outbound_first_attempts_total{job="aviary-proxy",dst_namespace="shop",dst_service="payment",revision="bbbb"}[10000ms]))"#
        );
        let ports = Scope {
            ports: vec![80, 8080],
            ..scope()
        };
        assert!(
            ports
                .promql(&Query::Successes)
                .unwrap()
                .contains(r#"dst_port=~"80|8080""#)
        );
    }

    fn custom(bounds: serde_json::Value) -> Result<Check, InvalidCheck> {
        let mut check = serde_json::json!({"name": "queue", "prometheus": {"query": "up"}});
        for (name, bound) in bounds.as_object().unwrap() {
            check["prometheus"][name] = bound.clone();
        }
        Check::parse(&serde_json::from_value(check).unwrap())
    }

    #[test]
    fn bounds_are_integers_or_decimals_in_quotes() {
        let check = custom(serde_json::json!({"atMost": "0.05", "atLeast": -1})).unwrap();
        let bound = Bound::Between {
            at_least: Some(-1.0),
            at_most: Some(0.05),
        };
        assert_eq!(check.bound, bound);
        // The schema refuses it already; what was stored before it did is refused here.
        let error = custom(serde_json::json!({"atMost": "5%"})).unwrap_err();
        assert_eq!(
            error.to_string(),
            r#"spec.analysis.checks[queue]: '5%' is not a number: write an integer, or a decimal in quotes like "0.05" (at most 15 digits before the point and 9 after it)"#
        );
        assert_eq!(
            custom(serde_json::json!({})),
            Err(InvalidCheck::NoBound("queue".to_owned()))
        );
    }

    #[test]
    fn callers_outside_the_mesh_are_counted_over_a_minute_or_over_a_longer_interval() {
        assert_eq!(
            scope().outside().unwrap(),
            r#"sum(rate(aviary_inbound_requests_total{job="aviary-proxy",peer="outside",namespace="shop",workload=~"payment|payment-canary-bbbb"}[60000ms])) * 60"#
        );
        let slow = Scope {
            interval: Duration::from_secs(300),
            deployment: "payment.v1".into(),
            ..scope()
        };
        let query = slow.outside().unwrap();
        assert!(
            query.contains(r#"workload=~"payment[.]v1|payment[.]v1-canary-bbbb"}[300000ms]"#),
            "{query}"
        );
        // What came before every proxy had the weight was nobody's to split.
        let young = |settled| Scope {
            settled: Duration::from_secs(settled),
            ..scope()
        };
        let query = young(25).outside().unwrap();
        assert!(query.contains("[25000ms]"), "{query}");
        assert_eq!(young(9).outside(), None);
    }

    #[test]
    fn placeholders_are_replaced() {
        let query = Query::Custom(r#"max(depth{revision="{{ canary.revision }}",old="{{stable.revision}}"}[{{ interval }}])"#.into());
        assert_eq!(
            scope().promql(&query).unwrap(),
            r#"max(depth{revision="bbbb",old="aaaa"}[10000ms])"#
        );
        assert!(
            scope()
                .promql(&Query::Custom("{{ nobody }}".into()))
                .is_err()
        );
    }

    #[test]
    fn the_same_is_asked_about_stable_where_it_is_about_one_revision() {
        let stable = scope().of_stable(&Query::Successes).unwrap();
        let asked = stable.promql(&Query::Successes).unwrap();
        assert!(asked.contains(r#"revision="aaaa""#), "{asked}");
        let own = |text: &str| Query::Custom(text.to_owned());
        let depth = own(r#"max(depth{revision="{{ canary.revision }}"})"#);
        let asked = scope().of_stable(&depth).unwrap().promql(&depth).unwrap();
        assert_eq!(asked, r#"max(depth{revision="aaaa"})"#);
        for of_none_or_both in [
            "up",
            "{{ canary.revision }} - {{ stable.revision }}",
            "{{ stable.revision }}",
        ] {
            assert_eq!(scope().of_stable(&own(of_none_or_both)), None);
        }
        let alone = Scope {
            beside_stable: false,
            ..scope()
        };
        assert_eq!(alone.of_stable(&Query::Successes), None);
    }

    #[test]
    fn every_query_is_promql() {
        for query in [
            Query::Successes,
            Query::FasterThan {
                seconds: 0.5,
                quantile: 0.99,
            },
        ] {
            let text = scope().promql(&query).unwrap();
            assert!(promql_parser::parser::parse(&text).is_ok(), "{text}");
        }
        let text = scope().outside().unwrap();
        assert!(promql_parser::parser::parse(&text).is_ok(), "{text}");
    }
}
