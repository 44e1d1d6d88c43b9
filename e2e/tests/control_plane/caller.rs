//! The sidecar of a pod that calls the Service: it installs at once what it is told.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::Context;
use aviary_e2e::connection::Connection;
use aviary_e2e::control_plane::Shop;
use aviary_xds::{DeltaClient, Node, Request, grpc};
use k8s_openapi::api::core::v1::{Pod, Service};
use kube::Api;
use kube::api::ListParams;
use traffic_core::config::Snapshot;

const PATIENCE: Duration = Duration::from_secs(180);

pub(crate) async fn pods(shop: &Shop<'_>) -> anyhow::Result<Vec<Pod>> {
    let pods: Api<Pod> = Api::namespaced(shop.bench.client.clone(), &shop.namespace);
    Ok(pods.list(&ListParams::default()).await?.items)
}

pub(crate) async fn connection(shop: &Shop<'_>, pod: &Pod) -> anyhow::Result<Connection> {
    let port = shop.bench.operator.xds();
    Ok(Connection::of(&shop.bench.client, port, pod).await?)
}

/// What `find` finds in the first of the snapshots that the sidecar of `caller` is sent in which it finds something.
pub(crate) async fn told<T>(
    shop: &Shop<'_>,
    caller: &Pod,
    find: impl FnMut(&Snapshot) -> anyhow::Result<Option<T>>,
) -> anyhow::Result<T> {
    let found = tokio::time::timeout(PATIENCE, found(shop, caller, find));
    found.await.context("no caller is told")?
}

async fn found<T>(
    shop: &Shop<'_>,
    caller: &Pod,
    mut find: impl FnMut(&Snapshot) -> anyhow::Result<Option<T>>,
) -> anyhow::Result<T> {
    let destination = destination(shop).await?;
    let connection = connection(shop, caller).await?;
    let mut client = DeltaClient::new(0.5);
    let (requests, to_server) = tokio::sync::mpsc::unbounded_channel();
    let to_server = futures::stream::unfold(to_server, |mut messages| async move {
        let message: Request = messages.recv().await?;
        Some((message, messages))
    });
    let first = client.connected(&Node::default());
    let calls = client.demand([destination]);
    for request in first.requests.into_iter().chain(calls.requests) {
        requests.send(request)?;
    }
    let mut ads = grpc::Client::new(connection.channel());
    let answer = ads.delta_aggregated_resources(connection.signed(to_server)?);
    let mut responses = answer.await?.into_inner();
    loop {
        let response = responses.message().await?.context("the stream ended")?;
        let mut output = client.received(response, Instant::now());
        loop {
            for request in output.requests {
                requests.send(request)?;
            }
            let Some((generation, snapshot)) = output.snapshot else {
                break;
            };
            if let Some(found) = find(&snapshot)? {
                return Ok(found);
            }
            output = client.installed(generation);
        }
    }
}

async fn destination(shop: &Shop<'_>) -> anyhow::Result<SocketAddr> {
    let services: Api<Service> = Api::namespaced(shop.bench.client.clone(), &shop.namespace);
    let spec = services.get("web").await?.spec.unwrap_or_default();
    let port = spec.ports.unwrap_or_default();
    let port = port.first().context("no port")?.port;
    Ok(format!("{}:{port}", spec.cluster_ip.unwrap_or_default()).parse()?)
}
