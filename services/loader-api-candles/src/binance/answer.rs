//! One request, one answer: what its status, headers and body say.

use std::time::Duration;

use reqwest::{Response, StatusCode, header::RETRY_AFTER};
use serde::Deserialize;

use super::{BinanceClient, BinanceError, Request, weight::Admission};
use crate::kline::excerpt;

/// The most that is read of an answer. A page of klines is about 200 KB.
const LONGEST_BODY_BYTES: usize = 8 * 1024 * 1024;

const USED_WEIGHT: &str = "x-mbx-used-weight-1m";

/// The body of an error.
#[derive(Deserialize)]
struct ErrorBody {
    code: i64,
    msg: String,
}

impl ErrorBody {
    /// Whether the exchange's code blames itself or the moment, whatever the status says: unknown, disconnected,
    /// unexpected response, time-out, overloaded.
    ///
    /// Source: [error codes](https://developers.binance.com/docs/binance-spot-api-docs/errors).
    fn may_pass(&self) -> bool {
        matches!(self.code, -1000 | -1001 | -1006 | -1007 | -1008)
    }
}

impl BinanceClient {
    /// Sends one request and returns the body of its answer, if that is a 200.
    pub(super) async fn ask(
        &self,
        request: &Request<'_>,
        admission: Admission<'_>,
    ) -> Result<Vec<u8>, BinanceError> {
        let url = format!("{}{}", self.base_url, request.path);
        let sent = self.http.get(url).query(request.query).send().await;
        let response = sent.map_err(|error| unreachable(request, error))?;
        let status = response.status();
        if let Some(used) = number(&response, USED_WEIGHT) {
            admission.settle(u32::try_from(used).unwrap_or(u32::MAX));
            self.metrics.weight_used(self.budget.used());
        }
        let retry_after = number(&response, RETRY_AFTER.as_str()).map(Duration::from_secs);
        if status == StatusCode::TOO_MANY_REQUESTS || status == StatusCode::IM_A_TEAPOT {
            return Err(self.keep_silent(status, retry_after));
        }
        let body = read_body(request, response).await?;
        if status == StatusCode::OK {
            return Ok(body);
        }
        Err(refusal(request, status, &body))
    }

    fn keep_silent(&self, status: StatusCode, retry_after: Option<Duration>) -> BinanceError {
        let Some(silence) = retry_after else {
            // Nothing is known but that this minute is spent; the backoff does the rest.
            self.budget.spend_minute();
            return demand(status, None);
        };
        let silence = silence.max(Duration::from_secs(1));
        tracing::warn!(
            status = status.as_u16(),
            retry_after_secs = silence.as_secs(),
            "The exchange asks for silence"
        );
        match self.budget.close(status.as_u16(), silence) {
            Ok(()) => demand(status, Some(silence)),
            Err(too_long) => too_long,
        }
    }
}

fn demand(status: StatusCode, retry_after: Option<Duration>) -> BinanceError {
    if status == StatusCode::IM_A_TEAPOT {
        BinanceError::Banned { retry_after }
    } else {
        BinanceError::RateLimited { retry_after }
    }
}

/// What an answer that is neither 200 nor a demand for silence means.
fn refusal(request: &Request<'_>, status: StatusCode, body: &[u8]) -> BinanceError {
    let said = serde_json::from_slice::<ErrorBody>(body);
    let message = match &said {
        Ok(error) => format!("{} {}", error.code, error.msg),
        Err(_) => excerpt(body),
    };
    let passing = status.is_server_error()
        || status == StatusCode::REQUEST_TIMEOUT
        || said.is_ok_and(|error| error.may_pass());
    if passing {
        return BinanceError::Unavailable {
            problem: format!("HTTP {} to {}: {message}", status.as_u16(), request.name),
            source: None,
        };
    }
    if status == StatusCode::FORBIDDEN {
        return BinanceError::Firewall {
            request: request.name,
        };
    }
    BinanceError::Rejected {
        request: request.name,
        message,
        status: status.as_u16(),
    }
}

async fn read_body(request: &Request<'_>, mut response: Response) -> Result<Vec<u8>, BinanceError> {
    let mut body = Vec::new();
    while let Some(chunk) = response
        .chunk()
        .await
        .map_err(|error| unreachable(request, error))?
    {
        body.extend_from_slice(&chunk);
        if body.len() > LONGEST_BODY_BYTES {
            return Err(BinanceError::Unavailable {
                problem: format!(
                    "its answer to {} is longer than {LONGEST_BODY_BYTES} bytes",
                    request.name
                ),
                source: None,
            });
        }
    }
    Ok(body)
}

fn unreachable(request: &Request<'_>, error: reqwest::Error) -> BinanceError {
    let problem = if error.is_timeout() {
        "no answer in time"
    } else if error.is_connect() {
        "no connection"
    } else {
        "the answer broke off"
    };
    BinanceError::Unavailable {
        problem: format!("{problem} to {}", request.name),
        source: Some(error),
    }
}

fn number(response: &Response, header: &str) -> Option<u64> {
    response
        .headers()
        .get(header)?
        .to_str()
        .ok()?
        .trim()
        .parse()
        .ok()
}
