//! What can be asked for. The help of each subcommand has examples; `docs/plugin.md` has the rest.

use std::path::PathBuf;
use std::time::Duration;

use aviary_crds::units;
use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;

/// Follow and steer canary releases on Aviary.
#[derive(Clone, Debug, Parser)]
#[command(
    name = "kubectl-aviary",
    bin_name = "kubectl aviary",
    version,
    arg_required_else_help = true,
    after_help = "Examples:
  kubectl aviary status                        the releases of this namespace
  kubectl aviary status payment --watch        follow one live
  kubectl apply -f app.yaml && kubectl aviary status payment --wait --timeout 30m"
)]
pub struct Command {
    #[command(flatten)]
    pub access: Access,
    #[command(subcommand)]
    pub verb: Verb,
}

/// Which cluster, as whom: as kubectl has them.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Cluster")]
pub struct Access {
    /// The namespace; by default that of the kubeconfig's context.
    #[arg(short, long, global = true)]
    pub namespace: Option<String>,
    /// The kubeconfig's context.
    #[arg(long, global = true)]
    pub context: Option<String>,
    /// The kubeconfig; by default $KUBECONFIG, or ~/.kube/config.
    #[arg(long, global = true, value_hint = clap::ValueHint::FilePath)]
    pub kubeconfig: Option<PathBuf>,
    /// Act as this user.
    #[arg(long = "as", global = true, value_name = "USER")]
    pub as_user: Option<String>,
}

#[derive(Clone, Debug, Subcommand)]
pub enum Verb {
    /// Show how releases stand; follow one, or wait for its end.
    Status(StatusArgs),
    /// Tell what was decided about a release, and with which numbers.
    #[command(after_help = "Examples:
  kubectl aviary why payment            the newest release: each decision, and what was known then
  kubectl aviary why payment --all      every release that the status remembers
  kubectl aviary why payment -o json | jq '.releases[-1].decisions[-1]'")]
    Why(WhyArgs),
    /// Check the installation, and a release if you name one; what is wrong is told with the mend.
    #[command(after_help = "Examples:
  kubectl aviary check                      the cluster, the operator, and the sidecars of all namespaces that asked for them
  kubectl aviary check payment -n shop      and whether a release of payment could go well
  kubectl aviary check -o json | jq '.[] | select(.outcome == \"Failed\")'

Ends with 1 if anything failed. What you may not read is unknown, and no failure.")]
    Check(CheckArgs),
    /// Show what proxies have acknowledged, and what one of them goes by.
    #[command(subcommand)]
    Proxy(ProxyVerb),
    /// Let a release that waits go on; --now skips what is left of its steps.
    #[command(after_help = "Examples:
  kubectl aviary promote payment          what waits goes on: a pause, missing evidence; after failed windows the step is judged anew
  kubectl aviary promote payment --now    no more steps and no more analysis: full capacity, 100%, promotion

The request is bound to the revision and the weight that the release has now: it never lets another one on.")]
    Promote {
        #[command(flatten)]
        args: AskArgs,
        /// Skip the rest of the steps and of the analysis. The guard goes on: a bad canary is still taken back.
        #[arg(long)]
        now: bool,
    },
    /// End a release: weight 0 at once.
    #[command(after_help = "Examples:
  kubectl aviary abort payment                          the stable revision serves everyone; the Deployment stays paused
  kubectl aviary abort payment --revision 7f9c2a41d0    only if that is what is being released")]
    Abort(AskArgs),
    /// Try again what was rolled back, from its first step.
    #[command(after_help = "Examples:
  kubectl aviary retry payment
  kubectl aviary retry payment && kubectl aviary status payment --wait")]
    Retry(AskArgs),
    /// Hold a release at its weight; it may still go to 0.
    #[command(after_help = "Examples:
  kubectl aviary pause payment")]
    Pause(AskArgs),
    /// Let a release go on that was held by `pause`.
    #[command(after_help = "Examples:
  kubectl aviary resume payment")]
    Resume(AskArgs),
    /// There is none: says what to do instead.
    #[command(hide = true)]
    Undo(NotThereArgs),
    /// There is none: says what to do instead.
    #[command(hide = true)]
    Restart(NotThereArgs),
    /// Take releases away: every Deployment goes on with what serves, and is paused no more.
    #[command(after_help = "Examples:
  kubectl aviary uninstall -n shop          what would be done in one namespace; nothing is
  kubectl aviary uninstall -n shop --yes    do it: its releases end, its CanaryRollouts go
  kubectl aviary uninstall -A --yes         the same of all namespaces, and the webhooks go; then: kubectl delete -k config/default

A release that runs, or has failed, ends by putting the template back that serves. GitOps puts back what it has: take the
CanaryRollouts out of it first, and the template that was released, or it rolls out without a release.")]
    Uninstall(UninstallArgs),
    /// Print the completion script of a shell.
    #[command(after_help = "Examples:
  kubectl aviary completion bash > /etc/bash_completion.d/kubectl-aviary
  kubectl aviary completion zsh > \"${fpath[1]}/_kubectl-aviary\"
  kubectl aviary completion fish > ~/.config/fish/completions/kubectl-aviary.fish

These complete `kubectl-aviary`. For `kubectl aviary`, kubectl's own completion asks the program
kubectl_complete-aviary, which `make install-plugin` puts beside this one.")]
    Completion {
        /// Which shell.
        #[arg(value_enum)]
        shell: Shell,
    },
    /// What kubectl's completion asks for: the words of the line so far.
    #[command(hide = true, name = "__complete")]
    Complete {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        words: Vec<String>,
    },
}

/// `status`
#[derive(Clone, Debug, Default, Args)]
#[command(after_help = "Examples:
  kubectl aviary status                              every release of this namespace
  kubectl aviary status -A                           of all namespaces
  kubectl aviary status payment                      one, once
  kubectl aviary status payment --watch              one, live; q ends it
  kubectl aviary status payment --watch --plain      a block of lines for each change, for logs
  kubectl aviary status payment -o json | jq .weight
  kubectl aviary status payment --watch -o json      one line of JSON for each change
  kubectl aviary status payment --wait --timeout 30m for a pipeline: blocks until the release of the newest template has ended

Exit codes of --wait:
  0  the template that the Deployment asked for serves everyone
  1  it was rolled back, or superseded by another template
  2  no such CanaryRollout or Deployment, or the cluster cannot be asked
  3  the timeout is over
  4  the release waits for a person: a pause, missing evidence, a suspension, something to mend")]
pub struct StatusArgs {
    /// The CanaryRollout; without it, all are listed.
    pub name: Option<String>,
    /// List those of all namespaces.
    #[arg(short = 'A', long, conflicts_with_all = ["name", "namespace"])]
    pub all_namespaces: bool,
    /// Follow it live: a screen on a terminal, else as with --plain.
    #[arg(short, long, requires = "name", conflicts_with = "wait")]
    pub watch: bool,
    /// With --watch: no screen, but lines for each change.
    #[arg(long, requires = "watch")]
    pub plain: bool,
    /// Block until the release of the newest template has ended; progress goes to the standard error.
    #[arg(long, requires = "name")]
    pub wait: bool,
    /// With --wait or --watch: how long at most, for example 30m; 0s is without end.
    #[arg(long, default_value = "0s", value_parser = timeout)]
    pub timeout: Timeout,
    /// For programs.
    #[arg(short, long, value_enum, value_name = "FORMAT")]
    pub output: Option<Output>,
}

/// `why`
#[derive(Clone, Debug, Args)]
pub struct WhyArgs {
    /// The CanaryRollout.
    pub name: String,
    /// Every release that the status remembers, and not the newest alone.
    #[arg(long)]
    pub all: bool,
    /// For programs.
    #[arg(short, long, value_enum, value_name = "FORMAT")]
    pub output: Option<Output>,
}

/// `check`
#[derive(Clone, Debug, Args)]
pub struct CheckArgs {
    /// A CanaryRollout that is looked at, too.
    pub name: Option<String>,
    /// Where the operator is.
    #[arg(long, default_value = "aviary-system")]
    pub operator_namespace: String,
    /// For programs.
    #[arg(short, long, value_enum, value_name = "FORMAT")]
    pub output: Option<Output>,
}

#[derive(Clone, Debug, Subcommand)]
pub enum ProxyVerb {
    /// Who is connected to the operator, and who has acknowledged the newest routes of which rollout.
    #[command(after_help = "Examples:
  kubectl aviary proxy status                       the proxies of this namespace
  kubectl aviary proxy status --rollout payment     the callers of payment, wherever they are
  kubectl aviary proxy status -A -o json

Ends with 1 if one of them lags. It asks the operator, through the API server: that needs the right to forward ports of pods in
the operator's namespace (pods/portforward). Whoever reaches its port 15021 otherwise names it with --operator-address.")]
    Status(ProxyStatusArgs),
    /// The routes, weights and endpoints that the sidecar of a pod goes by.
    #[command(after_help = "Examples:
  kubectl aviary proxy config client-6d4cf56db6-x7x2p -n shop
  kubectl aviary proxy config client-6d4cf56db6-x7x2p -n shop -o json | jq .routes

It asks the sidecar, through the API server: that needs the right to forward ports of that pod (pods/portforward).")]
    Config(ProxyConfigArgs),
}

/// `proxy status`
#[derive(Clone, Debug, Args)]
pub struct ProxyStatusArgs {
    /// This pod alone.
    pub pod: Option<String>,
    /// Those that call this CanaryRollout, in all namespaces.
    #[arg(long, conflicts_with = "all_namespaces")]
    pub rollout: Option<String>,
    /// Those of all namespaces.
    #[arg(short = 'A', long, conflicts_with = "namespace")]
    pub all_namespaces: bool,
    /// Where the operator is.
    #[arg(long, default_value = "aviary-system")]
    pub operator_namespace: String,
    /// The operator's port 15021, if you forward it yourself: 127.0.0.1:15021.
    #[arg(long, value_name = "HOST:PORT")]
    pub operator_address: Option<String>,
    /// For programs.
    #[arg(short, long, value_enum, value_name = "FORMAT")]
    pub output: Option<Output>,
}

/// `proxy config`
#[derive(Clone, Debug, Args)]
pub struct ProxyConfigArgs {
    /// The pod.
    pub pod: String,
    /// For programs.
    #[arg(short, long, value_enum, value_name = "FORMAT")]
    pub output: Option<Output>,
}

/// `uninstall`
#[derive(Clone, Debug, Args)]
pub struct UninstallArgs {
    /// Of all namespaces, and the webhooks.
    #[arg(short = 'A', long, conflicts_with = "namespace")]
    pub all_namespaces: bool,
    /// Do it. Without this, it is only said.
    #[arg(long)]
    pub yes: bool,
    /// How long each release may take to end; 0s is without end.
    #[arg(long, default_value = "5m", value_parser = timeout)]
    pub timeout: Timeout,
}

/// What every request to a release has.
#[derive(Clone, Debug, Args)]
pub struct AskArgs {
    /// The CanaryRollout.
    pub name: String,
    /// Only if this is the revision that it is about; by default the one that the status shows.
    #[arg(long)]
    pub revision: Option<String>,
    /// How long the operator's answer is waited for; 0s is without end.
    #[arg(long, default_value = "30s", value_parser = timeout)]
    pub timeout: Timeout,
}

/// What is typed behind a verb that others have and that is not here.
#[derive(Clone, Debug, Args)]
pub struct NotThereArgs {
    #[arg(hide = true)]
    pub name: Option<String>,
    #[arg(hide = true, trailing_var_arg = true, allow_hyphen_values = true)]
    pub rest: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// What is shown, as JSON.
    Json,
}

/// How long something may take; `None`: without end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Timeout(pub Option<Duration>);

fn timeout(text: &str) -> Result<Timeout, units::UnitError> {
    let length = units::duration(text)?;
    Ok(Timeout((!length.is_zero()).then_some(length)))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn parse(line: &str) -> Result<Command, clap::Error> {
        Command::try_parse_from(line.split(' '))
    }

    #[test]
    fn the_command_line_makes_sense() {
        Command::command().debug_assert();
    }

    #[test]
    fn every_subcommand_teaches_by_examples() {
        fn look(command: &clap::Command) {
            let mut shown = command
                .get_subcommands()
                .filter(|it| !it.is_hide_set())
                .peekable();
            if shown.peek().is_none() {
                let help = command.get_after_help().map(ToString::to_string);
                let name = command.get_name();
                assert!(
                    help.is_some_and(|it| it.contains("Examples:")),
                    "{name} has no examples"
                );
            }
            shown.for_each(look);
        }
        look(&Command::command());
    }

    #[test]
    fn what_cannot_go_together_is_refused() {
        for line in [
            "kubectl-aviary status --wait",
            "kubectl-aviary status --watch",
            "kubectl-aviary status a --watch --wait",
            "kubectl-aviary status a -A",
            "kubectl-aviary status a --plain",
            "kubectl-aviary status a --wait --timeout 5",
            "kubectl-aviary",
        ] {
            assert!(parse(line).is_err(), "{line}");
        }
    }

    #[test]
    fn flags_of_the_cluster_stand_where_kubectl_users_put_them() {
        for line in [
            "kubectl-aviary -n shop status payment",
            "kubectl-aviary status payment -n shop",
        ] {
            let command = parse(line).unwrap();
            assert_eq!(command.access.namespace.as_deref(), Some("shop"));
        }
    }

    #[test]
    fn verbs_that_others_have_are_understood_and_not_offered() {
        for line in [
            "kubectl-aviary undo payment --to-revision=3",
            "kubectl-aviary restart payment -n shop",
            "kubectl-aviary undo",
        ] {
            assert!(parse(line).is_ok(), "{line}");
        }
        let help = Command::command().render_help().to_string();
        assert!(!help.contains("undo"), "{help}");
    }

    #[test]
    fn no_timeout_is_no_end() {
        assert_eq!(timeout("0s"), Ok(Timeout(None)));
        assert_eq!(timeout("1m30s"), Ok(Timeout(Some(Duration::from_secs(90)))));
    }
}
