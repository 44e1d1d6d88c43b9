//! Whether a caller may have what it asks for. Nothing is remembered: the same call under the same rules has the same answer, so an open connection is
//! judged anew by asking again.
//!
//! ```text
//!   a declared probe, by whomever ─────────────────────────> allowed
//!   an identity of the mesh ──no policy, or a grant has it──> allowed      otherwise NotGranted
//!   none ─────────────────────permissive, and no policy────> allowed      otherwise Plaintext, OwnTls
//! ```
//!
//! Rules only allow: there is no order among them, and one more can take nothing away.

use crate::inbound::{Callers, Grant, Inbound, Mtls, Probe};

/// Who calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who<'c> {
    /// A sidecar that has proven this SPIFFE ID.
    Sidecar(&'c str),
    /// Somebody in the clear.
    Plaintext,
    /// Somebody with TLS of the application's own: nobody here knows who that is, or what it asks for.
    OwnTls,
}

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Call<'c> {
    pub who: Who<'c>,
    /// The application's.
    pub port: u16,
    /// `None`: bytes that are not read, or a request of which nothing is known yet.
    pub request: Option<Request<'c>>,
}

/// What of a request matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request<'c> {
    pub method: &'c str,
    /// Path and query, as they were sent.
    pub path: &'c str,
    /// It wants to leave HTTP: what follows is anything.
    pub upgrade: bool,
}

/// Why it is let through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Allowed {
    Probe,
    /// The caller has shown who it is.
    Identified,
    /// Nobody has to.
    Anybody,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// It is in the clear, and callers must show who they are.
    Plaintext,
    /// It is TLS, but not that of a sidecar.
    OwnTls,
    /// A policy selects the pod, and none allows this caller at this port.
    NotGranted,
}

/// Whether a request is one of the pod's declared probes.
pub fn is_probe(rules: &Inbound, port: u16, request: Request<'_>) -> bool {
    rules.probes.iter().any(|probe| is(probe, port, request))
}

pub fn decide(rules: &Inbound, call: &Call<'_>) -> Result<Allowed, Refused> {
    let probed = |request: Request<'_>| is_probe(rules, call.port, request);
    if call.request.is_some_and(probed) {
        return Ok(Allowed::Probe);
    }
    let granted = match (&rules.callers, call.who) {
        (Callers::Anybody, Who::Sidecar(_)) => true,
        (Callers::Anybody, Who::Plaintext | Who::OwnTls) => rules.mtls == Mtls::Permissive,
        (Callers::Only(grants), Who::Sidecar(id)) => {
            grants.iter().any(|grant| covers(grant, call.port, id))
        }
        (Callers::Only(_), Who::Plaintext | Who::OwnTls) => false,
    };
    match (granted, call.who) {
        (true, Who::Sidecar(_)) => Ok(Allowed::Identified),
        (true, Who::Plaintext | Who::OwnTls) => Ok(Allowed::Anybody),
        (false, Who::Sidecar(_)) => Err(Refused::NotGranted),
        (false, Who::Plaintext) => Err(Refused::Plaintext),
        (false, Who::OwnTls) => Err(Refused::OwnTls),
    }
}

fn is(probe: &Probe, port: u16, request: Request<'_>) -> bool {
    probe.is(port, request.method, request.path) && !request.upgrade
}

fn covers(grant: &Grant, port: u16, id: &str) -> bool {
    let at = grant.ports.is_empty() || grant.ports.contains(&port);
    at && grant.from.iter().any(|caller| caller.is(id))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::inbound::Caller;
    use crate::spiffe::TrustDomain;

    const WEB: &str = "spiffe://cluster.local/ns/shop/sa/web";
    const API: &str = "spiffe://cluster.local/ns/shop/sa/api";
    const OTHER: &str = "spiffe://cluster.local/ns/other/sa/web";

    fn account(namespace: &str, account: &str) -> Caller {
        let domain = TrustDomain::parse("cluster.local").unwrap();
        Caller::account(&domain, namespace, account).unwrap()
    }

    fn namespace(namespace: &str) -> Caller {
        let domain = TrustDomain::parse("cluster.local").unwrap();
        Caller::namespace(&domain, namespace).unwrap()
    }

    fn grant(ports: &[u16], from: &[Caller]) -> Grant {
        Grant {
            ports: ports.to_vec(),
            from: from.to_vec(),
        }
    }

    fn bytes(who: Who<'_>, port: u16) -> Call<'_> {
        Call {
            who,
            port,
            request: None,
        }
    }

    fn get<'c>(who: Who<'c>, port: u16, path: &'c str) -> Call<'c> {
        let request = Request {
            method: "GET",
            path,
            upgrade: false,
        };
        Call {
            request: Some(request),
            ..bytes(who, port)
        }
    }

    #[test]
    fn without_rules_everybody_may_call() {
        let open = Inbound::default();
        assert_eq!(
            decide(&open, &bytes(Who::Sidecar(WEB), 80)),
            Ok(Allowed::Identified)
        );
        for who in [Who::Plaintext, Who::OwnTls] {
            assert_eq!(decide(&open, &bytes(who, 80)), Ok(Allowed::Anybody));
        }
    }

    #[test]
    fn strict_asks_for_an_identity_and_for_no_certain_one() {
        let strict = Inbound {
            mtls: Mtls::Strict,
            ..Inbound::default()
        };
        assert_eq!(
            decide(&strict, &bytes(Who::Sidecar(OTHER), 80)),
            Ok(Allowed::Identified)
        );
        for (who, refused) in [
            (Who::Plaintext, Refused::Plaintext),
            (Who::OwnTls, Refused::OwnTls),
        ] {
            assert_eq!(decide(&strict, &bytes(who, 80)), Err(refused));
            assert_eq!(decide(&strict, &get(who, 80, "/")), Err(refused));
        }
    }

    #[test]
    fn a_policy_allows_whom_it_names_at_the_ports_that_it_names() {
        let rules = Inbound {
            callers: Callers::Only(vec![
                grant(&[8080, 8081], &[account("shop", "web")]),
                grant(&[], &[namespace("other")]),
            ]),
            ..Inbound::default()
        };
        for (id, port, is_allowed) in [
            (WEB, 8080, true),
            (WEB, 8081, true),
            (WEB, 9090, false),
            (API, 8080, false),
            (OTHER, 8080, true),
            (OTHER, 1, true),
        ] {
            let decided = decide(&rules, &bytes(Who::Sidecar(id), port));
            let expected = is_allowed.then_some(Allowed::Identified);
            assert_eq!(decided, expected.ok_or(Refused::NotGranted), "{id} {port}");
        }
        for who in [Who::Plaintext, Who::OwnTls] {
            assert!(decide(&rules, &bytes(who, 8080)).is_err());
        }
        let nobody = Inbound {
            callers: Callers::Only(Vec::new()),
            ..Inbound::default()
        };
        assert!(decide(&nobody, &bytes(Who::Sidecar(WEB), 8080)).is_err());
    }

    #[test]
    fn a_probe_is_let_through_to_the_letter() {
        let rules = Inbound {
            mtls: Mtls::Strict,
            probes: vec![
                Probe::http(8080, "/healthz?x=1").unwrap(),
                Probe::Grpc { port: 9090 },
            ],
            callers: Callers::Only(Vec::new()),
        };
        let request = |method, path, upgrade| Request {
            method,
            path,
            upgrade,
        };
        let check = crate::inbound::HEALTH_CHECK;
        for (port, request, is_probe) in [
            (8080, request("GET", "/healthz?x=1", false), true),
            (8080, request("GET", "/healthz", false), false),
            (8080, request("GET", "/healthz?x=1&y", false), false),
            (8080, request("GET", "/HEALTHZ?x=1", false), false),
            (8080, request("GET", "/healthz?x=1", true), false),
            (8080, request("POST", "/healthz?x=1", false), false),
            (8081, request("GET", "/healthz?x=1", false), false),
            (9090, request("POST", check, false), true),
            (9090, request("GET", check, false), false),
            (
                9090,
                request("POST", "/grpc.health.v1.Health/Watch", false),
                false,
            ),
            (8080, request("POST", check, false), false),
        ] {
            for who in [Who::Plaintext, Who::OwnTls, Who::Sidecar(WEB)] {
                let call = Call {
                    request: Some(request),
                    ..bytes(who, port)
                };
                let decided = decide(&rules, &call);
                assert_eq!(decided == Ok(Allowed::Probe), is_probe, "{call:?}");
                assert_eq!(decided.is_ok(), is_probe, "{call:?}");
            }
        }
        assert!(decide(&rules, &bytes(Who::Plaintext, 8080)).is_err());
    }

    fn callers() -> impl Strategy<Value = Caller> {
        let names = prop::sample::select(vec!["a", "b", "c"]);
        (names.clone(), prop::option::of(names)).prop_map(|(of, one)| match one {
            Some(one) => account(of, one),
            None => namespace(of),
        })
    }

    fn grants() -> impl Strategy<Value = Vec<Grant>> {
        let ports = prop::collection::vec(1..4_u16, 0..3);
        let from = prop::collection::vec(callers(), 0..3);
        let grant = (ports, from).prop_map(|(ports, from)| Grant { ports, from });
        prop::collection::vec(grant, 0..4)
    }

    fn rules() -> impl Strategy<Value = Inbound> {
        let probes = prop::collection::vec((1..4_u16, "/[ab]"), 0..3);
        let mtls = prop::sample::select(vec![Mtls::Permissive, Mtls::Strict]);
        (mtls, probes, prop::option::of(grants())).prop_map(|(mtls, probes, grants)| Inbound {
            mtls,
            probes: probes
                .into_iter()
                .map(|(port, path)| Probe::http(port, &path).unwrap())
                .collect(),
            callers: grants.map_or(Callers::Anybody, Callers::Only),
        })
    }

    proptest! {
        #[test]
        fn one_grant_more_takes_nothing_away(
            rules in rules(),
            more in grants(),
            (of, one) in ("[abc]", "[abc]"),
            port in 1..4_u16,
            path in "/[abc]",
        ) {
            let id = format!("spiffe://cluster.local/ns/{of}/sa/{one}");
            for who in [Who::Sidecar(&id), Who::Plaintext, Who::OwnTls] {
                let call = get(who, port, &path);
                let before = decide(&rules, &call);
                let mut after = rules.clone();
                if let Callers::Only(grants) = &mut after.callers {
                    grants.extend(more.clone());
                }
                prop_assert!(before.is_err() || decide(&after, &call) == before);
                let mut lenient = rules.clone();
                lenient.mtls = Mtls::Permissive;
                prop_assert!(before.is_err() || decide(&lenient, &call) == before);
            }
        }

        #[test]
        fn whoever_shows_nothing_gets_nothing_but_probes_where_there_is_a_rule(
            rules in rules(),
            port in 1..4_u16,
            path in "/[abc]",
        ) {
            for who in [Who::Plaintext, Who::OwnTls] {
                let decided = decide(&rules, &get(who, port, &path));
                let probed = rules.probes.iter().any(|it| it.port() == port && it.path() == path);
                prop_assert_eq!(decided.is_ok(), probed || rules.is_open());
                prop_assert_eq!(decided == Ok(Allowed::Probe), probed);
                prop_assert_eq!(decide(&rules, &bytes(who, port)).is_ok(), rules.is_open());
            }
        }

        #[test]
        fn a_sidecar_is_allowed_by_its_own_name_alone(
            rules in rules(),
            (of, one) in ("[abc]", "[abc]"),
            port in 1..4_u16,
        ) {
            let id = format!("spiffe://cluster.local/ns/{of}/sa/{one}");
            let decided = decide(&rules, &bytes(Who::Sidecar(&id), port)).is_ok();
            let expected = match &rules.callers {
                Callers::Anybody => true,
                Callers::Only(grants) => grants.iter().any(|grant| {
                    (grant.ports.is_empty() || grant.ports.contains(&port))
                        && (grant.from.contains(&account(&of, &one))
                            || grant.from.contains(&namespace(&of)))
                }),
            };
            prop_assert_eq!(decided, expected);
        }
    }
}
