//! Why the cluster does not do what it is asked for, and what to do about it.

use std::error::Error as _;

use super::ForwardError;
use kube::config::{InferConfigError, KubeconfigError};

/// What went wrong, in words for a person.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    #[error("the kubeconfig cannot be used: {0}")]
    Kubeconfig(#[from] KubeconfigError),
    #[error("no cluster to ask: {0}; name a kubeconfig with --kubeconfig or $KUBECONFIG")]
    NoCluster(#[from] InferConfigError),
    #[error("no CanaryRollout {name} in namespace {namespace}{others}", others = there_are(.others))]
    NoRollout {
        name: String,
        namespace: String,
        /// `None`: they may not be listed.
        others: Option<Vec<String>>,
    },
    #[error(
        "no Deployment {name} in namespace {namespace}, which CanaryRollout {rollout} releases"
    )]
    NoDeployment {
        name: String,
        namespace: String,
        rollout: String,
    },
    #[error("you may not {what}: {message}{role}", role = role(.message))]
    Forbidden { what: &'static str, message: String },
    #[error(
        "cannot {what}: the cluster has no CanaryRollouts; install Aviary: kubectl apply -k config/default"
    )]
    NotInstalled { what: &'static str },
    #[error("cannot {what}: {message}")]
    Refused { what: &'static str, message: String },
    #[error(
        "cannot {what}: what the cluster has is of another version than this plugin ({message})"
    )]
    OtherVersion { what: &'static str, message: String },
    #[error("cannot {what}: the API server cannot be reached: {message}")]
    Unreachable { what: &'static str, message: String },
    #[error("no replica of the operator decides in namespace {namespace}: kubectl aviary check")]
    NoOperator { namespace: String },
    #[error("the operator cannot be asked: {source}")]
    Operator { source: ForwardError },
    #[error("the sidecar of pod {pod} cannot be asked: {source}")]
    Sidecar { pod: String, source: ForwardError },
    #[error("the terminal cannot be used ({0}); try --plain")]
    Terminal(#[source] std::io::Error),
}

impl ClusterError {
    /// `what`: what was tried, as in "cannot ..." and "you may not ...".
    pub fn of(what: &'static str, error: kube::Error) -> ClusterError {
        match error {
            kube::Error::Api(status) if status.code == 403 => ClusterError::Forbidden {
                what,
                message: status.message.clone(),
            },
            // Of a kind, and not of an object: whoever asks for an object takes its absence for an answer.
            kube::Error::Api(status) if status.code == 404 && status.details.is_none() => {
                ClusterError::NotInstalled { what }
            }
            kube::Error::Api(status) => ClusterError::Refused {
                what,
                message: status.message.clone(),
            },
            kube::Error::SerdeError(error) => ClusterError::OtherVersion {
                what,
                message: error.to_string(),
            },
            other => ClusterError::Unreachable {
                what,
                message: innermost(&other),
            },
        }
    }
}

/// Of our roles, the one that has the right that is missing. Most rights that `check` needs none of them has.
fn role(message: &str) -> String {
    let after = |word: &str| {
        let rest = message.split_once(word)?.1;
        rest.split([' ', '"']).find(|it| !it.is_empty())
    };
    let (Some(verb), Some(resource)) = (after("cannot "), after("resource ")) else {
        return String::new();
    };
    let looks = matches!(verb, "get" | "list" | "watch");
    let role = match resource {
        "canaryrollouts" if looks => "aviary-view",
        "canaryrollouts" if verb == "patch" => "aviary-release",
        "canaryrollouts" => "aviary-edit",
        "deployments" | "replicasets" | "controllerrevisions" | "pods" | "events" if looks => {
            "aviary-release"
        }
        _ => return String::new(),
    };
    format!("; the ClusterRole {role} has that right (config/rbac/users.yaml)")
}

/// "client error (Connect)" says less than what is below it.
fn innermost(error: &kube::Error) -> String {
    let mut message = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        message = error.to_string();
        source = error.source();
    }
    message
}

fn there_are(others: &Option<Vec<String>>) -> String {
    let Some(others) = others else {
        return String::new();
    };
    if others.is_empty() {
        "; there is none at all: kubectl aviary status -A shows those of other namespaces"
            .to_owned()
    } else {
        format!("; there are {}", others.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use kube::core::Status;
    use serde_json::json;

    use super::*;

    fn said(code: u16, message: &str) -> String {
        let status = Status::failure(message, "Reason").with_code(code).boxed();
        ClusterError::of("do it", kube::Error::Api(status)).to_string()
    }

    #[test]
    fn a_missing_right_is_told_with_the_role_that_has_it() {
        let forbidden = |verb: &str, resource: &str| {
            said(
                403,
                &format!(
                    "{resource} is forbidden: User \"x\" cannot {verb} resource \"{resource}\" in API group \"\""
                ),
            )
        };
        for (verb, resource, role) in [
            ("patch", "canaryrollouts", "aviary-release"),
            ("list", "canaryrollouts", "aviary-view"),
            ("delete", "canaryrollouts", "aviary-edit"),
            ("get", "deployments", "aviary-release"),
        ] {
            let text = forbidden(verb, resource);
            assert!(text.starts_with("you may not do it: "), "{text}");
            assert!(text.contains(&format!("ClusterRole {role} has")), "{text}");
        }
        for (verb, resource) in [("get", "leases"), ("create", "pods"), ("get", "pods/proxy")] {
            let text = forbidden(verb, resource);
            assert!(!text.contains("ClusterRole"), "{text}");
        }
    }

    #[test]
    fn a_cluster_without_the_type_is_told_how_to_get_it() {
        let text = said(404, "404 page not found");
        assert!(text.contains("kubectl apply -k config/default"), "{text}");
        let of_an_object = json!({"kind": "Status", "code": 404, "message": "pods x not found", "details": {"name": "x"}});
        let status: Status = serde_json::from_value(of_an_object).unwrap();
        let text = ClusterError::of("do it", kube::Error::Api(status.boxed())).to_string();
        assert_eq!(text, "cannot do it: pods x not found");
    }

    #[test]
    fn a_name_that_is_not_there_is_told_with_those_that_are() {
        let error = |others: &[&str]| ClusterError::NoRollout {
            name: "paymnet".to_owned(),
            namespace: "shop".to_owned(),
            others: Some(others.iter().map(ToString::to_string).collect()),
        };
        assert_eq!(
            error(&["payment", "stock"]).to_string(),
            "no CanaryRollout paymnet in namespace shop; there are payment, stock"
        );
        assert!(error(&[]).to_string().contains("status -A"));
    }
}
