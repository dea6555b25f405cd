//! Which of several replicas does what only one may do.
//!
//! One document says who holds the lease. Whoever takes, keeps or gives it back replaces the document if it is still
//! the revision that was read, so of two that reach for it at once one gets it.
//!
//! No clock of another machine is trusted, as in Kubernetes' leader election. The holder changes the document at every
//! renewal (`beat`), and a challenger takes it only after it has *seen* the same revision for the lease's whole length
//! by its own monotonic clock. The holder counts from before it asked for its last successful renewal, and stops
//! earlier, after [`LeaseTimes::held_for`]. So the challenger's time begins later and lasts longer than the holder's,
//! and the two do not overlap as long as their clocks run about equally fast (here: one not by half faster than the
//! other).
//!
//! A holder that is frozen in the middle of its work can go on with it when it wakes up, before it looks at the clock.
//! Against that each holder has a higher `token` than all before it ([`Standing::Held`]); what it writes is replaced by
//! revision, so what it has not read again it does not overwrite.

use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;
use streamforge_arango::{Collection, Document, DocumentError, Revision};
use streamforge_utils::protocol::TimestampMs;
use tokio::{sync::watch, time::Instant};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::StoreError;

/// How long a lease lasts, and how often it is renewed.
#[derive(Debug, Clone, Copy)]
pub struct LeaseTimes {
    /// How long a challenger waits for a sign of life of the holder.
    pub length: Duration,
    /// How long the holder works after its last renewal; less than `length`.
    pub held_for: Duration,
    /// How often the holder renews, and a challenger looks; well below `held_for`.
    pub every: Duration,
}

impl Default for LeaseTimes {
    /// Those of Kubernetes' own controllers.
    fn default() -> Self {
        Self {
            length: Duration::from_secs(15),
            held_for: Duration::from_secs(10),
            every: Duration::from_secs(2),
        }
    }
}

/// Whether this process may do what only one may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It may.
    Held {
        /// Higher than that of every holder before.
        token: u64,
        /// From then on it may not, unless it is told a later instant before.
        until: Instant,
    },
    /// Another one does, or nobody knows.
    NotHeld,
}

impl Standing {
    /// The token, if the lease is held at this moment.
    pub fn token(&self) -> Option<u64> {
        match self {
            Self::Held { token, until } if Instant::now() < *until => Some(*token),
            _ => None,
        }
    }
}

/// The document. One that was spoiled is read all the same, as the claim of somebody unknown: it is taken once it has
/// not changed for the lease's length, since nobody could reconcile otherwise.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Claim {
    /// None if it was given back.
    #[serde(default = "unknown_holder", deserialize_with = "holder_or_unknown")]
    holder: Option<String>,
    #[serde(default = "unknown_token", deserialize_with = "token_or_unknown")]
    token: u64,
    /// Raised at each renewal, for people who look at the document.
    #[serde(default, deserialize_with = "beat_or_zero")]
    beat: u64,
}

fn unknown_holder() -> Option<String> {
    Some("unreadable".to_owned())
}

/// Higher than that of every holder: they count from 1.
fn unknown_token() -> u64 {
    u64::try_from(TimestampMs::now().as_millis()).unwrap_or(0)
}

fn holder_or_unknown<'de, D: Deserializer<'de>>(source: D) -> Result<Option<String>, D::Error> {
    Ok(match Value::deserialize(source)? {
        Value::Null => None,
        Value::String(holder) => Some(holder),
        _ => unknown_holder(),
    })
}

fn token_or_unknown<'de, D: Deserializer<'de>>(source: D) -> Result<u64, D::Error> {
    let found = Value::deserialize(source)?.as_u64();
    // One that can't be raised is none.
    Ok(found
        .filter(|token| *token < u64::MAX / 2)
        .unwrap_or_else(unknown_token))
}

fn beat_or_zero<'de, D: Deserializer<'de>>(source: D) -> Result<u64, D::Error> {
    let found = Value::deserialize(source)?.as_u64();
    Ok(found.filter(|beat| *beat < u64::MAX / 2).unwrap_or(0))
}

/// A lease that this process wants.
#[derive(Debug)]
pub struct Lease {
    collection: Collection,
    name: String,
    holder: String,
    times: LeaseTimes,
    held: Option<Held>,
    seen: Option<Seen>,
}

#[derive(Debug, Clone)]
struct Held {
    claim: Claim,
    revision: Revision,
    until: Instant,
}

/// The claim of another one, and since when it has not changed.
#[derive(Debug, Clone)]
struct Seen {
    revision: Revision,
    since: Instant,
}

/// What a challenger does about a claim.
#[derive(Debug, PartialEq, Eq)]
enum Decision {
    Take,
    Wait,
}

impl Seen {
    /// Takes note of what was read just now, and decides.
    fn look(
        seen: &mut Option<Self>,
        found: &Document<Claim>,
        me: &str,
        length: Duration,
        now: Instant,
    ) -> Decision {
        let is_mine = found.content.holder.as_deref() == Some(me);
        if found.content.holder.is_none() || is_mine {
            return Decision::Take;
        }
        match seen {
            Some(seen) if seen.revision == found.revision => {
                if now.duration_since(seen.since) >= length {
                    return Decision::Take;
                }
            }
            _ => {
                *seen = Some(Self {
                    revision: found.revision.clone(),
                    since: now,
                });
            }
        }
        Decision::Wait
    }
}

impl Lease {
    pub(super) fn new(collection: Collection, name: &str, holder: &str, times: LeaseTimes) -> Self {
        Self {
            collection,
            name: name.to_owned(),
            holder: holder.to_owned(),
            times,
            held: None,
            seen: None,
        }
    }

    /// Takes the lease as soon as it is free, keeps it, and says so to who listens, until told to end; then gives it
    /// back, so that another one need not wait. What holds the lease has to look at the instant in
    /// [`Standing::Held`] too: nobody says that it has passed while the database does not answer.
    pub async fn keep(mut self, standing: watch::Sender<Standing>, stop: CancellationToken) {
        while !stop.is_cancelled() {
            let found = tokio::select! {
                found = self.step() => found,
                () = stop.cancelled() => break,
            };
            let now_held = match found {
                Ok(found) => found,
                Err(error) => {
                    warn!(%error, lease = self.name, "Could not renew or take the lease");
                    self.standing()
                }
            };
            if tell(&standing, now_held) {
                info!(
                    lease = self.name,
                    holder = self.holder,
                    ?now_held,
                    "The lease changed hands"
                );
            }
            tokio::select! {
                () = tokio::time::sleep(self.times.every) => {}
                () = stop.cancelled() => {}
            }
        }
        standing.send_replace(Standing::NotHeld);
        if let Err(error) = self.release().await {
            warn!(%error, lease = self.name, "Could not give the lease back; another one waits for its end");
        }
    }

    /// Renews the lease if it is held, and else takes it if it is free. To be called again after
    /// [`LeaseTimes::every`]. It waits for the database for half of [`LeaseTimes::held_for`], so that there is time
    /// for another try before the lease ends.
    ///
    /// # Errors
    /// If the database did not answer. A lease that is held stays so until its instant.
    pub async fn step(&mut self) -> Result<Standing, StoreError> {
        let asked = Instant::now();
        if self.held.as_ref().is_some_and(|held| asked >= held.until) {
            self.held = None;
        }
        let stepped = tokio::time::timeout(self.patience(), self.try_step(asked)).await;
        stepped.unwrap_or_else(|_| Err(self.unanswered()))?;
        Ok(self.standing())
    }

    fn standing(&self) -> Standing {
        match &self.held {
            Some(held) if Instant::now() < held.until => Standing::Held {
                token: held.claim.token,
                until: held.until,
            },
            _ => Standing::NotHeld,
        }
    }

    async fn try_step(&mut self, asked: Instant) -> Result<(), StoreError> {
        if let Some(held) = self.held.clone() {
            let claim = Claim {
                beat: held.claim.beat + 1,
                ..held.claim
            };
            match self.replace(&held.revision, claim, asked).await {
                // An earlier renewal whose answer never came, or another holder.
                Err(StoreError::Conflict(_) | StoreError::NotFound(_)) => {}
                other => return other,
            }
        }
        let found = match self.collection.get_of_any_size::<Claim>(&self.name).await {
            Ok(found) => found,
            Err(DocumentError::NotFound(_)) => {
                self.held = None;
                return self.make(asked).await;
            }
            Err(error) => return Err(error.into()),
        };
        let held_token = self.held.as_ref().map(|held| held.claim.token);
        let (me, length) = (self.holder.as_str(), self.times.length);
        match Seen::look(&mut self.seen, &found, me, length, Instant::now()) {
            Decision::Wait => {
                self.held = None;
                Ok(())
            }
            Decision::Take => {
                let is_still_mine = found.content.holder.as_deref() == Some(me)
                    && held_token == Some(found.content.token);
                let claim = Claim {
                    holder: Some(self.holder.clone()),
                    token: found.content.token + u64::from(!is_still_mine),
                    beat: found.content.beat + 1,
                };
                match self.replace(&found.revision, claim, asked).await {
                    // Another one was faster; its claim is looked at next time.
                    Err(StoreError::Conflict(_) | StoreError::NotFound(_)) => {
                        self.held = None;
                        Ok(())
                    }
                    other => other,
                }
            }
        }
    }

    async fn make(&mut self, asked: Instant) -> Result<(), StoreError> {
        let claim = Claim {
            holder: Some(self.holder.clone()),
            token: 1,
            beat: 0,
        };
        match self.collection.insert(&self.name, &claim).await {
            Ok(revision) => {
                self.hold(claim, revision, asked);
                Ok(())
            }
            Err(DocumentError::AlreadyThere(_)) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    async fn replace(
        &mut self,
        revision: &Revision,
        claim: Claim,
        asked: Instant,
    ) -> Result<(), StoreError> {
        let revision = self
            .collection
            .replace(&self.name, revision, &claim)
            .await?;
        self.hold(claim, revision, asked);
        Ok(())
    }

    fn hold(&mut self, claim: Claim, revision: Revision, asked: Instant) {
        self.seen = None;
        self.held = Some(Held {
            claim,
            revision,
            until: asked + self.times.held_for,
        });
    }

    /// Gives the lease back, if this process has it. The document stays, because the next token must be higher.
    ///
    /// # Errors
    /// If the database did not answer in time. Others then wait for the lease's end.
    pub async fn release(&mut self) -> Result<(), StoreError> {
        self.held = None;
        let released = tokio::time::timeout(self.patience(), self.try_release()).await;
        released.unwrap_or_else(|_| Err(self.unanswered()))
    }

    async fn try_release(&self) -> Result<(), StoreError> {
        // Read anew: a step that was left unfinished may have changed it.
        let found = match self.collection.get_of_any_size::<Claim>(&self.name).await {
            Ok(found) if found.content.holder.as_deref() == Some(&self.holder) => found,
            Ok(_) | Err(DocumentError::NotFound(_)) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        let claim = Claim {
            holder: None,
            ..found.content
        };
        let given = self.collection.replace(&self.name, &found.revision, &claim);
        match given.await {
            Ok(_) | Err(DocumentError::Conflict(_) | DocumentError::NotFound(_)) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    fn patience(&self) -> Duration {
        self.times.held_for / 2
    }

    fn unanswered(&self) -> StoreError {
        StoreError::Unavailable(format!("no answer about lease {:?} in time", self.name))
    }
}

/// Says what holds now; whether it holds for another reason than before.
fn tell(standing: &watch::Sender<Standing>, now: Standing) -> bool {
    let token = |standing: &Standing| match standing {
        Standing::Held { token, .. } => Some(*token),
        Standing::NotHeld => None,
    };
    let before = standing.send_replace(now);
    token(&before) != token(&now)
}

#[cfg(test)]
mod tests;
