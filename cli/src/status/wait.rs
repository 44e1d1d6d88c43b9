//! `status --wait`: until the release of the newest template has ended.
//!
//! The template is the one that the Deployment asks for when the wait begins. What the CanaryRollout says counts only where it
//! names that template's revision ([`crate::standing`]), so the end of an earlier release is never taken for this one's.

mod end;

use std::time::Duration;

use jiff::Timestamp;
use tokio::time::{Instant, sleep_until};

use super::follow::{Followed, Known};
use super::json;
use crate::args::{Output, StatusArgs};
use crate::cluster::{Cluster, ClusterError};
use crate::exit::Exit;
use crate::lines::progress;
use crate::out;
use crate::standing::{Standing, standing};
use crate::template::Template;
use crate::view::view;
use end::{LASTS, end, timeout};

pub(super) async fn wait(
    cluster: &Cluster,
    name: &str,
    args: &StatusArgs,
) -> Result<Exit, ClusterError> {
    let mut followed = Followed::begin(cluster, name).await?;
    let asked = asked(&followed.known, cluster, name)?;
    tell(&format!(
        "waiting for the release of revision {}",
        asked.revision
    ));
    let began = Instant::now();
    let deadline = args.timeout.0.map(|length| began + length);
    let mut told = String::new();
    let end = loop {
        let now = says(&followed, &asked, began.elapsed());
        if now != told {
            tell(&now);
            told = now;
        }
        if let Some(end) = end(&followed.known, &asked, began.elapsed()) {
            break end;
        }
        if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
            break timeout(&followed.known, &asked);
        }
        // What lasts is looked at again when it has lasted.
        let lasts = Some(began + LASTS).filter(|at| *at > Instant::now());
        let next = [deadline, lasts].into_iter().flatten().min();
        tokio::select! {
            () = followed.changed() => {}
            () = at(next) => {}
        }
    };
    match args.output {
        Some(Output::Json) => out::line(json(&end)),
        None => out::line(end.sentence(name)),
    }
    Ok(end.outcome.exit())
}

async fn at(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time).await,
        None => std::future::pending().await,
    }
}

/// The template that the Deployment asks for at the beginning.
fn asked(known: &Known, cluster: &Cluster, name: &str) -> Result<Template, ClusterError> {
    let target = known
        .rollout
        .as_ref()
        .map(|it| it.spec.target_ref.name.clone());
    known
        .template
        .clone()
        .ok_or_else(|| ClusterError::NoDeployment {
            name: target.unwrap_or_default(),
            namespace: cluster.namespace().to_owned(),
            rollout: name.to_owned(),
        })
}

/// What a pipeline's log gets whenever it differs from what it got last.
fn says(followed: &Followed, asked: &Template, elapsed: Duration) -> String {
    if let Some(why) = followed.lost() {
        return format!("the API server cannot be watched ({why}): tried again");
    }
    let Some(rollout) = &followed.known.rollout else {
        return "the CanaryRollout was deleted".to_owned();
    };
    match standing(rollout, asked) {
        Standing::Unseen if elapsed >= LASTS => {
            let said = rollout.status.as_ref().and_then(|it| it.message.as_deref());
            format!(
                "the release of revision {} has not begun: {}",
                asked.revision,
                said.unwrap_or("the operator has not said anything; does it run?")
            )
        }
        Standing::Unseen | Standing::Blocked { .. } => {
            format!("the release of revision {} has not begun", asked.revision)
        }
        Standing::Runs | Standing::Waits { .. } | Standing::Serves | Standing::Failed { .. } => {
            progress(&view(rollout, Some(asked), Vec::new()))
        }
    }
}

fn tell(line: &str) {
    eprintln!("{}  {line}", Timestamp::now().strftime("%H:%M:%SZ"));
}
