//! One replica of the control plane, wired together: what each of them does, and what only the one that decides does besides.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use aviary_operator::admin::{self, Health};
use aviary_operator::admission::gate::Watched;
use aviary_operator::admission::inject::{Injector, VERSION};
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
use aviary_operator::options::Options;
use aviary_operator::rollout::changes::Change;
use aviary_operator::rollout::driver::Driver;
use aviary_operator::rollout::hooks::Caller;
use aviary_operator::rollout::measure::access::{Access, Own};
use aviary_operator::rollout::perform::Performer;
use aviary_operator::rollout::views::Views;
use aviary_operator::rollout::watch::{self, Changes};
use aviary_operator::scope::Scope;
use aviary_operator::serve::{self, TlsListener};
use aviary_operator::sidecar_image;
use aviary_operator::strict::{self, Demanded, Kept};
use aviary_operator::tenure::{Holder, Keeper, Tenure};
use kube::client::ClientBuilder;
use kube::{Client, Config};
use tokio::net::TcpListener;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// An API server that leaves a request without an answer for this long is away: a rollback must not wait behind it.
const REQUEST_PATIENCE: Duration = Duration::from_secs(5);

/// A replica whose webhooks and certificates work, and whose caches are filled: it can decide at once when it may.
pub(crate) struct Standby {
    options: Options,
    name: String,
    client: Client,
    health: Health,
    metrics: Metrics,
    authority: Authority,
    workloads: Workloads,
    views: Views,
    changed: UnboundedReceiver<Change>,
    ads: Ads,
    prometheus: PrometheusPolicy,
    access: Access,
    caller: Caller,
    notifications: notify::config::Config,
    registry: admin::Metrics,
    watching: Client,
    changes: Changes,
    demanded: Demanded,
    kept: Kept,
    /// Until this replica decides, another one says what is demanded.
    following: CancellationToken,
}

/// Starts what every replica does, until `stop`.
pub(crate) async fn start(
    options: Options,
    stop: &CancellationToken,
    tasks: &mut JoinSet<()>,
) -> anyhow::Result<(Keeper, Standby)> {
    let notifications = options.notifications.as_deref();
    let notifications = notifications
        .map(notify::config::Config::read)
        .transpose()?;
    let health = Health::default();
    let (caches, webhooks) = (health.part("caches"), health.part("webhooks"));
    let admin = TcpListener::bind(options.admin_address)
        .await
        .with_context(|| format!("cannot listen on {}", options.admin_address))?;
    let registry = admin::Metrics::default();
    health.register(&mut registry.lock());
    let asked = admin::Server::default();
    let app = admin::router(health.clone(), registry.clone(), asked.clone());
    tasks.spawn(serve::http::serve(admin, app, stop.clone()));

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
    asked.is(ads.clone());
    let expiring = (authority.clone(), workloads.clone());
    metrics.register(&mut registry.lock(), &ads, move || Expiries {
        workloads: expiring.1.expires_at(),
        ..expiring.0.expiries()
    });
    let admission_metrics = admission::Metrics::register(&mut registry.lock());
    let (changes, changed) = Changes::new();
    let kept = Kept::new(client.clone(), watching.clone(), &options.namespace);
    let (demanded, following) = (Demanded::default(), stop.child_token());
    demanded.restore(&kept).await?;
    let follow = kept.clone().follow(demanded.clone(), following.clone());
    let ended = stop.clone();
    tasks.spawn(async move {
        follow.await;
        // A part that ends by itself would end the whole.
        ended.cancelled().await;
    });
    let scope = Scope::from(options.watch_namespace.clone());
    let views = watch::watch(&watching, &scope, &options.namespace, &ads, &changes, tasks);
    let prometheus = PrometheusPolicy {
        default: options.prometheus_address.clone(),
        allowed: options.prometheus_allow.clone(),
    };
    let hooks = AllowList::from(options.hook_allow.clone());
    let lookup = Arc::new(Cluster::new(
        client.clone(),
        views.rollouts.clone(),
        prometheus.clone(),
        hooks.clone(),
    ));

    let image = match &options.proxy_image {
        Some(image) => image.clone(),
        None => sidecar_image::of_own_pod(&client, &options.namespace, options.pod_name.as_deref())
            .await
            .context("the operator's own pod, which names the sidecar's image, cannot be read")?,
    };
    let injector = Injector {
        image,
        pull_policy: options.proxy_image_pull_policy,
        namespace: options.namespace.clone(),
        root_pem: authority.root_pem().to_owned(),
        mark: VERSION.to_owned(),
        demanded: demanded.clone(),
        policies: Some(views.policies.clone()),
        namespaces: Some(views.namespaces.clone()),
    };
    let admission = Admission {
        injector: Arc::new(injector),
        rollouts: Arc::new(Watched::new(views.rollouts.clone(), client.clone())),
        lookup,
        metrics: admission_metrics,
    };
    let listener = TlsListener::bind(options.webhook_address, authority.server_config())
        .await
        .with_context(|| format!("cannot listen on {}", options.webhook_address))?;
    let ended = stop.clone();
    tasks.spawn(async move {
        serve::http::serve(listener, admission::router(admission), ended).await;
    });
    webhooks.ready();

    views.ready().await;
    caches.ready();
    let own = Own {
        address: options.prometheus_address.clone(),
        basic: options.prometheus_auth_basic.clone(),
        bearer: options.prometheus_auth_bearer.clone(),
        headers: options.prometheus_auth_headers.clone(),
        tls: options.prometheus_auth_tls.clone(),
    };
    let access = Access::new(client.clone(), own)?;
    let caller = Caller::new(client.clone(), hooks)?;
    let name = options.pod_name.clone().unwrap_or_else(of_this_process);
    let keeper = Keeper::new(
        client.clone(),
        watching.clone(),
        &options.namespace,
        name.clone(),
    );
    let standby = Standby {
        name,
        client,
        health,
        metrics,
        authority,
        workloads,
        views,
        changed,
        ads,
        prometheus,
        access,
        caller,
        notifications: notifications.unwrap_or_default(),
        registry,
        watching,
        changes,
        demanded,
        kept,
        following,
        options,
    };
    Ok((keeper, standby))
}

impl Standby {
    /// Waits for `event`. What changes meanwhile is in the caches, and need not be remembered besides.
    pub(crate) async fn until<T>(mut self, event: impl Future<Output = T>) -> (T, Standby) {
        let mut event = std::pin::pin!(event);
        let mut forgotten = Vec::new();
        loop {
            tokio::select! {
                value = &mut event => return (value, self),
                count = self.changed.recv_many(&mut forgotten, 4096), if !self.changed.is_closed() => {
                    forgotten.clear();
                    if count == 0 {
                        self.changed.close();
                    }
                }
            }
        }
    }

    /// Starts what the one does that holds the Lease: rollouts until `deciding` is cancelled, and proxies until `stop`.
    pub(crate) async fn decide(
        self,
        tenure: &Tenure,
        stop: &CancellationToken,
        deciding: &CancellationToken,
        tasks: &mut JoinSet<()>,
    ) -> anyhow::Result<()> {
        let options = self.options;
        self.ads.lends_during(tenure.clone());
        let performer =
            Performer::new(self.client.clone(), Some(self.name.clone()), tenure.clone());
        let notifier = Notifier::start(
            self.notifications,
            &HttpClients::new().common()?,
            self.metrics.clone(),
            stop,
            tasks,
        );
        // From here on it is said by this one.
        self.following.cancel();
        if let Err(error) = self.demanded.restore(&self.kept).await {
            tracing::warn!(%error, "which namespaces refuse plaintext is what was followed last");
        }
        let mut driver = Driver::new(
            self.views.clone(),
            self.ads.clone(),
            self.prometheus,
            performer,
            self.access,
            self.caller,
            self.metrics,
        )
        .telling(notifier)
        .naming(options.trust_domain)
        .demanding(&self.demanded);
        driver.open();
        let demanding = strict::Keeper::new(
            (self.client.clone(), self.watching),
            self.views,
            self.ads.clone(),
            self.demanded,
            self.changes,
            self.kept,
        )
        .named(self.name.clone())
        .within(Scope::from(options.watch_namespace))
        .during(tenure.clone())
        .after(options.plaintext_quiet_time);
        demanding.register(&mut self.registry.lock());
        tasks.spawn(demanding.run(deciding.clone()));
        let listener = TlsListener::bind(options.xds_address, self.authority.server_config())
            .await
            .with_context(|| format!("cannot listen on {}", options.xds_address))?;
        let reviews = Arc::new(TokenReviews::new(self.client.clone()));
        let (server, workloads, ended) = (self.ads, self.workloads, stop.clone());
        tasks.spawn(async move {
            let served = server.serve(listener, reviews, Some(workloads), ended);
            if let Err(error) = served.await {
                tracing::error!(%error, "the xDS server ended");
            }
        });
        tasks.spawn(driver.run(self.changed, deciding.clone()));
        match options.pod_ip {
            Some(address) => {
                let holder = Holder {
                    namespace: options.namespace,
                    pod: self.name,
                    address,
                };
                tasks.spawn(holder.announced(self.client, deciding.clone()));
            }
            None => tracing::warn!(
                "POD_IP is not set: the Service {} is left as it is",
                aviary_operator::names::XDS_SERVICE
            ),
        }
        self.health.decides();
        tracing::info!(webhooks = %options.webhook_address, xds = %options.xds_address, "ready");
        Ok(())
    }
}

/// Of a process that is in no pod.
fn of_this_process() -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    format!("{}_{}", host.trim(), std::process::id())
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
