use proptest::prelude::*;
use traffic_core::spiffe::TrustDomain;

use super::*;

fn domain() -> TrustDomain {
    TrustDomain::parse("cluster.local").unwrap()
}

fn full() -> Inbound {
    let one = |name: &str| Caller::account(&domain(), "shop", name).unwrap();
    Inbound {
        mtls: Mtls::Strict,
        probes: vec![
            Probe::http(8080, "/healthz?x=1").unwrap(),
            Probe::Grpc { port: 9090 },
        ],
        callers: Callers::Only(vec![
            Grant {
                ports: vec![],
                from: vec![Caller::namespace(&domain(), "monitoring").unwrap()],
            },
            Grant {
                ports: vec![8080, 9090],
                from: vec![one("api"), one("web")],
            },
        ]),
    }
}

/// Through bytes, as on the wire.
fn crossed(inbound: &Inbound) -> Result<Inbound, InvalidListener> {
    let bytes = encode(inbound).encode_to_vec();
    decode(&lds::Listener::decode(bytes.as_slice()).unwrap())
}

#[test]
fn rules_survive_the_wire() {
    let nobody = Inbound {
        callers: Callers::Only(Vec::new()),
        ..Inbound::default()
    };
    for inbound in [full(), nobody, Inbound::default()] {
        assert_eq!(crossed(&inbound), Ok(inbound));
    }
}

/// Changes the rules within the layers around them.
fn spoilt(spoil: impl FnOnce(&mut rbac::Rbac)) -> lds::Listener {
    let mut wire = encode(&full());
    let mut rules = rules(&wire).unwrap();
    spoil(&mut rules);
    let filter = HttpRbac {
        rules: Some(rules),
        ..HttpRbac::default()
    };
    let manager = hcm::HttpConnectionManager {
        http_filters: vec![hcm::HttpFilter {
            config_type: Some(hcm::http_filter::ConfigType::TypedConfig(typed(&filter))),
            ..hcm::HttpFilter::default()
        }],
        ..hcm::HttpConnectionManager::default()
    };
    wire.filter_chains[0].filters[0].config_type = Some(ConfigType::TypedConfig(typed(&manager)));
    wire
}

fn problem(wire: &lds::Listener) -> String {
    decode(wire).unwrap_err().to_string()
}

#[test]
fn a_listener_around_the_rules_that_is_not_ours_is_refused() {
    let spoil = |change: fn(&mut lds::Listener)| {
        let mut wire = encode(&full());
        change(&mut wire);
        problem(&wire)
    };
    for (text, problem) in [
        ("no metadata", spoil(|wire| wire.metadata = None)),
        ("0 filter chains", spoil(|wire| wire.filter_chains.clear())),
        (
            "not the one filter",
            spoil(|wire| wire.filter_chains[0].filters.clear()),
        ),
        (
            "not the one filter",
            spoil(|wire| {
                let filters = &mut wire.filter_chains[0].filters;
                filters.push(filters[0].clone());
            }),
        ),
        (
            "cannot be decoded",
            spoil(|wire| {
                let mut filter = typed(&hcm::HttpConnectionManager::default());
                filter.value = vec![0xff];
                wire.filter_chains[0].filters[0].config_type =
                    Some(ConfigType::TypedConfig(filter));
            }),
        ),
        (
            "`mtls` is `demanded`, known are permissive, strict",
            spoil(|wire| {
                let about = metadata::fields([(MTLS, metadata::text("demanded"))]);
                let all = &mut wire.metadata.as_mut().unwrap().filter_metadata;
                all.insert(KEY.to_owned(), about);
            }),
        ),
    ] {
        assert!(problem.contains(text), "{text}: {problem}");
        assert!(
            problem.starts_with("listener `inbound/self`: "),
            "{problem}"
        );
    }
}

#[test]
fn a_rule_that_is_not_understood_is_refused_and_never_left_out() {
    let of = |name: &'static str, change: fn(&mut rbac::Policy)| {
        problem(&spoilt(|rules| {
            change(rules.policies.get_mut(name).unwrap());
        }))
    };
    let deny = spoilt(|rules| rules.action = rbac::rbac::Action::Deny.into());
    let stranger = spoilt(|rules| {
        let policy = rules.policies[PROBES].clone();
        rules.policies.insert("more".to_owned(), policy);
    });
    let both = spoilt(|rules| {
        let policy = policy(vec![anything()], vec![whoever()]);
        rules.policies.insert(ANYBODY.to_owned(), policy);
    });
    let exact = |text: &str| {
        principal(Identifier::Authenticated(Authenticated {
            principal_name: Some(StringMatcher {
                match_pattern: Some(MatchPattern::Exact(text.to_owned())),
                ..StringMatcher::default()
            }),
        }))
    };
    let named = problem(&spoilt(|rules| {
        let policy = rules.policies.get_mut("callers-0").unwrap();
        policy.principals = vec![exact("web")];
    }));
    for (text, problem) in [
        ("do not say what is allowed", problem(&deny)),
        ("`more` is none that this proxy knows", problem(&stranger)),
        ("is beside others", problem(&both)),
        ("`web` is no SPIFFE ID", named),
        (
            "is for nobody",
            of("callers-0", |policy| policy.principals.clear()),
        ),
        (
            "is for nothing",
            of("callers-1", |policy| policy.permissions.clear()),
        ),
        (
            "no authenticated name",
            of("callers-1", |policy| policy.principals[0] = whoever()),
        ),
        (
            "no authenticated name",
            of("callers-1", |policy| {
                policy.principals[0] = principal(Identifier::Authenticated(Authenticated {
                    principal_name: None,
                }));
            }),
        ),
        (
            "a permission that is no port",
            of("callers-1", |policy| policy.permissions[0] = anything()),
        ),
        (
            "port 65536 is none",
            of("callers-1", |policy| {
                policy.permissions[0] = permission(Rule::DestinationPort(65_536));
            }),
        ),
        (
            "port 0 is none",
            of("callers-1", |policy| {
                policy.permissions[0] = permission(Rule::DestinationPort(0));
            }),
        ),
        (
            "not for whoever calls",
            of(PROBES, |policy| policy.principals.clear()),
        ),
        (
            "a port, a method and a path",
            of(PROBES, |policy| policy.permissions[0] = anything()),
        ),
        (
            "a port, a method and a path",
            of(PROBES, |policy| {
                let rules = [
                    Rule::DestinationPort(80),
                    header(METHOD, "POST"),
                    header(PATH, "/healthz"),
                ];
                policy.permissions[0] = permission(Rule::AndRules(Set {
                    rules: rules.map(permission).into(),
                }));
            }),
        ),
        (
            "is no path of a probe",
            of(PROBES, |policy| {
                let rules = [
                    Rule::DestinationPort(80),
                    header(METHOD, "GET"),
                    header(PATH, "healthz"),
                ];
                policy.permissions[0] = permission(Rule::AndRules(Set {
                    rules: rules.map(permission).into(),
                }));
            }),
        ),
    ] {
        assert!(problem.contains(text), "{text}: {problem}");
    }
}

fn callers() -> impl Strategy<Value = Caller> {
    ("[a-c]{1,2}", prop::option::of("[a-c]{1,2}")).prop_map(|(namespace, account)| match account {
        Some(account) => Caller::account(&domain(), &namespace, &account).unwrap(),
        None => Caller::namespace(&domain(), &namespace).unwrap(),
    })
}

fn inbounds() -> impl Strategy<Value = Inbound> {
    let probe = (1_u16.., prop::option::of("/[ -~&&[^# ]]{0,8}")).prop_map(|(port, path)| {
        path.map_or(Probe::Grpc { port }, |path| {
            Probe::http(port, &path).unwrap()
        })
    });
    let grant = (
        prop::collection::btree_set(1_u16.., 0..3),
        prop::collection::btree_set(callers(), 1..4),
    );
    let grant = grant.prop_map(|(ports, from)| Grant {
        ports: ports.into_iter().collect(),
        from: from.into_iter().collect(),
    });
    let mtls = prop::sample::select(vec![Mtls::Permissive, Mtls::Strict]);
    let callers = prop::option::of(prop::collection::btree_set(grant, 0..4));
    (mtls, prop::collection::btree_set(probe, 0..4), callers).prop_map(|(mtls, probes, grants)| {
        Inbound {
            mtls,
            probes: probes.into_iter().collect(),
            callers: grants.map_or(Callers::Anybody, |grants| {
                Callers::Only(grants.into_iter().collect())
            }),
        }
    })
}

proptest! {
    #[test]
    fn whatever_the_rules_they_survive_the_wire(inbound in inbounds()) {
        prop_assert_eq!(crossed(&inbound), Ok(inbound));
    }
}
