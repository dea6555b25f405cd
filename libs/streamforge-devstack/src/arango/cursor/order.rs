//! AQL's order of values: null, booleans, numbers, strings, arrays, objects; see "Type and value order"
//! in ArangoDB's documentation. Strings are compared by code point, where ArangoDB uses a language's order.
use std::cmp::Ordering;

use serde_json::{Number, Value};

pub(super) fn compare(left: &Value, right: &Value) -> Ordering {
    match (left, right) {
        (Value::Bool(left), Value::Bool(right)) => left.cmp(right),
        (Value::Number(left), Value::Number(right)) => compare_numbers(left, right),
        (Value::String(left), Value::String(right)) => left.cmp(right),
        (Value::Array(left), Value::Array(right)) => {
            // A missing element counts as null.
            let longest = left.len().max(right.len());
            let pairs = (0..longest).map(|i| (left.get(i), right.get(i)));
            compare_pairs(pairs)
        }
        (Value::Object(left), Value::Object(right)) => {
            // serde_json keeps names sorted, which is the order that AQL compares them in.
            let names: std::collections::BTreeSet<_> = left.keys().chain(right.keys()).collect();
            compare_pairs(
                names
                    .into_iter()
                    .map(|name| (left.get(name), right.get(name))),
            )
        }
        _ => rank(left).cmp(&rank(right)),
    }
}

fn compare_pairs<'a>(
    pairs: impl Iterator<Item = (Option<&'a Value>, Option<&'a Value>)>,
) -> Ordering {
    let null = &Value::Null;
    pairs
        .map(|(left, right)| compare(left.unwrap_or(null), right.unwrap_or(null)))
        .find(|order| order.is_ne())
        .unwrap_or(Ordering::Equal)
}

fn compare_numbers(left: &Number, right: &Number) -> Ordering {
    if let (Some(left), Some(right)) = (left.as_i128(), right.as_i128()) {
        return left.cmp(&right);
    }
    let double = |number: &Number| number.as_f64().unwrap_or(0.0);
    double(left).total_cmp(&double(right))
}

fn rank(value: &Value) -> u8 {
    match value {
        Value::Null => 0,
        Value::Bool(_) => 1,
        Value::Number(_) => 2,
        Value::String(_) => 3,
        Value::Array(_) => 4,
        Value::Object(_) => 5,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn values_are_ordered_as_aql_orders_them() {
        let ascending = [
            json!(null),
            json!(false),
            json!(true),
            json!(-1),
            json!(0.5),
            json!(1),
            json!(1722470400000_u64),
            json!(1722470400000.5),
            json!(u64::MAX),
            json!(""),
            json!("a"),
            json!([]),
            json!([0]),
            json!([0, 1]),
            json!({}),
            json!({"a": 1}),
            json!({"a": 2}),
        ];
        for (i, left) in ascending.iter().enumerate() {
            for (j, right) in ascending.iter().enumerate() {
                // `[]` and `[null]`, `{}` and `{"a": null}` would be equal; none of these are.
                assert_eq!(compare(left, right), i.cmp(&j), "{left} {right}");
            }
        }
        assert_eq!(compare(&json!(1), &json!(1.0)), Ordering::Equal);
    }
}
