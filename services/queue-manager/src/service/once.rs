//! Requests with an `Idempotency-Key`: asked again, they get the first answer again.
//!
//! What failed and made nothing is not remembered, so it can be tried again with the same key. Work goes on to its end
//! even if who asked is gone.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};
use streamforge_utils::protocol::{QueueId, TimestampMs};

use super::{Service, of_store};
use crate::{
    error::ApiError,
    request::FieldErrors,
    store::{Fingerprint, Idempotency, Reservation, StoreError},
};

/// Longest key, in bytes.
const LONGEST_KEY: usize = 255;

/// What a caller calls a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    caller: String,
    key: String,
}

impl Key {
    /// `key` as sent by the owner of the token `caller`.
    ///
    /// # Errors
    /// It is empty, too long, or not printable ASCII.
    pub fn new(caller: &str, key: &str) -> Result<Self, ApiError> {
        let is_plain = key
            .bytes()
            .all(|byte| byte.is_ascii_graphic() || byte == b' ');
        if key.is_empty() || key.len() > LONGEST_KEY || !is_plain {
            let mut errors = FieldErrors::default();
            let expected = format!("1 to {LONGEST_KEY} printable characters of ASCII");
            errors.wrong("Idempotency-Key", key, &expected);
            return Err(errors.into());
        }
        Ok(Self {
            caller: caller.to_owned(),
            key: key.to_owned(),
        })
    }

    /// Tells keys of different callers apart, and cannot be turned back.
    pub(super) fn digest(&self) -> [u8; 32] {
        let hasher = Sha256::new().chain_update((self.caller.len() as u64).to_be_bytes());
        let hasher = hasher.chain_update(&self.caller).chain_update(&self.key);
        hasher.finalize().into()
    }
}

/// An answer that can be given again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Answer {
    /// The code.
    pub code: u16,
    /// The body.
    pub body: Value,
    /// What it is about.
    pub queues: Vec<QueueId>,
}

/// An answer, and whether it was given before.
#[derive(Debug, Clone, PartialEq)]
pub struct Once {
    /// The answer.
    pub answer: Answer,
    /// Whether nothing was done this time.
    pub is_replayed: bool,
}

impl Service {
    /// Does `work`, unless the same request was done before.
    ///
    /// # Errors
    /// The key is in use, or was used for another request; the store is away; or what `work` says.
    pub async fn once<F>(
        self: &Arc<Self>,
        key: Option<Key>,
        request: Fingerprint,
        work: F,
    ) -> Result<Once, ApiError>
    where
        F: Future<Output = Result<Answer, ApiError>> + Send + 'static,
    {
        let idempotency = self.parts.store.idempotency();
        let task = tokio::spawn(async move {
            let Some(key) = key else {
                return Ok(Once {
                    answer: work.await?,
                    is_replayed: false,
                });
            };
            keyed(&idempotency, &key, &request, work).await
        });
        task.await
            .unwrap_or_else(|error| Err(ApiError::Internal(error.to_string())))
    }
}

async fn keyed<F>(
    idempotency: &Idempotency,
    key: &Key,
    request: &Fingerprint,
    work: F,
) -> Result<Once, ApiError>
where
    F: Future<Output = Result<Answer, ApiError>>,
{
    let now = TimestampMs::now();
    let reserved = idempotency.reserve::<Answer>(&key.caller, &key.key, request, now);
    let ticket = match reserved.await {
        Ok(Reservation::Fresh(ticket)) => ticket,
        Ok(Reservation::Answered(answer)) => {
            return Ok(Once {
                answer,
                is_replayed: true,
            });
        }
        Ok(Reservation::OtherRequest) => return Err(ApiError::KeyReused),
        Ok(Reservation::Running) | Err(StoreError::Conflict(_)) => return Err(ApiError::KeyInUse),
        Err(StoreError::Unreadable(what)) => {
            return Err(ApiError::Conflict(format!(
                "what was answered to this Idempotency-Key can't be read; use another key: {what}"
            )));
        }
        Err(error) => return Err(of_store(error)),
    };
    match work.await {
        Ok(answer) => {
            let kept = idempotency.complete(ticket, &answer, TimestampMs::now());
            if let Err(error) = kept.await {
                // What was done is done. Asked again, it is found by its name, which follows from the key.
                tracing::warn!(%error, "The answer to a request with a key could not be kept");
            }
            Ok(Once {
                answer,
                is_replayed: false,
            })
        }
        Err(failed) => {
            if let Err(error) = idempotency.release(ticket).await {
                tracing::warn!(%error, "A key could not be given back; it stays in use for ten minutes");
            }
            Err(failed)
        }
    }
}
