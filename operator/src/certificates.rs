//! The operator's certificate authority, and the certificate that it serves with.
//!
//! The operator makes its own authority, so that installing Aviary needs no other program. The authority lives in
//! the Secret `aviary-ca`; whoever writes that Secret first wins and everyone reads it back, so replicas agree, and a
//! Secret put there before the first start (type `kubernetes.io/tls`) is a user's own authority. The serving
//! certificate lives in memory only: each process issues its own and renews it at half of its life.
//!
//! Pods have certificates of another issuer ([`workload`]), in another Secret.
//!
//! Not done yet: rotation of the authority (it lasts ten years). Deleting the Secret makes a new authority at the next start;
//! pods that were injected before have to be restarted then, since they trust the old one.

mod bundle;
mod root;
mod secret;
mod serving;
mod shared;
#[cfg(test)]
mod testing;
pub mod workload;

use std::sync::Arc;

use kube::Client;
use rustls::ServerConfig;
use time::OffsetDateTime;
use tokio_util::sync::CancellationToken;

pub use root::{Root, RootError};
pub use serving::ServingError;
pub use shared::{SecretError, SecretProblem};

use secret::Kept;
use serving::Serving;

use crate::ads::RevocationKey;

/// How often the age of the serving certificate is looked at: by the clock on the wall, which goes on when a
/// machine sleeps.
const RENEWAL_CHECK: std::time::Duration = std::time::Duration::from_secs(60);

#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    #[error(transparent)]
    Secret(#[from] SecretError),
    #[error(transparent)]
    Serving(#[from] ServingError),
}

/// When certificates expire, in seconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Expiries {
    pub serving: i64,
    pub root: i64,
    /// Of the issuer of pods' certificates; `None`: there is none.
    pub workloads: Option<i64>,
}

/// The certificate authority of this installation. Clones are the same authority.
#[derive(Clone)]
pub struct Authority {
    root: Arc<Root>,
    revocation_key: RevocationKey,
    serving: Arc<Serving>,
}

impl Authority {
    /// The authority in the Secret `aviary-ca`, made now if there is none.
    pub async fn load_or_create(
        client: Client,
        namespace: &str,
    ) -> Result<Authority, CertificateError> {
        let now = OffsetDateTime::now_utc();
        let Kept {
            root,
            revocation_key,
        } = secret::load_or_create(client, namespace, now).await?;
        Ok(Authority::new(root, revocation_key, namespace, now)?)
    }

    /// An authority from its root; `namespace` is the operator's, for the names that it serves under.
    pub fn new(
        root: Root,
        revocation_key: RevocationKey,
        namespace: &str,
        now: OffsetDateTime,
    ) -> Result<Authority, ServingError> {
        let root = Arc::new(root);
        let serving = Arc::new(Serving::new(Arc::clone(&root), namespace, now)?);
        Ok(Authority {
            root,
            revocation_key,
            serving,
        })
    }

    /// The key that revocations are signed with: the same on every replica, and after a restart.
    pub fn revocation_key(&self) -> RevocationKey {
        self.revocation_key.clone()
    }

    /// The certificate that clients have to trust, as PEM.
    pub fn root_pem(&self) -> &str {
        self.root.pem()
    }

    /// TLS 1.3 for HTTP/2 and HTTP/1.1, always with the newest serving certificate.
    pub fn server_config(&self) -> Arc<ServerConfig> {
        self.serving.server_config()
    }

    /// When the present certificates expire, in seconds since 1970.
    pub fn expiries(&self) -> Expiries {
        Expiries {
            serving: self.serving.expires_at().unix_timestamp(),
            root: self.root.expires_at().unix_timestamp(),
            workloads: None,
        }
    }

    /// Renews the serving certificate, and keeps the root in the webhook configurations, until `stop`.
    pub async fn run(self, client: Client, stop: CancellationToken) {
        let work = async {
            tokio::join!(self.renew(), bundle::keep(client, self.root.pem()));
        };
        stop.run_until_cancelled(work).await;
    }

    async fn renew(&self) {
        loop {
            tokio::time::sleep(RENEWAL_CHECK).await;
            match self.serving.renew_if_due(OffsetDateTime::now_utc()) {
                Ok(serving::Renewal::NotDue) => {}
                Ok(serving::Renewal::Renewed) => tracing::info!("serving certificate renewed"),
                Err(error) => {
                    tracing::error!(%error, "serving certificate not renewed, trying again in a minute");
                }
            }
        }
    }
}
