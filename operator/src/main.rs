//! The control plane: parses, wires, exits.

use std::sync::Arc;

use anyhow::Context;
use aviary_operator::admin::{self, Health};
use aviary_operator::admission::inject::Injector;
use aviary_operator::admission::rollout::{Cluster, PrometheusPolicy};
use aviary_operator::admission::{self, Admission};
use aviary_operator::certificates::Authority;
use aviary_operator::options::{LogFormat, Options};
use aviary_operator::serve::TlsListener;
use clap::Parser;
use futures::StreamExt;
use kube::runtime::{WatchStreamExt, reflector, watcher};
use kube::{Api, Client};
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    log(options.log_format);
    rustls::crypto::aws_lc_rs::default_provider()
        .install_default()
        .map_err(|_| anyhow::anyhow!("another crypto provider is installed already"))?;

    let stop = CancellationToken::new();
    tokio::spawn(stop_on_signal(stop.clone())?);
    let mut registry = Registry::default();
    let health = Health::default();
    let (caches_ready, webhooks_ready) = (health.part("caches"), health.part("webhooks"));
    let metrics = admission::Metrics::register(&mut registry);

    let admin = TcpListener::bind(options.admin_address)
        .await
        .context("admin listener")?;
    let router = admin::router(health, Arc::new(registry));
    let admin = tokio::spawn(async move { axum::serve(admin, router).await });

    let client = Client::try_default()
        .await
        .context("no access to a Kubernetes API")?;
    let authority = Authority::load_or_create(client.clone(), &options.namespace).await?;
    let certificates = tokio::spawn(authority.clone().run(client.clone(), stop.clone()));

    let (rollouts, writer) = reflector::store();
    let changes = watcher(Api::all(client.clone()), watcher::Config::default()).default_backoff();
    let cache = tokio::spawn(reflector(writer, changes).for_each(|event| async {
        if let Err(error) = event {
            tracing::warn!(%error, "CanaryRollouts cannot be watched");
        }
    }));

    let admission = Admission {
        injector: Arc::new(Injector {
            image: options.proxy_image.clone(),
            pull_policy: options.proxy_image_pull_policy,
            namespace: options.namespace.clone(),
            root_pem: authority.root_pem().to_owned(),
        }),
        rollouts: Arc::new(rollouts.clone()),
        lookup: Arc::new(Cluster {
            client,
            prometheus: PrometheusPolicy {
                default: options.prometheus_address.clone(),
                allowed: options.prometheus_allow.clone(),
            },
        }),
        metrics,
    };
    let webhooks = TlsListener::bind(options.webhook_address, authority.server_config())
        .await
        .context("webhook listener")?;
    let webhooks = tokio::spawn(axum::serve(webhooks, admission::router(admission)).into_future());
    webhooks_ready.ready();

    stop.run_until_cancelled(rollouts.wait_until_ready())
        .await
        .transpose()?;
    caches_ready.ready();
    stop.cancelled().await;
    for task in [
        cache.abort_handle(),
        webhooks.abort_handle(),
        admin.abort_handle(),
    ] {
        task.abort();
    }
    certificates.await?;
    Ok(())
}

fn log(format: LogFormat) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let log = tracing_subscriber::fmt().with_env_filter(filter);
    match format {
        LogFormat::Json => log.json().flatten_event(true).init(),
        LogFormat::Text => log.init(),
    }
}

fn stop_on_signal(stop: CancellationToken) -> anyhow::Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        stop.cancel();
    })
}
