//! Requests that may come again, and what was answered to them.
//!
//! A client that lost our answer sends its request again with the same key. The first one reserves the key; later
//! ones are told what became of it. A reservation that nobody ends, because its replica was killed, gives way after
//! [`RUNNING_FOR`]; an answer is kept for [`ANSWERED_FOR`]. Both are judged by wall clocks, whose differences are
//! small against these.

use std::time::Duration;

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use sha2::{Digest, Sha256};
use streamforge_arango::{Collection, DocumentError, Revision};
use streamforge_utils::protocol::TimestampMs;

use super::StoreError;

/// How long a request may take before its key is free again. Longer than any launch takes.
pub const RUNNING_FOR: Duration = Duration::from_secs(10 * 60);
/// How long an answer is kept.
pub const ANSWERED_FOR: Duration = Duration::from_secs(24 * 60 * 60);
/// How often it is looked again when others make and drop the same reservation all the while.
const MAX_LOOKS: u32 = 5;

/// The requests that came with a key.
#[derive(Debug, Clone)]
pub struct Idempotency {
    collection: Collection,
}

/// What a request asks for. Two that ask for the same have the same.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Fingerprint(String);

impl Fingerprint {
    /// Of the parts of a request: method, path, body.
    pub fn of(parts: &[&[u8]]) -> Self {
        Self(hash(parts))
    }
}

/// What became of a key.
#[derive(Debug, PartialEq, Eq)]
pub enum Reservation<A> {
    /// It is new: go on, and then [`Idempotency::complete`] it or [`Idempotency::release`] it.
    Fresh(Ticket),
    /// The same request is being worked on.
    Running,
    /// The same request was answered like this.
    Answered(A),
    /// Another request came with this key.
    OtherRequest,
}

/// The right to end a reservation.
#[derive(Debug, PartialEq, Eq)]
pub struct Ticket {
    key: String,
    revision: Revision,
    request: Fingerprint,
}

#[derive(Debug, Serialize, Deserialize)]
struct Record<A> {
    request: Fingerprint,
    /// None while it is being worked on.
    answer: Option<A>,
    /// Unix seconds, for ArangoDB's TTL index, which looks now and then only.
    expires_at: i64,
}

impl Idempotency {
    pub(super) fn new(collection: Collection) -> Self {
        Self { collection }
    }

    /// Reserves what the caller (the name of its token) calls `key`, for this request, at `now`.
    ///
    /// # Errors
    /// If the database did not answer until the deadline.
    pub async fn reserve<A: Serialize + DeserializeOwned>(
        &self,
        caller: &str,
        key: &str,
        request: &Fingerprint,
        now: TimestampMs,
    ) -> Result<Reservation<A>, StoreError> {
        // Neither what a client chose nor the name of its token gets into a key of ours.
        let key = hash(&[caller.as_bytes(), key.as_bytes()]);
        for _ in 0..MAX_LOOKS {
            let record = Record::<A> {
                request: request.clone(),
                answer: None,
                expires_at: expiry(now, RUNNING_FOR),
            };
            let taken = match self.collection.insert(&key, &record).await {
                Ok(revision) => Ok(revision),
                Err(DocumentError::AlreadyThere(_)) => {
                    let found = match self.collection.get::<Record<A>>(&key).await {
                        Ok(found) => found,
                        Err(DocumentError::NotFound(_)) => continue,
                        Err(error) => return Err(error.into()),
                    };
                    if let Some(reservation) = found.content.judge(request, now) {
                        return Ok(reservation);
                    }
                    self.collection
                        .replace(&key, &found.revision, &record)
                        .await
                }
                Err(error) => Err(error),
            };
            match taken {
                Ok(revision) => {
                    return Ok(Reservation::Fresh(Ticket {
                        key,
                        revision,
                        request: request.clone(),
                    }));
                }
                Err(DocumentError::Conflict(_) | DocumentError::NotFound(_)) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(StoreError::Conflict(format!(
            "{}/{key}",
            self.collection.name()
        )))
    }

    /// Keeps the answer for whoever asks again.
    ///
    /// # Errors
    /// `Conflict` or `NotFound` if the reservation ran out meanwhile; the answer is good all the same.
    pub async fn complete<A: Serialize>(
        &self,
        ticket: Ticket,
        answer: &A,
        now: TimestampMs,
    ) -> Result<(), StoreError> {
        let record = Record {
            request: ticket.request,
            answer: Some(answer),
            expires_at: expiry(now, ANSWERED_FOR),
        };
        let replaced = self
            .collection
            .replace(&ticket.key, &ticket.revision, &record);
        replaced.await?;
        Ok(())
    }

    /// Gives the key back after a failure, so that the request can be tried again.
    ///
    /// # Errors
    /// `Conflict` or `NotFound` if the reservation ran out meanwhile.
    pub async fn release(&self, ticket: Ticket) -> Result<(), StoreError> {
        let removed = self.collection.remove(&ticket.key, Some(&ticket.revision));
        Ok(removed.await?)
    }
}

impl<A> Record<A> {
    /// What this record means to a request; None if it is over and may be replaced.
    fn judge(self, request: &Fingerprint, now: TimestampMs) -> Option<Reservation<A>> {
        if self.expires_at <= now.as_millis() / 1000 {
            return None;
        }
        if self.request != *request {
            return Some(Reservation::OtherRequest);
        }
        Some(match self.answer {
            None => Reservation::Running,
            Some(answer) => Reservation::Answered(answer),
        })
    }
}

fn expiry(now: TimestampMs, after: Duration) -> i64 {
    let after = i64::try_from(after.as_secs()).unwrap_or(i64::MAX);
    (now.as_millis() / 1000).saturating_add(after)
}

/// Each part with its length, so that no two lists of parts are the same text.
fn hash(parts: &[&[u8]]) -> String {
    let mut hasher = Sha256::new();
    for part in parts {
        hasher.update((part.len() as u64).to_be_bytes());
        hasher.update(part);
    }
    let digest = hasher.finalize();
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_a_request_do_not_run_into_each_other() {
        let of = |parts: &[&[u8]]| Fingerprint::of(parts);
        assert_eq!(of(&[b"POST", b"/a"]), of(&[b"POST", b"/a"]));
        assert_ne!(of(&[b"POST", b"/a"]), of(&[b"POST/", b"a"]));
        assert_ne!(of(&[b"POST", b""]), of(&[b"POST"]));
    }

    #[test]
    fn a_record_is_judged_by_its_time_first() {
        let request = Fingerprint::of(&[b"a"]);
        let other = Fingerprint::of(&[b"b"]);
        let record = |answer| Record {
            request: request.clone(),
            answer,
            expires_at: 100,
        };
        let (before, after) = (TimestampMs(99_999), TimestampMs(100_000));
        assert_eq!(
            record(None).judge(&request, before),
            Some(Reservation::Running)
        );
        assert_eq!(
            record(Some(7)).judge(&request, before),
            Some(Reservation::Answered(7))
        );
        assert_eq!(
            record(Some(7)).judge(&other, before),
            Some(Reservation::OtherRequest)
        );
        for (answer, request) in [(None, &request), (Some(7), &request), (None, &other)] {
            assert_eq!(record(answer).judge(request, after), None);
        }
    }
}
