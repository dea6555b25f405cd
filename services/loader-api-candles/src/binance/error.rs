//! What can go wrong with the exchange, by what to do about it.

use std::time::Duration;

use streamforge_utils::protocol::TimestampMs;

use crate::kline::BadPage;

/// What to do where the exchange does not serve an address.
const ALTERNATIVES: &str = "BINANCE_API_URL can name another base URL, such as \
    https://data-api.binance.vision (market data only) or https://api1.binance.com";

/// Why a request to the exchange failed.
#[derive(Debug, thiserror::Error)]
pub enum BinanceError {
    /// 429: ask for nothing until the time is over.
    #[error("too many requests: the exchange asks for {} of silence", seconds(*retry_after))]
    RateLimited {
        /// From `Retry-After`; `None` if the exchange did not say.
        retry_after: Option<Duration>,
    },
    /// 418: earlier 429s were not heeded, by us or by others behind the same address. As above.
    #[error("the exchange has banned this address for {}", seconds(*retry_after))]
    Banned {
        /// From `Retry-After`; `None` if the exchange did not say.
        retry_after: Option<Duration>,
    },
    /// The silence that the exchange asks for is longer than a worker should wait.
    #[error("the exchange answers this address again at {until}: start this load again after that")]
    ComeBackLater {
        /// By this machine's clock.
        until: TimestampMs,
    },
    /// The request is wrong, and stays wrong: the exchange's own message.
    #[error("the exchange refused {request}: {message} (HTTP {status})")]
    Rejected {
        /// What was asked.
        request: &'static str,
        /// The code and message of the exchange, such as `-1121 Invalid symbol.`, else how the answer begins.
        message: String,
        /// The HTTP status.
        status: u16,
    },
    /// 403: the exchange's firewall. May pass: it also refuses for a while who asks in an odd way.
    #[error(
        "the exchange's firewall refused {request} (HTTP 403): this address or region may be blocked; {ALTERNATIVES}"
    )]
    Firewall {
        /// What was asked.
        request: &'static str,
    },
    /// 451, or a firewall that has refused everything until the deadline: this address is not served.
    #[error(
        "the exchange does not serve this address: {request} was refused (HTTP {status}): {message}; {ALTERNATIVES}"
    )]
    Blocked {
        /// What was asked.
        request: &'static str,
        /// The HTTP status.
        status: u16,
        /// What the answer says.
        message: String,
    },
    /// Something between this worker and the exchange has answered: a proxy, a portal, a firewall that wants a
    /// browser. May pass.
    #[error("not the exchange but something on the way answered {request}: {problem}")]
    Intermediary {
        /// What was asked.
        request: &'static str,
        /// What came.
        problem: String,
    },
    /// No answer, half an answer, or one that blames the server: may pass.
    #[error("the exchange is unavailable: {problem}")]
    Unavailable {
        /// What happened.
        problem: String,
        /// Why, where the HTTP client knows.
        #[source]
        source: Option<reqwest::Error>,
    },
    /// 200, and not what was asked for. It may come from a proxy on the way, so it may pass.
    #[error("the exchange's answer to {request} is malformed")]
    Malformed {
        /// What was asked.
        request: &'static str,
        /// What is wrong, and where.
        #[source]
        source: BadPage,
    },
    /// 200, with a row that was malformed in the same way when it was asked for again: no third time will mend it.
    #[error("the exchange's answer to {request} is malformed, twice in the same way")]
    MalformedAgain {
        /// What was asked.
        request: &'static str,
        /// What is wrong, with row and column.
        #[source]
        source: BadPage,
    },
    /// Two answers that can't both be true. May pass: servers behind one address may lag behind each other.
    #[error("the exchange contradicts itself: {what}")]
    Contradiction {
        /// Both answers.
        what: String,
    },
    /// What may pass did not, for as long as this worker tries.
    #[error("gave up on the exchange after {} s of trying", spent.as_secs())]
    GaveUp {
        /// Time spent on requests and between them; not on silence that the exchange asked for.
        spent: Duration,
        /// The last failure.
        #[source]
        source: Box<BinanceError>,
    },
}

impl BinanceError {
    /// Whether the same request may succeed later.
    pub fn may_pass(&self) -> bool {
        match self {
            Self::RateLimited { .. }
            | Self::Banned { .. }
            | Self::Firewall { .. }
            | Self::Intermediary { .. }
            | Self::Unavailable { .. }
            | Self::Malformed { .. }
            | Self::Contradiction { .. }
            | Self::GaveUp { .. } => true,
            Self::ComeBackLater { .. }
            | Self::Rejected { .. }
            | Self::Blocked { .. }
            | Self::MalformedAgain { .. } => false,
        }
    }

    /// Whether the exchange limits how much it is asked.
    pub(super) fn is_a_limit(&self) -> bool {
        matches!(self, Self::RateLimited { .. } | Self::Banned { .. })
    }

    /// One word for metrics.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::RateLimited { .. } => "rate_limited",
            Self::Banned { .. } => "banned",
            Self::ComeBackLater { .. } => "come_back_later",
            Self::Rejected { .. } => "rejected",
            Self::Firewall { .. } => "firewall",
            Self::Blocked { .. } => "blocked",
            Self::Intermediary { .. } => "intermediary",
            Self::Unavailable { .. } => "unavailable",
            Self::Malformed { .. } | Self::MalformedAgain { .. } => "malformed",
            Self::Contradiction { .. } => "contradiction",
            Self::GaveUp { .. } => "gave_up",
        }
    }
}

fn seconds(retry_after: Option<Duration>) -> String {
    match retry_after {
        Some(time) => format!("{} s", time.as_secs()),
        None => "an unknown time".to_owned(),
    }
}
