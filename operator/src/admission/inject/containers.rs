//! The two containers and the volume that a meshed pod gets.

use serde_json::{Value, json};

use super::Injector;
use super::until_told::UntilTold;
use super::wishes::{Wishes, default_resources};
use crate::names;

pub(super) const TOKEN_VOLUME: &str = "aviary-token";
const TOKEN_DIRECTORY: &str = "/var/run/secrets/aviary";
/// The kubelet renews the token when 80 % of this is over.
const TOKEN_SECONDS: u32 = 3607;

/// Sets the redirect rules and ends. Root with NET_ADMIN and nothing else: nftables asks for no more.
pub(super) fn init(injector: &Injector, wishes: &Wishes) -> Value {
    let mut args = vec!["init".to_owned()];
    for (flag, ports) in [
        ("--skip-inbound-ports", &wishes.inbound),
        ("--skip-outbound-ports", &wishes.outbound),
    ] {
        if !ports.is_empty() {
            args.push(format!("{flag}={ports}"));
        }
    }
    json!({
        "name": names::INIT_CONTAINER,
        "image": image(injector, wishes),
        "imagePullPolicy": injector.pull_policy.name(),
        "args": args,
        "resources": default_resources(),
        "securityContext": {
            "runAsUser": 0,
            "runAsGroup": 0,
            // A pod may demand non-root users; this container says for itself that it is one.
            "runAsNonRoot": false,
            "allowPrivilegeEscalation": false,
            "readOnlyRootFilesystem": true,
            "capabilities": {"drop": ["ALL"], "add": ["NET_ADMIN"]},
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "terminationMessagePolicy": "FallbackToLogsOnError",
    })
}

/// The sidecar.
///
/// The startup probe holds back the pod's other containers until the proxy can pass traffic on. There is no readiness
/// probe: a sidecar's readiness is its pod's, so anything that made all proxies unready at once, such as an operator
/// that is away, would take every pod out of its Service; and a proxy that is dead fails the app's own probes, which
/// come through it. There is no liveness probe: a proxy that is starved of CPU would be killed for it, with every
/// connection that it holds.
pub(super) fn proxy(
    injector: &Injector,
    workload: &str,
    wishes: &Wishes,
    until_told: &UntilTold,
) -> Value {
    let field = |path: &str| json!({"fieldRef": {"apiVersion": "v1", "fieldPath": path}});
    let xds = format!(
        "https://{}.{}.svc:{}",
        names::XDS_SERVICE,
        injector.namespace,
        names::XDS_PORT
    );
    let mut args = vec!["run".to_owned()];
    args.extend_from_slice(&wishes.flags);
    args.extend(until_told.flags());
    json!({
        "name": names::PROXY_CONTAINER,
        "image": image(injector, wishes),
        "imagePullPolicy": injector.pull_policy.name(),
        "args": args,
        // What makes an init container a native sidecar.
        "restartPolicy": "Always",
        "env": [
            {"name": "AVIARY_XDS_ADDRESS", "value": xds},
            {"name": "AVIARY_ROOT_CERTS", "value": injector.root_pem},
            // The kubelet ends a native sidecar after the application: nobody is left to wait for.
            {"name": "AVIARY_DRAIN_DELAY", "value": "0s"},
            {"name": names::WORKLOAD_VARIABLE, "value": workload},
            {"name": "POD_NAME", "valueFrom": field("metadata.name")},
            {"name": "POD_NAMESPACE", "valueFrom": field("metadata.namespace")},
            {"name": "POD_IP", "valueFrom": field("status.podIP")},
        ],
        "ports": [{"name": "aviary-health", "containerPort": names::PROXY_HEALTH_PORT, "protocol": "TCP"}],
        "startupProbe": {
            "httpGet": {"path": "/ready", "port": names::PROXY_HEALTH_PORT},
            "periodSeconds": 1,
            "timeoutSeconds": 2,
            "failureThreshold": 120,
        },
        "resources": wishes.resources,
        "securityContext": {
            "runAsUser": names::PROXY_UID,
            "runAsGroup": names::PROXY_UID,
            "runAsNonRoot": true,
            "allowPrivilegeEscalation": false,
            "readOnlyRootFilesystem": true,
            "capabilities": {"drop": ["ALL"]},
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "volumeMounts": [{"name": TOKEN_VOLUME, "mountPath": TOKEN_DIRECTORY, "readOnly": true}],
        "terminationMessagePolicy": "FallbackToLogsOnError",
    })
}

/// A token that is good for the operator and nobody else, unlike the pod's API token.
pub(super) fn token_volume() -> Value {
    json!({
        "name": TOKEN_VOLUME,
        "projected": {
            "sources": [{
                "serviceAccountToken": {
                    "audience": names::TOKEN_AUDIENCE,
                    "expirationSeconds": TOKEN_SECONDS,
                    "path": "token",
                }
            }]
        },
    })
}

fn image<'a>(injector: &'a Injector, wishes: &'a Wishes) -> &'a str {
    wishes.image.as_deref().unwrap_or(&injector.image)
}
