//! Plans as a whole, and every way in which a request can be wrong.

use std::time::Duration;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::{
    launcher::JobSpec,
    request::{FieldErrors, LONGEST_VALUE},
    state::{Status, Workflow},
    targets::TARGETS,
};

fn plan(body: &Value) -> Result<Plan, FieldErrors> {
    let launched = "2024-08-20T12:00:00Z".parse().unwrap();
    planner_for_tests().start_pipeline(body, launched, "abc123".parse().unwrap())
}

/// A good request; `changes` go into its loader, its writer and itself.
fn candles(loader: Value, writer: Value, itself: Value) -> Value {
    let mut body = json!({
        "symbol": "BTCUSDT",
        "time_range": "2024-08-01:2024-08-02",
        "microservices": [
            {"target": "loader-api-candles", "type": "api_candles_1m"},
            {"target": "arango-candles", "type": "api_candles_1m"},
        ],
    });
    let merge = |into: &mut Value, from: Value| {
        into.as_object_mut()
            .unwrap()
            .extend(from.as_object().unwrap().clone());
    };
    merge(&mut body["microservices"][0], loader);
    merge(&mut body["microservices"][1], writer);
    merge(&mut body, itself);
    body
}

fn two_writers(loader: Value, second: Value) -> Value {
    let mut body = candles(loader, json!({}), json!({}));
    let mut writer = json!({"target": "arango-candles", "type": "api_candles_1m"});
    writer
        .as_object_mut()
        .unwrap()
        .extend(second.as_object().unwrap().clone());
    body["microservices"].as_array_mut().unwrap().push(writer);
    body
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table")]
fn each_fault_is_named_where_it_is() {
    let none = || json!({});
    for (body, field, expected) in [
        (json!([]), "", "a JSON object"),
        (
            candles(none(), none(), json!({"symbol": 5})),
            "symbol",
            "text",
        ),
        (
            candles(none(), none(), json!({"symbol": null})),
            "symbol",
            "text",
        ),
        (
            candles(none(), none(), json!({"symbol": "BTC-USDT"})),
            "symbol",
            "2 to 20",
        ),
        (
            candles(none(), none(), json!({"colour": 1})),
            "colour",
            "microservices, symbol, time_range",
        ),
        (
            candles(none(), none(), json!({"time_range": null})),
            "time_range",
            "YYYY-MM-DD",
        ),
        (
            candles(
                none(),
                none(),
                json!({"time_range": "2024-08-02:2024-08-01"}),
            ),
            "time_range",
            "reversed or empty",
        ),
        (
            candles(
                none(),
                none(),
                json!({"time_range": "2024-08-21:2024-08-22"}),
            ),
            "time_range",
            "before now",
        ),
        (
            candles(
                none(),
                none(),
                json!({"time_range": "1969-08-01:2024-08-01"}),
            ),
            "time_range",
            "1970",
        ),
        (
            candles(none(), none(), json!({"microservices": []})),
            "microservices",
            "1 to 16",
        ),
        (
            candles(json!({"target": "x"}), none(), none()),
            "microservices[0].target",
            "loader-api-candles, arango-candles, dummy-service",
        ),
        (
            candles(json!({"type": "api_candles_1H"}), none(), none()),
            "microservices[0].type",
            "1h",
        ),
        (
            candles(none(), json!({"type": "api_candles_1h"}), none()),
            "microservices[1].type",
            "api_candles_1m, as",
        ),
        (
            candles(none(), json!({"interval": "1M"}), none()),
            "microservices[1].interval",
            "1m, as",
        ),
        (
            candles(none(), json!({"image": "evil/image"}), none()),
            "microservices[1].image",
            "ours/*",
        ),
        (
            candles(none(), json!({"collection_name": "1x"}), none()),
            "microservices[1].collection_name",
            "a letter",
        ),
        (
            candles(json!({"collection_name": "x"}), none(), none()),
            "microservices[0].collection_name",
            "none",
        ),
        (
            candles(none(), json!({"env": {"BATCH_MAX_RECORDS": 0}}), none()),
            "microservices[1].env.BATCH_MAX_RECORDS",
            "1 to 100000",
        ),
        (
            candles(
                none(),
                json!({"env": {"ARANGO_PASSWORD": "hunter2"}}),
                none(),
            ),
            "microservices[1].env.ARANGO_PASSWORD",
            "BATCH_MAX_RECORDS",
        ),
        (
            candles(
                none(),
                json!({"env": {"LOG_LEVEL": "x".repeat(LONGEST_VALUE + 1)}}),
                none(),
            ),
            "microservices[1].env.LOG_LEVEL",
            "1024 bytes",
        ),
        (
            candles(none(), json!({"env": {"LOG_LEVEL": []}}), none()),
            "microservices[1].env.LOG_LEVEL",
            "text",
        ),
        (
            candles(json!({"env": {"NUMBERS": "float"}}), none(), none()),
            "microservices[0].env.NUMBERS",
            "json or string",
        ),
        (
            candles(none(), json!({"target": "loader-api-candles"}), none()),
            "microservices",
            "one worker that fills",
        ),
        (
            candles(json!({"target": "arango-candles"}), none(), none()),
            "microservices",
            "a loader too",
        ),
        (
            candles(none(), json!({"target": "dummy-service"}), none()),
            "microservices",
            "a writer too",
        ),
        (
            two_writers(json!({"env": {"PARTITION_KEY": "symbol"}}), none()),
            "microservices[0].env.PARTITION_KEY",
            "record",
        ),
        (
            two_writers(json!({"env": {"TOPIC_PARTITIONS": 1}}), none()),
            "microservices[0].env.TOPIC_PARTITIONS",
            "at least 2",
        ),
        (
            two_writers(none(), json!({"env": {"ARANGO_OVERWRITE_MODE": "ignore"}})),
            "microservices[2].env.ARANGO_OVERWRITE_MODE",
            "replace",
        ),
    ] {
        let errors = plan(&body).unwrap_err();
        let all = errors.all();
        assert_eq!(all.len(), 1, "{body} gave {errors}");
        assert_eq!(all[0].field, field, "{errors}");
        assert!(all[0].expected.contains(expected), "{errors}");
        assert!(!errors.to_string().contains("hunter2"), "{errors}");
    }
}

#[test]
fn all_faults_are_told_at_once() {
    let errors = plan(&json!({
        "symbol": "btc",
        "time_range": "yesterday",
        "when": "now",
        "microservices": [
            {"target": "loader-api-candles", "type": "ws_trades", "interval": "1m", "env": {"FETCH_IN_FLIGHT": 99}},
            {"target": "mongo-candles", "type": "ws_trades", "image": 7},
            {"target": "arango-candles", "collection_name": "ü", "env": {"ARANGO_URL": "http://evil", "MAX_REJECTED": "-1"}},
        ],
    }));
    insta::assert_json_snapshot!(errors.unwrap_err().all());
}

#[test]
fn writers_of_one_collection_share_partitions_and_have_names_of_their_own() {
    let shared = plan(&two_writers(json!({}), json!({}))).unwrap();
    assert_eq!(shared.partitions, 2);
    assert_eq!(shared.workers[0].env["PARTITION_KEY"], "record");
    assert_eq!(shared.workers[0].env["TOPIC_PARTITIONS"], "2");
    assert_eq!(shared.workers[2].telemetry_id, "arango-candles__abc123-2");
    assert_eq!(
        shared.workers[2].job_name,
        "job-arango-candles-btcusdt-abc123-2"
    );
    let apart = plan(&two_writers(json!({}), json!({"collection_name": "other"}))).unwrap();
    assert_eq!(apart.partitions, 1);
    assert!(!apart.workers[0].env.contains_key("PARTITION_KEY"));
}

#[test]
fn a_range_of_more_than_a_partition_keeps_gets_more_of_them() {
    let spread = |most, worker_env: Value| {
        let planner = Planner {
            partition_records: most,
            ..planner_for_tests()
        };
        let month = json!({"time_range": "2024-08-01:2024-08-31"});
        let body = candles(json!({"env": worker_env}), json!({}), month);
        let launched = "2024-09-20T12:00:00Z".parse().unwrap();
        let plan = planner.start_pipeline(&body, launched, "abc123".parse().unwrap());
        let plan = plan.unwrap();
        let key = plan.workers[0].env.get("PARTITION_KEY").cloned();
        (plan.partitions, key)
    };
    let record = || Some("record".to_owned());
    assert_eq!(spread(None, json!({})), (1, None));
    assert_eq!(spread(Some(44_640), json!({})), (1, None));
    assert_eq!(spread(Some(44_639), json!({})), (2, record()));
    assert_eq!(spread(Some(10_000), json!({})), (5, record()));
    assert_eq!(spread(Some(1), json!({})), (64, record()));
    let own = json!({"TOPIC_PARTITIONS": 3});
    assert_eq!(spread(Some(10_000), own), (3, record()));
}

#[test]
fn the_next_run_has_new_jobs_of_the_same_workers() {
    const SECOND: &str = "arango-candles__abc123-2";
    let plan = plan(&two_writers(json!({}), json!({}))).unwrap();
    let mut workflow = Workflow::new(&plan, "process", plan.launched);
    for run in 2..4 {
        for part in &mut workflow.parts {
            let status = match part.telemetry_id.as_str() {
                SECOND => Status::Error,
                _ => Status::Finished,
            };
            part.end(status, None, plan.launched);
        }
        workflow.refresh();
        workflow.begin_retry(plan.launched).unwrap();
        let names: Vec<&str> = workflow
            .parts
            .iter()
            .map(|part| part.job_name.as_str())
            .collect();
        let second = format!("job-arango-candles-btcusdt-abc123-2-r{run}");
        assert_eq!(
            names,
            [
                "job-loader-api-candles-btcusdt-abc123",
                "job-arango-candles-btcusdt-abc123",
                second.as_str(),
            ]
        );
        let job = workflow.job(SECOND, 1, Duration::from_secs(60)).unwrap();
        assert_eq!((job.run, job.name), (run, second));
        assert_eq!(job.env["RUN"], run.to_string());
    }
}

#[test]
fn every_variable_of_a_job_is_one_that_its_worker_reads_and_takes() {
    let dummy = |env: Value| json!({"symbol": "BTCUSDT", "microservices": [{"target": "dummy-service", "type": "dummy", "env": env}]});
    for body in [
        two_writers(json!({}), json!({})),
        dummy(json!({})),
        dummy(json!({"DUMMY_PUBLISH_RATE": 10, "TOPIC_PARTITIONS": 3})),
    ] {
        let plan = plan(&body).unwrap();
        let workflow = Workflow::new(&plan, "process", plan.launched);
        for worker in &plan.workers {
            let deadline = Duration::from_secs(60);
            let job = workflow.job(&worker.telemetry_id, 1, deadline).unwrap();
            let JobSpec { env, deadline, .. } = job;
            let target = TARGETS
                .iter()
                .find(|target| target.service == worker.target)
                .unwrap();
            for name in env.keys() {
                assert!(target.reads(name), "{} does not read {name}", worker.target);
            }
            target.check(&env).unwrap();
            assert_eq!(env["RUN"], "1");
            assert_eq!(env["QUEUE_STARTED_AT"], "1724155200");
            assert_eq!(env["TELEMETRY_PRODUCER_ID"], worker.telemetry_id);
            assert_eq!(deadline.is_some(), plan.time_range.is_some());
        }
    }
}

#[test]
fn a_list_of_symbols_is_a_workflow_each() {
    let planner = planner_for_tests();
    let start = |body: &Value| {
        let launched = "2024-08-20T12:00:00Z".parse().unwrap();
        planner.start(body, launched, || "abc123".parse().unwrap())
    };
    let body = |symbol: Value, kind: &str| json!({"symbol": symbol, "type": kind, "time_range": "2024-08-01:2024-08-01"});
    let plans = start(&body(json!(["BTCUSDT", "ETHUSDT"]), "api_candles_1h")).unwrap();
    assert_eq!(plans.len(), 2);
    assert_eq!(
        plans[1].queue_id.as_str(),
        "wf-ethusdt-api_candles_1h-20240820-abc123"
    );
    for (symbol, kind, fields) in [
        (json!("btc"), "api_candles_1h", vec!["symbol"]),
        (
            json!(["BTCUSDT", "btc"]),
            "api_candles_1h",
            vec!["symbol[1]"],
        ),
        (
            json!(["BTCUSDT", "BTCUSDT"]),
            "api_candles_1h",
            vec!["symbol[1]"],
        ),
        (json!([5, "ETHUSDT"]), "candles", vec!["symbol[0]", "type"]),
        (json!("BTCUSDT"), "api_trades", vec!["type"]),
        (json!([]), "api_candles_1h", vec!["symbol"]),
    ] {
        let errors = start(&body(symbol, kind)).unwrap_err();
        let found: Vec<_> = errors
            .all()
            .iter()
            .map(|error| error.field.as_str())
            .collect();
        assert_eq!(found, fields, "{errors}");
    }
}

proptest! {
    #[test]
    fn no_text_makes_it_panic(symbol in ".{0,30}", kind in ".{0,30}", range in ".{0,30}", name in ".{0,30}", value in ".{0,30}") {
        let _ = plan(&json!({
            "symbol": symbol, "time_range": range,
            "microservices": [{"target": "dummy-service", "type": kind, "env": {name: value}}],
        }));
    }
}
