use super::*;

const USERS: usize = 100_000;

/// As many as matter to the place of each: numbers in a row, and what applications make of them.
fn users() -> Vec<String> {
    let made = |number: usize| match number % 4 {
        0 => number.to_string(),
        1 => format!("user-{number}@example.com"),
        2 => format!("{number:032x}"),
        _ => format!("00000000-0000-4000-8000-{number:012}"),
    };
    (0..USERS).map(made).collect()
}

fn weight(units: u32) -> Weight {
    Weight::new(units).unwrap()
}

fn canary(weight: Weight, seed: Seed, user: &str) -> bool {
    pick(weight, seed, user.as_bytes()) == Pick::Canary
}

/// Every percentage, and weights between them.
fn weights() -> Vec<Weight> {
    let fine = [1, 2, 333, 1_001, 49_999, 50_001, 99_999];
    let mut all: Vec<u32> = (0..=100)
        .map(|percent| percent * 1_000)
        .chain(fine)
        .collect();
    all.sort_unstable();
    all.into_iter().map(weight).collect()
}

#[test]
fn the_share_of_users_is_the_weight() {
    let users = users();
    for rollout in ["shop/payment", "shop/web", "a/b"] {
        for run in [1, 2, 1_000_000] {
            let seed = Seed::of(rollout, run);
            for percent in [1, 10, 50, 90] {
                let weight = Weight::percent(percent).unwrap();
                let picked = users
                    .iter()
                    .filter(|user| canary(weight, seed, user))
                    .count();
                let share = f64::from(percent) / 100.0;
                // Five times as far as chance has it, and never one in a hundred of all.
                let far = (5.0 * (share * (1.0 - share) / USERS as f64).sqrt()).min(0.01);
                let off = picked as f64 / USERS as f64 - share;
                assert!(off.abs() < far, "{rollout} {run} at {percent} %: {picked}");
            }
        }
    }
}

#[test]
fn nobody_gets_the_canary_at_zero_and_everybody_at_the_whole() {
    let seed = Seed::of("shop/payment", 1);
    for user in users() {
        assert!(!canary(Weight::ZERO, seed, &user) && canary(Weight::ALL, seed, &user));
    }
}

/// Whoever has the canary keeps it while the weight rises, and whoever has stable keeps that while it falls: nobody sees a version come, go and
/// come again in a whole release.
#[test]
fn a_raise_only_adds_users_and_a_fall_only_gives_them_back() {
    let weights = weights();
    for run in 1..=5 {
        let seed = Seed::of("shop/payment", run);
        for user in users().iter().step_by(37) {
            let picks: Vec<bool> = weights.iter().map(|of| canary(*of, seed, user)).collect();
            assert!(picks.is_sorted(), "{user} in run {run}: {picks:?}");
        }
    }
}

#[test]
fn another_run_and_another_rollout_begin_with_other_users() {
    let tenth = Weight::percent(10).unwrap();
    let users = users();
    let seeds = [
        ("shop/payment", 1),
        ("shop/payment", 2),
        ("shop/web", 1),
        ("pay/payment", 1),
    ];
    let seeds = seeds.map(|(rollout, run)| Seed::of(rollout, run));
    for (index, one) in seeds.iter().enumerate() {
        for other in &seeds[index + 1..] {
            let both = users
                .iter()
                .filter(|user| canary(tenth, *one, user) && canary(tenth, *other, user));
            // A tenth of a tenth.
            let both = both.count();
            assert!((850..1_150).contains(&both), "{both} have both");
        }
    }
}

/// A proxy of the next version has to send them where this one does.
#[test]
fn places_are_the_same_in_every_version() {
    let seed = Seed::of("shop/payment", 7);
    let places = ["", "1", "anna", "user-17@example.com"].map(|user| place(seed, user.as_bytes()));
    assert_eq!(places, [65_651, 3_534, 82_682, 32_757]);
}

/// Fields as they came.
struct Fields(Vec<(&'static str, &'static str)>);

impl Head for Fields {
    fn values<'h>(&'h self, name: &str) -> impl Iterator<Item = &'h [u8]> {
        let of = move |(field, value): &'h (&str, &str)| {
            field.eq_ignore_ascii_case(name).then_some(value.as_bytes())
        };
        self.0.iter().filter_map(of)
    }
}

fn read(key: &Key, fields: &[(&'static str, &'static str)]) -> Option<String> {
    let head = Fields(fields.to_vec());
    let user = key.read(&head)?;
    Some(String::from_utf8(user.to_vec()).unwrap())
}

#[test]
fn a_header_is_found_in_any_case_and_the_first_of_several_counts() {
    let key = Key::header("X-User-ID").unwrap();
    assert_eq!(key, Key::header("x-user-id").unwrap());
    for (fields, expected) in [
        (vec![], None),
        (vec![("Host", "web")], None),
        (vec![("x-user-id", "anna")], Some("anna")),
        (vec![("X-USER-ID", " anna\t")], Some("anna")),
        (
            vec![("x-user-id", "anna"), ("X-User-Id", "bert")],
            Some("anna"),
        ),
        (vec![("x-user-id", "\"anna\"")], Some("\"anna\"")),
        (vec![("x-user-id", "")], None),
        (vec![("x-user-id", " "), ("x-user-id", "bert")], None),
    ] {
        assert_eq!(read(&key, &fields).as_deref(), expected, "{fields:?}");
    }
}

#[test]
fn a_cookie_is_found_among_others_wherever_it_is() {
    let key = Key::cookie("uid").unwrap();
    for (cookies, expected) in [
        (vec![], None),
        (vec!["uid=anna"], Some("anna")),
        (vec!["a=1; uid=anna; b=2"], Some("anna")),
        (vec!["a=1;uid=anna;b=2"], Some("anna")),
        (vec!["a=1", "b=2; uid=anna"], Some("anna")),
        (vec!["uid=\"anna\""], Some("anna")),
        (vec!["uid = anna "], Some("anna")),
        (vec!["uid=a=b=="], Some("a=b==")),
        (vec!["uid=\""], Some("\"")),
        (vec!["UID=anna"], None),
        (vec!["xuid=anna; uidx=bert; uid"], None),
        (vec!["a=uid=anna"], None),
        (vec!["uid=anna; uid=bert"], Some("anna")),
        (vec!["uid=anna", "uid=bert"], Some("anna")),
        (vec!["uid=", "uid=bert"], None),
        (vec!["uid=\"\""], None),
        (vec![";;=; uid=anna"], Some("anna")),
    ] {
        let fields: Vec<_> = cookies.iter().map(|cookie| ("Cookie", *cookie)).collect();
        assert_eq!(read(&key, &fields).as_deref(), expected, "{cookies:?}");
    }
}

#[test]
fn a_name_that_cannot_be_one_is_refused_with_one_that_can() {
    let long = "x".repeat(LONGEST_NAME + 1);
    for bad in [
        "",
        " ",
        "x user",
        "x-user:",
        "ä",
        "a,b",
        "a=b",
        long.as_str(),
    ] {
        let header = Key::header(bad).unwrap_err().to_string();
        assert!(header.ends_with("write one such as x-user-id, of letters, digits and hyphens"));
        let cookie = Key::cookie(bad).unwrap_err().to_string();
        assert!(cookie.contains("is no name of a cookie: write one such as session"));
    }
    for nobodys in ["Cookie", "host", "Connection", "content-length"] {
        let error = Key::header(nobodys).unwrap_err();
        assert_eq!(error, InvalidKey::Nobodys(nobodys.to_ascii_lowercase()));
    }
    assert!(Key::cookie("__Host-session").is_ok() && Key::cookie("cookie").is_ok());
}
