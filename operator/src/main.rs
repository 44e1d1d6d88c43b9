//! The control plane of Aviary: parses its flags, starts a replica, has it decide while it holds the Lease, and waits for the end.

mod replica;

use std::time::Duration;

use anyhow::Context as _;
use aviary_operator::cli::{Cli, Command};
use aviary_operator::inject;
use aviary_operator::options::{LogFormat, Options};
use clap::Parser;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::{JoinError, JoinSet};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;

/// Gives back what lists of many objects took for a moment, and leaves no holes: the C library keeps three times as much.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Proxies are sent away when another replica is there to take them, and no later than this.
const HAND_OVER: Duration = Duration::from_secs(1);

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let Cli { command, options } = Cli::parse();
    if let Some(Command::Inject(flags)) = command {
        let (mut out, mut told) = (std::io::stdout(), std::io::stderr());
        let done = inject::run(&flags, &mut out, &mut told).await;
        return done.map_err(|error| anyhow::anyhow!("{error}"));
    }
    log_to_stderr(&options)?;
    rustls::crypto::aws_lc_rs::default_provider()
        .install_default()
        .map_err(|_| anyhow::anyhow!("a TLS provider was installed before main"))?;
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        namespace = options.namespace,
        "aviary-operator starts"
    );
    let (stop, mut tasks) = (CancellationToken::new(), JoinSet::new());
    let asked = asked_to_end();
    let started = asked.run_until_cancelled(replica::start(options, &stop, &mut tasks));
    let Some(replica) = started.await.transpose()? else {
        return Ok(());
    };
    let (mut keeper, standby) = replica;
    let tenure = tokio::select! {
        () = asked.cancelled() => None,
        ended = tasks.join_next() => return by_itself(ended),
        (tenure, standby) = standby.until(keeper.acquire()) => Some((tenure, standby)),
    };
    if let Some((tenure, standby)) = tenure {
        let deciding = stop.child_token();
        let (held, until) = (tenure.clone(), deciding.clone());
        let mut keeping = tokio::spawn(async move {
            until.run_until_cancelled(keeper.keep(&held)).await;
            keeper
        });
        tokio::select! {
            _ = &mut keeping => return lost(),
            () = asked.cancelled() => {}
            decides = standby.decide(&tenure, &stop, &deciding, &mut tasks) => decides?,
        }
        tokio::select! {
            _ = &mut keeping => return lost(),
            () = asked.cancelled() => {}
            ended = tasks.join_next() => return by_itself(ended),
        }
        deciding.cancel();
        let mut keeper = keeping.await.context("the Lease was kept")?;
        keeper.release(&tenure).await;
        keeper.succeeded(HAND_OVER).await;
    }
    tracing::info!("asked to end");
    stop.cancel();
    // What is under way gets a moment; streams are told to connect again.
    let rest = async { while tasks.join_next().await.is_some() {} };
    let _ = tokio::time::timeout(Duration::from_secs(2), rest).await;
    Ok(())
}

fn by_itself(ended: Option<Result<(), JoinError>>) -> anyhow::Result<()> {
    if let Some(ended) = ended {
        ended.context("a part of the operator panicked")?;
    }
    anyhow::bail!("a part of the operator ended by itself; the log above says which");
}

fn lost() -> anyhow::Result<()> {
    anyhow::bail!(
        "the Lease is lost: another replica decides now, or may; this one ends at once, and stands by when it is started again"
    );
}

/// Cancelled by a signal.
fn asked_to_end() -> CancellationToken {
    let asked = CancellationToken::new();
    let (Ok(mut term), Ok(mut int)) = (
        signal(SignalKind::terminate()),
        signal(SignalKind::interrupt()),
    ) else {
        return asked;
    };
    let by_signal = asked.clone();
    tokio::spawn(async move {
        tokio::select! { _ = term.recv() => {}, _ = int.recv() => {} }
        by_signal.cancel();
    });
    asked
}

fn log_to_stderr(options: &Options) -> anyhow::Result<()> {
    let filter = options.log_filter(std::env::var("RUST_LOG").ok());
    let filter = EnvFilter::try_new(&filter)
        .with_context(|| format!("--log: `{filter}` is no log filter: write a level, such as info, or info,aviary_operator=debug"))?;
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    match options.log_format {
        LogFormat::Json => log.json().flatten_event(true).init(),
        LogFormat::Text => log.init(),
    }
    Ok(())
}
