//! The sidecar as `aviary-proxy run` is, flags and all, but for one thing: where a connection was going is not asked of the kernel.
//! So it can be measured without redirect rules, whose price in the kernel the other proxies would not pay.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Context;
use aviary_proxy::ads;
use aviary_proxy::cli::Run;
use aviary_proxy::net::origin::{OriginalDestination, Side};
use aviary_proxy::run::{Options, Proxy};
use clap::Parser;
use tokio::net::TcpStream;
use tokio::runtime::{Builder, LocalOptions};
use tokio::task::spawn_local;
use tracing_subscriber::EnvFilter;

#[derive(Parser)]
struct Sidecar {
    /// Where every connection was going.
    #[arg(long)]
    service: SocketAddr,
    #[command(flatten)]
    run: Run,
}

struct Always(SocketAddr);

impl OriginalDestination for Always {
    fn of(&self, _: &TcpStream, _: Side) -> std::io::Result<SocketAddr> {
        Ok(self.0)
    }
}

fn main() -> anyhow::Result<()> {
    let Sidecar { service, run } = Sidecar::parse();
    tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::new("info"))
        .with_writer(std::io::stderr)
        .init();
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let mut proxy = Proxy::start(Options {
        origin: Arc::new(Always(service)),
        ..run.options()
    })?;
    let demands = proxy.demands().context("demands are taken once")?;
    let (control_plane, data) = (run.control_plane(), proxy.data.clone());
    let runtime = Builder::new_current_thread()
        .enable_all()
        .build_local(LocalOptions::default())?;
    runtime.block_on(async {
        spawn_local(async move {
            if let Err(error) = ads::run(control_plane, data, demands).await {
                eprintln!("no configuration: {error}");
            }
        });
        proxy.serve(std::future::pending()).await
    })?;
    Ok(())
}
