//! What crosses a process boundary: commands, events, records and the names of things, as serde types.
//!
//! Nothing in here connects to anything, and it imports no other module of this crate. The contract itself is
//! written down in `docs/protocol.md`; a changed snapshot in `tests/snapshots` is a changed protocol.

mod candle;
mod command;
mod end;
mod event;
mod grid;
mod headers;
mod interval;
mod marker;
mod names;
mod partition;
mod sequence;
mod time_range;
mod timestamp;

pub use candle::{Candle, CandleError, Decimal, Numbers};
pub use command::{Command, CommandKind, CommandPayload};
pub use end::{End, Verdict, judge_ends, total_of_ends};
pub use event::{Event, EventKind, Gap, InterruptReason, RecordCounts};
pub use grid::Grid;
pub use headers::{
    DLQ_ERROR, DLQ_OFFSET, DLQ_PARTITION, DLQ_PRODUCER, DLQ_REASON, DLQ_SIZE, DLQ_TOPIC, EOS,
    EOS_VALUE, REPLAY, SCHEMA, SCHEMA_VERSION, SEQ,
};
pub use interval::{Interval, UnknownInterval};
pub use marker::{Marker, MarkerOutcome};
pub use names::{
    InvalidName, QueueId, RESERVED_PREFIX, Short, Symbol, WorkflowKind, collection_name,
    data_topic, dead_letter_topic, group_id, is_reserved_collection, job_name, new_queue_id,
    queue_id, short_of, telemetry_id,
};
pub use partition::partition_of;
pub use sequence::{Lost, Sequence, Step};
pub use time_range::{InvalidTimeRange, TimeRange};
pub use timestamp::TimestampMs;
