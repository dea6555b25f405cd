//! `streamforge demo`: a whole pipeline on this machine, from an exchange to a database, and what came of it.
//!
//! Its promise: nothing is left behind but what was asked for (`--data`, `--logs`) and the logs of a failure; stdout
//! has the result and nothing else; the exit code says whether everything arrived.

mod environment;
mod launch;
mod logs;
mod plan;
mod progress;
mod summary;
mod workers;

use std::{
    io::{self, Write},
    path::Path,
    process::ExitCode,
    time::Duration,
};

use anyhow::Context;
use futures::future::try_join_all;
use streamforge_utils::{
    config::Vars, protocol::TimestampMs, shutdown::StopSignal, worker::job::inherited,
};
use tokio::time::Instant;

use crate::{
    cli::{DemoArgs, refuse_usage},
    events::{Board, Events},
    signals,
    source::Source,
    stack::Stack,
    talk::say,
};
use environment::worker_vars;
use launch::BothEnded;
use logs::Logs;
use plan::{PlanError, Workflow};
use progress::Screen;
use summary::{Counted, Outcome, Report, WorkflowReport};
use workers::Worker;

/// How long the last events of workers that have ended may take to be read.
const LAST_EVENTS_LIMIT: Duration = Duration::from_secs(5);

const SERVICES: [&str; 2] = [loader_api_candles::SERVICE, arango_candles::SERVICE];

/// Runs a demo to its end. `vars` is the environment, of which workers inherit next to nothing.
pub(crate) async fn run(args: DemoArgs, vars: Vars) -> ExitCode {
    let (source, workflows) = match planned(&args) {
        Ok(planned) => planned,
        Err(error) => return refuse(error),
    };
    let stop = StopSignal::new();
    let demo = Demo {
        args: &args,
        vars: &vars,
        source: &source,
        workflows: &workflows,
        stop: &stop,
    };
    match demo.run().await {
        Ok(code) => code,
        Err(error) => {
            say(&format!("error: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn planned(args: &DemoArgs) -> Result<(Source, Vec<Workflow>), PlanError> {
    let launched = TimestampMs::now();
    let source = Source::new(&args.exchange, &args.symbols, args.interval)?;
    let workflows = plan::workflows(args, &source, launched)?;
    Ok((source, workflows))
}

fn refuse(error: PlanError) -> ExitCode {
    let error = anyhow::Error::from(error);
    refuse_usage("demo", &format!("{error:#}"))
}

struct Demo<'a> {
    args: &'a DemoArgs,
    vars: &'a Vars,
    source: &'a Source,
    workflows: &'a [Workflow],
    stop: &'a StopSignal,
}

impl Demo<'_> {
    async fn run(&self) -> anyhow::Result<ExitCode> {
        self.stop
            .listen_for_signals()
            .context("listen for signals")?;
        let mut logs = Logs::open(self.args.logs.as_deref())?;
        logs.start_own()?;
        let symbols: Vec<_> = self.workflows.iter().map(|w| w.symbol.clone()).collect();
        let stack = Stack::start(self.source, &symbols, self.args.data.as_deref(), None).await?;
        for workflow in self.workflows {
            let topic = &workflow.data_topic;
            let made = stack
                .kafka
                .create_data_topic(topic, workflow.partitions)
                .await;
            made.with_context(|| format!("make the topic {topic}"))?;
        }
        let result = self.load(&stack, &logs).await;
        self.show_logs(&mut logs, result.as_ref().ok());
        let report = result?;
        self.print(&report)?;
        if self.args.keep && report.outcome != Outcome::Interrupted {
            self.stay(&stack).await;
        }
        stack.stop().await;
        Ok(match report.outcome {
            Outcome::Finished => ExitCode::SUCCESS,
            Outcome::Failed => ExitCode::FAILURE,
            Outcome::Interrupted => signals::exit_code(self.stop),
        })
    }

    /// Runs all workflows, shows how far they are, and says what came of them.
    async fn load(&self, stack: &Stack, logs: &Logs) -> anyhow::Result<Report> {
        let events = Events::follow(&stack.kafka.config()?).context("follow queue-events")?;
        let screen = Screen::new(self.workflows);
        screen.say(&format!("Started {}", stack.places()));
        screen.say(&logs.place());
        let mut before = Vec::new();
        for workflow in self.workflows {
            let count = stack.count(&workflow.collection).await;
            before.push(count.context("count the documents that are there before")?);
        }
        let began = Instant::now();
        let launched = self.workflows.iter().map(async |workflow| {
            let workers = (
                self.worker(stack, logs, workflow, loader_api_candles::SERVICE)?,
                self.worker(stack, logs, workflow, arango_candles::SERVICE)?,
            );
            let said = |text: String| screen.say(&text);
            launch::launch(workflow, stack, workers, events.board(), self.stop, said).await
        });
        let ended = tokio::select! {
            ended = try_join_all(launched) => ended?,
            () = screen.follow(events.board()) => anyhow::bail!("nothing reads queue-events any more"),
        };
        let seconds = began.elapsed().as_secs_f64();
        let board = self.last_words(&events, &ended).await;
        screen.close(&board);
        let mut reports = Vec::new();
        for ((workflow, ended), before) in self.workflows.iter().zip(&ended).zip(before) {
            let after = stack.count(&workflow.collection).await;
            let counted = Counted { before, after };
            reports.push(self.report(workflow, ended, &board, &counted));
        }
        Ok(Report::new(reports, seconds))
    }

    fn worker(
        &self,
        stack: &Stack,
        logs: &Logs,
        workflow: &Workflow,
        service: &'static str,
    ) -> anyhow::Result<Worker> {
        let outside =
            matches!(self.source, Source::Live(_)) && service == loader_api_candles::SERVICE;
        let mut vars = inherited(self.vars, outside);
        vars.extend(worker_vars(stack, workflow, service));
        Ok(Worker {
            service,
            vars,
            log: logs.begin(workflow, service)?,
        })
    }

    fn report(
        &self,
        workflow: &Workflow,
        ended: &BothEnded,
        board: &Board,
        counted: &Counted,
    ) -> WorkflowReport {
        let last = SERVICES.map(|service| board.last(&workflow.queue_id, service));
        WorkflowReport::new(workflow, ended, last, counted, self.stop.is_cancelled())
    }

    /// Waits for the last event of every worker that had the time for one.
    async fn last_words(&self, events: &Events, ended: &[BothEnded]) -> Board {
        let mut board = events.board();
        let all_said = |board: &Board| {
            self.workflows.iter().zip(ended).all(|(workflow, ended)| {
                SERVICES
                    .iter()
                    .zip([ended.loader, ended.writer])
                    .filter(|(_, ended)| ended.exit_code.is_some())
                    .filter_map(|(service, _)| board.last(&workflow.queue_id, service))
                    .all(|event| event.finished)
            })
        };
        let _ = tokio::time::timeout(LAST_EVENTS_LIMIT, board.wait_for(all_said)).await;
        board.borrow().clone()
    }

    /// The end of each log that may tell what failed, and where the whole ones are; they stay.
    fn show_logs(&self, logs: &mut Logs, report: Option<&Report>) {
        let culprits: Vec<_> = match report {
            Some(report) => report.culprits().collect(),
            None => vec![SERVICES.to_vec(); self.workflows.len()],
        };
        let mut shown = false;
        for (workflow, services) in self.workflows.iter().zip(culprits) {
            for service in services {
                let path = logs.path(workflow, service);
                say(&format!(
                    "--- {} ---\n{}",
                    path.display(),
                    logs::tail(&path)
                ));
                shown = true;
            }
        }
        if shown {
            logs.keep();
            say(&format!("Whole logs: {}", logs.folder().display()));
        }
    }

    fn print(&self, report: &Report) -> anyhow::Result<()> {
        let text = if self.args.json {
            serde_json::to_string(report)? + "\n"
        } else {
            report.text() + &self.where_to_look()
        };
        io::stdout()
            .write_all(text.as_bytes())
            .context("print the result")
    }

    fn where_to_look(&self) -> String {
        match (&self.args.data, self.args.keep) {
            (_, true) => String::new(),
            (Some(folder), false) => kept_in(folder),
            (None, false) => "It was in memory and is gone; --keep stays up so that you can look at it, --data DIR keeps it.\n".to_owned(),
        }
    }

    /// Stays up until Ctrl-C.
    async fn stay(&self, stack: &Stack) {
        let mut text = String::from(
            "\nEverything stays up until Ctrl-C. To use it from another terminal:\n\n",
        );
        for (name, value) in stack.vars() {
            text.push_str(&format!("export {name}={value}\n"));
        }
        text.push_str("\nThe newest candles of a collection, for example:\n\n");
        for workflow in self.workflows {
            text.push_str(&stack.example(&workflow.collection));
        }
        say(&text);
        self.stop.cancelled().await;
    }
}

fn kept_in(folder: &Path) -> String {
    format!("The database is kept in {}.\n", folder.display())
}
