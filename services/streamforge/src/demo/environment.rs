//! What the workers of a demo have in their environment.

use streamforge_utils::{config::Vars, protocol::telemetry_id};

use super::plan::Workflow;
use crate::stack::Stack;

/// The whole configuration of one worker. It gets no more than it needs: a loader knows nothing of the database.
pub(super) fn worker_vars(stack: &Stack, workflow: &Workflow, service: &str) -> Vars {
    let mut vars = stack.vars();
    let other = if service == arango_candles::SERVICE {
        "BINANCE_"
    } else {
        "ARANGO_"
    };
    vars.retain(|name, _| !name.starts_with(other));
    let started = stack.started.as_millis() as f64 / 1_000.0;
    let key = if workflow.partitions > 1 {
        "record"
    } else {
        "symbol"
    };
    vars.extend(
        [
            ("QUEUE_ID", workflow.queue_id.to_string()),
            ("SYMBOL", workflow.symbol.to_string()),
            ("TYPE", workflow.kind().to_string()),
            ("TIME_RANGE", workflow.range.to_string()),
            ("KAFKA_TOPIC", workflow.data_topic.clone()),
            ("COLLECTION_NAME", workflow.collection.clone()),
            (
                "TELEMETRY_PRODUCER_ID",
                telemetry_id(service, &workflow.queue_id, 1),
            ),
            ("QUEUE_STARTED_AT", started.to_string()),
            ("TOPIC_PARTITIONS", workflow.partitions.to_string()),
            ("PARTITION_KEY", key.to_owned()),
            ("METRICS_PORT", "0".to_owned()),
            ("PROGRESS_INTERVAL_SECS", "0.2".to_owned()),
            ("RETRY_DEADLINE_SECS", "60".to_owned()),
            ("LOG_FORMAT", "text".to_owned()),
        ]
        .map(|(name, value)| (name.to_owned(), value)),
    );
    vars
}
