//! Bytes that nobody thought of: seeds from `tests/corpus` and the smuggling cases, changed at random. `AVIARY_FUZZ_SECONDS` makes it go on for longer,
//! `AVIARY_FUZZ_SEED` gives the same bytes again.
//!
//! Whatever comes: no panic, the same output whatever pieces it came in, and what goes on is read by the next reader as the same number of messages.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use aviary_http1::Version;
use fastrand::Rng;

use crate::forwarder::{GET, answer, requests, whole};
use crate::smuggling;

const PIECES: &[&[u8]] = &[
    b"\r\n",
    b"\n",
    b"\r",
    b"0\r\n\r\n",
    b": ",
    b" ",
    b"\t",
    b"\0",
    b"\xff",
    b"chunked",
    b"Transfer-Encoding: chunked\r\n",
    b"Content-Length: 5\r\n",
    b"Connection: close\r\n",
    b"HTTP/1.1",
    b"HTTP/1.0",
    b"GET / HTTP/1.1\r\n\r\n",
    b"ffffffffffffffff",
    b"Host: a\r\n",
    b";",
    b"http://",
    b"Expect: 100-continue\r\n",
    b"Upgrade: x\r\n",
];

fn seeds() -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus");
    let files = fs::read_dir(folder).expect("tests/corpus is part of the crate");
    let mut seeds: Vec<Vec<u8>> = files
        .map(|file| fs::read(file.unwrap().path()).unwrap())
        .collect();
    seeds.sort();
    assert!(seeds.len() >= 8, "the corpus is there");
    seeds.extend(
        smuggling::CASES
            .iter()
            .map(|(case, _)| case.as_bytes().to_vec()),
    );
    seeds
}

fn mutate(rng: &mut Rng, seeds: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = seeds[rng.usize(..seeds.len())].clone();
    for _ in 0..rng.usize(1..6) {
        let at = rng.usize(..=bytes.len());
        match rng.u8(..6) {
            0 if at < bytes.len() => bytes[at] = rng.u8(..),
            1 if at < bytes.len() => drop(bytes.remove(at)),
            2 => bytes.insert(at, rng.u8(..)),
            3 => drop(bytes.splice(at..at, PIECES[rng.usize(..PIECES.len())].iter().copied())),
            4 => {
                let to = rng.usize(at..=bytes.len());
                let piece = bytes[at..to].to_vec();
                bytes.extend(piece);
            }
            _ => bytes.truncate(at),
        }
    }
    bytes
}

/// Cuts at random.
fn pieces<'b>(rng: &mut Rng, mut bytes: &'b [u8]) -> Vec<&'b [u8]> {
    let mut pieces = Vec::new();
    while !bytes.is_empty() {
        let (piece, rest) = bytes.split_at(rng.usize(1..=bytes.len().min(40)));
        pieces.push(piece);
        bytes = rest;
    }
    pieces
}

#[test]
fn no_bytes_make_it_panic_or_say_two_things() {
    let seed = std::env::var("AVIARY_FUZZ_SEED").map_or(7, |seed| seed.parse().unwrap());
    let seconds =
        std::env::var("AVIARY_FUZZ_SECONDS").map_or(0, |seconds| seconds.parse().unwrap());
    let until = Instant::now() + Duration::from_secs(seconds);
    let (mut rng, seeds) = (Rng::with_seed(seed), seeds());
    let (mut executions, mut accepted) = (0u64, 0u64);
    while executions < 20_000 || Instant::now() < until {
        executions += 1;
        let bytes = mutate(&mut rng, &seeds);
        let at_once = whole(&bytes);
        let in_pieces = requests(pieces(&mut rng, &bytes));
        assert_eq!(at_once, in_pieces, "seed {seed}: {}", bytes.escape_ascii());
        let again = whole(&at_once.out);
        if at_once.error.is_none() {
            // As the next hop reads it.
            assert_eq!(again.error, None, "seed {seed}: {}", bytes.escape_ascii());
        }
        assert!(
            again.whole >= at_once.whole,
            "seed {seed}: {}",
            bytes.escape_ascii()
        );
        accepted += u64::from(at_once.whole > 0);
        for to in [Version::Http10, Version::Http11] {
            let at_once = answer([&bytes[..]], GET, to);
            let in_pieces = answer(pieces(&mut rng, &bytes), GET, to);
            assert_eq!(
                at_once.is_ok(),
                in_pieces.is_ok(),
                "seed {seed}: {}",
                bytes.escape_ascii()
            );
        }
    }
    println!("{executions} executions from seed {seed}, {accepted} with a whole message");
    assert!(
        accepted * 20 > executions,
        "{accepted} of {executions}: mutation leaves nothing to accept"
    );
}
