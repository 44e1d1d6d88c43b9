//! What is sent again.

use super::*;

fn retried() -> Route {
    let retries = Retries {
        on: [Condition::Reset, Condition::Status(503)]
            .into_iter()
            .collect(),
        times: Times::ONCE,
        each: Some(Duration::from_secs(1)),
        methods: [Method::Get, Method::Grpc].into_iter().collect(),
        budget: Terms::default(),
    };
    let bounds = Bounds {
        request: Some(Duration::from_secs(2)),
        retries: Some(retries),
        ..Bounds::default()
    };
    Route {
        bounds,
        ..route(Some((1_000, 7)))
    }
}

#[test]
fn retries_are_envoys_own_policy_and_a_budget_beside_it() {
    let mut config = encode(&retried());
    let policy = act(&mut config).retry_policy.clone().unwrap();
    assert_eq!(policy.retry_on, "reset,retriable-status-codes");
    assert_eq!(policy.retriable_status_codes, [503]);
    let names: Vec<&str> = policy
        .retriable_request_headers
        .iter()
        .map(|matcher| matcher.name.as_str())
        .collect();
    assert_eq!(names, [":method", "content-type"]);
    // Of a control plane that does not know of budgets.
    about(&mut config).fields.remove("retry_budget");
    assert_eq!(decode(&config, ttl(&retried())), Ok(retried()));
    assert_eq!(act(&mut encode(&route(None))).retry_policy, None);
}

#[test]
fn retries_that_cannot_be_are_refused_and_the_nack_says_why() {
    type Spoil = fn(&mut wire::RetryPolicy);
    let spoils: [(Spoil, &str); 13] = [
        (
            |policy| policy.retry_on = "reset,retriable-status-codes,often".to_owned(),
            "`often` is nothing that is tried again",
        ),
        (
            |policy| policy.retry_on = String::new(),
            "it names statuses without",
        ),
        (
            |policy| policy.retriable_status_codes.clear(),
            "it names statuses without",
        ),
        (
            |policy| policy.retriable_status_codes.push(404),
            "status 404 is none from 500 to 599",
        ),
        (
            |policy| policy.retriable_status_codes.push(70_000),
            "status 70000 is none",
        ),
        (
            |policy| policy.num_retries = Some(protobuf::UInt32Value { value: 6 }),
            "6 retries, expected 1 to 5",
        ),
        (
            |policy| policy.num_retries = Some(protobuf::UInt32Value { value: 0 }),
            "0 retries, expected 1 to 5",
        ),
        (
            |policy| policy.per_try_timeout = Some(protobuf::Duration::default()),
            "its time for one attempt is zero",
        ),
        (
            |policy| {
                policy.per_try_timeout = Some(protobuf::Duration {
                    seconds: 2,
                    nanos: 0,
                })
            },
            "one attempt may take 2s, and the whole call 2s",
        ),
        (
            |policy| policy.retriable_request_headers.clear(),
            "no list of methods",
        ),
        (
            |policy| policy.retriable_request_headers[0].invert_match = true,
            "no list of methods",
        ),
        (
            |policy| policy.retriable_request_headers[0].name = "x-again".to_owned(),
            "no list of methods",
        ),
        (
            |policy| policy.host_selection_retry_max_attempts = 3,
            "a field that this proxy does not know",
        ),
    ];
    for (spoil, says) in spoils {
        let mut config = encode(&retried());
        spoil(act(&mut config).retry_policy.as_mut().unwrap());
        let refused = decode(&config, None).unwrap_err().to_string();
        assert!(
            refused.starts_with("route `shop/web/80`: its retry policy: "),
            "{refused}"
        );
        assert!(refused.contains(says), "{refused}");
    }
    let mut config = encode(&retried());
    let budget = metadata::nested(metadata::fields([
        ("percent", metadata::text("101")),
        ("floor", metadata::text("0")),
    ]));
    about(&mut config)
        .fields
        .insert("retry_budget".to_owned(), budget);
    let refused = decode(&config, None).unwrap_err().to_string();
    assert!(
        refused.ends_with("a budget of 101 % and 0 a second is none"),
        "{refused}"
    );
}
