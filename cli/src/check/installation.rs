//! Whether the cluster can run Aviary, and whether it does.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use jiff::Timestamp;
use k8s_openapi::ByteString;
use k8s_openapi::api::apps::v1::Deployment;

use super::certificate::{Life, expires, life};
use super::facts::Facts;
use super::finding::{Finding, Group};
use super::read::Read;
use super::types::{self, INSTALL};
use crate::cluster::{OPERATOR, holder};

/// Native sidecars are on by default from then on.
const OLDEST_MINOR: u32 = 30;
/// It lapses after 5 s; clocks differ.
const LAPSED: Duration = Duration::from_secs(60);
/// What does not happen without an operator.
const AWAY: &str = "no release moves, and gated changes and pods that ask for sidecars wait";
/// What the operator says of a certificate.
struct Expiry {
    metric: &'static str,
    name: &'static str,
    /// It should hold for longer than this, in seconds and in words: as the alerts have it (config/monitoring).
    soon: (u64, &'static str),
}

const DAY: u64 = 24 * 3600;
const MONTH: (u64, &str) = (30 * DAY, "another month");
const EXPIRIES: [Expiry; 3] = [
    // It holds for a day, and is renewed at half of that.
    Expiry {
        metric: "aviary_operator_certificate_expiry_timestamp_seconds",
        name: "the operator's certificate",
        soon: (3600, "another hour"),
    },
    Expiry {
        metric: "aviary_operator_root_expiry_timestamp_seconds",
        name: "the root that proxies trust",
        soon: MONTH,
    },
    Expiry {
        metric: "aviary_operator_workload_issuer_expiry_timestamp_seconds",
        name: "the issuer of pods' certificates",
        soon: (7 * DAY, "another week"),
    },
];

const DECIDES: &str = "one replica of the operator decides";
const INJECTED: &str = "a pod that asks for a sidecar gets one (tried, and not created)";
const CERTIFICATES: &str = "the certificates hold";

pub(super) fn judge(facts: &Facts, now: SystemTime) -> Vec<Finding> {
    let mut group = Group::new("cluster");
    version(&mut group, facts);
    types::judge(&mut group, facts);
    let mut findings = group.findings;
    let mut group = Group::new("operator");
    operator(&mut group, facts);
    if is_away(facts) {
        // All of this is for the operator to put right, or to tell.
        let away = "no pod of the operator is Ready: see above";
        group.unknown(DECIDES, away);
        webhooks(&mut group, facts, now);
        group.unknown(INJECTED, away);
        group.unknown(CERTIFICATES, away);
    } else {
        decides(&mut group, facts, now);
        webhooks(&mut group, facts, now);
        injection(&mut group, facts);
        certificates(&mut group, facts, now);
    }
    findings.append(&mut group.findings);
    findings
}

fn version(group: &mut Group, facts: &Facts) {
    let (major, minor) = (&facts.version.major, &facts.version.minor);
    let what = format!("Kubernetes {major}.{minor} has native sidecars");
    // Some call themselves 30+.
    let digits: String = minor.chars().take_while(char::is_ascii_digit).collect();
    match digits.parse::<u32>() {
        Ok(minor) if minor >= OLDEST_MINOR || major != "1" => group.passed(what),
        Ok(_) => group.failed(
            what,
            "it is too old",
            "upgrade the cluster to 1.30 or newer",
        ),
        Err(_) => group.unknown(what, format!("{minor} is no number")),
    }
}

fn operator(group: &mut Group, facts: &Facts) {
    let what = format!("the operator runs in namespace {}", facts.namespace);
    let look = format!(
        "kubectl -n {} describe deployment {OPERATOR}",
        facts.namespace
    );
    let deployment = match &facts.operator {
        Read::There(deployment) => deployment,
        Read::Absent => {
            let mend = format!("{INSTALL}; or name its namespace with --operator-namespace");
            return group.failed(what, format!("there is no Deployment {OPERATOR}"), mend);
        }
        Read::Unknown(why) => return group.unknown(what, why.clone()),
    };
    let wanted = deployment
        .spec
        .as_ref()
        .and_then(|it| it.replicas)
        .unwrap_or(1);
    let ready = ready(deployment);
    if ready >= wanted.max(1) {
        group.passed(what);
    } else if ready > 0 {
        let seen = format!("{ready} of {wanted} pods are Ready: the others stand by for it");
        group.warning(what, seen, look);
    } else if wanted == 0 {
        let scale = format!(
            "kubectl -n {} scale deployment {OPERATOR} --replicas=2",
            facts.namespace
        );
        group.failed(what, format!("it is scaled to 0: {AWAY}"), scale);
    } else {
        let seen = format!("none of {wanted} pods is Ready: {AWAY}");
        group.failed(what, seen, look);
    }
}

fn ready(deployment: &Deployment) -> i32 {
    let status = deployment.status.as_ref();
    status.and_then(|it| it.ready_replicas).unwrap_or(0)
}

fn is_away(facts: &Facts) -> bool {
    facts.operator.there().is_some_and(|it| ready(it) == 0)
}

/// The holder renews its Lease every second.
fn decides(group: &mut Group, facts: &Facts, now: SystemTime) {
    let what = DECIDES;
    let look = format!(
        "kubectl -n {} logs deployment/{OPERATOR} --all-pods",
        facts.namespace
    );
    let lease = match &facts.lease {
        Read::There(lease) => lease,
        Read::Absent => return group.failed(what, "nobody has taken the Lease yet", look),
        Read::Unknown(why) => return group.unknown(what, why.clone()),
    };
    let renewed = lease.spec.as_ref().and_then(|it| it.renew_time.as_ref());
    let renewed = renewed.map(|it| SystemTime::from(it.0));
    match (holder(lease), renewed) {
        (None, _) => group.failed(
            what,
            "the Lease was given back, and nobody has taken it",
            look,
        ),
        (Some(holder), Some(at)) if at + LAPSED < now => group.failed(
            what,
            format!(
                "{holder} has the Lease, and renewed it last at {}",
                time(at)
            ),
            look,
        ),
        (Some(_), Some(_) | None) => group.passed(what),
    }
}

fn webhooks(group: &mut Group, facts: &Facts, now: SystemTime) {
    let bytes = |it: &Option<ByteString>| it.as_ref().map(|it| it.0.clone());
    let mutating: Read<Vec<Option<Vec<u8>>>> = facts.mutating.map(|config| {
        let hooks = config.webhooks.iter().flatten();
        hooks.map(|it| bytes(&it.client_config.ca_bundle)).collect()
    });
    let validating: Read<Vec<Option<Vec<u8>>>> = facts.validating.map(|config| {
        let hooks = config.webhooks.iter().flatten();
        hooks.map(|it| bytes(&it.client_config.ca_bundle)).collect()
    });
    for (kind, of) in [("mutating", mutating), ("validating", validating)] {
        let what = format!("the {kind} webhooks are there, with a root to verify the operator by");
        let gone = "they are not there: nothing is gated, nothing injected";
        match of {
            Read::There(bundles) => bundle(group, restart(&facts.namespace), what, &bundles, now),
            Read::Absent => group.failed(what, gone, INSTALL),
            Read::Unknown(why) => group.unknown(what, why),
        }
    }
}

/// Where the API server does not trust what the operator shows.
fn restart(namespace: &str) -> String {
    format!(
        "the operator writes it when it starts: kubectl -n {namespace} rollout restart deployment {OPERATOR}"
    )
}

fn bundle(
    group: &mut Group,
    restart: String,
    what: String,
    bundles: &[Option<Vec<u8>>],
    now: SystemTime,
) {
    let empty = bundles
        .iter()
        .filter(|it| it.as_ref().is_none_or(Vec::is_empty))
        .count();
    if bundles.is_empty() || empty > 0 {
        let seen = format!("{empty} of {} have no caBundle", bundles.len());
        return group.failed(what, seen, restart);
    }
    let ends = bundles.iter().flatten().map(|pem| expires(pem));
    match ends
        .collect::<Option<Vec<u64>>>()
        .and_then(|all| all.into_iter().min())
    {
        None => group.failed(what, "a caBundle has no certificate in it", restart),
        Some(at) => match life(at, now, Duration::from_secs(MONTH.0)) {
            Life::Long => group.passed(what),
            Life::Ends(at) => {
                group.warning(what, format!("the root expires {}", time(at)), restart)
            }
            Life::Over(at) => {
                group.failed(what, format!("the root has expired {}", time(at)), restart)
            }
        },
    }
}

fn injection(group: &mut Group, facts: &Facts) {
    let what = INJECTED;
    let reach = format!(
        "the API server has to reach the operator: kubectl -n {} get endpointslices, and its log",
        facts.namespace
    );
    match &facts.injected {
        Read::There(true) => group.passed(what),
        Read::There(false) | Read::Absent => group.failed(what, "it gets none", reach),
        // What the API server says when a webhook does not answer.
        Read::Unknown(why) if why.contains("failed calling webhook") => {
            let mend = if why.contains("x509") {
                format!(
                    "the webhooks' caBundle is not the operator's root: {}",
                    restart(&facts.namespace)
                )
            } else {
                reach
            };
            group.failed(what, why.clone(), mend);
        }
        Read::Unknown(why) => group.unknown(what, why.clone()),
    }
}

fn certificates(group: &mut Group, facts: &Facts, now: SystemTime) {
    let what = CERTIFICATES;
    let text = match &facts.metrics {
        Read::There(text) => text,
        Read::Absent => return group.unknown(what, "it says nothing"),
        Read::Unknown(why) => return group.unknown(what, why.clone()),
    };
    for Expiry { metric, name, soon } in EXPIRIES {
        let Some(at) = value(text, metric) else {
            // Without an issuer pods go on in plaintext; the operator's log says why there is none.
            group.warning(
                format!("{name} is there"),
                "the operator does not say when it expires",
                format!("kubectl -n {} logs deployment/{OPERATOR}", facts.namespace),
            );
            continue;
        };
        let (soon, words) = soon;
        let what = format!("{name} holds for {words}");
        let renew = format!(
            "see what the operator says: kubectl -n {} logs deployment/{OPERATOR}",
            facts.namespace
        );
        match life(at, now, Duration::from_secs(soon)) {
            Life::Long => group.passed(what),
            Life::Ends(at) => group.warning(what, format!("it expires {}", time(at)), renew),
            Life::Over(at) => group.failed(what, format!("it has expired {}", time(at)), renew),
        }
    }
}

/// Of a metric without labels, in whole seconds.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // seconds since the epoch
fn value(text: &str, metric: &str) -> Option<u64> {
    let mut lines = text.lines().filter_map(|line| line.strip_prefix(metric));
    let value: f64 = lines.find_map(|rest| rest.strip_prefix(' ')?.trim().parse().ok())?;
    (value > 0.0).then_some(value as u64)
}

fn time(at: SystemTime) -> String {
    let since = at.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    let seconds = i64::try_from(since.as_secs()).unwrap_or(i64::MAX);
    Timestamp::from_second(seconds).map_or_else(|_| "one day".to_owned(), |it| it.to_string())
}

#[cfg(test)]
mod tests;
