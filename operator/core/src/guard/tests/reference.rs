//! Against an independent implementation (Python, floating point throughout): 300 s of stable alone, then 120 s with a canary that
//! goes bad after 60. Each line: requests and errors of the canary, of stable; and the logarithm of the capital after each second
//! of the canary.

use super::*;

const SECONDS: &str = include_str!("../../../tests/data/guard-seconds.txt");
const WEALTH: &str = include_str!("../../../tests/data/guard-wealth.txt");

#[test]
fn the_capital_is_that_of_the_reference() {
    let mut errors = EProcess::new();
    let mut wealth = WEALTH.lines().map(|line| line.parse::<f64>().unwrap());
    let (mut turn, mut worst) = (Turn::Begins, 0.0_f64);
    for line in SECONDS.lines() {
        let numbers: Vec<u64> = line.split(' ').map(|n| n.parse().unwrap()).collect();
        let [n_c, x_c, n_s, x_s] = numbers[..] else {
            panic!("{line}")
        };
        let now = if n_c == 0 { Turn::Alone } else { turn };
        errors.see(now, 0.005, Counts::new(n_c, x_c), Counts::new(n_s, x_s));
        if now != Turn::Alone {
            turn = Turn::GoesOn;
            worst = worst.max((errors.wealth() - wealth.next().unwrap()).abs());
        }
    }
    assert_eq!(wealth.next(), None);
    assert!(worst < 1e-8, "{worst}");
}
