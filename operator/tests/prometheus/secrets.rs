//! An API server that has Secrets and nothing else, behind the real client.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use aviary_crds::CREDENTIALS_ANNOTATION;
use http::{Request, Response};
use k8s_openapi::ByteString;
use kube::client::Body;
use serde_json::{Value, json};

#[derive(Clone, Default)]
pub(crate) struct Secrets {
    /// By their paths.
    all: Arc<Mutex<BTreeMap<String, Value>>>,
    /// Every request, in its order.
    asked: Arc<Mutex<Vec<String>>>,
}

impl Secrets {
    pub(crate) fn client(&self) -> kube::Client {
        let secrets = self.clone();
        let answer = tower::service_fn(move |request: Request<Body>| {
            let answer = secrets.answer(&request);
            async move { Ok::<_, Infallible>(answer) }
        });
        kube::Client::new(answer, "default")
    }

    /// A Secret of namespace `shop`.
    pub(crate) fn set(&self, name: &str, address: &str, values: &[(&str, &str)]) {
        let data: BTreeMap<&str, ByteString> = values
            .iter()
            .map(|(key, value)| (*key, ByteString(value.as_bytes().to_vec())))
            .collect();
        let metadata = json!({"name": name, "namespace": "shop", "annotations": {CREDENTIALS_ANNOTATION: address}});
        let secret =
            json!({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "data": data});
        self.put(name, secret);
    }

    /// What is answered instead of this Secret.
    pub(crate) fn refuse(&self, name: &str, code: u16) {
        let status = json!({"apiVersion": "v1", "kind": "Status", "status": "Failure", "reason": "", "message": "why", "code": code});
        self.put(name, status);
    }

    pub(crate) fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }

    fn put(&self, name: &str, object: Value) {
        let path = format!("/api/v1/namespaces/shop/secrets/{name}");
        self.all.lock().unwrap().insert(path, object);
    }

    fn answer(&self, request: &Request<Body>) -> Response<Body> {
        let asked = format!("{} {}", request.method(), request.uri());
        self.asked.lock().unwrap().push(asked);
        let all = self.all.lock().unwrap();
        let missing = json!({"kind": "Status", "status": "Failure", "reason": "NotFound", "message": "", "code": 404});
        let object = all.get(request.uri().path()).unwrap_or(&missing);
        let code = object["code"].as_u64().unwrap_or(200);
        Response::builder()
            .status(u16::try_from(code).unwrap())
            .header("content-type", "application/json")
            .body(Body::from(object.to_string().into_bytes()))
            .unwrap()
    }
}
