//! A copy on its way out waits for the long streams that proxies are ending to it.

use super::*;

/// For how many seconds the copy of a failed release is kept, when proxies say in those seconds that they have streams to it.
fn kept(open: impl Fn(i64) -> bool) -> i64 {
    let mut shop = Shop::soaking();
    assert_eq!(shop.step().awaits, None);
    for _ in 0..3 {
        shop.judge(Verdict::Fail, Api::Works);
    }
    assert_eq!((shop.sent(), shop.phase().as_str()), (0, "RollingBack"));
    let (since, revision) = (shop.now, crate::revision::revision(&template("v2")));
    for second in 0..600 {
        shop.now = since + Span::seconds(second);
        if open(second) {
            shop.streams.insert(revision.clone(), shop.now);
        }
        let step = shop.step();
        let awaited = step.awaits.expect("its streams are awaited");
        assert!(awaited.revisions.contains(&revision));
        assert_eq!(awaited.service, Key::new("shop", "payment"));
        let Some(write) = step.write else {
            let wake = step.wake.expect("the copy has to go at some time");
            assert!(wake > shop.now && wake <= shop.now + Span::seconds(60));
            continue;
        };
        if matches!(write.verb, Verb::Delete { .. }) {
            return second;
        }
        let written = shop.perform(&write, Api::Works);
        shop.session.wrote(written, clock(shop.now));
    }
    panic!("the copy never goes");
}

#[test]
fn without_streams_it_goes_at_once() {
    assert_eq!(kept(|_| false), 5);
}

#[test]
fn it_goes_soon_after_the_last_stream_has_ended() {
    assert_eq!(kept(|second| second <= 2), 5);
    assert_eq!(kept(|second| second <= 33), 36);
}

#[test]
fn streams_that_never_end_do_not_keep_it() {
    assert_eq!(kept(|_| true), 45);
}
