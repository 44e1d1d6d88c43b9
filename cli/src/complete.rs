//! Completion: the script of a shell for `kubectl-aviary`, and the words that kubectl's own completion asks for.
//!
//! kubectl completes `kubectl aviary ...` by the program `kubectl_complete-aviary`, which gets the words of the line, the last
//! of them unfinished, and prints candidates, one a line with its meaning behind a tab, and at last a directive: `:4` is "no
//! file names", `:0` is "file names too" (github.com/spf13/cobra, "shell completions"). Ours calls `kubectl aviary __complete`.

mod words;

use std::time::Duration;

use clap::CommandFactory;
use clap_complete::{Shell, generate};
use k8s_openapi::api::core::v1::Namespace;
use kube::api::ListParams;
use kube::config::Kubeconfig;
use kube::{Api, ResourceExt};

use crate::args::{Access, Command};
use crate::cluster::Cluster;
use crate::exit::Exit;
use crate::out;
use words::{Candidate, Wanted, wanted};

/// A completion that takes longer is a nuisance.
const PATIENCE: Duration = Duration::from_secs(2);

/// Prints the script of a shell.
pub fn script(shell: Shell) -> Exit {
    out::line(script_of(shell).trim_end());
    Exit::Done
}

fn script_of(shell: Shell) -> String {
    let mut script = Vec::new();
    generate(
        shell,
        &mut Command::command(),
        "kubectl-aviary",
        &mut script,
    );
    let script = String::from_utf8_lossy(&script).into_owned();
    // clap_complete 4.6 sets one name in bash and looks for another if the program has a hyphen: no subcommand was completed.
    script.replace("kubectl__subcmd__aviary__", "kubectl__aviary__")
}

/// Candidates for the last of `words`.
pub async fn complete(access: &Access, words: &[String]) -> Exit {
    let mut command = Command::command();
    command.build();
    let line = wanted(&command, access, words);
    let found = match line.wanted {
        Wanted::Nothing => Vec::new(),
        Wanted::Files => {
            out::line(":0");
            return Exit::Done;
        }
        Wanted::Words(words) => words,
        Wanted::Contexts => contexts(&line.access),
        Wanted::Rollouts => in_time(rollouts(&line.access)).await,
        Wanted::Namespaces => in_time(namespaces(&line.access)).await,
    };
    let unfinished = words.last().map_or("", String::as_str);
    for candidate in found {
        if candidate.word.starts_with(unfinished) {
            out::line(candidate);
        }
    }
    out::line(":4");
    Exit::Done
}

async fn in_time(found: impl Future<Output = Option<Vec<Candidate>>>) -> Vec<Candidate> {
    let found = tokio::time::timeout(PATIENCE, found).await;
    found.ok().flatten().unwrap_or_default()
}

async fn rollouts(access: &Access) -> Option<Vec<Candidate>> {
    let cluster = Cluster::connect(access).await.ok()?;
    let rollouts = cluster.rollouts(false).await.ok()?;
    let candidate = |rollout: &aviary_crds::CanaryRollout| {
        let phase = rollout.status.as_ref().and_then(|status| status.phase);
        Candidate::new(rollout.name_any(), phase.map_or("", |phase| phase.name()))
    };
    Some(rollouts.iter().map(candidate).collect())
}

async fn namespaces(access: &Access) -> Option<Vec<Candidate>> {
    let cluster = Cluster::connect(access).await.ok()?;
    let api: Api<Namespace> = Api::all(cluster.client().clone());
    let list = api.list(&ListParams::default()).await.ok()?;
    let names = list.items.iter().map(ResourceExt::name_any);
    Some(names.map(|name| Candidate::new(name, "")).collect())
}

fn contexts(access: &Access) -> Vec<Candidate> {
    let kubeconfig = match &access.kubeconfig {
        Some(file) => Kubeconfig::read_from(file),
        None => Kubeconfig::read(),
    };
    let kubeconfig = kubeconfig.unwrap_or_default();
    let contexts = kubeconfig.contexts.into_iter();
    contexts
        .map(|context| Candidate::new(context.name, ""))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_subcommand_that_bash_comes_to_is_completed_there() {
        let script = script_of(Shell::Bash);
        let come_to = script.lines().filter_map(|line| {
            let name = line.trim().strip_prefix("cmd=\"")?;
            name.strip_suffix('"').filter(|name| !name.is_empty())
        });
        let come_to: Vec<&str> = come_to.collect();
        assert!(come_to.len() > 10, "{come_to:?}");
        for name in come_to {
            let arm = format!("        {name})\n            opts=");
            assert!(script.contains(&arm), "{name} is nowhere");
        }
    }
}
