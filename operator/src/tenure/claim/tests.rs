use super::*;

const NAME: &str = "aviary-operator";

fn clock(second: i64) -> Timestamp {
    Timestamp::from_second(1_790_000_000 + second).unwrap()
}

/// The Lease as the API server keeps it: each write is another version.
#[derive(Default)]
struct Server {
    lease: Option<Lease>,
    version: u64,
}

impl Server {
    /// Whether it was written.
    fn write(&mut self, next: Next) -> bool {
        let (lease, expected) = match next {
            Next::Write(Write::Create(lease)) => (lease, None),
            Next::Write(Write::Replace(lease)) => {
                let expected = lease.resource_version();
                (lease, expected)
            }
            Next::Wait { .. } => return false,
        };
        let present = self.lease.as_ref().and_then(ResourceExt::resource_version);
        if present != expected {
            return false;
        }
        self.put(*lease);
        true
    }

    fn put(&mut self, mut lease: Lease) {
        self.version += 1;
        lease.metadata.resource_version = Some(self.version.to_string());
        self.lease = Some(lease);
    }

    fn spec(&self) -> &LeaseSpec {
        self.lease.as_ref().unwrap().spec.as_ref().unwrap()
    }
}

fn takes(claim: &mut Claim, server: &mut Server, now: Instant) -> bool {
    claim.look(server.lease.clone(), now);
    let wrote = server.write(claim.take(NAME, now, clock(0)));
    claim.look(server.lease.clone(), now);
    wrote
}

#[test]
fn the_first_who_comes_has_it_and_renews_it() {
    let (mut server, now) = (Server::default(), Instant::now());
    let mut one = Claim::new("one".to_owned());
    assert!(takes(&mut one, &mut server, now));
    assert_eq!(server.lease.as_ref().unwrap().name_any(), NAME);
    let acquired = server.spec().acquire_time.clone();
    for second in 1..100 {
        let now = now + Duration::from_secs(second);
        let next = one.take(NAME, now, clock(9));
        assert!(server.write(next));
        one.look(server.lease.clone(), now);
    }
    let spec = server.spec();
    assert_eq!(spec.holder_identity.as_deref(), Some("one"));
    assert_eq!(spec.lease_transitions, Some(0));
    assert_eq!(
        (&spec.acquire_time, &spec.renew_time),
        (&acquired, &Some(MicroTime(clock(9))))
    );
    assert!(!one.is_of_another());
}

#[test]
fn another_waits_for_as_long_as_it_is_renewed_and_takes_it_when_it_is_not() {
    let (mut server, begun) = (Server::default(), Instant::now());
    let (mut one, mut two) = (Claim::new("one".to_owned()), Claim::new("two".to_owned()));
    assert!(takes(&mut one, &mut server, begun));
    // Whatever the times in it say: they are of somebody else's clock.
    let mut lease = server.lease.clone().unwrap();
    lease.spec.as_mut().unwrap().renew_time = Some(MicroTime(clock(-86_400)));
    server.put(lease);
    let mut last = begun;
    for second in 1..60 {
        last = begun + Duration::from_secs(second);
        assert!(takes(&mut one, &mut server, last), "renewed");
        assert!(!takes(&mut two, &mut server, last));
    }
    // What it said last is read again and again, and is no renewal.
    let almost = last + DURATION - Duration::from_millis(1);
    assert!(!takes(&mut two, &mut server, almost));
    let Next::Wait { until, holder } = two.take(NAME, almost, clock(0)) else {
        panic!("it waits");
    };
    assert_eq!((until, holder.as_str()), (last + DURATION, "one"));
    assert!(takes(&mut two, &mut server, last + DURATION));
    assert_eq!(server.spec().lease_transitions, Some(1));
    one.look(server.lease.clone(), last + DURATION);
    assert!(one.is_of_another());
    assert_eq!(one.holder(), Some("two"));
}

#[test]
fn of_two_who_see_it_run_out_one_gets_it() {
    let (mut server, now) = (Server::default(), Instant::now());
    assert!(takes(&mut Claim::new("gone".to_owned()), &mut server, now));
    let (mut one, mut two) = (Claim::new("one".to_owned()), Claim::new("two".to_owned()));
    one.look(server.lease.clone(), now);
    two.look(server.lease.clone(), now);
    let later = now + DURATION;
    let both = [
        one.take(NAME, later, clock(0)),
        two.take(NAME, later, clock(0)),
    ];
    assert_eq!(both.map(|next| server.write(next)), [true, false]);
    assert_eq!(server.spec().holder_identity.as_deref(), Some("one"));
}

#[test]
fn what_is_given_back_is_free_at_once() {
    let (mut server, now) = (Server::default(), Instant::now());
    let (mut one, mut two) = (Claim::new("one".to_owned()), Claim::new("two".to_owned()));
    assert!(takes(&mut one, &mut server, now));
    assert!(!takes(&mut two, &mut server, now));
    assert_eq!(two.give_back(clock(0)), None, "it is not its to give");
    let free = one.give_back(clock(1)).unwrap();
    assert!(server.write(Next::Write(free)));
    two.look(server.lease.clone(), now);
    assert_eq!(two.holder(), None);
    assert!(!two.is_of_another());
    assert!(takes(&mut two, &mut server, now));
    assert_eq!(server.spec().lease_duration_seconds, Some(5));
}

#[test]
fn a_process_that_comes_again_under_its_name_has_what_it_had() {
    let (mut server, now) = (Server::default(), Instant::now());
    assert!(takes(&mut Claim::new("one".to_owned()), &mut server, now));
    assert!(takes(&mut Claim::new("one".to_owned()), &mut server, now));
    assert_eq!(server.spec().lease_transitions, Some(0));
}

#[test]
fn a_lease_that_somebody_has_spoiled_keeps_nobody_away_for_long() {
    let now = Instant::now();
    for seconds in [None, Some(0), Some(-1), Some(i32::MAX)] {
        let mut server = Server::default();
        assert!(takes(&mut Claim::new("gone".to_owned()), &mut server, now));
        let mut lease = server.lease.clone().unwrap();
        lease.spec.as_mut().unwrap().lease_duration_seconds = seconds;
        server.put(lease);
        let mut one = Claim::new("one".to_owned());
        assert!(!takes(&mut one, &mut server, now), "{seconds:?}");
        assert!(takes(&mut one, &mut server, now + DURATION), "{seconds:?}");
    }
    // One without anything in it.
    let mut server = Server::default();
    server.put(Lease::default());
    assert!(takes(&mut Claim::new("one".to_owned()), &mut server, now));
}

#[test]
fn a_holder_stops_before_another_may_begin() {
    assert!(GIVE_UP < DURATION && RENEW * 3 < GIVE_UP);
}
