//! How a Service says what its port speaks: `appProtocol` first, then the prefix of the port's name (`http-web`, `tcp-db`).
//! A word we do not know is no reason to guess: the first bytes decide.

use k8s_openapi::api::core::v1::ServicePort;
use traffic_core::config::Protocol;

const HTTP: &[&str] = &[
    "http",
    "http2",
    "h2c",
    "grpc",
    "grpc-web",
    "kubernetes.io/h2c",
    "kubernetes.io/ws",
];
const OPAQUE: &[&str] = &[
    "tcp",
    "tls",
    "https",
    "wss",
    "kubernetes.io/wss",
    "mysql",
    "redis",
    "mongo",
    "mongodb",
    "postgres",
    "postgresql",
    "amqp",
    "amqps",
    "kafka",
    "memcached",
    "mssql",
    "cassandra",
    "ldap",
    "ldaps",
    "mqtt",
    "nats",
    "smtp",
    "ssh",
];

pub(super) fn of(port: &ServicePort) -> Protocol {
    let by_name = || {
        port.name
            .as_deref()
            .and_then(|name| word(name).or_else(|| word(name.split('-').next()?)))
    };
    port.app_protocol
        .as_deref()
        .and_then(word)
        .or_else(by_name)
        .unwrap_or(Protocol::Detect)
}

fn word(word: &str) -> Option<Protocol> {
    let word = word.to_ascii_lowercase();
    if HTTP.contains(&word.as_str()) {
        Some(Protocol::Http)
    } else if OPAQUE.contains(&word.as_str()) {
        Some(Protocol::Opaque)
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn app_protocol_wins_over_the_name_and_unknown_words_mean_look() {
        for (app, name, expected) in [
            (None, None, Protocol::Detect),
            (None, Some("http"), Protocol::Http),
            (None, Some("http-web"), Protocol::Http),
            (None, Some("httpx"), Protocol::Detect),
            (None, Some("grpc-api"), Protocol::Http),
            (None, Some("grpc-web"), Protocol::Http),
            (None, Some("https"), Protocol::Opaque),
            (None, Some("mysql-main"), Protocol::Opaque),
            (None, Some("web"), Protocol::Detect),
            (Some("kubernetes.io/h2c"), Some("web"), Protocol::Http),
            (Some("kubernetes.io/ws"), None, Protocol::Http),
            (Some("HTTP"), None, Protocol::Http),
            (Some("tcp"), Some("http"), Protocol::Opaque),
            (Some("example.com/own"), Some("http"), Protocol::Http),
            (Some("example.com/own"), None, Protocol::Detect),
        ] {
            let port = ServicePort {
                app_protocol: app.map(str::to_owned),
                name: name.map(str::to_owned),
                ..ServicePort::default()
            };
            assert_eq!(of(&port), expected, "{app:?} {name:?}");
        }
    }
}
