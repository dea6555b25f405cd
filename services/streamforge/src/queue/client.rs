//! Asks queue-manager, and tries again what can pass, within the time that was given.
//!
//! What changes something is sent again only if that can't do it twice: it has an `Idempotency-Key`, or doing it twice is
//! doing it once, or it never arrived.

mod stream;

use std::{sync::Arc, time::Duration};

use reqwest::{Method, StatusCode, header, redirect};
use secrecy::ExposeSecret;
use serde_json::Value;
use streamforge_utils::config::is_loopback;
use tokio::time::Instant;

use super::{
    api::{self, Envelope, ErrorDetails, Workflow},
    failure::Failure,
    place::Place,
};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// A queue-manager that is being started again is back after a moment; one that is not there is told of soon.
const MOST_REFUSALS: u32 = 4;
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// A question.
#[derive(Debug, Clone)]
pub(super) struct Request {
    method: Method,
    path: Vec<String>,
    query: Vec<(&'static str, String)>,
    body: Option<Value>,
    key: Option<String>,
    /// Whether asking twice is asking once.
    repeatable: bool,
}

impl Request {
    pub(super) fn get(path: &[&str]) -> Self {
        Self {
            repeatable: true,
            ..Self::new(Method::GET, path)
        }
    }

    /// One that may be sent again only if it never arrived.
    pub(super) fn new(method: Method, path: &[&str]) -> Self {
        Self {
            method,
            path: path.iter().map(|&segment| segment.to_owned()).collect(),
            query: Vec::new(),
            body: None,
            key: None,
            repeatable: false,
        }
    }

    pub(super) fn query(mut self, name: &'static str, value: impl ToString) -> Self {
        self.query.push((name, value.to_string()));
        self
    }

    pub(super) fn body(mut self, body: Value) -> Self {
        self.body = Some(body);
        self
    }

    /// With a key of its own, by which it is recognized when it comes again.
    pub(super) fn once(mut self) -> Self {
        self.key = Some(format!("cli-{:032x}", rand::random::<u128>()));
        self.repeatable()
    }

    /// Doing it twice is doing it once.
    pub(super) fn repeatable(mut self) -> Self {
        self.repeatable = true;
        self
    }
}

/// A success: what was said for people, and what was asked for.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) message: String,
    pub(super) data: Value,
}

/// Why a request has no answer.
enum Trouble {
    /// It never arrived.
    Unsent(Failure),
    Other(Failure),
}

/// Asks queue-manager. Clones share connections.
#[derive(Debug, Clone)]
pub(super) struct Client {
    http: reqwest::Client,
    place: Arc<Place>,
    timeout: Duration,
}

impl Client {
    /// Asks for nothing yet. A request, with all tries, may take `timeout`.
    ///
    /// # Errors
    /// The certificates can't be used.
    pub(super) fn new(place: Place, timeout: Duration) -> Result<Self, Failure> {
        let mut http = reqwest::Client::builder()
            .user_agent(concat!("streamforge/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(CONNECT_TIMEOUT)
            // Whoever redirects is not queue-manager, and must not get the token.
            .redirect(redirect::Policy::none());
        if place.url.host_str().is_some_and(is_loopback) {
            http = http.no_proxy();
        }
        for certificate in &place.certificates {
            http = http.add_root_certificate(certificate.clone());
        }
        let http = http.build().map_err(|error| {
            Failure::Usage(format!("no HTTP client can be made: {}", chain(&error)))
        })?;
        Ok(Self {
            http,
            place: Arc::new(place),
            timeout,
        })
    }

    /// The same, with another time.
    pub(super) fn with_timeout(&self, timeout: Duration) -> Self {
        Self {
            timeout,
            ..self.clone()
        }
    }

    /// Asks, and tries again what can pass.
    ///
    /// # Errors
    /// What was said, or that nothing was.
    pub(super) async fn ask(&self, request: &Request) -> Result<Answer, Failure> {
        let deadline = Instant::now() + self.timeout;
        let (mut refusals, mut pause) = (0, FIRST_PAUSE);
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let (failure, again) = match self.try_once(request, left).await {
                Ok(answer) => return Ok(answer),
                Err(Trouble::Unsent(failure)) => {
                    refusals += 1;
                    (failure, refusals < MOST_REFUSALS)
                }
                Err(Trouble::Other(failure)) => {
                    let again = request.repeatable && failure.passes();
                    (failure, again)
                }
            };
            let wait = failure.retry_after().unwrap_or(pause);
            if !again || Instant::now() + wait >= deadline {
                return Err(failure);
            }
            tokio::time::sleep(wait).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// The state of a workflow, as it came and as it is shown.
    ///
    /// # Errors
    /// As [`Client::ask`].
    pub(super) async fn workflow(&self, id: &str) -> Result<(Value, Workflow), Failure> {
        let answer = self.ask(&Request::get(&["queues", id])).await?;
        let workflow = self.read(&answer.data)?;
        Ok((answer.data, workflow))
    }

    /// What came, in the form that is expected.
    ///
    /// # Errors
    /// It has another one.
    pub(super) fn read<T: serde::de::DeserializeOwned>(&self, value: &Value) -> Result<T, Failure> {
        api::read(value).map_err(|error| self.not_the_api(error.to_string()))
    }

    async fn try_once(&self, request: &Request, limit: Duration) -> Result<Answer, Trouble> {
        let mut builder = self.prepare(&request.method, &request.path).timeout(limit);
        if !request.query.is_empty() {
            builder = builder.query(&request.query);
        }
        if let Some(key) = &request.key {
            builder = builder.header("Idempotency-Key", key);
        }
        if let Some(body) = &request.body {
            builder = builder.json(body);
        }
        let response = builder.send().await.map_err(|error| {
            let failure = self.away(&error);
            if error.is_connect() {
                Trouble::Unsent(failure)
            } else {
                Trouble::Other(failure)
            }
        })?;
        self.answer(response).await.map_err(Trouble::Other)
    }

    fn prepare(&self, method: &Method, path: &[String]) -> reqwest::RequestBuilder {
        let mut url = self.place.url.clone();
        url.path_segments_mut()
            .expect("http and https URLs have a path")
            .pop_if_empty()
            .extend(path);
        let builder = self.http.request(method.clone(), url);
        match &self.place.token {
            Some(token) => builder.bearer_auth(token.expose_secret()),
            None => builder,
        }
    }

    async fn answer(&self, response: reqwest::Response) -> Result<Answer, Failure> {
        let code = response.status();
        let retry_after = response
            .headers()
            .get(header::RETRY_AFTER)
            .and_then(|value| value.to_str().ok()?.parse().ok())
            .map(Duration::from_secs);
        let body = response.bytes().await.map_err(|error| self.away(&error))?;
        let envelope = serde_json::from_slice::<Envelope>(&body);
        if code.is_success() {
            let envelope = envelope.map_err(|error| self.not_the_api(error.to_string()))?;
            return Ok(Answer {
                message: envelope.message,
                data: envelope.data,
            });
        }
        let Ok(envelope) = envelope else {
            // What stands before it, such as a proxy, has no envelope.
            return Err(
                if code.is_server_error() || code == StatusCode::TOO_MANY_REQUESTS {
                    Failure::Unavailable {
                        message: code.to_string(),
                        retry_after,
                    }
                } else {
                    self.not_the_api(format!("{code}, and no JSON of its form"))
                },
            );
        };
        let message = api::read(&Value::String(envelope.message)).unwrap_or_default();
        Err(self.refusal(code, message, &envelope.data, retry_after))
    }

    fn refusal(
        &self,
        code: StatusCode,
        message: String,
        data: &Value,
        retry_after: Option<Duration>,
    ) -> Failure {
        match code {
            StatusCode::UNAUTHORIZED => Failure::Unauthorized {
                url: self.place.url.clone(),
                message,
                with_token: self.place.token.is_some(),
            },
            StatusCode::FORBIDDEN => Failure::Forbidden { message },
            StatusCode::NOT_FOUND => Failure::NotFound(message),
            StatusCode::CONFLICT => Failure::Conflict {
                message,
                retry_after,
            },
            StatusCode::TOO_MANY_REQUESTS
            | StatusCode::BAD_GATEWAY
            | StatusCode::SERVICE_UNAVAILABLE
            | StatusCode::GATEWAY_TIMEOUT => Failure::Unavailable {
                message,
                retry_after,
            },
            _ if code.is_client_error() => Failure::Invalid {
                message,
                fields: api::read::<ErrorDetails>(data).unwrap_or_default().errors,
            },
            _ => Failure::Server {
                code: code.as_u16(),
                message,
            },
        }
    }

    fn away(&self, error: &reqwest::Error) -> Failure {
        let cause = if error.is_timeout() {
            "no answer in time".to_owned()
        } else {
            chain(error)
        };
        Failure::Away {
            url: self.place.url.clone(),
            cause,
        }
    }

    fn not_the_api(&self, what: String) -> Failure {
        Failure::NotTheApi {
            url: self.place.url.clone(),
            what,
        }
    }
}

/// The innermost cause: those above it repeat the URL, or say less.
fn chain(error: &reqwest::Error) -> String {
    let mut innermost: &dyn std::error::Error = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}
