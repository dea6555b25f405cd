//! Values that check themselves while they are read, so that each bad one is reported along with all others.

use serde::Deserialize;

/// A whole number from `LEAST` to `MOST`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "u32")]
pub struct Within<const LEAST: u32, const MOST: u32>(u32);

impl<const LEAST: u32, const MOST: u32> Within<LEAST, MOST> {
    /// The number.
    pub fn get(self) -> u32 {
        self.0
    }

    /// The number, where Kafka wants it signed.
    ///
    /// # Panics
    /// If `MOST` does not fit.
    pub fn get_i32(self) -> i32 {
        i32::try_from(self.0).expect("the most that is allowed fits")
    }
}

impl<const LEAST: u32, const MOST: u32> TryFrom<u32> for Within<LEAST, MOST> {
    type Error = String;

    fn try_from(number: u32) -> Result<Self, Self::Error> {
        if (LEAST..=MOST).contains(&number) {
            Ok(Self(number))
        } else {
            Err(format!("{number} is not from {LEAST} to {MOST}"))
        }
    }
}

/// The name of a Kafka topic.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct TopicName(String);

impl TopicName {
    /// Its text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for TopicName {
    type Error = String;

    /// The rule is Kafka's own, `org.apache.kafka.common.internals.Topic`.
    fn try_from(name: String) -> Result<Self, Self::Error> {
        let legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
        let fits = (1..=249).contains(&name.len())
            && name.bytes().all(legal)
            && !matches!(name.as_str(), "." | "..");
        if fits {
            Ok(Self(name))
        } else {
            Err("no name of a topic".to_owned())
        }
    }
}
