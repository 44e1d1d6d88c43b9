//! What a pod's annotations say about its sidecar. Each is checked when the pod is made: what would keep its sidecar from starting is told to
//! whoever makes it.

use serde_json::{Value, json};

use super::limits::{self, LimitError};
use super::ports::{Ports, PortsError};
use super::quantity::{CPU, InvalidQuantity, MEMORY, Quantity, Resource};
use super::telemetry::{self, TelemetryError};
use crate::names;

/// The longest reference of an image that is taken: a registry, a path, a tag and a digest.
const LONGEST_IMAGE: usize = 512;
const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidWish {
    #[error(transparent)]
    Ports(#[from] PortsError),
    #[error(transparent)]
    Limit(#[from] LimitError),
    #[error(transparent)]
    Telemetry(#[from] TelemetryError),
    #[error("annotation {annotation}: {source}")]
    Quantity {
        annotation: &'static str,
        source: InvalidQuantity,
    },
    #[error(
        "annotation {limit}: {most} is less than the {least} that {request} asks for; a limit is at least as much as the request"
    )]
    LimitBelowRequest {
        limit: &'static str,
        request: &'static str,
        most: String,
        least: String,
    },
    #[error(
        "annotation {annotation}: '{0}' is no image; write it like \"registry.example/aviary-proxy:0.1.0\"",
        annotation = names::PROXY_IMAGE_ANNOTATION
    )]
    Image(String),
    #[error(
        "annotation {annotation}: '{0}' is no log level; write one of {levels}, or one for each part, for example \"info,aviary_proxy::ads=debug\"",
        annotation = names::PROXY_LOG_LEVEL_ANNOTATION,
        levels = LEVELS.join(", ")
    )]
    LogLevel(String),
}

/// What is wanted; the defaults are the injector's.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Wishes {
    pub(super) inbound: Ports,
    pub(super) outbound: Ports,
    /// Flags of the proxy.
    pub(super) flags: Vec<String>,
    pub(super) image: Option<String>,
    /// The sidecar's `resources`.
    pub(super) resources: Value,
}

impl Wishes {
    pub(super) fn of(pod: &Value) -> Result<Wishes, InvalidWish> {
        let mut flags = limits::from_annotations(pod)?;
        flags.extend(telemetry::from_annotations(pod)?);
        if let Some(level) = annotation(pod, names::PROXY_LOG_LEVEL_ANNOTATION) {
            flags.push(format!("--log={}", log_level(level)?));
        }
        Ok(Wishes {
            inbound: Ports::from_annotation(pod, names::SKIP_INBOUND_ANNOTATION)?,
            outbound: Ports::from_annotation(pod, names::SKIP_OUTBOUND_ANNOTATION)?,
            flags,
            image: annotation(pod, names::PROXY_IMAGE_ANNOTATION)
                .map(image)
                .transpose()?,
            resources: resources(pod)?,
        })
    }
}

fn annotation<'a>(pod: &'a Value, name: &str) -> Option<&'a str> {
    pod["metadata"]["annotations"][name].as_str()
}

/// Requests and, unless a pod wants some, no limits: an autoscaler by utilisation needs a CPU request on every container, and a limit would
/// throttle the pod's traffic at the worst moment.
pub(super) fn default_resources() -> Value {
    json!({"requests": {"cpu": "10m", "memory": "16Mi"}})
}

fn resources(pod: &Value) -> Result<Value, InvalidWish> {
    let mut resources = default_resources();
    for (resource, request, limit) in [
        (
            CPU,
            names::PROXY_CPU_ANNOTATION,
            names::PROXY_CPU_LIMIT_ANNOTATION,
        ),
        (
            MEMORY,
            names::PROXY_MEMORY_ANNOTATION,
            names::PROXY_MEMORY_LIMIT_ANNOTATION,
        ),
    ] {
        let least = quantity(pod, resource, request)?;
        let most = quantity(pod, resource, limit)?;
        let of_default = || {
            let text = resources["requests"][resource.name].as_str();
            resource.parse(text.unwrap_or_default()).ok()
        };
        if let (Some(most), Some(least)) = (&most, least.clone().or_else(of_default))
            && least.is_more_than(most)
        {
            return Err(InvalidWish::LimitBelowRequest {
                limit,
                request,
                most: most.to_string(),
                least: least.to_string(),
            });
        }
        if let Some(least) = least {
            resources["requests"][resource.name] = least.to_json();
        }
        if let Some(most) = most {
            resources["limits"][resource.name] = most.to_json();
        }
    }
    Ok(resources)
}

fn quantity(
    pod: &Value,
    resource: Resource,
    name: &'static str,
) -> Result<Option<Quantity>, InvalidWish> {
    let text = annotation(pod, name);
    let parsed = text.map(|text| resource.parse(text)).transpose();
    parsed.map_err(|source| InvalidWish::Quantity {
        annotation: name,
        source,
    })
}

/// What a reference may be made of. Whether there is such an image is up to the kubelet.
fn image(text: &str) -> Result<String, InvalidWish> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "._-/:@".contains(c);
    let begins = text.starts_with(|c: char| c.is_ascii_alphanumeric());
    if begins && text.len() <= LONGEST_IMAGE && text.chars().all(allowed) {
        Ok(text.to_owned())
    } else {
        Err(InvalidWish::Image(text.chars().take(64).collect()))
    }
}

/// A level, or several with the part of the program that each is for.
fn log_level(text: &str) -> Result<&str, InvalidWish> {
    let path = |part: &str| {
        !part.is_empty()
            && part
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || "_:-".contains(c))
    };
    let is_level = |level: &str| LEVELS.contains(&level);
    let each = |directive: &str| match directive.split_once('=') {
        Some((part, level)) => path(part) && is_level(level),
        None => is_level(directive),
    };
    if text.split(',').all(each) {
        Ok(text)
    } else {
        Err(InvalidWish::LogLevel(text.chars().take(64).collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(annotations: Value) -> Result<Wishes, InvalidWish> {
        Wishes::of(&json!({"metadata": {"annotations": annotations}}))
    }

    #[test]
    fn amounts_replace_the_defaults_one_by_one() {
        assert_eq!(of(json!({})).unwrap().resources, default_resources());
        let wishes = of(json!({
            "aviary.dev/proxy-cpu": "250m",
            "aviary.dev/proxy-memory-limit": "128Mi",
        }));
        assert_eq!(
            wishes.unwrap().resources,
            json!({"requests": {"cpu": "250m", "memory": "16Mi"}, "limits": {"memory": "128Mi"}})
        );
    }

    #[test]
    fn a_limit_below_what_is_asked_for_is_refused() {
        for (annotations, least) in [
            (json!({"aviary.dev/proxy-cpu-limit": "5m"}), "10m"),
            (
                json!({"aviary.dev/proxy-cpu-limit": "0.2", "aviary.dev/proxy-cpu": "201m"}),
                "201m",
            ),
        ] {
            let error = of(annotations).unwrap_err().to_string();
            let expected =
                format!("is less than the {least} that aviary.dev/proxy-cpu asks for; a limit is");
            assert!(error.contains(&expected), "{error}");
        }
        assert!(of(json!({"aviary.dev/proxy-cpu-limit": "10m"})).is_ok());
    }

    #[test]
    fn what_makes_no_sense_is_refused_by_name_with_what_would() {
        for (annotation, bad, says) in [
            (
                "aviary.dev/proxy-cpu",
                "lots",
                "from 1m to 64; write it like \"100m\"",
            ),
            (
                "aviary.dev/proxy-cpu",
                "",
                "from 1m to 64; write it like \"100m\"",
            ),
            (
                "aviary.dev/proxy-memory",
                "64",
                "from 8Mi to 64Gi; write it like \"64Mi\"",
            ),
            ("aviary.dev/proxy-memory-limit", "1Pi", "from 8Mi to 64Gi"),
            (
                "aviary.dev/proxy-image",
                "",
                "write it like \"registry.example/aviary-proxy:0.1.0\"",
            ),
            ("aviary.dev/proxy-image", "a b", "is no image"),
            ("aviary.dev/proxy-image", "-x", "is no image"),
            (
                "aviary.dev/proxy-log-level",
                "verbose",
                "write one of off, error, warn, info, debug, trace",
            ),
            ("aviary.dev/proxy-log-level", "", "is no log level"),
            (
                "aviary.dev/proxy-log-level",
                "info,=debug",
                "is no log level",
            ),
            (
                "aviary.dev/proxy-log-level",
                "info;debug",
                "is no log level",
            ),
        ] {
            let error = of(json!({annotation: bad})).unwrap_err().to_string();
            let begins = format!("annotation {annotation}: '{bad}' is no ");
            assert!(error.starts_with(&begins), "{error}");
            assert!(error.contains(says), "{error}");
        }
    }

    #[test]
    fn image_and_log_level_are_taken_as_they_are_written() {
        let wishes = of(json!({
            "aviary.dev/proxy-image": "registry.example:5000/a/aviary-proxy:1@sha256:00ff",
            "aviary.dev/proxy-log-level": "warn,aviary_proxy::ads=debug",
        }))
        .unwrap();
        assert_eq!(
            wishes.image.as_deref(),
            Some("registry.example:5000/a/aviary-proxy:1@sha256:00ff")
        );
        assert_eq!(wishes.flags, ["--log=warn,aviary_proxy::ads=debug"]);
    }
}
