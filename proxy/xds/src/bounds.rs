//! [`Bounds`] in a route's action: Envoy's `timeout` and `idle_timeout`, where zero is none, since Envoy's own defaults (15 s, 5 min) would cut requests
//! that worked without a mesh. Envoy has a limit of requests for clusters and none for routes, so that one is in metadata.
//!
//! `grpc-timeout` counts whatever is said here: sidecars heed it by themselves, and Envoy is told to.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use envoy_types::pb::envoy::config::route::v3::RouteAction;
use envoy_types::pb::envoy::config::route::v3::route_action::MaxStreamDuration;
use envoy_types::pb::google::protobuf::{self, Any};
use traffic_core::bounds::Bounds;

use crate::faults::{self, FaultsProblem};
use crate::metadata::{FieldProblem, Fields};
use crate::retries::{self, RetriesProblem};
use crate::time;

/// The field for [`Bounds::requests`].
pub(crate) const REQUESTS: &str = "requests";

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BoundsProblem {
    #[error("its {0} is negative, or longer than a day")]
    Time(&'static str),
    #[error("a limit of {0} requests is none")]
    Requests(u64),
    #[error("its faults: {0}")]
    Faults(#[from] FaultsProblem),
    #[error("its retry policy: {0}")]
    Retries(#[from] RetriesProblem),
    #[error(transparent)]
    Field(#[from] FieldProblem),
}

/// The action that has these times and retries, and nothing else.
pub(crate) fn encode(bounds: &Bounds) -> RouteAction {
    let some = |time: Option<Duration>| Some(time::encode(time.unwrap_or_default()));
    RouteAction {
        timeout: some(bounds.request),
        idle_timeout: some(bounds.idle),
        max_stream_duration: Some(MaxStreamDuration {
            // Zero: as the header says.
            grpc_timeout_header_max: some(None),
            ..MaxStreamDuration::default()
        }),
        retry_policy: bounds.retries.as_ref().map(retries::encode),
        ..RouteAction::default()
    }
}

/// `filters`: what is said for the route to filters.
pub(crate) fn decode(
    action: &RouteAction,
    about: Fields<'_>,
    filters: &HashMap<String, Any>,
) -> Result<Bounds, BoundsProblem> {
    let requests = match about.number_if_any(REQUESTS)? {
        None => None,
        Some(number) => {
            let requests = u32::try_from(number).ok().and_then(NonZeroU32::new);
            Some(requests.ok_or(BoundsProblem::Requests(number))?)
        }
    };
    let request = bound("timeout", action.timeout)?;
    let retries = action.retry_policy.as_ref();
    let retries = retries.map(|policy| retries::decode(policy, about, request));
    Ok(Bounds {
        request,
        idle: bound("idle timeout", action.idle_timeout)?,
        requests,
        retries: retries.transpose()?,
        faults: faults::decode(filters)?.map(Arc::new),
    })
}

fn bound(
    of: &'static str,
    time: Option<protobuf::Duration>,
) -> Result<Option<Duration>, BoundsProblem> {
    match time.map(|time| (time::read(time), time::decode(time))) {
        None | Some((Some(Duration::ZERO), _)) => Ok(None),
        Some((_, Some(time))) => Ok(Some(time)),
        Some((_, None)) => Err(BoundsProblem::Time(of)),
    }
}
