//! The way to a Prometheus: its address, as whom it is asked, and whom is trusted there.
//!
//! Credentials belong to an address. A rollout that says `auth` is asked for with these alone; one that says nothing is asked
//! for with the operator's own, if the address is the operator's own. No Secret ever goes to an address that is not in the
//! operator's list, since such an address is never asked.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use aviary_crds::prometheus::{PrometheusAuth, SecretSource};
use prometheus_http_query::Client;

use super::ask::Prometheus;
use super::credentials::{Credentials, Part, Tls, Values};
use super::secrets;
use crate::http_client::{self, HttpClientError, HttpClients};

/// Reading Secrets is a part of the question.
const PATIENCE: Duration = Duration::from_secs(5);

#[derive(Debug, thiserror::Error)]
pub enum AccessError {
    #[error("the HTTP client for Prometheus cannot be built: {0}")]
    Http(#[from] HttpClientError),
}

/// What the operator shows at its own address: folders in which Secrets are mounted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Own {
    pub address: Option<String>,
    pub basic: Option<PathBuf>,
    pub bearer: Option<PathBuf>,
    pub headers: Option<PathBuf>,
    pub tls: Option<PathBuf>,
}

/// Shared by all questions.
#[derive(Clone)]
pub struct Access(Arc<Inner>);

struct Inner {
    kube: kube::Client,
    own: Own,
    /// Without certificates of anybody's.
    http: reqwest::Client,
    clients: HttpClients,
}

impl Access {
    /// HTTPS trusts the certificates in `SSL_CERT_FILE` or the system's, unless a rollout or a flag brings its own.
    pub fn new(kube: kube::Client, own: Own) -> Result<Access, AccessError> {
        let clients = HttpClients::new();
        let http = clients.common()?;
        Ok(Access(Arc::new(Inner {
            kube,
            own,
            http,
            clients,
        })))
    }

    /// The Prometheus at this address, for a rollout of this namespace. An error is why it cannot be asked, for people.
    pub async fn to(
        &self,
        namespace: &str,
        address: Option<&str>,
        auth: Option<&PrometheusAuth>,
    ) -> Result<Prometheus, String> {
        let Some(address) = address else {
            return Err("no Prometheus: start the operator with --prometheus-address, or set spec.analysis.prometheus.address".to_owned());
        };
        let reading = tokio::time::timeout(PATIENCE, self.credentials(namespace, address, auth));
        let credentials = reading.await.unwrap_or_else(|_| {
            Err(
                "the credentials for Prometheus cannot be read now: the API server does not answer"
                    .to_owned(),
            )
        })?;
        let http = match credentials.tls {
            None => self.0.http.clone(),
            Some(tls) => self.0.with(tls)?,
        };
        let client = Client::from(http, address)
            .map_err(|error| format!("'{address}' is no address of a Prometheus: {error}"))?;
        Ok(Prometheus {
            client,
            headers: credentials.headers,
        })
    }

    async fn credentials(
        &self,
        namespace: &str,
        address: &str,
        auth: Option<&PrometheusAuth>,
    ) -> Result<Credentials, String> {
        let mut credentials = Credentials::default();
        for (part, values) in self.values(namespace, address, auth).await? {
            let added = credentials.add(part, &values);
            added.map_err(|error| error.to_string())?;
        }
        Ok(credentials)
    }

    async fn values(
        &self,
        namespace: &str,
        address: &str,
        auth: Option<&PrometheusAuth>,
    ) -> Result<Vec<(Part, Values)>, String> {
        let Inner { kube, own, .. } = &*self.0;
        let mut all = Vec::new();
        if let Some(auth) = auth {
            for (part, source) in named(auth) {
                let name = &source.secret_ref.name;
                let values = secrets::of_secret(kube, namespace, name, address).await;
                all.push((part, values.map_err(|error| error.to_string())?));
            }
        } else if own.is_at(address) {
            for (part, folder) in own.folders() {
                let values = secrets::of_folder(folder).await;
                all.push((part, values.map_err(|error| error.to_string())?));
            }
        }
        Ok(all)
    }
}

fn named(auth: &PrometheusAuth) -> impl Iterator<Item = (Part, &SecretSource)> {
    let parts = [
        (Part::Basic, &auth.basic),
        (Part::Bearer, &auth.bearer),
        (Part::Headers, &auth.headers),
        (Part::Tls, &auth.tls),
    ];
    parts
        .into_iter()
        .filter_map(|(part, source)| Some((part, source.as_ref()?)))
}

impl Own {
    fn is_at(&self, address: &str) -> bool {
        let own = self.address.as_deref();
        own.is_some_and(|own| own.trim_end_matches('/') == address.trim_end_matches('/'))
    }

    fn folders(&self) -> impl Iterator<Item = (Part, &PathBuf)> {
        let parts = [
            (Part::Basic, &self.basic),
            (Part::Bearer, &self.bearer),
            (Part::Headers, &self.headers),
            (Part::Tls, &self.tls),
        ];
        parts
            .into_iter()
            .filter_map(|(part, folder)| Some((part, folder.as_ref()?)))
    }
}

impl Inner {
    /// A client for one window: whose certificates it has may be another's in the next.
    fn with(&self, tls: Tls) -> Result<reqwest::Client, String> {
        let place = tls.place;
        let client = self.clients.with(http_client::Tls {
            authorities: tls.authorities,
            client: tls.client,
        });
        client.map_err(|error| match error {
            HttpClientError::Authority => format!(
                "ca.crt in {place} has a certificate that cannot be read: write the authority's own, in PEM"
            ),
            HttpClientError::Pair => format!(
                "tls.crt and tls.key in {place} do not belong together: write the certificate of this key"
            ),
            HttpClientError::Build(error) => {
                format!("the HTTP client for Prometheus cannot be built: {error}")
            }
        })
    }
}
