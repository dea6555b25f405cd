//! The names of a workflow and of all that belongs to it.

use std::{fmt, str::FromStr};

use rand::RngExt;
use serde::{Deserialize, Serialize};

use super::{Interval, TimestampMs, UnknownInterval};

/// The text can't be that name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidName {
    /// No symbol.
    #[error("{0:?} is no symbol, expected 2 to 20 of A-Z and 0-9, such as BTCUSDT")]
    Symbol(String),
    /// No queue id.
    #[error("{0:?} is no queue id, expected wf- and then up to 125 of a-z A-Z 0-9 . _ -")]
    QueueId(String),
    /// No last part of a queue id.
    #[error("{0:?} is no short, expected 6 of a-z and 0-9")]
    Short(String),
    /// No type of workflow.
    #[error(
        "{0:?} is no type, expected api_candles_<interval>, api_trades, ws_candles_<interval>, ws_trades, ws_orderbook or dummy"
    )]
    Kind(String),
    /// A type of workflow whose interval does not exist.
    #[error("{kind:?} is no type: {source}")]
    KindInterval {
        /// The whole text.
        kind: String,
        /// What is wrong with its end.
        source: UnknownInterval,
    },
}

/// A trading pair as the exchange names it: `[A-Z0-9]{2,20}`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Symbol(String);

impl Symbol {
    /// In the exchange's upper case.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// In the lower case that names of topics, Jobs and collections use.
    pub fn to_lower(&self) -> String {
        self.0.to_ascii_lowercase()
    }
}

impl FromStr for Symbol {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let fits = (2..=20).contains(&text.len())
            && text
                .bytes()
                .all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit());
        if fits {
            Ok(Self(text.to_owned()))
        } else {
            Err(InvalidName::Symbol(text.to_owned()))
        }
    }
}

/// One run of one pipeline: a loader, its writers and the topic between them. Not a Kafka queue.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct QueueId(String);

impl QueueId {
    /// Its text, which names topics and groups by prefix.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for QueueId {
    type Err = InvalidName;

    /// Everything of a workflow starts with `wf-`, so that ACLs can be given by prefix. The length leaves room
    /// for what topics (249 characters in Kafka) and groups append.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
        let fits = text
            .strip_prefix("wf-")
            .is_some_and(|rest| (1..=125).contains(&rest.len()) && rest.bytes().all(legal));
        if fits {
            Ok(Self(text.to_owned()))
        } else {
            Err(InvalidName::QueueId(text.to_owned()))
        }
    }
}

/// `TYPE`: what a workflow moves, and how it gets it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum WorkflowKind {
    /// `api_candles_{interval}`: candles of the past from the REST API.
    ApiCandles(Interval),
    /// `api_trades`: trades of the past from the REST API.
    ApiTrades,
    /// `ws_candles_{interval}`: candles as they close, from the stream.
    WsCandles(Interval),
    /// `ws_trades`: trades as they happen, from the stream.
    WsTrades,
    /// `ws_orderbook`: the order book, from the stream.
    WsOrderbook,
    /// `dummy`: nothing real.
    Dummy,
}

impl WorkflowKind {
    /// The interval, of candles.
    pub fn interval(self) -> Option<Interval> {
        match self {
            Self::ApiCandles(interval) | Self::WsCandles(interval) => Some(interval),
            Self::ApiTrades | Self::WsTrades | Self::WsOrderbook | Self::Dummy => None,
        }
    }
}

impl FromStr for WorkflowKind {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let interval = |end: &str| {
            end.parse().map_err(|source| InvalidName::KindInterval {
                kind: text.to_owned(),
                source,
            })
        };
        match text {
            "api_trades" => Ok(Self::ApiTrades),
            "ws_trades" => Ok(Self::WsTrades),
            "ws_orderbook" => Ok(Self::WsOrderbook),
            "dummy" => Ok(Self::Dummy),
            _ => {
                if let Some(end) = text.strip_prefix("api_candles_") {
                    interval(end).map(Self::ApiCandles)
                } else if let Some(end) = text.strip_prefix("ws_candles_") {
                    interval(end).map(Self::WsCandles)
                } else {
                    Err(InvalidName::Kind(text.to_owned()))
                }
            }
        }
    }
}

impl fmt::Display for WorkflowKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ApiCandles(interval) => write!(f, "api_candles_{interval}"),
            Self::ApiTrades => f.write_str("api_trades"),
            Self::WsCandles(interval) => write!(f, "ws_candles_{interval}"),
            Self::WsTrades => f.write_str("ws_trades"),
            Self::WsOrderbook => f.write_str("ws_orderbook"),
            Self::Dummy => f.write_str("dummy"),
        }
    }
}

impl From<WorkflowKind> for String {
    fn from(kind: WorkflowKind) -> Self {
        kind.to_string()
    }
}

/// A checked text that serde reads through its `FromStr`.
macro_rules! read_through_from_str {
    ($($name:ident),*) => {$(
        impl TryFrom<String> for $name {
            type Error = InvalidName;

            fn try_from(text: String) -> Result<Self, Self::Error> {
                text.parse()
            }
        }
    )*};
}
read_through_from_str!(Symbol, QueueId, WorkflowKind);

/// A checked text that is printed as it is.
macro_rules! print_as_text {
    ($($name:ident),*) => {$(
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.0
            }
        }
    )*};
}
print_as_text!(Symbol, QueueId);

/// `wf-{symbol}-{type}-{yyyymmdd}-{short}`: a new id for a workflow launched at `launched`, its last part random.
pub fn new_queue_id(symbol: &Symbol, kind: WorkflowKind, launched: TimestampMs) -> QueueId {
    queue_id(symbol, kind, launched, &Short::random())
}

/// `wf-{symbol}-{type}-{yyyymmdd}-{short}`, with the UTC day of the launch.
pub fn queue_id(
    symbol: &Symbol,
    kind: WorkflowKind,
    launched: TimestampMs,
    short: &Short,
) -> QueueId {
    let day = launched.to_jiff().strftime("%Y%m%d");
    QueueId(format!("wf-{}-{kind}-{day}-{short}", symbol.to_lower()))
}

/// Six of `[a-z0-9]`, which tell workflows of one symbol, type and day apart.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Short(String);

impl Short {
    const LETTERS: &[u8; 36] = b"abcdefghijklmnopqrstuvwxyz0123456789";
    const LEN: usize = 6;

    /// A new one.
    pub fn random() -> Self {
        let mut rng = rand::rng();
        let letter = |_| char::from(Self::LETTERS[rng.random_range(0..Self::LETTERS.len())]);
        Self((0..Self::LEN).map(letter).collect())
    }
}

impl FromStr for Short {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.len() == Self::LEN && text.bytes().all(|byte| Self::LETTERS.contains(&byte)) {
            Ok(Self(text.to_owned()))
        } else {
            Err(InvalidName::Short(text.to_owned()))
        }
    }
}

impl fmt::Display for Short {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The last part of a queue id, which tells workflows of one symbol, type and day apart.
pub fn short_of(queue_id: &QueueId) -> &str {
    queue_id.as_str().rsplit('-').next().unwrap_or_default()
}

/// `{queue_id}-data`: the topic that carries the records of a workflow.
pub fn data_topic(queue_id: &QueueId) -> String {
    format!("{queue_id}-data")
}

/// `{data topic}-dlq`: the topic for records that can't be written.
pub fn dead_letter_topic(data_topic: &str) -> String {
    format!("{data_topic}-dlq")
}

/// `{symbol}_{type}_{yyyy_mm_dd}`: the collection for records that start on `first_day`; `c_` goes before a digit,
/// which can't begin a collection's name.
pub fn collection_name(symbol: &Symbol, kind: WorkflowKind, first_day: TimestampMs) -> String {
    let name = format!(
        "{}_{kind}_{}",
        symbol.to_lower(),
        first_day.to_jiff().strftime("%Y_%m_%d")
    );
    if name.starts_with(|first: char| first.is_ascii_digit()) {
        format!("c_{name}")
    } else {
        name
    }
}

/// What the names of queue-manager's own collections begin with. No name that [`collection_name`] makes does.
pub const RESERVED_PREFIX: &str = "streamforge-";

/// Whether records must not go there: it is a collection of queue-manager's, of this release or an earlier one, or of
/// the database itself.
pub fn is_reserved_collection(name: &str) -> bool {
    const OF_EARLIER_RELEASES: [&str; 4] = ["queue_state", "telemetry", "lease", "idempotency"];
    name.starts_with('_')
        || name.starts_with(RESERVED_PREFIX)
        || OF_EARLIER_RELEASES.contains(&name)
}

/// `{target}__{short}`: who speaks in events. A second writer of the same service gets `-2`, and so on.
pub fn telemetry_id(target: &str, queue_id: &QueueId, nth: u32) -> String {
    let short = short_of(queue_id);
    if nth > 1 {
        format!("{target}__{short}-{nth}")
    } else {
        format!("{target}__{short}")
    }
}

/// `job-{target}-{symbol}-{short}`: a worker's Job; the second of a service has `-2`, its second run `-r2`, and so on.
///
/// For a `queue_id` as [`queue_id()`] makes them and a target of a-z, 0-9 and inner `-` it is a DNS-1123 label: at most
/// 63 characters. Should it be longer, the symbol is cut, since the short alone tells Jobs of one target apart.
pub fn job_name(target: &str, symbol: &Symbol, queue_id: &QueueId, nth: u32, run: u32) -> String {
    const LONGEST: usize = 63;
    let mut end = format!("-{}", short_of(queue_id));
    if nth > 1 {
        end.push_str(&format!("-{nth}"));
    }
    if run > 1 {
        end.push_str(&format!("-r{run}"));
    }
    let mut name = format!("job-{target}-{}", symbol.to_lower());
    name.truncate(LONGEST.saturating_sub(end.len()));
    name.truncate(name.trim_end_matches('-').len());
    name + &end
}

/// `{queue_id}-{service}-{collection}`: the consumer group that the writers of one collection share.
pub fn group_id(queue_id: &QueueId, service: &str, collection: &str) -> String {
    format!("{queue_id}-{service}-{collection}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn day() -> TimestampMs {
        "2024-08-01T23:59:59Z".parse().unwrap()
    }

    #[test]
    fn names_are_as_the_contract_has_them() {
        let symbol: Symbol = "BTCUSDT".parse().unwrap();
        let kind: WorkflowKind = "api_candles_1m".parse().unwrap();
        let queue_id: QueueId = "wf-btcusdt-api_candles_1m-20240801-abc123".parse().unwrap();
        assert_eq!(
            data_topic(&queue_id),
            "wf-btcusdt-api_candles_1m-20240801-abc123-data"
        );
        assert_eq!(
            dead_letter_topic(&data_topic(&queue_id)),
            "wf-btcusdt-api_candles_1m-20240801-abc123-data-dlq"
        );
        assert_eq!(
            collection_name(&symbol, kind, day()),
            "btcusdt_api_candles_1m_2024_08_01"
        );
        assert_eq!(
            telemetry_id("arango-candles", &queue_id, 1),
            "arango-candles__abc123"
        );
        assert_eq!(
            telemetry_id("arango-candles", &queue_id, 2),
            "arango-candles__abc123-2"
        );
        assert_eq!(
            group_id(
                &queue_id,
                "arango-candles",
                "btcusdt_api_candles_1m_2024_08_01"
            ),
            "wf-btcusdt-api_candles_1m-20240801-abc123-arango-candles-btcusdt_api_candles_1m_2024_08_01"
        );
        let digits: Symbol = "1INCHUSDT".parse().unwrap();
        assert_eq!(
            collection_name(&digits, kind, day()),
            "c_1inchusdt_api_candles_1m_2024_08_01"
        );
    }

    #[test]
    fn a_new_queue_id_has_the_day_of_its_launch_and_six_random_characters() {
        let symbol: Symbol = "BTCUSDT".parse().unwrap();
        let kind = WorkflowKind::ApiCandles(Interval::Month1);
        let (one, two) = (
            new_queue_id(&symbol, kind, day()),
            new_queue_id(&symbol, kind, day()),
        );
        assert!(
            one.as_str()
                .starts_with("wf-btcusdt-api_candles_1M-20240801-"),
            "{one}"
        );
        assert_eq!(short_of(&one).len(), 6);
        assert_ne!(one, two);
        assert_eq!(one.as_str().parse::<QueueId>().unwrap(), one);
    }

    #[test]
    fn jobs_are_told_apart_by_target_number_and_run() {
        let symbol: Symbol = "BTCUSDT".parse().unwrap();
        let short: Short = "abc123".parse().unwrap();
        let id = queue_id(
            &symbol,
            WorkflowKind::ApiCandles(Interval::Month1),
            day(),
            &short,
        );
        for (nth, run, name) in [
            (1, 1, "job-arango-candles-btcusdt-abc123"),
            (2, 1, "job-arango-candles-btcusdt-abc123-2"),
            (1, 2, "job-arango-candles-btcusdt-abc123-r2"),
            (2, 3, "job-arango-candles-btcusdt-abc123-2-r3"),
        ] {
            assert_eq!(job_name("arango-candles", &symbol, &id, nth, run), name);
        }
    }

    proptest::proptest! {
        #[test]
        fn a_job_name_is_a_dns_label(
            target in "[a-z][a-z0-9-]{0,28}[a-z0-9]",
            symbol in "[A-Z0-9]{2,20}",
            interval in proptest::sample::select(&Interval::ALL[..]),
            nth in 1_u32..=16,
            run in 1_u32..,
        ) {
            let symbol: Symbol = symbol.parse().unwrap();
            let id = new_queue_id(&symbol, WorkflowKind::ApiCandles(interval), day());
            let name = job_name(&target, &symbol, &id, nth, run);
            assert!(name.len() <= 63, "{name}");
            let legal = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
            assert!(name.bytes().all(legal) && !name.ends_with('-'), "{name}");
            assert!(name.starts_with(&format!("job-{target}")) && name.contains(short_of(&id)), "{name}");
        }
    }

    #[test]
    fn refuses_what_is_no_name() {
        for wrong in [
            "btcusdt",
            "B",
            "BTC-USDT",
            "BTC USDT",
            "",
            "ABCDEFGHIJKLMNOPQRSTU",
        ] {
            assert!(wrong.parse::<Symbol>().is_err(), "{wrong:?}");
        }
        for wrong in ["btcusdt", "wf-", "*", "all", "wf-a b", "wf-ü"] {
            assert!(wrong.parse::<QueueId>().is_err(), "{wrong:?}");
        }
        for wrong in [
            "api_candles",
            "api_candles_",
            "api_candles_1H",
            "API_TRADES",
            "candles_1m",
        ] {
            assert!(wrong.parse::<WorkflowKind>().is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn kinds_round_trip() {
        for text in [
            "api_candles_1m",
            "api_candles_1M",
            "api_trades",
            "ws_candles_1h",
            "ws_trades",
            "ws_orderbook",
            "dummy",
        ] {
            assert_eq!(text.parse::<WorkflowKind>().unwrap().to_string(), text);
        }
    }
}
