//! Reads a JSON object field by field, and notes each field that has not the form it should have.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use super::{FieldErrors, LONGEST_TEXT, LONGEST_VALUE, MOST_VARIABLES};

/// An object that is being read.
pub(crate) struct Object<'v> {
    fields: &'v Map<String, Value>,
    path: String,
    taken: BTreeSet<&'static str>,
}

impl<'v> Object<'v> {
    /// `value` stands at `path`; None, with a note, if it is no object.
    pub(crate) fn new(value: &'v Value, path: &str, errors: &mut FieldErrors) -> Option<Self> {
        match value {
            Value::Object(fields) => Some(Self {
                fields,
                path: path.to_owned(),
                taken: BTreeSet::new(),
            }),
            other => {
                errors.unfit(path, Some(other), "a JSON object");
                None
            }
        }
    }

    /// Where a field of it stands.
    pub(crate) fn path(&self, field: &str) -> String {
        if self.path.is_empty() {
            field.to_owned()
        } else {
            format!("{}.{field}", self.path)
        }
    }

    /// A field as it is; `null` counts as absent.
    pub(crate) fn take(&mut self, field: &'static str) -> Option<&'v Value> {
        self.taken.insert(field);
        self.fields.get(field).filter(|value| !value.is_null())
    }

    /// A text that may be absent.
    pub(crate) fn text(&mut self, field: &'static str, errors: &mut FieldErrors) -> Option<String> {
        let found = self.take(field)?;
        text_of(&self.path(field), Some(found), errors)
    }

    /// A text that must be there.
    pub(crate) fn required_text(
        &mut self,
        field: &'static str,
        errors: &mut FieldErrors,
    ) -> Option<String> {
        let found = self.take(field);
        text_of(&self.path(field), found, errors)
    }

    /// true or false; false if absent.
    pub(crate) fn flag(&mut self, field: &'static str, errors: &mut FieldErrors) -> bool {
        match self.take(field) {
            None => false,
            Some(Value::Bool(flag)) => *flag,
            found => {
                errors.unfit(&self.path(field), found, "true or false");
                false
            }
        }
    }

    /// An object of environment variables. Numbers and booleans are taken for their text.
    pub(crate) fn variables(
        &mut self,
        field: &'static str,
        errors: &mut FieldErrors,
    ) -> BTreeMap<String, String> {
        let path = self.path(field);
        let mut variables = BTreeMap::new();
        match self.take(field) {
            None => {}
            Some(Value::Object(all)) if all.len() <= MOST_VARIABLES => {
                for (name, value) in all {
                    let path = format!("{path}.{}", cut(name));
                    let text = match value {
                        Value::String(text) => text.clone(),
                        Value::Number(number) => number.to_string(),
                        Value::Bool(flag) => flag.to_string(),
                        found => {
                            errors.unfit(&path, Some(found), "text, a number, true or false");
                            continue;
                        }
                    };
                    let length = text.len();
                    if length > LONGEST_VALUE || text.contains('\0') {
                        let expected = format!("up to {LONGEST_VALUE} bytes without NUL");
                        errors.wrong(&path, &format!("{length} bytes"), &expected);
                    } else {
                        variables.insert(name.clone(), text);
                    }
                }
            }
            Some(Value::Object(all)) => errors.wrong(
                &path,
                &format!("{} variables", all.len()),
                &format!("at most {MOST_VARIABLES}"),
            ),
            found => errors.unfit(&path, found, "an object of variables"),
        }
        variables
    }

    /// Notes every field that nobody asked for.
    pub(crate) fn refuse_the_rest(self, errors: &mut FieldErrors) {
        let known = self.taken.iter().copied().collect::<Vec<_>>().join(", ");
        for field in self.fields.keys() {
            if !self.taken.contains(field.as_str()) {
                let field = self.path(&cut(field));
                errors.wrong(&field, "an unknown field", &format!("one of {known}"));
            }
        }
    }
}

/// Names come from outside, and go into messages.
fn cut(name: &str) -> String {
    name.chars().take(64).collect()
}

/// A text at `path`, not longer than texts may be.
pub(super) fn text_of(
    path: &str,
    found: Option<&Value>,
    errors: &mut FieldErrors,
) -> Option<String> {
    match found {
        Some(Value::String(text)) if text.len() <= LONGEST_TEXT => Some(text.clone()),
        Some(Value::String(text)) => {
            let expected = format!("at most {LONGEST_TEXT} bytes");
            errors.wrong(path, &format!("{} bytes", text.len()), &expected);
            None
        }
        found => {
            errors.unfit(path, found, "text");
            None
        }
    }
}
