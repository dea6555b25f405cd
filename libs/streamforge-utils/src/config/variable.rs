//! What is known of one environment variable.

use super::{Fault, Vars};

/// One environment variable: what it means and what a good value looks like.
#[derive(Debug, Clone, Copy)]
pub struct Variable {
    /// Its name.
    pub name: &'static str,
    /// A second name for it.
    pub alias: Option<&'static str>,
    /// What it decides, for `--help`.
    pub meaning: &'static str,
    /// What a value has to be, in words that follow "expected".
    pub expected: &'static str,
    /// A good value.
    pub example: &'static str,
    /// What stands in for an absent one.
    pub default: Option<&'static str>,
    /// What an absent one comes to, in words, where the code decides it.
    pub otherwise: Option<&'static str>,
    /// Whether it must be given.
    pub required: bool,
    /// Whether its value must not be shown.
    pub secret: bool,
}

impl Variable {
    /// A variable that must be given.
    pub const fn required(
        name: &'static str,
        expected: &'static str,
        example: &'static str,
    ) -> Self {
        Self {
            required: true,
            ..Self::optional(name, expected, example)
        }
    }

    /// A variable that may be absent.
    pub const fn optional(
        name: &'static str,
        expected: &'static str,
        example: &'static str,
    ) -> Self {
        Self {
            name,
            alias: None,
            meaning: "",
            expected,
            example,
            default: None,
            otherwise: None,
            required: false,
            secret: false,
        }
    }

    /// What it decides.
    pub const fn means(self, meaning: &'static str) -> Self {
        Self { meaning, ..self }
    }

    /// The value that stands in for an absent one.
    pub const fn default(self, value: &'static str) -> Self {
        Self {
            default: Some(value),
            ..self
        }
    }

    /// What an absent one comes to, where the code decides it.
    pub const fn otherwise(self, words: &'static str) -> Self {
        Self {
            otherwise: Some(words),
            ..self
        }
    }

    /// A second name for it.
    pub const fn alias(self, name: &'static str) -> Self {
        Self {
            alias: Some(name),
            ..self
        }
    }

    /// Its value must not be shown.
    pub const fn secret(self) -> Self {
        Self {
            secret: true,
            ..self
        }
    }

    /// Its value among `vars`, under either name; a blank one counts as absent. Blanks around a value are dropped, except
    /// around a secret, which loses the ends of lines only.
    pub(super) fn find<'v>(&self, vars: &'v Vars) -> Result<Option<&'v str>, Fault> {
        let get = |name: &str| {
            let value = vars.get(name).filter(|value| !value.trim().is_empty())?;
            Some(if self.secret {
                value.trim_end_matches(['\r', '\n'])
            } else {
                value.trim()
            })
        };
        let found = match (get(self.name), self.alias.and_then(get)) {
            (Some(first), Some(second)) if first != second => {
                return Err(Fault::contradiction(self, first, second));
            }
            (first, second) => first.or(second),
        };
        match found {
            Some(value) if value.starts_with(BYTE_ORDER_MARK) => Err(Fault::wrapped(
                self,
                value,
                "a byte order mark (U+FEFF) before it",
            )),
            // A password may begin and end with anything.
            Some(value) if !self.secret && is_quoted(value) => {
                Err(Fault::wrapped(self, value, "quotes around it"))
            }
            found => Ok(found),
        }
    }
}

/// What some editors put before the first character of a file.
const BYTE_ORDER_MARK: char = '\u{feff}';

/// Whether the same quotes stand on both sides, as in a file whose reader does not take them off.
pub(super) fn is_quoted(value: &str) -> bool {
    ['"', '\'']
        .into_iter()
        .any(|quote| value.len() > 1 && value.starts_with(quote) && value.ends_with(quote))
}
