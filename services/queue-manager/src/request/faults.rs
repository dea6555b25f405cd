//! What is wrong with a request, field by field.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

/// Most errors of a request that are listed; of the rest only the number is told.
const MOST_ERRORS: usize = 50;
/// Most characters of what was found that are said again.
const MOST_FOUND: usize = 100;

/// One field that can't be taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FieldError {
    /// Where it is: `symbol`, `microservices[1].env.BATCH_MAX_RECORDS`; empty for the whole body.
    #[schema(example = "microservices[1].env.BATCH_MAX_RECORDS")]
    pub field: String,
    /// What stands there, cut to 100 characters; `nothing` if it is missing.
    #[schema(example = "0")]
    pub found: String,
    /// What should stand there.
    #[schema(example = "a number from 1 to 100000")]
    pub expected: String,
}

impl fmt::Display for FieldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            field,
            found,
            expected,
        } = self;
        let field = if field.is_empty() { "the body" } else { field };
        write!(f, "{field}: found {found}, expected {expected}")
    }
}

/// What is wrong with a request, in the order in which it was found, each once: the first 50 errors, and how many more
/// there are. Noting one costs the same however many there are.
#[derive(Debug, Clone, Default, PartialEq, Eq, thiserror::Error)]
pub struct FieldErrors {
    listed: Vec<FieldError>,
    more: usize,
}

impl fmt::Display for FieldErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (nth, error) in self.listed.iter().enumerate() {
            let between = if nth > 0 { "; " } else { "" };
            write!(f, "{between}{error}")?;
        }
        match self.more {
            0 => Ok(()),
            more => write!(f, "; and {more} more"),
        }
    }
}

impl FieldErrors {
    /// Those that are listed.
    pub fn all(&self) -> &[FieldError] {
        &self.listed
    }

    /// How many there are beside [`Self::all`]; one that was noted twice may count twice here.
    pub fn more(&self) -> usize {
        self.more
    }

    /// Whether nothing is wrong.
    pub fn is_empty(&self) -> bool {
        self.listed.is_empty()
    }

    /// Notes that a field holds `found`.
    pub fn wrong(&mut self, field: &str, found: &str, expected: &str) {
        if self.listed.len() == MOST_ERRORS {
            self.more += 1;
            return;
        }
        let mut found: String = found.chars().take(MOST_FOUND + 1).collect();
        if let Some((cut, _)) = found.char_indices().nth(MOST_FOUND) {
            found.truncate(cut);
            found.push('…');
        }
        let error = FieldError {
            field: field.to_owned(),
            found,
            expected: expected.to_owned(),
        };
        if !self.listed.contains(&error) {
            self.listed.push(error);
        }
    }

    /// Notes that a field is missing.
    pub fn missing(&mut self, field: &str, expected: &str) {
        self.wrong(field, "nothing", expected);
    }

    /// Notes that a field is missing, or has not the form that it should have.
    pub(super) fn unfit(&mut self, field: &str, found: Option<&Value>, expected: &str) {
        match found {
            None | Some(Value::Null) => self.missing(field, expected),
            Some(Value::Array(all)) => {
                self.wrong(field, &format!("a list of {}", all.len()), expected);
            }
            Some(Value::Object(_)) => self.wrong(field, "an object", expected),
            Some(Value::String(text)) => self.wrong(field, text, expected),
            Some(other) => self.wrong(field, &other.to_string(), expected),
        }
    }

    /// The same, for a request that names its fields otherwise.
    pub(crate) fn renamed(self, rename: impl Fn(&str) -> String) -> Self {
        let mut renamed = Self {
            listed: Vec::new(),
            more: self.more,
        };
        for error in self.listed {
            renamed.wrong(&rename(&error.field), &error.found, &error.expected);
        }
        renamed
    }

    /// Only the first of what was found wrong with this field.
    pub(crate) fn once(mut self, field: &str) -> Self {
        let mut is_told = false;
        self.listed
            .retain(|error| error.field != field || !std::mem::replace(&mut is_told, true));
        self
    }

    pub(crate) fn add(&mut self, others: Self) {
        self.more += others.more;
        for error in others.listed {
            self.wrong(&error.field, &error.found, &error.expected);
        }
    }

    /// `value`, unless something is wrong.
    ///
    /// # Errors
    /// Everything that was noted.
    ///
    /// # Panics
    /// If there is neither a value nor an error, which would leave the asker without an answer.
    pub fn or<T>(self, value: Option<T>) -> Result<T, Self> {
        if self.is_empty() {
            Ok(value.expect("what is missing was noted as an error"))
        } else {
            Err(self)
        }
    }
}
