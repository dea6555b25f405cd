//! What librdkafka says by itself goes to our log.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use rdkafka::{
    ClientContext,
    config::RDKafkaLogLevel,
    consumer::{BaseConsumer, ConsumerContext},
    error::KafkaError,
    types::RDKafkaErrorCode,
};
use tokio::time::Instant;

use super::{GAPLESS, is_permanent};
use crate::text;

/// How long a refusal has to stand before it is believed. A broker that is just starting does not know its users yet, and
/// one of several may be wrong while the others are not.
const BELIEVED_AFTER: Duration = Duration::from_secs(3);

/// Logs through `tracing`, and remembers an error that no retry can mend: librdkafka itself goes on for ever after
/// a wrong password, so whoever waits has to look here.
#[derive(Debug, Clone, Default)]
pub struct KafkaContext {
    heard: Arc<Mutex<Heard>>,
}

/// Since a broker last did what it was asked.
#[derive(Debug, Default)]
struct Heard {
    refusal: Option<Refusal>,
    /// What went wrong last, and may pass.
    trouble: Option<String>,
}

#[derive(Debug)]
struct Refusal {
    /// Of the first since a broker last did what it was asked. librdkafka repeats the same one only every 30 s.
    since: Instant,
    reason: String,
}

impl KafkaContext {
    /// The last error that no retry can mend, once it has stood for 3 s and nothing was [`accepted`](Self::accepted)
    /// since.
    pub fn permanent_error(&self) -> Option<String> {
        self.permanent_error_after(Duration::ZERO)
    }

    /// The same for who has waited for an answer in vain for so long: of a client that nobody polled meanwhile, what was
    /// refused long ago is heard only now.
    pub(super) fn permanent_error_after(&self, waited: Duration) -> Option<String> {
        let heard = self.heard();
        let stands = |refusal: &&Refusal| refusal.since.elapsed().max(waited) >= BELIEVED_AFTER;
        let believed = heard.refusal.as_ref().filter(stands)?;
        Some(believed.reason.clone())
    }

    /// A broker has done what it was asked, so it does not refuse this client, whatever was said before.
    pub fn accepted(&self) {
        *self.heard() = Heard::default();
    }

    /// What the client last had trouble with, such as a connection that was refused, if nothing was
    /// [`accepted`](Self::accepted) since. For the error of who has waited in vain.
    pub fn last_error(&self) -> Option<String> {
        self.heard().trouble.clone()
    }

    /// `what` failed, and why: behind it stands [`last_error`](Self::last_error), if there is one. A broker may be reached
    /// while the address that it advertises, or another broker, can't be.
    pub fn explained(&self, what: impl fmt::Display) -> String {
        match self.last_error() {
            Some(last) => {
                text::formatted(format_args!("{what} (last error of the client: {last})"))
            }
            None => text::formatted(format_args!("{what}")),
        }
    }

    fn heard(&self) -> MutexGuard<'_, Heard> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Hears what librdkafka has to say about the connection, which it tells only to who polls. For a client that was
/// asked something and got no answer; one that is assigned partitions would lose their messages.
pub(super) fn hear_errors(client: &BaseConsumer<KafkaContext>) {
    // Far more than one connection leaves in the time of one request.
    const MOST: usize = 100;
    // Not zero, which ends at the first line for the log.
    const PAUSE: Duration = Duration::from_millis(20);
    for _ in 0..MOST {
        if client.poll(PAUSE).is_none() {
            return;
        }
    }
}

impl ClientContext for KafkaContext {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        if is_known(facility, message) {
            return;
        }
        match level {
            RDKafkaLogLevel::Emerg
            | RDKafkaLogLevel::Alert
            | RDKafkaLogLevel::Critical
            | RDKafkaLogLevel::Error => {
                tracing::warn!(target: "rdkafka", facility, "{message}");
            }
            RDKafkaLogLevel::Warning => tracing::info!(target: "rdkafka", facility, "{message}"),
            _ => tracing::debug!(target: "rdkafka", facility, "{message}"),
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        let refused = is_permanent(&error) && !is_broken_handshake(&error, reason);
        if refused || is_bad_certificate(&error, reason) {
            tracing::error!(target: "rdkafka", %error, reason, "Kafka refuses this client");
            let reason = text::formatted(format_args!("{error}: {reason}"));
            let mut heard = self.heard();
            let since = heard
                .refusal
                .as_ref()
                .map_or_else(Instant::now, |refusal| refusal.since);
            heard.refusal = Some(Refusal { since, reason });
        } else {
            tracing::debug!(target: "rdkafka", %error, reason, "Kafka client error, librdkafka tries again");
            // That all are down is said after each broker's own trouble, and says less.
            let says_less = error.rdkafka_error_code() == Some(RDKafkaErrorCode::AllBrokersDown);
            let mut heard = self.heard();
            if heard.trouble.is_none() || !says_less {
                heard.trouble = Some(text::formatted(format_args!("{error}: {reason}")));
            }
        }
    }
}

/// A remark at every start about a setting that is meant so.
fn is_known(facility: &str, message: &str) -> bool {
    facility == "CONFWARN" && message.contains(GAPLESS) && message.contains("experimental")
}

/// Whether the connection broke while the mechanism of SASL was agreed upon: as when a broker is restarted, or this client
/// is closed. librdkafka gives that the code of a wrong password, and tells them apart by its words only: what the broker
/// refuses starts with "Broker: ".
fn is_broken_handshake(error: &KafkaError, reason: &str) -> bool {
    error.rdkafka_error_code() == Some(RDKafkaErrorCode::Authentication)
        && reason.contains("mechanism handshake failed: Local: ")
}

/// Whether TLS failed for what the two sides are. librdkafka tells so by its words: the code depends on how far the
/// handshake came, and may be that of a connection that broke, which is a "transport error".
fn is_bad_certificate(error: &KafkaError, reason: &str) -> bool {
    reason.contains("certificate verify failed")
        || (error.rdkafka_error_code() == Some(RDKafkaErrorCode::SSL)
            && reason.contains("SSL handshake failed")
            && !reason.contains("SSL transport error"))
}

impl ConsumerContext for KafkaContext {}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_refusal_is_believed_once_it_stands() {
        let refused = || KafkaError::Global(RDKafkaErrorCode::Authentication);
        let context = KafkaContext::default();
        context.error(refused(), "no such user");
        assert_eq!(context.permanent_error(), None, "it may be starting");
        context.accepted();
        tokio::time::advance(BELIEVED_AFTER).await;
        assert_eq!(context.permanent_error(), None, "another one took us");
        context.error(refused(), "no such user");
        tokio::time::advance(BELIEVED_AFTER / 2).await;
        context.error(refused(), "wrong password");
        tokio::time::advance(BELIEVED_AFTER / 2).await;
        let reason = context.permanent_error().unwrap();
        assert!(reason.ends_with("wrong password"), "{reason}");
    }

    #[test]
    fn an_address_that_cannot_be_reached_is_named() {
        let context = KafkaContext::default();
        assert_eq!(context.explained("timed out"), "timed out");
        let refused = "kafka-1:9092/1: Connect to ipv4#10.0.0.1:9092 failed: Connection refused";
        let transport = KafkaError::Global(RDKafkaErrorCode::BrokerTransportFailure);
        context.error(transport, refused);
        let all_down = KafkaError::Global(RDKafkaErrorCode::AllBrokersDown);
        context.error(all_down, "1/1 brokers are down");
        let explained = context.explained("timed out");
        assert!(
            explained.starts_with("timed out (") && explained.contains(refused),
            "{explained}"
        );
        context.accepted();
        assert_eq!(context.explained("timed out"), "timed out");
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_breaks_in_the_handshake_can_pass() {
        for (code, reason, is_permanent) in [
            (
                RDKafkaErrorCode::SSL,
                "sasl_ssl://a:1/1: SSL handshake failed: error:0A00010B:SSL routines::wrong version number",
                true,
            ),
            (
                RDKafkaErrorCode::SSL,
                "sasl_ssl://a:1/1: SSL handshake failed: SSL transport error: Connection timed out",
                false,
            ),
            (
                RDKafkaErrorCode::BrokerTransportFailure,
                "sasl_ssl://a:1/1: SSL handshake failed: Disconnected: connection closed by peer: connecting to a PLAINTEXT broker listener?",
                false,
            ),
            (
                RDKafkaErrorCode::Authentication,
                "GroupCoordinator: SASL SCRAM-SHA-512 mechanism handshake failed: Local: Broker transport failure: broker's supported mechanisms: ",
                false,
            ),
            (
                RDKafkaErrorCode::Authentication,
                "sasl_ssl://a:1/1: SASL SCRAM-SHA-256 mechanism handshake failed: Broker: Unsupported SASL mechanism: broker's supported mechanisms: SCRAM-SHA-512",
                true,
            ),
            (
                RDKafkaErrorCode::Authentication,
                "sasl_ssl://a:1/1: SASL authentication error: Authentication failed during authentication due to invalid credentials with SASL mechanism SCRAM-SHA-512",
                true,
            ),
        ] {
            let context = KafkaContext::default();
            context.error(KafkaError::Global(code), reason);
            tokio::time::advance(BELIEVED_AFTER).await;
            let remembered = context.permanent_error();
            assert_eq!(remembered.is_some(), is_permanent, "{reason}");
        }
    }
}
