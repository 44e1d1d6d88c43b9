use proptest::prelude::*;

use prost::Message;

use super::*;

fn failures() -> impl Strategy<Value = Failures> {
    let said = prop_oneof![
        Just(Said::Nothing),
        any::<u16>().prop_map(Said::Status),
        any::<u16>().prop_map(Said::Grpc)
    ];
    let trace = ("[1-9a-f][0-9a-f]{31}", "(/[a-z0-9%]{0,30}){0,2}")
        .prop_map(|(id, path)| Trace::read(id.as_bytes(), path.as_bytes()).unwrap());
    let trace = prop::option::of(trace);
    let place = (any::<std::net::IpAddr>(), 1..=u16::MAX, said);
    let place = place.prop_map(|(ip, port, said)| Place {
        endpoint: (ip, port).into(),
        said,
    });
    let failed = (place, 1..=MOST / 8, trace);
    prop::collection::vec(failed, 0..=MOST_PLACES).prop_map(|places| {
        let mut failures = Failures::default();
        for (place, times, trace) in places {
            failures.add_traced(place, times, trace);
        }
        failures
    })
}

fn counts() -> impl Strategy<Value = Counts> {
    let class = || prop::array::uniform4(0..=MOST).prop_map(PerClass::from);
    let latency = prop::collection::vec((0_u64..274, 1..=u32::MAX), 0..20);
    let number = || 0..=MOST;
    let all = (
        number(),
        class(),
        class(),
        latency,
        (number(), number()),
        failures(),
    );
    all.prop_map(
        |(started, ended, late, latency, (withheld, open), failures)| Counts {
            started,
            ended,
            late,
            latency: latency
                .into_iter()
                .map(|(index, times)| (Bucket::try_from(index).unwrap(), times))
                .collect(),
            withheld,
            open,
            failures,
        },
    )
}

proptest! {
    #[test]
    fn a_report_survives_the_wire(
        second in 0_u64..253_402_300_800,
        counts in prop::collection::vec(counts(), 0..250),
    ) {
        let reports: Vec<Report> = counts
            .into_iter()
            .map(|counts| Report { cluster: "shop/payment/80/v2".to_owned(), second, counts })
            .collect();
        let messages: Vec<Request> = encode(&reports).collect();
        prop_assert_eq!(messages.len(), reports.len().div_ceil(MOST_REPORTS));
        let read: Result<Vec<_>, _> = messages.iter().map(decode).collect();
        prop_assert_eq!(read.unwrap().concat(), reports);
    }
}

#[test]
fn every_bucket_survives_the_wire_however_often_it_is_counted() {
    for index in 0..274 {
        let of = Bucket::try_from(index).unwrap();
        for times in [1, 3, 7, 1_000_003, u32::MAX] {
            let total = of.middle().as_secs_f64() * 1e3 * f64::from(times);
            assert_eq!(bucket(total, times.into()), Ok(Some(of)), "{index} {times}");
        }
    }
}

/// What `docs/outcomes.md` says.
#[test]
fn a_report_is_no_larger_than_its_longest_name_and_all_its_buckets() {
    let all = PerClass::from([MOST; 4]);
    let buckets = |count| {
        let buckets = (0..count).map(|index| (Bucket::try_from(index).unwrap(), u32::MAX));
        buckets.collect()
    };
    let mut failures = Failures::default();
    for host in 0..8 {
        let longest = std::net::Ipv6Addr::from([
            0xfd00, 0x1111, 0x2222, 0x3333, 0x4444, 0x5555, 0x6666, host,
        ]);
        let place = Place {
            endpoint: (longest, u16::MAX).into(),
            said: Said::Grpc(u16::MAX),
        };
        let trace = Trace::read("f".repeat(32).as_bytes(), "/x".repeat(64).as_bytes());
        failures.add_traced(place, MOST, trace);
    }
    let size = |cluster: String, latency| {
        let report = Report {
            cluster,
            second: 1_790_000_000,
            counts: Counts {
                started: MOST,
                ended: all,
                late: all,
                latency,
                withheld: MOST,
                open: MOST,
                failures: failures.clone(),
            },
        };
        stats(&report).encoded_len()
    };
    let largest = size("x".repeat(LONGEST_NAME), buckets(274));
    assert!(largest < 11_000, "{largest}");
    let usual = size("shop/payment/80/6f9c7b5d4e".to_owned(), buckets(30));
    assert!(usual < 3_500, "{usual}");
}

#[test]
fn endpoints_that_are_none_are_refused_by_name() {
    let of = |problem: &str| format!("load report of cluster `shop/payment/80/v2`: {problem}");
    let place = |endpoint: &str| Place {
        endpoint: endpoint.parse().unwrap(),
        said: Said::Status(500),
    };
    let with = |change: fn(&mut wire::UpstreamEndpointStats), count: usize| {
        said(|stats| {
            let mut one = place_stats(&Failed {
                place: place("10.1.0.7:80"),
                times: 3,
                trace: None,
            });
            change(&mut one);
            let endpoints = &mut stats.upstream_locality_stats[0].upstream_endpoint_stats;
            endpoints.extend(vec![one; count]);
        })
    };
    assert_eq!(
        with(|_| (), 9),
        of("failures at 9 endpoints, the limit is 8")
    );
    assert_eq!(
        with(|one| one.address = None, 1),
        of("a failure at an endpoint that has no address")
    );
    assert_eq!(
        with(|one| one.total_error_requests = MOST + 1, 1),
        of("total_error_requests is 4294967297, the limit is 4294967296")
    );
    let wrong = |one: &mut wire::UpstreamEndpointStats| {
        one.metadata = Some(metadata::fields([("status", metadata::text("bad"))]));
    };
    assert_eq!(
        with(wrong, 1),
        of("what an endpoint said: metadata field `status` is not a whole number as text")
    );
}

#[test]
fn a_trace_that_is_none_is_left_out_and_of_a_path_is_kept_what_paths_have() {
    let id = "4bf92f3577b34da6a3ce929d0e0e4736";
    let read = |id: &str, path: &str| {
        let about = [(TRACE_ID, id), (PATH, path)];
        let about = about.map(|(field, text)| (field, metadata::text(text.to_owned())));
        trace(&metadata::fields(about))
    };
    assert_eq!(
        read(id, "/pay").unwrap().to_string(),
        format!("trace {id} of /pay")
    );
    let long = read(id, &format!("/a b\n{}", "x".repeat(1_000_000))).unwrap();
    assert!(long.path().starts_with("/a_b_x"), "{}", long.path());
    assert_eq!(long.path().len(), 64);
    for none in [
        "",
        "4bf9",
        &id.to_uppercase(),
        &"0".repeat(32),
        &"g".repeat(32),
        &"a".repeat(33),
    ] {
        assert_eq!(read(none, "/pay"), None, "{none}");
    }
    let number = metadata::fields([("status", metadata::text("500".to_owned()))]);
    assert_eq!(trace(&number), None);
}

#[test]
fn a_proxy_reads_how_often_the_control_plane_wants_to_hear() {
    let said = |seconds, nanos| {
        interval(&Response {
            load_reporting_interval: Some(WireDuration { seconds, nanos }),
            ..wanted()
        })
    };
    let of = std::time::Duration::from_millis;
    assert_eq!(interval(&wanted()), Some(of(1_000)));
    assert_eq!(said(2, 500_000_000), Some(of(2_500)));
    assert_eq!(said(-1, 0), None);
    assert_eq!(interval(&Response::default()), None);
}

fn said(change: impl FnOnce(&mut wire::ClusterStats)) -> String {
    let report = Report {
        cluster: "shop/payment/80/v2".to_owned(),
        second: 1_790_000_000,
        counts: Counts::default(),
    };
    let mut stats = stats(&report);
    change(&mut stats);
    let request = Request {
        node: None,
        cluster_stats: vec![stats],
    };
    decode(&request).unwrap_err().to_string()
}

fn with(name: &str, count: u64, value: f64) -> String {
    said(|stats| {
        let metrics = &mut stats.upstream_locality_stats[0].load_metric_stats;
        metrics.push(metric(name, count, value));
    })
}

#[test]
fn nonsense_is_refused_by_name() {
    let of = |problem: &str| format!("load report of cluster `shop/payment/80/v2`: {problem}");
    assert_eq!(
        with("failure", u64::MAX, 1.0),
        of("failure is 18446744073709551615, the limit is 4294967296")
    );
    for value in [f64::NAN, f64::INFINITY, -1.0, 0.5, 1e300] {
        assert_eq!(
            with("second", 1, value),
            of(&format!(
                "`second` is {value}, which is no second since the Unix epoch"
            ))
        );
    }
    for value in [f64::NAN, f64::INFINITY, -5.0] {
        assert_eq!(
            with("latency_ms", 1, value),
            of(&format!("a latency of {value} ms on average"))
        );
    }
    assert_eq!(
        said(|stats| stats.upstream_locality_stats.clear()),
        of("it has 0 localities, expected 1")
    );
    assert_eq!(
        said(|stats| stats.upstream_locality_stats[0].load_metric_stats.clear()),
        of("it does not say of which second it is")
    );
    assert_eq!(
        said(|stats| stats.upstream_locality_stats[0].total_issued_requests = MOST + 1),
        of("total_issued_requests is 4294967297, the limit is 4294967296")
    );
    assert!(said(|stats| stats.cluster_name = "x".repeat(301)).contains("301 bytes"));
    assert!(said(|stats| stats.cluster_name.clear()).contains("0 bytes"));
}

#[test]
fn a_message_has_a_limit_and_what_a_newer_proxy_says_besides_is_no_error() {
    let report = Report {
        cluster: "shop/payment/80/v2".to_owned(),
        second: 7,
        counts: Counts::default(),
    };
    let mut many = Request {
        node: None,
        cluster_stats: vec![stats(&report); MOST_REPORTS + 1],
    };
    let error = decode(&many).unwrap_err().to_string();
    assert!(error.contains("101 reports, the limit is 100"), "{error}");
    many.cluster_stats.truncate(1);
    let metrics = &mut many.cluster_stats[0].upstream_locality_stats[0].load_metric_stats;
    metrics.push(metric("late_whatever", 3, 3.0));
    metrics.push(metric("bytes", 3, 3.0));
    assert_eq!(decode(&many), Ok(vec![report]));
}

#[test]
fn what_nobody_wants_is_counted_and_not_read() {
    let of = |cluster: &str| Report {
        cluster: cluster.to_owned(),
        second: 7,
        counts: Counts::default(),
    };
    let (wanted, other) = (of("shop/payment/80/v2"), of("shop/cart/80/v1"));
    let mut nonsense = stats(&other);
    nonsense.upstream_locality_stats.clear();
    let request = Request {
        node: None,
        cluster_stats: vec![nonsense, stats(&wanted), stats(&other)],
    };
    let read = decode_wanted(&request, |cluster| cluster.starts_with("shop/payment/"));
    assert_eq!(read, Ok((vec![wanted], 2)));
    assert!(decode(&request).is_err());
}
