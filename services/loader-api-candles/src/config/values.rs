//! The address of the exchange, which checks itself while it is read, as shared values do.

use std::fmt;

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
