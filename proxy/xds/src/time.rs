//! Times as protobuf has them.

use std::time::Duration;

use envoy_types::pb::google::protobuf;
use traffic_core::bounds::Bounds;

pub(crate) fn encode(time: Duration) -> protobuf::Duration {
    protobuf::Duration {
        seconds: i64::try_from(time.as_secs()).unwrap_or(i64::MAX),
        nanos: i32::try_from(time.subsec_nanos()).unwrap_or_default(),
    }
}

/// A time that may be set.
pub(crate) fn decode(wire: protobuf::Duration) -> Option<Duration> {
    read(wire).and_then(Bounds::time)
}

/// `None`: it is negative, or has more than there is.
pub(crate) fn read(protobuf::Duration { seconds, nanos }: protobuf::Duration) -> Option<Duration> {
    let seconds = Duration::from_secs(u64::try_from(seconds).ok()?);
    seconds.checked_add(Duration::from_nanos(u32::try_from(nanos).ok()?.into()))
}
