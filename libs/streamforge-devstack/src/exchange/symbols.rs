//! What a symbol is, and how `/api/v3/exchangeInfo` tells it.

use serde_json::{Value, json};
use streamforge_utils::protocol::TimestampMs;

use super::amount::{self, ONE};

/// 2017-08-17T04:00Z, the first candle of the oldest pairs.
const FIRST_LISTING: TimestampMs = TimestampMs(1_502_942_400_000);

/// Assets that others are priced in, longest first where one ends another.
const QUOTE_ASSETS: [&str; 11] = [
    "FDUSD", "USDT", "USDC", "BUSD", "TUSD", "BTC", "ETH", "BNB", "EUR", "TRY", "USD",
];

/// A symbol whose candles are generated.
///
/// Well-known ones come with a plausible price and their real listing time; any other gets a made-up one and is
/// listed since 2020-01-01.
#[derive(Debug, Clone)]
pub struct GeneratedSymbol {
    name: String,
    listed: TimestampMs,
    /// The smallest step of the price, in 1e-8.
    pub(super) tick: i64,
    /// The smallest step of a quantity, in 1e-8; a tick times a lot is a whole number of 1e-8.
    pub(super) lot: i64,
    /// The price that everything varies around, in ticks.
    pub(super) base_ticks: i64,
    /// Mean volume of a minute, in lots.
    pub(super) mean_lots: u64,
}

impl GeneratedSymbol {
    /// The symbol with this name, such as `BTCUSDT`.
    pub fn new(name: impl Into<String>) -> Self {
        let name = name.into();
        let (listed, tick, lot, base_ticks, mean_lots) = match name.as_str() {
            "BTCUSDT" => (FIRST_LISTING, 1_000_000, 1_000, 4_000_000, 1_500_000),
            "ETHUSDT" => (FIRST_LISTING, 1_000_000, 10_000, 220_000, 2_500_000),
            "BNBUSDT" => (
                TimestampMs(1_509_940_440_000),
                1_000_000,
                100_000,
                35_000,
                300_000,
            ),
            "SOLUSDT" => (
                TimestampMs(1_597_125_600_000),
                1_000_000,
                100_000,
                9_000,
                2_000_000,
            ),
            _ => (
                TimestampMs(1_577_836_800_000),
                10_000,
                10_000_000,
                60_000,
                20_000,
            ),
        };
        Self {
            name,
            listed,
            tick,
            lot,
            base_ticks,
            mean_lots,
        }
    }

    /// Sets when trading began: the instant before which there are no candles. A longer candle that this instant
    /// falls into exists, as on the exchange.
    #[must_use]
    pub fn listed(mut self, at: TimestampMs) -> Self {
        self.listed = at;
        self
    }

    /// Its name, such as `BTCUSDT`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// When trading began.
    pub fn listed_at(&self) -> TimestampMs {
        self.listed
    }
}

impl<N: Into<String>> From<N> for GeneratedSymbol {
    fn from(name: N) -> Self {
        Self::new(name)
    }
}

/// Whether the exchange could have a symbol of this name. Source: the legal range in its error -1100.
pub(super) fn is_legal(name: &str) -> bool {
    let legal =
        |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit() || b"-_.".contains(&byte);
    (1..=20).contains(&name.len()) && name.bytes().all(legal)
}

/// `BTCUSDT` as `("BTC", "USDT")`; a name without a known quote asset is cut in the middle.
fn assets_of(name: &str) -> (&str, &str) {
    let quote = QUOTE_ASSETS
        .iter()
        .find(|quote| name.len() > quote.len() && name.ends_with(*quote));
    name.split_at(name.len() - quote.map_or(name.len() / 2, |quote| quote.len()))
}

/// The entry of a symbol in `exchangeInfo`. `tick` and `lot` are in 1e-8.
pub(super) fn entry(name: &str, tick: i64, lot: i64) -> Value {
    let (base, quote) = assets_of(name);
    let text = |value: i64| amount::text(i128::from(value));
    json!({
        "symbol": name,
        "status": "TRADING",
        "baseAsset": base,
        "baseAssetPrecision": 8,
        "quoteAsset": quote,
        "quotePrecision": 8,
        "quoteAssetPrecision": 8,
        "baseCommissionPrecision": 8,
        "quoteCommissionPrecision": 8,
        "orderTypes": ["LIMIT", "LIMIT_MAKER", "MARKET", "STOP_LOSS", "STOP_LOSS_LIMIT", "TAKE_PROFIT", "TAKE_PROFIT_LIMIT"],
        "icebergAllowed": true,
        "ocoAllowed": true,
        "otoAllowed": true,
        "quoteOrderQtyMarketAllowed": true,
        "allowTrailingStop": true,
        "cancelReplaceAllowed": true,
        "amendAllowed": true,
        "isSpotTradingAllowed": true,
        "isMarginTradingAllowed": false,
        "filters": [
            {"filterType": "PRICE_FILTER", "minPrice": text(tick), "maxPrice": text(1_000_000 * ONE), "tickSize": text(tick)},
            {"filterType": "LOT_SIZE", "minQty": text(lot), "maxQty": text(9_000 * ONE), "stepSize": text(lot)},
            {"filterType": "NOTIONAL", "minNotional": text(5 * ONE), "applyMinToMarket": true,
             "maxNotional": text(9_000_000 * ONE), "applyMaxToMarket": false, "avgPriceMins": 5},
        ],
        "permissions": [],
        "permissionSets": [["SPOT"]],
        "defaultSelfTradePreventionMode": "EXPIRE_MAKER",
        "allowedSelfTradePreventionModes": ["EXPIRE_TAKER", "EXPIRE_MAKER", "EXPIRE_BOTH"],
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_fall_into_two_assets() {
        for (name, assets) in [
            ("BTCUSDT", ("BTC", "USDT")),
            ("ETHBTC", ("ETH", "BTC")),
            ("BTCFDUSD", ("BTC", "FDUSD")),
            ("USDT", ("US", "DT")),
        ] {
            assert_eq!(assets_of(name), assets);
        }
    }

    #[test]
    fn a_tick_times_a_lot_is_whole() {
        for name in ["BTCUSDT", "ETHUSDT", "BNBUSDT", "SOLUSDT", "ANYTHING"] {
            let symbol = GeneratedSymbol::new(name);
            assert_eq!(
                (i128::from(symbol.tick) * i128::from(symbol.lot)) % i128::from(ONE),
                0,
                "{name}"
            );
        }
    }
}
