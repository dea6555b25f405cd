//! What the form of a body can be.

use serde_json::json;
use utoipa::{PartialSchema, ToSchema};

use super::*;

#[test]
fn a_stop_names_a_workflow() {
    let id = "wf-btcusdt-dummy-20240801-abc123";
    let (read, drain) = Stop::checked(&json!({"queue_id": id, "drain": true})).unwrap();
    assert_eq!((read.as_str(), drain), (id, true));
    assert!(
        !Stop::checked(&json!({"queue_id": id, "drain": null}))
            .unwrap()
            .1
    );
    for (body, fields) in [
        (json!("x"), vec![""]),
        (
            json!({"queue_id": "*", "drain": "yes", "x": 1}),
            vec!["queue_id", "drain", "x"],
        ),
        (json!({}), vec!["queue_id"]),
    ] {
        let errors = Stop::checked(&body).unwrap_err();
        let found: Vec<_> = errors
            .all()
            .iter()
            .map(|error| error.field.as_str())
            .collect();
        assert_eq!(found, fields, "{errors}");
    }
}

#[test]
fn what_was_found_is_cut_and_said_once() {
    let mut errors = FieldErrors::default();
    errors.wrong("a", &"ü".repeat(300), "less");
    errors.wrong("a", &"ü".repeat(300), "less");
    assert_eq!(errors.all().len(), 1);
    assert_eq!(errors.all()[0].found.chars().count(), 101);
}

/// As many as a body of the usual limit can hold.
#[test]
fn fifty_errors_are_listed_and_the_rest_is_counted() {
    let unknown = (0..29_596).map(|nth| (format!("a{nth}"), json!(nth)));
    let body = serde_json::Value::Object(unknown.collect());
    let began = std::time::Instant::now();
    let errors = Stop::checked(&body).unwrap_err();
    // Many seconds when each was compared with all before it.
    assert!(began.elapsed().as_secs() < 2, "{:?}", began.elapsed());
    assert_eq!((errors.all().len(), errors.more()), (50, 29_547));
    assert!(errors.to_string().ends_with("; and 29547 more"));
    assert!(errors.to_string().len() < 10_000);
    let renamed = errors.clone().renamed(|name| format!("x.{name}"));
    assert_eq!((renamed.all().len(), renamed.more()), (50, 29_547));
    let mut both = errors.clone();
    both.add(renamed);
    assert_eq!((both.all().len(), both.more()), (50, 2 * 29_547 + 50));
}

#[test]
fn what_is_written_is_read_again() {
    let start = Start {
        symbol: Symbols {
            all: vec![Some("BTCUSDT".to_owned())],
            is_list: false,
        },
        kind: Some("api_candles_1m".to_owned()),
        time_range: None,
    };
    let mut errors = FieldErrors::default();
    let body = serde_json::to_value(&start).unwrap();
    assert_eq!(Start::read(&body, &mut errors), start);
    let pipeline = StartPipeline {
        symbol: Some("BTCUSDT".to_owned()),
        microservices: vec![Microservice::new("dummy-service", "dummy")],
        ..StartPipeline::default()
    };
    let body = serde_json::to_value(&pipeline).unwrap();
    assert_eq!(StartPipeline::read(&body, &mut errors), pipeline);
    assert!(errors.is_empty(), "{errors}");
}

/// Its schemas, by name.
fn schemas<T: ToSchema + PartialSchema>() -> serde_json::Value {
    let mut all = Vec::new();
    T::schemas(&mut all);
    all.push((T::name().into_owned(), T::schema()));
    let all: std::collections::BTreeMap<_, _> = all.into_iter().collect();
    serde_json::to_value(all).unwrap()
}

#[test]
fn the_schemas_say_what_is_read() {
    insta::assert_json_snapshot!("start_pipeline", schemas::<StartPipeline>());
    insta::assert_json_snapshot!("start", schemas::<Start>());
    insta::assert_json_snapshot!("start_test_flow", schemas::<StartTestFlow>());
    insta::assert_json_snapshot!("stop", schemas::<Stop>());
}
