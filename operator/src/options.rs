//! Flags and environment of the operator.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, ValueEnum};

use traffic_core::spiffe::TrustDomain;

use crate::allowed::Allowed;
use crate::certificates::workload;
use crate::{names, strict};

/// The control plane of Aviary: releases, xDS, injection, admission and certificates in one process.
#[derive(Clone, Debug, PartialEq, Eq, Parser)]
#[command(name = names::OPERATOR, version)]
pub struct Options {
    /// Prometheus of releases that name none; without it, checks that need Prometheus have no evidence.
    #[arg(long, env = "AVIARY_PROMETHEUS_ADDRESS", value_parser = prometheus_address)]
    pub prometheus_address: Option<String>,

    /// Another Prometheus that a CanaryRollout may name; repeat the flag for more. The operator fetches from no
    /// other address, so that nobody can make it fetch for them.
    #[arg(
        long,
        env = "AVIARY_PROMETHEUS_ALLOW",
        value_delimiter = ',',
        value_parser = prometheus_address
    )]
    pub prometheus_allow: Vec<String>,

    /// Folder with the files `username` and `password`, which are shown at --prometheus-address: a mounted Secret. Read for
    /// every window, as the three below.
    #[arg(long, env = "AVIARY_PROMETHEUS_AUTH_BASIC")]
    pub prometheus_auth_basic: Option<PathBuf>,

    /// Folder with the file `token`, which is shown at --prometheus-address.
    #[arg(
        long,
        env = "AVIARY_PROMETHEUS_AUTH_BEARER",
        conflicts_with = "prometheus_auth_basic"
    )]
    pub prometheus_auth_bearer: Option<PathBuf>,

    /// Folder with a file for each header of every request to --prometheus-address, such as X-Scope-OrgID.
    #[arg(long, env = "AVIARY_PROMETHEUS_AUTH_HEADERS")]
    pub prometheus_auth_headers: Option<PathBuf>,

    /// Folder with `ca.crt`, which is trusted at --prometheus-address, or `tls.crt` and `tls.key`, which are shown there, or
    /// all of them.
    #[arg(long, env = "AVIARY_PROMETHEUS_AUTH_TLS")]
    pub prometheus_auth_tls: Option<PathBuf>,

    /// An address that hooks of CanaryRollouts may have: https://host, or https://host/path for what is below it; http:// only
    /// if it says so. Repeat the flag for more. Without it, no hook is called.
    #[arg(long, env = "AVIARY_HOOK_ALLOW", value_delimiter = ',')]
    pub hook_allow: Vec<Allowed>,

    /// The file that says who is told what happens to releases (docs/notifications.md). Without it, nobody is.
    #[arg(long, env = "AVIARY_NOTIFICATIONS")]
    pub notifications: Option<PathBuf>,

    /// Image of the sidecar and of its init container. By default that of the init container aviary-proxy of the operator's own
    /// pod, so that whatever sets images of manifests sets this one too, and one that cannot be pulled is seen before it is
    /// injected.
    #[arg(long, env = "AVIARY_PROXY_IMAGE")]
    pub proxy_image: Option<String>,

    /// Pull policy of the sidecar's image.
    #[arg(
        long,
        env = "AVIARY_PROXY_IMAGE_PULL_POLICY",
        default_value = "IfNotPresent"
    )]
    pub proxy_image_pull_policy: PullPolicy,

    /// The trust domain in the names of pods, spiffe://<trust domain>/ns/<namespace>/sa/<ServiceAccount>. Whoever trusts the
    /// issuer of two clusters has to be able to tell their pods apart: give each a domain of its own then.
    #[arg(long, env = "AVIARY_TRUST_DOMAIN", default_value = "cluster.local")]
    pub trust_domain: TrustDomain,

    /// How long a pod's certificate holds; a new one is made at half of it. 2m to 720h.
    #[arg(
        long,
        env = "AVIARY_WORKLOAD_CERTIFICATE_LIFETIME",
        default_value = "24h",
        value_parser = workload::lifetime
    )]
    pub workload_certificate_lifetime: Duration,

    /// For how long nobody may have called a namespace without an identity before it refuses who does (label
    /// aviary.dev/mtls: strict). 1s to 10m.
    #[arg(
        long,
        env = "AVIARY_PLAINTEXT_QUIET_TIME",
        default_value = "10m",
        value_parser = strict::quiet
    )]
    pub plaintext_quiet_time: Duration,

    /// Where the API server calls the webhooks.
    #[arg(long, default_value_t = listen(names::WEBHOOK_PORT))]
    pub webhook_address: SocketAddr,

    /// Where proxies connect for xDS.
    #[arg(long, default_value_t = listen(names::XDS_PORT))]
    pub xds_address: SocketAddr,

    /// Probes and metrics, without TLS.
    #[arg(long, default_value_t = listen(names::ADMIN_PORT))]
    pub admin_address: SocketAddr,

    /// The one namespace whose releases, pods and Services the operator looks at; it needs rights in no other one then
    /// (config/namespaced). By default all.
    #[arg(long, env = "AVIARY_WATCH_NAMESPACE")]
    pub watch_namespace: Option<String>,

    /// The operator's own namespace.
    #[arg(long, env = "POD_NAMESPACE", default_value = names::NAMESPACE)]
    pub namespace: String,

    /// The name of this replica in the Lease and in Events: no two that run at the same time may share one. In a pod the pod's
    /// name; by default the host's with the number of the process.
    #[arg(long, env = "POD_NAME")]
    pub pod_name: Option<String>,

    /// The address at which proxies reach this replica. While it decides, the Service aviary-xds leads there; without it, the
    /// Service is left as it is.
    #[arg(long, env = "POD_IP")]
    pub pod_ip: Option<IpAddr>,

    /// What is logged, such as `info` or `info,aviary_operator::ads=debug`; by default what RUST_LOG says, or `info`.
    #[arg(long, env = "AVIARY_LOG")]
    pub log: Option<String>,

    /// How the log is written.
    #[arg(long, env = "AVIARY_LOG_FORMAT", value_enum, default_value_t = LogFormat::Json)]
    pub log_format: LogFormat,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// One JSON object a line.
    Json,
    /// For people.
    Text,
}

/// The pull policies of Kubernetes, spelled as it spells them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum PullPolicy {
    #[value(name = "Always")]
    Always,
    #[value(name = "IfNotPresent")]
    IfNotPresent,
    #[value(name = "Never")]
    Never,
}

impl PullPolicy {
    pub fn name(self) -> &'static str {
        match self {
            PullPolicy::Always => "Always",
            PullPolicy::IfNotPresent => "IfNotPresent",
            PullPolicy::Never => "Never",
        }
    }
}

impl Options {
    /// What is logged. `RUST_LOG` is its older name.
    pub fn log_filter(&self, rust_log: Option<String>) -> String {
        let older = rust_log.filter(|text| !text.is_empty());
        let said = self.log.clone().or(older);
        said.unwrap_or_else(|| "info".to_owned())
    }
}

#[derive(Debug, thiserror::Error)]
#[error("'{0}' is no address of a Prometheus: write http://host:port or https://host:port")]
struct NotAnAddress(String);

/// Addresses are compared as text, so they are kept in one form: without a slash at the end.
fn prometheus_address(text: &str) -> Result<String, NotAnAddress> {
    let refuse = || NotAnAddress(text.to_owned());
    let uri: http::Uri = text.parse().map_err(|_| refuse())?;
    match (uri.scheme_str(), uri.host()) {
        (Some("http" | "https"), Some(host)) if !host.is_empty() && uri.query().is_none() => {
            Ok(text.trim_end_matches('/').to_owned())
        }
        (Some(_) | None, Some(_) | None) => Err(refuse()),
    }
}

fn listen(port: u16) -> SocketAddr {
    SocketAddr::from(([0, 0, 0, 0], port))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(args: &[&str]) -> Result<Options, clap::Error> {
        Options::try_parse_from([&["aviary-operator"], args].concat())
    }

    #[test]
    fn without_flags_the_operator_listens_where_the_manifests_say() {
        let options = parse(&[]).unwrap();
        assert_eq!(options.webhook_address.to_string(), "0.0.0.0:9443");
        assert_eq!(options.xds_address.to_string(), "0.0.0.0:15010");
        assert_eq!(options.admin_address.to_string(), "0.0.0.0:15021");
        assert_eq!(options.namespace, "aviary-system");
        assert_eq!(options.prometheus_address, None);
        assert_eq!(options.trust_domain.as_str(), "cluster.local");
        assert_eq!(options.workload_certificate_lifetime, workload::LIFETIME);
        assert_eq!(options.hook_allow, []);
        assert_eq!(options.proxy_image_pull_policy.name(), "IfNotPresent");
    }

    #[test]
    fn what_is_logged_is_said_by_the_flag_and_by_the_older_name_where_there_is_none() {
        let filter = |args: &[&str], rust_log: &str| {
            parse(args).unwrap().log_filter(Some(rust_log.to_owned()))
        };
        assert_eq!(filter(&["--log=warn"], "debug"), "warn");
        assert_eq!(filter(&[], "debug"), "debug");
        assert_eq!(filter(&[], ""), "info");
    }

    #[test]
    fn the_allow_list_is_repeated_or_separated_by_commas() {
        let options = parse(&[
            "--prometheus-allow=http://a:9090/",
            "--prometheus-allow=https://b/x,http://c:1",
        ])
        .unwrap();
        assert_eq!(
            options.prometheus_allow,
            ["http://a:9090", "https://b/x", "http://c:1"]
        );
    }

    #[test]
    fn credentials_are_folders_and_nobody_has_both_a_password_and_a_token() {
        let options = parse(&["--prometheus-auth-tls=/etc/tls"]).unwrap();
        assert_eq!(options.prometheus_auth_tls, Some("/etc/tls".into()));
        let both = ["--prometheus-auth-basic=/a", "--prometheus-auth-bearer=/b"];
        let error = parse(&both).unwrap_err().to_string();
        assert!(error.contains("cannot be used with"), "{error}");
    }

    #[test]
    fn what_certificates_say_and_how_long_they_hold_is_checked() {
        let options = parse(&[
            "--trust-domain=prod.example",
            "--workload-certificate-lifetime=2m",
        ])
        .unwrap();
        assert_eq!(options.trust_domain.as_str(), "prod.example");
        for (flag, text) in [
            ("--trust-domain=Prod", "is no trust domain"),
            ("--workload-certificate-lifetime=1m", "write 2m to 720h"),
            ("--plaintext-quiet-time=1h", "write 1s to 10m"),
        ] {
            let error = parse(&[flag]).unwrap_err().to_string();
            assert!(error.contains(text), "{error}");
        }
    }

    #[test]
    fn a_hook_that_is_allowed_without_a_scheme_is_refused_with_the_right_form() {
        let options = parse(&["--hook-allow=https://a/x,http://b:1"]).unwrap();
        assert_eq!(options.hook_allow.len(), 2);
        let error = parse(&["--hook-allow", "hooks:80"]).unwrap_err();
        assert!(error.to_string().contains("write https://host"), "{error}");
    }

    #[test]
    fn an_address_without_a_scheme_is_refused_with_the_right_form() {
        for text in [
            "prometheus:9090",
            "ftp://a",
            "http://",
            "/metrics",
            "http://a?x=1",
        ] {
            let error = parse(&["--prometheus-address", text])
                .unwrap_err()
                .to_string();
            assert!(error.contains("write http://host:port"), "{text}: {error}");
        }
    }
}
