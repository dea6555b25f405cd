//! The database, as this writer needs it: batches, over what [`streamforge_arango`] shares with other services.

mod bulk;
mod own;

pub use bulk::{Bulk, Refused, WriteOptions};
pub use own::prepare;

use streamforge_arango::{CollectionSpec, IndexKind, IndexSpec};

/// The collection that candles are written into: they are looked up by their `open_time`.
pub fn collection_spec(name: &str) -> CollectionSpec {
    CollectionSpec {
        name: name.to_owned(),
        variable: Some("COLLECTION_NAME"),
        indexes: vec![IndexSpec {
            name: "open_time",
            fields: &["open_time"],
            kind: IndexKind::Persistent,
        }],
    }
}
