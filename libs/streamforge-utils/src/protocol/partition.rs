//! Which partition a key belongs to. Pure.
//!
//! Loaders address partitions themselves, so that the number they began with stays in force when partitions are added
//! to the topic. The rule is librdkafka's `consistent` partitioner: CRC-32 of the key, modulo the number of
//! partitions ([`rd_kafka_msg_partitioner_consistent`]).
//!
//! [`rd_kafka_msg_partitioner_consistent`]: https://docs.confluent.io/platform/current/clients/librdkafka/html/rdkafka_8h.html

/// The partition, from 0, of `key` among `partitions` of them.
///
/// # Panics
/// If there is no partition.
pub fn partition_of(key: &str, partitions: i32) -> i32 {
    let count = u32::try_from(partitions).expect("a topic has partitions");
    let partition = crc32fast::hash(key.as_bytes()) % count;
    i32::try_from(partition).expect("it is smaller than the number of partitions")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn is_the_rule_of_librdkafka() {
        // zlib's crc32 of the key, modulo 7.
        for (key, crc) in [
            ("", 0_u32),
            ("123456789", 0xCBF4_3926),
            ("BTCUSDT", 0xAC8E_A3C3),
        ] {
            assert_eq!(
                u32::try_from(partition_of(key, 7)).unwrap(),
                crc % 7,
                "{key:?}"
            );
        }
        assert_eq!(partition_of("anything", 1), 0);
    }

    proptest! {
        #[test]
        fn every_key_has_a_partition(key in ".{0,30}", partitions in 1_i32..1_000) {
            prop_assert!((0..partitions).contains(&partition_of(&key, partitions)));
        }
    }
}
