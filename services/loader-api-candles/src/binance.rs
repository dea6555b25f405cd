//! Client of the exchange's public REST API: klines, clock and limits.
//!
//! A call returns what was asked for or an error, never nothing in place of a failure. It keeps inside the
//! exchange's limits, waits out the silence that the exchange asks for, and tries again what may pass, until a
//! deadline. What it returns has been checked against the request. Which klines to ask for is not its job.
//!
//! Sources: [general information](https://developers.binance.com/docs/binance-spot-api-docs/rest-api/general-api-information),
//! [limits](https://developers.binance.com/docs/binance-spot-api-docs/rest-api/limits),
//! [market data](https://developers.binance.com/docs/binance-spot-api-docs/rest-api/market-data-endpoints).

mod answer;
mod error;
mod retry;
mod silence;
mod weight;

use std::{fmt, sync::atomic::AtomicBool, time::Duration};

use reqwest::redirect;
use serde::Deserialize;
use streamforge_utils::protocol::{Interval, Symbol, TimestampMs};
use url::Url;

use crate::{
    kline::{self, BadPage, Kline, MICROSECONDS_FROM},
    message::Message,
    metrics::Metrics,
    plan::{PAGE_LIMIT, Window},
};
pub use error::BinanceError;
pub(crate) use retry::gave_up;
use weight::{Aim, WeightBudget};

/// Weight of each request, as the exchange counts it.
const KLINES_WEIGHT: u32 = 2;
const EXCHANGE_INFO_WEIGHT: u32 = 20;
const TIME_WEIGHT: u32 = 1;

const USER_AGENT: &str = concat!("streamforge-loader-api-candles/", env!("CARGO_PKG_VERSION"));

/// The least time between two questions that confirm each other. Servers of the exchange that are behind the others
/// have caught up by then.
pub const CONFIRM_AFTER: Duration = Duration::from_secs(2);

/// How long the client waits, and how long it tries.
#[derive(Debug, Clone, Copy)]
pub struct HttpSettings {
    /// For a connection.
    pub connect_timeout: Duration,
    /// For a whole answer, the connection included.
    pub request_timeout: Duration,
    /// Time to spend on one request that fails in ways that may pass.
    pub retry_deadline: Duration,
    /// First pause between tries; it doubles up to `longest_backoff`, with jitter.
    pub first_backoff: Duration,
    /// Longest pause between tries.
    pub longest_backoff: Duration,
    /// Pause after the exchange's firewall has refused a request.
    pub firewall_pause: Duration,
    /// Pause before something is asked for again to confirm it.
    pub confirm_after: Duration,
}

impl HttpSettings {
    /// Time-outs that suit a page of klines, about 200 KB before compression.
    pub fn new(retry_deadline: Duration) -> Self {
        Self {
            connect_timeout: Duration::from_secs(5),
            request_timeout: Duration::from_secs(20),
            retry_deadline,
            first_backoff: Duration::from_millis(200),
            longest_backoff: Duration::from_secs(15),
            // Ten tries, with the default deadline.
            firewall_pause: (retry_deadline / 10).min(Duration::from_secs(30)),
            confirm_after: CONFIRM_AFTER,
        }
    }
}

/// Client of one exchange, for all requests of this process: clones of it would not share its budget.
pub struct BinanceClient {
    http: reqwest::Client,
    base_url: String,
    settings: HttpSettings,
    budget: WeightBudget,
    /// Whether there ever was an answer that was not the firewall's.
    is_answered: AtomicBool,
    metrics: Metrics,
    message: Message,
}

/// Which klines to ask for. Both kinds look at the open time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Question {
    /// The first ones that open in a window.
    FirstIn(Window),
    /// The latest ones that open before an instant.
    LatestBefore(TimestampMs),
}

/// An answer to a [`Question`].
#[derive(Debug)]
pub struct Answer {
    /// Oldest first.
    pub klines: Vec<Kline>,
    /// The exchange's clock when the question was sent; not later.
    pub asked_at: TimestampMs,
    /// How long it took, without what the exchange's limits did.
    pub spent: Duration,
}

impl fmt::Debug for BinanceClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BinanceClient")
            .field("base_url", &self.base_url)
            .finish_non_exhaustive()
    }
}

/// A request, and how its answer is read.
struct Request<'a> {
    /// For messages.
    name: &'static str,
    path: &'static str,
    query: &'a [(&'static str, String)],
    weight: u32,
    aim: Aim,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ServerTime {
    server_time: i64,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ExchangeInfo {
    rate_limits: Vec<RateLimit>,
    symbols: Vec<ListedSymbol>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RateLimit {
    rate_limit_type: String,
    interval: String,
    interval_num: u32,
    limit: u32,
}

#[derive(Deserialize)]
struct ListedSymbol {
    symbol: String,
}

impl BinanceClient {
    /// A client of the API at `base_url`. Connects when used. `message` says so while it waits or tries again.
    ///
    /// # Errors
    /// The TLS library can't be set up.
    pub fn new(
        base_url: &Url,
        settings: HttpSettings,
        metrics: Metrics,
        message: Message,
    ) -> Result<Self, reqwest::Error> {
        let http = reqwest::Client::builder()
            .user_agent(USER_AGENT)
            .connect_timeout(settings.connect_timeout)
            .timeout(settings.request_timeout)
            // The exchange redirects nobody; who does is something on the way.
            .redirect(redirect::Policy::none())
            .build()?;
        Ok(Self {
            http,
            base_url: base_url.as_str().trim_end_matches('/').to_owned(),
            settings,
            budget: WeightBudget::default(),
            is_answered: AtomicBool::new(false),
            metrics,
            message,
        })
    }

    pub(crate) fn settings(&self) -> &HttpSettings {
        &self.settings
    }

    pub(crate) fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    pub(crate) fn message(&self) -> &Message {
        &self.message
    }

    /// The exchange's clock. Also sets the clock by which request weight is counted.
    ///
    /// # Errors
    /// See [`BinanceError`].
    pub async fn server_time(&self) -> Result<TimestampMs, BinanceError> {
        let request = Request {
            name: "time",
            path: "/api/v3/time",
            query: &[],
            weight: TIME_WEIGHT,
            aim: Aim::Data,
        };
        let read = |body: &[u8]| {
            const EXPECTED: &str = "the server's time in Unix milliseconds";
            let answer: ServerTime = kline::read_json(body, EXPECTED)?;
            if (1..MICROSECONDS_FROM).contains(&answer.server_time) {
                return Ok(answer);
            }
            Err(BadPage::Foreign {
                expected: EXPECTED,
                found: kline::excerpt(body),
            })
        };
        let (answer, _) = self.get(&request, read).await?;
        let now = TimestampMs(answer.server_time);
        self.budget.set_clock(now);
        Ok(now)
    }

    /// Makes sure that the exchange knows `symbol`, and takes over its limit of request weight.
    ///
    /// # Errors
    /// [`BinanceError::Rejected`] with the exchange's own message if it does not know the symbol.
    pub async fn exchange_info(&self, symbol: &Symbol) -> Result<(), BinanceError> {
        let request = Request {
            name: "exchangeInfo",
            path: "/api/v3/exchangeInfo",
            query: &[("symbol", symbol.to_string())],
            weight: EXCHANGE_INFO_WEIGHT,
            aim: Aim::Limit,
        };
        let (info, _): (ExchangeInfo, _) = self
            .get(&request, |body| {
                let info: ExchangeInfo = kline::read_json(body, "exchangeInfo")?;
                if info.symbols.iter().any(|it| it.symbol == symbol.as_str()) {
                    return Ok(info);
                }
                Err(BadPage::Foreign {
                    expected: "exchangeInfo of the symbol that was asked for",
                    found: kline::excerpt(body),
                })
            })
            .await?;
        let limit = info.rate_limits.iter().find(|limit| {
            limit.rate_limit_type == "REQUEST_WEIGHT"
                && limit.interval == "MINUTE"
                && limit.interval_num == 1
        });
        match limit {
            Some(limit) => self.budget.set_limit(limit.limit),
            None => tracing::warn!(
                "The exchange names no limit of request weight a minute; staying at a cautious one"
            ),
        }
        Ok(())
    }

    /// At most `limit` klines, oldest first. That there are fewer is the exchange's word alone: see [`crate::fetch`]
    /// for what confirms it.
    ///
    /// # Errors
    /// See [`BinanceError`].
    pub async fn klines(
        &self,
        symbol: &Symbol,
        interval: Interval,
        question: Question,
        limit: u16,
    ) -> Result<Answer, BinanceError> {
        debug_assert!(
            limit <= PAGE_LIMIT,
            "the exchange gives at most 1000 at once"
        );
        let window = question.window();
        let mut query = vec![
            ("symbol", symbol.to_string()),
            ("interval", interval.to_string()),
            // Both ends are inclusive and look at the open time.
            ("endTime", (window.end - 1).as_millis().to_string()),
            ("limit", limit.to_string()),
        ];
        if let Question::FirstIn(window) = question {
            query.push(("startTime", window.start.as_millis().to_string()));
        }
        let request = Request {
            name: "klines",
            path: "/api/v3/klines",
            query: &query,
            weight: KLINES_WEIGHT,
            aim: Aim::Data,
        };
        let read = |body: &[u8]| {
            let rows = kline::read_page(body)?;
            check_page(&rows.klines, window, limit)?;
            Ok(rows)
        };
        let asked_at = self.budget.clock().0;
        let (rows, spent) = self.get(&request, read).await?;
        if rows.duplicates > 0 {
            tracing::warn!(
                rows = rows.duplicates,
                "Left out rows that the exchange sent twice"
            );
        }
        self.metrics.fetched(rows.klines.len(), rows.duplicates);
        Ok(Answer {
            klines: rows.klines,
            asked_at,
            spent,
        })
    }
}

impl Question {
    /// What an open time of an answer has to lie in.
    fn window(self) -> Window {
        match self {
            Self::FirstIn(window) => window,
            Self::LatestBefore(end) => Window {
                start: TimestampMs(0),
                end,
            },
        }
    }
}

/// Whether the klines are those that were asked for.
fn check_page(klines: &[Kline], window: Window, limit: u16) -> Result<(), BadPage> {
    if klines.len() > usize::from(limit) {
        return Err(BadPage::TooLong {
            found: klines.len(),
            limit: limit.into(),
        });
    }
    for (index, kline) in klines.iter().enumerate() {
        if !window.contains(kline.open_time) {
            let expected = format!(
                "a time from {} to {}",
                window.start.as_millis(),
                (window.end - 1).as_millis()
            );
            return Err(kline::bad_open_time(index, expected, kline.open_time));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
