//! Makes the collection ready, unless it is somebody else's.
//!
//! A start by hand can name any collection. So before anything is made in it, the documents at both ends of its keys
//! are looked at, which costs two short reads of the primary index whatever its size: keys of others, such as numbers,
//! UUIDs, names and queue ids, sort before or behind `BTCUSDT_1m_1722470400000`.

use serde::Deserialize;
use streamforge_arango::{ArangoError, CollectionSpec, Database, Query};
use streamforge_utils::protocol::Interval;

use super::collection_spec;

/// Documents that are looked at at each end.
const LOOKED_AT: usize = 20;
/// Longest symbol in a key.
const MAX_SYMBOL: usize = 20;

/// Makes sure of the database and the collection with its index.
///
/// # Errors
/// If the database can't be reached until the deadline, the user may not do what is to be done, or the collection
/// holds documents whose keys are none of candles.
pub async fn prepare(database: &Database, collection: &str) -> Result<(), ArangoError> {
    let spec = collection_spec(collection);
    let bare = CollectionSpec {
        indexes: Vec::new(),
        ..spec.clone()
    };
    database.prepare(&[bare]).await?;
    check(database, collection).await?;
    database.prepare(&[spec]).await
}

async fn check(database: &Database, collection: &str) -> Result<(), ArangoError> {
    #[derive(Deserialize)]
    struct Row {
        #[serde(rename = "_key")]
        key: String,
    }
    const FIRST: &str = "FOR d IN @@collection SORT d._key ASC";
    const LAST: &str = "FOR d IN @@collection SORT d._key DESC";
    let doing = format!("looking at the keys of collection {collection:?} (COLLECTION_NAME)");
    for order in [FIRST, LAST] {
        let query = Query::new(order)
            .then("LIMIT @page_rows RETURN KEEP(d, @names)")
            .bind("@collection", collection)
            .bind("names", vec!["_key"]);
        let page = database.page::<Row>(&doing, query, LOOKED_AT).await?;
        if let Some(foreign) = page.rows.iter().find(|row| !is_candle_key(&row.key)) {
            let key: String = foreign.key.chars().take(100).collect();
            return Err(ArangoError::Permanent(format!(
                "collection {collection:?} (COLLECTION_NAME) holds a document that no candle writer made, with key \
                 {key:?}; expected keys such as \"BTCUSDT_1m_1722470400000\": choose a collection of its own"
            )));
        }
    }
    Ok(())
}

/// `{SYMBOL}_{interval}_{open_time}`, the form of this release and of all before.
fn is_candle_key(key: &str) -> bool {
    let mut parts = key.split('_');
    let (Some(symbol), Some(interval), Some(open_time), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return false;
    };
    let is_symbol = |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit();
    (1..=MAX_SYMBOL).contains(&symbol.len())
        && symbol.bytes().all(is_symbol)
        && interval.parse::<Interval>().is_ok()
        && (1..=16).contains(&open_time.len())
        && open_time.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_candles_are_told_from_all_others() {
        for ours in [
            "BTCUSDT_1m_1722470400000",
            "1INCHUSDT_1M_1722470400000",
            "BTC2X0A1B2C3D_1s_0",
        ] {
            assert!(is_candle_key(ours), "{ours}");
        }
        for other in [
            "",
            "12345",
            "conductor",
            "wf-btcusdt-dummy-20240801-abc123",
            "wf-btcusdt-dummy-20240801-abc123:0:17",
            "BTCUSDT_1m",
            "BTCUSDT_1m_",
            "BTCUSDT_1x_1722470400000",
            "btcusdt_1m_1722470400000",
            "BTCUSDT_1m_1722470400000_2",
            "0190f3c2-7d1c-7cc0-8000-000000000000",
        ] {
            assert!(!is_candle_key(other), "{other}");
        }
    }
}
