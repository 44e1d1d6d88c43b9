//! [`Inbound`] as an Envoy Listener: one filter chain, with the HTTP connection manager, with the RBAC filter.
//!
//! ```text
//!   Listener inbound/self, metadata aviary.dev: {mtls: permissive | strict}
//!     HttpConnectionManager (not read, but for its filters)
//!       RBAC ALLOW   probes     any of {port, :method, :path}   whoever calls
//!                    anybody    anything                        whoever calls: no policy selects the pod
//!                    callers-N  any of the ports, or anything   any of these authenticated names
//! ```
//!
//! What is not understood is refused with the whole message: a rule that was left out would be another rule.

use envoy_types::pb::envoy::config::core::v3 as core;
use envoy_types::pb::envoy::config::listener::v3 as lds;
use envoy_types::pb::envoy::config::listener::v3::filter::ConfigType;
use envoy_types::pb::envoy::config::rbac::v3 as rbac;
use envoy_types::pb::envoy::config::rbac::v3::permission::{Rule, Set};
use envoy_types::pb::envoy::config::rbac::v3::principal::{Authenticated, Identifier};
use envoy_types::pb::envoy::config::route::v3::HeaderMatcher;
use envoy_types::pb::envoy::config::route::v3::header_matcher::HeaderMatchSpecifier;
use envoy_types::pb::envoy::extensions::filters::http::rbac::v3::Rbac as HttpRbac;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3 as hcm;
use envoy_types::pb::envoy::r#type::matcher::v3::StringMatcher;
use envoy_types::pb::envoy::r#type::matcher::v3::string_matcher::MatchPattern;
use envoy_types::pb::google::protobuf::Any;
use prost::{Message, Name};
use traffic_core::inbound::{
    Caller, Callers, Grant, Inbound, InvalidPath, InvalidPrefix, Mtls, Prefix, Probe,
};
use traffic_core::spiffe::{InvalidId, SpiffeId};

use crate::metadata::{self, FieldProblem, Fields, KEY};

const MTLS: &str = "mtls";
/// The name of the listener that is each proxy's own: what it does with what comes in. Whose it is the stream says, so nobody can ask for another's.
///
/// As the name of a route it asks for nothing, but says that a sidecar accepts TLS: it has a certificate, and all that comes in may be TLS.
pub const INBOUND: &str = "inbound/self";

const PERMISSIVE: &str = "permissive";
const STRICT: &str = "strict";

const PROBES: &str = "probes";
const ANYBODY: &str = "anybody";
const CALLERS: &str = "callers-";

const METHOD: &str = ":method";
const PATH: &str = ":path";

/// A Listener that is not one of ours; the text goes into the NACK.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("listener `{listener}`: {problem}")]
pub struct InvalidListener {
    pub listener: String,
    pub problem: ListenerProblem,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ListenerProblem {
    #[error("{0}")]
    Metadata(#[from] FieldProblem),
    #[error("it has no metadata `{KEY}`")]
    NoMetadata,
    #[error("it has {0} filter chains, expected one")]
    Chains(usize),
    #[error("it has not the one filter {expected}")]
    Filter { expected: String },
    #[error("its filter {what} cannot be decoded: {reason}")]
    Undecodable {
        what: String,
        reason: prost::DecodeError,
    },
    #[error("its RBAC has no rules, or they do not say what is allowed")]
    NotAllow,
    #[error("policy `{0}` has a condition")]
    Condition(String),
    #[error("policy `{policy}` {what}")]
    Unknown { policy: String, what: &'static str },
    #[error("policy `{policy}`: port {port} is none")]
    Port { policy: String, port: u32 },
    #[error("policy `{policy}`: {problem}")]
    Path {
        policy: String,
        problem: InvalidPath,
    },
    #[error("policy `{policy}`: {problem}")]
    Id { policy: String, problem: InvalidId },
    #[error("policy `{policy}`: {problem}")]
    Prefix {
        policy: String,
        problem: InvalidPrefix,
    },
}

pub fn encode(inbound: &Inbound) -> lds::Listener {
    let Inbound {
        mtls,
        probes,
        callers,
    } = inbound;
    let word = match mtls {
        Mtls::Permissive => PERMISSIVE,
        Mtls::Strict => STRICT,
    };
    let about = metadata::fields([(MTLS, metadata::text(word))]);
    let mut policies = vec![];
    if !probes.is_empty() {
        let permissions = probes.iter().map(encode_probe).collect();
        policies.push((PROBES.to_owned(), policy(permissions, vec![whoever()])));
    }
    match callers {
        Callers::Anybody => {
            policies.push((
                ANYBODY.to_owned(),
                policy(vec![anything()], vec![whoever()]),
            ));
        }
        Callers::Only(grants) => policies.extend(
            grants
                .iter()
                .enumerate()
                .map(|(number, grant)| (format!("{CALLERS}{number}"), encode_grant(grant))),
        ),
    }
    let filter = HttpRbac {
        rules: Some(rbac::Rbac {
            action: rbac::rbac::Action::Allow.into(),
            policies: policies.into_iter().collect(),
            ..rbac::Rbac::default()
        }),
        ..HttpRbac::default()
    };
    let manager = hcm::HttpConnectionManager {
        http_filters: vec![hcm::HttpFilter {
            name: "envoy.filters.http.rbac".to_owned(),
            config_type: Some(hcm::http_filter::ConfigType::TypedConfig(typed(&filter))),
            ..hcm::HttpFilter::default()
        }],
        ..hcm::HttpConnectionManager::default()
    };
    lds::Listener {
        name: INBOUND.to_owned(),
        traffic_direction: core::TrafficDirection::Inbound.into(),
        metadata: Some(core::Metadata {
            filter_metadata: [(KEY.to_owned(), about)].into(),
            ..core::Metadata::default()
        }),
        filter_chains: vec![lds::FilterChain {
            filters: vec![lds::Filter {
                name: "envoy.filters.network.http_connection_manager".to_owned(),
                config_type: Some(ConfigType::TypedConfig(typed(&manager))),
            }],
            ..lds::FilterChain::default()
        }],
        ..lds::Listener::default()
    }
}

/// The listener's name is not looked at.
pub fn decode(wire: &lds::Listener) -> Result<Inbound, InvalidListener> {
    read(wire).map_err(|problem| InvalidListener {
        listener: wire.name.clone(),
        problem,
    })
}

fn read(wire: &lds::Listener) -> Result<Inbound, ListenerProblem> {
    let about = wire.metadata.as_ref();
    let about = about.and_then(|about| about.filter_metadata.get(KEY));
    let mtls = match Fields(about.ok_or(ListenerProblem::NoMetadata)?).text(MTLS)? {
        PERMISSIVE => Mtls::Permissive,
        STRICT => Mtls::Strict,
        found => {
            return Err(ListenerProblem::Metadata(FieldProblem::UnknownWord {
                field: MTLS,
                found: found.to_owned(),
                known: "permissive, strict",
            }));
        }
    };
    let rules = rules(wire)?;
    let (mut probes, mut grants, mut is_anybodys) = (Vec::new(), Vec::new(), false);
    for (name, policy) in &rules.policies {
        let of = Of { name, policy };
        if policy.condition.is_some() || policy.checked_condition.is_some() {
            return Err(ListenerProblem::Condition(name.clone()));
        }
        match name.as_str() {
            PROBES => probes = of.probes()?,
            ANYBODY => {
                of.is_everything()?;
                is_anybodys = true;
            }
            name if name.starts_with(CALLERS) => grants.push(of.grant()?),
            _ => return Err(of.unknown("is none that this proxy knows")),
        }
    }
    probes.sort();
    probes.dedup();
    grants.sort();
    grants.dedup();
    let callers = match (is_anybodys, grants.is_empty()) {
        (true, true) => Callers::Anybody,
        (false, _) => Callers::Only(grants),
        (true, false) => {
            return Err(ListenerProblem::Unknown {
                policy: ANYBODY.to_owned(),
                what: "is beside others, which would mean nothing",
            });
        }
    };
    Ok(Inbound {
        mtls,
        probes,
        callers,
    })
}

fn rules(wire: &lds::Listener) -> Result<rbac::Rbac, ListenerProblem> {
    let [chain] = &wire.filter_chains[..] else {
        return Err(ListenerProblem::Chains(wire.filter_chains.len()));
    };
    let manager = chain
        .filters
        .iter()
        .map(|filter| match &filter.config_type {
            Some(ConfigType::TypedConfig(config)) => Some(config),
            Some(ConfigType::ConfigDiscovery(_)) | None => None,
        });
    let manager: hcm::HttpConnectionManager = only(manager)?;
    let filters = manager.http_filters.iter();
    let filter: HttpRbac = only(filters.map(|filter| match &filter.config_type {
        Some(hcm::http_filter::ConfigType::TypedConfig(config)) => Some(config),
        Some(hcm::http_filter::ConfigType::ConfigDiscovery(_)) | None => None,
    }))?;
    let allows = |rules: &rbac::Rbac| rules.action == i32::from(rbac::rbac::Action::Allow);
    filter
        .rules
        .filter(|rules| allows(rules) && filter.matcher.is_none())
        .ok_or(ListenerProblem::NotAllow)
}

/// The one filter of this type: an unknown one beside it would be a rule that nobody follows.
fn only<'w, T: Message + Name + Default>(
    filters: impl Iterator<Item = Option<&'w Any>>,
) -> Result<T, ListenerProblem> {
    let expected = T::type_url();
    let mut filters = filters;
    match (filters.next(), filters.next()) {
        (Some(Some(config)), None) if config.type_url == expected => {
            T::decode(config.value.as_slice()).map_err(|reason| ListenerProblem::Undecodable {
                what: expected,
                reason,
            })
        }
        _ => Err(ListenerProblem::Filter { expected }),
    }
}

/// A policy, and what it is called.
#[derive(Clone, Copy)]
struct Of<'w> {
    name: &'w str,
    policy: &'w rbac::Policy,
}

impl Of<'_> {
    fn unknown(self, what: &'static str) -> ListenerProblem {
        ListenerProblem::Unknown {
            policy: self.name.to_owned(),
            what,
        }
    }

    fn is_whoevers(self) -> Result<(), ListenerProblem> {
        match &self.policy.principals[..] {
            [only] if *only == whoever() => Ok(()),
            _ => Err(self.unknown("is not for whoever calls")),
        }
    }

    fn is_everything(self) -> Result<(), ListenerProblem> {
        self.is_whoevers()?;
        match &self.policy.permissions[..] {
            [only] if *only == anything() => Ok(()),
            _ => Err(self.unknown("is not for everything")),
        }
    }

    fn probes(self) -> Result<Vec<Probe>, ListenerProblem> {
        self.is_whoevers()?;
        let permissions = self.policy.permissions.iter();
        permissions.map(|each| self.probe(each)).collect()
    }

    fn probe(self, permission: &rbac::Permission) -> Result<Probe, ListenerProblem> {
        let wrong = || self.unknown("has something else than a port, a method and a path");
        let Some(Rule::AndRules(Set { rules })) = &permission.rule else {
            return Err(wrong());
        };
        let rules: Vec<&Rule> = rules.iter().filter_map(|each| each.rule.as_ref()).collect();
        let [
            Rule::DestinationPort(port),
            Rule::Header(method),
            Rule::Header(path),
        ] = rules[..]
        else {
            return Err(wrong());
        };
        let port = self.port(*port)?;
        let method = exactly(method, METHOD).ok_or_else(wrong)?;
        let path = exactly(path, PATH).ok_or_else(wrong)?;
        let probe = match method {
            "GET" => Probe::http(port, path).map_err(|problem| ListenerProblem::Path {
                policy: self.name.to_owned(),
                problem,
            })?,
            _ => Probe::Grpc { port },
        };
        if (probe.method(), probe.path()) == (method, path) {
            Ok(probe)
        } else {
            Err(wrong())
        }
    }

    fn grant(self) -> Result<Grant, ListenerProblem> {
        let ports = match &self.policy.permissions[..] {
            [only] if *only == anything() => Vec::new(),
            [] => return Err(self.unknown("is for nothing")),
            some => some
                .iter()
                .map(|each| match each.rule {
                    Some(Rule::DestinationPort(port)) => self.port(port),
                    _ => Err(self.unknown("has a permission that is no port")),
                })
                .collect::<Result<_, _>>()?,
        };
        if self.policy.principals.is_empty() {
            return Err(self.unknown("is for nobody"));
        }
        let principals = self.policy.principals.iter();
        let from = principals.map(|each| self.caller(each));
        Ok(Grant {
            ports: sorted(ports),
            from: sorted(from.collect::<Result<_, _>>()?),
        })
    }

    fn caller(self, principal: &rbac::Principal) -> Result<Caller, ListenerProblem> {
        let unknown = || self.unknown("has a principal that is no authenticated name");
        let Some(Identifier::Authenticated(authenticated)) = &principal.identifier else {
            return Err(unknown());
        };
        let name = authenticated.principal_name.as_ref();
        let name = name.filter(|name| !name.ignore_case).ok_or_else(unknown)?;
        let policy = || self.name.to_owned();
        match &name.match_pattern {
            Some(MatchPattern::Exact(id)) => {
                let id = SpiffeId::parse(id);
                id.map(Caller::One).map_err(|problem| ListenerProblem::Id {
                    policy: policy(),
                    problem,
                })
            }
            Some(MatchPattern::Prefix(prefix)) => {
                let prefix = Prefix::parse(prefix);
                prefix
                    .map(Caller::Namespace)
                    .map_err(|problem| ListenerProblem::Prefix {
                        policy: policy(),
                        problem,
                    })
            }
            _ => Err(unknown()),
        }
    }

    fn port(self, port: u32) -> Result<u16, ListenerProblem> {
        let number = u16::try_from(port).ok().filter(|port| *port > 0);
        number.ok_or_else(|| ListenerProblem::Port {
            policy: self.name.to_owned(),
            port,
        })
    }
}

fn sorted<T: Ord>(mut all: Vec<T>) -> Vec<T> {
    all.sort();
    all.dedup();
    all
}

fn encode_probe(probe: &Probe) -> rbac::Permission {
    let rules = [
        Rule::DestinationPort(probe.port().into()),
        header(METHOD, probe.method()),
        header(PATH, probe.path()),
    ];
    permission(Rule::AndRules(Set {
        rules: rules.map(permission).into(),
    }))
}

fn encode_grant(grant: &Grant) -> rbac::Policy {
    let Grant { ports, from } = grant;
    let ports: Vec<rbac::Permission> = ports
        .iter()
        .map(|port| permission(Rule::DestinationPort((*port).into())))
        .collect();
    let permissions = if ports.is_empty() {
        vec![anything()]
    } else {
        ports
    };
    policy(permissions, from.iter().map(encode_caller).collect())
}

fn encode_caller(caller: &Caller) -> rbac::Principal {
    let pattern = match caller {
        Caller::One(id) => MatchPattern::Exact(id.as_str().to_owned()),
        Caller::Namespace(prefix) => MatchPattern::Prefix(prefix.as_str().to_owned()),
    };
    principal(Identifier::Authenticated(Authenticated {
        principal_name: Some(StringMatcher {
            match_pattern: Some(pattern),
            ..StringMatcher::default()
        }),
    }))
}

fn policy(permissions: Vec<rbac::Permission>, principals: Vec<rbac::Principal>) -> rbac::Policy {
    rbac::Policy {
        permissions,
        principals,
        ..rbac::Policy::default()
    }
}

fn permission(rule: Rule) -> rbac::Permission {
    rbac::Permission { rule: Some(rule) }
}

fn principal(identifier: Identifier) -> rbac::Principal {
    rbac::Principal {
        identifier: Some(identifier),
    }
}

fn anything() -> rbac::Permission {
    permission(Rule::Any(true))
}

fn whoever() -> rbac::Principal {
    principal(Identifier::Any(true))
}

fn header(name: &str, value: &str) -> Rule {
    let exact = StringMatcher {
        match_pattern: Some(MatchPattern::Exact(value.to_owned())),
        ..StringMatcher::default()
    };
    Rule::Header(HeaderMatcher {
        name: name.to_owned(),
        header_match_specifier: Some(HeaderMatchSpecifier::StringMatch(exact)),
        ..HeaderMatcher::default()
    })
}

/// The value that the header must have.
fn exactly<'w>(matcher: &'w HeaderMatcher, name: &str) -> Option<&'w str> {
    match &matcher.header_match_specifier {
        Some(HeaderMatchSpecifier::StringMatch(StringMatcher {
            ignore_case: false,
            match_pattern: Some(MatchPattern::Exact(value)),
        })) if matcher.name == name && !matcher.invert_match => Some(value),
        _ => None,
    }
}

fn typed<T: Message + Name>(message: &T) -> Any {
    Any {
        type_url: T::type_url(),
        value: message.encode_to_vec(),
    }
}

#[cfg(test)]
mod tests;
