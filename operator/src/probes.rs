//! What the kubelet asks of a pod by HTTP and gRPC: requests that come without TLS, and that a sidecar lets through all the same.
//!
//! Not among them are the requests of `lifecycle` hooks, which do something. Probes by HTTPS, whose requests a sidecar cannot read, and those by `tcpSocket` are
//! asked of the sidecar itself.

use k8s_openapi::api::core::v1::{
    Container, ContainerPort, HTTPGetAction, PodSpec, Probe as Asked,
};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use traffic_core::inbound::Probe;

use crate::names::{PROXY_CONTAINER, PROXY_HEALTH_PORT};

/// Sorted, without duplicates.
pub(crate) fn of(spec: &PodSpec) -> Vec<Probe> {
    sorted(applications(spec).flat_map(|container| {
        probes(container).filter_map(|probe| {
            if let Some(get) = &probe.http_get {
                return http(container, get);
            }
            let port = port_number(probe.grpc.as_ref()?.port)?;
            Some(Probe::Grpc { port })
        })
    }))
}

/// What is asked by HTTP of the pod under another name than its address, hooks of a container's life included: by that name a sidecar does not know it for
/// the kubelet's. Sorted, without duplicates.
pub(crate) fn under_other_names(spec: &PodSpec) -> Vec<Probe> {
    sorted(applications(spec).flat_map(|container| {
        let lifecycle = container.lifecycle.iter();
        let hooks = lifecycle.flat_map(|life| [&life.post_start, &life.pre_stop]);
        let hooks = hooks.flatten().filter_map(|hook| hook.http_get.as_ref());
        let gets = probes(container).filter_map(|probe| probe.http_get.as_ref());
        let named = gets.chain(hooks).filter(|get| names_a_host(get));
        named.filter_map(|get| http(container, get))
    }))
}

/// All containers but the sidecar.
fn applications(spec: &PodSpec) -> impl Iterator<Item = &Container> {
    let containers = spec.init_containers.iter().flatten();
    let containers = containers.chain(&spec.containers);
    containers.filter(|container| container.name != PROXY_CONTAINER)
}

fn probes(container: &Container) -> impl Iterator<Item = &Asked> {
    let probes = [
        &container.startup_probe,
        &container.liveness_probe,
        &container.readiness_probe,
    ];
    probes.into_iter().flatten()
}

fn sorted(asked: impl Iterator<Item = Probe>) -> Vec<Probe> {
    // What is asked of the sidecar itself does not come in.
    let mut asked: Vec<Probe> = asked.filter(|it| it.port() != PROXY_HEALTH_PORT).collect();
    asked.sort();
    asked.dedup();
    asked
}

fn names_a_host(get: &HTTPGetAction) -> bool {
    let mut headers = get.http_headers.iter().flatten();
    headers.any(|header| header.name.eq_ignore_ascii_case("host"))
}

/// `None`: it does not come here, or not in the clear.
fn http(container: &Container, get: &HTTPGetAction) -> Option<Probe> {
    let elsewhere = get.host.as_ref().is_some_and(|host| !host.is_empty());
    let secure = get.scheme.as_ref().is_some_and(|scheme| scheme != "HTTP");
    if elsewhere || secure {
        return None;
    }
    let port = match &get.port {
        IntOrString::Int(port) => port_number(*port)?,
        IntOrString::String(name) => named(container.ports.as_deref()?, name)?,
    };
    Probe::http(port, &sent(get.path.as_deref().unwrap_or_default())).ok()
}

/// As the kubelet sends it: it puts a slash before a path without one, and no fragment.
pub(crate) fn sent(path: &str) -> String {
    let path = path.split('#').next().unwrap_or_default();
    if path.starts_with('/') {
        path.to_owned()
    } else {
        format!("/{path}")
    }
}

fn named(ports: &[ContainerPort], name: &str) -> Option<u16> {
    let of_name = |port: &&ContainerPort| port.name.as_deref() == Some(name);
    // A string of digits is a port as well.
    let found = ports.iter().find(of_name).map(|port| port.container_port);
    port_number(found.or_else(|| name.parse().ok())?)
}

fn port_number(port: i32) -> Option<u16> {
    u16::try_from(port).ok().filter(|port| *port > 0)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn probes(spec: Value) -> Vec<(u16, &'static str, String)> {
        let spec: PodSpec = serde_json::from_value(spec).unwrap();
        let all = of(&spec).into_iter();
        all.map(|probe| (probe.port(), probe.method(), probe.path().to_owned()))
            .collect()
    }

    #[test]
    fn every_probe_of_every_container_is_known_by_what_the_kubelet_sends() {
        let spec = json!({
            "initContainers": [
                {"name": "aviary-proxy", "startupProbe": {"httpGet": {"path": "/ready", "port": 15020}}},
                {"name": "log", "restartPolicy": "Always", "startupProbe": {"httpGet": {"port": 2020}}},
            ],
            "containers": [
                {
                    "name": "app",
                    "ports": [{"name": "http", "containerPort": 8080}, {"name": "other", "containerPort": 1}],
                    "startupProbe": {"httpGet": {"path": "healthz", "port": "http"}},
                    "livenessProbe": {"httpGet": {"path": "/healthz", "port": 8080, "scheme": "HTTP"}},
                    "readinessProbe": {"httpGet": {"path": "/ready?deep=1#x", "port": "8081"}},
                },
                {"name": "api", "livenessProbe": {"grpc": {"port": 9090, "service": "liveness"}}},
            ],
        });
        let expected = [
            (2020, "GET", "/"),
            (8080, "GET", "/healthz"),
            (8081, "GET", "/ready?deep=1"),
            (9090, "POST", "/grpc.health.v1.Health/Check"),
        ];
        let expected = expected.map(|(port, method, path)| (port, method, path.to_owned()));
        assert_eq!(probes(spec), expected);
    }

    #[test]
    fn what_nobody_can_tell_from_other_callers_or_what_does_something_is_none() {
        let one = |probe: Value| json!({"containers": [{"name": "app", "livenessProbe": probe}]});
        for probe in [
            json!({"httpGet": {"path": "/", "port": 8443, "scheme": "HTTPS"}}),
            json!({"httpGet": {"path": "/", "port": 8080, "host": "example.org"}}),
            json!({"httpGet": {"path": "/", "port": "nobody"}}),
            json!({"httpGet": {"path": "/", "port": 0}}),
            json!({"httpGet": {"path": "/a b", "port": 8080}}),
            json!({"tcpSocket": {"port": 8080}}),
            json!({"exec": {"command": ["true"]}}),
        ] {
            assert_eq!(probes(one(probe.clone())), [], "{probe}");
        }
        let hook = json!({"containers": [{
            "name": "app",
            "lifecycle": {"preStop": {"httpGet": {"path": "/quit", "port": 8080}}},
        }]});
        assert_eq!(probes(hook), []);
    }
}
