use std::io::ErrorKind;

use futures::FutureExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

use super::*;

const PEER: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 1, 0, 7));

fn welcomed(visits: &Visits) -> (Visitor<DuplexStream>, DuplexStream) {
    let (ours, theirs) = duplex(64);
    (visits.welcome(ours, PEER), theirs)
}

/// How the connection ends, if it is read until then.
async fn end(visitor: &mut Visitor<DuplexStream>) -> ErrorKind {
    visitor.read_u8().await.unwrap_err().kind()
}

fn is_open(visitor: &mut Visitor<DuplexStream>) -> bool {
    visitor.read_u8().now_or_never().is_none()
}

#[tokio::test(start_paused = true)]
async fn a_connection_on_which_nobody_shows_who_they_are_ends() {
    let (mut visitor, mut theirs) = welcomed(&Visits::new());
    let began = Instant::now();
    theirs.write_all(b"x").await.unwrap();
    assert_eq!(visitor.read_u8().await.unwrap(), b'x');
    assert_eq!(end(&mut visitor).await, ErrorKind::TimedOut);
    assert_eq!(began.elapsed(), ALONE);
}

#[tokio::test(start_paused = true)]
async fn a_connection_stays_for_as_long_as_one_of_its_streams_and_a_moment_longer() {
    let (mut visitor, _theirs) = welcomed(&Visits::new());
    let visit = visitor.connect_info();
    let streams = [visit.stay(), visit.stay()];
    tokio::time::advance(ALONE * 10).await;
    assert!(is_open(&mut visitor));
    let [first, second] = streams;
    drop(first);
    tokio::time::advance(ALONE * 10).await;
    assert!(is_open(&mut visitor));
    drop(second);
    let alone = Instant::now();
    assert!(is_open(&mut visitor));
    assert_eq!(end(&mut visitor).await, ErrorKind::TimedOut);
    assert!(alone.elapsed() >= ALONE && alone.elapsed() <= ALONE * 2);
}

#[tokio::test(start_paused = true)]
async fn of_too_many_without_a_stream_the_oldest_ends_and_no_other() {
    let visits = Visits::bounded(10, 2);
    let (mut entered, _a) = welcomed(&visits);
    let stay = entered.connect_info().stay();
    let mut alone: Vec<_> = (0..3).map(|_| welcomed(&visits)).collect();
    assert_eq!(end(&mut alone[0].0).await, ErrorKind::ConnectionAborted);
    assert!(is_open(&mut alone[1].0) && is_open(&mut alone[2].0) && is_open(&mut entered));
    // Whose streams have ended is one of those without.
    drop(stay);
    assert_eq!(end(&mut alone[1].0).await, ErrorKind::ConnectionAborted);
    assert!(is_open(&mut entered));
    let _newer: Vec<_> = (0..2).map(|_| welcomed(&visits)).collect();
    assert_eq!(end(&mut entered).await, ErrorKind::ConnectionAborted);
    drop(alone);
}

#[tokio::test(start_paused = true)]
async fn nothing_is_left_of_connections_that_are_gone() {
    let visits = Visits::bounded(1, 1);
    for _ in 0..3 {
        let (visitor, _theirs) = welcomed(&visits);
        let stay = visitor.connect_info().stay();
        drop(visitor);
        drop(stay);
    }
    let (mut visitor, _theirs) = welcomed(&visits);
    assert!(is_open(&mut visitor));
}
