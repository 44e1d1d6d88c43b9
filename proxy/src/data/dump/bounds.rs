//! How calls to a Service are bounded, and what this sidecar takes itself, as JSON: in the words in which annotations say it.

use std::time::Duration;

use serde_json::{Value, json};
use traffic_core::bounds::Bounds;
use traffic_core::fault::Faults;
use traffic_core::retry::policy::Retries;

use crate::limits::Limits;

/// What the owner of the Service says.
pub(super) fn calls(bounds: &Bounds) -> Value {
    let Bounds {
        request,
        idle,
        requests,
        retries,
        faults,
    } = bounds;
    json!({
        "request_timeout": request.map(time),
        "stream_idle_timeout": idle.map(time),
        "max_requests": requests,
        "retries": retries.as_ref().map(retried),
        "faults": faults.as_deref().map(put_in),
    })
}

/// What the pod says.
pub(super) fn own(limits: &Limits) -> Value {
    let rate = |rate: Option<traffic_core::rate::Rate>| rate.map(|rate| rate.to_string());
    json!({
        "connect_timeout": time(limits.connect),
        "max_connections": limits.connections,
        "max_streams": limits.streams,
        "max_header_bytes": limits.head.bytes,
        "max_headers": limits.head.fields,
        "header_timeout": time(limits.head_time),
        "rate_limit": rate(limits.rates.all),
        "rate_limit_per_caller": rate(limits.rates.each),
    })
}

fn retried(retries: &Retries) -> Value {
    let Retries {
        on,
        times,
        each,
        methods,
        budget,
    } = retries;
    let on: Vec<String> = on.iter().map(|each| each.to_string()).collect();
    let methods: Vec<&str> = methods.iter().map(|each| each.as_str()).collect();
    json!({
        "on": on.join(","),
        "limit": times.get(),
        "timeout": each.map(time),
        "methods": methods.join(","),
        "budget": format!("{}% + {}/s", budget.percent(), budget.floor()),
    })
}

fn put_in(faults: &Faults) -> Value {
    let delay = faults.delay();
    let delay = delay.map(|it| format!("{} {}", it.share(), time(it.time())));
    let abort = faults.abort();
    let only = faults.only();
    json!({
        "delay": delay,
        "abort": abort.map(|it| format!("{} {}", it.share(), it.status())),
        "header": only.map(|it| format!("{}={}", it.name(), it.value())),
    })
}

fn time(time: Duration) -> String {
    format!("{time:?}")
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;
    use std::sync::Arc;

    use traffic_core::config::Weight;
    use traffic_core::fault::{Abort, Delay, Only};
    use traffic_core::rate::Rates;
    use traffic_core::retry::budget::Terms;
    use traffic_core::retry::conditions::Condition;
    use traffic_core::retry::methods::Methods;
    use traffic_core::retry::policy::Times;

    use super::*;

    #[test]
    fn what_was_said_by_annotations_is_there_in_their_words() {
        let share = Weight::new(10_500).unwrap();
        let faults = Faults::new(
            Delay::new(share, Duration::from_millis(1_500)),
            Abort::new(Weight::ALL, 503),
            Only::header("X-Test", "slow").ok(),
        );
        let bounds = Bounds {
            request: Some(Duration::from_secs(15)),
            idle: Some(Duration::from_millis(500)),
            requests: NonZeroU32::new(200),
            retries: Some(Retries {
                on: [Condition::Reset, Condition::Status(503)]
                    .into_iter()
                    .collect(),
                times: Times::new(2).unwrap(),
                each: Some(Duration::from_millis(300)),
                methods: Methods::default(),
                budget: Terms::default(),
            }),
            faults: faults.map(Arc::new),
        };
        assert_eq!(
            calls(&bounds),
            json!({
                "request_timeout": "15s", "stream_idle_timeout": "500ms", "max_requests": 200,
                "retries": {
                    "on": "reset,503", "limit": 2, "timeout": "300ms", "methods": "GET,HEAD,OPTIONS", "budget": "20% + 10/s",
                },
                "faults": {"delay": "10.5% 1.5s", "abort": "100% 503", "header": "x-test=slow"},
            })
        );
    }

    #[test]
    fn what_nobody_has_said_is_null() {
        assert_eq!(
            calls(&Bounds::default()),
            json!({"request_timeout": null, "stream_idle_timeout": null, "max_requests": null, "retries": null, "faults": null})
        );
        let rates = Rates {
            all: Some("100/s burst 300".parse().unwrap()),
            each: None,
        };
        let limits = Limits {
            rates,
            ..Limits::default()
        };
        let own = own(&limits);
        assert_eq!(own["connect_timeout"], "2s");
        assert_eq!(own["rate_limit"], "100/s burst 300");
        assert_eq!(own["rate_limit_per_caller"], Value::Null);
    }
}
