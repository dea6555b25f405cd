//! Records that can't be written: how many there may be, and sending them to the dead-letter topic.

use std::sync::Arc;

use rdkafka::Message;

use super::{
    WriteError, Writer,
    error::LastRejected,
    flight::{self, Taken},
};
use crate::{
    partition::Resume,
    record::{self, Content, RejectReason, Rejection},
};

impl Writer {
    pub(super) fn reject(&mut self, taken: Taken, rejection: Rejection) -> Result<(), WriteError> {
        self.last_rejected = Some(LastRejected {
            partition: taken.message.partition(),
            offset: taken.message.offset(),
            rejection: rejection.clone(),
        });
        self.letters += 1;
        self.check_rejected()?;
        let generation = self.assignment.generation();
        let flight = flight::bury(Arc::clone(&self.dead_letters), generation, taken, rejection);
        self.in_flight.push(Box::pin(flight));
        Ok(())
    }

    /// Fails once the group has rejected more than may be, by what is known of the other writers' partitions.
    pub(super) fn check_rejected(&self) -> Result<(), WriteError> {
        let own = self.assignment.rejected_of_all() + self.letters;
        if own + self.others.rejected() <= self.settings.max_rejected {
            return Ok(());
        }
        Err(WriteError::TooManyRejected {
            max: self.settings.max_rejected,
            topic: self.settings.topic.clone(),
            last: self.last_rejected.clone().map(Box::new),
        })
    }

    /// Whether the topic has so many partitions. Asks the broker if it had fewer when this writer started.
    async fn has_partitions(&mut self, partitions: i32) -> Result<bool, WriteError> {
        if partitions > self.settings.partitions {
            let found = self.reader.partitions(&self.settings.topic).await;
            let found = found.map_err(WriteError::Read)?;
            self.settings.partitions = self.settings.partitions.max(found);
            self.others.set_partitions(self.settings.partitions);
        }
        Ok(partitions <= self.settings.partitions)
    }

    /// Takes a marker that names more partitions than were known.
    pub(super) async fn take_doubtful(&mut self, taken: Taken) -> Result<(), WriteError> {
        let mut reading = record::read(&taken.message, &self.settings.expected);
        if let Content::Marker(marker) = &reading.content
            && !self.has_partitions(marker.partitions).await?
        {
            let error = format!(
                "a marker that names {} partitions, the topic has {}",
                marker.partitions, self.settings.partitions
            );
            reading.content = Content::Rejected(Rejection::new(RejectReason::BadMarker, error));
        }
        self.take(taken, reading)
    }

    /// A commit may tell of a marker too; one that names more partitions than there are is none.
    pub(super) async fn without_false_ends(
        &mut self,
        mut partitions: Vec<(i32, Resume)>,
    ) -> Result<Vec<(i32, Resume)>, WriteError> {
        for (_, resume) in &mut partitions {
            if let Resume::AfterCommit {
                note: Some(note), ..
            } = resume
                && let Some(named) = note.partitions
                && !self.has_partitions(named).await?
            {
                (note.eos, note.partitions) = (None, None);
            }
        }
        Ok(partitions)
    }
}
