//! The xDS server and the sidecar's client together, over real TLS on loopback.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[path = "ads/identity.rs"]
mod identity;
#[path = "ads/mesh.rs"]
mod mesh;

use std::sync::Arc;
use std::time::Duration;

use aviary_crds::policy::{Allow, Caller};
use aviary_operator::ads::{Acks, Ads, RevocationKey};
use aviary_operator::key::Key;
use aviary_operator::mesh::{Callers, World};
use aviary_operator::outcomes::{Closed, Subject};
use aviary_proxy::control::Link;
use aviary_xds::grpc::Client;
use aviary_xds::{Kind, Request, load};
use mesh::{
    Mesh, Proxy, application, destination, key, now, percent, weight, world, world_lent,
    world_revoking, world_with_canary,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, Streaming};
use traffic_core::config::{Revocation, SignedRevocation, Snapshot};
use traffic_core::outcome::{Counts, PerClass};

const WEB: &str = "shop/web";

/// Proxies, acknowledged, and the names of the laggards.
fn standing(ads: &Ads) -> (u32, u32, Vec<String>) {
    let acks = ads.rollout_acks(WEB, now());
    let laggards = acks.laggards.iter().map(|each| each.pod.to_string());
    (acks.proxies, acks.acknowledged, laggards.collect())
}

fn acks(proxies: u32, acknowledged: u32, laggards: &[&str]) -> (u32, u32, Vec<String>) {
    let laggards = laggards.iter().map(|&name| name.to_owned()).collect();
    (proxies, acknowledged, laggards)
}

#[tokio::test]
async fn a_proxy_gets_the_route_it_calls_and_acknowledges_it() {
    let mesh = Mesh::serving(world(&[("web", 1)])).await;
    let mut proxy = mesh.proxy("web-1").await;
    proxy.call("web").await;
    let snapshot = proxy
        .shows("web", |route| weight(route) == percent(1))
        .await;
    assert_eq!(snapshot.clusters.len(), 2);
    mesh.until("acknowledged", |ads| standing(ads) == acks(1, 1, &[]))
        .await;
    assert_eq!(
        mesh.ads.rollout_acks("shop/api", now()),
        Acks::default(),
        "nobody calls it"
    );
    assert_eq!(mesh.ads.connected(), [Key::new("shop", "web-1")].into());
    assert_eq!(mesh.ads.counts().streams, 1);
}

/// To pick a revision for callers that have no sidecar.
#[tokio::test]
async fn a_pod_that_is_called_gets_the_route_whose_endpoint_it_is_while_there_is_something_to_split()
 {
    let mesh = Mesh::serving(world(&[("web", 10)])).await;
    let mut proxy = mesh.proxy("web-1").await;
    proxy.is_called("web").await;
    let address = application("web");
    let splits = |wanted| {
        move |snapshot: &Snapshot| {
            let route = snapshot.applications.get(&address);
            route.and_then(Option::as_deref).map(weight) == Some(wanted)
        }
    };
    proxy.until("the split", splits(percent(10))).await;
    mesh.until("it counts", |ads| standing(ads) == acks(1, 1, &[]))
        .await;
    mesh.ads.set_world(world(&[("web", 20)]));
    proxy.until("the next weight", splits(percent(20))).await;
    // Endpoints come and go without another route.
    let mut over = (*world(&[("web", 20)])).clone();
    let route = over.routes.get_mut("shop/web/80");
    route.expect("it is there").applications.clear();
    mesh.ads.set_world(Arc::new(over));
    proxy
        .until("nothing to split", |snapshot| {
            snapshot.applications.get(&address) == Some(&None)
        })
        .await;
    mesh.until("it counts no more", |ads| standing(ads) == acks(0, 0, &[]))
        .await;
    mesh.ads.set_world(world(&[("web", 20)]));
    proxy.until("the split again", splits(percent(20))).await;
    assert!(proxy.every_snapshot_is_whole());
}

#[tokio::test]
async fn an_unknown_destination_passes_through() {
    let mesh = Mesh::serving(world(&[])).await;
    let mut proxy = mesh.proxy("web-1").await;
    proxy.call("web").await;
    proxy
        .until("pass-through", |snapshot| {
            snapshot.routes.get(&destination("web")) == Some(&None)
        })
        .await;
}

#[tokio::test]
async fn nothing_is_answered_before_the_first_world() {
    let mesh = Mesh::without_world().await;
    let mut proxy = mesh.proxy("web-1").await;
    proxy.call("web").await;
    mesh.until("connected", |ads| ads.connected().len() == 1)
        .await;
    assert_eq!((mesh.ads.counts().pushes, proxy.snapshots()), (0, 0));
    mesh.ads.set_world(world(&[("web", 1)]));
    proxy
        .shows("web", |route| weight(route) == percent(1))
        .await;
    assert!(proxy.every_snapshot_is_whole());
}

#[tokio::test]
async fn a_weight_is_acknowledged_only_when_every_worker_has_it() {
    let mesh = Mesh::serving(world(&[("web", 1)])).await;
    let (mut quick, mut slow) = (mesh.proxy("quick").await, mesh.proxy("slow").await);
    for proxy in [&mut quick, &mut slow] {
        proxy.call("web").await;
    }
    mesh.until("both at 1 %", |ads| standing(ads) == acks(2, 2, &[]))
        .await;
    let behind = || {
        let of = |pod| {
            mesh.ads
                .is_behind(&Key::new("shop", "web"), &Key::new("shop", pod))
        };
        ["quick", "slow", "nobody"].map(of)
    };
    assert_eq!(behind(), [false; 3]);
    slow.hold_installs();
    let pushed = mesh.ads.counts().pushes;
    mesh.ads.set_world(world(&[("web", 10)]));
    let at_once = mesh.ads.rollout_acks(WEB, now());
    assert_eq!(
        (at_once.proxies, at_once.acknowledged),
        (2, 0),
        "what was acknowledged is no longer served"
    );
    slow.shows("web", |route| weight(route) == percent(10))
        .await;
    mesh.until("one of two", |ads| {
        standing(ads) == acks(2, 1, &["shop/slow"])
    })
    .await;
    assert_eq!(behind(), [false, true, false]);
    assert_eq!(
        mesh.ads.counts().pushes - pushed,
        2,
        "a weight is one message for each proxy"
    );
    slow.release_installs();
    mesh.until("both at 10 %", |ads| standing(ads) == acks(2, 2, &[]))
        .await;
    assert_eq!(behind(), [false; 3]);
}

#[tokio::test]
async fn a_rejected_route_names_the_pod_and_the_reason_and_the_old_one_stays() {
    let mesh = Mesh::serving(world(&[("web", 1)])).await;
    let mut proxy = mesh.proxy("web-1").await;
    proxy.call("web").await;
    mesh.until("at 1 %", |ads| {
        ads.rollout_acks(WEB, now()).acknowledged == 1
    })
    .await;
    let mut bad = (*world(&[("web", 10)])).clone();
    let split = &mut bad.routes.get_mut("shop/web/80").unwrap().route.split;
    split.canary.as_mut().unwrap().arm.cluster = split.stable.cluster.clone();
    mesh.ads.set_world(Arc::new(bad));
    mesh.until("rejected", |ads| {
        ads.rollout_acks(WEB, now()).rejected.is_some()
    })
    .await;
    let acks = mesh.ads.rollout_acks(WEB, now());
    let rejected = acks.rejected.unwrap();
    assert_eq!(rejected.pod, Key::new("shop", "web-1"));
    assert_eq!(
        &*rejected.text,
        "route `shop/web/80`: stable and canary are the same cluster `shop/web/80/v1`"
    );
    assert_eq!(standing(&mesh.ads), self::acks(1, 0, &["shop/web-1"]));
    assert_eq!(mesh.ads.counts().rejections, 1);
    proxy
        .shows("web", |route| weight(route) == percent(1))
        .await;

    mesh.ads.set_world(world(&[("web", 0)]));
    mesh.until("mended", |ads| standing(ads) == self::acks(1, 1, &[]))
        .await;
    proxy
        .shows("web", |route| weight(route) == percent(0))
        .await;
}

#[tokio::test]
async fn a_new_revision_becomes_visible_with_its_endpoints() {
    let mesh = Mesh::serving(world_with_canary("v2", 50)).await;
    let mut proxy = mesh.proxy("web-1").await;
    proxy.call("web").await;
    proxy
        .shows("web", |route| weight(route) == percent(50))
        .await;
    for (number, revision) in ["v3", "v4", "v5"].into_iter().enumerate() {
        mesh.ads.set_world(world_with_canary(revision, 1));
        proxy
            .shows("web", |route| {
                route.split.canary.as_ref().unwrap().arm.revision == revision
            })
            .await;
        let counted = mesh.until("acknowledged", |ads| standing(ads) == acks(1, 1, &[]));
        counted.await;
        assert!(proxy.every_snapshot_is_whole(), "revision number {number}");
    }
    proxy
        .until("old clusters dropped", |snapshot| {
            snapshot.clusters.len() == 2
        })
        .await;
}

#[tokio::test]
async fn after_a_restart_of_the_control_plane_only_changes_are_sent() {
    let mut mesh = Mesh::serving(world(&[("web", 1), ("api", 1)])).await;
    let mut proxy = mesh.proxy("web-1").await;
    for service in ["web", "api"] {
        proxy.call(service).await;
        proxy
            .shows(service, |route| weight(route) == percent(1))
            .await;
    }
    mesh.restart().await;
    mesh.ads.set_world(world(&[("web", 1), ("api", 1)]));
    mesh.until("what it has counts", |ads| standing(ads) == acks(1, 1, &[]))
        .await;
    // Nothing changed, so nothing of it is sent: the one message says that there are no rules for what comes in.
    mesh.until("the answer about its listener", |ads| {
        ads.counts().pushes == 1
    })
    .await;
    mesh.ads.set_world(world(&[("web", 10), ("api", 1)]));
    proxy
        .shows("web", |route| weight(route) == percent(10))
        .await;
    assert_eq!(mesh.ads.counts().pushes, 2);
}

#[tokio::test]
async fn a_weight_that_is_still_being_installed_is_not_claimed_after_a_reconnect() {
    let mut mesh = Mesh::serving(world(&[("web", 1)])).await;
    let mut proxy = mesh.proxy("web-1").await;
    proxy.call("web").await;
    mesh.until("at 1 %", |ads| standing(ads) == acks(1, 1, &[]))
        .await;
    proxy.hold_installs();
    mesh.ads.set_world(world(&[("web", 10)]));
    proxy
        .shows("web", |route| weight(route) == percent(10))
        .await;
    mesh.restart().await;
    mesh.ads.set_world(world(&[("web", 10)]));
    let claimed = mesh.until("claimed", |ads| {
        ads.rollout_acks(WEB, now()).acknowledged == 1
    });
    // Ten times the first wait between attempts.
    tokio::time::timeout(Duration::from_secs(1), claimed)
        .await
        .expect_err("it was not installed yet");
    proxy.release_installs();
    mesh.until("at 10 %", |ads| standing(ads) == acks(1, 1, &[]))
        .await;
}

#[tokio::test]
async fn a_lost_proxy_is_a_laggard_until_its_lease_is_over() {
    let mesh = Mesh::serving(world(&[("web", 1)])).await;
    let mut proxy = mesh.proxy("web-1").await;
    proxy.call("web").await;
    mesh.until("acknowledged", |ads| standing(ads) == acks(1, 1, &[]))
        .await;
    proxy.stop().await;
    mesh.until("a laggard", |ads| {
        standing(ads) == acks(1, 0, &["shop/web-1"])
    })
    .await;
    assert!(mesh.ads.connected().is_empty());
    let acks = mesh.ads.rollout_acks(WEB, now());
    let until = acks.next_lapse.unwrap();
    assert_eq!(acks.laggards[0].until, Some(until));
    assert_eq!(mesh.ads.rollout_acks(WEB, until), Acks::default());
}

#[tokio::test]
async fn a_proxy_that_loses_the_control_plane_goes_back_to_stable_and_takes_the_weight_again() {
    let world = world_lent(Duration::from_millis(300));
    let mut mesh = Mesh::serving(Arc::clone(&world)).await;
    let mut proxy = mesh.proxy("web-1").await;
    proxy.call("web").await;
    proxy
        .shows("web", |route| weight(route) == percent(10))
        .await;
    mesh.stop().await;
    let alone = proxy
        .shows("web", |route| weight(route) == percent(0))
        .await;
    assert_eq!(alone.clusters.len(), 2, "both arms stay");
    mesh.restart().await;
    mesh.ads.set_world(world);
    proxy
        .shows("web", |route| weight(route) == percent(10))
        .await;
    mesh.until("acknowledged", |ads| standing(ads) == acks(1, 1, &[]))
        .await;
    assert!(mesh.ads.counts().pushes > 0, "it was sent in full");
    assert!(proxy.every_snapshot_is_whole());
}

#[tokio::test]
async fn a_weight_is_renewed_as_long_as_the_control_plane_is_there() {
    let mesh = Mesh::serving(world_lent(Duration::from_secs(6))).await;
    let mut proxy = mesh.proxy("web-1").await;
    proxy.call("web").await;
    // Longer than the lease and its jitter together.
    mesh.until("renewed", |ads| ads.counts().heartbeats >= 4)
        .await;
    assert_eq!(standing(&mesh.ads), acks(1, 1, &[]));
    assert_eq!(proxy.snapshots(), 1, "and nothing else happened");
}

fn revocation(rollout: &str, run: u64) -> Revocation {
    Revocation {
        rollout: rollout.to_owned(),
        revision: "v2".to_owned(),
        run,
    }
}

#[tokio::test]
async fn a_rollback_that_a_proxy_was_told_survives_a_restart_of_the_control_plane() {
    let mut mesh = Mesh::serving(world_revoking(revocation(WEB, 7))).await;
    let mut proxy = mesh.proxy("web-1").await;
    proxy.call("web").await;
    proxy
        .shows("web", |route| route.revoked[0].signature.is_some())
        .await;
    assert!(mesh.ads.revoked().is_empty(), "nobody has reported it yet");
    mesh.restart().await;
    mesh.until("reported", |ads| ads.revoked() == [revocation(WEB, 7)])
        .await;
}

#[tokio::test]
async fn a_forged_report_changes_nothing() {
    let mesh = Mesh::serving(world(&[])).await;
    let honest = key().sign(&revocation(WEB, 7));
    let signed_by_another = RevocationKey::new(&[8; 32]).sign(&revocation(WEB, 7));
    let with_signature_of_another = |revocation| SignedRevocation {
        revocation,
        signature: honest.signature,
    };
    let forged = vec![
        SignedRevocation::from(revocation(WEB, 7)),
        signed_by_another,
        with_signature_of_another(revocation("shop/api", 7)),
        with_signature_of_another(revocation(WEB, u64::MAX)),
    ];
    let _hostile = mesh.proxy_remembering("hostile", forged).await;
    mesh.until("connected", |ads| ads.connected().len() == 1)
        .await;
    assert!(mesh.ads.revoked().is_empty());
    let _honest = mesh.proxy_remembering("honest", vec![honest.clone()]).await;
    mesh.until("reported", |ads| ads.revoked() == [revocation(WEB, 7)])
        .await;
}

#[tokio::test]
async fn a_proxy_that_reads_nothing_keeps_no_other_waiting() {
    let mesh = Mesh::serving(world(&[("web", 1)])).await;
    let never_read = mesh.silent_stream("shop/deaf").await;
    let mut proxy = mesh.proxy("web-1").await;
    proxy.call("web").await;
    for step in 2..=60 {
        mesh.ads.set_world(world(&[("web", step)]));
        proxy
            .shows("web", |route| weight(route) == percent(step))
            .await;
    }
    mesh.until("the deaf one lags", |ads| {
        standing(ads) == acks(2, 1, &["shop/deaf"])
    })
    .await;
    drop(never_read);
}

#[tokio::test]
async fn a_newer_stream_of_a_pod_takes_the_place_of_the_older() {
    let mesh = Mesh::serving(world(&[("web", 1)])).await;
    let mut older = mesh.silent_stream("shop/web-1").await;
    mesh.until("entered", |ads| {
        standing(ads) == acks(1, 0, &["shop/web-1"])
    })
    .await;
    let mut proxy = mesh.proxy("web-1").await;
    proxy.call("web").await;
    mesh.until("one proxy", |ads| standing(ads) == acks(1, 1, &[]))
        .await;
    let ended = loop {
        match older.message().await {
            Ok(message) => assert!(message.is_some(), "it ends with a reason"),
            Err(status) => break status,
        }
    };
    assert_eq!(ended.code(), Code::Aborted);
}

/// A stream that asks for `names` and refuses what it is sent with a text of so many bytes.
async fn hostile(mesh: &Mesh, names: usize, text: usize) -> Status {
    let (requests, sent) = mpsc::channel(1);
    let mut responses = mesh.stream("shop/hostile", ReceiverStream::new(sent)).await;
    let first = Request {
        type_url: Kind::Route.type_url().to_owned(),
        resource_names_subscribe: (0..names).map(|number| format!("{number}")).collect(),
        ..Request::default()
    };
    requests.send(first).await.unwrap();
    loop {
        match responses.message().await {
            Ok(message) => {
                let message = message.expect("it ends with a reason");
                let mut nack = Request {
                    type_url: message.type_url,
                    response_nonce: message.nonce,
                    ..Request::default()
                };
                nack.error_detail.get_or_insert_default().message = "x".repeat(text);
                requests.send(nack).await.unwrap();
            }
            Err(status) => return status,
        }
    }
}

#[tokio::test]
async fn a_stream_that_asks_for_too_many_names_ends_with_the_limit() {
    let mesh = Mesh::serving(world(&[("web", 1)])).await;
    let status = hostile(&mesh, 4097, 0).await;
    assert_eq!(status.code(), Code::ResourceExhausted);
    assert_eq!(
        status.message(),
        "this stream subscribes to more than 4096 route resources, which is the limit"
    );
}

#[tokio::test]
async fn a_message_of_a_mebibyte_ends_its_stream() {
    let mesh = Mesh::serving(world(&[("web", 1)])).await;
    let status = hostile(&mesh, 1000, 1 << 20).await;
    assert_eq!(status.code(), Code::OutOfRange);
    assert_eq!(mesh.ads.counts().rejections, 0, "it was not even read");
}

#[tokio::test]
async fn a_stream_without_a_good_token_is_refused_with_a_sentence() {
    let mesh = Mesh::serving(world(&[("web", 1)])).await;
    let open = async |token: Option<&str>| {
        let mut request = tonic::Request::new(tokio_stream::pending::<Request>());
        if let Some(token) = token {
            request
                .metadata_mut()
                .insert("authorization", format!("Bearer {token}").parse().unwrap());
        }
        Client::new(mesh.channel().await)
            .delta_aggregated_resources(request)
            .await
            .unwrap_err()
    };
    let refused = open(None).await;
    assert_eq!(refused.code(), Code::Unauthenticated);
    assert!(
        refused
            .message()
            .contains("`authorization: Bearer <token>`"),
        "{}",
        refused.message()
    );
    let refused = open(Some("stranger")).await;
    assert_eq!(refused.code(), Code::Unauthenticated);
    assert_eq!(
        refused.message(),
        "the token was refused: `stranger` is of no pod"
    );
    let unavailable = open(Some("unreachable")).await;
    assert_eq!(unavailable.code(), Code::Unavailable);
    assert_eq!(mesh.ads.counts().streams, 0);
}

#[tokio::test]
async fn state_of_the_world_xds_is_refused_with_what_to_use() {
    let mesh = Mesh::serving(world(&[])).await;
    let mut client = Client::new(mesh.channel().await);
    let status = client
        .stream_aggregated_resources(tokio_stream::pending())
        .await
        .unwrap_err();
    assert_eq!(status.code(), Code::Unimplemented);
    assert!(
        status.message().contains("use delta ADS"),
        "{}",
        status.message()
    );
}

#[tokio::test]
async fn a_control_plane_of_another_root_is_not_talked_to() {
    let (mesh, other) = (
        Mesh::serving(world(&[])).await,
        Mesh::serving(world(&[])).await,
    );
    let proxy = Proxy::start("web-1", mesh.address(), other.root_pem(), Vec::new());
    let honest = mesh.proxy("web-2").await;
    honest.is(Link::Connected).await;
    proxy.is(Link::Disconnected).await;
    assert_eq!(mesh.ads.connected(), [Key::new("shop", "web-2")].into());
}

#[tokio::test]
async fn of_many_streams_of_one_pod_the_oldest_end() {
    let mesh = Mesh::serving(world(&[])).await;
    let mut streams = Vec::new();
    for _ in 0..5 {
        let silent = tokio_stream::pending::<Request>();
        streams.push(mesh.stream("shop/greedy", silent).await);
    }
    let ended = streams[0].message().await.unwrap_err();
    assert_eq!(ended.code(), Code::ResourceExhausted);
    mesh.until("four are left", |ads| ads.counts().streams == 4)
        .await;
}

/// Load reports of this pod, as its sidecar would send them.
async fn reporting(
    mesh: &Mesh,
    token: Option<&str>,
) -> Result<(mpsc::Sender<load::Request>, Streaming<load::Response>), Status> {
    let (reports, to_server) = mpsc::channel(8);
    reports.send(load::hello("whoever")).await.unwrap();
    let mut request = tonic::Request::new(ReceiverStream::new(to_server));
    if let Some(token) = token {
        let bearer = format!("Bearer {token}").parse().unwrap();
        request.metadata_mut().insert("authorization", bearer);
    }
    let mut client = load::grpc::Client::new(mesh.channel().await);
    let answers = client.stream_load_stats(request).await?.into_inner();
    Ok((reports, answers))
}

fn failing(second: i64) -> load::Report {
    load::Report {
        cluster: "shop/web/80/v2".to_owned(),
        second: u64::try_from(second).unwrap(),
        counts: Counts {
            started: 3,
            ended: PerClass::from([1, 2, 0, 0]),
            ..Counts::default()
        },
    }
}

/// From now on somebody wants to hear of this rollout.
fn followed(mesh: &Mesh) -> Key {
    let rollout = Key::new("shop", "web");
    let subject = Subject {
        service: rollout.clone(),
        ports: vec![80],
        stable: "v1".to_owned(),
        canary: "v2".to_owned(),
    };
    mesh.ads.outcomes().follow(&rollout, Some(&subject));
    rollout
}

#[tokio::test]
async fn what_a_proxy_reports_reaches_whoever_follows_it() {
    let mesh = Mesh::serving(world(&[("web", 1)])).await;
    let (rollout, outcomes) = (followed(&mesh), mesh.ads.outcomes());
    let (reports, mut answers) = reporting(&mesh, Some("shop/web-1")).await.unwrap();
    let wanted = answers.message().await.unwrap().unwrap();
    assert_eq!(wanted, load::wanted());
    let second = now().0 / 1000 - 1;
    for message in load::encode(&[failing(second)]) {
        reports.send(message).await.unwrap();
    }
    mesh.until("counted", |ads| ads.outcomes().counters().counted == 1)
        .await;
    let closed = outcomes.close(now().0 + 60_000);
    let [(of, seconds)] = closed.as_slice() else {
        panic!("{closed:?}");
    };
    assert_eq!((of, seconds[0].at), (&rollout, second));
    assert_eq!(Closed::counts(&seconds[0].canary), (3, 2));
}

/// Canary at so many percent, and only `web-1` may call.
fn world_for_web_1(weight: u32) -> Arc<World> {
    let mut world = (*world(&[("web", weight)])).clone();
    let allowed = Allow {
        from: vec![Caller {
            namespace: "shop".to_owned(),
            service_account: Some("account-of-web-1".to_owned()),
        }],
        ..Allow::default()
    };
    let callers = Callers::of([&allowed].into_iter());
    world.callers.insert(WEB.to_owned(), callers);
    world.into()
}

/// Whoever may start a pod can ask for a route, never say that it was taken over, and report whatever it likes.
#[tokio::test]
async fn who_may_not_call_holds_up_no_release_and_has_no_say_in_it() {
    let mesh = Mesh::serving(world_for_web_1(1)).await;
    let (mut caller, mut stranger) = (mesh.proxy("web-1").await, mesh.proxy("web-2").await);
    stranger.hold_installs();
    for proxy in [&mut caller, &mut stranger] {
        proxy.call("web").await;
    }
    mesh.until("the caller counts", |ads| standing(ads) == acks(1, 1, &[]))
        .await;
    stranger
        .shows("web", |route| weight(route) == percent(1))
        .await;
    mesh.ads.set_world(world_for_web_1(10));
    mesh.until("nobody is waited for", |ads| {
        standing(ads) == acks(1, 1, &[])
    })
    .await;

    followed(&mesh);
    let second = now().0 / 1000 - 1;
    for (pod, counted, strangers) in [("shop/web-2", 0, 1), ("shop/web-1", 1, 1)] {
        let (reports, _answers) = reporting(&mesh, Some(pod)).await.unwrap();
        for message in load::encode(&[failing(second)]) {
            reports.send(message).await.unwrap();
        }
        mesh.until("taken", |ads| {
            let counters = ads.outcomes().counters();
            (counters.counted, counters.strangers) == (counted, strangers)
        })
        .await;
    }

    // Everybody may call again, and everybody is waited for.
    mesh.ads.set_world(world(&[("web", 10)]));
    mesh.until("the other one lags", |ads| {
        standing(ads) == acks(2, 1, &["shop/web-2"])
    })
    .await;
}

#[tokio::test]
async fn reports_are_refused_without_a_token_and_nonsense_ends_their_stream_and_no_other() {
    let mesh = Mesh::serving(world(&[("web", 1)])).await;
    for (token, code) in [
        (None, Code::Unauthenticated),
        (Some("stranger"), Code::Unauthenticated),
        (Some("unreachable"), Code::Unavailable),
    ] {
        let refused = reporting(&mesh, token).await.unwrap_err();
        assert_eq!(refused.code(), code, "{refused:?}");
    }
    let proxy = mesh.proxy("web-1").await;
    mesh.until("connected", |ads| ads.counts().streams == 1)
        .await;
    let (reports, mut answers) = reporting(&mesh, Some("shop/web-2")).await.unwrap();
    answers.message().await.unwrap().unwrap();
    let mut nonsense = failing(0);
    nonsense.counts.started = u64::MAX;
    let message = load::encode(&[nonsense]).next().unwrap();
    // What nobody wants to hear of is not read.
    reports.send(message.clone()).await.unwrap();
    mesh.until("left unread", |ads| {
        ads.outcomes().counters().unfollowed == 1
    })
    .await;
    followed(&mesh);
    reports.send(message).await.unwrap();
    let end = answers.message().await.unwrap_err();
    assert_eq!(end.code(), Code::InvalidArgument);
    assert!(end.message().contains("the limit is"), "{}", end.message());
    assert_eq!(
        mesh.ads.counts().streams,
        1,
        "nobody's configuration ends with it"
    );
    drop(proxy);
}

#[tokio::test]
async fn a_pod_reports_on_one_stream_and_a_newer_one_ends_the_older() {
    let mesh = Mesh::serving(world(&[("web", 1)])).await;
    let (_reports, mut older) = reporting(&mesh, Some("shop/web-1")).await.unwrap();
    older.message().await.unwrap().unwrap();
    let (_other, mut of_another_pod) = reporting(&mesh, Some("shop/web-2")).await.unwrap();
    of_another_pod.message().await.unwrap().unwrap();
    let (_newer, mut newer) = reporting(&mesh, Some("shop/web-1")).await.unwrap();
    newer.message().await.unwrap().unwrap();
    let end = older.message().await.unwrap_err();
    assert_eq!(end.code(), Code::Aborted, "{end:?}");
}
