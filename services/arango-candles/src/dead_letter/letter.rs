//! What a dead letter consists of. Pure.

use rdkafka::{
    Message,
    message::{Header, Headers, OwnedHeaders, OwnedMessage},
};
use streamforge_utils::protocol::{
    DLQ_ERROR, DLQ_OFFSET, DLQ_PARTITION, DLQ_PRODUCER, DLQ_REASON, DLQ_SIZE, DLQ_TOPIC, SCHEMA,
    SCHEMA_VERSION,
};

use crate::record::Rejection;

/// How much of a text goes into a header of ours, in characters; and of a foreign header, in bytes, where it did not fit.
const MAX_TEXT: usize = 1_000;
/// How many foreign headers are kept where they did not fit.
const MAX_HEADERS: usize = 50;
/// Of an earlier rejection, if the record is a dead letter that was put back.
const OURS: &str = "streamforge-dlq-";

/// A dead letter, as it is sent.
#[derive(Debug)]
pub(super) struct Letter<'m> {
    pub(super) key: Option<&'m [u8]>,
    pub(super) payload: Option<&'m [u8]>,
    pub(super) headers: OwnedHeaders,
}

impl<'m> Letter<'m> {
    /// The whole record, and what is to be known of its rejection.
    pub(super) fn of(message: &'m OwnedMessage, rejection: &Rejection, producer_id: &str) -> Self {
        let headers =
            own_headers(message).fold(OwnedHeaders::new(), |headers, own| headers.insert(own));
        Self {
            key: message.key(),
            payload: message.payload(),
            headers: with_ours(headers, message, rejection, producer_id),
        }
    }

    /// The record without its value, and of its headers as much as surely fits.
    pub(super) fn without_value(
        message: &'m OwnedMessage,
        rejection: &Rejection,
        producer_id: &str,
    ) -> Self {
        let fits = |header: &Header<'_, &[u8]>| header.key.len() <= MAX_TEXT;
        let headers = own_headers(message).filter(fits).take(MAX_HEADERS).fold(
            OwnedHeaders::new(),
            |headers, Header { key, value }| {
                let value = value.map(|value| &value[..value.len().min(MAX_TEXT)]);
                headers.insert(Header { key, value })
            },
        );
        let size = message.payload().map_or(0, <[u8]>::len).to_string();
        let headers = headers.insert(Header {
            key: DLQ_SIZE,
            value: Some(&size),
        });
        Self {
            key: message.key().filter(|key| key.len() <= MAX_TEXT),
            payload: None,
            headers: with_ours(headers, message, rejection, producer_id),
        }
    }
}

fn own_headers(message: &OwnedMessage) -> impl Iterator<Item = Header<'_, &[u8]>> {
    let headers = message.headers();
    headers
        .into_iter()
        .flat_map(|headers| headers.iter())
        .filter(|header| !header.key.starts_with(OURS))
}

fn with_ours(
    headers: OwnedHeaders,
    message: &OwnedMessage,
    rejection: &Rejection,
    producer_id: &str,
) -> OwnedHeaders {
    let ours = [
        (DLQ_REASON, rejection.reason.as_str()),
        (DLQ_ERROR, &rejection.error),
        (DLQ_TOPIC, message.topic()),
        (DLQ_PARTITION, &message.partition().to_string()),
        (DLQ_OFFSET, &message.offset().to_string()),
        (DLQ_PRODUCER, producer_id),
        // Last, so that it counts even where the record came with another one.
        (SCHEMA, SCHEMA_VERSION),
    ];
    ours.into_iter().fold(headers, |headers, (key, value)| {
        let value: String = value.chars().take(MAX_TEXT).collect();
        headers.insert(Header {
            key,
            value: Some(&value),
        })
    })
}
