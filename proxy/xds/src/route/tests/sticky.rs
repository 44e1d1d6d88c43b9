//! Splits that follow users.

use super::*;

#[test]
fn users_are_told_apart_in_envoys_own_form() {
    let mut config = encode(&route(Some((1_000, 7))));
    let names: Vec<_> = clusters(&mut config)
        .iter()
        .map(|each| each.name.clone())
        .collect();
    assert_eq!(
        names,
        ["shop/web/80/v1", "shop/web/80/v2"],
        "what is raised comes last"
    );
    let action = act(&mut config);
    assert_eq!(
        random(action),
        &Some(RandomValueSpecifier::UseHashPolicy(BoolValue {
            value: true
        }))
    );
    let Some(PolicySpecifier::Header(header)) = &action.hash_policy[0].policy_specifier else {
        panic!("no header: {action:?}");
    };
    assert_eq!(
        (header.header_name.as_str(), action.hash_policy.len()),
        ("x-user-id", 1)
    );
    let alone = encode(&route(None));
    assert_eq!(act(&mut alone.clone()).hash_policy, []);
}

#[test]
fn a_hash_policy_that_is_not_ours_is_refused() {
    fn spoiled(spoil: impl FnOnce(&mut wire::RouteAction)) -> RouteProblem {
        problem(|config| spoil(act(config)))
    }
    let policy = |of| HashPolicy {
        policy_specifier: Some(of),
        ..HashPolicy::default()
    };
    let sticky = |problem| RouteProblem::Sticky(problem);
    let unused = spoiled(|action| *random(action) = None);
    assert_eq!(unused, sticky(StickyProblem::Unused));
    let missing = spoiled(|action| action.hash_policy.clear());
    assert_eq!(missing, sticky(StickyProblem::Missing));
    let two = spoiled(|action| action.hash_policy.push(HashPolicy::default()));
    assert_eq!(two, sticky(StickyProblem::Policies(2)));
    let by_header =
        spoiled(|action| *random(action) = Some(RandomValueSpecifier::HeaderName("x".to_owned())));
    assert_eq!(
        by_header,
        sticky(StickyProblem::RandomValue("x".to_owned()))
    );
    let makes_cookies = Cookie {
        name: "uid".to_owned(),
        ttl: Some(protobuf::Duration::default()),
        ..Cookie::default()
    };
    for strange in [
        PolicySpecifier::Cookie(makes_cookies),
        PolicySpecifier::ConnectionProperties(ConnectionProperties { source_ip: true }),
    ] {
        let strange = spoiled(|action| action.hash_policy = vec![policy(strange)]);
        assert_eq!(strange, sticky(StickyProblem::NotPlain));
    }
    let named = |name: &str| {
        PolicySpecifier::Header(Header {
            header_name: name.to_owned(),
            ..Header::default()
        })
    };
    let all = spoiled(|action| action.hash_policy = vec![policy(named("cookie"))]);
    assert_eq!(all, sticky(InvalidKey::Nobodys("cookie".to_owned()).into()));
    let mut alone = encode(&route(None));
    let of = act(&mut alone);
    of.hash_policy = vec![policy(named("x-user-id"))];
    *random(of) = Some(RandomValueSpecifier::UseHashPolicy(BoolValue {
        value: true,
    }));
    assert_eq!(
        decode(&alone, None).unwrap_err().problem,
        RouteProblem::StickyAlone
    );
}
