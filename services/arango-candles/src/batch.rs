//! Collects records into batches: by count, by bytes, by time.
//!
//! Pure: the clock is an argument. Two promises: in a batch each key stands once, with its last record; and no
//! batch is given out while another one that holds one of its keys is on its way, because the two could overtake
//! each other. What is sent where is not decided here.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use tokio::time::Instant;

/// Where a batch ends.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Most records.
    pub max_records: usize,
    /// Most bytes; a record that is larger stands alone.
    pub max_bytes: usize,
    /// How long the first record may wait for more.
    pub linger: Duration,
}

/// A record on its way into a batch.
#[derive(Debug)]
pub struct Item<T> {
    /// The document key.
    pub key: Box<str>,
    /// Its size, in bytes.
    pub bytes: usize,
    /// The record.
    pub record: T,
}

/// A place in a batch: what is to be stored under one key.
#[derive(Debug)]
pub struct Slot<T> {
    /// The last record of the key, which is the one to store.
    pub item: Item<T>,
    /// Earlier records of the key, oldest first: they are done when it is.
    pub replaced: Vec<T>,
}

/// A batch that is ready to be sent.
#[derive(Debug)]
pub struct Batch<T> {
    /// What names it when it is done.
    pub id: u64,
    /// One slot a key.
    pub slots: Vec<Slot<T>>,
}

/// Collects records and gives out batches.
#[derive(Debug)]
pub struct Batcher<T> {
    limits: Limits,
    open: Vec<Slot<T>>,
    /// Where in `open` a key stands.
    index: HashMap<Box<str>, usize>,
    bytes: usize,
    since: Option<Instant>,
    next_id: u64,
    in_flight: HashMap<u64, Vec<Box<str>>>,
    keys_in_flight: HashSet<Box<str>>,
}

impl<T> Batcher<T> {
    /// Starts empty.
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            open: Vec::new(),
            index: HashMap::new(),
            bytes: 0,
            since: None,
            next_id: 0,
            in_flight: HashMap::new(),
            keys_in_flight: HashSet::new(),
        }
    }

    /// Takes a record into the open batch, at `now`. Gives it back if it does not fit: then the open batch has to
    /// be taken first.
    ///
    /// # Errors
    /// The record, if the batch is full.
    pub fn offer(&mut self, item: Item<T>, now: Instant) -> Result<(), Item<T>> {
        let known = self.index.get(&item.key).copied();
        let freed = known.map_or(0, |at| self.open[at].item.bytes);
        let fits = self.bytes - freed + item.bytes <= self.limits.max_bytes
            && (known.is_some() || self.open.len() < self.limits.max_records);
        if !fits && !self.open.is_empty() {
            return Err(item);
        }
        self.since.get_or_insert(now);
        self.bytes = self.bytes - freed + item.bytes;
        match known {
            Some(at) => {
                let slot = &mut self.open[at];
                let old = std::mem::replace(&mut slot.item, item);
                slot.replaced.push(old.record);
            }
            None => {
                self.index.insert(item.key.clone(), self.open.len());
                self.open.push(Slot {
                    item,
                    replaced: Vec::new(),
                });
            }
        }
        Ok(())
    }

    /// Whether the open batch takes no more, or has waited long enough.
    pub fn is_due(&self, now: Instant) -> bool {
        self.is_full() || self.due_at().is_some_and(|due| due <= now)
    }

    fn is_full(&self) -> bool {
        self.open.len() >= self.limits.max_records || self.bytes >= self.limits.max_bytes
    }

    /// When the open batch will have waited long enough; `None` if it is empty.
    pub fn due_at(&self) -> Option<Instant> {
        self.since.map(|since| since + self.limits.linger)
    }

    /// Whether there is no open batch.
    pub fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    /// Batches that were given out and are not done.
    pub fn in_flight(&self) -> usize {
        self.in_flight.len()
    }

    /// Gives out the open batch. `None` if it is empty or shares a key with a batch that is on its way; its records
    /// stay where they are.
    pub fn take(&mut self) -> Option<Batch<T>> {
        let is_free = |slot: &Slot<T>| !self.keys_in_flight.contains(&slot.item.key);
        if self.open.is_empty() || !self.open.iter().all(is_free) {
            return None;
        }
        let id = self.next_id;
        self.next_id += 1;
        let keys: Vec<Box<str>> = self.index.drain().map(|(key, _)| key).collect();
        self.keys_in_flight.extend(keys.iter().cloned());
        self.in_flight.insert(id, keys);
        self.bytes = 0;
        self.since = None;
        Some(Batch {
            id,
            slots: std::mem::take(&mut self.open),
        })
    }

    /// A batch is done: its keys are free again.
    pub fn done(&mut self, id: u64) {
        for key in self.in_flight.remove(&id).unwrap_or_default() {
            self.keys_in_flight.remove(&key);
        }
    }

    /// Forgets everything, also what is on its way.
    pub fn clear(&mut self) {
        let next_id = self.next_id;
        *self = Self::new(self.limits);
        // What is still on its way must not be taken for a batch that comes later.
        self.next_id = next_id;
    }
}

#[cfg(test)]
mod tests;
