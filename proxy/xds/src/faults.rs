//! [`Faults`] as the configuration of Envoy's fault filter for one route.

use std::collections::HashMap;
use std::time::Duration;

use envoy_types::pb::envoy::config::route::v3::HeaderMatcher;
use envoy_types::pb::envoy::config::route::v3::header_matcher::HeaderMatchSpecifier;
use envoy_types::pb::envoy::extensions::filters::common::fault::v3::FaultDelay;
use envoy_types::pb::envoy::extensions::filters::common::fault::v3::fault_delay::FaultDelaySecifier;
use envoy_types::pb::envoy::extensions::filters::http::fault::v3::fault_abort::ErrorType;
use envoy_types::pb::envoy::extensions::filters::http::fault::v3::{FaultAbort, HttpFault};
use envoy_types::pb::envoy::r#type::matcher::v3::StringMatcher;
use envoy_types::pb::envoy::r#type::matcher::v3::string_matcher::MatchPattern;
use envoy_types::pb::envoy::r#type::v3::FractionalPercent;
use envoy_types::pb::envoy::r#type::v3::fractional_percent::DenominatorType;
use envoy_types::pb::google::protobuf::Any;
use prost::{Message, Name};
use traffic_core::config::Weight;
use traffic_core::fault::{Abort, Delay, Faults, Only};
use traffic_core::split::sticky::InvalidKey;

use crate::time;

const FILTER: &str = "envoy.filters.http.fault";
/// A share has units of 1/100 000, and Envoy a denominator of a million.
const FINER: u32 = 1_000_000 / Weight::SCALE;

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FaultsProblem {
    #[error("they cannot be decoded: {0}")]
    Undecodable(prost::DecodeError),
    #[error("a delay of no request, for no time, or for longer than a minute")]
    Delay,
    #[error("an abort of no request, or with a status that is no error")]
    Abort,
    #[error(transparent)]
    Header(#[from] InvalidKey),
    #[error("nothing is put in")]
    Nothing,
    #[error("they have a field that this proxy does not know")]
    Unknown,
}

pub(crate) fn encode(faults: &Faults) -> HashMap<String, Any> {
    let filter = Any {
        type_url: HttpFault::type_url(),
        value: wire(faults).encode_to_vec(),
    };
    HashMap::from([(FILTER.to_owned(), filter)])
}

/// Of what is said for other filters nothing is read.
pub(crate) fn decode(filters: &HashMap<String, Any>) -> Result<Option<Faults>, FaultsProblem> {
    let Some(filter) = filters.get(FILTER) else {
        return Ok(None);
    };
    let fault = HttpFault::decode(filter.value.as_slice()).map_err(FaultsProblem::Undecodable)?;
    let delay = fault
        .delay
        .as_ref()
        .map(|it| delay(it).ok_or(FaultsProblem::Delay));
    let abort = fault
        .abort
        .as_ref()
        .map(|it| abort(it).ok_or(FaultsProblem::Abort));
    let only = fault.headers.first().map(only).transpose()?;
    let faults = Faults::new(delay.transpose()?, abort.transpose()?, only);
    let faults = faults.ok_or(FaultsProblem::Nothing)?;
    // What is not understood would be another fault.
    let is_all = wire(&faults) == fault && filter.type_url == HttpFault::type_url();
    is_all.then_some(Some(faults)).ok_or(FaultsProblem::Unknown)
}

fn wire(faults: &Faults) -> HttpFault {
    HttpFault {
        delay: faults.delay().map(|delay| FaultDelay {
            percentage: Some(share(delay.share())),
            fault_delay_secifier: Some(FaultDelaySecifier::FixedDelay(time::encode(delay.time()))),
        }),
        abort: faults.abort().map(|abort| FaultAbort {
            percentage: Some(share(abort.share())),
            error_type: Some(ErrorType::HttpStatus(abort.status().into())),
            ..FaultAbort::default()
        }),
        headers: faults.only().map(header).into_iter().collect(),
        ..HttpFault::default()
    }
}

fn share(share: Weight) -> FractionalPercent {
    FractionalPercent {
        numerator: share.units() * FINER,
        denominator: DenominatorType::Million.into(),
    }
}

fn header(only: &Only) -> HeaderMatcher {
    HeaderMatcher {
        name: only.name().to_owned(),
        header_match_specifier: Some(HeaderMatchSpecifier::StringMatch(StringMatcher {
            match_pattern: Some(MatchPattern::Exact(only.value().to_owned())),
            ..StringMatcher::default()
        })),
        ..HeaderMatcher::default()
    }
}

fn weight(share: Option<&FractionalPercent>) -> Option<Weight> {
    let share = share?;
    let is_fine = share.denominator == i32::from(DenominatorType::Million);
    let units = Some(share.numerator / FINER).filter(|_| is_fine);
    Weight::new(units?).ok()
}

fn delay(wire: &FaultDelay) -> Option<Delay> {
    let time: Duration = match &wire.fault_delay_secifier {
        Some(FaultDelaySecifier::FixedDelay(time)) => time::decode(*time)?,
        Some(FaultDelaySecifier::HeaderDelay(_)) | None => return None,
    };
    Delay::new(weight(wire.percentage.as_ref())?, time)
}

fn abort(wire: &FaultAbort) -> Option<Abort> {
    let status = match &wire.error_type {
        Some(ErrorType::HttpStatus(status)) => u16::try_from(*status).ok()?,
        Some(ErrorType::GrpcStatus(_) | ErrorType::HeaderAbort(_)) | None => return None,
    };
    Abort::new(weight(wire.percentage.as_ref())?, status)
}

fn only(matcher: &HeaderMatcher) -> Result<Only, FaultsProblem> {
    let value = match &matcher.header_match_specifier {
        Some(HeaderMatchSpecifier::StringMatch(value)) => value.match_pattern.as_ref(),
        _ => None,
    };
    match value {
        Some(MatchPattern::Exact(value)) => Ok(Only::header(&matcher.name, value)?),
        _ => Err(FaultsProblem::Unknown),
    }
}
