//! An exchange on loopback that answers as Binance's spot REST API does, for development and tests.
//!
//! It has `/api/v3/klines`, `/api/v3/exchangeInfo`, `/api/v3/time` and `/api/v3/ping`, with the real one's parameter
//! checks, weights, limits and errors. Candles are generated from a seed, so that any range of any length is there at
//! once and the same on every machine, or come from recorded responses, digit for digit. Faults can be asked for
//! while it runs.
//!
//! Its promise: what a client gets here it could have got from the real exchange, and [`Exchange::klines`] knows what
//! that is. Known differences: the parameter `timeZone` is refused, and the header `X-MBX-TIME-UNIT` is ignored. Not its job:
//! trades, order books, streams, orders, or plausible markets.

mod amount;
mod bar;
mod builder;
mod clock;
mod connection;
mod faults;
mod generated;
mod generator;
mod handle;
mod market;
mod noise;
mod parameters;
mod price;
mod recording;
mod refusal;
mod routes;
mod row;
mod seconds;
mod shared;
mod symbols;
mod weights;

use std::{io, ops::Range, sync::Arc, time::Duration};

use serde_json::Value;
use streamforge_utils::protocol::{Interval, TimestampMs};
use tokio::task::JoinHandle;
use tokio_util::sync::DropGuard;
use url::Url;

pub use builder::Builder;
pub use clock::Clock;
pub use faults::{Fault, Latency};
pub use handle::{Counters, ExchangeHandle};
pub use recording::{Recording, RecordingError};
pub use symbols::GeneratedSymbol;

use row::{Query, Row};
use shared::Shared;

/// How long connections may take to close after a stop.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);

/// The exchange could not be started, or was asked for something that it does not list.
#[derive(Debug, thiserror::Error)]
pub enum ExchangeError {
    /// The port is taken, or may not be used.
    #[error("can't listen on 127.0.0.1:{port}")]
    Bind {
        /// The port that was asked for.
        port: u16,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The exchange could not have a symbol of this name.
    #[error("{0:?} is no symbol, expected 1 to 20 characters of A-Z 0-9 - _ .")]
    InvalidSymbol(String),
    /// A symbol was named twice, or is generated and recorded at once.
    #[error("the symbol {0} was given twice")]
    DuplicateSymbol(String),
    /// Two recordings are of the same symbol and interval; give the files to one.
    #[error("the recording of {0} {1} was given twice")]
    DuplicateRecording(String, Interval),
    /// The symbol is not listed here.
    #[error("the symbol {0} is not listed")]
    UnknownSymbol(String),
}

/// A running exchange. It stops when it is dropped; [`Exchange::stop`] also waits for that.
#[derive(Debug)]
pub struct Exchange {
    url: Url,
    shared: Arc<Shared>,
    server: JoinHandle<()>,
    _stop_on_drop: DropGuard,
}

impl Exchange {
    /// Settings for an exchange, all with defaults.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// Its base URL, such as `http://127.0.0.1:40123/`: what `BINANCE_API_URL` is for a loader.
    pub fn url(&self) -> &Url {
        &self.url
    }

    /// What turns its knobs and reads its counters.
    pub fn handle(&self) -> ExchangeHandle {
        ExchangeHandle {
            shared: Arc::clone(&self.shared),
        }
    }

    /// What exists: all klines that open in `[start, end)` and have opened by the exchange's clock, oldest first, as
    /// arrays of 12 with the exchange's own digits. The last may still be open; see [`Exchange::final_klines`].
    ///
    /// # Errors
    /// The symbol is not listed.
    pub fn klines(
        &self,
        symbol: &str,
        interval: Interval,
        start: TimestampMs,
        end: TimestampMs,
    ) -> Result<Vec<Vec<Value>>, ExchangeError> {
        let now = self.shared.knobs().clock.now();
        self.rows(symbol, interval, start..end, now)
            .map(|rows| rows.iter().map(Row::columns).collect())
    }

    /// Like [`Exchange::klines`] without the one that is still open: what a historical loader has to bring.
    ///
    /// # Errors
    /// The symbol is not listed.
    pub fn final_klines(
        &self,
        symbol: &str,
        interval: Interval,
        start: TimestampMs,
        end: TimestampMs,
    ) -> Result<Vec<Vec<Value>>, ExchangeError> {
        let now = self.shared.knobs().clock.now();
        let rows = self.rows(symbol, interval, start..end, now)?;
        Ok(rows
            .iter()
            .filter(|row| row.close_time < now)
            .map(Row::columns)
            .collect())
    }

    fn rows(
        &self,
        symbol: &str,
        interval: Interval,
        range: Range<TimestampMs>,
        now: TimestampMs,
    ) -> Result<Vec<Row>, ExchangeError> {
        let unknown = || ExchangeError::UnknownSymbol(symbol.to_owned());
        let market = self.shared.markets.get(symbol).ok_or_else(unknown)?;
        let query = Query {
            interval,
            start: Some(range.start),
            end: Some(range.end - 1),
            limit: usize::MAX,
        };
        Ok(market.rows(&query, now))
    }

    /// Stops it: open requests are cut off, and the port is free again when this returns.
    pub async fn stop(mut self) {
        self.shared.stopped.cancel();
        if tokio::time::timeout(STOP_TIMEOUT, &mut self.server)
            .await
            .is_err()
        {
            tracing::warn!(url = %self.url, "Connections to the stand-in of the exchange did not close in time");
            self.server.abort();
        }
    }
}
