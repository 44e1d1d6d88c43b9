//! What a pod, or its namespace for all its pods, wants to be told of single requests, as flags of the proxy. What the pod says itself goes first.

use std::fmt::Display;
use std::str::FromStr;

use serde_json::Value;
use traffic_core::telemetry::{
    ACCESS_LOG_ANNOTATION, ACCESS_LOG_FLAG, ACCESS_LOG_PATH_ANNOTATION, ACCESS_LOG_PATH_FLAG,
    AccessLog, AccessLogPath, InvalidWord, METRICS_FLAG, MetricNames, OF_NAMESPACES,
};

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("annotation {annotation}: {source}")]
pub struct TelemetryError {
    annotation: &'static str,
    source: InvalidWord,
}

/// One flag for each annotation.
pub(super) fn from_annotations(pod: &Value) -> Result<Vec<String>, TelemetryError> {
    let set = OF_NAMESPACES.into_iter().filter_map(|annotation| {
        let text = pod["metadata"]["annotations"][annotation].as_str()?;
        Some(flag_of(annotation, text))
    });
    set.collect()
}

/// The flag that one of [`OF_NAMESPACES`] becomes.
pub(super) fn flag_of(annotation: &'static str, text: &str) -> Result<String, TelemetryError> {
    match annotation {
        ACCESS_LOG_ANNOTATION => flag::<AccessLog>(annotation, ACCESS_LOG_FLAG, text),
        ACCESS_LOG_PATH_ANNOTATION => flag::<AccessLogPath>(annotation, ACCESS_LOG_PATH_FLAG, text),
        _ => flag::<MetricNames>(annotation, METRICS_FLAG, text),
    }
}

fn flag<T>(annotation: &'static str, flag: &str, text: &str) -> Result<String, TelemetryError>
where
    T: FromStr<Err = InvalidWord> + Display,
{
    let read: Result<T, InvalidWord> = text.parse();
    read.map(|read| format!("--{flag}={read}"))
        .map_err(|source| TelemetryError { annotation, source })
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use traffic_core::telemetry::METRICS_ANNOTATION;

    use super::*;

    fn of(annotations: Value) -> Result<Vec<String>, TelemetryError> {
        from_annotations(&json!({"metadata": {"annotations": annotations}}))
    }

    #[test]
    fn each_annotation_is_a_flag() {
        assert_eq!(of(json!({})), Ok(vec![]));
        let all = of(json!({
            "aviary.dev/access-log": "1.5%",
            "aviary.dev/access-log-path": "with-query",
            "aviary.dev/metrics": "istio",
        }));
        let flags = [
            "--access-log=1.5%",
            "--access-log-path=with-query",
            "--metrics=istio",
        ];
        assert_eq!(all.unwrap(), flags);
    }

    #[test]
    fn what_makes_no_sense_is_refused_by_name_with_what_would() {
        for (annotation, would) in [
            (ACCESS_LOG_ANNOTATION, "off, errors, all"),
            (ACCESS_LOG_PATH_ANNOTATION, "plain or with-query"),
            (METRICS_ANNOTATION, "aviary or istio"),
        ] {
            let error = of(json!({annotation: "sure"})).unwrap_err().to_string();
            let begins = format!("annotation {annotation}: 'sure' is none; write ");
            assert!(
                error.starts_with(&begins) && error.contains(would),
                "{error}"
            );
        }
    }
}
