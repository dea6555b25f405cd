//! Ended workflows, as if they had run: each is one that was started, under another name, after its workers' events.

use std::collections::BTreeMap;

use futures::{StreamExt, stream};
use queue_manager::state::{Position, Status, Workflow};
use streamforge_utils::protocol::{Event, EventKind, RecordCounts, TimestampMs, new_queue_id};

use crate::stage::{SYMBOLS, Stage};

/// Documents that are stored at a time.
const AT_A_TIME: usize = 16;
/// A workflow began every so many milliseconds.
const APART: i64 = 60_000;

/// What a worker of a workflow would say.
pub(crate) fn event(
    workflow: &Workflow,
    part: usize,
    instance: &str,
    seq: u64,
    kind: EventKind,
) -> Event {
    let part = &workflow.parts[part];
    let now = TimestampMs::now().as_millis() as f64 / 1e3;
    let written = seq * 10;
    Event {
        queue_id: workflow.queue_id.to_string(),
        run: workflow.run,
        producer: part.telemetry_id.clone(),
        instance: instance.to_owned(),
        seq,
        service: part.target.clone(),
        service_version: env!("CARGO_PKG_VERSION").to_owned(),
        symbol: workflow.symbol.to_string(),
        kind: workflow.kind.to_string(),
        event: kind,
        status: Some(kind),
        message: format!("{written} of 44640 records"),
        records: RecordCounts {
            written,
            total: Some(44_640),
            ..RecordCounts::default()
        },
        last_progress_at: Some(now),
        finished: kind == EventKind::Finished,
        timestamp: now,
        gaps: None,
        error_message: None,
        retryable: None,
        reason: None,
        ping_ts: None,
        ponged_at: None,
    }
}

/// Stores as many as asked for.
pub(crate) async fn fill(stage: &Stage, like: &Workflow, count: u32) {
    let workflows = stage.store.workflows::<Workflow>();
    let now = TimestampMs::now();
    let storing = stream::iter(0..count).for_each_concurrent(AT_A_TIME, |number| {
        let workflows = workflows.clone();
        async move {
            let ended = ended(like, number, now);
            workflows.insert(&ended.queue_id, &ended).await.unwrap();
        }
    });
    storing.await;
}

fn ended(like: &Workflow, number: u32, now: TimestampMs) -> Workflow {
    let mut workflow = like.clone();
    workflow.symbol = SYMBOLS[number as usize % SYMBOLS.len()].parse().unwrap();
    let at = now - APART * i64::from(number + 1);
    workflow.queue_id = new_queue_id(&workflow.symbol, workflow.kind, at);
    workflow.created_at = at;
    workflow.positions = BTreeMap::new();
    workflow.retention.deleted_at = Some(at);
    let mut offset = 0;
    for part in 0..workflow.parts.len() {
        let instance = uuid::Uuid::now_v7().to_string();
        let kinds = [EventKind::Started, EventKind::Loading, EventKind::Finished];
        for (seq, kind) in (1..).zip(kinds) {
            let said = event(&workflow, part, &instance, seq, kind);
            let position = Position {
                partition: 0,
                offset,
                appended: at,
            };
            workflow.apply(position, &said, now);
            offset += 1;
        }
    }
    // They are of a time before the topic that there is now.
    workflow.positions = BTreeMap::new();
    assert_eq!(workflow.status, Status::Finished);
    workflow
}
