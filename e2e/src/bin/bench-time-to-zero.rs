//! `make bench-time-to-zero`: from the first bad answer of a release to weight 0 on every proxy, on a real cluster.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use aviary_crds::status::Phase;
use aviary_e2e::harness::{Faults, Ground, Shop, Stage, Workload, zero_on_every_proxy};
use aviary_e2e::images::Profile;
use clap::Parser;
use serde_json::json;

/// Releases that fail, and how long it takes until nobody gets them any more.
///
/// For each rate, weight and share of failures a release is made some times; the table has the median and the worst. Windows
/// of the checks are longer than all of it, so what is measured is the guard. One caller's requests cost this machine too:
/// rates that it cannot send are said.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// Requests a second
    #[arg(long, value_delimiter = ',', default_value = "50,500")]
    rates: Vec<u32>,
    /// The canary's weight, in percent
    #[arg(long, value_delimiter = ',', default_value = "1,10,50")]
    weights: Vec<i32>,
    /// Shares of the canary's requests that fail
    #[arg(long, value_delimiter = ',', default_value = "100%,50%,10%,5%")]
    errors: Vec<String>,
    /// How much longer the canary takes for each request, instead of failing
    #[arg(long, value_delimiter = ',')]
    slow: Vec<String>,
    /// Releases of each
    #[arg(long, default_value_t = 3)]
    runs: usize,
    /// Seconds for which a good release is watched at each rate, weight and noise instead, all side by side; 0 is not at all
    #[arg(long, default_value_t = 0)]
    good: u64,
    /// Shares of the requests of good releases, and of what they replace, that fail by chance
    #[arg(long, value_delimiter = ',', default_value = "0.1%,1%")]
    noise: Vec<String>,
    /// Measure what is built for the tests: quick to build, and a few times as much work for each request
    #[arg(long)]
    unoptimised: bool,
}

/// What became of one release.
#[derive(Clone, Copy, Debug)]
struct Fall {
    millis: i64,
    /// Requests that failed, or were slow.
    harmed: u64,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    rustls::crypto::aws_lc_rs::default_provider()
        .install_default()
        .ok();
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench-time-to-zero: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let profile = if arguments.unoptimised {
        Profile::Test
    } else {
        Profile::Release
    };
    let ground = Ground::prepare("the benchmark", profile, |line| eprintln!("{line}"))?;
    let measured = ground.run(|| measure(&ground, arguments))?;
    ground.stop()?;
    measured
}

async fn measure(ground: &Ground, arguments: &Arguments) -> anyhow::Result<()> {
    let stage = Stage::enter(ground).await?;
    stage.install().await?;
    if arguments.good > 0 {
        return watch(&stage, arguments).await;
    }
    println!(
        "{:<12}{:<8}{:<18}{:>16}{:>24}",
        "requests/s", "weight", "the canary", "seconds (worst)", "bad answers (worst)"
    );
    let mut number = 0;
    for rate in &arguments.rates {
        for weight in &arguments.weights {
            number += 1;
            let workload = workload(*rate, *weight);
            let shop = Shop::open(&stage, &format!("bench-{number}"), &workload).await?;
            let errors = arguments.errors.iter().map(|share| Faults::Errors(share));
            let slow = arguments.slow.iter().map(|time| Faults::Slow(time));
            for faults in errors.chain(slow) {
                let mut falls = Vec::new();
                for run in 0..arguments.runs {
                    let name = faults.environment().to_lowercase();
                    let name = name.replace(['_', '=', '%'], "-");
                    falls.push(fall(&shop, &format!("{name}{run}"), *weight, faults).await?);
                }
                show(*rate, *weight, faults, &mut falls);
            }
            shop.close().await?;
        }
    }
    Ok(())
}

/// Windows of the checks are longer than a release is watched.
fn workload(rate: u32, weight: i32) -> Workload {
    Workload::of_a_story()
        .rate(rate)
        .steps(&[(weight, "1h"), (100, "1m")])
        .with("/analysis/interval", json!("30m"))
}

/// Good releases, each with a caller and a service of its own.
async fn watch(stage: &Stage, arguments: &Arguments) -> anyhow::Result<()> {
    println!(
        "{:<12}{:<8}{:<8}{:<14}{:>10}{:>10}{:>20}{:>20}",
        "requests/s",
        "weight",
        "noise",
        "the release",
        "evidence",
        "held back",
        "canary failed",
        "stable failed"
    );
    let mut cells = Vec::new();
    for rate in &arguments.rates {
        for weight in &arguments.weights {
            for noise in &arguments.noise {
                let name = format!("bench-{}", cells.len() + 1);
                let cell = Good {
                    rate: *rate,
                    weight: *weight,
                    noise,
                };
                cells.push(cell.watch(stage, name, arguments.good));
            }
        }
    }
    futures::future::try_join_all(cells).await?;
    Ok(())
}

/// One release that is bad from its first request on. Each has a version of its own: the caller counts by version.
async fn fall(shop: &Shop, version: &str, weight: i32, faults: Faults<'_>) -> anyhow::Result<Fall> {
    let mark = shop.record.mark();
    shop.release(version, faults).await?;
    shop.until_soaking(mark, weight).await?;
    shop.until_phase(mark, Phase::Failed).await?;
    let moments = shop.record.since(mark);
    let zero = zero_on_every_proxy(&moments).context("no moment of weight 0")?;
    let stats = shop.stats().await?;
    let bad = stats.versions.get(version).copied().unwrap_or_default();
    let (first, harmed) = match faults {
        Faults::Slow(_) => (Some(bad.first), bad.answered),
        Faults::Errors(_) | Faults::None => (bad.first_bad, bad.failed),
    };
    let first = first.context("it never failed")?;
    let mark = shop.record.mark();
    shop.release("v1", Faults::None).await?;
    shop.until_phase(mark, Phase::Stable).await?;
    shop.until_no_copy().await?;
    Ok(Fall {
        millis: zero - first,
        harmed,
    })
}

/// A release that is no worse than what it replaces: it must stay.
#[derive(Clone, Copy)]
struct Good<'a> {
    rate: u32,
    weight: i32,
    noise: &'a str,
}

impl Good<'_> {
    async fn watch(self, stage: &Stage, name: String, seconds: u64) -> anyhow::Result<()> {
        let Good {
            rate,
            weight,
            noise,
        } = self;
        let workload = workload(rate, weight).noise(noise);
        let shop = Shop::open(stage, &name, &workload).await?;
        let mark = shop.record.mark();
        shop.release("v2", Faults::None).await?;
        shop.until_soaking(mark, weight).await?;
        // It is watched for this long: that is what is measured.
        tokio::time::sleep(Duration::from_secs(seconds)).await;
        let moments = shop.record.since(mark);
        let fell = moments.iter().any(|moment| {
            matches!(
                moment.status.phase,
                Some(Phase::RollingBack | Phase::Failed)
            )
        });
        let events = shop.events().await?;
        let held_back = events.iter().filter(|event| event.reason == "HeldBack");
        let held_back = held_back.count();
        let guard = shop.status().await?.guard.unwrap_or_default();
        println!(
            "{rate:<12}{:<8}{noise:<8}{:<14}{:>10}{held_back:>10}{:>20}{:>20}",
            format!("{weight}%"),
            if fell { "ROLLED BACK" } else { "stays" },
            guard.evidence,
            format!("{} of {}", guard.failed, guard.requests),
            format!("{} of {}", guard.stable_failed, guard.stable_requests),
        );
        shop.close().await?;
        Ok(())
    }
}

fn show(rate: u32, weight: i32, faults: Faults<'_>, falls: &mut [Fall]) {
    falls.sort_by_key(|fall| fall.millis);
    let median = falls[falls.len() / 2];
    let slowest = falls.iter().map(|fall| fall.millis).max().unwrap_or(0);
    let most = falls.iter().map(|fall| fall.harmed).max().unwrap_or(0);
    let seconds = |millis: i64| millis as f64 / 1000.0;
    println!(
        "{rate:<12}{:<8}{:<18}{:>16}{:>24}",
        format!("{weight}%"),
        faults.environment(),
        format!("{:.1} ({:.1})", seconds(median.millis), seconds(slowest)),
        format!("{} ({most})", median.harmed)
    );
}
