//! How to reach the database, read from the environment.

use std::path::PathBuf;

use secrecy::SecretString;
use serde::Deserialize;
use streamforge_utils::config::{Faults, Section, Variable, is_loopback};
use url::Url;

/// `ARANGO_AUTH`: how to prove who we are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AuthMode {
    /// A token from `/_open/auth`, renewed before it expires.
    Jwt,
    /// User and password with every request.
    Basic,
}

/// How to reach the database.
#[derive(Debug, Clone, Deserialize)]
pub struct ArangoConfig {
    /// Root of the server, perhaps with the path prefix of a proxy before it. Read from `ARANGO_URL`.
    #[serde(rename = "arango_url")]
    pub url: Url,
    /// Read from `ARANGO_DB`; created if it is absent and the user may.
    #[serde(rename = "arango_db")]
    pub database: String,
    /// Read from `ARANGO_USER`.
    #[serde(rename = "arango_user")]
    pub user: String,
    /// Read from `ARANGO_PASSWORD`.
    #[serde(rename = "arango_password")]
    pub password: SecretString,
    /// PEM file of the CAs that sign the server; default: the system's. Read from `ARANGO_CA_PATH`.
    #[serde(rename = "arango_ca_path")]
    pub ca_path: Option<PathBuf>,
    /// Read from `ARANGO_AUTH`, default `jwt`.
    #[serde(rename = "arango_auth")]
    pub auth: AuthMode,
}

impl ArangoConfig {
    /// The certificates of `ARANGO_CA_PATH`; none without it.
    ///
    /// # Errors
    /// What is wrong with the file.
    pub fn certificates(&self) -> Result<Vec<reqwest::Certificate>, String> {
        let Some(path) = &self.ca_path else {
            return Ok(Vec::new());
        };
        let pem = std::fs::read(path).map_err(|error| error.to_string())?;
        match reqwest::Certificate::from_pem_bundle(&pem) {
            Ok(certificates) if !certificates.is_empty() => Ok(certificates),
            Ok(_) => Err("it holds no certificate".to_owned()),
            Err(error) => Err(error.to_string()),
        }
    }
}

impl Section for ArangoConfig {
    const VARIABLES: &'static [Variable] = &[
        Variable::required(
            "ARANGO_URL",
            "the root URL of an ArangoDB server, such as https://arangodb:8529",
            "https://arangodb:8529",
        )
        // Not meant to be one, but a password that stands in it by mistake is not for the logs.
        .secret()
        .means("the database server, with the path prefix of a proxy before it, if any; http:// only on loopback"),
        Variable::required("ARANGO_DB", "the name of a database", "streamforge")
            .means("database, any UTF-8 name; created if it is absent and the user may"),
        Variable::required("ARANGO_USER", "a user of the database", "streamforge")
            .means("its user"),
        Variable::required("ARANGO_PASSWORD", "the password of ARANGO_USER", "x")
            .secret()
            .means("the user's password"),
        Variable::optional(
            "ARANGO_CA_PATH",
            "the path of a PEM file",
            "/etc/arango/ca.crt",
        )
        .otherwise("the system's")
        .means("CAs that sign the server"),
        Variable::optional("ARANGO_AUTH", "jwt or basic", "jwt")
            .default("jwt")
            .means("jwt: a token that is renewed in time; basic: the password with every request"),
    ];

    fn check(&self, faults: &mut Faults) {
        const EXPECTED: &str = "the root URL of an ArangoDB server, such as https://arangodb:8529";
        if !self.url.username().is_empty() || self.url.password().is_some() {
            faults.wrong(
                "ARANGO_URL",
                "a URL with a user or a password (not shown)",
                "them in ARANGO_USER and ARANGO_PASSWORD",
            );
            return;
        }
        let found = &shown(&self.url);
        match (self.url.scheme(), self.url.host_str()) {
            (scheme, Some(_)) if scheme.starts_with("http") && !is_root(&self.url) => {
                faults.wrong(
                    "ARANGO_URL",
                    found,
                    "at most a path prefix of a-z A-Z 0-9 . _ ~ - /: the database goes into ARANGO_DB",
                );
            }
            ("https", Some(_)) => {}
            ("http", Some(host)) if is_loopback(host) => {}
            ("http", Some(_)) => faults.wrong(
                "ARANGO_URL",
                found,
                "https://: a password is not sent without TLS, except on loopback",
            ),
            _ => faults.wrong("ARANGO_URL", found, EXPECTED),
        }
        if let (Some(path), Err(error)) = (&self.ca_path, self.certificates()) {
            let expected = format!("the path of a PEM file with certificates ({error})");
            faults.wrong("ARANGO_CA_PATH", &path.to_string_lossy(), &expected);
        }
        if !is_database_name(&self.database) {
            faults.wrong(
                "ARANGO_DB",
                &self.database,
                "1 to 128 bytes of UTF-8 without control characters, / and :, that begin with neither a digit, a dot nor \
                 a blank and end with no blank",
            );
        }
    }
}

/// Whether nothing stands behind the server but the path prefix of a proxy. Nothing that may be a password is a prefix,
/// since prefixes stand in messages.
fn is_root(url: &Url) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._~-/".contains(&byte);
    let names_api = |segment: &str| matches!(segment, "_db" | "_api" | "_open" | "_admin");
    url.query().is_none()
        && url.fragment().is_none()
        && url.path().bytes().all(is_plain)
        && !url.path().split('/').any(names_api)
}

/// The extended naming constraints, which are ArangoDB's only ones from 3.12 on; older servers refuse more.
fn is_database_name(name: &str) -> bool {
    let is_first = |first: char| !first.is_ascii_digit() && first != '.' && first != ' ';
    (1..=128).contains(&name.len())
        && name.starts_with(is_first)
        && !name.ends_with(' ')
        && !name.contains(|c: char| c.is_control() || c == '/' || c == ':')
}

/// What of a URL goes into a message: a password may stand where nobody looks for it, such as `root:secret@host:8529`,
/// whose scheme is `root`.
fn shown(url: &Url) -> String {
    let Some(host) = url.host_str() else {
        return "a URL without a server (not shown)".to_owned();
    };
    let port = url.port().map(|port| format!(":{port}"));
    let rest = if url.path().len() > 1 || url.query().is_some() || url.fragment().is_some() {
        "/... (the rest is not shown)"
    } else {
        ""
    };
    format!(
        "{}://{host}{}{rest}",
        url.scheme(),
        port.unwrap_or_default()
    )
}

#[cfg(test)]
mod tests;
