//! Starts workflows: plans, the exchange's word on their symbols, and documents of state; all or none.

use futures::{StreamExt, TryStreamExt, stream};
use serde_json::Value;
use sha2::{Digest, Sha256};
use streamforge_arango::Revision;
use streamforge_utils::protocol::{QueueId, Short, Symbol, TimestampMs, WorkflowKind};

use super::{Key, Service, of_queue, of_store};
use crate::{
    error::ApiError, plan::Plan, request::FieldErrors, state::Workflow, store::StoreError,
};

/// Symbols that the exchange is asked about at a time.
const ASKED_AT_A_TIME: usize = 8;
/// Who stops what was begun and could not be completed.
const UNDO: &str = "a start that failed half-way";

/// Where the random ends of queue ids come from.
///
/// With an idempotency key they follow from it, so that a start that is repeated after a crash finds what the first one
/// has made, and makes it no second time.
#[derive(Debug, Clone)]
pub struct Shorts {
    seed: Option<[u8; 32]>,
    given: u32,
}

impl Shorts {
    /// Of one request.
    pub fn of(key: Option<&Key>) -> Self {
        Self {
            seed: key.map(Key::digest),
            given: 0,
        }
    }

    /// The next one.
    pub fn next_short(&mut self) -> Short {
        const LETTERS: &[u8; 36] = b"abcdefghijklmnopqrstuvwxyz0123456789";
        let Some(seed) = self.seed else {
            return Short::random();
        };
        let digest = Sha256::new()
            .chain_update(seed)
            .chain_update(self.given.to_be_bytes())
            .finalize();
        self.given += 1;
        let text: String = digest
            .chunks_exact(4)
            .take(6)
            .map(|four| {
                let number = four.iter().fold(0_usize, |sum, byte| {
                    (sum * 256 + usize::from(*byte)) % LETTERS.len()
                });
                char::from(LETTERS[number])
            })
            .collect();
        text.parse().expect("six of a-z and 0-9")
    }

    fn is_repeatable(&self) -> bool {
        self.seed.is_some()
    }
}

impl Service {
    /// What `POST /queues/start-pipeline` asks for.
    ///
    /// # Errors
    /// The request is not valid, the exchange or the store is away.
    pub async fn start_pipeline(
        &self,
        body: &Value,
        mut shorts: Shorts,
    ) -> Result<Vec<Workflow>, ApiError> {
        let short = shorts.next_short();
        let plan = self
            .parts
            .planner
            .start_pipeline(body, TimestampMs::now(), short)?;
        self.start_plans(vec![(plan, "symbol".to_owned())], &shorts)
            .await
    }

    /// What `POST /queues/start` asks for.
    ///
    /// # Errors
    /// As [`Service::start_pipeline`].
    pub async fn start(&self, body: &Value, mut shorts: Shorts) -> Result<Vec<Workflow>, ApiError> {
        let planner = &self.parts.planner;
        let plans = planner.start(body, TimestampMs::now(), || shorts.next_short())?;
        let is_list = body.get("symbol").is_some_and(Value::is_array);
        let named = plans.into_iter().enumerate().map(|(nth, plan)| {
            let field = if is_list {
                format!("symbol[{nth}]")
            } else {
                "symbol".to_owned()
            };
            (plan, field)
        });
        self.start_plans(named.collect(), &shorts).await
    }

    /// What `POST /queues/start-test-flow` asks for.
    ///
    /// # Errors
    /// As [`Service::start_pipeline`].
    pub async fn start_test_flow(
        &self,
        body: &Value,
        mut shorts: Shorts,
    ) -> Result<Vec<Workflow>, ApiError> {
        let short = shorts.next_short();
        let (flows, planner) = (&self.parts.flows, &self.parts.planner);
        let plan = flows.start(body, planner, TimestampMs::now(), short)?;
        self.start_plans(vec![(plan, "symbol".to_owned())], &shorts)
            .await
    }

    /// Each plan with the field that its symbol stands in.
    async fn start_plans(
        &self,
        plans: Vec<(Plan, String)>,
        shorts: &Shorts,
    ) -> Result<Vec<Workflow>, ApiError> {
        self.check_symbols(&plans).await?;
        let now = TimestampMs::now();
        let launcher = self.parts.launcher.name();
        let mut made: Vec<(QueueId, Revision)> = Vec::new();
        let mut workflows = Vec::new();
        for (plan, _) in &plans {
            let workflow = Workflow::new(plan, launcher, now);
            let id = workflow.queue_id.clone();
            match self.workflows.insert(&id, &workflow).await {
                Ok(revision) => {
                    made.push((id, revision));
                    workflows.push(workflow);
                }
                Err(StoreError::AlreadyThere(_)) if shorts.is_repeatable() => {
                    let found = self.workflows.get(&id).await;
                    let found = found.map_err(|error| of_queue(&id, error));
                    match found {
                        Ok(found) => workflows.push(found.content),
                        Err(error) => return Err(self.undo(made, error).await),
                    }
                }
                Err(error) => return Err(self.undo(made, of_store(error)).await),
            }
        }
        self.stored();
        Ok(workflows)
    }

    /// Takes back what was made before `error`, as far as that can be done.
    async fn undo(&self, made: Vec<(QueueId, Revision)>, error: ApiError) -> ApiError {
        for (id, revision) in made {
            let removed = self.workflows.remove_unchanged(&id, &revision).await;
            let undone = match removed {
                // It has begun meanwhile.
                Err(StoreError::Conflict(_)) => {
                    let now = TimestampMs::now();
                    let stopped = self
                        .workflows
                        .update(&id, |workflow| workflow.request_stop(false, UNDO, now));
                    stopped.await.map(drop)
                }
                other => other,
            };
            if let Err(error) = undone {
                tracing::error!(queue.id = %id, %error, "A start failed half-way, and this part of it stays");
            }
        }
        self.stored();
        error
    }

    /// The exchange has to know each symbol that something real is loaded of.
    async fn check_symbols(&self, plans: &[(Plan, String)]) -> Result<(), ApiError> {
        let real: Vec<(Symbol, &str)> = plans
            .iter()
            .filter(|(plan, _)| plan.kind != WorkflowKind::Dummy)
            .map(|(plan, field)| (plan.symbol.clone(), field.as_str()))
            .collect();
        let symbols: Vec<Symbol> = real.iter().map(|(symbol, _)| symbol.clone()).collect();
        let answers: Vec<bool> = stream::iter(symbols)
            .map(|symbol| async move { self.parts.symbols.has(&symbol).await })
            .buffered(ASKED_AT_A_TIME)
            .try_collect()
            .await
            .map_err(|error| ApiError::unavailable("the exchange", error))?;
        let mut errors = FieldErrors::default();
        for ((symbol, field), is_known) in real.iter().zip(answers) {
            if !is_known {
                errors.wrong(field, symbol.as_str(), "a symbol that the exchange has");
            }
        }
        errors.or(Some(())).map_err(ApiError::from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_gives_the_same_ends_again_and_others_to_others() {
        let ends = |caller: &str, key: &str| {
            let key = Key::new(caller, key).unwrap();
            let mut shorts = Shorts::of(Some(&key));
            [shorts.next_short(), shorts.next_short()]
        };
        let first = ends("ops", "a");
        assert_eq!(first, ends("ops", "a"));
        assert_ne!(first[0], first[1]);
        assert_ne!(first, ends("ops", "b"));
        assert_ne!(first, ends("ui", "a"));
        let mut random = Shorts::of(None);
        assert_ne!(random.next_short(), random.next_short());
    }
}
