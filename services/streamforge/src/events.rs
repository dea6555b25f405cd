//! What workers say on `queue-events`: the last word of each.
//!
//! The topic is read by assignment from its beginning, so nothing that was said before the reader was up is missed.

use std::collections::BTreeMap;

use rdkafka::{
    Message, Offset, TopicPartitionList,
    consumer::{Consumer, StreamConsumer},
    error::KafkaError,
};
use streamforge_utils::{
    config::KafkaConfig,
    kafka::{self, KafkaContext},
    protocol::{Event, EventKind, QueueId},
};
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

const TOPIC: &str = "queue-events";
const CLIENT_ID: &str = "streamforge-events";

/// The last event of every worker that has spoken.
#[derive(Debug, Clone, Default)]
pub(crate) struct Board {
    /// By queue id and service.
    last: BTreeMap<(String, String), Event>,
}

impl Board {
    /// What this worker said last.
    pub(crate) fn last(&self, queue_id: &QueueId, service: &str) -> Option<&Event> {
        self.last.get(&(queue_id.to_string(), service.to_owned()))
    }

    /// The workflows whose workers have spoken.
    pub(crate) fn queue_ids(&self) -> impl Iterator<Item = QueueId> {
        // What is no queue id can't be one of ours.
        self.last.keys().filter_map(|(id, _)| id.parse().ok())
    }

    /// Takes an event in; whether anything changed. A process that was started again speaks for those before it:
    /// instances are UUIDs of version 7, which sort by their time.
    fn note(&mut self, event: Event) -> bool {
        if event.event == EventKind::Pong {
            return false;
        }
        let key = (event.queue_id.clone(), event.service.clone());
        let known = self.last.get(&key);
        let newer =
            known.is_none_or(|known| (&known.instance, known.seq) < (&event.instance, event.seq));
        if newer {
            self.last.insert(key, event);
        }
        newer
    }
}

/// Follows the topic until this is dropped.
pub(crate) struct Events {
    board: watch::Receiver<Board>,
    _reading: AbortOnDropHandle<()>,
}

impl Events {
    /// # Errors
    /// librdkafka refuses the configuration.
    pub(crate) fn follow(kafka: &KafkaConfig) -> Result<Self, KafkaError> {
        let consumer: StreamConsumer<KafkaContext> =
            kafka::consumer_config(kafka, CLIENT_ID, CLIENT_ID, kafka::CONTROL_QUEUE_KIB)
                .create_with_context(KafkaContext::default())?;
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(TOPIC, 0, Offset::Beginning)?;
        consumer.assign(&list)?;
        let (to_board, board) = watch::channel(Board::default());
        let reading = tokio::spawn(async move {
            loop {
                // Ends of partitions and lost connections come as errors too; librdkafka goes on by itself.
                let Ok(message) = consumer.recv().await else {
                    continue;
                };
                match serde_json::from_slice::<Event>(message.payload().unwrap_or_default()) {
                    Ok(event) => _ = to_board.send_if_modified(|board| board.note(event)),
                    Err(error) => {
                        tracing::warn!(%error, offset = message.offset(), "Skipped a message that is no event");
                    }
                }
            }
        });
        Ok(Self {
            board,
            _reading: AbortOnDropHandle::new(reading),
        })
    }

    /// The board as it changes.
    pub(crate) fn board(&self) -> watch::Receiver<Board> {
        self.board.clone()
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use serde_json::json;

    use super::*;

    pub(crate) const QUEUE: &str = "wf-btcusdt-api_candles_1m-20240801-abc123";

    /// An event of a worker of `QUEUE`, with the fields of `more`.
    pub(crate) fn event(service: &str, kind: &str, more: serde_json::Value) -> Event {
        let mut event = json!({
            "queue_id": QUEUE, "run": 1, "producer": "p", "instance": "018f0000", "seq": 1, "service": service,
            "service_version": "0.1.0", "symbol": "BTCUSDT", "type": "api_candles_1m", "event": kind,
            "message": "", "records_written": 0, "finished": false, "timestamp": 0.0,
        });
        let fields = more.as_object().cloned().unwrap_or_default();
        event.as_object_mut().unwrap().extend(fields);
        serde_json::from_value(event).unwrap()
    }

    /// A board with these events.
    pub(crate) fn board(events: impl IntoIterator<Item = Event>) -> Board {
        let mut board = Board::default();
        for event in events {
            board.note(event);
        }
        board
    }

    #[test]
    fn the_last_word_of_the_last_process_counts() {
        let queue: QueueId = QUEUE.parse().unwrap();
        let mut board = Board::default();
        let mut note = |kind, instance: &str, seq: u64| {
            board.note(event("s", kind, json!({"instance": instance, "seq": seq})))
        };
        assert!(note("started", "018f0001", 1));
        assert!(note("error", "018f0001", 2));
        assert!(note("started", "018f0002", 1));
        assert!(
            !note("loading", "018f0001", 3),
            "an earlier process has nothing to say any more"
        );
        assert!(!note("pong", "018f0002", 2));
        assert_eq!(board.last(&queue, "s").unwrap().instance, "018f0002");
        assert!(board.last(&queue, "t").is_none());
    }
}
