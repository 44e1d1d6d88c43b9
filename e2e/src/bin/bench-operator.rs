//! `make bench-operator`: one operator and N rollouts on a real control plane.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use aviary_crds::{CanaryRollout, CanaryRolloutStatus};
use aviary_e2e::control_plane::{ControlPlane, Evidence, Operator, operator_binary};
use aviary_e2e::scale::{
    Beside, CALLED, Field, Gauge, Moment, Sidecars, Starting, Statuses, Usage, percentile,
};
use clap::{Parser, ValueEnum};
use kube::api::Api;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};

/// Measures an operator among many rollouts: memory, processor time and API requests of an idle minute, the time to
/// settle after a start, from a decision to its write, and from a weight to its last acknowledgement.
///
/// AVIARY_OPERATOR_BIN names the operator; without it a debug build is measured, which says little.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// How many CanaryRollouts there are
    #[arg(long, default_value_t = 1000)]
    rollouts: usize,
    /// How many of them roll at the same time
    #[arg(long, default_value_t = 500)]
    rolling: usize,
    /// How many of them begin in a second: what a control plane on two cores takes besides
    #[arg(long, default_value_t = 2)]
    pace: u32,
    /// Seconds of the soak of each of the four steps: with fewer than rolling / pace / 4, not all roll at the same time
    #[arg(long, default_value_t = 120)]
    soak: u64,
    /// How many sidecars have to acknowledge each weight, 2000 without it (0 leaves that out); or get a certificate at the same time, 500 without it
    #[arg(long)]
    sidecars: Option<usize>,
    /// Measure one thing alone
    #[arg(long, value_enum, default_value = "all")]
    case: Case,
    /// Seconds that the rollouts may take to be adopted, and to roll
    #[arg(long, default_value_t = 1800)]
    patience: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Case {
    /// Adoption, idleness, a restart, rolling, acknowledgements
    All,
    /// Adoption and rolling
    Rolling,
    /// Acknowledgements
    Sidecars,
    /// First certificates of sidecars that all start at the same moment
    Certificates,
    /// Outcomes of three Services that every sidecar tells each second, during a release
    Reports,
    /// A thousand broken CanaryRollouts beside the others
    Broken,
    /// A Deployment with 5,000 pods, a Service with 200 ports, a namespace with 3,000 Services
    Large,
}

const IDLE: Duration = Duration::from_secs(60);
const QUIET: Duration = Duration::from_millis(500);

fn main() -> ExitCode {
    let run = || -> anyhow::Result<()> {
        let arguments = Arguments::parse();
        rustls::crypto::aws_lc_rs::default_provider()
            .install_default()
            .ok();
        tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build()?
            .block_on(measure(arguments))
    };
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench-operator: {error:#}");
            ExitCode::FAILURE
        }
    }
}

struct Bench {
    arguments: Arguments,
    operator: Operator,
    evidence: Evidence,
    field: Field,
    gauge: Gauge,
    statuses: Statuses,
    client: Client,
    started: Instant,
    table: Vec<(String, String)>,
    /// Ends last.
    _control_plane: ControlPlane,
}

async fn measure(arguments: Arguments) -> anyhow::Result<()> {
    let mut bench = Bench::start(arguments).await?;
    match bench.arguments.case {
        Case::All => {
            bench.adopt().await?;
            bench.settle().await?;
            bench.idle().await?;
            bench.roll().await?;
            if bench.sidecars() > 0 {
                bench.acknowledge().await?;
            }
        }
        Case::Rolling => {
            bench.adopt().await?;
            bench.roll().await?;
        }
        Case::Sidecars => bench.acknowledge().await?,
        Case::Certificates => bench.certificates().await?,
        Case::Reports => bench.reports().await?,
        Case::Broken => {
            bench.adopt().await?;
            bench.broken().await?;
        }
        Case::Large => {
            bench.adopt().await?;
            bench.large().await?;
        }
    }
    println!("\n{} rollouts", bench.arguments.rollouts);
    for (what, value) in &bench.table {
        println!("  {what:<58} {value}");
    }
    Ok(())
}

impl Bench {
    async fn start(arguments: Arguments) -> anyhow::Result<Bench> {
        let started = Instant::now();
        let say = |line: &str| eprintln!("[{:5.1}s] {line}", started.elapsed().as_secs_f64());
        let (binary, control_plane) = tokio::task::block_in_place(|| {
            anyhow::Ok((operator_binary()?, ControlPlane::start(say)?))
        })?;
        let directory = control_plane.directory();
        let evidence = Evidence::start(directory).await?;
        let operator = Operator::new(binary, directory)?
            .with("AVIARY_PROMETHEUS_ADDRESS", evidence.url())
            .with("AVIARY_LOG", "info");
        let token = control_plane.install_aviary(operator.webhooks()).await?;
        operator.connect_to(control_plane.kubeconfig(), &token)?;
        let kubeconfig = Kubeconfig::read_from(control_plane.kubeconfig())?;
        let config =
            Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
        let client = Client::try_from(config)?;
        let gauge = Gauge::install(&client, "aviary-system", "aviary-operator").await?;
        tokio::task::block_in_place(|| operator.start())?;
        say("the operator is ready");
        // The API server finds the webhooks' new certificate a moment later.
        tokio::time::sleep(Duration::from_secs(3)).await;
        let bench = Bench {
            field: Field::new(client.clone()),
            statuses: Statuses::watch(&client),
            arguments,
            operator,
            evidence,
            gauge,
            client,
            started,
            table: Vec::new(),
            _control_plane: control_plane,
        };
        let usage = bench.usage().await?;
        let empty = format!("{} MB", megabytes(usage.memory));
        let mut bench = bench;
        bench.row("memory without rollouts", empty);
        Ok(bench)
    }

    async fn adopt(&mut self) -> anyhow::Result<()> {
        let rollouts = self.arguments.rollouts;
        self.say(&format!(
            "making {rollouts} Deployments, Services and CanaryRollouts"
        ));
        let start = Instant::now();
        self.field
            .plant(rollouts, self.arguments.soak, &self.evidence, |planted| {
                self.say(&format!(
                    "{planted} made, {} adopted",
                    self.statuses.count("scale-", "Stable")
                ));
            })
            .await?;
        let made = start.elapsed();
        let adopted = self
            .until("adopted", rollouts, || {
                self.statuses.count("scale-", "Stable")
            })
            .await?;
        self.row(
            "made and adopted",
            match adopted {
                Some(after) => format!(
                    "{rollouts} in {:.0} s (made in {:.0} s)",
                    (made + after).as_secs_f64(),
                    made.as_secs_f64()
                ),
                None => format!(
                    "{} of {rollouts} in {:.0} s",
                    self.statuses.count("scale-", "Stable"),
                    start.elapsed().as_secs_f64()
                ),
            },
        );
        Ok(())
    }

    /// From a start until nothing is asked or computed any more.
    async fn settle(&mut self) -> anyhow::Result<()> {
        self.rest().await?;
        self.say("the operator is started again");
        tokio::task::block_in_place(|| self.operator.stop());
        let (start, before) = (Instant::now(), self.usage_of_requests().await?);
        tokio::task::block_in_place(|| self.operator.start())?;
        let ready = start.elapsed();
        let settled = self.rest().await?;
        let usage = self.usage().await?;
        let took = settled.map_or_else(
            || "not within its patience".to_owned(),
            |at| format!("{:.1} s", (at - start).as_secs_f64()),
        );
        self.row(
            "settled after a start",
            format!("{took} (ready after {:.1} s)", ready.as_secs_f64()),
        );
        self.row(
            "  until then",
            format!(
                "{} requests, {:.1} s of processor time, {} MB",
                usage.requests - before,
                usage.cpu.as_secs_f64(),
                megabytes(usage.memory)
            ),
        );
        Ok(())
    }

    async fn idle(&mut self) -> anyhow::Result<()> {
        self.say("an idle minute");
        let before = self.usage().await?;
        tokio::time::sleep(IDLE).await;
        let after = self.usage().await?;
        self.row("idle: memory", format!("{} MB", megabytes(after.memory)));
        self.row(
            "idle: API requests a minute",
            (after.requests - before.requests).to_string(),
        );
        let cpu = (after.cpu - before.cpu).as_secs_f64() / IDLE.as_secs_f64() * 100.0;
        self.row("idle: processor", format!("{cpu:.1} % of a core"));
        Ok(())
    }

    async fn roll(&mut self) -> anyhow::Result<()> {
        let rolling = self.arguments.rolling.min(self.arguments.rollouts);
        self.say(&format!("{rolling} releases"));
        self.statuses.take();
        let beside = Beside::start(&self.client);
        let (start, before) = (Instant::now(), self.usage().await?);
        let pace = Duration::from_secs(1) / self.arguments.pace.max(1);
        let field = self.field.clone();
        let changing = tokio::spawn(async move { field.change(rolling, "v2", pace).await });
        let mut moments = Vec::new();
        let (mut promoted, mut most) = (0, 0);
        while promoted < rolling && start.elapsed() < self.patience() {
            tokio::time::sleep(Duration::from_secs(2)).await;
            let new = self.statuses.take();
            promoted += new
                .iter()
                .filter(|moment| moment.phase == "Promoting")
                .count();
            moments.extend(new);
            most = most.max(self.statuses.rolling());
            if start.elapsed().as_secs().is_multiple_of(10) {
                self.say(&format!(
                    "{promoted} of {rolling} are being promoted, {} decisions",
                    moments.len()
                ));
            }
        }
        let (took, after) = (start.elapsed(), self.usage().await?);
        changing.await??;
        self.row(
            "rolling",
            format!(
                "{promoted} of {rolling} reached promotion in {:.0} s, up to {most} at a time",
                took.as_secs_f64()
            ),
        );
        let mut delays: Vec<u64> = moments
            .iter()
            .map(|each| each.seen.saturating_sub(each.decided))
            .collect();
        self.row(
            "rolling: from a decision to its write, seen by a watch",
            percentiles(&mut delays),
        );
        self.row(
            "  of a ConfigMap beside, from sending it",
            percentiles(&mut beside.took()),
        );
        let mut by_phase: BTreeMap<&str, Vec<u64>> = BTreeMap::new();
        for each in &moments {
            let delays = by_phase.entry(each.phase.as_str()).or_default();
            delays.push(each.seen.saturating_sub(each.decided));
        }
        let rows: Vec<(String, String)> = by_phase
            .iter_mut()
            .map(|(phase, delays)| {
                (
                    format!("  of {} to {phase}", delays.len()),
                    percentiles(delays),
                )
            })
            .collect();
        for (what, value) in rows {
            self.row(&what, value);
        }
        let cpu = (after.cpu - before.cpu).as_secs_f64() / took.as_secs_f64() * 100.0;
        let requests = (after.requests - before.requests) as f64 / took.as_secs_f64();
        self.row(
            "rolling: operator",
            format!(
                "{cpu:.0} % of a core, {requests:.0} requests a second, {} MB",
                megabytes(after.memory)
            ),
        );
        Ok(())
    }

    fn sidecars(&self) -> usize {
        let by_default = match self.arguments.case {
            Case::Certificates => 500,
            Case::All
            | Case::Rolling
            | Case::Sidecars
            | Case::Reports
            | Case::Broken
            | Case::Large => 2000,
        };
        self.arguments.sidecars.unwrap_or(by_default)
    }

    /// Pods that call one Service.
    async fn callers(&mut self, soak: &str) -> anyhow::Result<()> {
        let sidecars = self.sidecars();
        self.say(&format!("{sidecars} pods that call one Service"));
        self.field.called(sidecars, soak, &self.evidence).await?;
        let called = format!("{CALLED}/{CALLED}");
        self.until("adopted", 1, || {
            usize::from(self.statuses.phase(&called) == "Stable")
        })
        .await?;
        let callers = || async { self.field.ready(CALLED, "callers").await };
        let start = Instant::now();
        while callers().await? < sidecars {
            if start.elapsed() > self.patience() {
                bail!(
                    "{} of {sidecars} callers are ready after {:.0} s",
                    callers().await?,
                    start.elapsed().as_secs_f64()
                );
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        Ok(())
    }

    /// The same, and their sidecars.
    async fn connected(&mut self, soak: &str) -> anyhow::Result<Sidecars> {
        let sidecars = self.sidecars();
        self.callers(soak).await?;
        self.say("their sidecars connect");
        let connected = Sidecars::connect(&self.client, self.operator.xds()).await?;
        self.until("connected", sidecars, || connected.connected())
            .await?;
        let usage = self.usage().await?;
        self.row(
            &format!("{sidecars} sidecars connected: memory"),
            format!("{} MB", megabytes(usage.memory)),
        );
        self.rest().await?;
        Ok(connected)
    }

    async fn certificates(&mut self) -> anyhow::Result<()> {
        self.callers("1h").await?;
        let starting = Starting::prepare(&self.client).await?;
        self.rest().await?;
        self.say("their sidecars start");
        let before = self.usage().await?;
        let mut certified = starting.start(self.operator.xds()).await;
        let after = self.usage().await?;
        let took = percentiles(&mut certified.took);
        let last = certified.took.iter().max().copied().unwrap_or_default();
        self.row(
            &format!("{} first certificates at once", certified.took.len()),
            format!("{took}, the last {last} ms"),
        );
        self.row(
            "  operator meanwhile",
            format!(
                "{:.2} s of processor time, {} requests, {} MB",
                (after.cpu - before.cpu).as_secs_f64(),
                after.requests - before.requests,
                megabytes(after.memory)
            ),
        );
        self.row("  turned away, and back", certified.again.to_string());
        Ok(())
    }

    async fn reports(&mut self) -> anyhow::Result<()> {
        let connected = self.connected("1h").await?;
        let called = format!("{CALLED}/{CALLED}");
        self.field.set_image(CALLED, CALLED, "v2").await?;
        self.until("soaking", 1, || {
            usize::from(self.statuses.phase(&called) == "Soaking")
        })
        .await?;
        self.share("a soak without reports").await?;
        let rollouts: Api<CanaryRollout> = Api::namespaced(self.client.clone(), CALLED);
        let status =
            || async { anyhow::Ok(rollouts.get(CALLED).await?.status.unwrap_or_default()) };
        let soaking = status().await?;
        let stable = soaking.stable.context("no stable revision")?.revision;
        let canary = soaking.canary.context("no canary")?.revision;
        connected.tell([stable, canary]);
        let heard =
            |status: &CanaryRolloutStatus| status.guard.as_ref().map_or(0, |guard| guard.requests);
        while heard(&status().await?) == 0 {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        let (before, start) = (heard(&status().await?), Instant::now());
        self.share(&format!(
            "{} sidecars tell of 3 Services each second",
            connected.connected()
        ))
        .await?;
        // The status says it with whatever else it says.
        tokio::time::sleep(IDLE / 2).await;
        let counted = heard(&status().await?) - before;
        let rate = counted as f64 / start.elapsed().as_secs_f64();
        self.row(
            "  of the canary's requests were counted",
            format!("about {rate:.0} a second"),
        );
        Ok(())
    }

    /// What the operator uses in a while in which nothing changes.
    async fn share(&mut self, what: &str) -> anyhow::Result<()> {
        let before = self.usage().await?;
        tokio::time::sleep(IDLE / 2).await;
        let after = self.usage().await?;
        let cpu = (after.cpu - before.cpu).as_secs_f64() / (IDLE / 2).as_secs_f64() * 100.0;
        let memory = megabytes(after.memory);
        self.row(what, format!("{cpu:.1} % of a core, {memory} MB"));
        Ok(())
    }

    async fn acknowledge(&mut self) -> anyhow::Result<()> {
        let connected = self.connected("1s").await?;
        let called = format!("{CALLED}/{CALLED}");
        self.statuses.take();
        let before = self.usage().await?;
        self.field.set_image(CALLED, CALLED, "v2").await?;
        let start = Instant::now();
        let mut moments: Vec<Moment> = Vec::new();
        while !moments.iter().any(|each| each.phase == "Promoting")
            && start.elapsed() < self.patience()
        {
            tokio::time::sleep(Duration::from_millis(500)).await;
            moments.extend(
                self.statuses
                    .take()
                    .into_iter()
                    .filter(|each| each.rollout == called),
            );
        }
        let took = start.elapsed();
        let after = self.usage().await?;
        let mut delays = Vec::new();
        for pair in moments.windows(2) {
            if let [shifting, soaking] = pair
                && (shifting.phase.as_str(), soaking.phase.as_str()) == ("Shifting", "Soaking")
            {
                delays.push(soaking.decided.saturating_sub(shifting.seen));
            }
        }
        let what = format!(
            "from a weight to the last of {} acknowledgements",
            connected.connected()
        );
        self.row(
            &what,
            format!("{} ({} weights)", percentiles(&mut delays), delays.len()),
        );
        let cpu = (after.cpu - before.cpu).as_secs_f64() / took.as_secs_f64() * 100.0;
        self.row("  operator meanwhile", format!("{cpu:.0} % of a core"));
        Ok(())
    }

    async fn broken(&mut self) -> anyhow::Result<()> {
        self.rest().await?;
        let before = self.usage().await?;
        self.say("a thousand broken CanaryRollouts");
        self.field.break_many(1000).await?;
        self.rest().await?;
        let after = self.usage().await?;
        self.row(
            "a thousand broken ones: memory",
            format!(
                "{} MB, {} MB without them",
                megabytes(after.memory),
                megabytes(before.memory)
            ),
        );
        self.idle().await?;
        self.roll().await
    }

    async fn large(&mut self) -> anyhow::Result<()> {
        for (what, namespace, pods) in [
            ("a Deployment with 5,000 pods", "large", 5000),
            ("a Service with 200 ports", "ports", 1),
            ("a namespace with 3,000 Services", "crowd", 1),
        ] {
            self.say(what);
            let before = self.usage().await?;
            match namespace {
                "large" => self.field.of_pods(5000, &self.evidence).await?,
                "ports" => self.field.of_ports(200, &self.evidence).await?,
                _ => self.field.among_services(3000, &self.evidence).await?,
            }
            let rollout = format!("{namespace}/web");
            while self.field.ready(namespace, "web").await? < pods {
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
            self.until("adopted", 1, || {
                usize::from(self.statuses.phase(&rollout) == "Stable")
            })
            .await?;
            self.rest().await?;
            let made = self.usage().await?;
            self.statuses.take();
            self.field.set_image(namespace, "web", "v2").await?;
            let start = Instant::now();
            self.until("promoting", 1, || {
                usize::from(self.statuses.phase(&rollout) == "Promoting")
            })
            .await?;
            let promoted = start.elapsed();
            let after = self.usage().await?;
            let mut delays: Vec<u64> = self
                .statuses
                .take()
                .iter()
                .map(|each| each.seen.saturating_sub(each.decided))
                .collect();
            self.row(what, format!("{} MB more, {:.1} s of processor time; to promotion in {:.0} s with {:.1} s, write {}",
                megabytes(made.memory.saturating_sub(before.memory)), (made.cpu - before.cpu).as_secs_f64(),
                promoted.as_secs_f64(), (after.cpu - made.cpu).as_secs_f64(), percentiles(&mut delays)));
        }
        Ok(())
    }

    /// Waits until so many are there; how long that took, or `None` when patience ends.
    async fn until(
        &self,
        what: &str,
        wanted: usize,
        count: impl Fn() -> usize,
    ) -> anyhow::Result<Option<Duration>> {
        let start = Instant::now();
        let mut said = start;
        while count() < wanted {
            if start.elapsed() > self.patience() {
                self.say(&format!("{} of {wanted} {what}: patience ends", count()));
                return Ok(None);
            }
            if said.elapsed() > Duration::from_secs(10) {
                said = Instant::now();
                let usage = self.usage().await?;
                self.say(&format!(
                    "{} of {wanted} {what}; {} MB, {} requests so far",
                    count(),
                    megabytes(usage.memory),
                    usage.requests
                ));
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(Some(start.elapsed()))
    }

    /// Waits until the operator neither asks nor computes; since when, or `None` when it goes on and on.
    async fn rest(&self) -> anyhow::Result<Option<Instant>> {
        let start = Instant::now();
        let (mut since, mut before) = (start, self.usage().await?);
        while start.elapsed() < Duration::from_secs(120).min(self.patience()) {
            let window = Instant::now();
            tokio::time::sleep(QUIET).await;
            let now = self.usage().await?;
            let busy = (now.cpu - before.cpu).as_secs_f64() / window.elapsed().as_secs_f64();
            if now.requests != before.requests || busy > 0.05 {
                since = Instant::now();
            } else if since.elapsed() > Duration::from_secs(3) {
                return Ok(Some(since));
            }
            before = now;
        }
        self.say("the operator does not come to rest");
        Ok(None)
    }

    fn patience(&self) -> Duration {
        Duration::from_secs(self.arguments.patience)
    }

    async fn usage(&self) -> anyhow::Result<Usage> {
        self.gauge
            .read(&self.operator)
            .await
            .context("the operator is not there any more")
    }

    async fn usage_of_requests(&self) -> anyhow::Result<u64> {
        Ok(self.gauge.requests().await?)
    }

    fn say(&self, line: &str) {
        eprintln!("[{:5.1}s] {line}", self.started.elapsed().as_secs_f64());
    }

    fn row(&mut self, what: &str, value: String) {
        self.say(&format!("{what}: {value}"));
        self.table.push((what.to_owned(), value));
    }
}

fn percentiles(millis: &mut [u64]) -> String {
    let mut at = |percent| {
        percentile(millis, percent).map_or_else(|| "-".to_owned(), |value| value.to_string())
    };
    format!("p50 {} ms, p99 {} ms", at(50), at(99))
}

fn megabytes(bytes: u64) -> u64 {
    bytes / 1_000_000
}
