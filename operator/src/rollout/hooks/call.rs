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
            CallError::Away(_) | CallError::Ended => "unreachable",
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
    http: reqwest::Client,
    allowed: Arc<AllowList>,
}

impl Caller {
    /// HTTPS is verified with the certificates in `SSL_CERT_FILE` or the system's, or those of the hook's Secret.
    pub fn new(kube: Client, allowed: AllowList) -> Result<Caller, reqwest::Error> {
        Ok(Caller {
            kube,
            http: system_client()?,
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
            Some(pem) => client(authorities(pem)?).map_err(CallError::Away)?,
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
                CallError::Away(error)
            }
        })?;
        let status = answer.status();
        match status.as_u16() {
            _ if status.is_success() => Ok(()),
            code if status.is_redirection() => Err(CallError::Redirect(code)),
            code => Err(CallError::Status(code)),
        }
    }
}

/// It believes the certificates in `SSL_CERT_FILE` or the system's, and follows no redirect.
pub fn system_client() -> Result<reqwest::Client, reqwest::Error> {
    client(rustls_native_certs::load_native_certs().certs)
}

fn client(roots: Vec<CertificateDer<'static>>) -> Result<reqwest::Client, reqwest::Error> {
    let mut store = rustls::RootCertStore::empty();
    store.add_parsable_certificates(roots);
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("aws-lc-rs has TLS 1.2 and 1.3")
        .with_root_certificates(store)
        .with_no_client_auth();
    // A redirect would lead out of the allow-list.
    reqwest::Client::builder()
        .tls_backend_preconfigured(tls)
        .redirect(reqwest::redirect::Policy::none())
        .user_agent(concat!("aviary-operator/", env!("CARGO_PKG_VERSION")))
        .build()
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
