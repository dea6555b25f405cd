//! What decides which partition a record belongs to. Pure; the rule itself is the protocol's.

use serde::Deserialize;

pub use streamforge_utils::protocol::partition_of;

/// `PARTITION_KEY`: what a record's Kafka key is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PartitionKey {
    /// The symbol: one symbol stays in one partition, in order.
    #[default]
    Symbol,
    /// The record's `_key`: one symbol is spread over all partitions, so that several writers can share it.
    Record,
}

impl PartitionKey {
    /// The partitions that records of `symbol` can be in.
    pub fn reachable(self, symbol: &str, partitions: i32) -> Vec<i32> {
        match self {
            Self::Symbol => vec![partition_of(symbol, partitions)],
            Self::Record => (0..partitions).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_symbol_reaches_one_partition_and_its_records_reach_all() {
        assert_eq!(
            PartitionKey::Symbol.reachable("BTCUSDT", 7),
            [partition_of("BTCUSDT", 7)]
        );
        assert_eq!(PartitionKey::Record.reachable("BTCUSDT", 3), [0, 1, 2]);
    }
}
