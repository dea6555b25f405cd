//! One request, one answer: what its status, headers and body say.

use std::{sync::atomic::Ordering, time::Duration};

use reqwest::{
    Response, StatusCode,
    header::{CONTENT_ENCODING, HeaderMap, LOCATION},
};
use serde::Deserialize;

use super::{
    BinanceClient, BinanceError, Request,
    silence::{self, Clock},
    weight::Admission,
};
use crate::kline::{excerpt, without_bom};

/// The most that is read of an answer. A page of klines is about 200 KB.
const LONGEST_BODY_BYTES: usize = 8 * 1024 * 1024;

const USED_WEIGHT: &str = "x-mbx-used-weight-1m";
/// With 202 and nothing else: AWS WAF wants a browser to prove itself.
const WAF_ACTION: &str = "x-amzn-waf-action";

/// The body of an error.
#[derive(Deserialize)]
struct ErrorBody {
    code: i64,
    msg: String,
}

impl ErrorBody {
    /// What the exchange says of an error, if it is the exchange that speaks: all its codes are below 0.
    fn read(body: &[u8]) -> Option<Self> {
        serde_json::from_slice::<Self>(without_bom(body))
            .ok()
            .filter(|error| error.code < 0)
    }

    /// Whether the exchange's code blames itself or the moment, whatever the status says: unknown, disconnected,
    /// busy, unexpected response, time-out, overloaded, too many connections.
    ///
    /// Source: [error codes](https://developers.binance.com/docs/binance-spot-api-docs/errors).
    fn may_pass(&self) -> bool {
        matches!(
            self.code,
            -1000 | -1001 | -1004 | -1006 | -1007 | -1008 | -1034
        )
    }

    /// Whether it says that this address asks too much, whatever the status says.
    fn is_a_limit(&self) -> bool {
        self.code == -1003
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
        if status != StatusCode::FORBIDDEN {
            self.is_answered.store(true, Ordering::Relaxed);
        }
        let headers = response.headers().clone();
        if let Some(used) = number(&headers, USED_WEIGHT) {
            admission.settle(u32::try_from(used).unwrap_or(u32::MAX));
            self.metrics.weight_used(self.budget.used());
        }
        if status == StatusCode::OK {
            check_encoding(request, &headers)?;
            return read_body(request, response).await;
        }
        let body = read_body(request, response).await;
        if status == StatusCode::TOO_MANY_REQUESTS || status == StatusCode::IM_A_TEAPOT {
            // The status is enough, also if its text breaks off.
            return Err(self.keep_silent(status, &headers, &body.unwrap_or_default()));
        }
        let body = body?;
        if ErrorBody::read(&body).is_some_and(|error| error.is_a_limit()) {
            return Err(self.keep_silent(status, &headers, &body));
        }
        Err(refusal(request, status, &headers, &body))
    }

    fn keep_silent(&self, status: StatusCode, headers: &HeaderMap, body: &[u8]) -> BinanceError {
        let (now, is_exchanges) = self.budget.clock();
        let Some(silence) = silence::asked_for(headers, body, Clock { now, is_exchanges }) else {
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

/// The client decodes gzip, and asks for nothing else. What it has decoded has no such header any more.
fn check_encoding(request: &Request<'_>, headers: &HeaderMap) -> Result<(), BinanceError> {
    let Some(encoding) = headers.get(CONTENT_ENCODING) else {
        return Ok(());
    };
    let encoding = excerpt(encoding.as_bytes());
    if encoding.eq_ignore_ascii_case("identity") {
        return Ok(());
    }
    Err(BinanceError::Intermediary {
        request: request.name,
        problem: format!("content encoding {encoding}, expected gzip or none"),
    })
}

/// What an answer means that is neither 200 nor a demand for silence.
fn refusal(
    request: &Request<'_>,
    status: StatusCode,
    headers: &HeaderMap,
    body: &[u8],
) -> BinanceError {
    let request = request.name;
    let said = ErrorBody::read(body);
    let message = match &said {
        Some(error) => format!("{} {}", error.code, excerpt(error.msg.as_bytes())),
        None => excerpt(body),
    };
    if status == StatusCode::UNAVAILABLE_FOR_LEGAL_REASONS {
        return BinanceError::Blocked {
            request,
            status: status.as_u16(),
            message,
        };
    }
    if status == StatusCode::FORBIDDEN {
        return BinanceError::Firewall { request };
    }
    let passing = status.is_server_error()
        || status == StatusCode::REQUEST_TIMEOUT
        || said.as_ref().is_some_and(ErrorBody::may_pass);
    if passing {
        return BinanceError::Unavailable {
            problem: format!("HTTP {} to {request}: {message}", status.as_u16()),
            source: None,
        };
    }
    if said.is_some() && status.is_client_error() {
        return BinanceError::Rejected {
            request,
            message,
            status: status.as_u16(),
        };
    }
    let mut problem = format!("HTTP {}", status.as_u16());
    for (name, header) in [("to", LOCATION.as_str()), (WAF_ACTION, WAF_ACTION)] {
        if let Some(value) = headers.get(header) {
            // Behind the ? may stand what nobody should read.
            let shown = value.as_bytes().split(|byte| *byte == b'?').next();
            problem = format!("{problem} {name} {}", excerpt(shown.unwrap_or_default()));
        }
    }
    BinanceError::Intermediary {
        request,
        problem: format!("{problem}: {message}"),
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

fn number(headers: &HeaderMap, name: &str) -> Option<u64> {
    headers.get(name)?.to_str().ok()?.trim().parse().ok()
}
