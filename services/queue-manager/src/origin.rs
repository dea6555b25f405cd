//! Refuses requests that a page of another site makes in somebody's browser.
//!
//! On loopback no token is asked for, and a browser there reaches the port: without this any page could stop queues, or
//! read them over a WebSocket, which knows no CORS. A name that only pretends to be this machine (DNS rebinding) is
//! refused too. Programs send neither `Origin` nor `Sec-Fetch-Site` and are not concerned.

use std::{net::IpAddr, sync::Arc};

use axum::{
    extract::{Request, State},
    middleware::Next,
    response::{IntoResponse, Response},
};
use http::{HeaderMap, Uri, header, uri::Authority};

use crate::{auth::Access, error::ApiError};

/// Lets requests through that no foreign page has made.
pub async fn refuse_foreign_pages(
    State(access): State<Arc<Access>>,
    request: Request,
    next: Next,
) -> Response {
    let is_open = matches!(*access, Access::Open);
    if is_own(request.headers(), request.uri(), is_open) {
        next.run(request).await
    } else {
        ApiError::ForeignOrigin.into_response()
    }
}

fn is_own(headers: &HeaderMap, uri: &Uri, is_open: bool) -> bool {
    let text = |name| headers.get(name).map(http::HeaderValue::to_str);
    let host: Option<Authority> = match (uri.authority(), text(header::HOST)) {
        (Some(authority), _) => Some(authority.clone()),
        (None, Some(Ok(host))) => host.parse().ok(),
        (None, _) => None,
    };
    if is_open && host.as_ref().is_some_and(|host| !is_loopback(host.host())) {
        return false;
    }
    match text(header::HeaderName::from_static("sec-fetch-site")) {
        Some(Ok("same-origin" | "none")) => return true,
        Some(_) => return false,
        None => {}
    }
    let Some(origin) = text(header::ORIGIN) else {
        return true;
    };
    let origin = origin.ok().and_then(|origin| origin.parse::<Uri>().ok());
    match (origin.as_ref().and_then(Uri::authority), host) {
        (Some(origin), Some(host)) => *origin == host,
        _ => false,
    }
}

fn is_loopback(host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']');
    host.eq_ignore_ascii_case("localhost")
        || address.parse::<IpAddr>().is_ok_and(|it| it.is_loopback())
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};

    use super::*;

    #[test]
    fn only_pages_of_this_server_may_ask() {
        let page = "http://127.0.0.1:8080";
        let evil = "https://evil.example";
        let host = ("host", "127.0.0.1:8080");
        // Headers, whether it is let through with tokens, and whether without.
        type Headers<'a> = &'a [(&'a str, &'a str)];
        let table: &[(Headers<'_>, bool, bool)] = &[
            (&[host], true, true),
            (&[], true, true),
            (&[("host", "localhost:8080")], true, true),
            (&[("host", "[::1]:8080")], true, true),
            (&[host, ("origin", page)], true, true),
            (&[host, ("origin", evil)], false, false),
            (&[host, ("origin", "null")], false, false),
            (&[host, ("origin", "http://127.0.0.1:9999")], false, false),
            (&[host, ("sec-fetch-site", "same-origin")], true, true),
            (&[host, ("sec-fetch-site", "none")], true, true),
            (&[host, ("sec-fetch-site", "same-site")], false, false),
            (&[host, ("sec-fetch-site", "cross-site")], false, false),
            (&[("host", "manager.internal")], true, false),
            (
                &[("host", "evil.example"), ("origin", "http://evil.example")],
                true,
                false,
            ),
        ];
        let uri = Uri::from_static("/queues");
        for (headers, with_tokens, open) in table {
            let map: HeaderMap = headers
                .iter()
                .map(|(name, value)| {
                    let name: HeaderName = name.parse().unwrap();
                    (name, HeaderValue::from_str(value).unwrap())
                })
                .collect();
            assert_eq!(is_own(&map, &uri, false), *with_tokens, "{headers:?}");
            assert_eq!(is_own(&map, &uri, true), *open, "{headers:?}, open");
        }
    }
}
