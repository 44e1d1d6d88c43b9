//! Names and ports that the code shares with the manifests in `config/`; a test compares the two. Labels and annotations have a
//! table for people: [`crate::annotations`].

/// The operator's Deployment, ServiceAccount, webhook Service and webhook configurations.
pub const OPERATOR: &str = "aviary-operator";
/// The Service at which proxies find the xDS server.
pub const XDS_SERVICE: &str = "aviary-xds";
/// The namespace that `config/default` installs into.
pub const NAMESPACE: &str = "aviary-system";
/// The Lease that says which replica of the operator decides.
pub const LEASE: &str = "aviary-operator";
/// The Secret with the certificate authority.
pub const CA_SECRET: &str = "aviary-ca";
/// The Secret with the issuer of pods' certificates.
pub const WORKLOAD_CA_SECRET: &str = "aviary-workload-ca";
/// The audience of the tokens that proxies show to the operator.
pub const TOKEN_AUDIENCE: &str = "aviary";

/// The scrape job of the sidecars. Prometheus sets the label `job` itself: no exporter can.
pub const PROMETHEUS_JOB: &str = "aviary-proxy";

/// Where the API server calls the webhooks (the Service listens on 443).
pub const WEBHOOK_PORT: u16 = 9443;
/// Where proxies connect for xDS.
pub const XDS_PORT: u16 = 15010;
/// The operator's probes and metrics.
pub const ADMIN_PORT: u16 = 15021;

pub use traffic_core::contract::{
    HEALTH_PORT as PROXY_HEALTH_PORT, INIT_CONTAINER, PROXY_CONTAINER,
};
/// The sidecar's image where nothing else is said.
pub const PROXY_IMAGE: &str = "aviary.local/aviary-proxy:dev";
/// The sidecar's user, in the type that the Kubernetes API has for it.
pub const PROXY_UID: i64 = traffic_core::contract::PROXY_UID as i64;

/// On a namespace: whether its sidecars take plaintext.
pub const MTLS_LABEL: &str = "aviary.dev/mtls";
/// Its values. Without one, a namespace is permissive.
pub const MTLS_STRICT: &str = "strict";
pub const MTLS_PERMISSIVE: &str = "permissive";
/// The ConfigMap in the operator's namespace that says which namespaces refuse plaintext.
pub const STRICT_CONFIG_MAP: &str = "aviary-mtls";

/// In the sidecar's environment: what its pod is one of.
pub const WORKLOAD_VARIABLE: &str = "AVIARY_WORKLOAD";

/// On an injected pod: the version of the operator that injected it.
pub const INJECTED_ANNOTATION: &str = "aviary.dev/injected";
/// On an injected pod: [`INJECTION`] of the operator that injected it. Absent is 1.
pub const INJECTION_ANNOTATION: &str = "aviary.dev/injection";
/// Counts what injection has brought that a release can depend on, so that older pods are told of and newer versions that change nothing for
/// them are not. 2: `tcpSocket` probes ask the application, and the revision is picked for callers without a sidecar.
pub const INJECTION: u32 = 2;
/// On a pod: inbound ports that bypass the sidecar, separated by commas.
pub const SKIP_INBOUND_ANNOTATION: &str = "aviary.dev/skip-inbound-ports";
/// On a pod: outbound ports that bypass the sidecar, separated by commas.
pub const SKIP_OUTBOUND_ANNOTATION: &str = "aviary.dev/skip-outbound-ports";
/// On a pod: the sidecar's image, and its init container's.
pub const PROXY_IMAGE_ANNOTATION: &str = "aviary.dev/proxy-image";
/// On a pod: the CPU and the memory that the sidecar asks for, and the most that it may take.
pub const PROXY_CPU_ANNOTATION: &str = "aviary.dev/proxy-cpu";
pub const PROXY_CPU_LIMIT_ANNOTATION: &str = "aviary.dev/proxy-cpu-limit";
pub const PROXY_MEMORY_ANNOTATION: &str = "aviary.dev/proxy-memory";
pub const PROXY_MEMORY_LIMIT_ANNOTATION: &str = "aviary.dev/proxy-memory-limit";
/// On a pod: what the sidecar writes into its log.
pub const PROXY_LOG_LEVEL_ANNOTATION: &str = "aviary.dev/proxy-log-level";
