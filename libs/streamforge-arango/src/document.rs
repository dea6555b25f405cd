//! A document with what the server adds to it.

use http::HeaderValue;
use serde::{Deserialize, Deserializer, Serialize, de::DeserializeOwned, de::Error as _};
use serde_json::{Map, Value, value::RawValue};
use uuid::Uuid;

use crate::ArangoError;

/// What names one write, so that a writer whose answer was lost knows its own work.
const WRITE_ID: &str = "write_id";
/// Documents have some KiB; a larger one is not read into the memory that all share.
const MAX_DOCUMENT_BYTES: usize = 4 << 20;
/// How much of a reason is kept.
const MAX_REASON_CHARS: usize = 300;

/// A state of a document. Opaque: two are equal or not.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Revision(String);

impl Revision {
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// As `If-Match`.
    pub(crate) fn to_header(&self) -> Result<HeaderValue, ArangoError> {
        HeaderValue::from_str(&format!("\"{}\"", self.0))
            .map_err(|_| ArangoError::Permanent(format!("{:?} is no revision", self.0)))
    }
}

/// A document as it was read. `T` may leave out what it does not know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Document<T> {
    /// Its `_key`.
    pub key: String,
    /// Its `_rev`: what [`crate::Collection::replace`] wants.
    pub revision: Revision,
    /// Everything else.
    pub content: T,
    pub(crate) write_id: Option<String>,
}

impl<T> Document<T> {
    /// Names the write that made it, as the attribute `write_id`: of two writes, the later one by the writers' clocks
    /// has the higher text (UUIDv7 without dashes).
    pub fn write_id(&self) -> Option<&str> {
        self.write_id.as_deref()
    }
}

/// A document that is there and is not what it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unreadable {
    /// Its `_key`; empty if the row has none.
    pub key: String,
    /// Why, for people; bounded.
    pub what: String,
}

impl Unreadable {
    fn new(row: &RawValue, what: impl std::fmt::Display) -> Self {
        #[derive(Deserialize)]
        struct Keyed {
            #[serde(rename = "_key")]
            key: String,
        }
        let keyed: Option<Keyed> = serde_json::from_str(row.get()).ok();
        Self {
            key: keyed.map(|keyed| keyed.key).unwrap_or_default(),
            what: what.to_string().chars().take(MAX_REASON_CHARS).collect(),
        }
    }
}

impl<T: DeserializeOwned> Document<T> {
    /// Reads a document of a query's rows.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn read(row: &RawValue) -> Result<Self, Unreadable> {
        let bytes = row.get().len();
        if bytes > MAX_DOCUMENT_BYTES {
            let what = format!("{bytes} bytes, expected at most {MAX_DOCUMENT_BYTES}");
            return Err(Unreadable::new(row, what));
        }
        Self::read_of_any_size(row)
    }

    pub(crate) fn read_of_any_size(row: &RawValue) -> Result<Self, Unreadable> {
        serde_json::from_str(row.get()).map_err(|error| Unreadable::new(row, error))
    }
}

impl<'de, T: DeserializeOwned> Deserialize<'de> for Document<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        struct Added {
            #[serde(rename = "_key")]
            key: String,
            #[serde(rename = "_rev")]
            revision: Revision,
            write_id: Option<String>,
        }
        // Not with `flatten`, which gives numbers another form and costs a copy of everything.
        let text = Box::<RawValue>::deserialize(deserializer)?;
        let added: Added = serde_json::from_str(text.get()).map_err(D::Error::custom)?;
        Ok(Self {
            key: added.key,
            revision: added.revision,
            content: serde_json::from_str(text.get()).map_err(D::Error::custom)?,
            write_id: added.write_id,
        })
    }
}

/// A document on its way to the server.
pub(crate) struct Written {
    pub(crate) attributes: Map<String, Value>,
    pub(crate) write_id: String,
}

impl Written {
    /// # Errors
    /// If `content` is no JSON object.
    pub(crate) fn new<T: Serialize>(key: &str, content: &T) -> Result<Self, ArangoError> {
        let mut attributes = match serde_json::to_value(content) {
            Ok(Value::Object(attributes)) => attributes,
            Ok(_) => {
                let what = format!("document {key:?} is no JSON object");
                return Err(ArangoError::Permanent(what));
            }
            Err(error) => {
                let what = format!("document {key:?} is no JSON: {error}");
                return Err(ArangoError::Permanent(what));
            }
        };
        let write_id = Uuid::now_v7().simple().to_string();
        attributes.insert("_key".to_owned(), key.into());
        attributes.insert(WRITE_ID.to_owned(), write_id.as_str().into());
        Ok(Self {
            attributes,
            write_id,
        })
    }

    pub(crate) fn to_body(&self) -> bytes::Bytes {
        serde_json::to_vec(&self.attributes)
            .expect("a map of JSON values is JSON")
            .into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_is_told_from_what_the_server_adds() {
        #[derive(Debug, PartialEq, Serialize, Deserialize)]
        struct Content {
            price: f64,
            open_time: u64,
        }
        let content = Content {
            price: 0.1,
            open_time: 1_722_470_400_000,
        };
        let mut written = Written::new("k", &content).unwrap();
        written
            .attributes
            .insert("_rev".to_owned(), Value::from("_a1"));
        let read: Document<Content> = serde_json::from_slice(&written.to_body()).unwrap();
        assert_eq!((read.key.as_str(), &read.revision.0[..]), ("k", "_a1"));
        assert_eq!(read.content, content);
        assert_eq!(read.write_id, Some(written.write_id));
        assert_eq!(read.revision.to_header().unwrap(), "\"_a1\"");
    }

    #[test]
    fn what_is_no_object_is_no_document() {
        let error = Written::new("k", &7).err().unwrap();
        assert_eq!(error.to_string(), "document \"k\" is no JSON object");
    }
}
