//! What a sidecar does with what comes in: whether callers must show who they are, who may call, and which requests of the kubelet's, which has no
//! identity, are let through all the same. [`authorize`](crate::authorize) decides by it.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;
use std::sync::Arc;

use crate::spiffe::{InvalidId, SpiffeId, TrustDomain};

/// The method of gRPC's health protocol that the kubelet calls.
pub const HEALTH_CHECK: &str = "/grpc.health.v1.Health/Check";
/// The most bytes of a probe's path.
pub const LONGEST_PATH: usize = 2048;

/// The most callers without an identity that one pod tells of.
pub const MOST_UNIDENTIFIED: usize = 64;

/// What holds for one pod.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Inbound {
    pub mtls: Mtls,
    /// Sorted, without duplicates.
    pub probes: Vec<Probe>,
    pub callers: Callers,
}

/// Whether a caller must show who it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Mtls {
    /// It may, and need not.
    #[default]
    Permissive,
    /// Whoever does not show an identity of the mesh is refused.
    Strict,
}

/// A request of the kubelet's, to the letter.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Probe {
    /// A GET of exactly this path, with its query.
    Http { port: u16, path: Box<str> },
    /// A call of [`HEALTH_CHECK`].
    Grpc { port: u16 },
}

/// Who may call.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub enum Callers {
    /// No policy selects the pod.
    #[default]
    Anybody,
    /// Whoever one of these names, and nobody else.
    Only(Vec<Grant>),
}

/// These may call at these ports.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Grant {
    /// The application's. Sorted, without duplicates; empty: all of them.
    pub ports: Vec<u16>,
    /// Sorted, without duplicates.
    pub from: Vec<Caller>,
}

/// Some workloads, by their names.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Caller {
    One(SpiffeId),
    /// Every ServiceAccount of a namespace.
    Namespace(Prefix),
}

/// What the names of a namespace's workloads begin with: `spiffe://<trust domain>/ns/<namespace>/sa/`. Right by construction.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Prefix(Arc<str>);

/// Somebody who has called without showing who it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Unidentified {
    pub address: IpAddr,
    /// The application's, which was called.
    pub port: u16,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is not what the names of a namespace's workloads begin with: expected spiffe://<trust domain>/ns/<namespace>/sa/"
)]
pub struct InvalidPrefix(String);

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is no path of a probe: expected 1 to {LONGEST_PATH} visible characters of ASCII that begin with / and have no #"
)]
pub struct InvalidPath(String);

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is no probe: write a port and a path, such as 8080/healthz, or the port of a gRPC probe"
)]
pub struct InvalidProbe(String);

impl Inbound {
    /// Nobody is let in, but for probes: until somebody has said who may call.
    pub fn closed(probes: Vec<Probe>) -> Inbound {
        Inbound {
            mtls: Mtls::Strict,
            probes,
            callers: Callers::Only(Vec::new()),
        }
    }

    /// Whether whatever comes in is let through.
    pub fn is_open(&self) -> bool {
        self.mtls == Mtls::Permissive && self.callers == Callers::Anybody
    }
}

impl Probe {
    /// A path as it is sent.
    pub fn http(port: u16, path: &str) -> Result<Probe, InvalidPath> {
        let is_sent = |byte: u8| byte.is_ascii_graphic() && byte != b'#';
        if path.len() > LONGEST_PATH || !path.starts_with('/') || !path.bytes().all(is_sent) {
            return Err(InvalidPath(path.chars().take(100).collect()));
        }
        Ok(Probe::Http {
            port,
            path: path.into(),
        })
    }

    pub fn port(&self) -> u16 {
        match self {
            Probe::Http { port, .. } | Probe::Grpc { port } => *port,
        }
    }

    pub fn method(&self) -> &'static str {
        match self {
            Probe::Http { .. } => "GET",
            Probe::Grpc { .. } => "POST",
        }
    }

    pub fn path(&self) -> &str {
        match self {
            Probe::Http { path, .. } => path,
            Probe::Grpc { .. } => HEALTH_CHECK,
        }
    }

    /// Whether this is what is asked for, to the letter.
    pub fn is(&self, port: u16, method: &str, path: &str) -> bool {
        self.port() == port && self.path() == path && self.method() == method
    }
}

/// `8080/healthz`, or `9090` for gRPC.
impl fmt::Display for Probe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Probe::Http { port, path } => write!(f, "{port}{path}"),
            Probe::Grpc { port } => write!(f, "{port}"),
        }
    }
}

impl FromStr for Probe {
    type Err = InvalidProbe;

    fn from_str(text: &str) -> Result<Probe, InvalidProbe> {
        let end = text.find('/').unwrap_or(text.len());
        let (port, path) = text.split_at(end);
        let port = port.parse().ok().filter(|port| *port > 0);
        let probe = port.and_then(|port| match path {
            "" => Some(Probe::Grpc { port }),
            path => Probe::http(port, path).ok(),
        });
        probe.ok_or_else(|| InvalidProbe(text.chars().take(100).collect()))
    }
}

impl Caller {
    pub fn account(
        domain: &TrustDomain,
        namespace: &str,
        service_account: &str,
    ) -> Result<Caller, InvalidId> {
        domain.workload(namespace, service_account).map(Caller::One)
    }

    pub fn namespace(domain: &TrustDomain, namespace: &str) -> Result<Caller, InvalidId> {
        let any = domain.workload(namespace, ANY)?;
        let prefix = any.as_str().strip_suffix(ANY).unwrap_or_default();
        Ok(Caller::Namespace(Prefix(prefix.into())))
    }

    /// Whether the name is one of these.
    pub fn is(&self, id: &str) -> bool {
        match self {
            Caller::One(one) => one.as_str() == id,
            Caller::Namespace(Prefix(prefix)) => id
                .strip_prefix(&**prefix)
                .is_some_and(|account| !account.is_empty() && !account.contains('/')),
        }
    }
}

/// Stands for a ServiceAccount.
const ANY: &str = "any";

impl Prefix {
    pub fn parse(text: &str) -> Result<Prefix, InvalidPrefix> {
        let invalid = || InvalidPrefix(text.chars().take(100).collect());
        let any = SpiffeId::parse(&format!("{text}{ANY}")).map_err(|_| invalid())?;
        // spiffe: "" domain ns NAMESPACE sa any
        let parts: Vec<&str> = any.as_str().split('/').collect();
        match parts[..] {
            [_, _, _, "ns", _, "sa", ANY] => Ok(Prefix(text.into())),
            _ => Err(invalid()),
        }
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn domain() -> TrustDomain {
        TrustDomain::parse("cluster.local").unwrap()
    }

    #[test]
    fn a_caller_is_one_service_account_or_all_of_a_namespace() {
        let one = Caller::account(&domain(), "shop", "web").unwrap();
        let all = Caller::namespace(&domain(), "shop").unwrap();
        for (id, is_one, is_all) in [
            ("spiffe://cluster.local/ns/shop/sa/web", true, true),
            ("spiffe://cluster.local/ns/shop/sa/web2", false, true),
            ("spiffe://cluster.local/ns/shop/sa/", false, false),
            ("spiffe://cluster.local/ns/shop/sa/web/x", false, false),
            ("spiffe://cluster.local/ns/shop2/sa/web", false, false),
            ("spiffe://cluster.local/ns/other/sa/web", false, false),
            ("spiffe://other/ns/shop/sa/web", false, false),
            ("spiffe://CLUSTER.local/ns/shop/sa/web", false, false),
            ("", false, false),
        ] {
            assert_eq!((one.is(id), all.is(id)), (is_one, is_all), "{id}");
        }
        for (namespace, account) in [("", "web"), ("shop/x", "web"), ("shop", "..")] {
            Caller::account(&domain(), namespace, account).unwrap_err();
        }
        Caller::namespace(&domain(), "a/b").unwrap_err();
    }

    #[test]
    fn a_prefix_is_of_exactly_one_namespace() {
        let right = "spiffe://cluster.local/ns/shop/sa/";
        assert_eq!(Prefix::parse(right).unwrap().as_str(), right);
        let made = Caller::namespace(&domain(), "shop").unwrap();
        assert_eq!(made, Caller::Namespace(Prefix::parse(right).unwrap()));
        for text in [
            "",
            "spiffe://",
            "spiffe://cluster.local/",
            "spiffe://cluster.local/ns/",
            "spiffe://cluster.local/ns/shop",
            "spiffe://cluster.local/ns/shop/sa",
            "spiffe://cluster.local/ns/shop/sa/web",
            "spiffe://cluster.local/ns/shop/sa/web/",
            "spiffe://cluster.local/sa/shop/ns/",
            "spiffe://cluster.local/ns//sa/",
        ] {
            let error = Prefix::parse(text).unwrap_err().to_string();
            assert!(error.contains("/ns/<namespace>/sa/"), "{error}");
        }
    }

    #[test]
    fn a_probe_s_path_is_what_is_sent_for_it() {
        for path in ["/", "/healthz", "/healthz?deep=1", "/a%20b", "//x"] {
            let probe = Probe::http(8080, path).unwrap();
            assert_eq!(
                (probe.port(), probe.path(), probe.method()),
                (8080, path, "GET")
            );
        }
        let grpc = Probe::Grpc { port: 9090 };
        assert_eq!((grpc.method(), grpc.path()), ("POST", HEALTH_CHECK));
        let long = format!("/{}", "x".repeat(LONGEST_PATH));
        for path in ["", "healthz", "/a b", "/a#b", "/\u{e4}", "/a\n", &long] {
            let error = Probe::http(8080, path).unwrap_err().to_string();
            assert!(error.len() < 300 && error.contains("is no path"), "{error}");
        }
    }

    #[test]
    fn only_a_pod_without_any_rule_is_open() {
        assert!(Inbound::default().is_open());
        let strict = Inbound {
            mtls: Mtls::Strict,
            ..Inbound::default()
        };
        let selected = Inbound {
            callers: Callers::Only(Vec::new()),
            ..Inbound::default()
        };
        assert!(!strict.is_open() && !selected.is_open());
    }

    #[test]
    fn a_probe_is_written_in_one_word_and_read_again() {
        for (text, probe) in [
            (
                "8080/healthz?a=1,2",
                Probe::http(8080, "/healthz?a=1,2").unwrap(),
            ),
            ("80/", Probe::http(80, "/").unwrap()),
            ("9090", Probe::Grpc { port: 9090 }),
        ] {
            assert_eq!(text.parse(), Ok(probe.clone()));
            assert_eq!(probe.to_string(), text);
        }
        for text in ["", "/healthz", "0/healthz", "65536", "x/healthz", "80/a b"] {
            let error = text.parse::<Probe>().unwrap_err().to_string();
            assert!(error.contains("such as 8080/healthz"), "{error}");
        }
    }

    #[test]
    fn a_closed_pod_lets_in_probes_and_nobody_else() {
        let closed = Inbound::closed(vec![Probe::Grpc { port: 9090 }]);
        assert!(!closed.is_open());
        assert_eq!(closed.callers, Callers::Only(Vec::new()));
    }
}
