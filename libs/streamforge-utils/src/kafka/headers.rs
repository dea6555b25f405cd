//! Headers of a Kafka message as text.

use rdkafka::message::{Header, Headers, Message, OwnedHeaders};

use crate::protocol::{SCHEMA, SCHEMA_VERSION};

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
