//! What is on its way: batches to the database, dead letters to their topic.

use std::{collections::HashMap, sync::Arc, time::Duration};

use rdkafka::{Message, message::OwnedMessage};
use tokio::time::Instant;

use super::WriteError;
use crate::{
    arango::{Bulk, Refused},
    batch::{Batch, Item, Slot},
    consume::Room,
    dead_letter::DeadLetters,
    record::Rejection,
};

/// A message that is not done, and the room it takes until it is.
#[derive(Debug)]
pub(super) struct Taken {
    pub(super) message: OwnedMessage,
    pub(super) room: Room,
}

impl Taken {
    pub(super) fn payload(&self) -> &[u8] {
        self.message.payload().unwrap_or_default()
    }

    fn place(&self) -> (i32, i64) {
        (self.message.partition(), self.message.offset())
    }
}

/// What arrived.
#[derive(Debug)]
pub(super) enum Landed {
    Batch {
        /// The assignment it was read in.
        generation: u64,
        id: u64,
        /// Partition and offset of what is stored, or was replaced by what is.
        written: Vec<(i32, i64)>,
        /// What the database refused.
        refused: Vec<(Taken, Rejection)>,
        took: Duration,
    },
    DeadLetter {
        /// The assignment it was read in.
        generation: u64,
        partition: i32,
        offset: i64,
    },
}

/// Writes a batch. Where the last record of a key is refused, the one before it counts.
pub(super) async fn write(
    bulk: Arc<Bulk>,
    generation: u64,
    batch: Batch<Taken>,
) -> Result<Landed, WriteError> {
    let started = Instant::now();
    let (mut written, mut refused) = (Vec::new(), Vec::new());
    let mut slots = batch.slots;
    while !slots.is_empty() {
        let documents: Vec<&[u8]> = slots
            .iter()
            .map(|slot| slot.item.record.payload())
            .collect();
        let answers = bulk.write(&documents).await?;
        let answers = answers
            .into_iter()
            .map(|Refused { index, rejection }| (index, rejection));
        slots = sort(slots, answers.collect(), &mut written, &mut refused);
    }
    Ok(Landed::Batch {
        generation,
        id: batch.id,
        written,
        refused,
        took: started.elapsed(),
    })
}

/// Tells stored slots from refused ones, and returns what is to be written in their place.
fn sort(
    slots: Vec<Slot<Taken>>,
    mut answers: HashMap<usize, Rejection>,
    written: &mut Vec<(i32, i64)>,
    refused: &mut Vec<(Taken, Rejection)>,
) -> Vec<Slot<Taken>> {
    let mut instead = Vec::new();
    for (index, slot) in slots.into_iter().enumerate() {
        let Slot { item, mut replaced } = slot;
        let Some(rejection) = answers.remove(&index) else {
            written.extend(replaced.iter().map(Taken::place));
            written.push(item.record.place());
            continue;
        };
        refused.push((item.record, rejection));
        if let Some(record) = replaced.pop() {
            let item = Item {
                key: item.key,
                bytes: record.payload().len(),
                record,
            };
            instead.push(Slot { item, replaced });
        }
    }
    instead
}

/// Sends a record to the dead-letter topic.
pub(super) async fn bury(
    dead_letters: Arc<DeadLetters>,
    generation: u64,
    taken: Taken,
    rejection: Rejection,
) -> Result<Landed, WriteError> {
    let Taken { message, room } = taken;
    let sent = dead_letters.send(&message, &rejection).await;
    sent.map_err(Box::new)?;
    drop(room);
    Ok(Landed::DeadLetter {
        generation,
        partition: message.partition(),
        offset: message.offset(),
    })
}
