//! Settings of an exchange, and its start.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    net::{Ipv4Addr, SocketAddr},
    ops::Range,
    sync::Arc,
    time::Duration,
};

use streamforge_utils::protocol::{Interval, TimestampMs};
use tokio::net::TcpListener;
use url::Url;

use super::{
    Exchange, ExchangeError,
    clock::Clock,
    connection::{Listener, Scissors},
    faults::Latency,
    generated::Generated,
    market::Market,
    recording::Recording,
    routes,
    shared::{Knobs, Shared},
    symbols::{self, GeneratedSymbol},
    weights::{Limits, Weights},
};

/// What is listed if nobody says otherwise.
const DEFAULT_SYMBOLS: [&str; 4] = ["BTCUSDT", "ETHUSDT", "BNBUSDT", "SOLUSDT"];

/// Settings of an exchange that is about to start; see [`Exchange::builder`].
#[derive(Debug, Clone, Default)]
pub struct Builder {
    seed: u64,
    symbols: Option<Vec<GeneratedSymbol>>,
    gaps: Vec<Range<TimestampMs>>,
    recordings: Vec<Recording>,
    limits: Limits,
    latency: Latency,
    clock: Clock,
    port: u16,
}

impl Builder {
    /// What the generated candles are made of. Default 0.
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// The generated symbols, as names or as [`GeneratedSymbol`]. Default `BTCUSDT`, `ETHUSDT`, `BNBUSDT` and
    /// `SOLUSDT`; none if there is a recording.
    #[must_use]
    pub fn symbols<S: Into<GeneratedSymbol>>(
        mut self,
        symbols: impl IntoIterator<Item = S>,
    ) -> Self {
        self.symbols = Some(symbols.into_iter().map(Into::into).collect());
        self
    }

    /// Adds a range `[start, end)` in which nothing was traded on any generated symbol, as when the exchange is down.
    /// A longer candle exists if any second of it lies outside.
    #[must_use]
    pub fn gap(mut self, range: Range<TimestampMs>) -> Self {
        self.gaps.push(range);
        self
    }

    /// Adds recorded klines. Its symbol is listed from the first of them on; intervals that are not recorded are
    /// empty.
    #[must_use]
    pub fn recording(mut self, recording: Recording) -> Self {
        self.recordings.push(recording);
        self
    }

    /// Weight that a window grants. Default 6000, as the real exchange.
    #[must_use]
    pub fn weight_limit(mut self, limit: u32) -> Self {
        self.limits.weight = limit;
        self
    }

    /// The window in which weight is counted, for tests that can't wait for a minute. `exchangeInfo` and the headers
    /// go on calling it a minute.
    #[must_use]
    pub fn weight_window(mut self, window: Duration) -> Self {
        self.limits.window = window;
        self
    }

    /// When 418 comes: after so many requests of a window that ignored a 429, for so long. Default 10, 2 minutes.
    #[must_use]
    pub fn ban(mut self, tolerated: u32, length: Duration) -> Self {
        (self.limits.tolerated, self.limits.ban) = (tolerated, length);
        self
    }

    /// How long every answer takes. Default: no longer than it has to.
    #[must_use]
    pub fn latency(mut self, latency: Latency) -> Self {
        self.latency = latency;
        self
    }

    /// What time it is on the exchange. Default: the real time.
    #[must_use]
    pub fn clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }

    /// The port on 127.0.0.1. Default 0, any that is free.
    #[must_use]
    pub fn port(mut self, port: u16) -> Self {
        self.port = port;
        self
    }

    fn markets(&self) -> Result<BTreeMap<String, Arc<Market>>, ExchangeError> {
        let mut recorded: BTreeMap<String, BTreeMap<Interval, Recording>> = BTreeMap::new();
        for recording in &self.recordings {
            let (symbol, interval) = (recording.symbol(), recording.interval());
            match recorded
                .entry(symbol.to_owned())
                .or_default()
                .entry(interval)
            {
                Entry::Vacant(place) => place.insert(recording.clone()),
                Entry::Occupied(_) => {
                    return Err(ExchangeError::DuplicateRecording(
                        symbol.to_owned(),
                        interval,
                    ));
                }
            };
        }
        let generated = match &self.symbols {
            Some(symbols) => symbols.clone(),
            None if recorded.is_empty() => DEFAULT_SYMBOLS.map(GeneratedSymbol::new).into(),
            None => Vec::new(),
        };
        let generated = generated.into_iter().map(|symbol| {
            let name = symbol.name().to_owned();
            (
                name,
                Market::Generated(Box::new(Generated::new(self.seed, symbol, &self.gaps))),
            )
        });
        let mut markets = BTreeMap::new();
        for (name, market) in recorded
            .into_iter()
            .map(|(name, all)| (name, Market::Recorded(all)))
            .chain(generated)
        {
            if !symbols::is_legal(&name) {
                return Err(ExchangeError::InvalidSymbol(name));
            }
            if markets.insert(name.clone(), Arc::new(market)).is_some() {
                return Err(ExchangeError::DuplicateSymbol(name));
            }
        }
        Ok(markets)
    }

    /// Starts the exchange; it answers from now on.
    ///
    /// # Errors
    /// The port can't be had, or the symbols make no sense.
    pub async fn start(self) -> Result<Exchange, ExchangeError> {
        let markets = self.markets()?;
        let listed: Vec<_> = markets.keys().cloned().collect();
        let knobs = Knobs {
            clock: self.clock,
            latency: self.latency,
            weights: Weights::new(self.limits),
            ..Knobs::default()
        };
        let shared = Arc::new(Shared::new(markets, knobs));
        let bind = |source| ExchangeError::Bind {
            port: self.port,
            source,
        };
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, self.port))
            .await
            .map_err(bind)?;
        let address = listener.local_addr().map_err(bind)?;
        let service =
            routes::router(Arc::clone(&shared)).into_make_service_with_connect_info::<Scissors>();
        let server = axum::serve(Listener(listener), service)
            .with_graceful_shutdown(shared.stopped.clone().cancelled_owned());
        let server = tokio::spawn(async move {
            if let Err(error) = server.await {
                tracing::error!(%error, "The stand-in of the exchange failed");
            }
        });
        let url = url_of(address);
        tracing::info!(
            url = %url, symbols = ?listed, seed = self.seed,
            "Started a stand-in of the exchange: for development and tests, its prices are not real"
        );
        let stop_on_drop = shared.stopped.clone().drop_guard();
        Ok(Exchange {
            url,
            shared,
            server,
            _stop_on_drop: stop_on_drop,
        })
    }
}

fn url_of(address: SocketAddr) -> Url {
    Url::parse(&format!("http://{address}")).expect("an address makes a URL")
}
