//! One call: signed, sent, and its status read. Nothing of the answer but that: what a stranger's server says fills no status,
//! no log and no memory.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::jiff::Timestamp;
use kube::Client;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

use super::Hook;
use super::message::Message;
use crate::allowed::{AllowList, NotAllowed};
use crate::credentials::{self, Credentials, CredentialsError};
use crate::http_client::{HttpClientError, HttpClients, Tls, tls_error};
use crate::signature::{SIGNATURE, TIMESTAMP, signature};
use crate::text::{cut, innermost};

/// The longest reason, in bytes.
const REASON: usize = 200;
const IDEMPOTENCY_KEY: &str = "idempotency-key";

/// Names a call of one rollout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Id {
    /// The release waits for it.
    Asks(u64),
    /// Nobody waits for it.
    Tells(u64),
}

/// A call that is to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// Comes back with what came of it.
    pub id: Id,
    pub url: String,
    pub timeout: Duration,
    /// The name of the Secret.
    pub secret: Option<String>,
    pub message: Message,
}

impl Call {
    pub(super) fn new(id: Id, hook: &Hook, message: Message) -> Call {
        Call {
            id,
            url: hook.url.clone(),
            timeout: hook.timeout,
            secret: hook.secret.clone(),
            message,
        }
    }
}

/// What came of it.
#[derive(Debug)]
pub struct Called {
    pub id: Id,
    pub result: Result<(), CallError>,
}

/// Why a call did not bring a yes.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    #[error(transparent)]
    NotAllowed(#[from] NotAllowed),
    #[error(transparent)]
    Credentials(#[from] CredentialsError),
    #[error("the ca.crt of its Secret has no certificate that can be read")]
    Authorities,
    #[error(
        "the certificate of its server is not trusted ({0}): put the authority that signed it into ca.crt of the Secret that its secretRef names"
    )]
    Untrusted(String),
    #[error("no answer within {}", span(*.0))]
    TooLate(Duration),
    #[error("no answer: {}", cut(innermost(.0), REASON))]
    Away(#[source] reqwest::Error),
    #[error("HTTP status {0}: redirects are not followed")]
    Redirect(u16),
    #[error("HTTP status {0}")]
    Status(u16),
    #[error("the call came to no end")]
    Ended,
}

impl CallError {
    /// For metrics.
    pub fn category(&self) -> &'static str {
        match self {
            CallError::NotAllowed(_) => "not_allowed",
            CallError::Credentials(_) | CallError::Authorities => "credentials",
            CallError::TooLate(_) => "timeout",
            CallError::Untrusted(_) | CallError::Away(_) | CallError::Ended => "unreachable",
            CallError::Redirect(_) | CallError::Status(_) => "status",
        }
    }

    pub const CATEGORIES: [&str; 5] = [
        "not_allowed",
        "credentials",
        "timeout",
        "unreachable",
        "status",
    ];
}

/// Whoever makes the calls. Clones are the same.
#[derive(Clone)]
pub struct Caller {
    kube: Client,
    /// Without certificates of anybody's.
    http: reqwest::Client,
    clients: HttpClients,
    allowed: Arc<AllowList>,
}

impl Caller {
    /// HTTPS is verified with the certificates in `SSL_CERT_FILE` or the system's, or those of the hook's Secret.
    pub fn new(kube: Client, allowed: AllowList) -> Result<Caller, HttpClientError> {
        let clients = HttpClients::new();
        Ok(Caller {
            kube,
            http: clients.common()?,
            clients,
            allowed: Arc::new(allowed),
        })
    }

    /// For the rollout's `namespace`, in which the Secret is. Within the call's timeout, the reading of the Secret aside,
    /// which has the API client's own.
    pub async fn call(&self, namespace: &str, call: &Call) -> Result<(), CallError> {
        let url = self.allowed.check(&call.url)?;
        let credentials = match &call.secret {
            Some(name) => credentials::read(&self.kube, namespace, name, &url).await?,
            None => Credentials::default(),
        };
        let http = match &credentials.ca {
            Some(pem) => self.trusting(pem)?,
            None => self.http.clone(),
        };
        // It consists of texts and numbers.
        let body = serde_json::to_vec(&call.message).unwrap_or_default();
        let timestamp = Timestamp::now().as_second();
        let mut request = http
            .post(url)
            .timeout(call.timeout)
            .header(CONTENT_TYPE, "application/json")
            .header(IDEMPOTENCY_KEY, call.message.key())
            .header(TIMESTAMP, timestamp);
        if let Some(key) = &credentials.hmac_key {
            request = request.header(SIGNATURE, signature(key, timestamp, &body));
        }
        if let Some(token) = &credentials.token
            && let Ok(mut bearer) = HeaderValue::try_from(format!("Bearer {token}"))
        {
            bearer.set_sensitive(true);
            request = request.header(AUTHORIZATION, bearer);
        }
        let answer = request.body(body).send().await.map_err(|error| {
            if error.is_timeout() {
                CallError::TooLate(call.timeout)
            } else {
                away(error)
            }
        })?;
        let status = answer.status();
        match status.as_u16() {
            _ if status.is_success() => Ok(()),
            code if status.is_redirection() => Err(CallError::Redirect(code)),
            code => Err(CallError::Status(code)),
        }
    }

    /// A client for one call: the Secret may have other authorities at the next.
    fn trusting(&self, pem: &[u8]) -> Result<reqwest::Client, CallError> {
        let tls = Tls {
            authorities: authorities(pem)?,
            client: None,
        };
        self.clients.with(tls).map_err(|error| match error {
            HttpClientError::Build(error) => CallError::Away(error),
            HttpClientError::Authority | HttpClientError::Pair => CallError::Authorities,
        })
    }
}

/// What TLS finds wrong can be mended by whoever wrote the hook.
fn away(error: reqwest::Error) -> CallError {
    match tls_error(&error) {
        Some(rustls::Error::InvalidCertificate(why)) => CallError::Untrusted(why.to_string()),
        Some(_) | None => CallError::Away(error),
    }
}

fn authorities(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, CallError> {
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match certificates {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        Ok(_) | Err(_) => Err(CallError::Authorities),
    }
}

fn span(duration: Duration) -> String {
    format!("{}s", duration.as_secs_f64())
}

#[cfg(test)]
mod tests;
