//! Kafka brokers for a laptop and the tests, and looking at what is on them.
//!
//! - [`MockKafka`]: librdkafka's mock cluster, inside this process; its limits stand there.
//! - [`ApacheKafka`]: the real one, as `ci/kafka.sh` starts it.
//! - [`Broker`]: whichever of them the tests are to run against.
//! - [`read_topic`], [`wait_for_messages`], [`wait_for_events`], [`publish`], [`send_command`]: for either.

mod apache;
mod broker;
mod mock;
mod send;
mod watch;

pub use apache::{ApacheKafka, ApacheKafkaError, BrokerAction};
pub use broker::{Broker, KAFKA_DIR};
pub use mock::{MockKafka, MockKafkaError};
pub use send::{publish, send_command};
pub use watch::{read_topic, wait_for_events, wait_for_messages};
