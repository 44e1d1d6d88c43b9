//! The configuration of one sidecar in lines: pure, over the dump that it gives.

mod bounds;

use std::collections::BTreeSet;

use serde_json::Value;

use crate::text::table;

pub(super) fn lines(dump: &Value) -> Vec<String> {
    let connected = dump["connected"].as_bool().unwrap_or(false);
    let mut lines = vec![format!(
        "version {}, {}, identity {}{}",
        text(&dump["version"]),
        if connected {
            "connected to the operator"
        } else {
            "not connected: it goes on with what it has"
        },
        text(&dump["identity"]["id"]),
        match &dump["identity"]["expires_at"] {
            Value::String(at) => format!(" until {at}"),
            _ => String::new(),
        }
    )];
    lines.extend(listeners(dump));
    lines.extend(let_in(&dump["inbound"]));
    lines.extend(bounds::own(&dump["limits"]));
    let versions = &dump["xds"]["versions"];
    lines.extend(exchanged(&dump["xds"]));
    let head = [
        "DESTINATION",
        "ROUTE",
        "ROLLOUT",
        "PROTOCOL",
        "STABLE",
        "CANARY",
        "WEIGHT",
        "VERSION",
    ];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    rows.extend(list(&dump["routes"]).map(|each| route(each, &versions["routes"])));
    lines.push(String::new());
    lines.extend(table(&rows));
    lines.extend(bounds::calls(list(&dump["routes"])));
    lines.extend(outside(dump));
    let head = [
        "CLUSTER", "ENDPOINT", "HEALTH", "TLS", "IDENTITY", "VERSION",
    ];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    for cluster in list(&dump["clusters"]) {
        let name = text(&cluster["name"]);
        let version = version(&versions["endpoints"], &cluster["name"]);
        let endpoints = list(&cluster["endpoints"]).map(|endpoint| {
            let of = |field: &str| text(&endpoint[field]);
            vec![
                name.clone(),
                of("address"),
                of("health"),
                yes(&endpoint["tls"]),
                of("identity"),
                version.clone(),
            ]
        });
        let before = rows.len();
        rows.extend(endpoints);
        if rows.len() == before {
            let blank = || "-".to_owned();
            rows.push(vec![
                name,
                "none".to_owned(),
                blank(),
                blank(),
                blank(),
                version.clone(),
            ]);
        }
    }
    lines.push(String::new());
    lines.extend(table(&rows));
    let revoked = list(&dump["revocations"]).map(|it| {
        format!(
            "revoked: revision {} of {}, release {} and older: never raised again",
            text(&it["revision"]),
            text(&it["rollout"]),
            it["run"]
        )
    });
    let revoked: Vec<String> = revoked.collect();
    if !revoked.is_empty() {
        lines.push(String::new());
        lines.extend(revoked);
    }
    lines
}

/// Where it listens. A sidecar of an older version does not say.
fn listeners(dump: &Value) -> Option<String> {
    let all = list(&dump["listeners"])
        .map(|each| format!("{} {}", text(&each["name"]), text(&each["address"])));
    let all: Vec<String> = all.collect();
    (!all.is_empty()).then(|| format!("listens: {}", all.join(", ")))
}

/// Whom the pod lets in. Before it has been told there is nothing to say.
fn let_in(inbound: &Value) -> Option<String> {
    let how = match inbound["mtls"].as_str()? {
        "strict" => "mutual TLS alone",
        _ => "mutual TLS and plaintext",
    };
    let whom = match &inbound["callers"] {
        Value::Null => "whoever calls".to_owned(),
        grants => {
            let names: BTreeSet<String> = list(grants).flat_map(granted).collect();
            match names.len() {
                0 => "nobody but probes".to_owned(),
                _ => names.into_iter().collect::<Vec<_>>().join(", "),
            }
        }
    };
    Some(format!("lets in: {how}, of {whom}"))
}

/// Callers, each with its ports unless it may call all.
fn granted(grant: &Value) -> impl Iterator<Item = String> {
    let ports: Vec<String> = list(&grant["ports"]).map(text).collect();
    let at = if ports.is_empty() {
        String::new()
    } else {
        format!(" at {}", ports.join(" and "))
    };
    list(&grant["from"]).map(move |name| format!("{}{at}", text(name)))
}

/// Where this sidecar picks the revision itself, since who calls has none: while a release is under way.
fn outside(dump: &Value) -> Vec<String> {
    let all = list(&dump["applications"]).filter(|each| each["weight"].is_string());
    let all = all.map(|each| {
        format!(
            "for callers without a sidecar that come to {}: as {}, canary {}",
            text(&each["address"]),
            text(&each["route"]),
            text(&each["weight"])
        )
    });
    let mut lines: Vec<String> = all.collect();
    if !lines.is_empty() {
        lines.insert(0, String::new());
    }
    lines
}

/// What it has been told, and has acknowledged.
fn exchanged(xds: &Value) -> Vec<String> {
    if xds.is_null() {
        return Vec::new();
    }
    let head = [
        "RESOURCES",
        "RECEIVED",
        "ACKNOWLEDGED",
        "REJECTED",
        "AWAITING",
    ];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    rows.extend(list(&xds["responses"]).map(|each| {
        ["kind", "received", "acknowledged", "rejected", "awaiting"]
            .map(|field| text(&each[field]))
            .to_vec()
    }));
    let mut lines = vec![
        format!("configured by {}", text(&xds["control_plane"])),
        String::new(),
    ];
    lines.extend(table(&rows));
    let rejection = &xds["last_rejection"];
    if !rejection.is_null() {
        lines.push(format!(
            "last rejected, {} s ago, and it goes on with the last good one: {}",
            rejection["seconds_ago"],
            text(&rejection["reason"])
        ));
    }
    lines
}

fn version(versions: &Value, name: &Value) -> String {
    text(&versions[name.as_str().unwrap_or_default()])
}

fn route(route: &Value, versions: &Value) -> Vec<String> {
    let destination = text(&route["destination"]);
    if route["route"].is_null() {
        return vec![
            destination,
            "not there yet: as the application asks".to_owned(),
        ];
    }
    let canary = &route["canary"];
    let weight = match canary {
        Value::Null => "-".to_owned(),
        // A weight is lent: a sidecar that hears nothing goes back to stable by itself.
        canary if canary["weight"] != route["wanted"] => {
            format!(
                "{} (told {})",
                text(&canary["weight"]),
                text(&route["wanted"])
            )
        }
        canary => text(&canary["weight"]),
    };
    vec![
        destination,
        text(&route["route"]),
        text(&route["rollout"]),
        text(&route["protocol"]),
        text(&route["stable"]["revision"]),
        text(&canary["revision"]),
        weight,
        version(versions, &route["route"]),
    ]
}

fn yes(value: &Value) -> String {
    match value {
        Value::Bool(true) => "yes".to_owned(),
        Value::Bool(false) => "no".to_owned(),
        other => text(other),
    }
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn text(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) if text.is_empty() => "-".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_a_sidecar_goes_by_is_told_and_where_it_differs_from_what_it_was_told() {
        let dump = json!({
            "version": "0.1.0", "connected": false, "installs": 4,
            "identity": {"id": "spiffe://cluster.local/ns/shop/sa/client", "number": 1, "expires_at": "2026-03-05T10:00:00.000Z"},
            "listeners": [
                {"name": "outbound", "address": "127.0.0.1:15001"},
                {"name": "inbound", "address": "0.0.0.0:15006"},
            ],
            "inbound": {"mtls": "permissive", "probes": [], "callers": null},
            "applications": [
                {"address": "10.1.0.9:8080", "route": null, "weight": null, "picks": null},
                {"address": "10.1.0.9:9090", "route": "shop/payment/80", "weight": "10%", "picks": 3},
            ],
            "xds": {
                "control_plane": "https://aviary-xds.aviary-system.svc:15010",
                "responses": [
                    {"kind": "endpoints", "received": 3, "acknowledged": 3, "rejected": 0, "awaiting": 0},
                    {"kind": "route", "received": 4, "acknowledged": 2, "rejected": 1, "awaiting": 1},
                ],
                "last_rejection": {"type": "...RouteConfiguration", "reason": "route `shop/payment/80`: no stable arm", "seconds_ago": 12},
                "versions": {"routes": {"shop/payment/80": "41"}, "endpoints": {"shop/payment/80/7f9c2a41d0": "17"}, "inbound": "3"},
            },
            "routes": [
                {"destination": "10.96.0.9:80", "route": null},
                {"destination": "10.96.0.1:80", "route": "shop/payment/80", "rollout": "shop/payment", "protocol": "Http",
                 "stable": {"revision": "7f9c2a41d0", "cluster": "shop/payment/80/7f9c2a41d0"},
                 "canary": {"revision": "3b1e55aa02", "cluster": "shop/payment/80/3b1e55aa02", "run": 7, "weight": "0%"},
                 "wanted": "10%", "picks": 812},
            ],
            "clusters": [
                {"name": "shop/payment/80/3b1e55aa02", "endpoints": []},
                {"name": "shop/payment/80/7f9c2a41d0", "endpoints": [
                    {"address": "10.1.0.4:8080", "health": "Healthy", "identity": "spiffe://cluster.local/ns/shop/sa/payment", "tls": true},
                ]},
            ],
            "revocations": [{"rollout": "shop/payment", "revision": "0bad0bad00", "run": 6}],
        });
        assert_eq!(
            lines(&dump),
            [
                "version 0.1.0, not connected: it goes on with what it has, identity spiffe://cluster.local/ns/shop/sa/client until 2026-03-05T10:00:00.000Z",
                "listens: outbound 127.0.0.1:15001, inbound 0.0.0.0:15006",
                "lets in: mutual TLS and plaintext, of whoever calls",
                "configured by https://aviary-xds.aviary-system.svc:15010",
                "",
                "RESOURCES  RECEIVED  ACKNOWLEDGED  REJECTED  AWAITING",
                "endpoints  3         3             0         0",
                "route      4         2             1         1",
                "last rejected, 12 s ago, and it goes on with the last good one: route `shop/payment/80`: no stable arm",
                "",
                "DESTINATION   ROUTE                                   ROLLOUT       PROTOCOL  STABLE      CANARY      WEIGHT         VERSION",
                "10.96.0.9:80  not there yet: as the application asks",
                "10.96.0.1:80  shop/payment/80                         shop/payment  Http      7f9c2a41d0  3b1e55aa02  0% (told 10%)  41",
                "",
                "for callers without a sidecar that come to 10.1.0.9:9090: as shop/payment/80, canary 10%",
                "",
                "CLUSTER                     ENDPOINT       HEALTH   TLS  IDENTITY                                   VERSION",
                "shop/payment/80/3b1e55aa02  none           -        -    -                                          -",
                "shop/payment/80/7f9c2a41d0  10.1.0.4:8080  Healthy  yes  spiffe://cluster.local/ns/shop/sa/payment  17",
                "",
                "revoked: revision 0bad0bad00 of shop/payment, release 6 and older: never raised again",
            ]
        );
    }

    #[test]
    fn whom_a_pod_lets_in_is_said_by_name() {
        let said = |inbound| let_in(&inbound);
        let grants = json!([{"ports": [], "from": ["spiffe://a/ns/shop/sa/web"]}, {"ports": [80], "from": ["spiffe://a/ns/ops/*"]}]);
        assert_eq!(
            said(json!({"mtls": "strict", "callers": grants})).unwrap(),
            "lets in: mutual TLS alone, of spiffe://a/ns/ops/* at 80, spiffe://a/ns/shop/sa/web"
        );
        let nobody = json!({"mtls": "permissive", "callers": []});
        let says = "lets in: mutual TLS and plaintext, of nobody but probes";
        assert_eq!(said(nobody).unwrap(), says);
        assert_eq!(said(Value::Null), None);
    }

    #[test]
    fn a_sidecar_of_an_older_version_has_less_to_say() {
        let dump = json!({"version": "0.0.9", "connected": true, "identity": null, "routes": [], "clusters": [], "revocations": []});
        assert_eq!(
            lines(&dump)[..2],
            ["version 0.0.9, connected to the operator, identity -", ""]
        );
    }
}
