//! Which symbols the exchange has: asked before a workflow is made, and remembered for a while.
//!
//! An exchange that does not answer is an error, neither a yes nor a no.

use std::{
    collections::HashMap,
    fmt,
    sync::Mutex,
    time::{Duration, Instant},
};

use serde::Deserialize;
use streamforge_utils::protocol::Symbol;
use url::Url;

/// How long a symbol that is there counts as there. Symbols are delisted, but what they traded stays.
const KNOWN_FOR: Duration = Duration::from_secs(3_600);
/// How long one that is not there counts so: new ones come.
const UNKNOWN_FOR: Duration = Duration::from_secs(30);
/// Most symbols remembered; the exchange has some 3,000.
const MOST: usize = 8_192;
/// The exchange's number for a symbol that it does not have.
const INVALID_SYMBOL: i64 = -1121;
/// Longest answer that is read: one symbol takes a few KiB.
const MOST_BYTES: usize = 1 << 20;

const USER_AGENT: &str = concat!("streamforge-queue-manager/", env!("CARGO_PKG_VERSION"));

/// The exchange gave no answer that counts, for the log.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct NoAnswer(String);

/// Which symbols the exchange has.
pub struct Symbols {
    http: reqwest::Client,
    url: String,
    seen: Mutex<HashMap<Symbol, (bool, Instant)>>,
}

impl fmt::Debug for Symbols {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Symbols")
            .field("url", &self.url)
            .finish_non_exhaustive()
    }
}

#[derive(Deserialize)]
struct Info {
    symbols: Vec<Listed>,
}

#[derive(Deserialize)]
struct Listed {
    symbol: String,
}

#[derive(Deserialize)]
struct Refusal {
    code: i64,
}

impl Symbols {
    /// Those of the exchange whose REST API is at `base_url`; an answer may take `timeout`. Connects when asked.
    ///
    /// # Errors
    /// The TLS library can't be set up.
    pub fn new(base_url: &Url, timeout: Duration) -> Result<Self, reqwest::Error> {
        let http = reqwest::Client::builder()
            .user_agent(USER_AGENT)
            .timeout(timeout)
            .build()?;
        let base_url = base_url.as_str().trim_end_matches('/');
        Ok(Self {
            http,
            url: format!("{base_url}/api/v3/exchangeInfo"),
            seen: Mutex::default(),
        })
    }

    /// Whether the exchange has this symbol.
    ///
    /// # Errors
    /// It did not answer, or not so that it can be understood.
    pub async fn has(&self, symbol: &Symbol) -> Result<bool, NoAnswer> {
        if let Some(is_known) = self.remembered(symbol) {
            return Ok(is_known);
        }
        let is_known = self.ask(symbol).await?;
        let mut seen = self.seen();
        if seen.len() >= MOST {
            seen.clear();
        }
        seen.insert(symbol.clone(), (is_known, Instant::now()));
        Ok(is_known)
    }

    fn remembered(&self, symbol: &Symbol) -> Option<bool> {
        let seen = self.seen();
        let (is_known, at) = seen.get(symbol)?;
        let counts_for = if *is_known { KNOWN_FOR } else { UNKNOWN_FOR };
        (at.elapsed() < counts_for).then_some(*is_known)
    }

    fn seen(&self) -> std::sync::MutexGuard<'_, HashMap<Symbol, (bool, Instant)>> {
        self.seen.lock().expect("nothing in here panics")
    }

    async fn ask(&self, symbol: &Symbol) -> Result<bool, NoAnswer> {
        let failed = |error: reqwest::Error| NoAnswer(causes(&error.without_url()));
        let request = self
            .http
            .get(&self.url)
            .query(&[("symbol", symbol.as_str())]);
        let mut response = request.send().await.map_err(failed)?;
        let status = response.status();
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(failed)? {
            body.extend_from_slice(&chunk);
            if body.len() > MOST_BYTES {
                return Err(NoAnswer(format!("more than {MOST_BYTES} bytes")));
            }
        }
        if status.as_u16() == 400 {
            let refusal = serde_json::from_slice::<Refusal>(&body).ok();
            if refusal.is_some_and(|refusal| refusal.code == INVALID_SYMBOL) {
                return Ok(false);
            }
        }
        if !status.is_success() {
            return Err(NoAnswer(format!("it answered {status}")));
        }
        let info: Info = serde_json::from_slice(&body)
            .map_err(|error| NoAnswer(format!("its answer is none: {error}")))?;
        if info.symbols.iter().any(|it| it.symbol == symbol.as_str()) {
            Ok(true)
        } else {
            Err(NoAnswer(format!("it answered, but not about {symbol}")))
        }
    }
}

/// An error with its causes, which reqwest does not show by itself.
fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text = format!("{text}: {cause}");
        next = cause.source();
    }
    text
}
