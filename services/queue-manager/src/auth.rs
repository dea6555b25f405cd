//! Who asks: bearer tokens from a file, and what each may do.
//!
//! The file holds names, roles and hashes, never a token. It is read again when it changes, so a token can be revoked
//! while the server runs, and streams that were opened with it end; a file that is gone or has no tokens revokes all.
//! What is wrong with a changed file is logged, and the last good one counts on.

mod token_file;

use std::{sync::Arc, time::Duration};

use axum::{
    extract::{Request, State},
    middleware::Next,
    response::{IntoResponse, Response},
};
use http::{HeaderMap, Method, header};

use crate::{audit::Audited, error::ApiError};
pub use token_file::{TokenFile, TokenFileError};

/// The subprotocol that says that a token follows: browsers can't set headers on a WebSocket.
pub const BEARER_PROTOCOL: &str = "bearer";
/// How often it is looked whether the token of an open stream still counts.
const CHECK_EVERY: Duration = Duration::from_secs(2);
/// Longest token that is looked at, in bytes.
const LONGEST_TOKEN: usize = 512;

/// What a token may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rights {
    /// Look.
    Read,
    /// Look and change.
    Full,
}

/// Who may ask.
#[derive(Debug)]
pub enum Access {
    /// Everybody who reaches the port, which is bound to loopback; the configuration sees to that.
    Open,
    /// Who has a token of this file.
    Tokens(TokenFile),
}

/// Who asks, once that is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// Name of the token, or `loopback`.
    pub name: String,
    /// What it may do.
    pub rights: Rights,
}

/// That somebody was let in, for streams, which last: the token may be revoked.
#[derive(Debug, Clone)]
pub struct Pass {
    access: Arc<Access>,
    /// SHA-256 of the token; None without tokens.
    hash: Option<[u8; 32]>,
}

impl Pass {
    fn caller(&self) -> Option<Caller> {
        match (&*self.access, &self.hash) {
            (Access::Open, _) => Some(Caller {
                name: "loopback".to_owned(),
                rights: Rights::Full,
            }),
            (Access::Tokens(file), Some(hash)) => file.find_hash(hash),
            (Access::Tokens(_), None) => None,
        }
    }

    /// Comes back once the token counts no more.
    pub async fn revoked(self) {
        while self.caller().is_some() {
            tokio::time::sleep(CHECK_EVERY).await;
        }
    }
}

/// Lets only those through who may do that, and tells handlers and the audit who they are.
pub async fn authorize(
    State(access): State<Arc<Access>>,
    mut request: Request,
    next: Next,
) -> Response {
    let pass = Pass {
        access,
        hash: token_of(request.headers()).map(token_file::hash_of),
    };
    let Some(caller) = pass.caller() else {
        return ApiError::Unauthorized.into_response();
    };
    let who = Audited::by(&caller.name);
    let reads = matches!(*request.method(), Method::GET | Method::HEAD);
    let mut response = if reads || caller.rights == Rights::Full {
        request.extensions_mut().insert(caller);
        request.extensions_mut().insert(pass);
        next.run(request).await
    } else {
        ApiError::ReadOnly.into_response()
    };
    who.add_to(&mut response);
    response
}

/// From `Authorization: Bearer …`, or `Sec-WebSocket-Protocol: bearer, …`.
fn token_of(headers: &HeaderMap) -> Option<&str> {
    let token = match headers.get(header::AUTHORIZATION) {
        Some(value) => {
            let (scheme, token) = value.to_str().ok()?.split_once(' ')?;
            scheme
                .eq_ignore_ascii_case(BEARER_PROTOCOL)
                .then(|| token.trim())?
        }
        None => {
            let offered = headers.get(header::SEC_WEBSOCKET_PROTOCOL)?.to_str().ok()?;
            let (first, token) = offered.split_once(',')?;
            (first.trim() == BEARER_PROTOCOL).then(|| token.trim())?
        }
    };
    (1..=LONGEST_TOKEN).contains(&token.len()).then_some(token)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn a_token_is_found_where_clients_can_put_it() {
        let long = format!("Bearer {}", "a".repeat(513));
        let table = [
            ("authorization", "Bearer abc", Some("abc")),
            ("authorization", "bearer abc", Some("abc")),
            ("authorization", "Basic abc", None),
            ("authorization", "abc", None),
            ("authorization", "Bearer ", None),
            ("authorization", &long, None),
            ("sec-websocket-protocol", "bearer, abc", Some("abc")),
            ("sec-websocket-protocol", "bearer,abc", Some("abc")),
            ("sec-websocket-protocol", "graphql, abc", None),
            ("sec-websocket-protocol", "bearer", None),
            ("x-token", "Bearer abc", None),
        ];
        for (name, value, token) in table {
            let mut headers = HeaderMap::new();
            headers.insert(name, HeaderValue::from_str(value).unwrap());
            assert_eq!(token_of(&headers), token, "{name}: {value}");
        }
    }
}
