//! Values that check themselves while they are read, as shared ones do.

use std::{fmt, time::Duration};

use serde::Deserialize;
use url::Url;

pub use streamforge_utils::config::{TopicName, Within};

/// Base URL of an HTTP API. It holds no password, so it can be shown.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Url")]
pub struct ApiUrl(Url);

impl ApiUrl {
    /// The URL.
    pub fn url(&self) -> &Url {
        &self.0
    }
}

impl fmt::Debug for ApiUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0.as_str())
    }
}

impl TryFrom<Url> for ApiUrl {
    type Error = &'static str;

    fn try_from(url: Url) -> Result<Self, Self::Error> {
        let plain = matches!(url.scheme(), "http" | "https")
            && url.has_host()
            && url.username().is_empty()
            && url.password().is_none()
            && url.query().is_none()
            && url.fragment().is_none();
        if plain {
            Ok(Self(url))
        } else {
            Err("no plain http or https URL")
        }
    }
}

/// How long after its close a candle may still change: seconds from 0 to 600, fractions allowed.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(try_from = "f64")]
pub struct CloseGrace(Duration);

impl CloseGrace {
    /// As a duration.
    pub fn duration(self) -> Duration {
        self.0
    }
}

impl TryFrom<f64> for CloseGrace {
    type Error = String;

    fn try_from(seconds: f64) -> Result<Self, Self::Error> {
        const MOST: f64 = 600.0;
        if (0.0..=MOST).contains(&seconds) {
            Ok(Self(Duration::from_secs_f64(seconds)))
        } else {
            Err(format!("{seconds} is not from 0 to {MOST}"))
        }
    }
}
