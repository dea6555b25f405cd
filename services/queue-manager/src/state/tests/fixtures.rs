//! Workflows and events that tests are made of.

use std::collections::BTreeMap;

use streamforge_utils::protocol::{Event, EventKind, InterruptReason, RecordCounts, TimestampMs};

use crate::{
    plan::{Plan, PlannedWorker, Role},
    state::{Applied, Position, Workflow},
};

pub(crate) const LOADER: &str = "loader-api-candles__abc123";
pub(crate) const WRITER: &str = "arango-candles__abc123";
pub(crate) const SECOND: &str = "arango-candles__abc123-2";
/// When everything begins.
pub(crate) const T0: TimestampMs = TimestampMs(1_722_500_000_000);

pub(crate) fn at(secs: i64) -> TimestampMs {
    T0 + secs * 1_000
}

fn worker(target: &str, role: Role, nth: u32) -> PlannedWorker {
    let suffix = if nth > 1 {
        format!("-{nth}")
    } else {
        String::new()
    };
    PlannedWorker {
        target: target.to_owned(),
        role,
        telemetry_id: format!("{target}__abc123{suffix}"),
        job_name: format!("job-{target}-btcusdt-abc123{suffix}"),
        image: format!("streamforge/{target}:0.1.0"),
        collection_name: (role == Role::Writer)
            .then(|| format!("btcusdt_api_candles_1m_2024_08_01{suffix}")),
        env: BTreeMap::from([("SYMBOL".to_owned(), "BTCUSDT".to_owned())]),
        is_historical: role != Role::Dummy,
    }
}

/// A loader and so many writers, each with a collection of its own.
pub(crate) fn plan(writers: u32) -> Plan {
    let mut workers = vec![worker("loader-api-candles", Role::Loader, 1)];
    workers.extend((1..=writers).map(|nth| worker("arango-candles", Role::Writer, nth)));
    Plan {
        queue_id: "wf-btcusdt-api_candles_1m-20240801-abc123".parse().unwrap(),
        run: 1,
        symbol: "BTCUSDT".parse().unwrap(),
        kind: "api_candles_1m".parse().unwrap(),
        time_range: Some("2024-08-01:2024-08-01".parse().unwrap()),
        launched: T0,
        kafka_topic: Some("wf-btcusdt-api_candles_1m-20240801-abc123-data".to_owned()),
        partitions: 1,
        replication: None,
        retention_hours: 168,
        workers,
    }
}

/// A workflow whose turn it is and whose topic is there.
pub(crate) fn workflow(writers: u32) -> Workflow {
    let mut workflow = Workflow::new(&plan(writers), "process", T0);
    workflow.admit(T0);
    workflow.prepared(T0);
    workflow
}

/// The name of the `nth` process, later ones above earlier ones.
pub(crate) fn instance(nth: u64) -> String {
    format!("018f0000-0000-7000-8000-{nth:012}")
}

/// What the `nth` process of a part says first, at T0.
pub(crate) fn event(producer: &str, nth: u64, kind: EventKind) -> Event {
    Event {
        queue_id: "wf-btcusdt-api_candles_1m-20240801-abc123".to_owned(),
        run: 1,
        producer: producer.to_owned(),
        instance: instance(nth),
        seq: 1,
        service: producer.split("__").next().unwrap().to_owned(),
        service_version: "0.1.0".to_owned(),
        symbol: "BTCUSDT".to_owned(),
        kind: "api_candles_1m".to_owned(),
        event: kind,
        status: (kind != EventKind::Pong).then_some(kind),
        message: kind.as_str().to_owned(),
        records: RecordCounts::default(),
        last_progress_at: None,
        finished: kind.is_terminal(),
        timestamp: T0.as_millis() as f64 / 1_000.0,
        gaps: None,
        error_message: None,
        retryable: None,
        reason: None,
        ping_ts: None,
        ponged_at: None,
    }
}

/// Applies events as one partition would bring them, each a second after the one before unless told.
pub(crate) struct Feed {
    pub(crate) offset: i64,
    pub(crate) secs: i64,
    seqs: BTreeMap<String, u64>,
}

impl Feed {
    pub(crate) fn new() -> Self {
        Self {
            offset: 0,
            secs: 0,
            seqs: BTreeMap::new(),
        }
    }

    pub(crate) fn position(&mut self) -> Position {
        self.offset += 1;
        self.secs += 1;
        Position {
            partition: 0,
            offset: self.offset,
            appended: at(self.secs),
        }
    }

    /// Says `event` as the next of its process.
    pub(crate) fn say(&mut self, workflow: &mut Workflow, event: Event) -> Applied {
        let seq = self.seqs.entry(event.instance.clone()).or_default();
        *seq += 1;
        let event = Event { seq: *seq, ..event };
        let position = self.position();
        let timestamp = position.appended.as_millis() as f64 / 1_000.0;
        let event = Event { timestamp, ..event };
        workflow.apply(position, &event, at(1_000_000))
    }
}

pub(crate) fn loading(producer: &str, nth: u64, written: u64, total: Option<u64>) -> Event {
    Event {
        records: RecordCounts {
            written,
            total,
            ..RecordCounts::default()
        },
        ..event(producer, nth, EventKind::Loading)
    }
}

pub(crate) fn finished(producer: &str, nth: u64, written: u64) -> Event {
    Event {
        event: EventKind::Finished,
        ..loading(producer, nth, written, Some(written))
    }
}

pub(crate) fn interrupted(producer: &str, nth: u64, reason: InterruptReason) -> Event {
    Event {
        reason: Some(reason),
        ..event(producer, nth, EventKind::Interrupted)
    }
}

pub(crate) fn failed(producer: &str, nth: u64, retryable: bool) -> Event {
    Event {
        error_message: Some("no broker".to_owned()),
        retryable: Some(retryable),
        ..event(producer, nth, EventKind::Error)
    }
}
