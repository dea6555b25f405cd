//! The end of a partition's stream.

use serde::{Deserialize, Serialize};

use super::{QueueId, TimeRange, TimestampMs};

/// How the loader that wrote the marker ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MarkerOutcome {
    /// Everything was published. The marker is final: what follows it is not read.
    Finished,
    /// The loader was stopped by command. The marker counts only while it is the last message.
    Interrupted,
}

/// Written once to every partition when a loader has finished or was stopped by command.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Marker {
    /// The workflow.
    pub queue_id: QueueId,
    /// The run that wrote it.
    pub run: u32,
    /// Telemetry id of the loader.
    pub producer: String,
    /// Number of the partition's last record; 0 if it has none.
    pub last_seq: u64,
    /// Open time of the partition's first record, Unix ms.
    pub first_open_time: Option<TimestampMs>,
    /// Open time of the partition's last record, Unix ms.
    pub last_open_time: Option<TimestampMs>,
    /// How many partitions the loader addresses. Partitions added later are ignored.
    pub partitions: i32,
    /// What was to be loaded.
    pub time_range: TimeRange,
    /// How it ended.
    pub outcome: MarkerOutcome,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn has_the_shape_of_the_contract() {
        let marker = Marker {
            queue_id: "wf-btcusdt-api_candles_1m-20240801-abc123".parse().unwrap(),
            run: 1,
            producer: "loader-api-candles__abc123".to_owned(),
            last_seq: 1440,
            first_open_time: Some(TimestampMs(1_722_470_400_000)),
            last_open_time: Some(TimestampMs(1_722_556_740_000)),
            partitions: 1,
            time_range: "2024-08-01:2024-08-01".parse().unwrap(),
            outcome: MarkerOutcome::Finished,
        };
        insta::assert_json_snapshot!(marker);
        let text = serde_json::to_string(&marker).unwrap();
        assert_eq!(serde_json::from_str::<Marker>(&text).unwrap(), marker);
    }
}
