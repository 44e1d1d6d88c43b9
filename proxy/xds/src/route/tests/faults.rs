//! Faults on purpose.

use super::*;

fn faulty() -> Route {
    let share = Weight::new(500).unwrap();
    let faults = Faults::new(
        Delay::new(share, Duration::from_millis(1_500)),
        Abort::new(Weight::ALL, 503),
        Some(Only::header("x-test", "slow").unwrap()),
    );
    let bounds = Bounds {
        faults: faults.map(Arc::new),
        ..Bounds::default()
    };
    Route {
        bounds,
        ..route(None)
    }
}

#[test]
fn faults_are_what_envoys_filter_reads_and_what_it_would_do_otherwise_is_refused() {
    let wire_of = |config: &mut wire::RouteConfiguration| {
        let filters = &config.virtual_hosts[0].routes[0].typed_per_filter_config;
        HttpFault::decode(filters["envoy.filters.http.fault"].value.as_slice()).unwrap()
    };
    let fault = wire_of(&mut encode(&faulty()));
    let share = fault.delay.unwrap().percentage.unwrap();
    assert_eq!(
        (share.numerator, share.denominator),
        (5_000, 2),
        "0.5 % of a million"
    );
    assert_eq!(decode(&encode(&faulty()), None), Ok(faulty()));
    let none = encode(&route(None));
    assert!(
        none.virtual_hosts[0].routes[0]
            .typed_per_filter_config
            .is_empty()
    );
    type Spoil = fn(&mut HttpFault);
    let spoils: [(Spoil, &str); 7] = [
        (
            |fault| fault.delay.as_mut().unwrap().percentage = None,
            "a delay of no request",
        ),
        (
            |fault| fault.delay.as_mut().unwrap().fault_delay_secifier = None,
            "a delay of no request",
        ),
        (
            |fault| fault.abort.as_mut().unwrap().error_type = Some(ErrorType::HttpStatus(200)),
            "with a status that is no error",
        ),
        (
            |fault| fault.abort.as_mut().unwrap().error_type = Some(ErrorType::GrpcStatus(14)),
            "with a status that is no error",
        ),
        (
            |fault| fault.headers[0].invert_match = true,
            "a field that this proxy does not know",
        ),
        (
            |fault| fault.upstream_cluster = "other".to_owned(),
            "a field that this proxy does not know",
        ),
        (|fault| *fault = HttpFault::default(), "nothing is put in"),
    ];
    for (spoil, says) in spoils {
        let mut config = encode(&faulty());
        let mut fault = wire_of(&mut config);
        spoil(&mut fault);
        let filters = &mut config.virtual_hosts[0].routes[0].typed_per_filter_config;
        let filter = filters.get_mut("envoy.filters.http.fault").unwrap();
        filter.value = fault.encode_to_vec();
        let refused = decode(&config, None).unwrap_err().to_string();
        assert!(
            refused.starts_with("route `shop/web/80`: its faults: "),
            "{refused}"
        );
        assert!(refused.contains(says), "{refused}");
    }
}
