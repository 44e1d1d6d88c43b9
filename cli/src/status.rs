//! `kubectl aviary status`: asks, follows, waits.

mod follow;
mod screen;
mod wait;
mod watch;

use std::io::IsTerminal;

use jiff::Timestamp;

use crate::args::{Output, StatusArgs};
use crate::cluster::{Cluster, ClusterError};
use crate::exit::Exit;
use crate::lines::plain;
use crate::list::list;
use crate::out;
use crate::view::{View, view};

/// What it prints besides goes to the standard error.
pub async fn status(cluster: &Cluster, args: &StatusArgs) -> Result<Exit, ClusterError> {
    let Some(name) = &args.name else {
        return all(cluster, args).await;
    };
    if args.wait {
        return wait::wait(cluster, name, args).await;
    }
    if args.watch {
        return watch::watch(cluster, name, args).await;
    }
    let view = one(cluster, name).await?;
    match args.output {
        Some(Output::Json) => out::line(json(&view)),
        None => out::line(plain(&view, Timestamp::now(), width())),
    }
    Ok(Exit::Done)
}

async fn one(cluster: &Cluster, name: &str) -> Result<View, ClusterError> {
    let rollout = cluster.rollout(name).await?;
    let (template, events) = tokio::join!(cluster.template(&rollout), cluster.events(name));
    // Whoever may not read Deployments sees the rest.
    Ok(view(&rollout, template.ok().flatten().as_ref(), events))
}

async fn all(cluster: &Cluster, args: &StatusArgs) -> Result<Exit, ClusterError> {
    let rollouts = cluster.rollouts(args.all_namespaces).await?;
    let views: Vec<View> = rollouts
        .iter()
        .map(|rollout| view(rollout, None, Vec::new()))
        .collect();
    match args.output {
        Some(Output::Json) => out::line(json(&views)),
        None if views.is_empty() && args.all_namespaces => {
            eprintln!("no CanaryRollout in the cluster");
        }
        None if views.is_empty() => {
            eprintln!("no CanaryRollout in namespace {}", cluster.namespace());
        }
        None => {
            for line in list(&views, Timestamp::now(), args.all_namespaces) {
                out::line(line);
            }
        }
    }
    Ok(Exit::Done)
}

fn json(value: &impl serde::Serialize) -> String {
    serde_json::to_string_pretty(value).expect("a view has string keys and finite numbers")
}

/// Of the terminal; a pipe or a file is as wide as it is.
fn width() -> usize {
    let size = std::io::stdout()
        .is_terminal()
        .then(ratatui::termion::terminal_size);
    size.and_then(Result::ok)
        .map_or(usize::MAX, |(width, _)| width.into())
}
