//! Parses, wires, exits.

use anyhow::Context;
use aviary_proxy::cli::{Cli, Command, Init, LogFormat, Run};
use aviary_proxy::{ads, init, run};
use clap::Parser;
use tokio::runtime::{Builder, LocalOptions};
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::spawn_local;
use tracing_subscriber::EnvFilter;

fn main() -> anyhow::Result<()> {
    let cli = Cli::parse();
    let filter =
        EnvFilter::try_new(&cli.log).with_context(|| format!("`{}` is no log filter", cli.log))?;
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    match cli.log_format {
        LogFormat::Human => subscriber.init(),
        LogFormat::Json => subscriber.json().init(),
    }
    match cli.command {
        Command::Init(init) => redirect(&init),
        Command::Run(run) => serve(&run),
    }
}

fn redirect(flags: &Init) -> anyhow::Result<()> {
    let redirect = flags.redirect();
    init::apply(&flags.nft, &redirect)?;
    tracing::info!(
        outbound = redirect.outbound_port,
        inbound = redirect.inbound_port,
        uid = redirect.uid,
        "redirect rules are set"
    );
    Ok(())
}

fn serve(flags: &Run) -> anyhow::Result<()> {
    // Refused only if a provider is installed already, and then it is this one.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let mut proxy = run::Proxy::start(flags.options())?;
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        outbound = ?proxy.outbound,
        inbound = ?proxy.inbound,
        admin = ?proxy.admin,
        workers = flags.workers,
        "listening"
    );
    let runtime = Builder::new_current_thread()
        .enable_all()
        .build_local(LocalOptions::default())?;
    runtime.block_on(async {
        if let Some(demands) = proxy.demands() {
            let (control_plane, data) = (flags.control_plane(), proxy.data.clone());
            spawn_local(async move {
                if let Err(error) = ads::run(control_plane, data, demands).await {
                    tracing::error!(%error, "there will be no configuration: everything is passed through");
                }
            });
        }
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        proxy
            .serve(async {
                tokio::select! {
                    _ = terminate.recv() => {}
                    _ = interrupt.recv() => {}
                }
            })
            .await?;
        Ok(())
    })
}
