//! What the sidecar and the control plane must call by the same name: the sidecar exports metrics that the operator judges by, and
//! runs in a pod that the operator has prepared for it; and one sidecar talks to another. A name that is spelled in two places can be changed in one, and then every
//! window is without evidence; so each is spelled here.

/// The metrics of `/metrics`, without the suffixes of their type ([`TOTAL`](metric::TOTAL), [`BUCKET`](metric::BUCKET)).
pub mod metric {
    /// Counter: requests, by the revision that answered last.
    pub const OUTBOUND_REQUESTS: &str = "aviary_outbound_requests";
    /// Counter: first attempts, by the revision that was picked. The evidence of analysis.
    pub const OUTBOUND_FIRST_ATTEMPTS: &str = "aviary_outbound_first_attempts";
    /// Counter: opaque connections opened.
    pub const OUTBOUND_CONNECTIONS: &str = "aviary_outbound_connections";
    pub const OUTBOUND_WITHHELD: &str = "aviary_outbound_withheld";
    /// Counter: long streams that were ended because their revision's weight went to 0.
    pub const OUTBOUND_STREAMS_ENDED: &str = "aviary_outbound_streams_ended";
    /// Histogram: seconds to the answer's head, first attempts. The evidence of analysis.
    pub const OUTBOUND_DURATION: &str = "aviary_outbound_duration_seconds";
    /// Counter: requests to the application, by who sent them. The evidence of callers outside the mesh.
    pub const INBOUND_REQUESTS: &str = "aviary_inbound_requests";
    /// Histogram: seconds to the answer's head.
    pub const INBOUND_DURATION: &str = "aviary_inbound_duration_seconds";
    /// Counter: attempts that failed and whose request was sent again, by reason.
    pub const OUTBOUND_RETRIES: &str = "aviary_outbound_retries";
    /// Counter: attempts that failed and whose request would have been sent again, had the budget not been spent.
    pub const OUTBOUND_RETRIES_OVER_BUDGET: &str = "aviary_outbound_retries_over_budget";
    /// Counter: requests that a fault was put into, since the Service's owner asks for it.
    pub const OUTBOUND_FAULTS: &str = "aviary_outbound_faults";
    /// Info: the proxy's version.
    pub const PROXY: &str = "aviary_proxy";
    /// Gauge: whether a stream to the control plane is open.
    pub const CONFIG_CONNECTED: &str = "aviary_config_connected";
    /// Gauge: destinations with a route.
    pub const CONFIG_ROUTES: &str = "aviary_config_routes";
    /// Counter: snapshots that every worker has installed.
    pub const CONFIG_INSTALLS: &str = "aviary_config_installs";
    /// Gauge: whether the control plane is told what becomes of first attempts.
    pub const OUTCOMES_CONNECTED: &str = "aviary_outcomes_connected";
    /// Counter: reports of first attempts, by what became of the report.
    pub const OUTCOME_REPORTS: &str = "aviary_outcome_reports";
    /// Gauge: when the pod's certificate expires, in seconds since 1970; absent without one.
    pub const IDENTITY_EXPIRY: &str = "aviary_identity_expiry_timestamp_seconds";
    /// Gauge: from when on the pod asks for another certificate, in seconds since 1970; absent without one.
    pub const IDENTITY_RENEWAL_DUE: &str = "aviary_identity_renewal_due_timestamp_seconds";
    /// Counter: requests for a certificate, by what became of them.
    pub const IDENTITY_RENEWALS: &str = "aviary_identity_renewals";
    /// Counter: outbound connections without a route.
    pub const PASSTHROUGH_CONNECTIONS: &str = "aviary_passthrough_connections";
    /// Counter: what the proxy refused because a limit was reached.
    pub const REFUSED: &str = "aviary_refused";
    /// Counter: requests and opaque connections of callers that may not call, by who called whom.
    pub const INBOUND_REFUSED: &str = "aviary_inbound_refused";
    /// Counter: handshakes of mutual TLS.
    pub const HANDSHAKES: &str = "aviary_tls_handshakes";
    /// Counter: lines of the access log, by what became of them.
    pub const ACCESS_LOG_LINES: &str = "aviary_access_log_lines";
    /// Gauge: requests and opaque connections in progress.
    pub const STREAMS_ACTIVE: &str = "aviary_streams_active";

    /// What the text format appends to a counter's name.
    pub const TOTAL: &str = "_total";
    /// What the text format appends to a histogram's name for its buckets.
    pub const BUCKET: &str = "_bucket";
}

/// The labels of the metrics.
pub mod label {
    /// The Service that was called, by original destination.
    pub const DST_NAMESPACE: &str = "dst_namespace";
    pub const DST_SERVICE: &str = "dst_service";
    pub const DST_PORT: &str = "dst_port";
    /// The revision that was picked.
    pub const REVISION: &str = "revision";
    /// How a request ended: one of [`class`](super::class).
    pub const CLASS: &str = "class";
    /// The application's port, on inbound metrics.
    pub const PORT: &str = "port";
    /// The pod's namespace, on inbound metrics. Many scrape configurations add this label by themselves, with the same value.
    pub const NAMESPACE: &str = "namespace";
    /// What the pod is one of, on inbound metrics: the name of its Deployment, or of another owner.
    pub const WORKLOAD: &str = "workload";
    /// Who sent a request that came in: one of [`peer`](super::peer).
    pub const PEER: &str = "peer";
    /// On outbound metrics: [`OUTSIDE`](super::peer::OUTSIDE) for requests of callers without a sidecar, whose revision the called pod has picked. Absent on all
    /// others.
    pub const SOURCE: &str = "source";
    /// Why a connection was passed through, or something was refused.
    pub const REASON: &str = "reason";
    /// The SPIFFE ID of who called; empty if it has shown none.
    pub const CALLER: &str = "caller";
    /// The SPIFFE ID of this pod; empty if it has none.
    pub const CALLED: &str = "called";
    /// What became of a report (`sent` or `dropped`), of a line of the access log (`written` or `dropped`), of a request for a certificate (`issued`, `failed` or `unserved`), or of a handshake (`success` or `failure`).
    pub const RESULT: &str = "result";
    /// Which way a connection goes: `outbound`, from the application, or `inbound`, to it.
    pub const SIDE: &str = "side";
    /// The upper bound of a histogram's bucket, in seconds.
    pub const LE: &str = "le";
}

/// The values of the label `class`: the names of [`Class`](crate::outcome::Class).
pub mod class {
    pub const SUCCESS: &str = "success";
    pub const FAILURE: &str = "failure";
    pub const CLIENT_CLOSED: &str = "client_closed";
    pub const UNSENT: &str = "unsent";
}

/// The values of the label `peer`: the names of [`Peer`](crate::peer::Peer).
pub mod peer {
    pub const MESH: &str = "mesh";
    pub const OUTSIDE: &str = "outside";
    pub const PROBE: &str = "probe";
}

/// The headers that sidecars of any two versions exchange; no application uses or sees them.
pub mod header {
    /// In a 503 of a sidecar's own: "my application never saw this request". Its value is what the request had in [`PEER`]: only who has seen the
    /// request can say it.
    pub const UNSENT: &str = "x-aviary-unsent";
    /// In an answer of a sidecar's own: why.
    pub const ERROR: &str = "x-aviary-error";
    /// In a request: a sidecar picked the revision.
    pub const PEER: &str = "x-aviary-peer";

    /// How many fields a sidecar adds to a head on its way to another one at most, which takes so many more than its limit: [`PEER`] and a Host to a
    /// request, a coding and `Connection` to an answer.
    pub const ADDED_FIELDS: usize = 2;
    /// How many bytes it adds at most, of a field that HTTP/2 counts 32 bytes more for too: those fields, the authority of a target as Host or that of
    /// a Host as `:authority` (a name of DNS has 253 bytes), and a space behind each colon.
    pub const ADDED_BYTES: usize = 512;
}

/// Where the sidecar says, on [`HEALTH_PORT`], whether the application takes connections on a port: this and the port's number. What
/// `tcpSocket` probes are rewritten to, since behind a redirect the sidecar takes every connection.
pub const TCP_PROBE_PATH: &str = "/probe/tcp/";

/// Where the sidecar says, on [`HEALTH_PORT`], what the application answers to a probe by HTTPS: this, the port's number and the path, such as `8443/healthz`. What
/// such probes are rewritten to, since behind a redirect the sidecar cannot tell them from other TLS.
pub const HTTPS_PROBE_PATH: &str = "/probe/https/";

/// Where outbound connections are redirected to.
pub const OUTBOUND_PORT: u16 = 15001;
/// Where inbound connections are redirected to.
pub const INBOUND_PORT: u16 = 15006;
/// The sidecar's probes and metrics.
pub const HEALTH_PORT: u16 = 15020;
/// The sidecar's user: the redirect rules let its connections through.
pub const PROXY_UID: u32 = 2102;
/// The sidecar's container.
pub const PROXY_CONTAINER: &str = "aviary-proxy";
/// The init container that sets the redirect rules.
pub const INIT_CONTAINER: &str = "aviary-init";
