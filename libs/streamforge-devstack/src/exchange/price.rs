//! The price of a symbol at any minute, computed without any other minute.
//!
//! It is a base price times one plus a sum of octaves. An octave is noise at fixed points, a straight line between
//! them; the longer its period, the larger its amplitude, as in a random walk. The amplitudes sum to less than one,
//! so the price stays positive for ever.

use super::noise::{Noise, SPAN, between};

/// Minutes of an hour.
pub(super) const MINUTES: usize = 60;

/// Octaves of whole hours: period in hours, amplitude in 1e-9 of the base price. Within an hour their sum is a
/// straight line.
const COARSE: [(i64, i64); 8] = [
    (16_384, 260_000_000),
    (4_096, 200_000_000),
    (1_024, 110_000_000),
    (256, 60_000_000),
    (64, 30_000_000),
    (16, 15_000_000),
    (4, 8_000_000),
    (1, 4_000_000),
];

/// Octaves of minutes: period in minutes, which divides an hour, and amplitude in 1e-9 of the base price.
const FINE: [(usize, i64); 3] = [(15, 1_600_000), (5, 900_000), (1, 400_000)];

/// One in the unit of the amplitudes.
const WHOLE: i64 = 1_000_000_000;

/// The price of a symbol over time.
#[derive(Debug, Clone)]
pub(super) struct PricePath {
    base_ticks: i64,
    coarse: [Noise; COARSE.len()],
    fine: [Noise; FINE.len()],
}

impl PricePath {
    /// A path around `base_ticks`, which is at most 1e9. Takes streams 0 to 99 of `key`.
    pub(super) fn new(key: u64, base_ticks: i64) -> Self {
        Self {
            base_ticks,
            coarse: std::array::from_fn(|octave| Noise::new(key, octave as u64)),
            fine: std::array::from_fn(|octave| Noise::new(key, 50 + octave as u64)),
        }
    }

    fn coarse_at(&self, hour: i64) -> i64 {
        COARSE
            .iter()
            .zip(&self.coarse)
            .map(|(&(period, amplitude), noise)| {
                let (point, step) = (hour.div_euclid(period), hour.rem_euclid(period));
                let value = between(noise.signed(point), noise.signed(point + 1), step, period);
                value * amplitude / SPAN
            })
            .sum()
    }

    /// The price in ticks at each minute of `hour` (hours since 1970), both ends included: the last of one hour is
    /// the first of the next.
    pub(super) fn minutes_of_hour(&self, hour: i64) -> [i64; MINUTES + 1] {
        let (from, to) = (self.coarse_at(hour), self.coarse_at(hour + 1));
        let mut change: [i64; MINUTES + 1] =
            std::array::from_fn(|minute| between(from, to, minute as i64, MINUTES as i64));
        for (&(period, amplitude), noise) in FINE.iter().zip(&self.fine) {
            let first_point = hour * (MINUTES / period) as i64;
            let mut here = noise.signed(first_point);
            for point in 0..MINUTES / period {
                let there = noise.signed(first_point + point as i64 + 1);
                for step in 0..period {
                    let value = between(here, there, step as i64, period as i64);
                    change[point * period + step] += value * amplitude / SPAN;
                }
                here = there;
            }
            change[MINUTES] += here * amplitude / SPAN;
        }
        // In 128 bits: at a base of 1e9 ticks the product takes 61 of 63, which leaves no room for a mistake.
        change.map(|change| {
            (i128::from(self.base_ticks) * i128::from(WHOLE + change) / i128::from(WHOLE)) as i64
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_amplitudes_leave_the_price_positive() {
        let sum: i64 = COARSE
            .iter()
            .map(|&(_, a)| a)
            .chain(FINE.iter().map(|&(_, a)| a))
            .sum();
        assert!(sum < WHOLE * 7 / 10, "{sum}");
    }

    #[test]
    fn hours_join() {
        let path = PricePath::new(42, 4_000_000);
        for hour in [0, 1, 417_000, 417_001, 16_383, 16_384] {
            assert_eq!(
                path.minutes_of_hour(hour)[MINUTES],
                path.minutes_of_hour(hour + 1)[0],
                "{hour}"
            );
        }
    }
}
