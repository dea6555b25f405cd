//! Headers of a Kafka message as text.

use rdkafka::message::{Header, Headers, Message, OwnedHeaders};

use crate::protocol::{DLQ_TOPIC, REPLAY, SCHEMA, SCHEMA_VERSION};

/// The schema header, which every message has, and `more`.
pub fn with(more: &[(&str, &str)]) -> OwnedHeaders {
    let first = OwnedHeaders::new_with_capacity(more.len() + 1).insert(Header {
        key: SCHEMA,
        value: Some(SCHEMA_VERSION),
    });
    more.iter().fold(first, |headers, (key, value)| {
        headers.insert(Header {
            key,
            value: Some(*value),
        })
    })
}

/// The value of the last header with this name; `None` if there is none or it is no UTF-8.
pub fn get<'m, M: Message>(message: &'m M, name: &str) -> Option<&'m str>
where
    M::Headers: 'm,
{
    let headers = message.headers()?;
    (0..headers.count())
        .rev()
        .map(|index| headers.get(index))
        .find(|header| header.key == name)
        .and_then(|header| std::str::from_utf8(header.value?).ok())
}

/// Whether the message is a dead letter that was put back: it carries [`REPLAY`], or, from a tool that copies headers
/// as they are, those of the dead letter itself. Its other headers then say nothing about the numbers of its partition.
pub fn is_replayed<M: Message>(message: &M) -> bool {
    message.headers().is_some_and(|headers| {
        headers
            .iter()
            .any(|header| [REPLAY, DLQ_TOPIC].contains(&header.key))
    })
}

#[cfg(test)]
mod tests {
    use rdkafka::{Timestamp, message::OwnedMessage};

    use super::*;
    use crate::protocol::SEQ;

    #[test]
    fn recognizes_replayed_records_by_their_headers() {
        let message = |more: &[(&str, &str)]| {
            let timestamp = Timestamp::NotAvailable;
            let topic = "wf-x-data".to_owned();
            OwnedMessage::new(None, None, topic, timestamp, 0, 0, Some(with(more)))
        };
        assert!(is_replayed(&message(&[(REPLAY, "wf-x-data/0/7")])));
        let copied = [(DLQ_TOPIC, "wf-x-data"), (SEQ, "8")];
        assert!(is_replayed(&message(&copied)));
        assert!(!is_replayed(&message(&[(SEQ, "8")])));
        assert!(!is_replayed(&message(&[])));
    }
}
