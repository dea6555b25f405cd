//! Who may do what: users, their grants, Basic and JWT.
//!
//! Users are fixed when the server starts; `root` may do everything. A user's access to a database is
//! checked before the database's existence, so that strangers learn nothing: 401 with errorNum 11.
use std::{
    collections::{BTreeMap, btree_map::Entry},
    time::Duration,
};

use axum::{
    Json,
    extract::State,
    http::{HeaderMap, header},
    response::{IntoResponse, Response},
};
use base64::{
    Engine as _,
    alphabet::STANDARD,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use bytes::Bytes;
use hmac::Mac as _;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{
    error::{ApiError, Known},
    jwt::Secret,
    state::{AppState, PathParts, Session},
};

/// The user who may do everything.
pub(crate) const ROOT: &str = "root";

/// Some clients leave out the padding of Basic credentials (arangors does).
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// What a user may do in a database.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Grant {
    #[default]
    None,
    ReadOnly,
    ReadWrite,
}

impl Grant {
    fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::ReadOnly => "ro",
            Self::ReadWrite => "rw",
        }
    }
}

struct User {
    /// A keyed hash, so that comparing takes the same time whatever differs.
    password: Vec<u8>,
    grants: BTreeMap<String, Grant>,
}

pub(crate) struct Auth {
    secret: Secret,
    jwt_lifetime: Duration,
    users: BTreeMap<String, User>,
}

impl Auth {
    pub(crate) fn new(jwt_lifetime: Duration) -> Self {
        Self {
            secret: Secret::random(),
            jwt_lifetime,
            users: BTreeMap::new(),
        }
    }

    /// Adds a user, or gives a known one this password and these further grants. A grant for `*`
    /// holds for every database that has none of its own.
    pub(crate) fn add_user(&mut self, name: &str, password: &str, grants: &[(String, Grant)]) {
        let password = self.secret.mac(password).finalize().into_bytes().to_vec();
        let grants = grants.iter().cloned();
        match self.users.entry(name.to_owned()) {
            Entry::Occupied(mut user) => {
                user.get_mut().password = password;
                user.get_mut().grants.extend(grants);
            }
            Entry::Vacant(place) => {
                let grants = grants.collect();
                place.insert(User { password, grants });
            }
        }
    }

    pub(crate) fn grant(&self, user: &str, database: &str) -> Grant {
        if user == ROOT {
            return Grant::ReadWrite;
        }
        let grants = self.users.get(user).map(|user| &user.grants);
        grants
            .and_then(|grants| grants.get(database).or_else(|| grants.get("*")))
            .copied()
            .unwrap_or_default()
    }

    fn has_password(&self, user: &str, password: &str) -> bool {
        let mac = self.secret.mac(password);
        match self.users.get(user) {
            Some(user) => mac.verify_slice(&user.password).is_ok(),
            None => false,
        }
    }

    /// The user that the `Authorization` header proves.
    pub(crate) fn authenticate(&self, headers: &HeaderMap) -> Option<String> {
        let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
        let (scheme, credentials) = value.trim().split_once(' ')?;
        if scheme.eq_ignore_ascii_case("bearer") {
            let user = self.secret.verify(credentials.trim(), now_secs())?;
            return self.users.contains_key(&user).then_some(user);
        }
        if !scheme.eq_ignore_ascii_case("basic") {
            return None;
        }
        let decoded = String::from_utf8(BASE64.decode(credentials.trim()).ok()?).ok()?;
        let (user, password) = decoded.split_once(':')?;
        self.has_password(user, password).then(|| user.to_owned())
    }
}

fn now_secs() -> i64 {
    jiff::Timestamp::now().as_second()
}

/// 401 with the challenges that ArangoDB sends.
pub(crate) fn not_authorized() -> Response {
    let challenges = [
        (header::WWW_AUTHENTICATE, "Basic, realm=\"ArangoDB\""),
        (
            header::WWW_AUTHENTICATE,
            "Bearer, token_type=\"JWT\", realm=\"ArangoDB\"",
        ),
    ];
    let mut response = ApiError::from(Known::NotAuthorized).into_response();
    for (name, value) in challenges {
        let value = header::HeaderValue::from_static(value);
        response.headers_mut().append(name, value);
    }
    response
}

/// `POST /_open/auth`: a token for a name and a password.
pub(crate) async fn login(State(state): State<AppState>, body: Bytes) -> Response {
    #[derive(Deserialize)]
    struct Credentials {
        username: String,
        password: String,
    }
    let Ok(credentials) = serde_json::from_slice::<Credentials>(&body) else {
        return ApiError::from(Known::HttpBadParameter).into_response();
    };
    let Credentials { username, password } = credentials;
    if !state.auth.has_password(&username, &password) {
        return ApiError::from(Known::WrongCredentials).into_response();
    }
    let lifetime = state.auth.jwt_lifetime;
    let token = state.auth.secret.issue(&username, now_secs(), lifetime);
    Json(json!({"jwt": token})).into_response()
}

/// `GET /_api/user/{user}/database`: what a user may do where; for root, and for oneself.
pub(crate) async fn user_databases(
    State(state): State<AppState>,
    session: Session,
    path: PathParts,
) -> Result<Response, ApiError> {
    let user = path.user;
    if session.user != ROOT && session.user != user {
        return Err(Known::Forbidden.into());
    }
    if !state.auth.users.contains_key(&user) {
        return Err(Known::UserNotFound.into());
    }
    let catalog = state.store.catalog();
    let grants: Map<String, Value> = catalog
        .databases
        .keys()
        .map(|database| (database, state.auth.grant(&user, database)))
        .filter(|(_, grant)| *grant != Grant::None)
        .map(|(database, grant)| (database.clone(), json!(grant.name())))
        .collect();
    Ok(Json(json!({"error": false, "code": 200, "result": grants})).into_response())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn auth() -> Auth {
        let mut auth = Auth::new(Duration::from_secs(60));
        auth.add_user(ROOT, "secret", &[]);
        let grants = [
            ("a".to_owned(), Grant::ReadWrite),
            ("*".to_owned(), Grant::ReadOnly),
        ];
        auth.add_user("ann", "pass:word", &grants);
        auth
    }

    fn headers(value: &str) -> HeaderMap {
        HeaderMap::from_iter([(header::AUTHORIZATION, value.parse().unwrap())])
    }

    #[test]
    fn credentials_prove_a_user() {
        let auth = auth();
        let token = auth.secret.issue("ann", now_secs(), auth.jwt_lifetime);
        let expired = auth.secret.issue("ann", now_secs() - 61, auth.jwt_lifetime);
        let gone = auth.secret.issue("bob", now_secs(), auth.jwt_lifetime);
        for (value, user) in [
            ("Basic cm9vdDpzZWNyZXQ=".to_owned(), Some("root")),
            ("basic cm9vdDpzZWNyZXQ".to_owned(), Some("root")),
            ("Basic YW5uOnBhc3M6d29yZA==".to_owned(), Some("ann")),
            ("Basic cm9vdDp3cm9uZw==".to_owned(), None),
            ("Basic ???".to_owned(), None),
            (format!("bearer {token}"), Some("ann")),
            (format!("Bearer {expired}"), None),
            (format!("Bearer {gone}"), None),
            ("Digest x".to_owned(), None),
        ] {
            assert_eq!(
                auth.authenticate(&headers(&value)).as_deref(),
                user,
                "{value}"
            );
        }
        assert_eq!(auth.authenticate(&HeaderMap::new()), None);
    }

    #[test]
    fn grants_are_by_database() {
        let auth = auth();
        for (user, database, grant) in [
            (ROOT, "any", Grant::ReadWrite),
            ("ann", "a", Grant::ReadWrite),
            ("ann", "b", Grant::ReadOnly),
            ("bob", "a", Grant::None),
        ] {
            assert_eq!(auth.grant(user, database), grant, "{user} {database}");
        }
    }
}
