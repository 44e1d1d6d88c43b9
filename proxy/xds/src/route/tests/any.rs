//! Whatever a route is, it is the same at the other end.

use super::*;

fn any_route() -> impl Strategy<Value = Route> {
    let name = "[a-z][a-z0-9-]{0,20}";
    let signature = proptest::option::of(any::<[u8; 32]>());
    let revocation =
        (name, name, any::<u64>(), signature).prop_map(|(rollout, revision, run, signature)| {
            SignedRevocation {
                revocation: Revocation {
                    rollout,
                    revision,
                    run,
                },
                signature: signature.map(Signature),
            }
        });
    let protocol = prop_oneof![
        Just(Protocol::Detect),
        Just(Protocol::Http),
        Just(Protocol::Opaque)
    ];
    let canary = proptest::option::of((
        0..=Weight::SCALE,
        any::<u64>(),
        proptest::option::of(1..u64::from(u32::MAX)),
        proptest::option::of(0_u32..=500_000),
        proptest::option::of(prop_oneof![
            "[a-z][a-z0-9-]{0,20}-id".prop_map(|name| Key::header(&name).unwrap()),
            "[A-Za-z0-9_.!-]{1,20}".prop_map(|name| Key::cookie(&name).unwrap()),
        ]),
    ));
    let time = proptest::option::of(1_u64..86_400_000);
    let requests = proptest::option::of(1_u32..);
    let retries = proptest::option::of(any_retries());
    let bounds = (time.clone(), time, requests, retries, any_faults()).prop_map(
        |(request, idle, requests, retries, faults)| {
            let request = request.map(Duration::from_millis);
            Bounds {
                request,
                idle: idle.map(Duration::from_millis),
                requests: requests.and_then(NonZeroU32::new),
                retries: retries.filter(|retries| retries.check(request).is_ok()),
                faults: faults.map(Arc::new),
            }
        },
    );
    (
        name,
        name,
        any::<u16>(),
        protocol,
        name,
        canary,
        bounds,
        proptest::collection::vec(revocation, 0..4),
    )
        .prop_map(
            |(namespace, service, port, protocol, rollout, canary, bounds, revoked)| Route {
                name: format!("{namespace}/{service}/{port}"),
                rollout: format!("{namespace}/{rollout}"),
                split: Split {
                    stable: Arm {
                        cluster: format!("{namespace}/{service}/{port}/v1"),
                        revision: "v1".to_owned(),
                    },
                    canary: canary.map(|(units, run, lease, fuse, sticky)| CanaryArm {
                        arm: Arm {
                            cluster: format!("{namespace}/{service}/{port}/v2"),
                            revision: "v2".to_owned(),
                        },
                        weight: Weight::new(units).unwrap(),
                        run,
                        lease: match lease {
                            Some(millis) if units != 0 => Lease::Ttl(Duration::from_millis(millis)),
                            Some(_) | None => Lease::Unlimited,
                        },
                        fuse: fuse.and_then(Tolerance::new),
                        sticky,
                    }),
                },
                namespace,
                service,
                port,
                protocol,
                bounds,
                revoked,
            },
        )
}

fn any_faults() -> impl Strategy<Value = Option<Faults>> {
    let share = || (0..=Weight::SCALE).prop_map(|units| Weight::new(units).unwrap());
    let delay = (share(), 1_u64..60_000)
        .prop_map(|(share, millis)| Delay::new(share, Duration::from_millis(millis)));
    let abort = (share(), 400_u16..600).prop_map(|(share, status)| Abort::new(share, status));
    let only = proptest::option::of(("x-[a-z]{1,9}", "[!-~]{1,9}"));
    (delay, abort, only).prop_map(|(delay, abort, only)| {
        let only = only.map(|(name, value)| Only::header(&name, &value).unwrap());
        Faults::new(delay, abort, only)
    })
}

fn any_retries() -> impl Strategy<Value = Retries> {
    let condition = prop_oneof![
        Just(Condition::ConnectFailure),
        Just(Condition::Reset),
        Just(Condition::ServerError),
        (500_u16..600).prop_map(Condition::Status),
        (0_usize..5).prop_map(|code| Condition::Grpc(Code::ALL[code])),
    ];
    let method = (0_usize..8).prop_map(|method| Method::ALL[method]);
    (
        proptest::collection::vec(condition, 1..6),
        1_u32..=5,
        proptest::option::of(1_u64..86_400_000),
        proptest::collection::vec(method, 1..4),
        (0_u32..=100, 1_u32..=1_000),
    )
        .prop_map(|(on, times, each, methods, (percent, floor))| Retries {
            on: on.into_iter().collect(),
            times: Times::new(times).unwrap(),
            each: each.map(Duration::from_millis),
            methods: methods.into_iter().collect(),
            budget: Terms::new(percent, floor).unwrap(),
        })
}

proptest! {
    #[test]
    fn any_route_survives_the_wire(route in any_route()) {
        let bytes = encode(&route).encode_to_vec();
        let config = wire::RouteConfiguration::decode(bytes.as_slice()).unwrap();
        prop_assert_eq!(decode(&config, ttl(&route)), Ok(route));
    }
}
