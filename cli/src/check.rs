//! `kubectl aviary check`: whether Aviary is installed so that it works, and whether a release could.
//!
//! [`facts`] asks the cluster, [`installation`], [`pods`] and [`release`] judge (pure), [`words`] says it. What cannot be read
//! is said to be unknown, and is no failure: a release manager seldom may read all of this.

mod certificate;
mod configuration;
mod facts;
mod finding;
mod installation;
mod ours;
mod pods;
mod read;
mod release;
mod sidecar;
mod types;
mod words;

use std::time::SystemTime;

use crate::args::{CheckArgs, Output};
use crate::cluster::{Cluster, ClusterError};
use crate::exit::Exit;
use crate::out;

use finding::{Finding, Outcome};

/// Checks, and prints what was found. Ends with 1 if anything failed.
pub async fn check(cluster: &Cluster, args: &CheckArgs) -> Result<Exit, ClusterError> {
    let facts = facts::of_installation(cluster, &args.operator_namespace).await?;
    let mut findings = installation::judge(&facts, SystemTime::now());
    let namespaces = facts::of_pods(cluster, args.name.is_some()).await;
    findings.extend(pods::judge(&namespaces, facts.proxy_image()));
    if let Some(name) = &args.name {
        let of = facts::of_release(cluster, name).await?;
        findings.extend(release::judge(&of));
    }
    match args.output {
        Some(Output::Json) => {
            let text = serde_json::to_string_pretty(&findings);
            out::line(text.expect("findings are texts"));
        }
        None => words::lines(&findings).into_iter().for_each(out::line),
    }
    let failed = findings.iter().any(|it| it.outcome == Outcome::Failed);
    Ok(if failed { Exit::Failed } else { Exit::Done })
}
