//! What a pod says about its sidecar's limits, as flags of the proxy.

use serde_json::Value;
use traffic_core::limits::{self, InvalidLimit};

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("annotation {annotation}: {source}")]
pub struct LimitError {
    annotation: &'static str,
    source: InvalidLimit,
}

/// One flag for each annotation.
pub(super) fn from_annotations(pod: &Value) -> Result<Vec<String>, LimitError> {
    let annotations = &pod["metadata"]["annotations"];
    let set = limits::ALL.into_iter().filter_map(|limit| {
        let text = annotations[limit.annotation].as_str()?;
        Some((limit, text))
    });
    set.map(|(limit, text)| match limit.parse(text) {
        Ok(number) => Ok(format!("--{}={number}", limit.flag)),
        Err(source) => Err(LimitError {
            annotation: limit.annotation,
            source,
        }),
    })
    .collect()
}
