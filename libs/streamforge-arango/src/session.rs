//! One HTTP client with one login, for everything that is asked of the database.
//!
//! It adds the authorisation, renews a token before it expires, logs in again once if the server says that it did,
//! and turns a broken connection into an error that says so. What an answer means is not its job.

use std::time::Duration;

use base64::{Engine, engine::general_purpose};
use http::{HeaderValue, Method, StatusCode, header};
use reqwest::redirect;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use tokio::{sync::Mutex, time::Instant};
use tracing::{debug, info};
use url::Url;

use crate::{ArangoConfig, ArangoError, AuthMode, Reply, RetryKind};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// The longest that one answer may take; a batch that is synced to a busy disk takes seconds.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
/// An idle connection is closed before a proxy does: the common ones wait 60 s and more.
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);
/// A token is renewed when this part of its life is over.
const RENEW_AFTER: f64 = 0.8;

/// A client with its login. `Debug` does not show the login.
#[derive(Debug)]
pub struct Session {
    client: reqwest::Client,
    root: Url,
    user: String,
    password: SecretString,
    auth: AuthMode,
    token: Mutex<Option<Token>>,
}

/// What is asked, without who asks.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) method: Method,
    pub(crate) url: Url,
    /// The revision that the document must have.
    pub(crate) if_match: Option<HeaderValue>,
    pub(crate) body: bytes::Bytes,
}

#[derive(Debug, Clone)]
struct Token {
    /// Marked as sensitive, so that its `Debug` does not show it.
    header: HeaderValue,
    renew_at: Option<Instant>,
}

impl Session {
    /// Makes a client; connects to nothing. No single request takes longer than `retry_deadline`.
    ///
    /// # Errors
    /// If the CA file can't be used.
    pub fn new(config: &ArangoConfig, retry_deadline: Duration) -> Result<Self, ArangoError> {
        let mut client = reqwest::Client::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .pool_idle_timeout(IDLE_TIMEOUT)
            .timeout(REQUEST_TIMEOUT.min(retry_deadline))
            .tcp_nodelay(true)
            // A database is spoken to directly; a proxy of the environment is for the world outside.
            .no_proxy()
            // Whoever redirects is not the database, and must not get the password.
            .redirect(redirect::Policy::none());
        for certificate in config.certificates().map_err(ArangoError::Permanent)? {
            client = client.add_root_certificate(certificate);
        }
        let client = client.build().map_err(|error| {
            ArangoError::Permanent(format!("the HTTP client can't be made: {}", chain(&error)))
        })?;
        let mut root = config.url.clone();
        // The configuration refuses these; errors and `Debug` show the URL. It has a host, so this can't fail.
        let _ = root.set_username("");
        let _ = root.set_password(None);
        Ok(Self {
            client,
            root,
            user: config.user.clone(),
            password: config.password.clone(),
            auth: config.auth,
            token: Mutex::new(None),
        })
    }

    /// The root URL of the server, with the path prefix that `ARANGO_URL` may have.
    pub fn root(&self) -> &Url {
        &self.root
    }

    /// The URL of these path segments below the root, each percent-encoded.
    pub fn url(&self, path: &[&str]) -> Url {
        let mut url = self.root.clone();
        url.path_segments_mut()
            .expect("http URLs have paths")
            .pop_if_empty()
            .extend(path);
        url
    }

    /// The URL of these path segments of a database's API, each percent-encoded.
    pub fn database_url(&self, database: &str, path: &[&str]) -> Url {
        self.url(&[&["_db", database, "_api"], path].concat())
    }

    /// Sends a request and reads the whole answer, whatever it is. `doing` says what for, in errors.
    ///
    /// # Errors
    /// If there is no answer, or the login is refused.
    pub async fn send(
        &self,
        doing: &str,
        method: Method,
        url: Url,
        body: bytes::Bytes,
    ) -> Result<Reply, ArangoError> {
        let request = Request {
            method,
            url,
            if_match: None,
            body,
        };
        self.send_request(doing, &request).await
    }

    pub(crate) async fn send_request(
        &self,
        doing: &str,
        request: &Request,
    ) -> Result<Reply, ArangoError> {
        let login = self.login().await?;
        let reply = self.exchange(doing, request, Some(&login)).await?;
        if !reply.is_login_refused() {
            return Ok(reply);
        }
        // A token can end early: the server's clock was set, or its secret changed with a restart.
        if self.auth == AuthMode::Jwt {
            debug!("The database does not take the token any more, logging in again");
            self.forget(&login).await;
            let login = self.login().await?;
            let reply = self.exchange(doing, request, Some(&login)).await?;
            if !reply.is_login_refused() {
                return Ok(reply);
            }
        }
        Err(ArangoError::Refused(format!(
            "{doing}: the database refuses user {:?} (ARANGO_USER), who has a wrong password or no access: {}",
            self.user,
            reply.describe()
        )))
    }

    async fn exchange(
        &self,
        doing: &str,
        request: &Request,
        login: Option<&HeaderValue>,
    ) -> Result<Reply, ArangoError> {
        let mut sent = self
            .client
            .request(request.method.clone(), request.url.clone());
        if let Some(login) = login {
            sent = sent.header(header::AUTHORIZATION, login);
        }
        if let Some(revision) = &request.if_match {
            sent = sent.header(header::IF_MATCH, revision);
        }
        if !request.body.is_empty() {
            // A body of known length is sent with Content-Length, without which ArangoDB takes none.
            sent = sent
                .header(header::CONTENT_TYPE, "application/json")
                .body(request.body.clone());
        }
        let answer = sent.send().await;
        let answer = answer.map_err(|error| unanswered(doing, &self.root, &error))?;
        let (status, headers) = (answer.status(), answer.headers().clone());
        let body = answer.bytes().await;
        let body = body.map_err(|error| broken(doing, &self.root, &error))?;
        Ok(Reply {
            status,
            headers,
            body: body.to_vec(),
        })
    }

    /// The header that says who asks. Of all who need a new token at once, one gets it for all.
    async fn login(&self) -> Result<HeaderValue, ArangoError> {
        if self.auth == AuthMode::Basic {
            return Ok(self.basic());
        }
        let mut token = self.token.lock().await;
        if let Some(token) = &*token
            && token
                .renew_at
                .is_none_or(|renew_at| Instant::now() < renew_at)
        {
            return Ok(token.header.clone());
        }
        let fresh = self.ask_for_token().await?;
        *token = Some(fresh.clone());
        Ok(fresh.header)
    }

    /// Forgets a token that was refused, unless there is a newer one already.
    async fn forget(&self, refused: &HeaderValue) {
        let mut token = self.token.lock().await;
        if token.as_ref().is_some_and(|token| token.header == *refused) {
            *token = None;
        }
    }

    async fn ask_for_token(&self) -> Result<Token, ArangoError> {
        const DOING: &str = "logging in";
        #[derive(Deserialize)]
        struct Answer {
            jwt: String,
        }
        let url = self.url(&["_open", "auth"]);
        let body = serde_json::json!({
            "username": self.user,
            "password": self.password.expose_secret(),
        });
        let request = Request {
            method: Method::POST,
            url,
            if_match: None,
            body: body.to_string().into(),
        };
        let reply = self.exchange(DOING, &request, None).await?;
        match (reply.status, reply.error()) {
            (StatusCode::OK, _) => {}
            (StatusCode::UNAUTHORIZED, Some(_)) => {
                return Err(ArangoError::Refused(format!(
                    "{DOING}: wrong user or password (ARANGO_USER is {:?}, ARANGO_PASSWORD is not shown)",
                    self.user
                )));
            }
            // By the server itself: a proxy's 404 has no number, and says nothing of logins.
            (StatusCode::NOT_FOUND, Some(_)) => {
                info!(
                    "The database has no login (authentication is off), user and password go with every request"
                );
                return Ok(Token {
                    header: self.basic(),
                    renew_at: None,
                });
            }
            _ => return Err(reply.to_error(DOING)),
        }
        let bad_answer = || {
            ArangoError::unavailable(
                RetryKind::BadAnswer,
                format!("{DOING}: the answer holds no token"),
            )
        };
        let answer: Answer = serde_json::from_slice(&reply.body).map_err(|_| bad_answer())?;
        let mut header =
            HeaderValue::from_str(&format!("bearer {}", answer.jwt)).map_err(|_| bad_answer())?;
        header.set_sensitive(true);
        let lifetime = lifetime(&answer.jwt);
        debug!(?lifetime, "Logged in to the database");
        Ok(Token {
            header,
            renew_at: lifetime.map(|lifetime| Instant::now() + lifetime.mul_f64(RENEW_AFTER)),
        })
    }

    fn basic(&self) -> HeaderValue {
        let pair = format!("{}:{}", self.user, self.password.expose_secret());
        let text = format!("Basic {}", general_purpose::STANDARD.encode(pair));
        let mut header = HeaderValue::from_str(&text).expect("base64 is legal in a header");
        header.set_sensitive(true);
        header
    }
}

/// How long a token lives by the server's own clock; `None` if it does not say. The signature is the server's
/// business.
fn lifetime(jwt: &str) -> Option<Duration> {
    #[derive(Deserialize)]
    struct Claims {
        iat: f64,
        exp: f64,
    }
    let claims = jwt.split('.').nth(1)?;
    let claims = general_purpose::URL_SAFE_NO_PAD
        .decode(claims.trim_end_matches('='))
        .ok()?;
    let claims: Claims = serde_json::from_slice(&claims).ok()?;
    Duration::try_from_secs_f64(claims.exp - claims.iat).ok()
}

/// No answer began. A connection that was there, and was closed instead of answering, is nothing to wait for: a server
/// or proxy closes idle connections at any moment.
fn unanswered(doing: &str, root: &Url, error: &reqwest::Error) -> ArangoError {
    if error.is_timeout() || error.is_connect() || error.is_builder() {
        return broken(doing, root, error);
    }
    let what = format!(
        "{doing}: the connection to the database at {root} was closed before an answer: {}",
        chain(error)
    );
    ArangoError::unavailable(RetryKind::Closed, what)
}

fn broken(doing: &str, root: &Url, error: &reqwest::Error) -> ArangoError {
    let kind = if error.is_timeout() {
        RetryKind::Timeout
    } else {
        RetryKind::Connection
    };
    let what = format!(
        "{doing}: no answer from the database at {root}: {}",
        chain(error)
    );
    ArangoError::unavailable(kind, what)
}

/// The causes of an error, which reqwest does not show by itself.
fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_says_how_long_it_lives() {
        let encode = |text: &str| general_purpose::URL_SAFE_NO_PAD.encode(text);
        let token =
            |claims: &str| format!("{}.{}.c2ln", encode(r#"{"alg":"HS256"}"#), encode(claims));
        let good = token(
            r#"{"iss":"arangodb","iat":1722500000,"exp":1722503600,"preferred_username":"root"}"#,
        );
        assert_eq!(lifetime(&good), Some(Duration::from_secs(3600)));
        for bad in [
            token(r#"{"exp":1722503600}"#),
            token(r#"{"iat":2,"exp":1}"#),
            token("no"),
            "a.b".to_owned(),
            String::new(),
        ] {
            assert_eq!(lifetime(&bad), None, "{bad:?}");
        }
    }

    #[test]
    fn urls_keep_the_prefix_and_are_percent_encoded() {
        let url = |root: &str, path: &[&str]| {
            let config = ArangoConfig {
                url: root.parse().unwrap(),
                database: "x".to_owned(),
                user: "root".to_owned(),
                password: SecretString::from("x"),
                ca_path: None,
                auth: AuthMode::Basic,
            };
            let session = Session::new(&config, Duration::from_secs(1)).unwrap();
            session.database_url("mötör 🚗%", path).to_string()
        };
        let encoded = "_db/m%C3%B6t%C3%B6r%20%F0%9F%9A%97%25/_api/document/a%3F%23b";
        let path = ["document", "a?#b"];
        for (root, prefix) in [
            ("http://127.0.0.1:8529", ""),
            ("http://127.0.0.1:8529/", ""),
            ("http://127.0.0.1:8529/data/arango", "data/arango/"),
            ("http://127.0.0.1:8529/data/arango/", "data/arango/"),
        ] {
            let expected = format!("http://127.0.0.1:8529/{prefix}{encoded}");
            assert_eq!(url(root, &path), expected);
        }
    }

    #[test]
    fn debug_shows_neither_password_nor_token() {
        let config = ArangoConfig {
            url: "http://root:hunter2@127.0.0.1:8529".parse().unwrap(),
            database: "streamforge".to_owned(),
            user: "root".to_owned(),
            password: SecretString::from("hunter2"),
            ca_path: None,
            auth: AuthMode::Basic,
        };
        let session = Session::new(&config, Duration::from_secs(1)).unwrap();
        let text = format!("{session:?} {} {:?}", session.root(), session.basic());
        assert!(!text.contains("hunter2"), "{text}");
        assert!(
            !text.contains(&general_purpose::STANDARD.encode("root:hunter2")),
            "{text}"
        );
    }
}
