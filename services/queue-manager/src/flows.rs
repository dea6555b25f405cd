//! Workflows that the operator has written down, to try an installation with: `test_flows.yaml`.
//!
//! Each is the body of a start-pipeline request. A file is checked as a whole when it is read, so that a flow that can't
//! be planned is found at the start and not by who asks for it.

use std::collections::BTreeMap;

use serde_json::Value;
use streamforge_utils::protocol::{Short, TimestampMs};

use crate::{
    plan::{Plan, Planner},
    request::{FieldErrors, StartPipeline, StartTestFlow},
    targets::Target,
};

/// What there is if the operator has no file.
pub const DEFAULT: &str = include_str!("flows/test_flows.yaml");

/// A file of flows that can't be used.
#[derive(Debug, thiserror::Error)]
pub enum FlowsError {
    /// It is no YAML, or no mapping of names to flows.
    #[error("no YAML mapping of names to flows")]
    Form(#[from] serde_norway::Error),
    /// One of its flows can't be planned.
    #[error("the flow {flow} can't be started: {errors}")]
    Flow {
        /// Its name.
        flow: String,
        /// What is wrong with it.
        errors: FieldErrors,
    },
    /// It holds no flow.
    #[error("no flow in it")]
    Empty,
}

/// The flows by name.
#[derive(Debug, Clone)]
pub struct Flows(BTreeMap<String, StartPipeline>);

impl Flows {
    /// Reads and checks the text of a file.
    ///
    /// # Errors
    /// What is wrong with the file, or with the first flow that can't be planned.
    pub fn read(text: &str, planner: &Planner) -> Result<Self, FlowsError> {
        // By way of YAML's own value, which refuses a name that stands twice.
        let yaml: serde_norway::Value = serde_norway::from_str(text)?;
        let bodies: BTreeMap<String, Value> = serde_norway::from_value(yaml)?;
        if bodies.is_empty() {
            return Err(FlowsError::Empty);
        }
        let mut flows = BTreeMap::new();
        for (flow, body) in bodies {
            let mut errors = FieldErrors::default();
            let request = StartPipeline::read(&body, &mut errors);
            let now = TimestampMs::now();
            let plan = planner.plan(&request, now, Short::random(), &mut errors);
            if let Err(errors) = errors.or(plan) {
                return Err(FlowsError::Flow { flow, errors });
            }
            flows.insert(flow, request);
        }
        Ok(Self(flows))
    }

    /// The names of all.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// What `POST /queues/start-test-flow` asks for.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn start(
        &self,
        body: &Value,
        planner: &Planner,
        launched: TimestampMs,
        short: Short,
    ) -> Result<Plan, FieldErrors> {
        let mut errors = FieldErrors::default();
        let asked = StartTestFlow::read(body, &mut errors);
        let Some(name) = &asked.flow_name else {
            return errors.or(None);
        };
        let Some(flow) = self.0.get(name) else {
            let names: Vec<_> = self.names().collect();
            errors.wrong("flow_name", name, &format!("one of {}", names.join(", ")));
            return errors.or(None);
        };
        let mut pipeline = flow.clone();
        if asked.symbol.is_some() {
            pipeline.symbol.clone_from(&asked.symbol);
        }
        if asked.time_range.is_some() {
            pipeline.time_range.clone_from(&asked.time_range);
        }
        for (variable, value) in &asked.extra_params {
            let mut taken = false;
            for worker in &mut pipeline.microservices {
                let target = worker.target.as_deref().and_then(Target::find);
                let mut settable = target.into_iter().flat_map(Target::settable);
                if settable.any(|known| known.name == variable) {
                    worker.env.insert(variable.clone(), value.clone());
                    taken = true;
                }
            }
            if !taken {
                let shown: String = variable.chars().take(64).collect();
                errors.wrong(
                    &format!("extra_params.{shown}"),
                    "a variable that no worker of this flow takes from a request",
                    &format!("one of {}", settable_of(&pipeline)),
                );
            }
        }
        let mut of_plan = FieldErrors::default();
        let plan = planner.plan(&pipeline, launched, short, &mut of_plan);
        errors.add(of_plan.renamed(|field| match field.split_once(".env.") {
            Some((_, variable)) => format!("extra_params.{variable}"),
            None => field.to_owned(),
        }));
        errors.or(plan)
    }
}

/// The variables that some worker takes from a request.
fn settable_of(pipeline: &StartPipeline) -> String {
    let targets = pipeline.microservices.iter();
    let targets = targets.filter_map(|worker| Target::find(worker.target.as_deref()?));
    let names: std::collections::BTreeSet<_> = targets
        .flat_map(Target::settable)
        .map(|variable| variable.name)
        .collect();
    names.into_iter().collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests;
