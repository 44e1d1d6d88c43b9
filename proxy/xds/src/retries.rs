//! [`Retries`] as the retry policy of a route's action: Envoy's own form, but for the budget, which Envoy has for clusters and none for routes; so that one is in
//! metadata. Its methods are request headers that must match.
//!
//! Envoy understands the same under it, with two differences: its `5xx` includes resets, and its second attempt is split anew where ours goes to stable.

use std::time::Duration;

use envoy_types::pb::envoy::config::route::v3::header_matcher::HeaderMatchSpecifier;
use envoy_types::pb::envoy::config::route::v3::{HeaderMatcher, RetryPolicy};
use envoy_types::pb::envoy::r#type::matcher::v3::StringMatcher;
use envoy_types::pb::envoy::r#type::matcher::v3::string_matcher::MatchPattern;
use envoy_types::pb::google::protobuf::{Struct, UInt32Value};
use traffic_core::retry::budget::Terms;
use traffic_core::retry::conditions::{Condition, InvalidCondition};
use traffic_core::retry::methods::{InvalidMethod, Method, Methods};
use traffic_core::retry::policy::{Contradiction, Retries, Times};

use crate::metadata::{self, FieldProblem, Fields};
use crate::time;

/// The field for [`Retries::budget`].
pub(crate) const BUDGET: &str = "retry_budget";
const PERCENT: &str = "percent";
const FLOOR: &str = "floor";

/// What Envoy calls a list of statuses that is somewhere else.
const STATUSES: &str = "retriable-status-codes";
const METHOD: &str = ":method";
const CONTENT_TYPE: &str = "content-type";
const GRPC: &str = "application/grpc";

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RetriesProblem {
    #[error(transparent)]
    Condition(#[from] InvalidCondition),
    #[error("status {0} is none from 500 to 599")]
    Status(u32),
    #[error("it names statuses without `{STATUSES}`, or the other way round")]
    Statuses,
    #[error("{0} retries, expected 1 to {most}", most = Times::MOST)]
    Times(u32),
    #[error("its time for one attempt is zero, negative, or longer than a day")]
    Each,
    #[error(transparent)]
    Method(#[from] InvalidMethod),
    #[error("its request headers are no list of methods")]
    NoMethods,
    #[error("a budget of {percent} % and {floor} a second is none")]
    Budget { percent: u64, floor: u64 },
    #[error("it has a field that this proxy does not know")]
    Unknown,
    #[error(transparent)]
    Contradiction(#[from] Contradiction),
    #[error(transparent)]
    Field(#[from] FieldProblem),
}

pub(crate) fn encode(retries: &Retries) -> RetryPolicy {
    let Retries {
        on,
        times,
        each,
        methods,
        budget: _,
    } = retries;
    let (mut words, mut statuses) = (Vec::new(), Vec::new());
    for condition in on.iter() {
        match condition {
            Condition::Status(status) => statuses.push(u32::from(status)),
            Condition::ConnectFailure
            | Condition::Reset
            | Condition::ServerError
            | Condition::Grpc(_) => words.push(condition.to_string()),
        }
    }
    if !statuses.is_empty() {
        words.push(STATUSES.to_owned());
    }
    RetryPolicy {
        retry_on: words.join(","),
        num_retries: Some(UInt32Value {
            value: times.get().into(),
        }),
        per_try_timeout: each.map(time::encode),
        retriable_status_codes: statuses,
        retriable_request_headers: methods.iter().map(encode_method).collect(),
        ..RetryPolicy::default()
    }
}

/// The value of the field [`BUDGET`].
pub(crate) fn encode_budget(terms: Terms) -> Struct {
    metadata::fields([
        (PERCENT, metadata::text(terms.percent().to_string())),
        (FLOOR, metadata::text(terms.floor().to_string())),
    ])
}

/// `whole`: how long a whole call may take.
pub(crate) fn decode(
    policy: &RetryPolicy,
    about: Fields<'_>,
    whole: Option<Duration>,
) -> Result<Retries, RetriesProblem> {
    let known = RetryPolicy {
        retry_on: policy.retry_on.clone(),
        num_retries: policy.num_retries,
        per_try_timeout: policy.per_try_timeout,
        retriable_status_codes: policy.retriable_status_codes.clone(),
        retriable_request_headers: policy.retriable_request_headers.clone(),
        ..RetryPolicy::default()
    };
    if known != *policy {
        return Err(RetriesProblem::Unknown);
    }
    let mut on = Vec::new();
    let mut has_statuses = false;
    for word in policy.retry_on.split(',').filter(|word| !word.is_empty()) {
        match word {
            STATUSES => has_statuses = true,
            word => on.push(word.parse::<Condition>()?),
        }
    }
    if has_statuses == policy.retriable_status_codes.is_empty() {
        return Err(RetriesProblem::Statuses);
    }
    for status in &policy.retriable_status_codes {
        on.push(match u16::try_from(*status) {
            Ok(status @ 500..=599) => Condition::Status(status),
            _ => return Err(RetriesProblem::Status(*status)),
        });
    }
    // Envoy's default is once, too.
    let times = policy.num_retries.map_or(1, |times| times.value);
    let each = policy.per_try_timeout.map(time::decode);
    let methods: Vec<Method> = policy
        .retriable_request_headers
        .iter()
        .map(method)
        .collect::<Result<_, _>>()?;
    if methods.is_empty() {
        return Err(RetriesProblem::NoMethods);
    }
    let retries = Retries {
        on: on.into_iter().collect(),
        times: Times::new(times).ok_or(RetriesProblem::Times(times))?,
        each: each
            .map(|each| each.ok_or(RetriesProblem::Each))
            .transpose()?,
        methods: methods.into_iter().collect::<Methods>(),
        budget: budget(about)?,
    };
    retries.check(whole)?;
    Ok(retries)
}

/// Of a control plane that says nothing of it there is the usual one.
fn budget(about: Fields<'_>) -> Result<Terms, RetriesProblem> {
    let Some(fields) = about.nested(BUDGET)? else {
        return Ok(Terms::default());
    };
    let (percent, floor) = (fields.number(PERCENT)?, fields.number(FLOOR)?);
    let terms = u32::try_from(percent).ok().zip(u32::try_from(floor).ok());
    let terms = terms.and_then(|(percent, floor)| Terms::new(percent, floor));
    terms.ok_or(RetriesProblem::Budget { percent, floor })
}

fn encode_method(method: Method) -> HeaderMatcher {
    let (name, pattern) = match method {
        Method::Grpc => (CONTENT_TYPE, MatchPattern::Prefix(GRPC.to_owned())),
        method => (METHOD, MatchPattern::Exact(method.as_str().to_owned())),
    };
    let value = StringMatcher {
        match_pattern: Some(pattern),
        ..StringMatcher::default()
    };
    HeaderMatcher {
        name: name.to_owned(),
        header_match_specifier: Some(HeaderMatchSpecifier::StringMatch(value)),
        ..HeaderMatcher::default()
    }
}

fn method(matcher: &HeaderMatcher) -> Result<Method, RetriesProblem> {
    if *matcher == encode_method(Method::Grpc) {
        return Ok(Method::Grpc);
    }
    let value = match &matcher.header_match_specifier {
        Some(HeaderMatchSpecifier::StringMatch(value)) => value.match_pattern.as_ref(),
        _ => None,
    };
    let Some(MatchPattern::Exact(name)) = value else {
        return Err(RetriesProblem::NoMethods);
    };
    let method: Method = name.parse()?;
    let is_plain = *matcher == encode_method(method);
    is_plain.then_some(method).ok_or(RetriesProblem::NoMethods)
}
