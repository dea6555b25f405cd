//! Keys of index entries: bytes that are ordered as AQL orders the values they are made of.
//!
//! Exact for null, booleans, numbers and strings, as [`super::cursor`]'s own order has them. Arrays and objects
//! are known by their type only: [`is_exact`] says so, and whoever needs their order looks at the values.
use serde_json::{Number, Value};

const NULL: u8 = 0;
const BOOLEAN: u8 = 1;
pub(crate) const NUMBER: u8 = 2;
pub(crate) const STRING: u8 = 3;
const ARRAY: u8 = 4;
const OBJECT: u8 = 5;

/// Appends a value. What is appended for one value is never the beginning of what is appended for another.
pub(crate) fn push(key: &mut Vec<u8>, value: &Value) {
    match value {
        Value::Null => key.push(NULL),
        Value::Bool(value) => key.extend([BOOLEAN, u8::from(*value)]),
        Value::Number(number) => push_number(key, number),
        Value::String(text) => {
            key.push(STRING);
            for byte in text.bytes() {
                key.push(byte);
                if byte == 0 {
                    key.push(0xFF);
                }
            }
            key.extend([0, 0]);
        }
        Value::Array(_) => key.push(ARRAY),
        Value::Object(_) => key.push(OBJECT),
    }
}

/// The nearest double, and how far a 64-bit integer is from it: so integers beyond 2^53 keep their order.
fn push_number(key: &mut Vec<u8>, number: &Number) {
    const SIGN: u64 = 1 << 63;
    let double = number.as_f64().unwrap_or(0.0);
    let bits = double.to_bits();
    let ordered = if bits & SIGN == 0 { bits | SIGN } else { !bits };
    let rest = number.as_i128().map_or(0, |whole| whole - double as i128);
    // Doubles of 64-bit integers are at most 1024 away.
    let rest = (rest + i128::from(i16::MAX)) as u16;
    key.push(NUMBER);
    key.extend(ordered.to_be_bytes());
    key.extend(rest.to_be_bytes());
}

/// Whether the key says everything about a value's order.
pub(crate) fn is_exact(value: &Value) -> bool {
    !matches!(value, Value::Array(_) | Value::Object(_))
}

/// The first key behind all that begin with `prefix`; None if there is none.
pub(crate) fn behind(prefix: &[u8]) -> Option<Vec<u8>> {
    let kept = prefix.iter().rposition(|byte| *byte < 0xFF)?;
    let mut key = prefix[..=kept].to_vec();
    key[kept] += 1;
    Some(key)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn key(value: &Value) -> Vec<u8> {
        let mut key = Vec::new();
        push(&mut key, value);
        key
    }

    #[test]
    fn keys_are_ordered_as_values_are() {
        let ascending = [
            json!(null),
            json!(false),
            json!(true),
            json!(f64::MIN),
            json!(i64::MIN),
            json!(i64::MIN + 1),
            json!(-1.5),
            json!(-1),
            json!(-0.5),
            json!(0),
            json!(0.5),
            json!(1),
            json!(1_722_470_400_000_u64),
            json!(1_722_470_400_000.5),
            json!(9_007_199_254_740_992_u64),
            json!(9_007_199_254_740_993_u64),
            json!(9_007_199_254_740_994_u64),
            json!(u64::MAX - 1),
            json!(u64::MAX),
            json!(1e300),
            json!(""),
            json!("\0"),
            json!("\0a"),
            json!("\u{1}"),
            json!("a"),
            json!("a\0"),
            json!("aa"),
            json!("b"),
            json!("ä"),
            json!("🚗"),
            json!([]),
            json!({}),
        ];
        for pair in ascending.windows(2) {
            assert!(key(&pair[0]) < key(&pair[1]), "{} {}", pair[0], pair[1]);
        }
        assert_eq!(key(&json!(3)), key(&json!(3.0)));
    }

    #[test]
    fn no_key_is_the_beginning_of_another() {
        let values = [json!(null), json!(1), json!("a"), json!("a\0"), json!("")];
        for (left, right) in values
            .iter()
            .flat_map(|l| values.iter().map(move |r| (l, r)))
        {
            if left != right {
                assert!(!key(right).starts_with(&key(left)), "{left} {right}");
            }
        }
    }

    #[test]
    fn the_end_of_a_prefix_is_behind_all_of_it() {
        assert_eq!(behind(&[1, 2]), Some(vec![1, 3]));
        assert_eq!(behind(&[1, 0xFF, 0xFF]), Some(vec![2]));
        assert_eq!(behind(&[0xFF]), None);
        assert_eq!(behind(&[]), None);
    }
}
