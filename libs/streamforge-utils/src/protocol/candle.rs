//! A candle as it travels in Kafka and lies in the database.

use std::borrow::Cow;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use serde_json::value::RawValue;

use super::{Interval, Symbol, TimestampMs};

/// How prices and volumes are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Numbers {
    /// As JSON numbers, with the digits that the exchange sent.
    #[default]
    Json,
    /// As JSON strings, for who needs every digit in a database that holds doubles.
    String,
}

/// A price or a volume: text of JSON's number grammar ([RFC 8259, section 6]), never a float.
///
/// It keeps the digits that the exchange sent, trailing zeros included.
///
/// [RFC 8259, section 6]: https://www.rfc-editor.org/rfc/rfc8259#section-6
#[derive(Debug, Clone, Copy)]
pub struct Decimal<'a> {
    digits: &'a str,
    numbers: Numbers,
}

impl<'a> Decimal<'a> {
    /// Takes `digits` as they are, to be written as `numbers` says. `None` if they are no JSON number.
    pub fn new(digits: &'a str, numbers: Numbers) -> Option<Self> {
        is_json_number(digits).then_some(Self { digits, numbers })
    }

    /// The digits as they were sent.
    pub fn digits(&self) -> &'a str {
        self.digits
    }

    /// The nearest double, for comparing; infinite if the number is too large for one.
    pub fn to_f64(self) -> f64 {
        self.digits.parse().unwrap_or(f64::NAN)
    }

    /// Whether it fits into a double.
    fn is_finite(self) -> bool {
        // Plain digits of any usual length do, and parsing them costs time.
        let is_plain = self.digits.len() < 300 && !self.digits.contains(['e', 'E']);
        is_plain || self.to_f64().is_finite()
    }

    /// Whether it is below 0. `-0.00000000` is zero.
    pub fn is_negative(self) -> bool {
        let significand = self.digits.split(['e', 'E']).next().unwrap_or_default();
        significand.starts_with('-') && significand.bytes().any(|byte| matches!(byte, b'1'..=b'9'))
    }
}

/// Whether the text is a number in JSON's grammar: `-? int frac? exp?`, no leading zeros, no leading plus.
fn is_json_number(text: &str) -> bool {
    let digits = |text: &str| text.bytes().take_while(u8::is_ascii_digit).count();
    let rest = text.strip_prefix('-').unwrap_or(text);
    let whole = digits(rest);
    if whole == 0 || (whole > 1 && rest.starts_with('0')) {
        return false;
    }
    let mut rest = &rest[whole..];
    if let Some(fraction) = rest.strip_prefix('.') {
        let length = digits(fraction);
        if length == 0 {
            return false;
        }
        rest = &fraction[length..];
    }
    if let Some(exponent) = rest.strip_prefix(['e', 'E']) {
        let exponent = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
        let length = digits(exponent);
        return length > 0 && length == exponent.len();
    }
    rest.is_empty()
}

impl Serialize for Decimal<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.numbers {
            Numbers::String => serializer.serialize_str(self.digits),
            Numbers::Json => serde_json::from_str::<&RawValue>(self.digits)
                .map_err(serde::ser::Error::custom)?
                .serialize(serializer),
        }
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Decimal<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = <&'de RawValue>::deserialize(deserializer)?.get();
        let quoted = raw
            .strip_prefix('"')
            .and_then(|text| text.strip_suffix('"'));
        let (digits, numbers) = quoted.map_or((raw, Numbers::Json), |text| (text, Numbers::String));
        Self::new(digits, numbers)
            .ok_or_else(|| de::Error::custom(format_args!("{raw} is no decimal number")))
    }
}

/// One final candle, a flat JSON object. Times are Unix milliseconds, UTC; prices are in the quote asset,
/// `volume` in the base asset.
///
/// Borrows from the message it was read from. Unknown fields are let through.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Candle<'a> {
    /// `{SYMBOL}_{interval}_{open_time}`: see [`Candle::key_of`].
    #[serde(rename = "_key", borrow)]
    pub key: Cow<'a, str>,
    /// The trading pair.
    #[serde(borrow)]
    pub symbol: Cow<'a, str>,
    /// Its length.
    pub interval: Interval,
    /// Identifies the candle.
    pub open_time: TimestampMs,
    /// Not always `open_time` plus the interval minus 1: the exchange has closed some early.
    pub close_time: TimestampMs,
    /// First price.
    #[serde(borrow)]
    pub open: Decimal<'a>,
    /// Highest price.
    #[serde(borrow)]
    pub high: Decimal<'a>,
    /// Lowest price.
    #[serde(borrow)]
    pub low: Decimal<'a>,
    /// Last price.
    #[serde(borrow)]
    pub close: Decimal<'a>,
    /// Traded, in the base asset.
    #[serde(borrow)]
    pub volume: Decimal<'a>,
    /// Traded, in the quote asset.
    #[serde(borrow)]
    pub quote_asset_volume: Decimal<'a>,
    /// How many trades.
    pub number_of_trades: u64,
    /// Bought by takers, in the base asset.
    #[serde(borrow)]
    pub taker_buy_base_asset_volume: Decimal<'a>,
    /// Bought by takers, in the quote asset.
    #[serde(borrow)]
    pub taker_buy_quote_asset_volume: Decimal<'a>,
    /// Where it was traded, such as `binance`.
    #[serde(borrow)]
    pub exchange: Cow<'a, str>,
}

/// What is wrong with a record that should be a candle.
#[derive(Debug, thiserror::Error)]
pub enum CandleError {
    /// Not JSON, or not of a candle's shape.
    #[error("not a candle: {0}")]
    Shape(serde_json::Error),
    /// JSON, but not an object.
    #[error("not a candle: expected a JSON object, found {0}")]
    NotAnObject(&'static str),
    /// Every field is there, and their values contradict each other or what a candle is.
    #[error("not a possible candle: {0}")]
    Value(String),
}

impl<'a> Candle<'a> {
    /// The document key of the candle of `symbol` and `interval` that opens at `open_time`.
    pub fn key_of(symbol: &Symbol, interval: Interval, open_time: TimestampMs) -> String {
        format!("{symbol}_{interval}_{}", open_time.as_millis())
    }

    /// Reads one record and checks its values: [`Candle::read`] and [`Candle::implausible`].
    ///
    /// # Errors
    /// As [`Candle::read`], and values that no market can have.
    pub fn parse(record: &'a [u8]) -> Result<Self, CandleError> {
        let candle = Self::read(record)?;
        match candle.implausible() {
            Some(what) => Err(CandleError::Value(what)),
            None => Ok(candle),
        }
    }

    /// Reads one record. Prices and volumes may be implausible.
    ///
    /// # Errors
    /// Says what is wrong and where: no JSON, no object, a field missing or of another type, a key that is not of
    /// this candle, a close time before the open time.
    pub fn read(record: &'a [u8]) -> Result<Self, CandleError> {
        match record.iter().find(|byte| !byte.is_ascii_whitespace()) {
            Some(b'[') => return Err(CandleError::NotAnObject("an array")),
            Some(b'"') => return Err(CandleError::NotAnObject("a string")),
            Some(b'0'..=b'9' | b'-') => return Err(CandleError::NotAnObject("a number")),
            None => return Err(CandleError::NotAnObject("nothing")),
            _ => {}
        }
        let candle: Self = serde_json::from_slice(record).map_err(CandleError::Shape)?;
        candle.check_identity()?;
        Ok(candle)
    }

    fn check_identity(&self) -> Result<(), CandleError> {
        let wrong = |message: String| Err(CandleError::Value(message));
        if let Err(error) = self.symbol.parse::<Symbol>() {
            return wrong(error.to_string());
        }
        let key = format!(
            "{}_{}_{}",
            self.symbol,
            self.interval,
            self.open_time.as_millis()
        );
        if self.key != key {
            return wrong(format!("_key is {:?}, expected {key:?}", self.key));
        }
        if self.open_time.as_millis() < 0 || self.close_time < self.open_time {
            return wrong(format!(
                "close_time {} is before open_time {}",
                self.close_time.0, self.open_time.0
            ));
        }
        if self.exchange.is_empty() {
            return wrong("exchange is empty".to_owned());
        }
        Ok(())
    }

    /// The first value that no market can have: a negative number, one too large for a double, `high` below or `low`
    /// above another price. The loader counts such candles and publishes them, writers send them to the dead letters.
    pub fn implausible(&self) -> Option<String> {
        for (name, number) in self.numbers() {
            if number.is_negative() || !number.is_finite() {
                return Some(format!(
                    "{name} is {}, expected a number from 0 on",
                    number.digits()
                ));
            }
        }
        let (high, low) = (self.high.to_f64(), self.low.to_f64());
        for (name, price) in [
            ("open", self.open),
            ("close", self.close),
            ("low", self.low),
        ] {
            if high < price.to_f64() {
                return Some(format!(
                    "high {} is below {name} {}",
                    self.high.digits(),
                    price.digits()
                ));
            }
            if low > price.to_f64() {
                return Some(format!(
                    "low {} is above {name} {}",
                    self.low.digits(),
                    price.digits()
                ));
            }
        }
        None
    }

    fn numbers(&self) -> [(&'static str, Decimal<'a>); 8] {
        [
            ("open", self.open),
            ("high", self.high),
            ("low", self.low),
            ("close", self.close),
            ("volume", self.volume),
            ("quote_asset_volume", self.quote_asset_volume),
            (
                "taker_buy_base_asset_volume",
                self.taker_buy_base_asset_volume,
            ),
            (
                "taker_buy_quote_asset_volume",
                self.taker_buy_quote_asset_volume,
            ),
        ]
    }
}

#[cfg(test)]
mod tests;
