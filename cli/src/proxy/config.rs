//! The configuration of one sidecar in lines: pure, over the dump that it gives.

use serde_json::Value;

use crate::text::table;

pub(super) fn lines(dump: &Value) -> Vec<String> {
    let connected = dump["connected"].as_bool().unwrap_or(false);
    let mut lines = vec![format!(
        "version {}, {}, identity {}",
        text(&dump["version"]),
        if connected {
            "connected to the operator"
        } else {
            "not connected: it goes on with what it has"
        },
        text(&dump["identity"]["id"])
    )];
    let head = [
        "DESTINATION",
        "ROUTE",
        "ROLLOUT",
        "PROTOCOL",
        "STABLE",
        "CANARY",
        "WEIGHT",
    ];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    rows.extend(list(&dump["routes"]).map(route));
    lines.push(String::new());
    lines.extend(table(&rows));
    let head = ["CLUSTER", "ENDPOINT", "HEALTH", "TLS", "IDENTITY"];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    for cluster in list(&dump["clusters"]) {
        let name = text(&cluster["name"]);
        let endpoints = list(&cluster["endpoints"]).map(|endpoint| {
            let of = |field: &str| text(&endpoint[field]);
            vec![
                name.clone(),
                of("address"),
                of("health"),
                of("tls"),
                of("identity"),
            ]
        });
        let before = rows.len();
        rows.extend(endpoints);
        if rows.len() == before {
            rows.push(vec![name, "none".to_owned()]);
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

fn route(route: &Value) -> Vec<String> {
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
    ]
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
            "identity": {"id": "spiffe://cluster.local/ns/shop/sa/client", "number": 1},
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
                "version 0.1.0, not connected: it goes on with what it has, identity spiffe://cluster.local/ns/shop/sa/client",
                "",
                "DESTINATION   ROUTE                                   ROLLOUT       PROTOCOL  STABLE      CANARY      WEIGHT",
                "10.96.0.9:80  not there yet: as the application asks",
                "10.96.0.1:80  shop/payment/80                         shop/payment  Http      7f9c2a41d0  3b1e55aa02  0% (told 10%)",
                "",
                "CLUSTER                     ENDPOINT       HEALTH   TLS   IDENTITY",
                "shop/payment/80/3b1e55aa02  none",
                "shop/payment/80/7f9c2a41d0  10.1.0.4:8080  Healthy  true  spiffe://cluster.local/ns/shop/sa/payment",
                "",
                "revoked: revision 0bad0bad00 of shop/payment, release 6 and older: never raised again",
            ]
        );
    }
}
