//! The exchange's kline, and the candle that it becomes. Pure: bytes in, values out.
//!
//! A page is believed only as a whole: one bad cell makes the page bad, and says which cell. What a malformed page
//! is worth (asking again) is not decided here.

use std::{borrow::Cow, fmt};

use serde_json::value::RawValue;
use streamforge_utils::protocol::{Candle, Decimal, Interval, Numbers, Symbol, TimestampMs};

/// Where our candles say they were traded.
const EXCHANGE: &str = "binance";

/// From here on a time can't be meant in milliseconds: they would lie beyond the year 5138. Microseconds do, which the
/// exchange sends to who asks for them, and some mirrors to everybody.
pub(crate) const MICROSECONDS_FROM: i64 = 100_000_000_000_000;

/// Columns of a kline, in the exchange's order.
///
/// Source: [Kline/Candlestick data](https://developers.binance.com/docs/binance-spot-api-docs/rest-api/market-data-endpoints#klinecandlestick-data).
const COLUMNS: [&str; 12] = [
    "open time",
    "open",
    "high",
    "low",
    "close",
    "volume",
    "close time",
    "quote asset volume",
    "number of trades",
    "taker buy base asset volume",
    "taker buy quote asset volume",
    "ignore",
];

/// One candle as the exchange sends it. Prices and volumes keep their digits, and are of JSON's number grammar.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kline {
    /// Identifies the kline.
    pub open_time: TimestampMs,
    /// Not always the next open time minus 1: some were closed early.
    pub close_time: TimestampMs,
    number_of_trades: u64,
    open: Box<str>,
    high: Box<str>,
    low: Box<str>,
    close: Box<str>,
    volume: Box<str>,
    quote_asset_volume: Box<str>,
    taker_buy_base_asset_volume: Box<str>,
    taker_buy_quote_asset_volume: Box<str>,
    implausible: Option<Box<str>>,
}

/// An answer with klines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rows {
    /// Oldest first, each open time once.
    pub klines: Vec<Kline>,
    /// Rows that were there more than once, and were left out.
    pub duplicates: usize,
}

/// Why the bytes are no page of klines.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadPage {
    /// Something else altogether: HTML, or other JSON.
    #[error("expected {expected}, found {found}")]
    Foreign {
        /// What the answer should have been.
        expected: &'static str,
        /// How it begins.
        found: String,
    },
    /// It ends in the middle.
    #[error("the answer is cut short after {bytes} bytes")]
    CutShort {
        /// How much came.
        bytes: usize,
    },
    /// A row that is no array.
    #[error("kline {index}: expected an array, found {found}")]
    NoRow {
        /// Which row, from 0.
        index: usize,
        /// How it begins.
        found: String,
    },
    /// A row of another width.
    #[error("kline {index} has {found} columns, expected 12")]
    Columns {
        /// Which row, from 0.
        index: usize,
        /// Its width.
        found: usize,
    },
    /// A cell that does not hold what it should.
    #[error("kline {index}, column {column} ({name}): expected {expected}, found {found}")]
    Cell {
        /// Which row, from 0.
        index: usize,
        /// Which column, from 0.
        column: usize,
        /// What that column means.
        name: &'static str,
        /// What it should hold.
        expected: String,
        /// What it holds.
        found: String,
    },
    /// More rows than were asked for.
    #[error("the page has {found} klines, expected at most {limit}")]
    TooLong {
        /// How many came.
        found: usize,
        /// How many were asked for.
        limit: usize,
    },
}

impl BadPage {
    /// Whether the answer is the exchange's, and its rows are wrong. Else it may as well come from something on the way.
    pub fn is_about_rows(&self) -> bool {
        match self {
            Self::NoRow { .. }
            | Self::Columns { .. }
            | Self::Cell { .. }
            | Self::TooLong { .. } => true,
            Self::Foreign { .. } | Self::CutShort { .. } => false,
        }
    }
}

/// Reads the answer of `GET /api/v3/klines`. A row that is there already, digit for digit, is left out.
///
/// # Errors
/// The first thing that is wrong, with its place: no JSON array, another number of columns than 12, a price that is
/// no number, times that do not rise.
pub fn read_page(body: &[u8]) -> Result<Rows, BadPage> {
    let rows: Vec<&RawValue> = read_json(body, "a JSON array of klines")?;
    let mut klines: Vec<Kline> = Vec::with_capacity(rows.len());
    let mut duplicates = 0;
    for (index, row) in rows.into_iter().enumerate() {
        let kline = read_row(index, row)?;
        let Some(last) = klines
            .last()
            .filter(|last| kline.open_time <= last.open_time)
        else {
            klines.push(kline);
            continue;
        };
        let place = klines.binary_search_by_key(&kline.open_time, |known| known.open_time);
        if place.is_ok_and(|place| klines[place] == kline) {
            duplicates += 1;
            continue;
        }
        let after = format!("a time after {}", last.open_time.as_millis());
        return Err(bad_open_time(index, after, kline.open_time));
    }
    Ok(Rows { klines, duplicates })
}

/// A body without the byte order mark that some proxies put before it.
pub fn without_bom(body: &[u8]) -> &[u8] {
    body.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(body)
}

/// Reads JSON of any type; errors tell HTML and half an answer from other mistakes.
///
/// # Errors
/// The text is not `expected`.
pub fn read_json<'a, T: serde::Deserialize<'a>>(
    body: &'a [u8],
    expected: &'static str,
) -> Result<T, BadPage> {
    let body = without_bom(body);
    serde_json::from_slice(body).map_err(|error| {
        if error.is_eof() && !body.is_empty() {
            return BadPage::CutShort { bytes: body.len() };
        }
        BadPage::Foreign {
            expected,
            found: excerpt(body),
        }
    })
}

/// A kline whose open time is not what the request or its neighbour demand.
pub fn bad_open_time(index: usize, expected: String, found: TimestampMs) -> BadPage {
    BadPage::Cell {
        index,
        column: 0,
        name: COLUMNS[0],
        expected,
        found: found.as_millis().to_string(),
    }
}

/// The beginning of an answer, on one line, for a message.
pub fn excerpt(body: &[u8]) -> String {
    const LONGEST: usize = 80;
    let text = String::from_utf8_lossy(&body[..body.len().min(4 * LONGEST)]);
    let text: String = text
        .chars()
        .map(|it| if it.is_control() { ' ' } else { it })
        .collect();
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if line.is_empty() {
        return "nothing".to_owned();
    }
    if line.chars().count() <= LONGEST && body.len() <= 4 * LONGEST {
        return line;
    }
    format!("{}…", line.chars().take(LONGEST).collect::<String>())
}

fn read_row(index: usize, row: &RawValue) -> Result<Kline, BadPage> {
    let cells: Vec<&RawValue> = serde_json::from_str(row.get()).map_err(|_| BadPage::NoRow {
        index,
        found: excerpt(row.get().as_bytes()),
    })?;
    let row = Row { index, cells };
    if row.cells.len() != COLUMNS.len() {
        return Err(BadPage::Columns {
            index,
            found: row.cells.len(),
        });
    }
    let open_time = row.time(0)?;
    let close_time = row.time(6)?;
    if close_time < open_time {
        let expected = format!("a time from {} on", open_time.as_millis());
        return Err(row.bad(6, expected));
    }
    let candle = Candle {
        key: Cow::Borrowed(""),
        symbol: Cow::Borrowed(""),
        interval: Interval::Minute1,
        open_time,
        close_time,
        open: row.decimal(1)?,
        high: row.decimal(2)?,
        low: row.decimal(3)?,
        close: row.decimal(4)?,
        volume: row.decimal(5)?,
        quote_asset_volume: row.decimal(7)?,
        number_of_trades: row.count(8)?,
        taker_buy_base_asset_volume: row.decimal(9)?,
        taker_buy_quote_asset_volume: row.decimal(10)?,
        exchange: EXCHANGE.into(),
    };
    let digits = |decimal: Decimal<'_>| decimal.digits().into();
    Ok(Kline {
        open_time,
        close_time,
        number_of_trades: candle.number_of_trades,
        open: digits(candle.open),
        high: digits(candle.high),
        low: digits(candle.low),
        close: digits(candle.close),
        volume: digits(candle.volume),
        quote_asset_volume: digits(candle.quote_asset_volume),
        taker_buy_base_asset_volume: digits(candle.taker_buy_base_asset_volume),
        taker_buy_quote_asset_volume: digits(candle.taker_buy_quote_asset_volume),
        implausible: candle.implausible().map(String::into_boxed_str),
    })
}

/// One kline that is being read.
struct Row<'a> {
    index: usize,
    cells: Vec<&'a RawValue>,
}

impl Row<'_> {
    fn text(&self, column: usize) -> &str {
        self.cells[column].get()
    }

    fn bad(&self, column: usize, expected: impl fmt::Display) -> BadPage {
        BadPage::Cell {
            index: self.index,
            column,
            name: COLUMNS[column],
            expected: expected.to_string(),
            found: excerpt(self.text(column).as_bytes()),
        }
    }

    fn time(&self, column: usize) -> Result<TimestampMs, BadPage> {
        match self.text(column).parse() {
            Ok(millis) if (0..MICROSECONDS_FROM).contains(&millis) => Ok(TimestampMs(millis)),
            _ => Err(self.bad(column, "Unix milliseconds")),
        }
    }

    fn count(&self, column: usize) -> Result<u64, BadPage> {
        let count = self.text(column).parse();
        count.map_err(|_| self.bad(column, "a whole number"))
    }

    /// A number in quotes. One without quotes has the same digits and is taken too.
    fn decimal(&self, column: usize) -> Result<Decimal<'_>, BadPage> {
        let text = self.text(column);
        let unquoted = text
            .strip_prefix('"')
            .and_then(|text| text.strip_suffix('"'));
        let digits = unquoted.unwrap_or(text);
        Decimal::new(digits, Numbers::Json).ok_or_else(|| self.bad(column, "a decimal number"))
    }
}

impl Kline {
    /// The first value that no market can have, if there is one: see [`Candle::implausible`].
    pub fn implausible(&self) -> Option<&str> {
        self.implausible.as_deref()
    }

    /// The record that this kline becomes: its key `{SYMBOL}_{interval}_{open_time}` and its value, a JSON object.
    pub fn to_record(&self, symbol: &Symbol, interval: Interval, numbers: Numbers) -> Record {
        let decimal = |digits| Decimal::new(digits, numbers).expect("checked when it was read");
        let key = Candle::key_of(symbol, interval, self.open_time);
        let candle = Candle {
            key: key.as_str().into(),
            symbol: symbol.as_str().into(),
            interval,
            open_time: self.open_time,
            close_time: self.close_time,
            open: decimal(&self.open),
            high: decimal(&self.high),
            low: decimal(&self.low),
            close: decimal(&self.close),
            volume: decimal(&self.volume),
            quote_asset_volume: decimal(&self.quote_asset_volume),
            number_of_trades: self.number_of_trades,
            taker_buy_base_asset_volume: decimal(&self.taker_buy_base_asset_volume),
            taker_buy_quote_asset_volume: decimal(&self.taker_buy_quote_asset_volume),
            exchange: EXCHANGE.into(),
        };
        let value = serde_json::to_vec(&candle).expect("text keys and checked numbers serialize");
        Record {
            open_time: self.open_time,
            key,
            value,
        }
    }
}

/// A candle as it is published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Identifies the candle.
    pub open_time: TimestampMs,
    /// Its document key.
    pub key: String,
    /// A JSON object.
    pub value: Vec<u8>,
}

#[cfg(test)]
mod tests;
