//! The command line. Every flag of `run` can be set by the environment, since the injector writes the container.

use std::net::IpAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

use traffic_core::contract;
use traffic_core::inbound::{Inbound, InvalidProbe, Probe};
use traffic_core::limits::{self, InvalidLimit, Limit};
use traffic_core::rate::{Rate, Rates};
use traffic_core::telemetry::{AccessLog, AccessLogPath, MetricNames};

use crate::control::ControlPlane;
use crate::init::Redirect;
use crate::limits::Limits;
use crate::metrics::Workload;
use crate::net::origin::Redirected;
use crate::run::{Options, addresses};
use crate::telemetry;

#[derive(Debug, Parser)]
#[command(
    name = "aviary-proxy",
    version,
    about = "Aviary's sidecar: sets the redirect of a pod, and carries its traffic"
)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
    /// What is logged, such as `info` or `info,aviary_proxy::ads=debug`.
    #[arg(long, global = true, env = "AVIARY_LOG", default_value = "info")]
    pub log: String,
    /// How the log is written.
    #[arg(long, global = true, env = "AVIARY_LOG_FORMAT", value_enum, default_value_t = LogFormat::Json)]
    pub log_format: LogFormat,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// One JSON object a line.
    Json,
    /// For people.
    #[value(alias = "human")]
    Text,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Set the redirect rules of this network namespace, then exit. Needs root and NET_ADMIN.
    Init(Init),
    /// Carry the pod's traffic.
    Run(Box<Run>),
}

/// Items separated by commas; none if empty, since an unset annotation reaches us as an empty variable.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct List<T>(pub Vec<T>);

impl<T: FromStr> FromStr for List<T> {
    type Err = T::Err;

    fn from_str(text: &str) -> Result<List<T>, T::Err> {
        let items = text
            .split(',')
            .map(str::trim)
            .filter(|item| !item.is_empty());
        items.map(str::parse).collect::<Result<_, _>>().map(List)
    }
}

#[derive(Debug, Args)]
pub struct Init {
    /// The proxy's own UID: its connections are left alone.
    #[arg(long, env = "AVIARY_PROXY_UID", default_value_t = contract::PROXY_UID)]
    pub proxy_uid: u32,
    /// Where the application's connections are sent to.
    #[arg(long, env = "AVIARY_OUTBOUND_PORT", default_value_t = contract::OUTBOUND_PORT)]
    pub outbound_port: u16,
    /// Where connections to the application are sent to.
    #[arg(long, env = "AVIARY_INBOUND_PORT", default_value_t = contract::INBOUND_PORT)]
    pub inbound_port: u16,
    /// The proxy's health and metrics: connections there are left alone.
    #[arg(long, env = "AVIARY_ADMIN_PORT", default_value_t = contract::HEALTH_PORT)]
    pub admin_port: u16,
    /// Ports of the application that are not sent through the proxy, comma-separated.
    #[arg(long, env = "AVIARY_SKIP_INBOUND_PORTS", default_value = "")]
    pub skip_inbound_ports: List<u16>,
    /// Ports of destinations that are not sent through the proxy, comma-separated.
    #[arg(long, env = "AVIARY_SKIP_OUTBOUND_PORTS", default_value = "")]
    pub skip_outbound_ports: List<u16>,
    /// Networks that are not sent through the proxy, comma-separated.
    #[arg(long, env = "AVIARY_SKIP_OUTBOUND_CIDRS", default_value = "")]
    pub skip_outbound_cidrs: List<crate::init::Cidr>,
    /// The program that sets the rules.
    #[arg(long, env = "AVIARY_NFT", default_value = "nft")]
    pub nft: String,
}

#[derive(Debug, Args)]
pub struct Run {
    /// Where the application's connections come to.
    #[arg(long, env = "AVIARY_OUTBOUND_PORT", default_value_t = contract::OUTBOUND_PORT)]
    pub outbound_port: u16,
    /// Where connections to the application come to.
    #[arg(long, env = "AVIARY_INBOUND_PORT", default_value_t = contract::INBOUND_PORT)]
    pub inbound_port: u16,
    /// Health and metrics.
    #[arg(long, env = "AVIARY_ADMIN_PORT", default_value_t = contract::HEALTH_PORT)]
    pub admin_port: u16,
    /// Threads that carry traffic.
    #[arg(long, env = "AVIARY_WORKERS", default_value_t = 1)]
    pub workers: usize,
    #[command(flatten)]
    pub limits: LimitFlags,
    /// How long to go on as before after SIGTERM, while callers learn of it, such as `5s`.
    #[arg(long, env = "AVIARY_DRAIN_DELAY", default_value = "5s", value_parser = duration)]
    pub drain_delay: Duration,
    /// When to leave after SIGTERM even if streams are in progress, such as `25s`.
    #[arg(long, env = "AVIARY_DRAIN_DEADLINE", default_value = "25s", value_parser = duration)]
    pub drain_deadline: Duration,
    /// Ports of the application of which GET /probe/tcp/<port> on the admin port says whether it takes connections there, comma-separated: those
    /// of the pod's tcpSocket probes.
    #[arg(long, env = "AVIARY_TCP_PROBE_PORTS", default_value = "")]
    pub tcp_probe_ports: List<u16>,
    /// Port and path of a probe by HTTPS, such as 8443/healthz; repeat the flag for more. GET /probe/https/8443/healthz on the admin port says what the
    /// application answers.
    #[arg(long, value_name = "PORT/PATH")]
    pub https_probe: Vec<Probe>,
    /// Port and path of a probe that is asked under another name than the pod's address, such as 8080/healthz; repeat the flag for more.
    #[arg(long, value_name = "PORT/PATH")]
    pub probe_path: Vec<Probe>,
    /// The control plane.
    #[arg(
        long,
        env = "AVIARY_XDS_ADDRESS",
        default_value = "https://aviary-xds.aviary-system.svc:15010"
    )]
    pub xds_address: String,
    /// PEM of the control plane's certificate authority.
    #[arg(long, env = "AVIARY_ROOT_CERTS", hide_env_values = true)]
    pub root_certs: Option<String>,
    /// The file with the pod's token for the control plane; read for each connection.
    #[arg(
        long,
        env = "AVIARY_TOKEN_FILE",
        default_value = "/var/run/secrets/aviary/token"
    )]
    pub token_file: PathBuf,
    /// The pod's name.
    #[arg(long, env = "POD_NAME", default_value = "")]
    pub pod_name: String,
    /// The pod's namespace.
    #[arg(long, env = "POD_NAMESPACE", default_value = "")]
    pub pod_namespace: String,
    /// What the pod is one of: its Deployment, or another owner.
    #[arg(long, env = "AVIARY_WORKLOAD", default_value = "")]
    pub workload: String,
    /// The pod's address.
    #[arg(long, env = "POD_IP")]
    pub pod_ip: Option<IpAddr>,
    /// Who may call until the control plane has said it: `open`, whoever calls, or `closed`, nobody but probes.
    #[arg(long, env = "AVIARY_UNTIL_TOLD", value_enum, default_value_t = UntilTold::Open)]
    pub until_told: UntilTold,
    /// The pod's probes, for `closed`: ports and paths, such as `8080/healthz`, and the ports of gRPC probes, separated by spaces.
    #[arg(long, env = "AVIARY_PROBES", default_value = "", value_parser = probes)]
    pub probes: Probes,
    /// Which requests have a line of JSON on standard output: none (`off`), `errors`, `all`, or all errors and this share of the others, such as `1%`.
    #[arg(long, env = "AVIARY_ACCESS_LOG", default_value_t = AccessLog::default())]
    pub access_log: AccessLog,
    /// How much of a request's target is in its line: `plain`, the path alone, or `with-query`.
    #[arg(long, env = "AVIARY_ACCESS_LOG_PATH", default_value_t = AccessLogPath::default())]
    pub access_log_path: AccessLogPath,
    /// The names of metrics of requests: `aviary`, or `istio` for those of Istio's sidecars as well.
    #[arg(long, env = "AVIARY_METRICS", default_value_t = MetricNames::default())]
    pub metrics: MetricNames,
}

/// What to do with callers of whom nothing was said.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum UntilTold {
    Open,
    Closed,
}

/// A pod's probes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Probes(pub Vec<Probe>);

fn probes(text: &str) -> Result<Probes, InvalidProbe> {
    let words = text.split_ascii_whitespace().map(str::parse);
    words.collect::<Result<_, _>>().map(Probes)
}

/// What a pod's annotations can say too.
#[derive(Debug, Args)]
pub struct LimitFlags {
    /// Callers' connections that are served at once, by each worker; further ones are reset.
    #[arg(long, env = "AVIARY_MAX_CONNECTIONS", default_value_t = limits::CONNECTIONS.default, value_parser = within(limits::CONNECTIONS))]
    pub max_connections: u64,
    /// Requests in progress on one HTTP/2 connection of a caller's.
    #[arg(long, env = "AVIARY_MAX_STREAMS", default_value_t = limits::STREAMS.default, value_parser = within(limits::STREAMS))]
    pub max_streams: u64,
    /// Bytes of a head; a request with more is answered with 431.
    #[arg(long, env = "AVIARY_MAX_HEADER_BYTES", default_value_t = limits::HEADER_BYTES.default, value_parser = within(limits::HEADER_BYTES))]
    pub max_header_bytes: u64,
    /// Fields of a request's head; one with more is answered with 431.
    #[arg(long, env = "AVIARY_MAX_HEADERS", default_value_t = limits::HEADERS.default, value_parser = within(limits::HEADERS))]
    pub max_headers: u64,
    /// Seconds that a request's head may take from its first byte; a slower one is answered with 408.
    #[arg(long, env = "AVIARY_HEADER_TIMEOUT_SECONDS", default_value_t = limits::HEADER_SECONDS.default, value_parser = within(limits::HEADER_SECONDS))]
    pub header_timeout_seconds: u64,
    /// Milliseconds until a connection to an endpoint is there; then the request goes to another one.
    #[arg(long, env = "AVIARY_CONNECT_TIMEOUT_MILLISECONDS", default_value_t = limits::CONNECT_MILLISECONDS.default, value_parser = within(limits::CONNECT_MILLISECONDS))]
    pub connect_timeout_milliseconds: u64,
    /// Requests a second that the application gets of all callers together, such as `100/s` or `100/s burst 300`; further ones are answered with 429.
    #[arg(long, env = "AVIARY_RATE_LIMIT")]
    pub rate_limit: Option<Rate>,
    /// The same of each caller, by its identity.
    #[arg(long, env = "AVIARY_RATE_LIMIT_PER_CALLER")]
    pub rate_limit_per_caller: Option<Rate>,
}

impl LimitFlags {
    fn limits(&self) -> Limits {
        let size = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
        Limits {
            connections: size(self.max_connections),
            streams: u32::try_from(self.max_streams).unwrap_or(u32::MAX),
            head: aviary_http1::Limits {
                bytes: size(self.max_header_bytes),
                fields: size(self.max_headers),
            },
            head_time: Duration::from_secs(self.header_timeout_seconds),
            connect: Duration::from_millis(self.connect_timeout_milliseconds),
            rates: Rates {
                all: self.rate_limit,
                each: self.rate_limit_per_caller,
            },
            ..Limits::default()
        }
    }
}

fn within(limit: Limit) -> impl Fn(&str) -> Result<u64, InvalidLimit> + Clone + Send + Sync {
    move |text| limit.parse(text)
}

impl Init {
    pub fn redirect(&self) -> Redirect {
        Redirect {
            uid: self.proxy_uid,
            outbound_port: self.outbound_port,
            inbound_port: self.inbound_port,
            admin_port: self.admin_port,
            skip_inbound_ports: self.skip_inbound_ports.0.clone(),
            skip_outbound_ports: self.skip_outbound_ports.0.clone(),
            skip_outbound_cidrs: self.skip_outbound_cidrs.0.clone(),
        }
    }
}

impl Run {
    pub fn options(&self) -> Options {
        let [outbound, inbound, admin] =
            addresses(self.outbound_port, self.inbound_port, self.admin_port);
        Options {
            outbound,
            inbound,
            admin,
            workers: self.workers,
            limits: self.limits.limits(),
            drain_delay: self.drain_delay,
            drain_deadline: self.drain_deadline,
            origin: Arc::new(Redirected),
            workload: Workload {
                namespace: self.pod_namespace.clone(),
                name: self.workload.clone(),
            },
            probes_elsewhere: self.probe_path.clone(),
            tcp_probes: self.tcp_probe_ports.0.iter().copied().collect(),
            https_probes: self.https_probe.iter().cloned().collect(),
            until_told: match self.until_told {
                UntilTold::Open => Inbound::default(),
                UntilTold::Closed => Inbound::closed(self.probes.0.clone()),
            },
            telemetry: telemetry::Wanted {
                access_log: self.access_log,
                path: self.access_log_path,
                names: self.metrics,
            },
            output: Box::new(std::io::stdout()),
        }
    }

    pub fn control_plane(&self) -> ControlPlane {
        ControlPlane {
            address: self.xds_address.clone(),
            root_certs: self.root_certs.clone(),
            token_file: self.token_file.clone(),
            pod_name: self.pod_name.clone(),
            pod_namespace: self.pod_namespace.clone(),
            pod_ip: self.pod_ip,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is not a duration: write a number and a unit, like 500ms, 30s, 1m30s or 1h")]
pub struct InvalidDuration(String);

/// As durations are written everywhere in Aviary; a number alone is seconds.
fn duration(text: &str) -> Result<Duration, InvalidDuration> {
    let invalid = || InvalidDuration(text.to_owned());
    if let Ok(seconds) = text.parse::<u32>() {
        return Ok(Duration::from_secs(seconds.into()));
    }
    let (mut rest, mut total) = (text, Duration::ZERO);
    while !rest.is_empty() {
        let digits = rest
            .find(|it: char| !it.is_ascii_digit())
            .ok_or_else(invalid)?;
        let number: u32 = rest[..digits].parse().map_err(|_| invalid())?;
        rest = &rest[digits..];
        // The longer unit first: `m` is the beginning of `ms`.
        let units = [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000)];
        let (after, milliseconds) = units
            .into_iter()
            .find_map(|(unit, length)| Some((rest.strip_prefix(unit)?, length)))
            .ok_or_else(invalid)?;
        rest = after;
        total += Duration::from_millis(milliseconds) * number;
    }
    if text.is_empty() {
        Err(invalid())
    } else {
        Ok(total)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn limits_have_flags_of_their_own_with_their_names_and_defaults() {
        let parse = |flags: &[String]| {
            let flags = ["aviary-proxy", "run"]
                .map(str::to_owned)
                .into_iter()
                .chain(flags.to_vec());
            match Cli::try_parse_from(flags)?.command {
                Command::Run(run) => Ok::<_, clap::Error>(run.options().limits),
                Command::Init(_) => panic!("not run"),
            }
        };
        assert_eq!(parse(&[]).unwrap(), Limits::default());
        for limit in limits::ALL {
            let set = |number: u64| parse(&[format!("--{}={number}", limit.flag)]);
            assert_ne!(
                set(limit.range.start() + 1).unwrap(),
                Limits::default(),
                "{}",
                limit.flag
            );
            let error = set(limit.range.end() + 1).unwrap_err().to_string();
            assert!(error.contains("is no number from"), "{error}");
        }
        let rate = |number: usize, text: &str| {
            let (_, flag) = traffic_core::rate::ANNOTATIONS[number];
            Ok::<_, clap::Error>(parse(&[format!("--{flag}={text}")])?.rates)
        };
        let read: Rate = "10/s burst 20".parse().unwrap();
        let rates = |all, each| Rates { all, each };
        assert_eq!(rate(0, "10/s burst 20").unwrap(), rates(Some(read), None));
        assert_eq!(rate(1, "10/s burst 20").unwrap(), rates(None, Some(read)));
        let error = rate(0, "10").unwrap_err().to_string();
        assert!(error.contains("'10' is no rate"), "{error}");
    }

    #[test]
    fn durations_are_written_as_everywhere() {
        assert_eq!(duration("5s"), Ok(Duration::from_secs(5)));
        assert_eq!(duration("0"), Ok(Duration::ZERO));
        assert_eq!(duration("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(duration("1m30s"), Ok(Duration::from_secs(90)));
        for bad in ["", "s", "1d", "1m30", "-1s", "1.5s"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_log_has_the_formats_of_the_operator_and_an_older_name() {
        let format = |args: &[&str]| {
            let args = [&["aviary-proxy"], args, &["run"]].concat();
            Cli::try_parse_from(args).unwrap().log_format
        };
        assert_eq!(format(&[]), LogFormat::Json);
        assert_eq!(format(&["--log-format=text"]), LogFormat::Text);
        assert_eq!(format(&["--log-format=human"]), LogFormat::Text);
    }

    #[test]
    fn lists_are_separated_by_commas_and_may_be_empty() {
        let parse = |ports| {
            let flags = [
                "aviary-proxy",
                "init",
                "--skip-inbound-ports",
                ports,
                "--skip-outbound-cidrs",
                "10.0.0.0/8",
            ];
            match Cli::try_parse_from(flags)?.command {
                Command::Init(init) => Ok::<_, clap::Error>(init.redirect().skip_inbound_ports),
                Command::Run(_) => panic!("not init"),
            }
        };
        assert_eq!(parse("22, 9090").unwrap(), [22, 9090]);
        assert_eq!(parse("").unwrap(), [0u16; 0]);
        assert!(
            parse("22,web")
                .unwrap_err()
                .to_string()
                .contains("--skip-inbound-ports")
        );
    }
}
