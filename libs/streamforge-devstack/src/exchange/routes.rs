//! The routes: from an arrived request to the bytes of its answer.

use std::{io, sync::Arc, time::Duration};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::{ConnectInfo, RawQuery, State},
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
    routing::{MethodRouter, get},
};
use futures::{StreamExt, stream};
use serde_json::{Value, json};

use super::{
    connection::Scissors,
    faults::Fault,
    parameters,
    refusal::Refusal,
    row::{Row, body_of},
    shared::{Arrival, Route, Shared},
    weights::Verdict,
};

const USED_WEIGHT: HeaderName = HeaderName::from_static("x-mbx-used-weight");
const USED_WEIGHT_1M: HeaderName = HeaderName::from_static("x-mbx-used-weight-1m");
const JSON: HeaderValue = HeaderValue::from_static("application/json;charset=UTF-8");
const HTML: HeaderValue = HeaderValue::from_static("text/html");

const FIREWALL_PAGE: &str = "<html>\r\n<head><title>403 Forbidden</title></head>\r\n<body>\r\n\
    <center><h1>403 Forbidden</h1></center>\r\n</body>\r\n</html>\r\n";
const PORTAL_PAGE: &str =
    "<!DOCTYPE html><html><body><h1>Please sign in to use this network</h1></body></html>";
const NOT_FOUND_PAGE: &str = "<html>\r\n<head><title>404 Not Found</title></head>\r\n<body>\r\n\
    <center><h1>404 Not Found</h1></center>\r\n</body>\r\n</html>\r\n";

/// The exchange as an HTTP service.
pub(super) fn router(shared: Arc<Shared>) -> Router {
    fn on(route: Route) -> MethodRouter<Arc<Shared>> {
        get(
            move |State(shared): State<Arc<Shared>>,
                  ConnectInfo(scissors): ConnectInfo<Scissors>,
                  RawQuery(query): RawQuery| {
                answer(shared, scissors, route, query.unwrap_or_default())
            },
        )
    }
    Router::new()
        .route("/api/v3/klines", on(Route::Klines))
        .route("/api/v3/exchangeInfo", on(Route::ExchangeInfo))
        .route("/api/v3/time", on(Route::Time))
        .route("/api/v3/ping", on(Route::Ping))
        .fallback_service(on(Route::Unknown).with_state(Arc::clone(&shared)))
        .with_state(shared)
}

async fn answer(shared: Arc<Shared>, scissors: Scissors, route: Route, query: String) -> Response {
    let arrival = shared.arrive(route);
    let stopped = shared.stopped.clone();
    tokio::select! {
        response = delayed(&shared, &arrival, &scissors, route, &query) => response,
        // Else a client that waits would hold up the stop.
        () = stopped.cancelled() => severed(&scissors),
    }
}

async fn delayed(
    shared: &Shared,
    arrival: &Arrival,
    scissors: &Scissors,
    route: Route,
    query: &str,
) -> Response {
    if arrival.delay > Duration::ZERO {
        tokio::time::sleep(arrival.delay).await;
    }
    let mut response = match arrival.verdict {
        Verdict::Limited { retry_after_secs } => too_many(shared, arrival, retry_after_secs),
        Verdict::Banned {
            retry_after_secs,
            until,
        } => banned(shared, retry_after_secs, until),
        Verdict::Granted => match arrival.fault {
            Some(fault) => faulty(fault, shared, arrival, scissors, query).await,
            None => right(shared, arrival, route, query).await,
        },
    };
    // What stands in front of the exchange, such as a firewall, answers HTML and knows of no weight.
    if response.headers().get(header::CONTENT_TYPE) == Some(&JSON) {
        let used = HeaderValue::from(arrival.used_weight);
        response.headers_mut().insert(USED_WEIGHT, used.clone());
        response.headers_mut().insert(USED_WEIGHT_1M, used);
    }
    response
}

async fn right(shared: &Shared, arrival: &Arrival, route: Route, query: &str) -> Response {
    let answered = match route {
        Route::Klines => klines(shared, arrival, query)
            .await
            .map(|rows| body_of(&rows)),
        Route::ExchangeInfo => exchange_info(shared, arrival, query).map(|info| info.to_string()),
        Route::Time => parameters::none(query)
            .map(|()| json!({"serverTime": arrival.clock.now().as_millis()}).to_string()),
        Route::Ping => parameters::none(query).map(|()| "{}".to_owned()),
        Route::Unknown => return page(StatusCode::NOT_FOUND, NOT_FOUND_PAGE),
    };
    answered.map_or_else(refused, json_body)
}

async fn klines(shared: &Shared, arrival: &Arrival, query: &str) -> Result<Vec<Row>, Refusal> {
    let (symbol, query) = parameters::klines(query)?;
    let market = Arc::clone(
        shared
            .markets
            .get(&symbol)
            .ok_or_else(Refusal::invalid_symbol)?,
    );
    let now = arrival.clock.now();
    if !market.is_slow(query.interval) {
        return Ok(market.rows(&query, now));
    }
    let rows = tokio::task::spawn_blocking(move || market.rows(&query, now)).await;
    Ok(rows.expect("generating candles does not panic"))
}

fn exchange_info(shared: &Shared, arrival: &Arrival, query: &str) -> Result<Value, Refusal> {
    let entries: Vec<Value> = match parameters::exchange_info(query)? {
        None => shared
            .markets
            .iter()
            .map(|(name, market)| market.entry(name))
            .collect(),
        Some(names) => names
            .iter()
            .map(|name| {
                shared
                    .markets
                    .get(name)
                    .map(|market| market.entry(name))
                    .ok_or_else(Refusal::invalid_symbol)
            })
            .collect::<Result<_, _>>()?,
    };
    Ok(json!({
        "timezone": "UTC",
        "serverTime": arrival.clock.now().as_millis(),
        "rateLimits": [
            {"rateLimitType": "REQUEST_WEIGHT", "interval": "MINUTE", "intervalNum": 1, "limit": arrival.weight_limit},
            {"rateLimitType": "ORDERS", "interval": "SECOND", "intervalNum": 10, "limit": 100},
            {"rateLimitType": "ORDERS", "interval": "DAY", "intervalNum": 1, "limit": 200_000},
            {"rateLimitType": "RAW_REQUESTS", "interval": "MINUTE", "intervalNum": 5, "limit": 61_000},
        ],
        "exchangeFilters": [],
        "symbols": entries,
    }))
}

async fn faulty(
    fault: Fault,
    shared: &Shared,
    arrival: &Arrival,
    scissors: &Scissors,
    query: &str,
) -> Response {
    match fault {
        Fault::Status(502) => page(
            StatusCode::BAD_GATEWAY,
            "<html><body><h1>502 Bad Gateway</h1></body></html>",
        ),
        Fault::Status(status) => {
            let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
            refused(Refusal::server_error(status))
        }
        Fault::TooManyRequests { retry_after_secs } => too_many(shared, arrival, retry_after_secs),
        Fault::Banned { retry_after_secs } => {
            let wait =
                i64::try_from(retry_after_secs.saturating_mul(1_000)).unwrap_or(i64::MAX / 2);
            banned(
                shared,
                retry_after_secs,
                arrival.clock.now().as_millis().saturating_add(wait),
            )
        }
        Fault::Firewall => page(StatusCode::FORBIDDEN, FIREWALL_PAGE),
        Fault::HtmlOk => page(StatusCode::OK, PORTAL_PAGE),
        Fault::Drop => severed(scissors),
        Fault::Hang => std::future::pending().await,
        Fault::CutShort => klines(shared, arrival, query)
            .await
            .map_or_else(refused, |rows| cut_short(body_of(&rows))),
        Fault::ShortKline => spoiled(shared, arrival, query, |columns| columns.truncate(11)).await,
        Fault::BadPrice => {
            spoiled(shared, arrival, query, |columns| {
                columns[4] = json!("not-a-number")
            })
            .await
        }
    }
}

/// The right page, its last kline changed.
async fn spoiled(
    shared: &Shared,
    arrival: &Arrival,
    query: &str,
    spoil: fn(&mut Vec<Value>),
) -> Response {
    let rows = klines(shared, arrival, query).await.map(|mut rows| {
        if let Some(last) = rows.last_mut() {
            let mut columns = last.columns();
            spoil(&mut columns);
            last.json = Value::Array(columns).to_string();
        }
        rows
    });
    rows.map_or_else(refused, |rows| json_body(body_of(&rows)))
}

fn json_body(body: String) -> Response {
    ([(header::CONTENT_TYPE, JSON)], body).into_response()
}

fn refused(refusal: Refusal) -> Response {
    let body = json!({"code": refusal.code, "msg": refusal.message}).to_string();
    (refusal.status, json_body(body)).into_response()
}

fn page(status: StatusCode, html: &'static str) -> Response {
    (status, [(header::CONTENT_TYPE, HTML)], html).into_response()
}

fn too_many(shared: &Shared, arrival: &Arrival, retry_after_secs: u64) -> Response {
    shared.tell_to_wait(retry_after_secs, false);
    (
        [(header::RETRY_AFTER, HeaderValue::from(retry_after_secs))],
        refused(Refusal::too_much_weight(arrival.weight_limit)),
    )
        .into_response()
}

fn banned(shared: &Shared, retry_after_secs: u64, until: i64) -> Response {
    shared.tell_to_wait(retry_after_secs, true);
    (
        [(header::RETRY_AFTER, HeaderValue::from(retry_after_secs))],
        refused(Refusal::banned(until)),
    )
        .into_response()
}

/// Closes the connection before anything of this response is sent.
fn severed(scissors: &Scissors) -> Response {
    scissors.cut();
    StatusCode::OK.into_response()
}

/// Promises the whole body and sends half of it.
fn cut_short(body: String) -> Response {
    let mut headers = HeaderMap::new();
    headers.insert(header::CONTENT_TYPE, JSON);
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(body.len()));
    let mut half = Bytes::from(body);
    half.truncate(half.len() / 2);
    // The error follows after a pause in which the server sends what it has; together with the data it would
    // discard it.
    let error = stream::once(async {
        tokio::task::yield_now().await;
        Err(io::Error::from(io::ErrorKind::ConnectionAborted))
    });
    let body = Body::from_stream(stream::iter([Ok::<_, io::Error>(half)]).chain(error));
    (headers, body).into_response()
}
