//! `streamforge up`: a dev stack that stays, and what other terminals need to use it.
//!
//! Its promise: once the variables are printed and in their file, everything answers; a workflow's topics are there soon
//! after its first worker; the file is gone when the stack is. stdout has the variables and nothing else. On an Apache
//! Kafka people are another user than workers are, so there is a second file, for people.

mod advice;
mod env_file;
mod manager;

use std::{
    collections::BTreeSet,
    io::{self, Write},
    process::ExitCode,
};

use anyhow::Context;
use streamforge_devstack::kafka::Broker;
use streamforge_utils::{
    config::Vars,
    logging::TextFields,
    protocol::{Symbol, data_topic, dead_letter_topic},
    shutdown::StopSignal,
};
use tracing_subscriber::{filter::Targets, layer::SubscriberExt, util::SubscriberInitExt};

use crate::{
    cli::{UpArgs, refuse_usage},
    events::Events,
    signals,
    source::{Source, SourceError},
    stack::Stack,
    talk::say,
};
use advice::Advice;
use env_file::EnvFile;

/// What was typed can't be done.
#[derive(Debug, thiserror::Error)]
enum UsageError {
    #[error("--symbol {0} was given twice")]
    DuplicateSymbol(Symbol),
    #[error(transparent)]
    Source(#[from] SourceError),
}

/// Keeps a stack up until a signal ends it. `vars` is the environment.
pub(crate) async fn run(args: UpArgs, vars: Vars) -> ExitCode {
    let source = match checked(&args) {
        Ok(source) => source,
        Err(error) => {
            let error = anyhow::Error::from(error);
            return refuse_usage("up", &format!("{error:#}"));
        }
    };
    start_logging(vars.get("LOG_LEVEL"));
    let stop = StopSignal::new();
    match keep_up(&args, &source, &stop, &vars).await {
        Ok(code) => code,
        Err(error) => {
            say(&format!("error: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn checked(args: &UpArgs) -> Result<Source, UsageError> {
    let mut seen = BTreeSet::new();
    if let Some(twice) = args.symbols.iter().find(|symbol| !seen.insert(*symbol)) {
        return Err(UsageError::DuplicateSymbol(twice.clone()));
    }
    Ok(Source::new(&args.exchange, &args.symbols, args.interval)?)
}

/// Errors of the stack, or what `level` asks for, to stderr.
fn start_logging(level: Option<&String>) {
    let level = level.and_then(|level| level.parse::<Targets>().ok());
    let filter = level.unwrap_or_else(|| Targets::new().with_default(tracing::Level::ERROR));
    let lines = tracing_subscriber::fmt::layer()
        .fmt_fields(TextFields)
        .with_ansi(false)
        .with_writer(io::stderr);
    // Fails only if logging was started before, which is good enough.
    let _ = tracing_subscriber::registry()
        .with(filter)
        .with(lines)
        .try_init();
}

async fn keep_up(
    args: &UpArgs,
    source: &Source,
    stop: &StopSignal,
    process: &Vars,
) -> anyhow::Result<ExitCode> {
    stop.listen_for_signals().context("listen for signals")?;
    signals::end_with_terminal(stop).context("listen for signals")?;
    let file = EnvFile::reserve(&args.env_file)?;
    let operator_file = match &args.kafka {
        Some(_) => Some(EnvFile::reserve(&env_file::for_operators(&args.env_file))?),
        None => None,
    };
    let data = args.data.as_deref();
    let stack = tokio::select! {
        biased;
        () = stop.cancelled() => return Ok(signals::exit_code(stop)),
        stack = Stack::start(source, &args.symbols, data, args.kafka.as_deref()) => stack?,
    };
    let plan = match args.no_queue_manager {
        true => None,
        false => manager::Plan::new()?,
    };
    let with_url = |mut vars: Vars| {
        if let Some(plan) = &plan {
            vars.insert("QUEUE_MANAGER_URL".to_owned(), plan.url());
        }
        vars
    };
    let vars = with_url(stack.vars());
    let lines = env_file::lines(&vars)?;
    let file = file.publish(&lines)?;
    let operator_file = match (operator_file, stack.operator_vars()) {
        (Some(file), Some(vars)) => Some(file.publish(&env_file::lines(&with_url(vars))?)?),
        _ => None,
    };
    let mut manager = match plan {
        None => None,
        Some(plan) => {
            let starting = plan.start(stack.manager_vars(), file.path(), process);
            tokio::select! {
                manager = starting => Some(manager?),
                () = stop.cancelled() => return Ok(signals::exit_code(stop)),
            }
        }
    };
    print(&if args.json {
        serde_json::to_string(&vars)? + "\n"
    } else {
        lines
    })?;
    let advice = Advice {
        places: &stack.places(),
        data,
        env_file: file.path(),
        operator_file: operator_file.as_ref().map(env_file::Published::path),
        manager: manager
            .as_ref()
            .map(|manager| (manager.url(), manager.log())),
    };
    say(&advice.text());
    tokio::select! {
        () = stop.cancelled() => {}
        made = make_topics(&stack, args.partitions) => made?,
        () = keep(manager.as_mut()) => {}
    }
    // First of all, so that nobody reads them who would find nothing.
    drop((file, operator_file));
    say("Ending the dev stack; a second Ctrl-C does not wait for it.");
    if let Some(manager) = manager {
        manager.end(stop).await;
    }
    Ok(tokio::select! {
        () = stack.stop() => ExitCode::SUCCESS,
        () = stop.at_once() => signals::exit_code(stop),
    })
}

/// Never ends: queue-manager is started again whenever it has ended.
async fn keep(manager: Option<&mut manager::Manager>) {
    match manager {
        Some(manager) => manager.keep().await,
        None => std::future::pending().await,
    }
}

/// Makes the topics of each workflow as soon as one of its workers has spoken, on a broker that can't make them when
/// asked. A loader that looks for its topic before that tries again. A workflow of queue-manager gets as many partitions
/// as it has asked for, and every one at least `partitions`.
async fn make_topics(stack: &Stack, partitions: i32) -> anyhow::Result<()> {
    let Broker::Mock(kafka) = &stack.kafka else {
        return std::future::pending().await;
    };
    let events = Events::follow(&kafka.config()).context("follow queue-events")?;
    let mut board = events.board();
    let mut known = BTreeSet::new();
    loop {
        let spoken: BTreeSet<_> = board.borrow_and_update().queue_ids().collect();
        for queue_id in &spoken - &known {
            let asked = match stack.partitions_of(&queue_id).await {
                Ok(asked) => asked.unwrap_or(1),
                // Asked again when a worker speaks next.
                Err(error) => {
                    tracing::error!(%error, queue.id = %queue_id, "How many partitions it needs is not known");
                    continue;
                }
            };
            let data = data_topic(&queue_id);
            for (topic, partitions) in
                [(dead_letter_topic(&data), 1), (data, partitions.max(asked))]
            {
                match kafka.create_topic(&topic, partitions) {
                    Ok(()) if partitions > 1 => {
                        say(&format!(
                            "Made the topic {topic} with {partitions} partitions"
                        ));
                    }
                    Ok(()) => say(&format!("Made the topic {topic}")),
                    // It comes to be also when a producer looks for it.
                    Err(error) => tracing::debug!(%error, topic, "Made no topic"),
                }
            }
            known.insert(queue_id);
        }
        if board.changed().await.is_err() {
            tracing::error!("Nothing reads queue-events any more, so no topics are made");
            return std::future::pending().await;
        }
    }
}

fn print(text: &str) -> anyhow::Result<()> {
    let mut stdout = io::stdout();
    stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush())
        .context("print the variables")
}
