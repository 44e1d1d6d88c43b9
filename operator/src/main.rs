//! The control plane of Aviary: parses its flags, wires its parts, and waits for the end.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use aviary_operator::admin::{self, Health};
use aviary_operator::admission::inject::Injector;
use aviary_operator::admission::rollout::{Cluster, PrometheusPolicy};
use aviary_operator::admission::{self, Admission};
use aviary_operator::ads::Ads;
use aviary_operator::allowed::AllowList;
use aviary_operator::certificates::workload::{Terms, Workloads};
use aviary_operator::certificates::{Authority, Expiries};
use aviary_operator::http_client::HttpClients;
use aviary_operator::identity::TokenReviews;
use aviary_operator::metrics::Metrics;
use aviary_operator::notify::{self, Notifier};
use aviary_operator::options::{LogFormat, Options};
use aviary_operator::rollout::driver::Driver;
use aviary_operator::rollout::hooks::Caller;
use aviary_operator::rollout::measure::access::{Access, Own};
use aviary_operator::rollout::perform::Performer;
use aviary_operator::rollout::watch::{self, Changes};
use aviary_operator::serve::{self, TlsListener};
use clap::Parser;
use kube::client::ClientBuilder;
use kube::{Client, Config};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;

/// An API server that leaves a request without an answer for this long is away: a rollback must not wait behind it.
const REQUEST_PATIENCE: Duration = Duration::from_secs(5);

/// Gives back what lists of many objects took for a moment, and leaves no holes: the C library keeps three times as much.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    log_to_stderr(options.log_format);
    rustls::crypto::aws_lc_rs::default_provider()
        .install_default()
        .map_err(|_| anyhow::anyhow!("a TLS provider was installed before main"))?;
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        namespace = options.namespace,
        "aviary-operator starts"
    );
    let stop = CancellationToken::new();
    let mut tasks = JoinSet::new();
    start(options, &stop, &mut tasks).await?;
    tokio::select! {
        () = terminated() => tracing::info!("asked to end"),
        Some(ended) = tasks.join_next() => {
            ended.context("a part of the operator panicked")?;
            anyhow::bail!("a part of the operator ended by itself; the log above says which");
        }
    }
    stop.cancel();
    // What is under way gets a moment; streams are told to connect again.
    let rest = async { while tasks.join_next().await.is_some() {} };
    let _ = tokio::time::timeout(Duration::from_secs(2), rest).await;
    Ok(())
}

async fn start(
    options: Options,
    stop: &CancellationToken,
    tasks: &mut JoinSet<()>,
) -> anyhow::Result<()> {
    let notifications = options.notifications.as_deref();
    let notifications = notifications
        .map(notify::config::Config::read)
        .transpose()?;
    let health = Health::default();
    let (caches, webhooks, xds) = (
        health.part("caches"),
        health.part("webhooks"),
        health.part("xds"),
    );
    let admin = TcpListener::bind(options.admin_address)
        .await
        .with_context(|| format!("cannot listen on {}", options.admin_address))?;
    let registry = admin::Metrics::default();
    let app = admin::router(health, registry.clone());
    tasks.spawn(async move {
        if let Err(error) = axum::serve(admin, app).await {
            tracing::error!(%error, "the admin server ended");
        }
    });

    let metrics = Metrics::default();
    let client = kubernetes(&metrics, Some(REQUEST_PATIENCE)).await?;
    // A watch may say nothing for minutes.
    let watching = kubernetes(&metrics, None).await?;
    let authority = Authority::load_or_create(client.clone(), &options.namespace)
        .await
        .context("no certificate authority")?;
    tasks.spawn(authority.clone().run(watching.clone(), stop.clone()));

    let workloads = Workloads::new(Terms {
        trust_domain: options.trust_domain.clone(),
        lifetime: options.workload_certificate_lifetime,
    });
    workloads.register(&mut registry.lock());
    let (namespace, ended) = (options.namespace.clone(), stop.clone());
    tasks.spawn(workloads.clone().run(watching.clone(), namespace, ended));

    let ads = Ads::new(authority.revocation_key());
    let expiring = (authority.clone(), workloads.clone());
    metrics.register(&mut registry.lock(), &ads, move || Expiries {
        workloads: expiring.1.expires_at(),
        ..expiring.0.expiries()
    });
    let admission_metrics = admission::Metrics::register(&mut registry.lock());
    let (changes, changed) = Changes::new();
    let views = watch::watch(&watching, &options.namespace, &ads, &changes, tasks);
    let prometheus = PrometheusPolicy {
        default: options.prometheus_address.clone(),
        allowed: options.prometheus_allow.clone(),
    };
    let hooks = AllowList::from(options.hook_allow.clone());
    let lookup = Arc::new(Cluster {
        client: client.clone(),
        rollouts: views.rollouts.clone(),
        prometheus: prometheus.clone(),
        hooks: hooks.clone(),
    });

    let injector = Injector {
        image: options.proxy_image.clone(),
        pull_policy: options.proxy_image_pull_policy,
        namespace: options.namespace.clone(),
        root_pem: authority.root_pem().to_owned(),
    };
    let admission = Admission {
        injector: Arc::new(injector),
        rollouts: Arc::new(views.rollouts.clone()),
        lookup,
        metrics: admission_metrics,
    };
    let listener = TlsListener::bind(options.webhook_address, authority.server_config())
        .await
        .with_context(|| format!("cannot listen on {}", options.webhook_address))?;
    let ended = stop.clone();
    tasks.spawn(async move {
        serve::webhooks::serve(listener, admission::router(admission), ended).await;
    });
    webhooks.ready();

    views.ready().await;
    caches.ready();
    let instance = std::env::var("POD_NAME").ok();
    let performer = Performer::new(client.clone(), instance);
    let own = Own {
        address: options.prometheus_address,
        basic: options.prometheus_auth_basic,
        bearer: options.prometheus_auth_bearer,
        headers: options.prometheus_auth_headers,
        tls: options.prometheus_auth_tls,
    };
    let access = Access::new(client.clone(), own)?;
    let caller = Caller::new(client.clone(), hooks)?;
    let notifier = Notifier::start(
        notifications.unwrap_or_default(),
        &HttpClients::new().common()?,
        metrics.clone(),
        stop,
        tasks,
    );
    let mut driver = Driver::new(
        views,
        ads.clone(),
        prometheus,
        performer,
        access,
        caller,
        metrics,
    )
    .telling(notifier)
    .naming(options.trust_domain);
    driver.open();
    let listener = TlsListener::bind(options.xds_address, authority.server_config())
        .await
        .with_context(|| format!("cannot listen on {}", options.xds_address))?;
    let (server, reviews, ended) = (ads, Arc::new(TokenReviews::new(client)), stop.clone());
    tasks.spawn(async move {
        let served = server.serve(listener, reviews, Some(workloads), ended);
        if let Err(error) = served.await {
            tracing::error!(%error, "the xDS server ended");
        }
    });
    tasks.spawn(driver.run(changed, stop.clone()));
    xds.ready();
    tracing::info!(webhooks = %options.webhook_address, xds = %options.xds_address, "ready");
    Ok(())
}

/// A client that gives up on an API server that does not take connections, or leaves a request without an answer.
async fn kubernetes(metrics: &Metrics, answer_within: Option<Duration>) -> anyhow::Result<Client> {
    let mut config = Config::infer()
        .await
        .context("no way to the API server: run in a pod, or set KUBECONFIG")?;
    config.connect_timeout = Some(Duration::from_secs(5));
    config.read_timeout = answer_within;
    let builder =
        ClientBuilder::try_from(config).context("the client for the API server cannot be built")?;
    Ok(builder.with_layer(&metrics.requests()).build())
}

async fn terminated() {
    let (Ok(mut term), Ok(mut int)) = (
        signal(SignalKind::terminate()),
        signal(SignalKind::interrupt()),
    ) else {
        return std::future::pending().await;
    };
    tokio::select! { _ = term.recv() => {}, _ = int.recv() => {} }
}

fn log_to_stderr(format: LogFormat) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    match format {
        LogFormat::Json => log.json().flatten_event(true).init(),
        LogFormat::Text => log.init(),
    }
}
