//! Reads a query, parameter by parameter, and notes each that is wrong, unknown, or there twice.

use std::str::FromStr;

use axum::{extract::FromRequestParts, http::request::Parts};
use url::form_urlencoded;

use crate::{error::ApiError, request::FieldErrors};

/// A query that is being read.
#[derive(Debug, Clone, Default)]
pub struct Query {
    pairs: Vec<(String, String)>,
    known: Vec<&'static str>,
    errors: FieldErrors,
}

impl<S: Send + Sync> FromRequestParts<S> for Query {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, ApiError> {
        Ok(Self::new(parts.uri.query().unwrap_or_default()))
    }
}

impl Query {
    fn new(text: &str) -> Self {
        let pairs = form_urlencoded::parse(text.as_bytes());
        Self {
            pairs: pairs.into_owned().collect(),
            ..Self::default()
        }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.pairs.is_empty()
    }

    /// Every value of a parameter that may be there several times, each possibly a list with commas.
    pub fn list(&mut self, name: &'static str) -> Vec<String> {
        self.known.push(name);
        let values = self.pairs.iter().filter(|(key, _)| key == name);
        values
            .flat_map(|(_, value)| value.split(','))
            .map(str::to_owned)
            .collect()
    }

    /// A parameter that may be absent.
    pub fn text(&mut self, name: &'static str) -> Option<String> {
        self.known.push(name);
        let mut values = self.pairs.iter().filter(|(key, _)| key == name);
        let first = values.next().map(|(_, value)| value.clone());
        if values.next().is_some() {
            self.errors.wrong(name, "it several times", "it once");
        }
        first
    }

    /// A parameter with a form; what has another is noted.
    pub fn parsed<T: FromStr>(&mut self, name: &'static str, expected: &str) -> Option<T> {
        let text = self.text(name)?;
        let parsed = text.parse().ok();
        if parsed.is_none() {
            self.errors.wrong(name, &text, expected);
        }
        parsed
    }

    /// A whole number within bounds, or `default`.
    pub fn number(&mut self, name: &'static str, default: u32, least: u32, most: u32) -> u32 {
        let expected = format!("a whole number from {least} to {most}");
        match self.parsed::<u32>(name, &expected) {
            Some(number) if (least..=most).contains(&number) => number,
            Some(number) => {
                self.errors.wrong(name, &number.to_string(), &expected);
                default
            }
            None => default,
        }
    }

    /// true or false; false if absent.
    pub fn flag(&mut self, name: &'static str) -> bool {
        self.parsed(name, "true or false").unwrap_or(false)
    }

    /// Notes something that only the caller can see.
    pub fn wrong(&mut self, name: &str, found: &str, expected: &str) {
        self.errors.wrong(name, found, expected);
    }

    /// Everything was read.
    ///
    /// # Errors
    /// Everything that is wrong, parameters that nobody asked for included.
    pub fn finish(mut self) -> Result<(), ApiError> {
        let known = match self.known.as_slice() {
            [] => "no parameters".to_owned(),
            known => format!("only {}", known.join(", ")),
        };
        for (name, _) in &self.pairs {
            if !self.known.contains(&name.as_str()) {
                let name: String = name.chars().take(64).collect();
                self.errors.wrong(&name, "an unknown parameter", &known);
            }
        }
        if self.errors.is_empty() {
            Ok(())
        } else {
            Err(self.errors.into())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_wrong_parameter_is_named() {
        let mut query =
            Query::new("limit=0&cursor=a&cursor=b&statsu=x&drain=maybe&status=a,b&status=c");
        assert_eq!(query.number("limit", 50, 1, 100), 50);
        assert_eq!(query.text("cursor").as_deref(), Some("a"));
        assert!(!query.flag("drain"));
        assert_eq!(query.list("status"), ["a", "b", "c"]);
        let error = query.finish().unwrap_err();
        assert_eq!(
            error.to_string(),
            "the request is not valid: limit: found 0, expected a whole number from 1 to 100; \
             cursor: found it several times, expected it once; drain: found maybe, expected true or false; \
             statsu: found an unknown parameter, expected only limit, cursor, drain, status"
        );
    }
}
