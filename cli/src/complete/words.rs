//! What can stand where the line ends: pure, by the command line's own definition.

use std::fmt;

use clap::{Arg, ArgAction, Command};

use crate::args::Access;

/// A word, and what it means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Candidate {
    pub(super) word: String,
    meaning: String,
}

impl Candidate {
    pub(super) fn new(word: impl Into<String>, meaning: impl Into<String>) -> Candidate {
        Candidate {
            word: word.into(),
            meaning: meaning.into(),
        }
    }
}

impl fmt::Display for Candidate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.meaning.is_empty() {
            f.write_str(&self.word)
        } else {
            write!(f, "{}\t{}", self.word, self.meaning)
        }
    }
}

/// What is looked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    Nothing,
    Files,
    Words(Vec<Candidate>),
    Rollouts,
    Namespaces,
    Contexts,
}

/// What is looked for, and in which cluster and namespace by the words so far.
#[derive(Clone, Debug)]
pub(super) struct Line {
    pub(super) wanted: Wanted,
    pub(super) access: Access,
}

/// `command` is built; the last of `words` is unfinished.
pub(super) fn wanted(command: &Command, access: &Access, words: &[String]) -> Line {
    let mut access = access.clone();
    let (unfinished, before) = match words.split_last() {
        Some((unfinished, before)) => (unfinished.as_str(), before),
        None => ("", &[][..]),
    };
    let (mut command, mut positionals, mut value_of) = (command, 0, None::<&Arg>);
    for word in before {
        if let Some(flag) = value_of.take() {
            note(&mut access, flag, word);
        } else if let Some(name) = word.strip_prefix('-').filter(|name| !name.is_empty()) {
            let (name, value) = match name.split_once('=') {
                Some((name, value)) => (name, Some(value)),
                None => (name, None),
            };
            let flag = flag(command, name).filter(|flag| takes_value(flag));
            match (flag, value) {
                (Some(flag), Some(value)) => note(&mut access, flag, value),
                (flag, None) => value_of = flag,
                (None, Some(_)) => {}
            }
        } else if let Some(next) = command.find_subcommand(word) {
            command = next;
        } else {
            positionals += 1;
        }
    }
    let wanted = if let Some(flag) = value_of {
        values(flag)
    } else if unfinished.starts_with('-') {
        Wanted::Words(flags(command))
    } else if command.has_subcommands() {
        Wanted::Words(subcommands(command))
    } else {
        let positional = command.get_positionals().nth(positionals);
        positional.map_or(Wanted::Nothing, values)
    };
    Line { wanted, access }
}

/// `name`: without its first dash.
fn flag<'a>(command: &'a Command, name: &str) -> Option<&'a Arg> {
    command
        .get_arguments()
        .find(|arg| match name.strip_prefix('-') {
            Some(long) => arg.get_long() == Some(long),
            None => arg
                .get_short()
                .is_some_and(|short| name == short.to_string()),
        })
}

fn takes_value(flag: &Arg) -> bool {
    matches!(flag.get_action(), ArgAction::Set | ArgAction::Append)
}

fn note(access: &mut Access, flag: &Arg, value: &str) {
    match flag.get_id().as_str() {
        "namespace" => access.namespace = Some(value.to_owned()),
        "context" => access.context = Some(value.to_owned()),
        "kubeconfig" => access.kubeconfig = Some(value.into()),
        "as_user" => access.as_user = Some(value.to_owned()),
        _ => {}
    }
}

fn values(arg: &Arg) -> Wanted {
    match arg.get_id().as_str() {
        "name" | "rollout" => return Wanted::Rollouts,
        "namespace" => return Wanted::Namespaces,
        "context" => return Wanted::Contexts,
        "kubeconfig" => return Wanted::Files,
        _ => {}
    }
    let values = arg.get_possible_values();
    if values.is_empty() {
        return Wanted::Nothing;
    }
    let help = |value: &clap::builder::PossibleValue| {
        value
            .get_help()
            .map(ToString::to_string)
            .unwrap_or_default()
    };
    let values = values.iter().filter(|value| !value.is_hide_set());
    Wanted::Words(
        values
            .map(|it| Candidate::new(it.get_name(), help(it)))
            .collect(),
    )
}

fn flags(command: &Command) -> Vec<Candidate> {
    let flags = command.get_arguments().filter(|arg| !arg.is_hide_set());
    let flags = flags.filter_map(|arg| {
        let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
        Some(Candidate::new(format!("--{}", arg.get_long()?), help))
    });
    flags.collect()
}

fn subcommands(command: &Command) -> Vec<Candidate> {
    let shown = command.get_subcommands().filter(|it| !it.is_hide_set());
    let shown = shown.map(|it| {
        let about = it.get_about().map(ToString::to_string).unwrap_or_default();
        Candidate::new(it.get_name(), about)
    });
    shown.collect()
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;
    use crate::args;

    fn line(words: &str) -> Line {
        let mut command = args::Command::command();
        command.build();
        let words: Vec<String> = words.split(' ').map(str::to_owned).collect();
        wanted(&command, &Access::default(), &words)
    }

    fn names(words: &str) -> Vec<String> {
        match line(words).wanted {
            Wanted::Words(found) => found.into_iter().map(|it| it.word).collect(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn subcommands_come_first_and_hidden_ones_never() {
        let found = names("");
        assert!(found.contains(&"status".to_owned()), "{found:?}");
        assert!(!found.contains(&"__complete".to_owned()), "{found:?}");
    }

    #[test]
    fn the_name_of_a_rollout_is_looked_for_in_the_namespace_of_the_line() {
        for words in [
            "status -n shop ",
            "-n shop status ",
            "status --namespace=shop pay",
        ] {
            let line = line(words);
            assert_eq!(line.wanted, Wanted::Rollouts, "{words}");
            assert_eq!(line.access.namespace.as_deref(), Some("shop"), "{words}");
        }
        assert_eq!(line("status payment ").wanted, Wanted::Nothing);
        let line = line("proxy status --as jane --rollout ");
        assert_eq!(line.wanted, Wanted::Rollouts);
        assert_eq!(line.access.as_user.as_deref(), Some("jane"));
    }

    #[test]
    fn flags_and_their_values_are_those_of_the_subcommand() {
        let found = names("status payment --");
        for flag in ["--wait", "--watch", "--timeout", "--namespace"] {
            assert!(found.contains(&flag.to_owned()), "{flag}: {found:?}");
        }
        assert_eq!(names("status -o "), ["json"]);
        assert_eq!(line("status -n ").wanted, Wanted::Namespaces);
        assert_eq!(line("--kubeconfig ").wanted, Wanted::Files);
        assert!(names("completion ").contains(&"fish".to_owned()));
    }
}
