//! An API server for tests of what is kept in Secrets.

use std::sync::{Arc, Mutex};

use http::{Method, Request, Response, StatusCode};
use k8s_openapi::api::core::v1::Secret;
use kube::Client;
use kube::client::Body;
use serde_json::json;

/// An API server that knows one Secret. `faster` is what another replica creates between our read and our write.
#[derive(Default)]
pub(super) struct Server {
    pub(super) stored: Option<Secret>,
    pub(super) faster: Option<Secret>,
    pub(super) calls: Vec<Method>,
}

impl Server {
    fn answer(&mut self, method: Method, sent: &[u8]) -> (StatusCode, Vec<u8>) {
        self.calls.push(method.clone());
        let failure = |code: StatusCode, reason: &str| {
            let status = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
                "message": "", "reason": reason, "code": code.as_u16()});
            (code, status.to_string().into_bytes())
        };
        if method == Method::PUT {
            let sent: Secret = serde_json::from_slice(sent).unwrap();
            if let Some(faster) = self.faster.take() {
                self.stored = Some(faster);
            }
            let version = |secret: &Secret| secret.metadata.resource_version.clone();
            if self.stored.as_ref().map(version) != Some(version(&sent)) {
                return failure(StatusCode::CONFLICT, "Conflict");
            }
            let answer = serde_json::to_vec(&sent).unwrap();
            self.stored = Some(sent);
            return (StatusCode::OK, answer);
        }
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

pub(super) fn client(server: &Arc<Mutex<Server>>) -> Client {
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
