//! What can be asked for, as JSON: the bodies of the requests that start and stop workflows.
//!
//! A body is read leniently, so that one answer can name everything that is wrong with it: fields of the wrong form are
//! noted and left out, and the rest is still checked. What the values mean is [`crate::plan`]'s to check.

mod faults;
mod json;

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;
use streamforge_utils::protocol::QueueId;
use utoipa::ToSchema;

pub use faults::{FieldError, FieldErrors};
pub(crate) use json::Object;

/// Most workers of a workflow.
pub const MOST_MICROSERVICES: usize = 16;
/// Most symbols of one request.
pub const MOST_SYMBOLS: usize = 100;
/// Most variables that a request sets, for one worker or for a flow.
pub const MOST_VARIABLES: usize = 32;
/// Longest text of a field, in bytes, but for those below.
pub const LONGEST_TEXT: usize = 256;
/// Longest value of a variable, in bytes.
pub const LONGEST_VALUE: usize = 1_024;

/// `POST /queues/start-pipeline`: a workflow, worker by worker.
#[derive(Debug, Clone, Default, PartialEq, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({
    "symbol": "BTCUSDT",
    "time_range": "2024-08-01:2024-08-31",
    "microservices": [
        {"target": "loader-api-candles", "type": "api_candles_1m"},
        {"target": "arango-candles", "type": "api_candles_1m", "env": {"BATCH_MAX_RECORDS": "2000"}}
    ]
}))]
pub struct StartPipeline {
    /// The trading pair, in the exchange's upper case.
    #[schema(value_type = String, required = true, pattern = "^[A-Z0-9]{2,20}$", example = "BTCUSDT")]
    pub symbol: Option<String>,
    /// What to load, UTC: two days, both inclusive, or two ISO 8601 instants with a / between them, end exclusive.
    /// Needed by types of the past, refused by others.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 256, example = "2024-08-01:2024-08-31")]
    pub time_range: Option<String>,
    /// The workers: one that fills the topic and those that empty it, or dummies only.
    #[schema(min_items = 1, max_items = 16)]
    pub microservices: Vec<Microservice>,
}

/// One worker of a workflow.
#[derive(Debug, Clone, Default, PartialEq, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Microservice {
    /// The service.
    #[schema(value_type = String, required = true, max_length = 256, example = "loader-api-candles")]
    pub target: Option<String>,
    /// What the workflow moves; the same for all its workers. Case counts: 1m is a minute, 1M a month.
    #[serde(rename = "type")]
    #[schema(value_type = String, required = true, example = "api_candles_1m",
        pattern = "^((api|ws)_candles_(1s|1m|3m|5m|15m|30m|1h|2h|4h|6h|8h|12h|1d|3d|1w|1M)|api_trades|ws_trades|ws_orderbook|dummy)$")]
    pub kind: Option<String>,
    /// Must agree with the interval in the type.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 256, example = "1m")]
    pub interval: Option<String>,
    /// Another container image; the operator's list says which are allowed.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 256)]
    pub image: Option<String>,
    /// Where a writer writes; default {symbol}_{type}_{first day}.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 256, example = "btcusdt_api_candles_1m_2024_08_01")]
    pub collection_name: Option<String>,
    /// Variables of the worker. Each service has a list of those that may be set.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    #[schema(value_type = BTreeMap<String, Scalar>, required = false)]
    pub env: BTreeMap<String, String>,
}

/// `POST /queues/start`: a loader and a writer for one type; a list of symbols starts one workflow each.
#[derive(Debug, Clone, Default, PartialEq, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"symbol": "BTCUSDT", "type": "api_candles_1m", "time_range": "2024-08-01:2024-08-31"}))]
pub struct Start {
    /// One trading pair, or a list of them.
    #[schema(value_type = OneOrMore, required = true)]
    pub symbol: Symbols,
    /// What to move.
    #[serde(rename = "type")]
    #[schema(value_type = String, required = true, max_length = 256, example = "api_candles_1m")]
    pub kind: Option<String>,
    /// What to load, UTC: two days, both inclusive, or two ISO 8601 instants with a / between them, end exclusive.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 256, example = "2024-08-01:2024-08-31")]
    pub time_range: Option<String>,
}

/// The symbols of a [`Start`], and whether they were a list.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Symbols {
    /// Each, or None where it had not the form of text.
    pub all: Vec<Option<String>>,
    /// Whether they were a list.
    pub is_list: bool,
}

impl Serialize for Symbols {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.all.as_slice() {
            [one] if !self.is_list => one.serialize(serializer),
            all => all.serialize(serializer),
        }
    }
}

/// One trading pair or a list of them, for the document of the API.
#[derive(Debug, ToSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "describes what Symbols reads")]
enum OneOrMore {
    One(String),
    More(Vec<String>),
}

/// A variable's value: text, or what has an obvious text.
#[derive(Debug, ToSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "describes what an object of variables reads")]
enum Scalar {
    Text(String),
    Number(f64),
    Flag(bool),
}

/// `POST /queues/start-test-flow`: a workflow that the operator has written down.
#[derive(Debug, Clone, Default, PartialEq, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"flow_name": "default_candles_flow", "symbol": "ETHUSDT"}))]
pub struct StartTestFlow {
    /// Its name.
    #[schema(value_type = String, required = true, max_length = 256, example = "dummy_flow")]
    pub flow_name: Option<String>,
    /// Instead of the flow's own symbol.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(pattern = "^[A-Z0-9]{2,20}$", example = "ETHUSDT")]
    pub symbol: Option<String>,
    /// Instead of the flow's own range.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 256, example = "2024-08-01:2024-08-02")]
    pub time_range: Option<String>,
    /// Variables for every worker of the flow that takes them.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    #[schema(value_type = BTreeMap<String, Scalar>, required = false)]
    pub extra_params: BTreeMap<String, String>,
}

/// `POST /queues/stop`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"queue_id": "wf-btcusdt-api_candles_1m-20240801-abc123", "drain": true}))]
pub struct Stop {
    /// The workflow.
    #[schema(value_type = String, required = true, pattern = "^wf-[a-zA-Z0-9._-]{1,125}$",
        example = "wf-btcusdt-api_candles_1m-20240801-abc123")]
    pub queue_id: Option<String>,
    /// true: the loader ends, and the writers empty the topic first.
    #[schema(required = false, default = false)]
    pub drain: bool,
}

impl StartPipeline {
    /// Reads a body; what is wrong with its form goes into `errors` and is left out.
    pub fn read(body: &Value, errors: &mut FieldErrors) -> Self {
        let mut read = Self::default();
        let Some(mut object) = Object::new(body, "", errors) else {
            return read;
        };
        read.symbol = object.required_text("symbol", errors);
        read.time_range = object.text("time_range", errors);
        let path = object.path("microservices");
        match object.take("microservices") {
            Some(Value::Array(all)) if (1..=MOST_MICROSERVICES).contains(&all.len()) => {
                read.microservices = all
                    .iter()
                    .enumerate()
                    .map(|(nth, one)| Microservice::read(one, &format!("{path}[{nth}]"), errors))
                    .collect();
            }
            found => errors.unfit(
                &path,
                found,
                &format!("a list of 1 to {MOST_MICROSERVICES} workers"),
            ),
        }
        object.refuse_the_rest(errors);
        read
    }
}

impl Microservice {
    /// A worker with nothing but a target and a type.
    pub fn new(target: &str, kind: &str) -> Self {
        Self {
            target: Some(target.to_owned()),
            kind: Some(kind.to_owned()),
            ..Self::default()
        }
    }

    fn read(value: &Value, path: &str, errors: &mut FieldErrors) -> Self {
        let mut read = Self::default();
        let Some(mut object) = Object::new(value, path, errors) else {
            return read;
        };
        read.target = object.required_text("target", errors);
        read.kind = object.required_text("type", errors);
        read.interval = object.text("interval", errors);
        read.image = object.text("image", errors);
        read.collection_name = object.text("collection_name", errors);
        read.env = object.variables("env", errors);
        object.refuse_the_rest(errors);
        read
    }
}

impl Start {
    /// Reads a body; what is wrong with its form goes into `errors` and is left out.
    pub fn read(body: &Value, errors: &mut FieldErrors) -> Self {
        let mut read = Self::default();
        let Some(mut object) = Object::new(body, "", errors) else {
            return read;
        };
        match object.take("symbol") {
            Some(Value::Array(all)) if (1..=MOST_SYMBOLS).contains(&all.len()) => {
                let texts = all.iter().enumerate();
                read.symbol = Symbols {
                    all: texts
                        .map(|(nth, one)| {
                            json::text_of(&format!("symbol[{nth}]"), Some(one), errors)
                        })
                        .collect(),
                    is_list: true,
                };
            }
            one @ Some(Value::String(_)) => {
                read.symbol.all = vec![json::text_of("symbol", one, errors)];
            }
            found => errors.unfit(
                "symbol",
                found,
                &format!("a symbol, such as BTCUSDT, or a list of 1 to {MOST_SYMBOLS} of them"),
            ),
        }
        read.kind = object.required_text("type", errors);
        read.time_range = object.text("time_range", errors);
        object.refuse_the_rest(errors);
        read
    }
}

impl StartTestFlow {
    /// Reads a body; what is wrong with its form goes into `errors` and is left out.
    pub fn read(body: &Value, errors: &mut FieldErrors) -> Self {
        let mut read = Self::default();
        let Some(mut object) = Object::new(body, "", errors) else {
            return read;
        };
        read.flow_name = object.required_text("flow_name", errors);
        read.symbol = object.text("symbol", errors);
        read.time_range = object.text("time_range", errors);
        read.extra_params = object.variables("extra_params", errors);
        object.refuse_the_rest(errors);
        read
    }
}

impl Stop {
    /// The workflow and whether it is drained.
    ///
    /// # Errors
    /// Everything that is wrong with the body.
    pub fn checked(body: &Value) -> Result<(QueueId, bool), FieldErrors> {
        let mut errors = FieldErrors::default();
        let mut asked = None;
        if let Some(mut object) = Object::new(body, "", &mut errors) {
            let id = object.required_text("queue_id", &mut errors);
            let id = id.and_then(|text| match text.parse::<QueueId>() {
                Ok(id) => Some(id),
                Err(_) => {
                    let expected = "wf- and then up to 125 of a-z A-Z 0-9 . _ -";
                    errors.wrong("queue_id", &text, expected);
                    None
                }
            });
            let drain = object.flag("drain", &mut errors);
            object.refuse_the_rest(&mut errors);
            asked = id.map(|id| (id, drain));
        }
        errors.or(asked)
    }
}

#[cfg(test)]
mod tests;
