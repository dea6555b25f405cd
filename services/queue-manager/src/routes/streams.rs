//! Being told of changes: over a WebSocket, or as Server-Sent Events. Both say the same.

use std::{convert::Infallible, sync::Arc, time::Duration};

use axum::{
    Extension,
    extract::{
        State,
        ws::{
            CloseFrame, Message, WebSocket, WebSocketUpgrade, close_code,
            rejection::WebSocketUpgradeRejection,
        },
    },
    response::{
        IntoResponse, Response,
        sse::{Event, KeepAlive, Sse},
    },
};
use futures::{SinkExt, StreamExt};
use streamforge_utils::protocol::QueueId;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

use super::refusals::Refusals;
use crate::{
    auth::{BEARER_PROTOCOL, Caller, Pass},
    envelope::Envelope,
    error::{ApiError, ErrorDetails},
    extract::{EXPECTED_ID, Query},
    live::{Hub, Listener, MOST_NAMED, Over, Told},
    state::Workflow,
};

/// How often a WebSocket is pinged, and a comment sent on the other stream.
const PING_EVERY: Duration = Duration::from_secs(15);
/// After so long without a word from the other side it is taken for gone.
const SILENT_FOR: Duration = Duration::from_secs(45);
/// A message that is not taken for so long ends it.
const SEND_WITHIN: Duration = Duration::from_secs(10);
/// Nobody has anything to say to us: pongs and closes are short.
const MOST_BYTES_IN: usize = 4_096;
/// Unsent bytes that are kept for a slow client; a state has a few KiB.
const MOST_BYTES_OUT: usize = 1 << 20;

async fn listen(
    hub: &Arc<Hub>,
    caller: &Caller,
    pass: Pass,
    mut query: Query,
) -> Result<Listener, ApiError> {
    let mut ids: Vec<QueueId> = Vec::new();
    for text in query.list("queue_id") {
        match text.parse() {
            Ok(id) if ids.contains(&id) => {}
            Ok(id) => ids.push(id),
            Err(_) => query.wrong("queue_id", &text, EXPECTED_ID),
        }
    }
    if ids.len() > MOST_NAMED {
        let expected = format!("at most {MOST_NAMED} of them, or none for all");
        query.wrong("queue_id", &format!("{} ids", ids.len()), &expected);
    }
    query.finish()?;
    let listener = if ids.is_empty() {
        hub.listen_to_all(&caller.name).await
    } else {
        hub.listen(&ids, &caller.name).await
    };
    Ok(listener?.until(pass.revoked()))
}

/// A WebSocket: what there is, then every change, each a message of JSON.
///
/// Browsers, which can't set headers, offer the subprotocols `bearer` and the token. It pings every 15 s; close code 1001 means that this replica ends and another
/// may go on, 1008 that the token was revoked, 1013 that the client was too slow,
/// or that its token has more streams than its share.
#[utoipa::path(get, path = "/ws/queues", tag = "live",
    params(("queue_id" = Option<String>, Query, description = "Only these, with their workers: up to 100 ids, with commas or one by one")),
    responses(
        (status = 101, description = "A WebSocket; each message is one of these", body = Told<Workflow>),
        (status = 404, description = "There is no such queue", body = Envelope<ErrorDetails>),
        (status = 426, description = "The request is no upgrade to a WebSocket", body = Envelope<ErrorDetails>),
        Refusals,
    ))]
pub(super) async fn web_socket(
    State(hub): State<Arc<Hub>>,
    Extension(caller): Extension<Caller>,
    Extension(pass): Extension<Pass>,
    query: Query,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<Response, ApiError> {
    let upgrade = upgrade.map_err(|_| ApiError::NoUpgrade)?;
    let listener = listen(&hub, &caller, pass, query).await?;
    Ok(upgrade
        .protocols([BEARER_PROTOCOL])
        .max_message_size(MOST_BYTES_IN)
        .max_frame_size(MOST_BYTES_IN)
        .max_write_buffer_size(MOST_BYTES_OUT)
        .on_upgrade(|socket| tell(socket, listener)))
}

async fn tell(socket: WebSocket, mut listener: Listener) {
    let (mut sink, mut source) = socket.split();
    let mut ping = interval(PING_EVERY);
    ping.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut heard = Instant::now();
    loop {
        let message = tokio::select! {
            next = listener.next() => match next {
                Ok(text) => Message::Text((&*text).into()),
                Err(over) => {
                    let _ = timeout(SEND_WITHIN, sink.send(Message::Close(Some(farewell(over))))).await;
                    return;
                }
            },
            _ = ping.tick() => {
                if heard.elapsed() > SILENT_FOR {
                    return;
                }
                Message::Ping(bytes::Bytes::new())
            }
            said = source.next() => match said {
                // Pings are answered below us; what clients say otherwise is not asked for.
                Some(Ok(said)) if !matches!(said, Message::Close(_)) => {
                    heard = Instant::now();
                    continue;
                }
                _ => return,
            },
        };
        if !matches!(timeout(SEND_WITHIN, sink.send(message)).await, Ok(Ok(()))) {
            return;
        }
    }
}

fn farewell(over: Over) -> CloseFrame {
    let (code, reason) = match over {
        Over::Deleted => (close_code::NORMAL, "the queue is gone"),
        Over::Stopping => (close_code::AWAY, "this server ends"),
        Over::TooSlow => (close_code::AGAIN, "too slow"),
        Over::Displaced => (
            close_code::AGAIN,
            "this token has more streams than its share, and another one needs the place",
        ),
        Over::Revoked => (close_code::POLICY, "the token was revoked"),
    };
    CloseFrame {
        code,
        reason: reason.into(),
    }
}

/// Server-Sent Events: what there is, then every change.
///
/// The name of an event is the `type` in its data.
#[utoipa::path(get, path = "/queues/stream", tag = "live",
    params(("queue_id" = Option<String>, Query, description = "Only these, with their workers: up to 100 ids, with commas or one by one")),
    responses(
        (status = 200, description = "A stream; the data of each event is one of these", body = Told<Workflow>, content_type = "text/event-stream"),
        (status = 404, description = "There is no such queue", body = Envelope<ErrorDetails>),
        Refusals,
    ))]
pub(super) async fn server_sent_events(
    State(hub): State<Arc<Hub>>,
    Extension(caller): Extension<Caller>,
    Extension(pass): Extension<Pass>,
    query: Query,
) -> Result<Response, ApiError> {
    let mut listener = listen(&hub, &caller, pass, query).await?;
    let events = async_stream::stream! {
        // Whatever ended it, clients come back by themselves, and get what there is.
        while let Ok(text) = listener.next().await {
            yield Ok::<_, Infallible>(Event::default().event(name_of(&text)).data(&*text));
        }
    };
    let keep_alive = KeepAlive::new().interval(PING_EVERY);
    Ok(Sse::new(events).keep_alive(keep_alive).into_response())
}

/// Told apart by its beginning, which is ours.
fn name_of(message: &str) -> &'static str {
    ["snapshot", "change", "deleted"]
        .into_iter()
        .find(|name| message.starts_with(&format!("{{\"type\":\"{name}\"")))
        .unwrap_or("message")
}
