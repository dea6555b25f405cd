//! Where queue-manager is, and who asks: flags first, then the environment.
//!
//! A token is never a flag's value, since everybody on a machine can read the command lines of all. Without TLS it goes
//! to loopback only.

use std::path::{Path, PathBuf};

use secrecy::SecretString;
use streamforge_utils::config::{Vars, is_loopback};
use url::Url;

use super::failure::Failure;
use crate::cli::queue::PlaceArgs;

/// Where `streamforge up` and a queue-manager with its defaults have it.
const DEFAULT_URL: &str = "http://127.0.0.1:8080";

/// Where it is, and who asks.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) url: Url,
    pub(super) token: Option<SecretString>,
    pub(super) certificates: Vec<reqwest::Certificate>,
}

impl Place {
    /// # Errors
    /// Something of it can't be used.
    pub(super) fn new(args: &PlaceArgs, vars: &Vars) -> Result<Self, Failure> {
        let set = |name: &str| vars.get(name).filter(|value| !value.is_empty());
        let url = match (&args.url, set("QUEUE_MANAGER_URL")) {
            (Some(typed), _) => checked_url("--url", typed)?,
            (None, Some(text)) => checked_url("QUEUE_MANAGER_URL", text)?,
            (None, None) => checked_url("the default", DEFAULT_URL)?,
        };
        let token = match (&args.token_file, set("QUEUE_MANAGER_TOKEN")) {
            (Some(path), _) => Some(token_of_file(path)?),
            (None, Some(token)) => Some(checked_token("QUEUE_MANAGER_TOKEN", token)?),
            (None, None) => None,
        };
        if token.is_some() && url.scheme() == "http" && !url.host_str().is_some_and(is_loopback) {
            return Err(Failure::Usage(format!(
                "a token is not sent to {url} without TLS, except on loopback: use https://"
            )));
        }
        let ca = match (&args.ca, set("QUEUE_MANAGER_CA_PATH")) {
            (Some(path), _) => Some(("--ca", path.clone())),
            (None, Some(path)) => Some(("QUEUE_MANAGER_CA_PATH", PathBuf::from(path))),
            (None, None) => None,
        };
        let certificates = match ca {
            Some((said_by, path)) => certificates(said_by, &path)?,
            None => Vec::new(),
        };
        Ok(Self {
            url,
            token,
            certificates,
        })
    }
}

/// What was found is not said again where a password may stand in it.
fn checked_url(said_by: &str, text: &str) -> Result<Url, Failure> {
    let refused = |why: &str| Err(Failure::Usage(format!("{said_by} {why}")));
    let Ok(url) = Url::parse(text) else {
        return refused("is no URL such as http://127.0.0.1:8080");
    };
    if !url.username().is_empty() || url.password().is_some() {
        return refused(
            "holds a user or a password (not shown): a token goes into QUEUE_MANAGER_TOKEN",
        );
    }
    if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
        return refused("is no URL with http:// or https://, such as http://127.0.0.1:8080");
    }
    if url.query().is_some() || url.fragment().is_some() {
        return refused(
            "has a ? or a # in it; expected the root of the API, such as http://127.0.0.1:8080",
        );
    }
    Ok(url)
}

fn token_of_file(path: &Path) -> Result<SecretString, Failure> {
    let shown = path.display();
    let text = std::fs::read_to_string(path)
        .map_err(|error| Failure::Usage(format!("--token-file {shown}: {error}")))?;
    checked_token(&format!("--token-file {shown}"), &text)
}

fn checked_token(said_by: &str, text: &str) -> Result<SecretString, Failure> {
    let token = text.trim();
    if token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(Failure::Usage(format!(
            "{said_by} does not hold one token of printable ASCII without blanks (not shown)"
        )));
    }
    Ok(SecretString::from(token))
}

fn certificates(said_by: &str, path: &Path) -> Result<Vec<reqwest::Certificate>, Failure> {
    let refused = |why: String| Failure::Usage(format!("{said_by} {}: {why}", path.display()));
    let pem = std::fs::read(path).map_err(|error| refused(error.to_string()))?;
    match reqwest::Certificate::from_pem_bundle(&pem) {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        Ok(_) => Err(refused("it holds no certificate".to_owned())),
        Err(error) => Err(refused(error.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;

    use super::*;

    fn place(
        url: Option<&str>,
        token_file: Option<&Path>,
        vars: &[(&str, &str)],
    ) -> Result<Place, String> {
        let args = PlaceArgs {
            url: url.map(str::to_owned),
            token_file: token_file.map(Path::to_owned),
            ca: None,
            timeout: std::time::Duration::from_secs(1),
        };
        let vars = vars
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        Place::new(&args, &vars).map_err(|failure| failure.to_string())
    }

    #[test]
    fn a_flag_wins_over_the_environment() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "from-file\n").unwrap();
        let vars = [
            ("QUEUE_MANAGER_URL", "http://localhost:1"),
            ("QUEUE_MANAGER_TOKEN", "from-env"),
        ];
        let token = |place: &Place| place.token.as_ref().unwrap().expose_secret().to_owned();
        let by_env = place(None, None, &vars).unwrap();
        assert_eq!(by_env.url.as_str(), "http://localhost:1/");
        assert_eq!(token(&by_env), "from-env");
        let by_flag = place(Some("https://qm.example/api"), Some(file.path()), &vars).unwrap();
        assert_eq!(by_flag.url.as_str(), "https://qm.example/api");
        assert_eq!(token(&by_flag), "from-file");
        let plain = place(None, None, &[("QUEUE_MANAGER_TOKEN", "")]).unwrap();
        assert_eq!(plain.url.as_str(), "http://127.0.0.1:8080/");
        assert!(plain.token.is_none());
        assert!(
            !format!("{by_flag:?} {by_env:?}").contains("from-"),
            "no token in Debug"
        );
    }

    #[test]
    fn what_can_not_be_used_is_refused_without_showing_a_secret() {
        let token = ("QUEUE_MANAGER_TOKEN", "s3cret");
        for (url, token, said) in [
            ("http://qm.example:8080", token, "without TLS"),
            (
                "https://root:s3cret@qm.example",
                token,
                "a user or a password",
            ),
            ("localhost:8080", token, "http:// or https://"),
            ("127.0.0.1:8080", token, "is no URL"),
            ("http://127.0.0.1:8080/?x=1", token, "has a ?"),
            (
                "http://127.0.0.1:8080",
                ("QUEUE_MANAGER_TOKEN", "s3cret or not"),
                "one token",
            ),
        ] {
            let refused = place(Some(url), None, &[token]).unwrap_err();
            assert!(refused.contains(said), "{url} gave {refused}");
            assert!(!refused.contains("s3cret"), "{refused}");
        }
        assert!(place(Some("http://qm.example:8080"), None, &[]).is_ok());
        assert!(place(None, Some(Path::new("/no/such/file")), &[]).is_err());
        let file = tempfile::NamedTempFile::new().unwrap();
        let path = file.path().to_str().unwrap();
        for ca in ["/no/such/file", path] {
            let refused = place(None, None, &[("QUEUE_MANAGER_CA_PATH", ca)]).unwrap_err();
            let said = format!("QUEUE_MANAGER_CA_PATH {ca}: ");
            assert!(refused.contains(&said), "{refused}");
        }
    }
}
