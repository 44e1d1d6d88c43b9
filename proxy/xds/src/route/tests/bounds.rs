//! Times and limits.

use super::*;

#[test]
fn what_is_not_bounded_is_so_for_envoy_too_and_grpc_says_its_own_time() {
    let mut config = encode(&route(None));
    let zero = Some(protobuf::Duration::default());
    let action = act(&mut config);
    assert_eq!((action.timeout, action.idle_timeout), (zero, zero));
    let most = action.max_stream_duration.unwrap();
    assert_eq!(
        (most.grpc_timeout_header_max, most.max_stream_duration),
        (zero, None)
    );
    *action = wire::RouteAction {
        timeout: None,
        idle_timeout: None,
        max_stream_duration: None,
        ..action.clone()
    };
    let silent = decode(&config, None).unwrap();
    assert_eq!(silent.bounds, Bounds::default());
}

#[test]
fn times_and_limits_that_cannot_be_are_refused() {
    let time = |seconds, nanos| Some(protobuf::Duration { seconds, nanos });
    for wrong in [time(-1, 0), time(0, -1), time(86_401, 0), time(i64::MAX, 0)] {
        let timeout = problem(|config| act(config).timeout = wrong);
        assert_eq!(
            timeout,
            RouteProblem::Bounds(BoundsProblem::Time("timeout"))
        );
        let idle = problem(|config| act(config).idle_timeout = wrong);
        assert_eq!(
            idle,
            RouteProblem::Bounds(BoundsProblem::Time("idle timeout"))
        );
    }
    for none in [0, u64::from(u32::MAX) + 1] {
        let requests = problem(|config| {
            let text = metadata::text(none.to_string());
            about(config).fields.insert("requests".to_owned(), text);
        });
        assert_eq!(
            requests,
            RouteProblem::Bounds(BoundsProblem::Requests(none))
        );
    }
}
