//! Bytes that nobody thought of: seeds from the corpora and the smuggling cases, changed at random, and [`properties`] of what becomes of them.
//! `AVIARY_FUZZ_SEED` changes them in another way, `AVIARY_FUZZ_CASES` says how often. `make fuzz` goes where the code leads it, and for longer.

use std::fs;
use std::path::Path;

use fastrand::Rng;

use crate::forwarder::{GET, HEAD};
use crate::{properties, smuggling};

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
    let mut good = Vec::new();
    for folder in [
        "tests/corpus",
        "fuzz/corpus/requests",
        "fuzz/corpus/answers",
    ] {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
        let files = fs::read_dir(folder).expect("the corpus is part of the crate");
        good.extend(files.map(|file| fs::read(file.unwrap().path()).unwrap()));
    }
    good.sort();
    assert!(good.len() >= 20, "the corpus is there");
    let bad = smuggling::cases().map(|(case, _)| case.as_bytes().to_vec());
    // Most of them begin as something that is accepted.
    let mut seeds = vec![good; 12].concat();
    seeds.extend(bad);
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

#[test]
fn no_bytes_make_it_panic_or_mean_two_things() {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse().unwrap());
    let seed = number("AVIARY_FUZZ_SEED").unwrap_or(7);
    let cases = number("AVIARY_FUZZ_CASES").unwrap_or(20_000);
    println!("AVIARY_FUZZ_SEED={seed}");
    let (mut rng, seeds) = (Rng::with_seed(seed), seeds());
    let (mut accepted, mut answered) = (0u64, 0u64);
    for _ in 0..cases {
        let bytes = mutate(&mut rng, &seeds);
        accepted += u64::from(properties::of_requests(&bytes).whole > 0);
        for asked in [GET, HEAD] {
            answered += u64::from(properties::of_answer(&bytes, asked).is_ok());
        }
    }
    println!("of {cases} {accepted} were requests, {answered} answers");
    for good in [accepted, answered] {
        assert!(good * 50 > cases, "mutation leaves nothing to accept");
    }
}
