//! Certificates of workloads: each says which ServiceAccount a pod has, and nothing else.
//!
//! ```text
//!   Secret aviary-workload-ca --watch--> Workloads (the newest Issuer that is of use) --sign(CSR, ServiceAccount)--> leaf, chain, roots
//! ```
//!
//! The issuer has nothing to do with the authority that the operator itself serves with: whoever trusts a pod's certificate does not trust it to be the
//! control plane, nor the other way round. It is made at the first start, or it is the user's own, a root or an intermediate, in the form in which
//! cert-manager writes it. An issuer is of use if what it signs can be verified with its roots; that is tried before it is used.
//!
//! Not here: rotation of the root without a pause. A new root has to be in `ca.crt` beside the old one for the life of a certificate before `tls.crt` is its.

mod csr;
mod issuer;
mod kept;
mod refusals;
mod terms;

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use aviary_xds::identity::Signed;
use futures::StreamExt;
use k8s_openapi::api::core::v1::Secret;
use kube::{Api, Client};
use kube_runtime::{WatchStreamExt, watcher};
use prometheus_client::registry::Registry;
use time::OffsetDateTime;
use tokio_util::sync::CancellationToken;

pub use csr::CsrProblem;
pub use issuer::{Issuer, IssuerError};
pub use refusals::Refusal;
pub use terms::{InvalidLifetime, LIFETIME, Terms, lifetime};

use super::shared::{self, SecretError};
use crate::names;
use kept::WorkloadSecret;
use refusals::Counters;

/// Between tries to get an issuer while there is none.
const RETRY: Duration = Duration::from_secs(10);

/// Signs for workloads with the newest issuer that is of use. Clones are the same.
#[derive(Clone)]
pub struct Workloads(Arc<Inner>);

struct Inner {
    terms: Terms,
    /// `None`: there is none yet, and nobody gets a certificate.
    issuer: RwLock<Option<Arc<Issuer>>>,
    counters: Counters,
}

impl Workloads {
    /// Without an issuer: nobody gets a certificate until [`Workloads::run`] has found one.
    pub fn new(terms: Terms) -> Workloads {
        Workloads(Arc::new(Inner {
            terms,
            issuer: RwLock::default(),
            counters: Counters::default(),
        }))
    }

    /// Signs with this one from now on.
    pub fn adopt(&self, issuer: Issuer) {
        let mut current = self
            .0
            .issuer
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        *current = Some(Arc::new(issuer));
    }

    /// When nothing that the issuer has signed is trusted any more, in seconds since 1970; `None`: there is no issuer.
    pub fn expires_at(&self) -> Option<i64> {
        Some(self.issuer()?.expires_at().unix_timestamp())
    }

    /// Registers what is counted.
    pub fn register(&self, registry: &mut Registry) {
        self.0.counters.register(registry);
    }

    /// A certificate for a pod of this ServiceAccount; of the request (PKCS #10, DER) only the public key is used.
    pub fn sign(
        &self,
        namespace: &str,
        service_account: &str,
        csr: &[u8],
        now: OffsetDateTime,
    ) -> Result<Signed, Refusal> {
        let key = csr::read(csr)?;
        let Terms {
            trust_domain,
            lifetime,
        } = &self.0.terms;
        let id = trust_domain.workload(namespace, service_account)?;
        let issuer = self.issuer().ok_or(Refusal::NoIssuer)?;
        let signed = issuer.issue(&key, id, *lifetime, now)?;
        self.0.counters.issued();
        Ok(signed)
    }

    /// Notes that somebody did not get a certificate.
    pub fn refused(&self, refusal: &Refusal) {
        self.0.counters.refused(refusal);
    }

    /// Keeps the issuer that is in the Secret, which is made now if there is none, until `stop`. Nothing that is wrong with it ends that: an operator without an
    /// issuer still releases, and one with an older issuer still signs.
    pub async fn run(self, client: Client, namespace: String, stop: CancellationToken) {
        let work = async {
            self.first(&client, &namespace).await;
            self.follow(&client, &namespace).await;
            // A watch goes on for ever.
            std::future::pending::<()>().await;
        };
        stop.run_until_cancelled(work).await;
    }

    /// Until there is one.
    async fn first(&self, client: &Client, namespace: &str) {
        let mut said = String::new();
        loop {
            let shared = WorkloadSecret {
                now: OffsetDateTime::now_utc(),
            };
            match shared::load_or_create(client.clone(), namespace, &shared).await {
                Ok(issuer) => {
                    tracing::info!(
                        secret = names::WORKLOAD_CA_SECRET,
                        roots = issuer.roots().len(),
                        "pods get certificates"
                    );
                    return self.adopt(issuer);
                }
                Err(error) => self.broken(&error, &mut said),
            }
            tokio::time::sleep(RETRY).await;
        }
    }

    /// Takes up every change that is of use.
    async fn follow(&self, client: &Client, namespace: &str) {
        let secrets: Api<Secret> = Api::namespaced(client.clone(), namespace);
        let changes = watcher::watch_object(secrets, names::WORKLOAD_CA_SECRET);
        let mut changes = std::pin::pin!(changes.default_backoff());
        let (mut said, mut last) = (String::new(), None);
        while let Some(change) = changes.next().await {
            let secret = match change {
                Ok(Some(secret)) => secret,
                Ok(None) => {
                    tracing::warn!(
                        secret = names::WORKLOAD_CA_SECRET,
                        "the issuer's Secret is gone; the issuer that it had goes on signing, and a new one is made at the next start"
                    );
                    continue;
                }
                Err(error) => {
                    tracing::warn!(%error, secret = names::WORKLOAD_CA_SECRET, "the issuer's Secret cannot be watched; the last known issuer goes on signing");
                    continue;
                }
            };
            // Labels and annotations are of no interest.
            if last.as_ref() == Some(&secret.data) {
                continue;
            }
            last = Some(secret.data.clone());
            self.take(&secret, &mut said);
        }
    }

    /// What is in the Secret now.
    fn take(&self, secret: &Secret, said: &mut String) {
        match kept::parse(secret, OffsetDateTime::now_utc()) {
            Ok(issuer)
                if self
                    .issuer()
                    .is_some_and(|current| current.is_same(&issuer)) => {}
            Ok(issuer) => {
                tracing::info!(
                    secret = names::WORKLOAD_CA_SECRET,
                    roots = issuer.roots().len(),
                    "another issuer signs for pods from now on"
                );
                self.adopt(issuer);
                said.clear();
            }
            Err(problem) => {
                let error = SecretError {
                    secret: names::WORKLOAD_CA_SECRET,
                    problem,
                };
                self.broken(&error, said);
            }
        }
    }

    /// Says it once.
    fn broken(&self, error: &SecretError, said: &mut String) {
        let text = crate::text::chain(error);
        if *said == text {
            return;
        }
        match self.issuer() {
            Some(_) => tracing::error!(
                error = text,
                "the last good issuer goes on signing for pods"
            ),
            None => tracing::error!(
                error = text,
                "no pod gets a certificate, and those without one speak plaintext"
            ),
        }
        *said = text;
    }

    fn issuer(&self) -> Option<Arc<Issuer>> {
        let current = self.0.issuer.read().unwrap_or_else(PoisonError::into_inner);
        current.clone()
    }
}

#[cfg(test)]
mod tests;
