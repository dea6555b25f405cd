//! What one request may take: time, and a share of this replica. What is over a limit is told so at once.

use std::{sync::Arc, time::Duration};

use axum::{
    extract::{Request, State},
    middleware::Next,
    response::{IntoResponse, Response},
};
use tokio::sync::Semaphore;

use crate::error::ApiError;

/// What one request, and all of them together, may take.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Largest body, in bytes.
    pub body_bytes: usize,
    /// Longest time until an answer; streams are not meant.
    pub time: Duration,
    in_flight: Arc<Semaphore>,
}

impl Limits {
    /// `in_flight` requests at a time.
    pub fn new(body_bytes: usize, time: Duration, in_flight: usize) -> Self {
        Self {
            body_bytes,
            time,
            in_flight: Arc::new(Semaphore::new(in_flight)),
        }
    }
}

/// Answers within the time, and never more requests at once than there may be.
pub async fn bound(State(limits): State<Limits>, request: Request, next: Next) -> Response {
    let Ok(_permit) = limits.in_flight.try_acquire() else {
        return ApiError::Busy.into_response();
    };
    match tokio::time::timeout(limits.time, next.run(request)).await {
        Ok(response) => response,
        Err(_) => ApiError::TimedOut(limits.time).into_response(),
    }
}
