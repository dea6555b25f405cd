//! The metrics of the API. Labels are bounded: routes are templates, methods and codes classes.

use std::time::Duration;

use http::{Method, StatusCode};
use prometheus::{HistogramOpts, HistogramVec, IntCounterVec, IntGauge, Opts, Registry};
use streamforge_utils::metrics::registered;

/// Requests by route, method and class of the answer's code.
pub const REQUESTS: &str = "streamforge_manager_requests_total";
/// Seconds until an answer began.
pub const SECONDS: &str = "streamforge_manager_request_seconds";
/// Requests that are being worked on.
pub const IN_FLIGHT: &str = "streamforge_manager_requests_in_flight";
/// Clients that are told of changes.
pub const LISTENERS: &str = "streamforge_manager_listeners";

/// Open connections to the API.
pub const CONNECTIONS: &str = "streamforge_manager_connections";

/// The metrics of the API.
#[derive(Debug)]
pub struct ApiMetrics {
    requests: IntCounterVec,
    seconds: HistogramVec,
    in_flight: IntGauge,
    /// [`LISTENERS`]
    pub listeners: IntGauge,
    /// [`CONNECTIONS`]
    pub connections: IntGauge,
}

/// Counts while it lives.
#[derive(Debug)]
pub struct Counted(IntGauge);

impl Counted {
    /// One more, until this is dropped.
    pub fn new(gauge: &IntGauge) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.dec();
    }
}

impl ApiMetrics {
    /// Registers them.
    ///
    /// # Errors
    /// The registry has one of these names already.
    pub fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let counts = IntCounterVec::new(
            Opts::new(REQUESTS, "Requests answered"),
            &["route", "method", "code"],
        )?;
        let seconds = HistogramVec::new(
            HistogramOpts::new(SECONDS, "Seconds until an answer began").buckets(vec![
                0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 30.0,
            ]),
            &["route", "method"],
        )?;
        let gauge = |name, help| registered(registry, IntGauge::new(name, help)?);
        Ok(Self {
            requests: registered(registry, counts)?,
            seconds: registered(registry, seconds)?,
            in_flight: gauge(IN_FLIGHT, "Requests that are being worked on")?,
            listeners: gauge(LISTENERS, "Clients that are told of changes")?,
            connections: gauge(CONNECTIONS, "Open connections to the API")?,
        })
    }

    /// A request came; it counts until this is dropped.
    pub fn begin(&self) -> Counted {
        Counted::new(&self.in_flight)
    }

    /// A request was answered.
    pub fn ended(&self, route: &str, method: &Method, code: StatusCode, took: Duration) {
        let method = match method.as_str() {
            known @ ("GET" | "HEAD" | "POST" | "PUT" | "PATCH" | "DELETE" | "OPTIONS") => known,
            _ => "other",
        };
        let class = match code.as_u16() / 100 {
            1 => "1xx",
            2 => "2xx",
            3 => "3xx",
            4 => "4xx",
            _ => "5xx",
        };
        self.requests
            .with_label_values(&[route, method, class])
            .inc();
        self.seconds
            .with_label_values(&[route, method])
            .observe(took.as_secs_f64());
    }
}
