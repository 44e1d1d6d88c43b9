//! The Secret that keeps the root.
//!
//! Created once and then only read: there is no moment at which two replicas could work with different roots.

use std::collections::BTreeMap;
use std::string::FromUtf8Error;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{ObjectMeta, PostParams};
use kube::{Api, Client};
use time::OffsetDateTime;

use super::root::{Root, RootError};
use crate::names;

const CERTIFICATE: &str = "tls.crt";
const KEY: &str = "tls.key";
/// Each try either finds the Secret or makes it; a second is needed when another replica was faster.
const TRIES: u32 = 5;

#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    #[error("Secret {secret}: cannot be read", secret = names::CA_SECRET)]
    Get(#[source] kube::Error),
    #[error("Secret {secret}: cannot be created", secret = names::CA_SECRET)]
    Create(#[source] kube::Error),
    #[error(
        "Secret {secret}: has no '{0}'; put a certificate authority into it (type kubernetes.io/tls), or delete it and a new one is made",
        secret = names::CA_SECRET
    )]
    Missing(&'static str),
    #[error("Secret {secret}: '{0}' is not text", secret = names::CA_SECRET)]
    Text(&'static str, #[source] FromUtf8Error),
    #[error(
        "Secret {secret}: not a certificate authority; mend it, or delete it and a new one is made",
        secret = names::CA_SECRET
    )]
    Root(#[source] RootError),
    #[error("Secret {secret}: appears and disappears", secret = names::CA_SECRET)]
    Unstable,
}

pub(super) async fn load_or_create(
    client: Client,
    namespace: &str,
    now: OffsetDateTime,
) -> Result<Root, SecretError> {
    let secrets: Api<Secret> = Api::namespaced(client, namespace);
    for _ in 0..TRIES {
        if let Some(found) = secrets
            .get_opt(names::CA_SECRET)
            .await
            .map_err(SecretError::Get)?
        {
            return parse(found);
        }
        let root = Root::generate(now).map_err(SecretError::Root)?;
        match secrets.create(&PostParams::default(), &secret(&root)).await {
            Ok(_) => {
                tracing::info!(secret = names::CA_SECRET, "certificate authority made");
                return Ok(root);
            }
            // Another replica was faster: its root is the root.
            Err(kube::Error::Api(status)) if status.code == 409 => {}
            Err(error) => return Err(SecretError::Create(error)),
        }
    }
    Err(SecretError::Unstable)
}

fn secret(root: &Root) -> Secret {
    let bytes = |text: String| ByteString(text.into_bytes());
    Secret {
        metadata: ObjectMeta {
            name: Some(names::CA_SECRET.to_owned()),
            labels: Some(BTreeMap::from([(
                "app.kubernetes.io/part-of".to_owned(),
                "aviary".to_owned(),
            )])),
            ..ObjectMeta::default()
        },
        type_: Some("kubernetes.io/tls".to_owned()),
        data: Some(BTreeMap::from([
            (CERTIFICATE.to_owned(), bytes(root.pem().to_owned())),
            (KEY.to_owned(), bytes(root.key_pem())),
        ])),
        ..Secret::default()
    }
}

fn parse(secret: Secret) -> Result<Root, SecretError> {
    let mut data = secret.data.unwrap_or_default();
    let mut text = |key: &'static str| {
        let bytes = data.remove(key).ok_or(SecretError::Missing(key))?;
        String::from_utf8(bytes.0).map_err(|error| SecretError::Text(key, error))
    };
    let (certificate, key) = (text(CERTIFICATE)?, text(KEY)?);
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    Root::parse(&certificate, &key, &provider).map_err(SecretError::Root)
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use http::{Method, Request, Response, StatusCode};
    use kube::client::Body;
    use serde_json::json;

    use super::*;

    /// An API server that knows one Secret. `faster` is what another replica creates between our read and our write.
    #[derive(Default)]
    struct Server {
        stored: Option<Secret>,
        faster: Option<Secret>,
        calls: Vec<Method>,
    }

    impl Server {
        fn answer(&mut self, method: Method, sent: &[u8]) -> (StatusCode, Vec<u8>) {
            self.calls.push(method.clone());
            let failure = |code: StatusCode, reason: &str| {
                let status = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
                    "message": "", "reason": reason, "code": code.as_u16()});
                (code, status.to_string().into_bytes())
            };
            if method == Method::POST {
                if let Some(faster) = self.faster.take() {
                    self.stored = Some(faster);
                }
                if self.stored.is_some() {
                    return failure(StatusCode::CONFLICT, "AlreadyExists");
                }
                self.stored = Some(serde_json::from_slice(sent).unwrap());
                return (StatusCode::CREATED, sent.to_vec());
            }
            match &self.stored {
                Some(secret) => (StatusCode::OK, serde_json::to_vec(secret).unwrap()),
                None => failure(StatusCode::NOT_FOUND, "NotFound"),
            }
        }
    }

    fn client(server: &Arc<Mutex<Server>>) -> Client {
        let server = Arc::clone(server);
        let service = tower::service_fn(move |request: Request<Body>| {
            let server = Arc::clone(&server);
            async move {
                let method = request.method().clone();
                let sent = request.into_body().collect_bytes().await.unwrap();
                let (status, body) = server.lock().unwrap().answer(method, &sent);
                Ok::<_, std::convert::Infallible>(
                    Response::builder()
                        .status(status)
                        .body(Body::from(body))
                        .unwrap(),
                )
            }
        });
        Client::new(service, "default")
    }

    async fn load(server: &Arc<Mutex<Server>>) -> Result<Root, SecretError> {
        load_or_create(client(server), "aviary-system", OffsetDateTime::now_utc()).await
    }

    #[tokio::test]
    async fn the_first_start_makes_a_root_and_the_next_one_finds_it() {
        let server = Arc::new(Mutex::new(Server::default()));
        let first = load(&server).await.unwrap();
        let second = load(&server).await.unwrap();
        assert_eq!(first.pem(), second.pem());
        assert_eq!(
            server.lock().unwrap().calls,
            [Method::GET, Method::POST, Method::GET]
        );
    }

    #[tokio::test]
    async fn the_replica_that_writes_first_wins() {
        let theirs = Root::generate(OffsetDateTime::now_utc()).unwrap();
        let server = Arc::new(Mutex::new(Server {
            faster: Some(secret(&theirs)),
            ..Server::default()
        }));
        let ours = load(&server).await.unwrap();
        assert_eq!(ours.pem(), theirs.pem());
    }

    #[tokio::test]
    async fn a_damaged_secret_is_refused_with_what_to_do() {
        let root = Root::generate(OffsetDateTime::now_utc()).unwrap();
        let mut damaged = secret(&root);
        damaged.data.as_mut().unwrap().remove(KEY);
        let server = Arc::new(Mutex::new(Server {
            stored: Some(damaged),
            ..Server::default()
        }));
        let error = load(&server).await.err().unwrap().to_string();
        assert!(
            error.contains("Secret aviary-ca: has no 'tls.key'"),
            "{error}"
        );
        assert!(error.contains("delete it"), "{error}");
    }
}
