//! Parses, wires, exits.

use anyhow::Context;
use aviary_proxy::cli::{Cli, Command, Init, LogFormat};
use aviary_proxy::{init, program};
use clap::Parser;
use tracing_subscriber::EnvFilter;

fn main() -> anyhow::Result<()> {
    let cli = Cli::parse();
    let filter = EnvFilter::try_new(&cli.log).with_context(|| {
        format!(
            "--log: `{}` is no log filter: write a level, such as info, or info,aviary_proxy=debug",
            cli.log
        )
    })?;
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    match cli.log_format {
        LogFormat::Text => subscriber.init(),
        LogFormat::Json => subscriber.json().flatten_event(true).init(),
    }
    match cli.command {
        Command::Init(init) => redirect(&init),
        Command::Run(run) => Ok(program::run(run.options(), run.control_plane())?),
    }
}

fn redirect(flags: &Init) -> anyhow::Result<()> {
    let redirect = flags.redirect();
    let own = init::apply(&flags.nft, &redirect)?;
    if own == init::Own::NotAsked {
        tracing::warn!(
            "this kernel does not tell which addresses are the pod's own (nftables' fib): what is sent here for others is refused by the sidecar alone"
        );
    }
    tracing::info!(
        outbound = redirect.outbound_port,
        inbound = redirect.inbound_port,
        uid = redirect.uid,
        "redirect rules are set"
    );
    Ok(())
}
