//! To whom notifications go: a file of the operator's, mounted from a ConfigMap. Addresses are secrets, so they are in files of
//! their own, mounted from a Secret, and read for each notification.
//!
//! ```yaml
//! receivers:
//! - name: releases
//!   kind: Slack
//!   urlFile: /etc/aviary/notify/releases
//!   namespaces: [shop]
//!   on: [Paused, RolledBack, Promoted, Stalled]
//! ```

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::Notification;

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    pub receivers: Vec<Receiver>,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Receiver {
    /// For the log.
    pub name: String,
    pub kind: Kind,
    /// The file with the address, in one line.
    pub url_file: PathBuf,
    /// The file with the key that a Generic one is signed with.
    #[serde(default)]
    pub hmac_key_file: Option<PathBuf>,
    /// Of which namespaces. Default: all.
    #[serde(default)]
    pub namespaces: BTreeSet<String>,
    #[serde(default = "everything_that_wants_a_person")]
    pub on: BTreeSet<On>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub enum Kind {
    /// Slack's incoming webhooks, and whatever takes the same: `{"text": ".."}`.
    Slack,
    /// An object with fields.
    Generic,
}

/// What is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
pub enum On {
    Started,
    WeightRaised,
    /// A step has passed and waits for a person or a time, or a failure waits for a person.
    Paused,
    RolledBack,
    Promoted,
    /// Nothing moves until somebody acts: the condition Stalled became True.
    Stalled,
}

impl On {
    pub fn name(self) -> &'static str {
        match self {
            On::Started => "Started",
            On::WeightRaised => "WeightRaised",
            On::Paused => "Paused",
            On::RolledBack => "RolledBack",
            On::Promoted => "Promoted",
            On::Stalled => "Stalled",
        }
    }
}

fn everything_that_wants_a_person() -> BTreeSet<On> {
    BTreeSet::from([On::Paused, On::RolledBack, On::Promoted, On::Stalled])
}

#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("the notifications' file {0} cannot be read")]
    File(PathBuf, #[source] std::io::Error),
    #[error("the notifications' file {0} is not understood: {1}")]
    Syntax(PathBuf, String),
    #[error(
        "the notifications' file {0} has an hmacKeyFile for {1}, which is of kind Slack: nobody checks it there"
    )]
    SlackKey(PathBuf, String),
    #[error("the notifications' file {0} has two receivers with the name {1}")]
    Twice(PathBuf, String),
}

impl Config {
    pub fn read(file: &Path) -> Result<Config, ConfigError> {
        let text = std::fs::read_to_string(file)
            .map_err(|source| ConfigError::File(file.to_owned(), source))?;
        Config::parse(file, &text)
    }

    fn parse(file: &Path, text: &str) -> Result<Config, ConfigError> {
        let config: Config = serde_saphyr::from_str(text)
            .map_err(|error| ConfigError::Syntax(file.to_owned(), error.to_string()))?;
        let mut names = BTreeSet::new();
        for receiver in &config.receivers {
            let name = || receiver.name.clone();
            if !names.insert(name()) {
                return Err(ConfigError::Twice(file.to_owned(), name()));
            }
            if receiver.kind == Kind::Slack && receiver.hmac_key_file.is_some() {
                return Err(ConfigError::SlackKey(file.to_owned(), name()));
            }
        }
        Ok(config)
    }
}

impl Receiver {
    pub(super) fn wants(&self, notification: &Notification) -> bool {
        self.on.contains(&notification.on)
            && (self.namespaces.is_empty()
                || self.namespaces.contains(&notification.rollout.namespace))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::Key;

    fn parse(text: &str) -> Result<Config, String> {
        Config::parse(Path::new("f"), text).map_err(|error| error.to_string())
    }

    #[test]
    fn the_shortest_receiver_is_told_what_wants_a_person_in_every_namespace() {
        let config = parse("receivers: [{name: a, kind: Slack, urlFile: /a}]").unwrap();
        let wants = |on| {
            let notification = Notification {
                on,
                reason: String::new(),
                rollout: Key::new("any", "web"),
                text: String::new(),
                at: 0,
            };
            config.receivers[0].wants(&notification)
        };
        assert!(
            [On::Paused, On::RolledBack, On::Promoted, On::Stalled]
                .into_iter()
                .all(wants)
        );
        assert!(!wants(On::Started) && !wants(On::WeightRaised));
    }

    #[test]
    fn a_namespace_that_is_not_named_is_not_told_of() {
        let text = "receivers: [{name: a, kind: Generic, urlFile: /a, namespaces: [shop], on: [Promoted]}]";
        let receiver = parse(text).unwrap().receivers.remove(0);
        let promoted = |namespace: &str| {
            Notification::of(&Key::new(namespace, "web"), "Promoted", "text", 0).unwrap()
        };
        assert!(receiver.wants(&promoted("shop")));
        assert!(!receiver.wants(&promoted("pay")));
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        for (text, says) in [
            ("receivers: [{name: a, kind: Teams, urlFile: /a}]", "Teams"),
            ("receivers: [{name: a, kind: Slack, url: https://x}]", "url"),
            (
                "receivers: [{name: a, kind: Slack, urlFile: /a, on: [Never]}]",
                "Never",
            ),
            (
                "receivers: [{name: a, kind: Slack, urlFile: /a, hmacKeyFile: /b}]",
                "nobody checks it",
            ),
            (
                "receivers: [{name: a, kind: Slack, urlFile: /a}, {name: a, kind: Slack, urlFile: /b}]",
                "two receivers",
            ),
            ("receivers", "not understood"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(says), "{text}: {error}");
        }
    }
}
