//! `make demo`: a good release and a bad one, live, on a real cluster.

use std::process::ExitCode;

use anyhow::Context;
use aviary_e2e::demo::{self, Show, Summary};
use aviary_e2e::harness::{Before, Ground, Stage};
use aviary_e2e::images::Profile;
use clap::Parser;

/// A good and a bad release of a payment service under steady load, shown live.
///
/// Starts a local Kubernetes (root on Linux, no Docker), or uses yours: E2E_KUBECONFIG=/path with PROMETHEUS_URL and
/// IMAGES. Leaves nothing behind, unless KEEP=1.
#[derive(Parser)]
struct Arguments {
    /// Leave the cluster and the namespace shop as they are at the end, and say how to use them
    #[arg(long, env = "KEEP", value_parser = clap::builder::FalseyValueParser::new(), default_value_t = false)]
    keep: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if rustls::crypto::aws_lc_rs::default_provider()
        .install_default()
        .is_err()
    {
        eprintln!("aviary-demo: another crypto provider is installed already");
    }
    match run(&arguments) {
        Ok(summary) if summary.is_as_expected() => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("aviary-demo: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> anyhow::Result<Summary> {
    let mut show = Show::on_standard_output();
    let ground = Ground::prepare("make demo", Profile::Dev, |line| show.say(line))?;
    let played = ground.run(|| perform(&ground, &mut show, arguments))?;
    if let Ok(summary) = &played {
        println!("\n{}", summary.render());
    }
    if arguments.keep {
        keep(ground)?;
    } else {
        ground.stop()?;
    }
    played
}

async fn perform(
    ground: &Ground,
    show: &mut Show,
    arguments: &Arguments,
) -> anyhow::Result<Summary> {
    let stage = Stage::enter(ground).await?;
    let mut before = Before::Nothing;
    let playing = async {
        before = demo::install(&stage, show).await?;
        anyhow::Ok(demo::play(&stage, show).await?)
    };
    let played = tokio::select! {
        played = playing => played,
        () = interrupted(ground) => Err(anyhow::anyhow!("interrupted")),
    };
    if let (Ground::Yours { .. }, false) = (ground, arguments.keep) {
        show.say(
            "removing the namespace shop from your cluster, and Aviary unless it was there before",
        );
        stage
            .kubectl
            .ok(&[
                "delete",
                "namespace",
                "shop",
                "--ignore-not-found",
                "--timeout=180s",
            ])
            .await?;
        if before == Before::Nothing {
            stage.uninstall().await?;
        }
    }
    played
}

/// The local cluster ends by itself on Ctrl-C; what was put into the user's has to be taken out.
async fn interrupted(ground: &Ground) {
    match ground {
        Ground::Local { .. } => std::future::pending().await,
        Ground::Yours { .. } => aviary_e2e::app::serve::asked_to_stop().await,
    }
}

fn keep(ground: Ground) -> anyhow::Result<()> {
    match ground.keep().context("the cluster could not be kept")? {
        Some(usage) => println!("{usage}\nTry, in that shell:"),
        None => println!("Your cluster keeps the namespaces shop and aviary-system. Go on with:"),
    }
    println!("  kubectl set env deployment/payment -n shop VERSION=v5 ERROR_RATE=50%");
    println!("  kubectl get canaryrollout payment -n shop --watch");
    println!("README.md goes on from here: \"Ten minutes\", step 1.");
    Ok(())
}
