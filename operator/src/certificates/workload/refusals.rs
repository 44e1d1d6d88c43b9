//! Why somebody does not get a certificate, and how often that was so.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;
use traffic_core::spiffe::InvalidId;

use super::csr::CsrProblem;
use crate::names;

/// Why somebody does not get a certificate.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    #[error("the token is no good")]
    Token,
    #[error("the token could not be checked")]
    Unchecked,
    #[error("more than {0} certificates in a minute: one is good for half of its life")]
    TooMany(u32),
    #[error("the request: {0}")]
    Csr(#[from] CsrProblem),
    #[error("the pod's name: {0}")]
    Name(#[from] InvalidId),
    #[error("there is no issuer of certificates: the operator's log says why")]
    NoIssuer,
    #[error("the issuer of certificates, tls.crt of Secret {secret}, has expired", secret = names::WORKLOAD_CA_SECRET)]
    Expired,
    #[error("the certificate cannot be signed: {0}")]
    Sign(rcgen::Error),
}

impl Refusal {
    /// The values of the label `reason`.
    const REASONS: [&'static str; 8] = [
        "token",
        "unchecked",
        "too_many",
        "request",
        "name",
        "no_issuer",
        "expired",
        "sign",
    ];

    pub fn reason(&self) -> &'static str {
        match self {
            Refusal::Token => "token",
            Refusal::Unchecked => "unchecked",
            Refusal::TooMany(_) => "too_many",
            Refusal::Csr(_) => "request",
            Refusal::Name(_) => "name",
            Refusal::NoIssuer => "no_issuer",
            Refusal::Expired => "expired",
            Refusal::Sign(_) => "sign",
        }
    }
}

#[derive(Debug)]
pub(super) struct Counters {
    issued: Counter,
    refused: Family<Reason, Counter>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Reason {
    reason: &'static str,
}

impl Default for Counters {
    fn default() -> Counters {
        let refused = Family::<Reason, Counter>::default();
        // Alerts ask for increases, and what appears with 1 has none.
        for reason in Refusal::REASONS {
            drop(refused.get_or_create(&Reason { reason }));
        }
        Counters {
            issued: Counter::default(),
            refused,
        }
    }
}

impl Counters {
    pub(super) fn issued(&self) {
        self.issued.inc();
    }

    pub(super) fn refused(&self, refusal: &Refusal) {
        let reason = refusal.reason();
        self.refused.get_or_create(&Reason { reason }).inc();
    }

    pub(super) fn register(&self, registry: &mut Registry) {
        let ours = registry.sub_registry_with_prefix("aviary_operator");
        ours.register(
            "workload_certificates_issued",
            "Certificates that pods were given",
            self.issued.clone(),
        );
        ours.register(
            "workload_certificates_refused",
            "Requests of pods for a certificate that were refused, by reason",
            self.refused.clone(),
        );
    }
}
