//! What the polling thread looks at besides messages: lost positions, topic, brokers, group, and silent partitions.

use std::time::{Duration, Instant};

use rdkafka::{Offset, TopicPartitionList, consumer::Consumer, error::KafkaError};
use tracing::{debug, info, warn};

use super::{ASK_INTERVAL, PROBE_TIMEOUT, Reading, SLOW_GROUP, UNKNOWN_LIMIT};
use crate::consume::{Event, position::check_position, pulse::Finding};

/// How long to wait before a position that was refused is read again.
const SEEK_PAUSE: Duration = Duration::from_millis(100);

impl Reading {
    /// The broker has no longer, or never had, an offset that was to be read. librdkafka does not say of which partition,
    /// and reads that one no more: all are checked, and each is read again from where it was.
    pub(super) fn on_lost_position(&self, error: &KafkaError) {
        let positions = self.consumer.context().assignment().positions.clone();
        let topic = &self.settings.topic;
        for (partition, position) in &positions {
            let watermarks = self
                .consumer
                .fetch_watermarks(topic, *partition, PROBE_TIMEOUT);
            let (low, high) = match watermarks {
                Ok(watermarks) => watermarks,
                Err(error) => return self.fail(self.unavailable(error.to_string())),
            };
            if let Err(lost) = check_position(topic, *partition, *position, low, high) {
                return self.fail(lost);
            }
        }
        // Only what stands before a commit is gone, which would have told the last number, or the broker refused a position
        // that it has. If it does so for ever, the partition is found silent.
        info!(%error, ?positions, "A position was refused that the broker has; reading it again");
        self.runtime.block_on(tokio::time::sleep(SEEK_PAUSE));
        for (partition, position) in positions {
            let offset = Offset::Offset(position);
            let sought = self.consumer.seek(topic, partition, offset, PROBE_TIMEOUT);
            if let Err(error) = sought {
                return self.fail(self.unavailable(error.to_string()));
            }
        }
    }

    /// Fails once the topic, or a partition of it, has been unknown for too long.
    pub(super) fn check_topic(&mut self) {
        let Some(unknown) = &mut self.unknown else {
            return;
        };
        let now = Instant::now();
        if now < unknown.ask_at {
            return;
        }
        unknown.ask_at = now + ASK_INTERVAL;
        let since = unknown.since;
        let context = self.consumer.context();
        let topic = &self.settings.topic;
        // Asking also tells librdkafka, which would look again only minutes later.
        match self.consumer.fetch_metadata(Some(topic), PROBE_TIMEOUT) {
            Ok(metadata) if context.is_known(&metadata) => self.unknown = None,
            Ok(_) if since.elapsed() >= UNKNOWN_LIMIT.min(self.settings.retry_deadline) => {
                let last = last_error(context.last_error_since(since));
                let reason = format!("the topic or one of its partitions is gone{last}");
                self.fail(self.refused(reason));
            }
            Ok(_) => {}
            Err(error) if since.elapsed() >= self.settings.retry_deadline => {
                let reason = format!("the topic is unknown, and can't be asked after: {error}");
                self.fail(self.unavailable(reason));
            }
            Err(error) => debug!(%error, "Could not ask after the topic"),
        }
    }

    /// Fails once no broker has been there for as long as the deadline, or one says that it never will.
    pub(super) fn check_brokers(&self) {
        let context = self.consumer.context();
        if let Some(reason) = context.permanent_error() {
            // An idle consumer is not told that it was taken after all.
            match self
                .consumer
                .fetch_metadata(Some(&self.settings.topic), PROBE_TIMEOUT)
            {
                Ok(_) => context.all_is_well(),
                Err(_) => return self.fail(self.refused(reason)),
            }
        }
        if let Some((partition, since)) = context.leaderless_since()
            && since.elapsed() >= self.settings.retry_deadline
        {
            let seconds = self.settings.retry_deadline.as_secs_f64();
            return self.fail(self.unavailable(format!(
                "partition {partition} has had no leader for {seconds} s (RETRY_DEADLINE_SECS){}",
                last_error(context.last_error_since(since))
            )));
        }
        let Some(since) = context.trouble_since() else {
            return;
        };
        if since.elapsed() < self.settings.retry_deadline {
            return;
        }
        // An idle consumer is not told when a broker comes back.
        match self
            .consumer
            .fetch_metadata(Some(&self.settings.topic), PROBE_TIMEOUT)
        {
            Ok(_) => context.all_is_well(),
            Err(error) => {
                let seconds = self.settings.retry_deadline.as_secs_f64();
                let reason = format!("no broker for {seconds} s (RETRY_DEADLINE_SECS): {error}");
                self.fail(self.unavailable(reason));
            }
        }
    }

    /// Warns once the group has trouble, and fails once it has given nothing for as long as the deadline.
    pub(super) fn check_group(&mut self) {
        let context = self.consumer.context();
        let Some(since) = context.unassigned_since() else {
            self.is_warned = false;
            return;
        };
        // That no broker or no topic is there is found out elsewhere.
        if self.unknown.is_some() || context.trouble_since().is_some() {
            return;
        }
        let waited = since.elapsed();
        let deadline = self.settings.retry_deadline;
        let is_slow = waited >= SLOW_GROUP.min(deadline / 2);
        let error = context.last_error_since(since);
        if !self.is_warned && (error.is_some() || is_slow) {
            self.is_warned = true;
            let reason = error.unwrap_or_else(|| self.ask_coordinator());
            warn!(reason, group = %self.settings.group_id, "The consumer group gives no partitions yet; waiting");
            context.note_error(reason.clone());
            context.tell(Event::NoGroup(reason));
        } else if waited >= deadline {
            let seconds = deadline.as_secs_f64();
            let last = last_error(error.or_else(|| Some(self.ask_coordinator())));
            let group = &self.settings.group_id;
            self.fail(self.unavailable(format!(
                "consumer group {group:?} gave no partitions for {seconds} s (RETRY_DEADLINE_SECS){last}"
            )));
        }
    }

    /// librdkafka retries without a word while a group has no coordinator; whoever asks for commits is told.
    fn ask_coordinator(&self) -> String {
        let mut list = TopicPartitionList::with_capacity(1);
        list.add_partition(&self.settings.topic, 0);
        match self.consumer.committed_offsets(list, PROBE_TIMEOUT) {
            Ok(_) => "the group's coordinator answers, and has not let this writer join".to_owned(),
            Err(error) => format!(
                "the group's coordinator does not answer: {error} (is offsets.topic.replication.factor larger than the \
                 number of brokers?)"
            ),
        }
    }

    /// Fails once nothing has come of a partition for as long as the deadline, although it has more messages.
    pub(super) fn check_pulse(&mut self) {
        let now = Instant::now();
        if self.consumer.context().is_paused() || !self.waiting.is_empty() {
            self.pulse.hold(now);
            return;
        }
        let Some(partition) = self.pulse.overdue(now) else {
            return;
        };
        let context = self.consumer.context();
        let topic = &self.settings.topic;
        let Some(position) = context.assignment().positions.get(&partition).copied() else {
            return;
        };
        // If it can't be asked, that no broker is there is found out elsewhere.
        let watermarks = self
            .consumer
            .fetch_watermarks(topic, partition, PROBE_TIMEOUT);
        let high = watermarks.ok().map(|(_, high)| high);
        let finding = self.pulse.judge(partition, position, high, Instant::now());
        let (Finding::Silent, Some(high)) = (finding, high) else {
            return;
        };
        let has = self.reader.has_message(topic, partition, position, high);
        match self.runtime.block_on(has) {
            Ok(true) => {
                let seconds = self.settings.retry_deadline.as_secs_f64();
                let since = now.checked_sub(self.settings.retry_deadline).unwrap_or(now);
                self.fail(self.unavailable(format!(
                    "partition {partition} has messages from offset {position} to {high}, and none came for {seconds} s \
                     (RETRY_DEADLINE_SECS){}",
                    last_error(context.last_error_since(since))
                )));
            }
            Ok(false) => {
                debug!(
                    partition,
                    position, high, "The last offsets of a partition have no messages"
                );
                self.pulse.beat(partition, Instant::now());
                let mut assignment = context.assignment();
                if let Some(known) = assignment.positions.get_mut(&partition) {
                    *known = (*known).max(high);
                }
            }
            Err(error) => debug!(%error, "Failed to look for messages that did not come; retrying"),
        }
    }
}

fn last_error(error: Option<String>) -> String {
    error.map_or_else(String::new, |error| format!("; last error: {error}"))
}
