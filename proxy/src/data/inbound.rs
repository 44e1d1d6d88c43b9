//! What a proxy does with what comes in, as JSON.

use serde_json::{Value, json};
use traffic_core::config::Inbound;
use traffic_core::inbound::{Caller, Callers, Grant, Mtls};

pub(super) fn dump(inbound: &Inbound) -> Value {
    let Inbound {
        mtls,
        probes,
        callers,
    } = inbound;
    let probes = probes
        .iter()
        .map(|probe| json!({"port": probe.port(), "method": probe.method(), "path": probe.path()}));
    let grants = match callers {
        Callers::Anybody => None,
        Callers::Only(grants) => Some(grants.iter().map(grant).collect::<Vec<_>>()),
    };
    json!({
        "mtls": match mtls {
            Mtls::Permissive => "permissive",
            Mtls::Strict => "strict",
        },
        "probes": probes.collect::<Vec<_>>(),
        // None: whoever calls.
        "callers": grants,
    })
}

fn grant(Grant { ports, from }: &Grant) -> Value {
    let names = from.iter().map(|caller| match caller {
        Caller::One(id) => id.as_str().to_owned(),
        Caller::Namespace(prefix) => format!("{}*", prefix.as_str()),
    });
    json!({"ports": ports, "from": names.collect::<Vec<_>>()})
}
