//! How calls are bounded, and what the pod takes. A sidecar of an older version says nothing of either.

use std::collections::BTreeMap;

use serde_json::Value;

use super::text;
use crate::text::table;

/// What the annotations of Services say of calls to them, each once; a Service may have several addresses.
pub(super) fn calls<'v>(routes: impl Iterator<Item = &'v Value>) -> Vec<String> {
    let by_name: BTreeMap<String, &Value> = routes
        .filter(|route| route["bounds"].is_object())
        .map(|route| (text(&route["route"]), route))
        .collect();
    if by_name.is_empty() {
        return Vec::new();
    }
    let bounded: Vec<_> = by_name.iter().filter(|(_, it)| is_bounded(it)).collect();
    let mut lines = vec![String::new()];
    if bounded.is_empty() {
        lines.push(
            "No Service asks for timeouts, a limit of requests, retries or faults.".to_owned(),
        );
        return lines;
    }
    let head = [
        "CALLS TO",
        "TIMEOUT",
        "IDLE TIMEOUT",
        "MAX REQUESTS",
        "RETRIES",
        "FAULTS",
    ];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    rows.extend(bounded.into_iter().map(|(name, route)| {
        let bounds = &route["bounds"];
        vec![
            name.clone(),
            text(&bounds["request_timeout"]),
            text(&bounds["stream_idle_timeout"]),
            text(&bounds["max_requests"]),
            retries(&bounds["retries"]),
            faults(route),
        ]
    }));
    lines.extend(table(&rows));
    lines
}

/// Whether anything is asked for.
fn is_bounded(route: &Value) -> bool {
    let bounds = route["bounds"].as_object();
    bounds.is_some_and(|bounds| bounds.values().any(|each| !each.is_null()))
}

/// What the pod's annotations, or the defaults, say of the sidecar.
pub(super) fn own(limits: &Value) -> Option<String> {
    if limits.is_null() {
        return None;
    }
    let of = |name: &str| text(&limits[name]);
    let rates = match (&limits["rate_limit"], &limits["rate_limit_per_caller"]) {
        (Value::Null, Value::Null) => "no rate limit".to_owned(),
        (all, Value::Null) => format!("{} of all callers", text(all)),
        (Value::Null, each) => format!("{} of each caller", text(each)),
        (all, each) => format!("{} of all callers, {} of each", text(all), text(each)),
    };
    Some(format!(
        "takes: {rates}; {} connections, {} streams on each; heads of {} bytes and {} fields, within {}; waits {} for a connection",
        of("max_connections"),
        of("max_streams"),
        of("max_header_bytes"),
        of("max_headers"),
        of("header_timeout"),
        of("connect_timeout"),
    ))
}

fn retries(retries: &Value) -> String {
    if retries.is_null() {
        return text(retries);
    }
    let of = |name: &str| text(&retries[name]);
    let each = match &retries["timeout"] {
        Value::Null => String::new(),
        time => format!(", {} each", text(time)),
    };
    let (limit, on) = (of("limit"), of("on"));
    let (methods, budget) = (of("methods"), of("budget"));
    format!("{limit} for {on} of {methods}{each}, within {budget}")
}

fn faults(route: &Value) -> String {
    let faults = &route["bounds"]["faults"];
    if faults.is_null() {
        return text(faults);
    }
    let kinds = ["delay", "abort"].map(|kind| (kind, &faults[kind]));
    let said = kinds.into_iter().filter(|(_, it)| !it.is_null());
    let said: Vec<String> = said
        .map(|(kind, it)| format!("{kind} {}", text(it)))
        .collect();
    let mut said = said.join(", ");
    if let Value::String(header) = &faults["header"] {
        said.push_str(&format!(" where {header}"));
    }
    if !route["canary"].is_null() {
        said.push_str(" (off: a release is under way)");
    }
    said
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_services_ask_for_is_a_line_for_each_that_asks() {
        let nothing = json!({"request_timeout": null, "stream_idle_timeout": null, "max_requests": null, "retries": null, "faults": null});
        let mut bounded = nothing.clone();
        bounded["request_timeout"] = json!("15s");
        bounded["max_requests"] = json!(200);
        bounded["retries"] = json!({"on": "reset,503", "limit": 2, "timeout": "300ms", "methods": "GET,HEAD", "budget": "20% + 10/s"});
        let mut faulty = nothing.clone();
        faulty["faults"] = json!({"delay": "10% 2s", "abort": "5% 503", "header": "x-test=slow"});
        let routes = [
            json!({"destination": "10.96.0.9:80", "route": null}),
            json!({"destination": "10.96.0.1:80", "route": "shop/payment/80", "canary": null, "bounds": bounded}),
            json!({"destination": "[fd00::1]:80", "route": "shop/payment/80", "canary": null, "bounds": bounded}),
            json!({"destination": "10.96.0.2:80", "route": "shop/stock/80", "canary": {"weight": "1%"}, "bounds": faulty}),
            json!({"destination": "10.96.0.3:80", "route": "shop/web/80", "canary": null, "bounds": nothing}),
        ];
        assert_eq!(
            calls(routes.iter()),
            [
                "",
                "CALLS TO         TIMEOUT  IDLE TIMEOUT  MAX REQUESTS  RETRIES                                                     FAULTS",
                "shop/payment/80  15s      -             200           2 for reset,503 of GET,HEAD, 300ms each, within 20% + 10/s  -",
                "shop/stock/80    -        -             -             -                                                           delay 10% 2s, abort 5% 503 where x-test=slow (off: a release is under way)",
            ]
        );
        assert_eq!(
            calls(routes[4..].iter()),
            [
                "",
                "No Service asks for timeouts, a limit of requests, retries or faults."
            ]
        );
        assert_eq!(calls(routes[..1].iter()), [""; 0]);
    }

    #[test]
    fn what_the_pod_takes_is_a_line() {
        let mut limits = json!({
            "connect_timeout": "2s", "max_connections": 16384, "max_streams": 1000, "max_header_bytes": 61440, "max_headers": 128,
            "header_timeout": "10s", "rate_limit": null, "rate_limit_per_caller": null,
        });
        let rest = "16384 connections, 1000 streams on each; heads of 61440 bytes and 128 fields, within 10s; waits 2s for a connection";
        let says = |rates: &str| Some(format!("takes: {rates}; {rest}"));
        assert_eq!(own(&limits), says("no rate limit"));
        limits["rate_limit"] = json!("100/s burst 300");
        assert_eq!(own(&limits), says("100/s burst 300 of all callers"));
        limits["rate_limit_per_caller"] = json!("10/s burst 10");
        let both = "100/s burst 300 of all callers, 10/s burst 10 of each";
        assert_eq!(own(&limits), says(both));
        assert_eq!(own(&Value::Null), None);
    }
}
