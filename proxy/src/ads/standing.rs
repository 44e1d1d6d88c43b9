//! How this proxy stands with the control plane, as JSON for `/config_dump`.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use aviary_xds::DeltaClient;
use aviary_xds::client::{Exchanged, Rejection, Standing};
use serde_json::{Value, json};

use crate::control;

/// Whom to ask.
#[derive(Debug)]
pub(super) struct Says {
    control_plane: String,
    client: Arc<Mutex<DeltaClient>>,
}

impl Says {
    pub(super) fn new(control_plane: String, client: Arc<Mutex<DeltaClient>>) -> Says {
        Says {
            control_plane,
            client,
        }
    }
}

impl control::Standing for Says {
    fn standing(&self) -> Value {
        let standing = {
            let client = self.client.lock().unwrap_or_else(PoisonError::into_inner);
            client.standing()
        };
        dump(&self.control_plane, standing, Instant::now())
    }
}

fn dump(control_plane: &str, standing: Standing, now: Instant) -> Value {
    let Standing {
        kinds,
        last_rejection,
        routes,
        endpoints,
        inbound,
    } = standing;
    let kinds = kinds.map(|(kind, exchanged, awaiting)| {
        let Exchanged {
            received,
            acknowledged,
            rejected,
        } = exchanged;
        json!({
            "kind": kind.to_string(), "received": received, "acknowledged": acknowledged, "rejected": rejected,
            "awaiting": awaiting,
        })
    });
    let rejection = |Rejection {
                         type_url,
                         reason,
                         at,
                     }| {
        let age = now.saturating_duration_since(at);
        json!({"type": type_url, "reason": reason, "seconds_ago": age.as_secs()})
    };
    json!({
        "control_plane": control_plane,
        "responses": kinds,
        "last_rejection": last_rejection.map(rejection),
        "versions": {"routes": routes, "endpoints": endpoints, "inbound": inbound},
    })
}
