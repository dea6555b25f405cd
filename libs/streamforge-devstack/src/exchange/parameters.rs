//! The parameters of a request, checked as the exchange checks them.

use std::{borrow::Cow, collections::BTreeSet};

use streamforge_utils::protocol::{Interval, TimestampMs};

use super::{refusal::Refusal, row::Query, symbols};

/// How many klines come if the client does not say.
pub(super) const DEFAULT_LIMIT: usize = 500;
/// How many klines come at most; who asks for more gets these, and no error.
pub(super) const MAX_LIMIT: usize = 1_000;

/// The last millisecond of the year 9999; later instants mean the same and are awkward to compute with.
const LATEST: i64 = 253_402_300_799_999;
/// Instants from here on are microseconds: as milliseconds they would lie beyond the year 5138.
const MICROSECONDS_FROM: u64 = 100_000_000_000_000;

const SYMBOL_RANGE: &str = "^[A-Z0-9-_.]{1,20}$";
const SYMBOLS_RANGE: &str = r#"^\[("[A-Z0-9-_.]{1,20}"(,"[A-Z0-9-_.]{1,20}"){0,}){0,1}\]$"#;
const NUMBER_RANGE: &str = "^[0-9]{1,20}$";

struct Parameters<'a>(Vec<(Cow<'a, str>, Cow<'a, str>)>);

impl<'a> Parameters<'a> {
    fn parse(query: &'a str) -> Result<Self, Refusal> {
        let pairs: Vec<_> = url::form_urlencoded::parse(query.as_bytes()).collect();
        let names: BTreeSet<_> = pairs.iter().map(|(name, _)| name).collect();
        if names.len() < pairs.len() {
            return Err(Refusal::duplicate_parameter());
        }
        Ok(Self(pairs))
    }

    fn get(&self, name: &str) -> Result<Option<&str>, Refusal> {
        match self.0.iter().find(|(known, _)| known == name) {
            Some((_, value)) if value.is_empty() => Err(Refusal::empty(name)),
            Some((_, value)) => Ok(Some(value)),
            None => Ok(None),
        }
    }

    fn required(&self, name: &str) -> Result<&str, Refusal> {
        self.get(name)?.ok_or_else(|| Refusal::missing(name))
    }

    fn number(&self, name: &str) -> Result<Option<u64>, Refusal> {
        let Some(text) = self.get(name)? else {
            return Ok(None);
        };
        if text.len() > 20 || !text.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(Refusal::illegal_characters(name, NUMBER_RANGE));
        }
        Ok(Some(text.parse().unwrap_or(u64::MAX)))
    }

    fn instant(&self, name: &str) -> Result<Option<TimestampMs>, Refusal> {
        let millis = |number: u64| {
            if number >= MICROSECONDS_FROM {
                number / 1_000
            } else {
                number
            }
        };
        Ok(self
            .number(name)?
            .map(|number| TimestampMs(i64::try_from(millis(number)).unwrap_or(LATEST).min(LATEST))))
    }

    /// A name that this route does not know is most likely a typing error of one that it does.
    fn only(&self, known: &[&str]) -> Result<(), Refusal> {
        let read = self
            .0
            .iter()
            .filter(|(name, _)| known.contains(&name.as_ref()))
            .count();
        if read < self.0.len() {
            Err(Refusal::unread(read, self.0.len()))
        } else {
            Ok(())
        }
    }
}

fn legal_symbol(text: &str) -> Result<&str, Refusal> {
    if symbols::is_legal(text) {
        Ok(text)
    } else {
        Err(Refusal::illegal_characters("symbol", SYMBOL_RANGE))
    }
}

/// The query string of `/api/v3/klines`: the symbol, which need not exist, and the rest.
pub(super) fn klines(query: &str) -> Result<(String, Query), Refusal> {
    let parameters = Parameters::parse(query)?;
    let symbol = legal_symbol(parameters.required("symbol")?)?;
    let interval = parameters.required("interval")?;
    let (start, end) = (
        parameters.instant("startTime")?,
        parameters.instant("endTime")?,
    );
    let limit = match parameters.number("limit")? {
        None => DEFAULT_LIMIT,
        Some(0) => return Err(Refusal::invalid_parameter("limit")),
        Some(limit) => usize::try_from(limit).unwrap_or(MAX_LIMIT).min(MAX_LIMIT),
    };
    if parameters
        .get("timeZone")?
        .is_some_and(|zone| !["0", "0:00", "00:00"].contains(&zone))
    {
        return Err(Refusal::not_implemented("the parameter 'timeZone'"));
    }
    parameters.only(&[
        "symbol",
        "interval",
        "startTime",
        "endTime",
        "timeZone",
        "limit",
    ])?;
    let interval: Interval = interval.parse().map_err(|_| Refusal::invalid_interval())?;
    Ok((
        symbol.to_owned(),
        Query {
            interval,
            start,
            end,
            limit,
        },
    ))
}

/// The query string of `/api/v3/exchangeInfo`: which symbols, `None` for all. Permissions and status are read and
/// do not select: all symbols here are traded on the spot market.
pub(super) fn exchange_info(query: &str) -> Result<Option<Vec<String>>, Refusal> {
    let parameters = Parameters::parse(query)?;
    let symbol = parameters.get("symbol")?.map(legal_symbol).transpose()?;
    let list = parameters.get("symbols")?;
    parameters.only(&[
        "symbol",
        "symbols",
        "permissions",
        "showPermissionSets",
        "symbolStatus",
    ])?;
    match (symbol, list) {
        (Some(_), Some(_)) => Err(Refusal::bad_combination("symbol or symbols")),
        (Some(symbol), None) => Ok(Some(vec![symbol.to_owned()])),
        (None, None) => Ok(None),
        (None, Some(list)) => {
            let illegal = || Refusal::illegal_characters("symbols", SYMBOLS_RANGE);
            let names: Vec<String> = serde_json::from_str(list).map_err(|_| illegal())?;
            if !names.iter().all(|name| symbols::is_legal(name)) {
                return Err(illegal());
            }
            Ok(Some(names))
        }
    }
}

/// The query string of a route without parameters.
pub(super) fn none(query: &str) -> Result<(), Refusal> {
    Parameters::parse(query)?.only(&[])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_client_does_not_say_has_a_default() {
        let (symbol, query) = klines("symbol=BTCUSDT&interval=1M").unwrap();
        assert_eq!(symbol, "BTCUSDT");
        assert_eq!(
            query,
            Query {
                interval: Interval::Month1,
                start: None,
                end: None,
                limit: 500
            }
        );
    }

    #[test]
    fn instants_may_be_microseconds() {
        let (_, query) = klines(
            "symbol=B&interval=1m&startTime=1722470400000000&endTime=1722470400000&limit=5000",
        )
        .unwrap();
        assert_eq!(
            (query.start, query.end),
            (query.end, Some(TimestampMs(1_722_470_400_000)))
        );
        assert_eq!(query.limit, 1_000);
    }

    #[test]
    fn refuses_as_the_exchange_does() {
        for (query, code, message) in [
            (
                "",
                -1102,
                "Mandatory parameter 'symbol' was not sent, was empty/null, or malformed.",
            ),
            (
                "symbol=BTCUSDT",
                -1102,
                "Mandatory parameter 'interval' was not sent, was empty/null, or malformed.",
            ),
            (
                "symbol=&interval=1m",
                -1105,
                "Parameter 'symbol' was empty.",
            ),
            (
                "symbol=btcusdt&interval=1m",
                -1100,
                "Illegal characters found in parameter 'symbol'; legal range is '^[A-Z0-9-_.]{1,20}$'.",
            ),
            ("symbol=BTCUSDT&interval=2m", -1120, "Invalid interval."),
            (
                "symbol=BTCUSDT&interval=1m&startTime=2024-01-01",
                -1100,
                "Illegal characters found in parameter 'startTime'; legal range is '^[0-9]{1,20}$'.",
            ),
            (
                "symbol=BTCUSDT&interval=1m&limit=-1",
                -1100,
                "Illegal characters found in parameter 'limit'; legal range is '^[0-9]{1,20}$'.",
            ),
            (
                "symbol=BTCUSDT&interval=1m&limit=0",
                -1130,
                "Data sent for parameter 'limit' is not valid.",
            ),
            (
                "symbol=BTCUSDT&interval=1m&start_time=1",
                -1104,
                "Not all sent parameters were read; read '2' parameter(s) but was sent '3'.",
            ),
            (
                "symbol=BTCUSDT&symbol=BTCUSDT",
                -1101,
                "Duplicate values for a parameter detected.",
            ),
            (
                "symbol=BTCUSDT&interval=1d&timeZone=8",
                -1000,
                "This stand-in of the exchange does not implement the parameter 'timeZone'.",
            ),
        ] {
            let refusal = klines(query).unwrap_err();
            assert_eq!(
                (refusal.code, refusal.message.as_str()),
                (code, message),
                "{query}"
            );
        }
    }

    #[test]
    fn symbols_are_one_or_a_list_or_all() {
        assert_eq!(exchange_info("").unwrap(), None);
        assert_eq!(
            exchange_info("symbol=BTCUSDT").unwrap().unwrap(),
            ["BTCUSDT"]
        );
        assert_eq!(
            exchange_info("symbols=%5B%22BTCUSDT%22%2C%22ETHUSDT%22%5D")
                .unwrap()
                .unwrap(),
            ["BTCUSDT", "ETHUSDT"]
        );
        for (query, code) in [
            ("symbols=BTCUSDT", -1100),
            ("symbols=%5B%22x%22%5D", -1100),
            ("symbol=A&symbols=%5B%5D", -1128),
        ] {
            assert_eq!(exchange_info(query).unwrap_err().code, code, "{query}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_query_makes_it_panic(query in ".{0,60}") {
            let _ = klines(&query);
            let _ = exchange_info(&query);
        }
    }
}
