//! The sidecar as `aviary-proxy run` is, flags and all, but for one thing: where a connection was going is not asked of the kernel.
//! So it can be measured without redirect rules, whose price in the kernel the other proxies would not pay.

use std::net::SocketAddr;
use std::sync::Arc;

use aviary_proxy::cli::Run;
use aviary_proxy::net::origin::{OriginalDestination, Side};
use aviary_proxy::program;
use aviary_proxy::run::Options;
use clap::Parser;
use tokio::net::TcpStream;
use tracing_subscriber::EnvFilter;

#[derive(Parser)]
struct Sidecar {
    /// Where every connection that goes out was going.
    #[arg(long)]
    service: SocketAddr,
    /// Where every connection that comes in was going.
    #[arg(long)]
    application: SocketAddr,
    #[command(flatten)]
    run: Run,
}

struct Always {
    service: SocketAddr,
    application: SocketAddr,
}

impl OriginalDestination for Always {
    fn of(&self, _: &TcpStream, side: Side) -> std::io::Result<SocketAddr> {
        Ok(match side {
            Side::Outbound => self.service,
            Side::Inbound => self.application,
        })
    }
}

fn main() -> anyhow::Result<()> {
    let Sidecar {
        service,
        application,
        run,
    } = Sidecar::parse();
    tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::new("info"))
        .with_writer(std::io::stderr)
        .init();
    let options = Options {
        origin: Arc::new(Always {
            service,
            application,
        }),
        ..run.options()
    };
    Ok(program::run(options, run.control_plane())?)
}
