//! [`Bounds`] in a route's action: Envoy's `timeout` and `idle_timeout`, where zero is none, since Envoy's own defaults (15 s, 5 min) would cut requests
//! that worked without a mesh. Envoy has a limit of requests for clusters and none for routes, so that one is in metadata.
//!
//! `grpc-timeout` counts whatever is said here: sidecars heed it by themselves, and Envoy is told to.

use std::num::NonZeroU32;
use std::time::Duration;

use envoy_types::pb::envoy::config::route::v3::RouteAction;
use envoy_types::pb::envoy::config::route::v3::route_action::MaxStreamDuration;
use envoy_types::pb::google::protobuf;
use traffic_core::bounds::Bounds;

use crate::metadata::{FieldProblem, Fields};

/// The field for [`Bounds::requests`].
pub(crate) const REQUESTS: &str = "requests";

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BoundsProblem {
    #[error("its {0} is negative, or longer than a day")]
    Time(&'static str),
    #[error("a limit of {0} requests is none")]
    Requests(u64),
    #[error(transparent)]
    Field(#[from] FieldProblem),
}

/// The action that has these times and nothing else.
pub(crate) fn encode(bounds: &Bounds) -> RouteAction {
    let time = |time: Option<Duration>| {
        let time = time.unwrap_or_default();
        Some(protobuf::Duration {
            seconds: i64::try_from(time.as_secs()).unwrap_or(i64::MAX),
            nanos: i32::try_from(time.subsec_nanos()).unwrap_or_default(),
        })
    };
    RouteAction {
        timeout: time(bounds.request),
        idle_timeout: time(bounds.idle),
        max_stream_duration: Some(MaxStreamDuration {
            // Zero: as the header says.
            grpc_timeout_header_max: time(None),
            ..MaxStreamDuration::default()
        }),
        ..RouteAction::default()
    }
}

pub(crate) fn decode(action: &RouteAction, about: Fields<'_>) -> Result<Bounds, BoundsProblem> {
    let requests = match about.number_if_any(REQUESTS)? {
        None => None,
        Some(number) => {
            let requests = u32::try_from(number).ok().and_then(NonZeroU32::new);
            Some(requests.ok_or(BoundsProblem::Requests(number))?)
        }
    };
    Ok(Bounds {
        request: time("timeout", action.timeout)?,
        idle: time("idle timeout", action.idle_timeout)?,
        requests,
    })
}

fn time(
    of: &'static str,
    time: Option<protobuf::Duration>,
) -> Result<Option<Duration>, BoundsProblem> {
    let Some(protobuf::Duration { seconds, nanos }) = time else {
        return Ok(None);
    };
    let wrong = || BoundsProblem::Time(of);
    let seconds = u64::try_from(seconds).map_err(|_| wrong())?;
    let nanos = u32::try_from(nanos).map_err(|_| wrong())?;
    let time = Duration::from_secs(seconds).checked_add(Duration::from_nanos(nanos.into()));
    match time.ok_or_else(wrong)? {
        Duration::ZERO => Ok(None),
        time => Bounds::time(time).map(Some).ok_or_else(wrong),
    }
}
