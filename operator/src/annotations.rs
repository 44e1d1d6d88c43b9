//! Every label and annotation that Aviary reads or writes, with what it means: the page `docs/reference/annotations.md` is made of
//! this table, and a test of the crate `aviary-reference` looks for a name in the code that is missing here. A new one is a
//! constant where it is read, and a row here.

use aviary_crds::{
    BREAK_GLASS_ANNOTATION, CANARY_OF_LABEL, CREDENTIALS_ANNOTATION, FINALIZER, INJECT_LABEL,
    REQUEST_ANNOTATION, REQUESTED_BY_ANNOTATION, RESTORED_ANNOTATION, REVISION_LABEL,
    ROLLOUT_LABEL, condition,
};
use traffic_core::telemetry::{
    ACCESS_LOG_ANNOTATION, ACCESS_LOG_PATH_ANNOTATION, METRICS_ANNOTATION,
};
use traffic_core::{limits, rate};

use crate::mesh::bounds::{self, faults, retries};
use crate::names::{
    INJECTED_ANNOTATION, INJECTION_ANNOTATION, MTLS_LABEL, PROXY_CPU_ANNOTATION,
    PROXY_CPU_LIMIT_ANNOTATION, PROXY_IMAGE_ANNOTATION, PROXY_LOG_LEVEL_ANNOTATION,
    PROXY_MEMORY_ANNOTATION, PROXY_MEMORY_LIMIT_ANNOTATION, SKIP_INBOUND_ANNOTATION,
    SKIP_OUTBOUND_ANNOTATION,
};

/// What a name is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Label,
    Annotation,
    /// Of an object's metadata.
    Finalizer,
    /// The type of a condition.
    Condition,
}

impl Kind {
    pub const fn name(self) -> &'static str {
        match self {
            Kind::Label => "label",
            Kind::Annotation => "annotation",
            Kind::Finalizer => "finalizer",
            Kind::Condition => "condition",
        }
    }
}

/// Who writes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Writer {
    /// People, and what they apply.
    You,
    /// The operator. Leave it alone.
    Aviary,
}

/// One row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub name: &'static str,
    pub kind: Kind,
    /// The kinds of object that may have it.
    pub on: &'static str,
    pub writer: Writer,
    /// What it may be, in Markdown.
    pub values: String,
    pub meaning: &'static str,
    /// The page of `docs/` that says more, if one does.
    pub page: Option<&'static str>,
}

/// All of them, in the order of the page: by object, those that people write first.
pub fn all() -> Vec<Entry> {
    let mut entries = of_people();
    entries.extend(limits::ALL.into_iter().map(of_limit));
    entries.extend(of_rates());
    entries.extend(of_services());
    entries.extend(of_aviary());
    entries
}

fn label(name: &'static str, on: &'static str, values: &str, meaning: &'static str) -> Entry {
    Entry {
        name,
        kind: Kind::Label,
        on,
        writer: Writer::You,
        values: values.to_owned(),
        meaning,
        page: None,
    }
}

fn annotation(name: &'static str, on: &'static str, values: &str, meaning: &'static str) -> Entry {
    Entry {
        kind: Kind::Annotation,
        ..label(name, on, values, meaning)
    }
}

impl Entry {
    fn page(self, page: &'static str) -> Entry {
        Entry {
            page: Some(page),
            ..self
        }
    }

    fn of_aviary(self) -> Entry {
        Entry {
            writer: Writer::Aviary,
            ..self
        }
    }
}

fn of_people() -> Vec<Entry> {
    let cores = "`1m` to `64` cores";
    let bytes = "`8Mi` to `64Gi`";
    let sidecar =
        |name, values: &str, meaning| annotation(name, "Pod", values, meaning).page("injection.md");
    let telemetry =
        |name, values: &str, meaning| annotation(name, "Namespace, Pod", values, meaning);
    vec![
        label(
            INJECT_LABEL,
            "Namespace",
            "`enabled`",
            "pods that are made in it get a sidecar",
        )
        .page("injection.md"),
        label(
            MTLS_LABEL,
            "Namespace",
            "`strict`, `permissive` (default)",
            "whether its pods refuse plaintext",
        )
        .page("authorization.md"),
        label(
            INJECT_LABEL,
            "Pod",
            "`true`, `false`",
            "this pod gets a sidecar, or none, whatever its namespace says",
        )
        .page("injection.md"),
        sidecar(
            SKIP_INBOUND_ANNOTATION,
            "ports, separated by commas",
            "ports of the application that the sidecar does not see",
        ),
        sidecar(
            SKIP_OUTBOUND_ANNOTATION,
            "ports, separated by commas",
            "ports of destinations that the sidecar does not see",
        ),
        sidecar(PROXY_CPU_ANNOTATION, cores, "CPU that the sidecar asks for"),
        sidecar(
            PROXY_CPU_LIMIT_ANNOTATION,
            cores,
            "the most CPU that it may take",
        ),
        sidecar(
            PROXY_MEMORY_ANNOTATION,
            bytes,
            "memory that the sidecar asks for",
        ),
        sidecar(
            PROXY_MEMORY_LIMIT_ANNOTATION,
            bytes,
            "the most memory that it may take",
        ),
        sidecar(
            PROXY_LOG_LEVEL_ANNOTATION,
            "a level, or several with the part that each is for",
            "what the sidecar writes into its log",
        ),
        sidecar(
            PROXY_IMAGE_ANNOTATION,
            "an image",
            "image of the sidecar and of its init container",
        ),
        telemetry(
            ACCESS_LOG_ANNOTATION,
            "`off` (default), `errors`, a share such as `1%`, `all`",
            "which requests have a line in the access log",
        )
        .page("access-log.md"),
        telemetry(
            ACCESS_LOG_PATH_ANNOTATION,
            "`plain` (default), `with-query`",
            "how much of a request's target is in its line",
        )
        .page("access-log.md"),
        telemetry(
            METRICS_ANNOTATION,
            "`aviary` (default), `istio`",
            "the names of metrics of requests: Aviary's alone, or Istio's as well",
        )
        .page("metrics.md"),
        annotation(
            REQUEST_ANNOTATION,
            "CanaryRollout",
            "`VERB:REVISION`, `promote:REVISION@WEIGHT`",
            "what a person asks of the release; removed once it is answered",
        )
        .page("verbs.md"),
        annotation(
            BREAK_GLASS_ANNOTATION,
            "Deployment",
            "anything; by custom, who it is",
            "a person has taken over: no gate, no split, no release",
        )
        .page("operations.md#take-over-by-hand-break-glass"),
        annotation(
            CREDENTIALS_ANNOTATION,
            "Secret",
            "an address, `https://host` or below it",
            "where the Secret's values may be sent",
        )
        .page("prometheus.md"),
    ]
}

fn of_limit(limit: limits::Limit) -> Entry {
    let (least, most) = (limit.range.start(), limit.range.end());
    let values = format!("{least} to {most}; default {}", limit.default);
    let meaning = limit.meaning;
    annotation(limit.annotation, "Pod", &values, meaning).page("limits.md")
}

/// Of all callers together, and of each.
fn of_rates() -> [Entry; 2] {
    let [(all, _), (each, _)] = rate::ANNOTATIONS;
    let of = |name, meaning| {
        let values = "such as `100/s` or `100/s burst 300`";
        annotation(name, "Pod", values, meaning).page("limits.md")
    };
    [
        of(
            all,
            "requests a second that it takes of all callers together",
        ),
        of(each, "requests a second that it takes of each caller"),
    ]
}

fn of_services() -> Vec<Entry> {
    let service = |name, values: &str, meaning| {
        annotation(name, "Service", values, meaning).page("limits.md")
    };
    let time = "a duration up to `24h`; `0s` is none";
    vec![
        service(
            bounds::REQUEST_TIMEOUT,
            time,
            "from a request's head to the end of its answer",
        ),
        service(
            bounds::STREAM_IDLE_TIMEOUT,
            time,
            "once the answer has begun: without a byte either way",
        ),
        service(
            bounds::MAX_REQUESTS,
            "1 to 4294967295",
            "requests in progress of one sidecar to one revision",
        ),
        service(
            retries::ON,
            "such as `reset,502,503`",
            "for what a call is sent again; without it, only for what reached nobody",
        ),
        service(
            retries::LIMIT,
            "1 to 5; default 1",
            "how often it is sent again at most",
        ),
        service(
            retries::TIMEOUT,
            "a duration shorter than the request timeout",
            "for each attempt, until the head of its answer",
        ),
        service(
            retries::METHODS,
            "such as `GET,PUT,gRPC`; default `GET,HEAD,OPTIONS`",
            "requests that may reach an application twice",
        ),
        service(
            retries::BUDGET,
            "up to `100% + 1000/s`; default `20% + 10/s`",
            "how much of what is sent may be sent again",
        ),
        service(
            faults::DELAY,
            "a share and a time up to 60 s, such as `10% 2s`",
            "requests that are kept waiting on purpose",
        ),
        service(
            faults::ABORT,
            "a share and a status from 400 to 599, such as `5% 503`",
            "requests that are answered with a failure on purpose",
        ),
        service(
            faults::HEADER,
            "a header and its value, such as `x-test=slow`",
            "both only for requests that say so",
        ),
    ]
}

fn of_aviary() -> Vec<Entry> {
    let entries = [
        label(
            ROLLOUT_LABEL,
            "Deployment",
            "a name",
            "the CanaryRollout that releases it",
        ),
        label(
            CANARY_OF_LABEL,
            "Deployment",
            "a name",
            "on a canary copy: the CanaryRollout that made it",
        ),
        label(
            REVISION_LABEL,
            "Deployment, Pod",
            "a revision",
            "on a canary copy and its pods: which template they run",
        ),
        annotation(
            RESTORED_ANNOTATION,
            "ReplicaSet",
            "a revision",
            "made again from the kept template",
        ),
        annotation(
            REQUESTED_BY_ANNOTATION,
            "CanaryRollout",
            "a user",
            "who asked, as the API server authenticated them",
        )
        .page("verbs.md"),
        annotation(
            INJECTED_ANNOTATION,
            "Pod",
            "a version",
            "the operator that injected the sidecar",
        ),
        annotation(
            INJECTION_ANNOTATION,
            "Pod",
            "a number",
            "what that injection brought that releases count on",
        ),
        Entry {
            kind: Kind::Finalizer,
            ..label(
                FINALIZER,
                "CanaryRollout",
                "",
                "while there is a canary copy or a canary weight to take away",
            )
        },
        Entry {
            kind: Kind::Condition,
            ..label(
                condition::RELEASED,
                "Deployment",
                "",
                "how the release of its newest template stands",
            )
        },
    ];
    entries.map(Entry::of_aviary).into()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn nothing_is_there_twice() {
        let entries = all();
        let names: BTreeSet<(&str, &str)> =
            entries.iter().map(|entry| (entry.name, entry.on)).collect();
        assert_eq!(names.len(), entries.len());
    }

    #[test]
    fn every_annotation_of_a_service_that_is_read_has_a_row() {
        let entries = all();
        for name in bounds::ANNOTATIONS {
            assert!(
                entries.iter().any(|entry| entry.name == name),
                "{name}: add a row"
            );
        }
    }
}
