//! `e2e-cluster`: the local cluster from the command line, for people and for make.

use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use aviary_e2e::cluster::{self, Access, Cluster, Found, Options};
use aviary_e2e::control_plane::ControlPlane;
use aviary_e2e::images::{self, Profile};
use aviary_e2e::prometheus::Prometheus;
use clap::{Parser, Subcommand};

/// A real single-node Kubernetes on this machine, for Aviary's tests and demo.
///
/// Needs root on Linux and the packages that e2e/setup.sh installs; no Docker, no image registry.
/// It runs in namespaces of its own and leaves nothing behind.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Start the cluster, and end it again on Ctrl-C
    Up(Up),
    /// End a cluster that was left running, and remove what a killed one left behind
    Down,
    /// Run kubectl as the cluster's administrator
    #[command(disable_help_flag = true)]
    Kubectl {
        /// What kubectl is to do
        #[arg(
            trailing_var_arg = true,
            allow_hyphen_values = true,
            value_name = "ARGS"
        )]
        args: Vec<String>,
    },
    /// Import image archives into the running cluster
    Import {
        #[arg(required = true, value_name = "TAR")]
        images: Vec<PathBuf>,
    },
    /// Build Aviary's programs and write an image archive for each
    Images {
        /// The directory for the archives; made if it does not exist
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
        /// How to build them
        #[arg(long, value_enum, default_value = "dev")]
        profile: Profile,
    },
    /// Start a control plane alone, with pods that only seem to run, and end it on Ctrl-C; needs no root
    ControlPlane,
    /// Open a shell in which kubectl is that of the cluster, or run a program there
    #[command(disable_help_flag = true)]
    Shell {
        /// The program and its arguments; by default your shell
        #[arg(
            trailing_var_arg = true,
            allow_hyphen_values = true,
            value_name = "PROGRAM"
        )]
        program: Vec<String>,
    },
}

#[derive(Debug, clap::Args)]
struct Up {
    /// An image archive to import; may be repeated
    #[arg(long = "image", value_name = "TAR")]
    images: Vec<PathBuf>,
    /// Run a Prometheus too, which pods find at http://prometheus.monitoring:9090
    #[arg(long)]
    prometheus: bool,
    /// Return when it is ready, and leave it running until `down`
    #[arg(long)]
    detach: bool,
}

fn main() -> ExitCode {
    run(Arguments::parse().verb).unwrap_or_else(|error| {
        eprintln!("e2e-cluster: {error:#}");
        ExitCode::FAILURE
    })
}

fn run(verb: Verb) -> anyhow::Result<ExitCode> {
    match verb {
        Verb::Up(arguments) => up(arguments)?,
        Verb::Down => match cluster::down()? {
            Found::Nothing => println!("There is no local cluster."),
            Found::Remains => println!("Removed what a killed cluster left."),
            Found::Cluster => println!("The local cluster is gone."),
        },
        Verb::Kubectl { args } => {
            let status = Access::find()?
                .kubectl(&args)
                .status()
                .context("cannot run nsenter (util-linux)")?;
            return Ok(ExitCode::from(
                status
                    .code()
                    .and_then(|code| u8::try_from(code).ok())
                    .unwrap_or(1),
            ));
        }
        Verb::Import { images } => Access::find()?.import_images(&images)?,
        Verb::Images { out, profile } => {
            images::build(profile, &out, say)?;
        }
        Verb::ControlPlane => {
            let control_plane = ControlPlane::start(say)?;
            println!("export KUBECONFIG={}", control_plane.kubeconfig().display());
            wait_for_signal();
        }
        Verb::Shell { program } => {
            let access = Access::find()?;
            if program.is_empty() {
                println!(
                    "kubectl and kubectl aviary are the local cluster's here. `exit` leaves this shell; `make down` ends the cluster."
                );
            }
            let error = access.shell(&program)?.exec();
            return Err(error).context("cannot run nsenter (util-linux)");
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn up(arguments: Up) -> anyhow::Result<()> {
    let holder = "e2e-cluster up".to_owned();
    let cluster = Cluster::start(
        &Options {
            images: arguments.images,
            holder,
        },
        say,
    )?;
    if arguments.prometheus {
        Prometheus::start(&cluster)?;
    }
    if arguments.detach {
        println!("{}", cluster.keep()?);
        return Ok(());
    }
    println!("{}", cluster.access().usage());
    println!("  or Ctrl-C here");
    wait_for_signal()
}

/// The signals' own thread cleans up and ends this process.
fn wait_for_signal() -> ! {
    loop {
        std::thread::park();
    }
}

fn say(line: &str) {
    eprintln!("{line}");
}
