//! Noise with random access: the value at an index depends on the key and the index alone.

/// 2^64 divided by the golden ratio: consecutive multiples of it are far apart in every bit.
const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

/// Half the span of [`Noise::signed`]: its values lie in `-SPAN..SPAN`.
pub(super) const SPAN: i64 = 1 << 20;

/// Scrambles 64 bits (the finaliser of SplitMix64).
fn mix(mut bits: u64) -> u64 {
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

/// A key for everything that one symbol of one seed generates.
pub(super) fn key_of(seed: u64, symbol: &str) -> u64 {
    symbol
        .bytes()
        .fold(mix(seed.wrapping_add(GOLDEN)), |key, byte| {
            mix(key ^ u64::from(byte)).wrapping_add(GOLDEN)
        })
}

/// A sequence of random bits, numbered by an index.
#[derive(Debug, Clone, Copy)]
pub(super) struct Noise(u64);

impl Noise {
    /// The sequence number `stream` of `key`.
    pub(super) fn new(key: u64, stream: u64) -> Self {
        Self(mix(key ^ mix(stream.wrapping_mul(GOLDEN))))
    }

    /// 64 random bits.
    pub(super) fn bits(self, index: i64) -> u64 {
        mix(self.0.wrapping_add((index as u64).wrapping_mul(GOLDEN)))
    }

    /// A number in `-SPAN..SPAN`.
    pub(super) fn signed(self, index: i64) -> i64 {
        (self.bits(index) >> 43) as i64 - SPAN
    }
}

/// The point `step / steps` of the way from `from` to `to`, rounded down.
pub(super) fn between(from: i64, to: i64, step: i64, steps: i64) -> i64 {
    from + ((to - from) * step).div_euclid(steps)
}
