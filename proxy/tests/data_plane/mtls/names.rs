//! Under Istio's names each side says who was at both ends, by what was proven.

use aviary_proxy::telemetry::Wanted;
use traffic_core::telemetry::MetricNames;

use super::{Chosen, Pair, authority};
use crate::client::{Client, eventually};
use crate::server::Server;
use crate::telemetry::istio::count;

#[tokio::test]
async fn both_sides_name_the_principals_and_the_called_one_that_it_was_mutual_tls() {
    let app = Server::start("web").await;
    let chosen = Chosen {
        telemetry: Wanted {
            names: MetricNames::Istio,
            ..Wanted::default()
        },
        ..Chosen::default()
    };
    let pair = Pair::of_one_mesh(app.address, chosen).await;
    let mut client = Client::http1(pair.calling.outbound).await;
    assert_eq!(client.get("/").await.status, 200);
    let (api, web) = (authority::id("api"), authority::id("web"));
    let ends = |reporter, policy| {
        [
            ("reporter", reporter),
            ("source_principal", api.as_str()),
            ("destination_principal", web.as_str()),
            ("connection_security_policy", policy),
        ]
    };
    for (mesh, labels) in [
        (&pair.calling, ends("source", "unknown")),
        (&pair.called, ends("destination", "mutual_tls")),
    ] {
        eventually("it is counted", || count(mesh, &labels) == 1.0).await;
    }
    // Who has proven nothing is nobody.
    let mut plain = Client::http1(pair.called.inbound).await;
    assert_eq!(plain.get("/").await.status, 200);
    let nobody = [
        ("source_principal", "unknown"),
        ("destination_principal", "unknown"),
        ("connection_security_policy", "none"),
    ];
    eventually("it is counted", || count(&pair.called, &nobody) == 1.0).await;
}
