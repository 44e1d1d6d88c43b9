//! A pod's probes and hooks behind a sidecar.
//!
//! The kubelet asks at the pod's own address, and the inbound side hands that to the application: `httpGet`, `grpc` and `exec` say what they
//! always said, and so do `httpGet` hooks of a container's life. Two become an `httpGet` of the sidecar's health port:
//!
//! - `tcpSocket`, which would always pass, since the redirect takes every connection. The sidecar connects to the application and says what came
//!   of it.
//! - `httpGet` by HTTPS, which a sidecar cannot tell from others' TLS where it must refuse that. The sidecar asks the application by HTTPS and
//!   says what it answers.
//!
//! The sidecar tries the ports and paths that are declared here and no others.
//!
//! A `tcpSocket` in `lifecycle` is left alone: Kubernetes lets it be written and fails whatever has it.

use std::collections::BTreeSet;

use json_patch::PatchOperation;
use k8s_openapi::api::core::v1::PodSpec;
use serde::Deserialize;
use serde_json::{Value, json};
use traffic_core::contract::{HTTPS_PROBE_PATH, TCP_PROBE_PATH};
use traffic_core::inbound::Probe;

use super::ports::Ports;
use crate::admission::review::{add, remove};
use crate::{names, probes};

const PROBES: [&str; 3] = ["startupProbe", "livenessProbe", "readinessProbe"];
const HOOKS: [&str; 2] = ["postStart", "preStop"];
const LISTS: [&str; 2] = ["initContainers", "containers"];

/// The flags of the sidecar's that say what is in a [`Probes`].
pub(super) const FLAGS: [&str; 3] = [TCP_PORTS, HTTPS_PROBE, HTTP_PATH];
const TCP_PORTS: &str = "--tcp-probe-ports=";
const HTTPS_PROBE: &str = "--https-probe=";
const HTTP_PATH: &str = "--probe-path=";

/// What the pod's probes ask for.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Probes {
    /// Ports that the sidecar may try, once what is in `rewritten` is.
    tcp: BTreeSet<u16>,
    /// What the sidecar may ask for by HTTPS, likewise.
    https: BTreeSet<Probe>,
    /// What is asked under another name than the pod's address, by which the sidecar would not know it for a probe.
    elsewhere: Vec<Probe>,
    /// What makes a question to the sidecar of each `tcpSocket`, and of each `httpGet` by HTTPS.
    pub(super) rewritten: Vec<PatchOperation>,
    pub(super) warnings: Vec<String>,
}

impl Probes {
    /// `skipped`: ports that are not redirected, and so need nothing.
    pub(super) fn of(spec: &Value, skipped: &Ports) -> Probes {
        // Of a pod whose spec cannot be read the API server is going to say what is wrong.
        let read = PodSpec::deserialize(spec).unwrap_or_default();
        let mut probes = Probes {
            elsewhere: probes::under_other_names(&read),
            ..Probes::default()
        };
        for list in LISTS {
            let containers = spec[list].as_array().into_iter().flatten();
            for (index, container) in containers.enumerate() {
                if container["name"] == json!(names::PROXY_CONTAINER) {
                    continue;
                }
                for probe in PROBES {
                    let at = [list, &index.to_string(), probe];
                    probes.tcp(container, at, skipped);
                    probes.https(container, at, skipped);
                }
            }
        }
        probes
    }

    /// What the sidecar is started with.
    pub(super) fn flags(&self) -> Vec<String> {
        let ports: Vec<String> = self.tcp.iter().map(u16::to_string).collect();
        let ports = (!ports.is_empty()).then(|| format!("{TCP_PORTS}{}", ports.join(",")));
        let https = self.https.iter();
        let https = https.map(|probe| format!("{HTTPS_PROBE}{probe}"));
        let paths = self.elsewhere.iter();
        let paths = paths.map(|probe| format!("{HTTP_PATH}{probe}"));
        ports.into_iter().chain(https).chain(paths).collect()
    }

    fn tcp(&mut self, container: &Value, [list, index, probe]: [&str; 3], skipped: &Ports) {
        let asked = &container[probe];
        self.tcp.extend(rewritten(&asked["httpGet"]));
        let socket = &asked["tcpSocket"];
        // One with a host goes there, not to the pod.
        if !socket.is_object() || !socket["host"].as_str().unwrap_or_default().is_empty() {
            return;
        }
        let Some(port) = port(container, &socket["port"]) else {
            self.warnings.push(format!(
                "container {}: {probe} (tcpSocket) names port {}, which is no port of that container: the kubelet will not find it either",
                container["name"].as_str().unwrap_or_default(),
                socket["port"]
            ));
            return;
        };
        if skipped.contains(u64::from(port)) {
            return;
        }
        self.tcp.insert(port);
        let path = |field| ["spec", list, index, probe, field];
        let question = json!({
            "path": format!("{TCP_PROBE_PATH}{port}"),
            "port": names::PROXY_HEALTH_PORT,
            "scheme": "HTTP",
        });
        self.rewritten
            .extend([remove(path("tcpSocket")), add(path("httpGet"), question)]);
    }

    fn https(&mut self, container: &Value, [list, index, probe]: [&str; 3], skipped: &Ports) {
        let get = &container[probe]["httpGet"];
        self.https.extend(rewritten_https(get));
        let Some(asked) = by_https(container, get) else {
            return;
        };
        if skipped.contains(u64::from(asked.port())) {
            return;
        }
        // Its fields stay, and the sidecar passes them on.
        let path = |field| ["spec", list, index, probe, "httpGet", field];
        self.rewritten.extend([
            add(path("path"), json!(format!("{HTTPS_PROBE_PATH}{asked}"))),
            add(path("port"), json!(names::PROXY_HEALTH_PORT)),
            add(path("scheme"), json!("HTTP")),
        ]);
        self.https.insert(asked);
    }
}

/// What is asked of the pod itself by HTTPS.
fn by_https(container: &Value, get: &Value) -> Option<Probe> {
    let elsewhere = !get["host"].as_str().unwrap_or_default().is_empty();
    if get["scheme"] != "HTTPS" || elsewhere {
        return None;
    }
    let path = get["path"].as_str().unwrap_or_default();
    Probe::http(port(container, &get["port"])?, &probes::sent(path)).ok()
}

/// What the kubelet asks in a way that a sidecar cannot tell from anybody else's, where it refuses plaintext.
pub(super) fn refused_in_the_clear(spec: &Value) -> Vec<String> {
    let mut warnings = Vec::new();
    let containers = LISTS.iter().filter_map(|list| spec[list].as_array());
    for container in containers.flatten() {
        let name = container["name"].as_str().unwrap_or_default();
        for probe in PROBES {
            let get = &container[probe]["httpGet"];
            if get["scheme"] == "HTTPS" && by_https(container, get).is_none() {
                warnings.push(format!(
                    "container {name}: {probe} (httpGet by HTTPS) is refused, since its namespace refuses TLS that is no sidecar's, and the sidecar cannot ask it, since its host, port or path is none that it could be told: name a port of the container and a path of visible ASCII, and no host"
                ));
            }
        }
        for hook in HOOKS {
            if !container["lifecycle"][hook]["httpGet"].is_null() {
                warnings.push(format!(
                    "container {name}: the kubelet calls {hook} (httpGet) in plaintext, which its namespace refuses: use exec"
                ));
            }
        }
    }
    warnings
}

/// The port that a probe of ours has the sidecar try.
fn rewritten(get: &Value) -> Option<u16> {
    let port = of_the_sidecar(get)?.strip_prefix(TCP_PROBE_PATH)?;
    port.parse().ok().filter(|port| *port > 0)
}

/// What a probe of ours has the sidecar ask for.
fn rewritten_https(get: &Value) -> Option<Probe> {
    let asked = of_the_sidecar(get)?.strip_prefix(HTTPS_PROBE_PATH)?;
    asked.parse().ok()
}

/// The path that is asked of the sidecar itself.
fn of_the_sidecar(get: &Value) -> Option<&str> {
    let path = get["path"].as_str()?;
    (get["port"] == json!(names::PROXY_HEALTH_PORT)).then_some(path)
}

/// A probe's port is a number, or the name of one of the container's ports.
fn port(container: &Value, port: &Value) -> Option<u16> {
    let number = |port: &Value| {
        let port = port.as_u64().and_then(|port| u16::try_from(port).ok());
        port.filter(|port| *port > 0)
    };
    let Some(name) = port.as_str() else {
        return number(port);
    };
    let ports = container["ports"].as_array()?;
    let named = ports.iter().find(|each| each["name"] == *name)?;
    number(&named["containerPort"])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn socket(port: Value) -> Value {
        json!({"tcpSocket": {"port": port}, "periodSeconds": 3})
    }

    fn container(name: &str, probes: Value) -> Value {
        let mut container = json!({"name": name, "ports": [
            {"name": "metrics", "containerPort": 9090}, {"name": "db", "containerPort": 5432},
        ]});
        for (probe, value) in probes.as_object().unwrap() {
            container[probe] = value.clone();
        }
        container
    }

    fn of(spec: &Value) -> Probes {
        Probes::of(spec, &Ports::default())
    }

    fn applied(spec: &Value) -> Value {
        let mut pod = json!({"spec": spec});
        json_patch::patch(&mut pod, &of(spec).rewritten).unwrap();
        pod["spec"].clone()
    }

    fn asks(port: u16) -> Value {
        json!({"httpGet": {"path": format!("/probe/tcp/{port}"), "port": 15020, "scheme": "HTTP"}, "periodSeconds": 3})
    }

    #[test]
    fn every_tcp_probe_of_every_container_asks_the_sidecar() {
        let spec = json!({
            "initContainers": [container("db", json!({"startupProbe": socket(json!("db")), "restartPolicy": "Always"}))],
            "containers": [
                container("app", json!({
                    "startupProbe": socket(json!(8080)),
                    "livenessProbe": socket(json!("metrics")),
                    "readinessProbe": socket(json!(8080)),
                })),
                container("other", json!({"livenessProbe": socket(json!(7000))})),
            ],
        });
        let result = applied(&spec);
        assert_eq!(result["initContainers"][0]["startupProbe"], asks(5432));
        let app = &result["containers"][0];
        assert_eq!(app["startupProbe"], asks(8080));
        assert_eq!(app["livenessProbe"], asks(9090));
        assert_eq!(app["readinessProbe"], asks(8080));
        assert_eq!(result["containers"][1]["livenessProbe"], asks(7000));
        let flags = ["--tcp-probe-ports=5432,7000,8080,9090"];
        assert_eq!(of(&spec).flags(), flags);
        // Of what is rewritten the same flags are made, and nothing is rewritten again.
        assert_eq!(of(&result).flags(), flags);
        assert_eq!(applied(&result), result);
    }

    #[test]
    fn other_probes_and_hooks_are_left_alone() {
        for probe in [
            json!({"httpGet": {"path": "/ready", "port": "metrics"}}),
            json!({"grpc": {"port": 9000}}),
            json!({"exec": {"command": ["true"]}}),
            // Elsewhere.
            json!({"tcpSocket": {"port": 5432, "host": "db.example"}}),
            json!({"httpGet": {"port": 8443, "host": "db.example", "scheme": "HTTPS"}}),
        ] {
            let spec = json!({"containers": [container("app", json!({
                "startupProbe": probe, "livenessProbe": probe, "readinessProbe": probe,
                "lifecycle": {"postStart": probe, "preStop": {"tcpSocket": {"port": 1}}},
            }))]});
            assert_eq!(of(&spec), Probes::default(), "{probe}");
        }
    }

    #[test]
    fn every_probe_by_https_asks_the_sidecar_and_keeps_its_fields() {
        let fields =
            json!([{"name": "Host", "value": "web.example"}, {"name": "x-probe", "value": "1"}]);
        let spec = json!({
            "containers": [container("app", json!({
                "startupProbe": {"httpGet": {"port": 8443, "scheme": "HTTPS"}, "periodSeconds": 3},
                "livenessProbe": {"httpGet": {"path": "live?deep=1", "port": "db", "scheme": "HTTPS", "httpHeaders": fields}},
                "lifecycle": {"preStop": {"httpGet": {"path": "/bye", "port": 8443, "scheme": "HTTPS"}}},
            }))],
        });
        let result = applied(&spec);
        let app = &result["containers"][0];
        let asked = |of: &str| json!({"path": format!("/probe/https/{of}"), "port": 15020, "scheme": "HTTP"});
        assert_eq!(
            app["startupProbe"],
            json!({"httpGet": asked("8443/"), "periodSeconds": 3})
        );
        let mut live = asked("5432/live?deep=1");
        live["httpHeaders"] = fields;
        assert_eq!(app["livenessProbe"]["httpGet"], live);
        assert_eq!(app["lifecycle"], spec["containers"][0]["lifecycle"]);
        let flags = ["--https-probe=5432/live?deep=1", "--https-probe=8443/"];
        assert_eq!(of(&spec).flags(), flags);
        assert_eq!(of(&result).flags(), flags);
        assert_eq!(applied(&result), result);
    }

    #[test]
    fn a_port_that_is_not_redirected_needs_nothing() {
        let https = json!({"httpGet": {"port": "db", "scheme": "HTTPS"}});
        let spec = json!({"containers": [container("app", json!({"livenessProbe": socket(json!("db")), "readinessProbe": https}))]});
        let pod = json!({"metadata": {"annotations": {"skip": "5432"}}});
        let skipped = Ports::from_annotation(&pod, "skip").unwrap();
        assert_eq!(Probes::of(&spec, &skipped), Probes::default());
    }

    #[test]
    fn a_name_that_no_port_has_is_told() {
        let spec = json!({"containers": [container("app", json!({"livenessProbe": socket(json!("web"))}))]});
        let probes = of(&spec);
        assert!(probes.rewritten.is_empty() && probes.flags().is_empty());
        assert_eq!(
            probes.warnings,
            [
                "container app: livenessProbe (tcpSocket) names port \"web\", which is no port of that container: the kubelet will not find it either"
            ]
        );
    }

    #[test]
    fn what_is_asked_under_another_name_is_told_to_the_sidecar() {
        let named = |get: Value| {
            let mut get = get;
            get["httpHeaders"] = json!([{"name": "HOST", "value": "web.example"}]);
            json!({"httpGet": get})
        };
        let spec = json!({"containers": [container("app", json!({
            "startupProbe": named(json!({"port": 8080})),
            "readinessProbe": named(json!({"port": "metrics", "path": "ready?x=1"})),
            "livenessProbe": named(json!({"port": 8080, "path": "/live", "host": "other.example"})),
            "lifecycle": {"preStop": named(json!({"port": 8080, "path": "/bye"}))},
        })), container("other", json!({
            // A word that the sidecar cannot read would keep it from starting.
            "livenessProbe": named(json!({"port": 8080, "path": "/a b"})),
            "readinessProbe": named(json!({"port": 8443, "path": "/ready", "scheme": "HTTPS"})),
        }))]});
        assert_eq!(
            of(&spec).flags(),
            [
                "--https-probe=8443/ready",
                "--probe-path=8080/",
                "--probe-path=8080/bye",
                "--probe-path=9090/ready?x=1"
            ]
        );
    }
}
