//! Who is asked about a release, or told of it, over HTTP.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::units::{DURATION_ABOVE_ZERO, DURATION_PATTERN};

/// An address that is asked about a release, or told of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!has(self.weights) || self.when in ['BeforeStep', 'Gate']")
        .message("hooks[].weights: only BeforeStep and Gate are asked before a weight; leave weights out"),
    validation = Rule::new("!has(self.onFailure) || self.when in ['BeforeStep', 'BeforePromotion']")
        .message("hooks[].onFailure: a Gate is waited for and an AfterResult is not, whatever they answer; leave onFailure out")
)]
pub struct Hook {
    /// A name of your own; it appears in the status, in events and in what is sent.
    #[schemars(
        length(min = 1, max = 63),
        regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")
    )]
    pub name: String,
    /// When it is called. BeforeStep: before the weight is raised to that of a step, the first one included, when nothing
    /// else is missing: any answer with a status from 200 to 299 agrees. BeforePromotion: the same after the last step. Gate:
    /// before both; any other answer means not yet, and it is asked again every interval for as long as it takes.
    /// AfterResult: once a release is promoted or rolled back; nothing waits for it.
    pub when: When,
    /// The weights before which BeforeStep or Gate is asked. Default: every step; for a Gate, the promotion too.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(min = 1, max = 20), inner(range(min = 1, max = 100)))]
    pub weights: Vec<i32>,
    /// Where it is called, with POST. The operator calls only what its flag --hook-allow names, follows no redirect, and
    /// verifies the certificate of https.
    #[schemars(length(min = 1, max = 2048), regex(pattern = "^https?://"))]
    pub url: String,
    /// How long an answer may take; at most 1m. Default 10s.
    #[serde(default = "default_timeout")]
    #[schemars(regex(pattern = DURATION_PATTERN), length(max = 32))]
    #[x_kube(validation = Rule::new(DURATION_ABOVE_ZERO).message("hooks[].timeout must be longer than 0s, for example 10s"))]
    pub timeout: String,
    /// How often it is tried again, after 1s, 2s, 4s and so on, before it has failed. A Gate is asked every interval instead.
    /// Default 3.
    #[serde(default = "default_retries")]
    #[schemars(range(min = 0, max = 10))]
    pub retries: i32,
    /// How long until a Gate that has not agreed, or a hook that has failed and holds, is asked again; at least 1s.
    /// Default 30s.
    #[serde(default = "default_interval")]
    #[schemars(regex(pattern = DURATION_PATTERN), length(max = 32))]
    #[x_kube(validation = Rule::new(DURATION_ABOVE_ZERO).message("hooks[].interval must be longer than 0s, for example 30s"))]
    pub interval: String,
    /// What follows when BeforeStep or BeforePromotion does not agree, whatever the reason. Hold: the weight stays, and it is
    /// asked again every interval. Rollback: the weight goes to 0. Ignore: the release goes on. Default Hold.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_failure: Option<OnHookFailure>,
    /// What the call is signed with, and what the answer has to be signed by.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<SecretRef>,
}

/// When a hook is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum When {
    /// Before a weight is raised.
    BeforeStep,
    /// After the last step, before the Deployment rolls.
    BeforePromotion,
    /// Before both, for as long as it takes.
    Gate,
    /// When it was promoted or rolled back.
    AfterResult,
}

impl When {
    pub fn name(self) -> &'static str {
        match self {
            When::BeforeStep => "BeforeStep",
            When::BeforePromotion => "BeforePromotion",
            When::Gate => "Gate",
            When::AfterResult => "AfterResult",
        }
    }
}

/// What follows when a hook does not agree.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum OnHookFailure {
    /// The weight stays.
    #[default]
    Hold,
    /// The weight goes to 0 at once.
    Rollback,
    /// The release goes on.
    Ignore,
}

/// A Secret in the namespace of the CanaryRollout.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SecretRef {
    /// Its name. Its annotation aviary.dev/credentials-for has the address that it is for, and it has at least one of these keys: hmac-key (at least 16 bytes;
    /// the call is signed with it), token (sent as a bearer token), ca.crt (the authorities, in PEM, that the server's
    /// certificate has to come from).
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
}

fn default_timeout() -> String {
    "10s".to_owned()
}

fn default_retries() -> i32 {
    3
}

fn default_interval() -> String {
    "30s".to_owned()
}
