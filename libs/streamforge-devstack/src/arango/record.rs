//! A document as it lies in the store: its revision, then its attributes as JSON text.
//!
//! `_key` is the key in the store, `_id` follows from it, and `_rev` is kept as a number, so none of
//! the three is stored twice. Numbers are kept as ArangoDB keeps them: 64-bit integers as they are,
//! everything else as the nearest double.
use std::{borrow::Cow, fmt};

use serde::{
    Deserializer as _,
    de::{Error as _, IgnoredAny, MapAccess, Visitor},
};
use serde_json::{Map, Number, Value};

/// A revision. Opaque to clients, as in ArangoDB: its text says only whether two are equal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Revision(pub(crate) u64);

impl Revision {
    /// The revision as an HTTP entity tag.
    pub(crate) fn etag(self) -> String {
        format!("\"{self}\"")
    }

    /// Whether a header such as `If-Match` names this revision; the quotes are optional.
    pub(crate) fn is_named_by(self, tag: &str) -> bool {
        tag.trim().trim_matches('"') == self.to_string()
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const ALPHABET: &[u8; 64] =
            b"-_ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
        let mut text = [0u8; 11];
        for (position, letter) in text.iter_mut().rev().enumerate() {
            *letter = ALPHABET[(self.0 >> (6 * position) & 63) as usize];
        }
        f.write_str(std::str::from_utf8(&text).map_err(|_| fmt::Error)?)
    }
}

/// Makes the bytes of a record. `attributes` holds no `_key`, `_id` or `_rev`.
pub(crate) fn encode(
    revision: Revision,
    attributes: &Map<String, Value>,
) -> Result<Vec<u8>, serde_json::Error> {
    let mut bytes = Vec::with_capacity(256);
    bytes.extend_from_slice(&revision.0.to_le_bytes());
    serde_json::to_writer(&mut bytes, attributes)?;
    Ok(bytes)
}

/// A record as read from the store.
#[derive(Clone, Copy)]
pub(crate) struct Record<'a> {
    pub(crate) revision: Revision,
    json: &'a [u8],
}

impl<'a> Record<'a> {
    /// Takes apart what [`encode`] made.
    pub(crate) fn decode(bytes: &'a [u8]) -> Self {
        let (revision, json) = bytes
            .split_first_chunk::<8>()
            .expect("the store holds only what `encode` made, which begins with a revision");
        Self {
            revision: Revision(u64::from_le_bytes(*revision)),
            json,
        }
    }

    /// The attributes without `_key`, `_id` and `_rev`.
    pub(crate) fn attributes(&self) -> Result<Map<String, Value>, serde_json::Error> {
        serde_json::from_slice(self.json)
    }

    /// The values of some attributes, in the order asked for; null for those that are not there. `key` is what the
    /// store has the record under.
    pub(crate) fn pick(&self, key: &str, names: &[&str]) -> Result<Vec<Value>, serde_json::Error> {
        let mut picked = vec![Value::Null; names.len()];
        if !names.is_empty() {
            let mut json = serde_json::Deserializer::from_slice(self.json);
            json.deserialize_map(Pick(names, &mut picked))?;
        }
        for (value, name) in picked.iter_mut().zip(names) {
            if *name == "_key" {
                *value = Value::from(key);
            }
        }
        Ok(picked)
    }

    /// The whole document as clients see it, as JSON text.
    pub(crate) fn render(&self, collection: &str, key: &str) -> Result<String, serde_json::Error> {
        let id = serde_json::to_string(&format!("{collection}/{key}"))?;
        let attributes = std::str::from_utf8(self.json).map_err(serde_json::Error::custom)?;
        let separator = if attributes == "{}" { "" } else { "," };
        // Keys need no escaping: see `is_valid_key`.
        Ok(format!(
            "{{\"_key\":\"{key}\",\"_id\":{id},\"_rev\":\"{}\"{separator}{}",
            self.revision,
            &attributes[1..]
        ))
    }
}

/// Reads the attributes of these names into the places beside them and skips the others.
struct Pick<'a>(&'a [&'a str], &'a mut [Value]);

impl<'de> Visitor<'de> for Pick<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the attributes of a document")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut attributes: A) -> Result<(), A::Error> {
        while let Some(name) = attributes.next_key::<Cow<'de, str>>()? {
            if !self.0.contains(&name.as_ref()) {
                attributes.next_value::<IgnoredAny>()?;
                continue;
            }
            let value: Value = attributes.next_value()?;
            for (wanted, place) in self.0.iter().zip(self.1.iter_mut()) {
                if *wanted == name {
                    *place = value.clone();
                }
            }
        }
        Ok(())
    }
}

/// Whether ArangoDB takes `key` as a `_key`: 1 to 254 bytes of its alphabet.
pub(crate) fn is_valid_key(key: &str) -> bool {
    (1..=254).contains(&key.len())
        && key
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"_-.@()+,=;$!*'%:".contains(&byte))
}

/// Brings every number into the form that ArangoDB gives back.
///
/// A fraction of zero is not written (`64640.00` comes back as `64640`); integers beyond 64 bits
/// have become doubles when they were parsed.
pub(crate) fn normalise_numbers(value: &mut Value) {
    /// Up to here every integer has a double of its own, so that the two forms mean the same.
    const EXACT: f64 = 9_007_199_254_740_992.0;
    match value {
        Value::Number(number) if number.is_f64() => {
            let Some(double) = number.as_f64() else {
                return;
            };
            let negative_zero = double == 0.0 && double.is_sign_negative();
            if double.fract() == 0.0 && double.abs() <= EXACT && !negative_zero {
                *number = Number::from(double as i64);
            }
        }
        Value::Array(items) => items.iter_mut().for_each(normalise_numbers),
        Value::Object(attributes) => attributes.values_mut().for_each(normalise_numbers),
        _ => {}
    }
}

/// Merges `patch` into `target` as PATCH and `overwriteMode=update` do.
///
/// `keep_null`: a null in the patch is stored; otherwise it removes the attribute.
/// `merge_objects`: objects on both sides are merged; otherwise the patch's object replaces the other.
pub(crate) fn merge(
    target: &mut Map<String, Value>,
    patch: Map<String, Value>,
    keep_null: bool,
    merge_objects: bool,
) {
    for (name, mut value) in patch {
        if value.is_null() && !keep_null {
            target.remove(&name);
            continue;
        }
        match (target.get_mut(&name), &mut value) {
            (Some(Value::Object(inner)), Value::Object(changes)) if merge_objects => {
                merge(inner, std::mem::take(changes), keep_null, merge_objects);
            }
            _ => {
                if !keep_null {
                    remove_nulls(&mut value);
                }
                target.insert(name, value);
            }
        }
    }
}

fn remove_nulls(value: &mut Value) {
    if let Value::Object(attributes) = value {
        attributes.retain(|_, inner| !inner.is_null());
        attributes.values_mut().for_each(remove_nulls);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn stored(text: &str) -> String {
        let mut value: Value = serde_json::from_str(text).unwrap();
        normalise_numbers(&mut value);
        value.to_string()
    }

    #[test]
    fn numbers_come_back_as_doubles_or_64_bit_integers() {
        for (sent, back) in [
            ("64628.010000000001", "64628.01"),
            ("64640.00", "64640"),
            ("1722470400000", "1722470400000"),
            ("18446744073709551615", "18446744073709551615"),
            ("18446744073709551616", "1.8446744073709552e+19"),
            ("-9223372036854775808", "-9223372036854775808"),
            ("0.1", "0.1"),
            ("1.7976931348623157e308", "1.7976931348623157e+308"),
            ("797620.12345678901234", "797620.1234567891"),
            ("-0.0", "-0.0"),
            ("[1.0,{\"a\":2.0}]", "[1,{\"a\":2}]"),
        ] {
            assert_eq!(stored(sent), back, "{sent}");
        }
    }

    #[test]
    fn keys_follow_arangodbs_alphabet() {
        for good in [
            "a",
            "BTCUSDT_1m_1722470400000",
            "@()+,=;$!*'%:.-_",
            &"k".repeat(254),
        ] {
            assert!(is_valid_key(good), "{good}");
        }
        for bad in ["", "a b", "a/b", "ä", "a\"b", &"k".repeat(255)] {
            assert!(!is_valid_key(bad), "{bad}");
        }
    }

    #[test]
    fn patches_merge_as_asked() {
        let target = json!({"a": 1, "o": {"x": 1, "y": 2}, "n": 3});
        let patch = json!({"o": {"x": null, "z": 3}, "n": null, "new": {"deep": null}});
        for (keep_null, merge_objects, expected) in [
            (
                true,
                true,
                json!({"a": 1, "o": {"x": null, "y": 2, "z": 3}, "n": null, "new": {"deep": null}}),
            ),
            (
                false,
                true,
                json!({"a": 1, "o": {"y": 2, "z": 3}, "new": {}}),
            ),
            (
                true,
                false,
                json!({"a": 1, "o": {"x": null, "z": 3}, "n": null, "new": {"deep": null}}),
            ),
            (false, false, json!({"a": 1, "o": {"z": 3}, "new": {}})),
        ] {
            let mut merged = target.as_object().unwrap().clone();
            merge(
                &mut merged,
                patch.as_object().unwrap().clone(),
                keep_null,
                merge_objects,
            );
            assert_eq!(
                Value::Object(merged),
                expected,
                "{keep_null} {merge_objects}"
            );
        }
    }

    #[test]
    fn records_render_with_their_system_attributes() {
        let attributes = json!({"v": 1.5}).as_object().unwrap().clone();
        let bytes = encode(Revision(64), &attributes).unwrap();
        let record = Record::decode(&bytes);
        assert_eq!(
            record.render("c", "k").unwrap(),
            r#"{"_key":"k","_id":"c/k","_rev":"---------_-","v":1.5}"#
        );
        let empty = encode(Revision(1), &Map::new()).unwrap();
        assert_eq!(
            Record::decode(&empty).render("c", "k").unwrap(),
            r#"{"_key":"k","_id":"c/k","_rev":"----------_"}"#
        );
        assert!(Revision(64).is_named_by("\"---------_-\""));
        assert!(Revision(64).is_named_by("---------_-"));
        assert!(!Revision(64).is_named_by("-"));
    }
}
