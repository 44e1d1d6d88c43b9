//! The command line: the operator, unless another command is named.

use clap::{Parser, Subcommand};

use crate::inject::Inject;
use crate::names;
use crate::options::Options;

/// The control plane of Aviary: releases, xDS, injection, admission and certificates in one process.
#[derive(Debug, Parser)]
#[command(name = names::OPERATOR, version, args_conflicts_with_subcommands = true)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Option<Command>,
    #[command(flatten)]
    pub options: Options,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Print manifests with sidecars in them, for CI and for people; without a command the operator runs
    Inject(Inject),
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn parse(args: &[&str]) -> Result<Cli, clap::Error> {
        Cli::try_parse_from([&["aviary-operator"], args].concat())
    }

    #[test]
    fn the_command_line_is_well_formed_and_says_what_it_is() {
        Cli::command().debug_assert();
        let help = Cli::command().render_long_help().to_string();
        assert!(help.starts_with("The control plane of Aviary"), "{help}");
        assert!(help.contains("inject") && help.contains("--proxy-image"));
    }

    #[test]
    fn without_a_command_the_operator_runs_with_the_flags_that_it_always_had() {
        let cli = parse(&["--proxy-image=registry.example/proxy:1"]).unwrap();
        assert!(cli.command.is_none());
        assert_eq!(
            cli.options.proxy_image.as_deref(),
            Some("registry.example/proxy:1")
        );
        assert!(parse(&["--proxy-image=x", "inject", "-f", "-"]).is_err());
    }

    #[test]
    fn what_is_injected_has_to_be_named() {
        let cli = parse(&["inject", "-f", "-", "-f", "b.yaml"]).unwrap();
        let Some(Command::Inject(inject)) = cli.command else {
            panic!("no command");
        };
        assert_eq!(inject.files, ["-", "b.yaml"].map(std::path::PathBuf::from));
        let error = parse(&["inject"]).unwrap_err().to_string();
        assert!(error.contains("--filename <FILE>"), "{error}");
    }

    #[test]
    fn the_help_of_inject_teaches() {
        let mut command = Cli::command();
        let inject = command.find_subcommand_mut("inject").unwrap();
        let help = inject.render_long_help().to_string();
        for part in [
            "kustomize build",
            "kubectl apply -f -",
            "--root-certificate",
            "aviary.dev/inject=enabled",
        ] {
            assert!(help.contains(part), "no {part} in {help}");
        }
    }
}
