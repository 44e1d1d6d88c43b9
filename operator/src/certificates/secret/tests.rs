use std::sync::{Arc, Mutex};

use http::Method;
use traffic_core::config::Revocation;

use super::super::testing::{Server, client};
use super::*;

async fn load(server: &Arc<Mutex<Server>>) -> Result<Kept, SecretError> {
    load_or_create(client(server), "aviary-system", OffsetDateTime::now_utc()).await
}

/// What this version stores.
fn full(root: &Root, version: &str) -> Secret {
    let mut secret = add_revocation_key(secret(root)).unwrap();
    secret.metadata.resource_version = Some(version.to_owned());
    secret
}

/// What a version without signatures stored.
fn without_key(root: &Root, version: &str) -> Secret {
    let mut secret = secret(root);
    secret.metadata.resource_version = Some(version.to_owned());
    secret
}

fn same_key(one: &Kept, other: &Kept) -> bool {
    let revocation = Revocation {
        rollout: "shop/web".to_owned(),
        revision: "v2".to_owned(),
        run: 1,
    };
    other
        .revocation_key
        .verify(&one.revocation_key.sign(&revocation))
}

#[tokio::test]
async fn the_first_start_makes_a_root_and_the_next_one_finds_it() {
    let server = Arc::new(Mutex::new(Server::default()));
    let first = load(&server).await.unwrap();
    let second = load(&server).await.unwrap();
    assert_eq!(first.root.pem(), second.root.pem());
    assert!(same_key(&first, &second));
    assert_eq!(
        server.lock().unwrap().calls,
        [Method::GET, Method::POST, Method::GET]
    );
}

#[tokio::test]
async fn the_replica_that_writes_first_wins() {
    let theirs = Root::generate(OffsetDateTime::now_utc()).unwrap();
    let server = Arc::new(Mutex::new(Server {
        faster: Some(full(&theirs, "1")),
        ..Server::default()
    }));
    let ours = load(&server).await.unwrap();
    assert_eq!(ours.root.pem(), theirs.pem());
    assert!(same_key(&ours, &load(&server).await.unwrap()));
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

#[tokio::test]
async fn a_secret_without_a_key_gets_one_and_keeps_its_root() {
    let root = Root::generate(OffsetDateTime::now_utc()).unwrap();
    let server = Arc::new(Mutex::new(Server {
        stored: Some(without_key(&root, "1")),
        ..Server::default()
    }));
    let first = load(&server).await.unwrap();
    let second = load(&server).await.unwrap();
    assert_eq!(first.root.pem(), root.pem());
    assert!(same_key(&first, &second));
    let calls = server.lock().unwrap().calls.clone();
    assert_eq!(calls, [Method::GET, Method::PUT, Method::GET]);
}

#[tokio::test]
async fn the_replica_that_adds_the_key_first_wins() {
    let root = Root::generate(OffsetDateTime::now_utc()).unwrap();
    let server = Arc::new(Mutex::new(Server {
        stored: Some(without_key(&root, "1")),
        faster: Some(full(&root, "2")),
        ..Server::default()
    }));
    let ours = load(&server).await.unwrap();
    assert!(same_key(&ours, &load(&server).await.unwrap()));
    let calls = server.lock().unwrap().calls.clone();
    assert_eq!(
        calls,
        [Method::GET, Method::PUT, Method::GET, Method::GET],
        "it is read, not written again"
    );
}

#[tokio::test]
async fn a_key_of_another_length_is_refused_with_what_to_do() {
    let root = Root::generate(OffsetDateTime::now_utc()).unwrap();
    let mut short = full(&root, "1");
    let data = short.data.as_mut().unwrap();
    data.insert(REVOCATION_KEY.to_owned(), ByteString(vec![1; 16]));
    let server = Arc::new(Mutex::new(Server {
        stored: Some(short),
        ..Server::default()
    }));
    let error = load(&server).await.err().unwrap().to_string();
    assert_eq!(
        error,
        "Secret aviary-ca: 'revocation.key' has 16 bytes, expected 32; remove it and a new one is made"
    );
}
