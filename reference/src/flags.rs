//! The flags of the programs: `flags.md`, from what clap knows.

use clap::{Arg, Command, CommandFactory};

use crate::markdown::{GENERATED, capital, code, table};

pub(crate) fn page() -> String {
    let mut page = format!(
        "{GENERATED}
# Flags

Every program says the same with `--help`. A flag beats its environment variable, which beats the default. Durations are written `500ms`, `30s`, `1m30s`, `1h`.
"
    );
    let programs = [
        aviary_operator::cli::Cli::command(),
        aviary_proxy::cli::Cli::command(),
        kubectl_aviary::args::Command::command(),
    ];
    for mut program in programs {
        program.build();
        let name = program
            .get_bin_name()
            .unwrap_or(program.get_name())
            .to_owned();
        command(&mut page, &name, &program, true);
    }
    page
}

/// What a command takes, and the commands below it. Flags that all have are told once, where they belong.
fn command(page: &mut String, name: &str, it: &Command, is_program: bool) {
    let level = if is_program { "##" } else { "###" };
    page.push_str(&format!("\n{level} `{name}`\n\n"));
    if let Some(about) = it.get_about() {
        let about = about.to_string();
        page.push_str(&format!("{}.\n\n", about.trim_end_matches('.')));
    }
    let is_told = |arg: &&Arg| {
        let id = arg.get_id().as_str();
        let global = arg.is_global_set() && !is_program;
        !arg.is_hide_set() && !global && id != "help" && id != "version"
    };
    let rows: Vec<Vec<String>> = it.get_arguments().filter(is_told).map(row).collect();
    if !rows.is_empty() {
        page.push_str(&table(&["flag", "environment", "default", "what"], rows));
    }
    for below in it.get_subcommands().filter(|it| !it.is_hide_set()) {
        if below.get_name() != "help" {
            command(page, &format!("{name} {}", below.get_name()), below, false);
        }
    }
}

fn row(arg: &Arg) -> Vec<String> {
    let environment = arg.get_env().map(|it| code(&it.to_string_lossy()));
    let defaults: Vec<String> = arg
        .get_default_values()
        .iter()
        .map(|it| it.to_string_lossy().into_owned())
        .filter(|it| !it.is_empty())
        .collect();
    let takes_value = arg.get_num_args().is_some_and(|it| it.takes_values());
    let defaults = if takes_value {
        defaults.join(", ")
    } else {
        String::new()
    };
    vec![
        named(arg),
        environment.unwrap_or_default(),
        code(&defaults),
        what(arg),
    ]
}

/// How it is written.
fn named(arg: &Arg) -> String {
    let value = || {
        let names = arg.get_value_names().unwrap_or_default();
        let names: Vec<String> = names.iter().map(|it| format!("<{it}>")).collect();
        names.join(" ")
    };
    let takes_value = arg.get_num_args().is_some_and(|it| it.takes_values());
    let mut text = String::new();
    match (arg.get_short(), arg.get_long()) {
        (None, None) => {
            text = value();
            if !arg.is_required_set() {
                text = format!("[{text}]");
            }
            return code(&text);
        }
        (Some(short), Some(long)) => text.push_str(&format!("-{short}, --{long}")),
        (Some(short), None) => text.push_str(&format!("-{short}")),
        (None, Some(long)) => text.push_str(&format!("--{long}")),
    }
    if takes_value {
        text.push_str(&format!(" {}", value()));
    }
    code(&text)
}

fn what(arg: &Arg) -> String {
    let help = arg.get_long_help().or(arg.get_help());
    let mut said = help.map(ToString::to_string).unwrap_or_default();
    let said_trimmed = said.trim_end_matches('.').to_owned();
    said = if said_trimmed.is_empty() {
        said_trimmed
    } else {
        format!("{}.", capital(&said_trimmed))
    };
    let values: Vec<String> = arg
        .get_possible_values()
        .iter()
        .filter(|it| !it.is_hide_set())
        .map(|it| match it.get_help() {
            Some(help) => format!(
                "{} ({})",
                code(it.get_name()),
                help.to_string().trim_end_matches('.')
            ),
            None => code(it.get_name()),
        })
        .collect();
    if !values.is_empty() {
        said.push_str(&format!(" One of {}.", values.join(", ")));
    }
    if arg.is_required_set() {
        said.push_str(" Has to be there.");
    }
    said.trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_flag_says_what_it_is() {
        for line in page().lines().filter(|line| line.starts_with("| `")) {
            assert!(!line.ends_with("| |"), "no help: {line}");
        }
    }

    /// One dialect: what all three have is called the same everywhere.
    #[test]
    fn what_a_flag_takes_from_the_environment_is_named_by_it() {
        for line in page().lines().filter(|line| line.contains("`AVIARY_")) {
            let cells: Vec<&str> = line.split(" | ").collect();
            let flag = cells[0]
                .trim_start_matches("| `--")
                .split([' ', '`'])
                .next();
            let name = cells[1].trim_matches('`').trim_start_matches("AVIARY_");
            let name = name.to_lowercase().replace('_', "-");
            let same = flag.is_some_and(|flag| name.ends_with(flag));
            assert!(same, "{line}");
        }
    }
}
