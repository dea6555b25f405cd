//! JSON Web Tokens as ArangoDB issues them: HS256, issuer `arangodb`, `iat` and `exp` in Unix seconds.
//!
//! Written out over `hmac` and `sha2`: a JWT crate would bring RSA and elliptic curves along.
use std::time::Duration;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde::{Deserialize, Serialize};
use sha2::Sha256;

const HEADER: &str = r#"{"alg":"HS256","typ":"JWT"}"#;
const ISSUER: &str = "arangodb";

#[derive(Serialize, Deserialize)]
struct Header {
    alg: String,
}

#[derive(Serialize, Deserialize)]
struct Claims {
    iss: String,
    preferred_username: String,
    iat: i64,
    exp: i64,
}

/// The server's secret. New for each start, so that a restart ends every session.
pub(crate) struct Secret([u8; 32]);

impl Secret {
    pub(crate) fn random() -> Self {
        Self(rand::random())
    }

    /// A keyed hash of any text.
    pub(crate) fn mac(&self, text: &str) -> Hmac<Sha256> {
        let mac = Hmac::<Sha256>::new_from_slice(&self.0);
        mac.expect("HMAC takes keys of any length")
            .chain_update(text.as_bytes())
    }

    /// A token for `user` that is good from `now`, in Unix seconds, for `lifetime`.
    pub(crate) fn issue(&self, user: &str, now: i64, lifetime: Duration) -> String {
        let claims = Claims {
            iss: ISSUER.to_owned(),
            preferred_username: user.to_owned(),
            iat: now,
            exp: now.saturating_add_unsigned(lifetime.as_secs()),
        };
        let claims = serde_json::to_vec(&claims).expect("claims are strings and numbers");
        let signed = format!(
            "{}.{}",
            URL_SAFE_NO_PAD.encode(HEADER),
            URL_SAFE_NO_PAD.encode(claims)
        );
        let signature = self.mac(&signed).finalize().into_bytes();
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
    }

    /// The user a token was issued for; `None` if it is malformed, forged or expired at `now`.
    pub(crate) fn verify(&self, token: &str, now: i64) -> Option<String> {
        let (signed, signature) = token.rsplit_once('.')?;
        let (header, claims) = signed.split_once('.')?;
        let signature = URL_SAFE_NO_PAD.decode(signature).ok()?;
        self.mac(signed).verify_slice(&signature).ok()?;
        let header: Header = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(header).ok()?).ok()?;
        let claims: Claims = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims).ok()?).ok()?;
        (header.alg == "HS256" && claims.iss == ISSUER && now < claims.exp)
            .then_some(claims.preferred_username)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_hold_until_they_expire() {
        let secret = Secret::random();
        let token = secret.issue("root", 1_000, Duration::from_secs(10));
        assert_eq!(secret.verify(&token, 1_009).as_deref(), Some("root"));
        assert_eq!(secret.verify(&token, 1_010), None);
    }

    #[test]
    fn foreign_and_broken_tokens_are_refused() {
        let secret = Secret::random();
        let token = secret.issue("root", 1_000, Duration::from_secs(10));
        assert_eq!(Secret::random().verify(&token, 1_001), None);
        for broken in ["", "a", "a.b.c", &token[1..], &token[..token.len() - 2]] {
            assert_eq!(secret.verify(broken, 1_001), None, "{broken}");
        }
    }

    #[test]
    fn tokens_are_those_of_the_standard() {
        // The header and signature of RFC 7519's form, made with Python's hmac and hashlib.
        let secret = Secret(*b"0123456789abcdef0123456789abcdef");
        let token = secret.issue("root", 1_700_000_000, Duration::from_secs(3600));
        let (signed, signature) = token.rsplit_once('.').unwrap();
        let claims = URL_SAFE_NO_PAD
            .decode(signed.split_once('.').unwrap().1)
            .unwrap();
        insta::assert_snapshot!(
            String::from_utf8(claims).unwrap(),
            @r#"{"iss":"arangodb","preferred_username":"root","iat":1700000000,"exp":1700003600}"#
        );
        insta::assert_snapshot!(signature, @"-NFAL0SwHg6X4qf8li8DRkWSUSKIvW7usmUbE9GnZN4");
    }
}
