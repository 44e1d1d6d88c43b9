//! Against a server that takes some and refuses others.

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::time::Instant;

use axum::Router;
use axum::body::Bytes;
use axum::routing::post;
use http::{HeaderMap, StatusCode};
use serde_json::Value;

use super::*;
use crate::notify::config::Kind;

#[derive(Clone, Default)]
struct Room {
    heard: Arc<Mutex<Vec<(HeaderMap, Value)>>>,
    /// So many are refused first.
    refuses: Arc<Mutex<u32>>,
}

impl Room {
    /// Gives its address.
    async fn open(&self) -> String {
        let room = self.clone();
        let hears = move |headers: HeaderMap, body: Bytes| async move {
            let mut refuses = room.refuses.lock().unwrap();
            if *refuses > 0 {
                *refuses -= 1;
                return StatusCode::TOO_MANY_REQUESTS;
            }
            let body = serde_json::from_slice(&body).unwrap();
            room.heard.lock().unwrap().push((headers, body));
            StatusCode::OK
        };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}/room", listener.local_addr().unwrap());
        let routes = Router::new()
            .route("/room", post(hears))
            .route("/hangs", post(std::future::pending::<()>));
        tokio::spawn(async move { axum::serve(listener, routes).await });
        address
    }

    async fn until_it_has(&self, count: usize) -> Vec<(HeaderMap, Value)> {
        let begun = Instant::now();
        loop {
            let heard = self.heard.lock().unwrap().clone();
            if heard.len() >= count {
                return heard;
            }
            assert!(begun.elapsed() < Duration::from_secs(30), "{heard:?}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

struct Files(std::path::PathBuf);

impl Files {
    fn new(name: &str) -> Files {
        let directory =
            std::env::temp_dir().join(format!("aviary-notify-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        Files(directory)
    }

    fn file(&self, name: &str, text: &str) -> std::path::PathBuf {
        let file = self.0.join(name);
        std::fs::write(&file, text).unwrap();
        file
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn receiver(url_file: std::path::PathBuf) -> Receiver {
    Receiver {
        name: "room".to_owned(),
        kind: Kind::Generic,
        url_file,
        hmac_key_file: None,
        namespaces: BTreeSet::new(),
        on: BTreeSet::from([On::Promoted]),
    }
}

fn promoted(name: &str) -> Notification {
    Notification::of(&Key::new("shop", name), "Promoted", "it is", 17).unwrap()
}

fn start(receiver: Receiver) -> (Notifier, JoinSet<()>) {
    let mut tasks = JoinSet::new();
    let config = Config {
        receivers: vec![receiver],
    };
    let (http, metrics) = (reqwest_client(), Metrics::default());
    let stop = CancellationToken::new();
    let notifier = Notifier::start(config, &http, metrics, &stop, &mut tasks);
    (notifier, tasks)
}

fn reqwest_client() -> reqwest::Client {
    crate::http_client::HttpClients::new().common().unwrap()
}

#[tokio::test]
async fn a_notification_that_is_refused_is_tried_again_and_those_after_it_follow() {
    let (room, files) = (Room::default(), Files::new("again"));
    *room.refuses.lock().unwrap() = 1;
    let url = files.file("url", &format!("{}\n", room.open().await));
    let mut receiver = receiver(url);
    receiver.hmac_key_file = Some(files.file("key", "0123456789abcdef"));
    let (notifier, _tasks) = start(receiver);
    notifier.offer(&promoted("a"));
    notifier.offer(&promoted("b"));
    let started = Notification::of(&Key::new("shop", "c"), "ReleaseStarted", "", 17);
    notifier.offer(&started.unwrap());
    let heard = room.until_it_has(2).await;
    let names: Vec<&Value> = heard.iter().map(|(_, body)| &body["name"]).collect();
    assert_eq!(names, ["a", "b"]);
    let signed = heard[0]
        .0
        .get("x-aviary-signature")
        .unwrap()
        .to_str()
        .unwrap();
    assert!(signed.starts_with("sha256="), "{signed}");
}

#[tokio::test]
async fn a_room_that_hangs_holds_nobody_up_and_what_does_not_fit_is_dropped() {
    let (room, files) = (Room::default(), Files::new("full"));
    let url = room.open().await.replace("/room", "/hangs");
    let (notifier, _tasks) = start(receiver(files.file("url", &url)));
    let begun = Instant::now();
    for _ in 0..2 * QUEUE {
        notifier.offer(&promoted("a"));
    }
    assert!(begun.elapsed() < Duration::from_secs(5));
    let (dropped, all) = (notifier.metrics.notifications("dropped"), 2 * QUEUE as u64);
    assert!(
        dropped >= all - QUEUE as u64 - 1 && dropped < all,
        "{dropped}"
    );
}

#[tokio::test]
async fn no_error_shows_the_address() {
    let files = Files::new("errors");
    for (text, says) in [
        ("secret", "has no URL in it"),
        ("ftp://secret/x", "has no URL in it"),
        ("http://127.0.0.1:1/secret", "no answer"),
    ] {
        let receiver = receiver(files.file("url", text));
        let error = send::send(&reqwest_client(), &receiver, &promoted("a")).await;
        let words = error.unwrap_err().to_string();
        assert!(words.contains(says) && !words.contains("secret"), "{words}");
    }
    let missing = receiver(files.0.join("none"));
    let error = send::send(&reqwest_client(), &missing, &promoted("a")).await;
    assert!(error.unwrap_err().to_string().contains("cannot be read"));
}

#[test]
fn what_nobody_is_told_of_is_no_notification() {
    let of = |reason| Notification::of(&Key::new("shop", "web"), reason, "", 0).map(|it| it.on);
    assert_eq!(of("FailurePaused"), Some(On::Paused));
    assert_eq!(of("PausedByPerson"), Some(On::Paused));
    assert_eq!(of("SoakStarted"), None);
}

#[test]
fn whoever_stalls_is_told_of_once_and_not_by_the_process_that_sees_it_first() {
    let shown = |reason: Option<&str>| Shown {
        stalled: reason.map(str::to_owned),
        ..Shown::default()
    };
    let of = |before: Option<Option<&str>>, now: Option<&str>| {
        let before = before.map(|before| before.map(str::to_owned));
        let message = "it waits".to_owned();
        let key = Key::new("shop", "web");
        stalled(&key, before, &shown(now), Some(&message), Time(17_000))
    };
    let told = of(Some(None), Some("HookFailed")).unwrap();
    assert_eq!(
        (told.on, told.reason.as_str(), told.at),
        (On::Stalled, "HookFailed", 17)
    );
    assert_eq!(told.text, "it waits");
    for (before, now) in [
        (None, Some("HookFailed")),
        (Some(Some("HookFailed")), Some("HookFailed")),
        (Some(None), None),
        (Some(None), Some("Failed")),
        (Some(None), Some("FailurePaused")),
    ] {
        assert_eq!(of(before, now), None, "{before:?} {now:?}");
    }
}
