//! What a query finds does not depend on the indexes that there are.
use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::arango::{
    catalog::{Collection, Index, IndexKind, SYSTEM_DATABASE},
    store::Store,
    tables,
    write::{Batch, WriteOptions},
};

/// Collections that differ in their indexes only: the first has none.
const INDEXES: [&[&[&str]]; 4] = [
    &[],
    &[&["a", "b", "unique"]],
    &[&["b", "unique"], &["unique", "a", "c"]],
    &[&["a", "b", "c", "unique", "_key"]],
];

fn index(id: u64, fields: &[&str]) -> Index {
    Index {
        id,
        name: format!("i{id}"),
        fields: fields.iter().map(|&field| field.to_owned()).collect(),
        kind: IndexKind::Persistent {
            sparse: false,
            deduplicate: true,
            estimates: true,
            cache_enabled: false,
            stored_values: Vec::new(),
        },
    }
}

fn store() -> Store {
    let store = Store::open_in_memory().unwrap();
    for (number, indexes) in INDEXES.iter().enumerate() {
        let id = 100 * (number as u64 + 1);
        let indexes = (id + 1..).zip(*indexes);
        let collection = Collection {
            indexes: indexes.map(|(id, fields)| index(id, fields)).collect(),
            ..Collection::new(id, &format!("c{number}"))
        };
        let created = store.alter(|catalog, transaction| {
            tables::create(transaction, &collection)?;
            let system = catalog.databases.get_mut(SYSTEM_DATABASE).unwrap();
            system
                .collections
                .insert(collection.name.clone(), collection);
            Ok(())
        });
        created.unwrap();
    }
    store
}

/// What happens to the document with this number.
#[derive(Clone, Debug)]
enum Step {
    Put(u8, Value),
    Remove(u8),
}

fn apply(store: &Store, steps: &[Step]) {
    let options = WriteOptions {
        overwrite_mode: crate::arango::write::OverwriteMode::Replace,
        ..WriteOptions::default()
    };
    for number in 0..INDEXES.len() {
        let written = store.write(
            SYSTEM_DATABASE,
            &format!("c{number}"),
            false,
            |_, documents| {
                for step in steps {
                    let mut batch = Batch {
                        store,
                        collection: "c",
                        documents,
                        options: &options,
                        rejection: None,
                    };
                    match step {
                        Step::Put(key, value) => {
                            let mut document = value.clone();
                            document["_key"] = json!(format!("k{key}"));
                            document["unique"] = json!(key);
                            batch.insert(document)?.unwrap();
                        }
                        // Whether it is there does not matter.
                        Step::Remove(key) => drop(batch.remove(&json!(format!("k{key}")))?),
                    }
                }
                Ok(())
            },
        );
        written.unwrap();
    }
}

fn found(store: &Store, number: usize, text: &str, variables: &Value) -> Vec<String> {
    let text = text.replace("@@c", &format!("c{number}"));
    let query = Query::parse(&text, variables.as_object().unwrap()).unwrap();
    let (_, documents) = store.read(SYSTEM_DATABASE, &query.collection).unwrap();
    query.run(&documents, false).unwrap().keys
}

fn value() -> impl Strategy<Value = Value> {
    prop_oneof![
        4 => (0..4_i64).prop_map(|number| json!(number)),
        2 => (0..3_usize).prop_map(|at| json!(["", "x", "xx"][at])),
        1 => Just(json!(null)),
        1 => Just(json!(0.5)),
        1 => any::<bool>().prop_map(|flag| json!(flag)),
        1 => (0..3_i64).prop_map(|number| json!([number])),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let put = (any::<u8>(), value(), value(), value())
        .prop_map(|(key, a, b, c)| Step::Put(key % 40, json!({"a": a, "b": b, "c": c})));
    prop_oneof![5 => put, 1 => any::<u8>().prop_map(|key| Step::Remove(key % 40))]
}

fn attribute() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec!["a", "b", "c", "unique", "_key"])
}

fn condition() -> impl Strategy<Value = String> {
    let comparison = prop::sample::select(vec!["==", "!=", "<", "<=", ">", ">="]);
    let value = prop::sample::select(vec!["@v", "@w", "2", "20"]);
    let simple = (attribute(), comparison, value)
        .prop_map(|(attribute, comparison, value)| format!("d.{attribute} {comparison} {value}"));
    let list = (attribute(), prop::sample::select(vec!["IN", "NOT IN"]))
        .prop_map(|(attribute, word)| format!("d.{attribute} {word} @list"));
    prop_oneof![3 => simple, 1 => list].prop_recursive(2, 6, 3, |inner| {
        let word = prop::sample::select(vec!["AND", "OR"]);
        (prop::collection::vec(inner, 1..4), word)
            .prop_map(|(all, word)| format!("({})", all.join(&format!(" {word} "))))
    })
}

/// Ends with a sort that leaves no two documents equal, so that every cut is the same.
fn query() -> impl Strategy<Value = String> {
    let sort = (
        prop::collection::vec(attribute(), 0..3),
        any::<bool>(),
        any::<bool>(),
    );
    let limit = prop::option::of((0..4_usize, 0..12_usize));
    (prop::collection::vec(condition(), 0..3), sort, limit).prop_map(|(filters, sort, limit)| {
        let (mut names, descending, mixed) = sort;
        names.push("unique");
        let filters: String = filters.iter().map(|one| format!(" FILTER {one}")).collect();
        let sort: Vec<String> = (0..)
            .zip(names)
            .map(|(at, name)| {
                let is_down = descending != (mixed && at == 0);
                format!("d.{name}{}", if is_down { " DESC" } else { "" })
            })
            .collect();
        let limit = limit.map(|(offset, count)| format!(" LIMIT {offset}, {count}"));
        let limit = limit.unwrap_or_default();
        format!(
            "FOR d IN @@c{filters} SORT {}{limit} RETURN d",
            sort.join(", ")
        )
    })
}

/// Only those that the text names may be bound.
fn bound(text: &str, v: &Value, w: &Value, list: &[Value]) -> Value {
    let mut variables = Map::new();
    for (name, value) in [("v", v.clone()), ("w", w.clone()), ("list", json!(list))] {
        if text.contains(&format!("@{name}")) {
            variables.insert(name.to_owned(), value);
        }
    }
    Value::Object(variables)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn an_index_changes_nothing_but_the_speed(
        steps in prop::collection::vec(step(), 0..80),
        queries in prop::collection::vec(query(), 1..20),
        (v, w) in (value(), value()),
        list in prop::collection::vec(value(), 0..4),
    ) {
        let store = store();
        apply(&store, &steps);
        for text in &queries {
            let variables = bound(text, &v, &w, &list);
            let expected = found(&store, 0, text, &variables);
            for (number, indexes) in INDEXES.iter().enumerate().skip(1) {
                let found = found(&store, number, text, &variables);
                prop_assert_eq!(&found, &expected, "{} {} {:?}", text, variables, indexes);
            }
        }
    }
}

#[test]
fn a_query_in_the_order_of_an_index_reads_no_more_than_it_returns() {
    let store = store();
    let steps: Vec<Step> = (0..200)
        .map(|key| Step::Put(key, json!({"a": key % 7})))
        .collect();
    apply(&store, &steps);
    let (_, documents) = store.read(SYSTEM_DATABASE, "c1").unwrap();
    let run = |text: &str, full_count| {
        let query = Query::parse(text, &Map::new()).unwrap();
        let results = query.run(&documents, full_count).unwrap();
        (results.scanned_full, results.scanned_index, results.matched)
    };
    let newest = "FOR d IN c1 SORT d.a DESC LIMIT 2, 3 RETURN d";
    assert_eq!(run(newest, false), (0, 5, 5));
    assert_eq!(run(newest, true), (0, 200, 200));
    let fixed = "FOR d IN c1 FILTER d.a == 3 RETURN d";
    assert_eq!(run(fixed, false), (0, 29, 29));
    let other = "FOR d IN c1 FILTER d.c == 3 RETURN d";
    assert_eq!(run(other, false), (200, 0, 0));
}
