//! What a pod says about its sidecar's limits, as flags of the proxy.

use serde_json::Value;
use traffic_core::limits::{self, InvalidLimit};
use traffic_core::rate::{self, InvalidRate, Rate};

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LimitError {
    #[error("annotation {annotation}: {source}")]
    Limit {
        annotation: &'static str,
        source: InvalidLimit,
    },
    #[error("annotation {annotation}: {source}")]
    Rate {
        annotation: &'static str,
        source: InvalidRate,
    },
}

/// One flag for each annotation.
pub(super) fn from_annotations(pod: &Value) -> Result<Vec<String>, LimitError> {
    let annotations = &pod["metadata"]["annotations"];
    let set = limits::ALL.into_iter().filter_map(|limit| {
        let text = annotations[limit.annotation].as_str()?;
        Some((limit, text))
    });
    let limits = set.map(|(limit, text)| match limit.parse(text) {
        Ok(number) => Ok(format!("--{}={number}", limit.flag)),
        Err(source) => Err(LimitError::Limit {
            annotation: limit.annotation,
            source,
        }),
    });
    let set = rate::ANNOTATIONS
        .into_iter()
        .filter_map(|(annotation, flag)| {
            let text = annotations[annotation].as_str()?;
            Some((annotation, flag, text))
        });
    let rates = set.map(|(annotation, flag, text)| match text.parse::<Rate>() {
        Ok(rate) => Ok(format!("--{flag}={rate}")),
        Err(source) => Err(LimitError::Rate { annotation, source }),
    });
    limits.chain(rates).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn flags(annotations: Value) -> Result<Vec<String>, String> {
        let pod = json!({"metadata": {"annotations": annotations}});
        from_annotations(&pod).map_err(|error| error.to_string())
    }

    #[test]
    fn a_rate_is_a_flag_of_the_proxy_and_what_is_none_refuses_the_pod() {
        let both = json!({
            "aviary.dev/rate-limit": "100/s burst 300",
            "aviary.dev/rate-limit-per-caller": "20/s",
            "aviary.dev/max-streams": "50",
        });
        let expected = [
            "--max-streams=50",
            "--rate-limit=100/s burst 300",
            "--rate-limit-per-caller=20/s burst 20",
        ];
        assert_eq!(flags(both).unwrap(), expected);
        assert_eq!(flags(json!({})), Ok(vec![]));
        let wrong = flags(json!({"aviary.dev/rate-limit": "100"})).unwrap_err();
        assert!(
            wrong.starts_with("annotation aviary.dev/rate-limit: '100' is no rate: write"),
            "{wrong}"
        );
    }
}
