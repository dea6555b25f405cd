//! Decimal numbers with eight places, exactly: what the exchange writes as `"64628.01000000"`.
//!
//! An amount is an integer count of 1e-8. No float is used, so sums over any number of candles agree to the last
//! digit.

use std::fmt::Write as _;

/// One whole unit, in steps of 1e-8.
pub(super) const ONE: i64 = 100_000_000;

/// Writes a non-negative amount in the exchange's form, eight places always.
pub(super) fn write(out: &mut String, amount: i128) {
    debug_assert!(amount >= 0, "prices and volumes are not negative");
    let (whole, rest) = (amount / i128::from(ONE), amount % i128::from(ONE));
    // Both fit, and 64-bit integers are several times quicker to print than 128-bit ones.
    let (whole, rest) = (whole as u64, rest as u64);
    write!(out, "{whole}.{rest:08}").expect("writing to a string does not fail");
}

/// An amount as text.
pub(super) fn text(amount: i128) -> String {
    let mut out = String::with_capacity(20);
    write(&mut out, amount);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn eight_places_always() {
        for (amount, expected) in [
            (0, "0.00000000"),
            (1, "0.00000001"),
            (100_000_000, "1.00000000"),
            (6_462_801_000_000, "64628.01000000"),
            (123_456_789_012_345_678_901, "1234567890123.45678901"),
        ] {
            assert_eq!(text(amount), expected);
        }
    }
}
