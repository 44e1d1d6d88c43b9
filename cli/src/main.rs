//! Parses the command line, connects, and ends with the exit code of what was asked for.

use std::process::ExitCode;

use aviary_crds::request;
use clap::Parser;
use kubectl_aviary::args::{Command, ProxyVerb, Verb};
use kubectl_aviary::cluster::{Cluster, ClusterError};
use kubectl_aviary::exit::Exit;
use kubectl_aviary::{check, complete, proxy, status, uninstall, verb, why};

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let command = Command::parse();
    if rustls::crypto::aws_lc_rs::default_provider()
        .install_default()
        .is_err()
    {
        eprintln!("error: a TLS provider was installed before main");
        return Exit::Unusable.into();
    }
    match run(command).await {
        Ok(exit) => exit.into(),
        Err(error) => {
            eprintln!("error: {error}");
            Exit::Unusable.into()
        }
    }
}

async fn run(command: Command) -> Result<Exit, ClusterError> {
    let access = &command.access;
    let (verb, args) = match &command.verb {
        Verb::Status(args) => {
            let cluster = Cluster::connect(access).await?;
            return status::status(&cluster, args).await;
        }
        Verb::Why(args) => return why::print(&Cluster::connect(access).await?, args).await,
        Verb::Check(args) => return check::check(&Cluster::connect(access).await?, args).await,
        Verb::Proxy(ProxyVerb::Status(args)) => {
            return proxy::status(&Cluster::connect(access).await?, args).await;
        }
        Verb::Proxy(ProxyVerb::Config(args)) => {
            return proxy::config(&Cluster::connect(access).await?, args).await;
        }
        Verb::Uninstall(args) => {
            return uninstall::uninstall(&Cluster::connect(access).await?, args).await;
        }
        Verb::Undo(args) => return Ok(verb::not_there(request::Verb::Undo, args)),
        Verb::Restart(args) => return Ok(verb::not_there(request::Verb::Restart, args)),
        Verb::Completion { shell } => return Ok(complete::script(*shell)),
        Verb::Complete { words } => return Ok(complete::complete(access, words).await),
        Verb::Promote { args, now: true } => (request::Verb::PromoteNow, args),
        Verb::Promote { args, now: false } => (request::Verb::Promote, args),
        Verb::Abort(args) => (request::Verb::Abort, args),
        Verb::Retry(args) => (request::Verb::Retry, args),
        Verb::Pause(args) => (request::Verb::Pause, args),
        Verb::Resume(args) => (request::Verb::Resume, args),
    };
    verb::request(&Cluster::connect(access).await?, verb, args).await
}
