//! What a proxy is told to do with what comes in, over the wire.

use aviary_proxy::metrics::Metrics;
use aviary_xds::server::Verdict;
use traffic_core::config::Inbound;
use traffic_core::inbound::Mtls;

use super::strict::strict;
use crate::client::{Client, eventually};
use crate::control_plane::{ControlPlane, Loads};
use crate::mesh::{Given, Mesh, Service};
use crate::server::Server;

/// Two workers, whose connections are dealt out by their load.
async fn ruled(app: &Server) -> (ControlPlane, Mesh) {
    let mut control = ControlPlane::start(Loads::Unserved);
    let mut mesh = Mesh::start(Given {
        inbound: app.address,
        workers: 2,
        ..Given::default()
    });
    let nobody = Service::new(app.address, app.address, 0);
    control.rules(&mut mesh, &nobody).await;
    (control, mesh)
}

/// The statuses of as many connections as there are workers, all open at once.
async fn statuses(mesh: &Mesh) -> [u16; 2] {
    let mut clients = Client::both(mesh.inbound).await;
    let mut statuses = [0; 2];
    for (client, status) in clients.iter_mut().zip(&mut statuses) {
        *status = client.get("/").await.status.as_u16();
    }
    statuses
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rules_hold_in_every_worker_when_they_are_acknowledged() {
    let app = Server::start("web").await;
    let (control, mesh) = ruled(&app).await;
    for _ in 0..3 {
        let strict = strict(app.address);
        assert_eq!(control.commands(&strict).await, Verdict::Accepted);
        assert_eq!(statuses(&mesh).await, [403; 2]);
        let told = mesh.data.dump()["inbound"].clone();
        assert_eq!(told["mtls"], "strict");
        assert_eq!(told["probes"][0]["port"], app.address.port());
        let open = Inbound::default();
        assert_eq!(control.commands(&open).await, Verdict::Accepted);
        assert_eq!(statuses(&mesh).await, [200; 2]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rules_that_make_no_sense_are_rejected_and_the_last_good_ones_hold() {
    let app = Server::start("web").await;
    let (control, mesh) = ruled(&app).await;
    control.commands(&strict(app.address)).await;
    control.garbles(true);
    let said = control.commands(&Inbound::default()).await;
    let Verdict::Rejected(reason) = said else {
        panic!("{said:?}");
    };
    assert!(
        reason.contains("`inbound/self` cannot be decoded"),
        "{reason}"
    );
    assert_eq!(statuses(&mesh).await, [403; 2]);
    // A lost stream does not open it either.
    control.hangs_up();
    eventually("it comes again", || control.ads_streams() == 2).await;
    assert_eq!(statuses(&mesh).await, [403; 2]);
    control.garbles(false);
    let permissive = Inbound {
        mtls: Mtls::Permissive,
        ..strict(app.address)
    };
    assert_eq!(control.commands(&permissive).await, Verdict::Accepted);
    assert_eq!(statuses(&mesh).await, [200; 2]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_control_plane_of_each_stream_is_told_who_calls_without_an_identity() {
    let app = Server::start("web").await;
    let (control, mesh) = ruled(&app).await;
    let permissive = Inbound {
        mtls: Mtls::Permissive,
        ..strict(app.address)
    };
    control.commands(&permissive).await;
    eventually("that there is nobody", || {
        control.reported().is_some_and(|callers| callers.is_empty())
    })
    .await;
    let mut client = Client::http1(mesh.inbound).await;
    client.get("/healthz").await;
    client.get("/").await;
    let is_named = || {
        let callers = control.reported().unwrap_or_default();
        let ports: Vec<u16> = callers.iter().map(|(it, _)| it.port).collect();
        ports == [app.address.port()]
    };
    eventually("who it is", is_named).await;
    control.hangs_up();
    control.forgets_reports();
    eventually("and again", is_named).await;
}

#[test]
fn the_metric_of_refusals_is_there_from_the_first_one_on() {
    let metrics = std::sync::Arc::new(Metrics::default());
    let text = metrics.render().unwrap();
    assert!(text.contains("# TYPE aviary_inbound_refused counter"));
}
