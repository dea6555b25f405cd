//! The client of the API server: kube's own, with retries that stay inside a short limit.
//!
//! kube would retry for minutes and wait for any `Retry-After`; whoever launches wants an answer, and asks again later.

use std::time::Duration;

use http::{Request, Response, header::RETRY_AFTER};
use kube::{
    Client, Config,
    client::{Body, ClientBuilder},
    config::KubeConfigOptions,
};
use tokio::time::{Instant, Sleep};
use tower::{
    BoxError,
    buffer::BufferLayer,
    retry::{Policy, RetryLayer},
};

use super::watch::WATCH_FOR;
use crate::launcher::LaunchError;

/// How long a request is tried again.
const RETRY_FOR: Duration = Duration::from_secs(5);
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// Requests that may wait for their turn; the watches and whoever launches are far fewer.
const WAITING: usize = 64;

/// As kube finds it: `KUBECONFIG`, `~/.kube/config`, else what a pod is given. A context is one of the kubeconfig.
pub async fn config(context: Option<&str>) -> Result<Config, LaunchError> {
    let found = match context {
        None => Config::infer().await.map_err(|error| error.to_string()),
        Some(context) => Config::from_kubeconfig(&KubeConfigOptions {
            context: Some(context.to_owned()),
            ..KubeConfigOptions::default()
        })
        .await
        .map_err(|error| error.to_string()),
    };
    found.map_err(|error| LaunchError::Refused(format!("can't tell where Kubernetes is: {error}")))
}

/// A client that retries what can pass, for a few seconds.
pub fn client(mut config: Config) -> Result<Client, LaunchError> {
    config.default_retry = false;
    // A list on a connection that is dead would wait for ever. Watches end by themselves before that.
    config.read_timeout = config
        .read_timeout
        .or(Some(WATCH_FOR + Duration::from_secs(15)));
    config.reset_reader_on_write = true;
    let builder = ClientBuilder::try_from(config).map_err(|error| {
        LaunchError::Refused(format!("can't make a client of Kubernetes: {error}"))
    })?;
    // Below the retries stands a service that can be cloned.
    Ok(builder
        .with_layer(&BufferLayer::new(WAITING))
        .with_layer(&RetryLayer::new(Retries::new(RETRY_FOR)))
        .build())
}

/// Retries without an answer, 429 and what a server can't do now. `Retry-After` is kept if it ends within the limit, else
/// the answer is passed on at once.
///
/// A create may be sent twice by this: the second finds the Job of the first.
#[derive(Debug, Clone)]
pub(super) struct Retries {
    limit: Duration,
    until: Option<Instant>,
    pause: Duration,
}

impl Retries {
    pub(super) fn new(limit: Duration) -> Self {
        Self {
            limit,
            until: None,
            pause: FIRST_PAUSE,
        }
    }
}

impl<B> Policy<Request<Body>, Response<B>, BoxError> for Retries {
    type Future = Sleep;

    fn retry(
        &mut self,
        _request: &mut Request<Body>,
        result: &mut Result<Response<B>, BoxError>,
    ) -> Option<Sleep> {
        let asked = match result {
            Ok(answer) if matches!(answer.status().as_u16(), 429 | 500 | 502..=504) => {
                retry_after(answer)
            }
            Ok(_) => return None,
            Err(_) => None,
        };
        let pause = asked.unwrap_or_default().max(self.pause);
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
        // The first failure starts the clock: before it, this is the policy that all requests are given a copy of.
        let until = *self
            .until
            .get_or_insert_with(|| Instant::now() + self.limit);
        let next = Instant::now().checked_add(pause)?;
        (next < until).then(|| tokio::time::sleep_until(next))
    }

    fn clone_request(&mut self, request: &Request<Body>) -> Option<Request<Body>> {
        let mut again = Request::new(request.body().try_clone()?);
        *again.method_mut() = request.method().clone();
        *again.uri_mut() = request.uri().clone();
        *again.version_mut() = request.version();
        *again.headers_mut() = request.headers().clone();
        *again.extensions_mut() = request.extensions().clone();
        Some(again)
    }
}

/// In seconds, as the API server says it.
fn retry_after<B>(answer: &Response<B>) -> Option<Duration> {
    let header = answer.headers().get(RETRY_AFTER)?;
    header.to_str().ok()?.parse().ok().map(Duration::from_secs)
}
