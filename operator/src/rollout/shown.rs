//! What a rollout's metrics say after a look at it.

use rollout_core::desired;
use rollout_core::plan::Percent;
use rollout_core::state::Phase;

use super::heard::Heard;
use super::session::Session;
use crate::metrics::Shown;

pub(super) fn of(session: &Session, heard: &Heard) -> Shown {
    let state = session.state();
    let sent = heard
        .sent
        .canary
        .map_or(Percent::ZERO, |(_, weight)| weight);
    let sent = i64::from(sent.get());
    let conditions = session.status().map(|status| status.conditions.as_slice());
    let mut conditions = conditions.unwrap_or_default().iter();
    let stalled = conditions.find(|each| each.type_ == "Stalled" && each.status == "True");
    Shown {
        phase: state.map_or("Unknown", |state| name(&state.phase)),
        wanted: state.map_or(0, |state| i64::from(desired(state).weight().get())),
        sent,
        acknowledged: heard.acks.complete().then_some(sent),
        proxies: heard.acks.proxies,
        laggards: heard.acks.proxies.saturating_sub(heard.acks.acknowledged),
        gated: state.is_some_and(|state| state.gated),
        stalled: stalled.map(|each| each.reason.clone()),
    }
}

/// As the status calls it.
pub(super) fn name(phase: &Phase) -> &'static str {
    match phase {
        Phase::Unsettled { .. } => "Unsettled",
        Phase::Stable => "Stable",
        Phase::Scaling { step: 0, .. } => "Starting",
        Phase::Scaling { .. } => "Scaling",
        Phase::Shifting { .. } => "Shifting",
        Phase::Soaking { .. } => "Soaking",
        Phase::Promoting { .. } => "Promoting",
        Phase::Returning { .. } => "Returning",
        Phase::RollingBack { .. } => "RollingBack",
        Phase::Failed => "Failed",
    }
}
