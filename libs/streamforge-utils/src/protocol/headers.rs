//! Names of the Kafka headers. Values are UTF-8 text.

/// On every message of every topic: the version of the schema of its value.
pub const SCHEMA: &str = "streamforge-schema";
/// The value of [`SCHEMA`] that this code writes and reads.
pub const SCHEMA_VERSION: &str = "1";

/// On every data record: its number among the distinct records of its partition, from 1.
pub const SEQ: &str = "streamforge-seq";

/// On an end-of-stream marker, with the value [`EOS_VALUE`].
pub const EOS: &str = "streamforge-eos";
/// The value of [`EOS`].
pub const EOS_VALUE: &str = "1";

/// On a dead letter: why it was rejected, as one word.
pub const DLQ_REASON: &str = "streamforge-dlq-reason";
/// On a dead letter: the whole error.
pub const DLQ_ERROR: &str = "streamforge-dlq-error";
/// On a dead letter: the topic it came from.
pub const DLQ_TOPIC: &str = "streamforge-dlq-topic";
/// On a dead letter: the partition it came from.
pub const DLQ_PARTITION: &str = "streamforge-dlq-partition";
/// On a dead letter: its offset in that partition.
pub const DLQ_OFFSET: &str = "streamforge-dlq-offset";
/// On a dead letter whose value did not fit into its topic and was left out: how many bytes the value had.
pub const DLQ_SIZE: &str = "streamforge-dlq-size";
/// On a dead letter: the telemetry id of the writer that rejected it.
pub const DLQ_PRODUCER: &str = "streamforge-dlq-producer";

/// On a dead letter that was put back into its data topic: `topic/partition/offset` of the record it was made of. Such a
/// record has no [`SEQ`], no [`EOS`] and no `streamforge-dlq-*` header; writers write it, and it never counts for
/// numbering, for the end of a stream or for a loader's resume.
pub const REPLAY: &str = "streamforge-replay";
