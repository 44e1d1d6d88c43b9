//! The capital: a part on each effect, and a reserve for faults that come late.

use serde::{Deserialize, Serialize};

use super::bet::EFFECTS;
use super::units::Nats;

/// Seconds between two moves from the reserve.
const PERIOD: u8 = 30;

/// Logarithms of parts of an initial capital of 1.
///
/// The j-th move takes 1 / (j + 1) of the reserve, so that it always holds 1 / (j + 1) of the initial capital. Without it a
/// bet that lost for minutes would have to win for as many before it could alarm.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(super) struct Capital {
    bets: [Nats; EFFECTS.len()],
    reserve: Nats,
    moves: u32,
    /// Seconds since the last move.
    since: u8,
}

impl Capital {
    pub(super) fn new() -> Capital {
        Capital {
            bets: [Nats::LEAST; EFFECTS.len()],
            reserve: Nats::ZERO,
            moves: 0,
            since: 0,
        }
    }

    /// A second goes by. A step's first one moves a part of the reserve onto the bets, and so does every 30th after a move.
    pub(super) fn second(&mut self, begins: bool) {
        self.since = self.since.saturating_add(1);
        if begins || self.moves == 0 || self.since >= PERIOD {
            self.stake();
        }
    }

    fn stake(&mut self) {
        self.since = 0;
        self.moves = self.moves.saturating_add(1);
        let moves = f64::from(self.moves);
        let reserve = self.reserve.get();
        let each = reserve - (moves + 1.0).ln() - (EFFECTS.len() as f64).ln();
        self.reserve = Nats::of(reserve + (moves / (moves + 1.0)).ln());
        self.bets = self.bets.map(|bet| Nats::of(sum([bet.get(), each])));
    }

    pub(super) fn earn(&mut self, log_factors: [f64; EFFECTS.len()]) {
        for (bet, earned) in self.bets.iter_mut().zip(log_factors) {
            *bet = Nats::of(bet.get() + earned);
        }
    }

    /// The natural logarithm of all of it.
    pub(super) fn log(&self) -> f64 {
        sum([sum(self.bets.map(Nats::get)), self.reserve.get()])
    }
}

/// ln(sum of e^x), for finite numbers.
pub(super) fn sum<const N: usize>(logs: [f64; N]) -> f64 {
    let most = logs.into_iter().fold(f64::NEG_INFINITY, f64::max);
    most + logs
        .into_iter()
        .map(|log| (log - most).exp())
        .sum::<f64>()
        .ln()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moving_capital_neither_makes_nor_loses_any() {
        let mut capital = Capital::new();
        for second in 0..2000 {
            capital.second(second % 700 == 0);
            assert!(capital.log().abs() < 1e-7, "{second}: {}", capital.log());
        }
        // At 0, 700 and 1400, and every 30 s after each.
        assert_eq!(capital.moves, 3 + 23 + 23 + 19);
        assert!((capital.reserve.get() + f64::from(capital.moves + 1).ln()).abs() < 1e-7);
    }

    #[test]
    fn sums_of_logarithms_are_exact_far_from_1() {
        assert!((sum([1000.0, 1000.0]) - 1000.0 - 2.0_f64.ln()).abs() < 1e-12);
        assert_eq!(sum([-100.0, 900.0]), 900.0);
    }
}
