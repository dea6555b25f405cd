//! `queue watch`, and all that waits for workflows to end.

use std::{collections::BTreeMap, process::ExitCode, sync::Arc, time::Duration};

use streamforge_utils::protocol::TimestampMs;
use tokio::{sync::mpsc, task::JoinSet, time::MissedTickBehavior};

use super::{
    Output,
    client::Client,
    failure::{EXIT_FAILED, Failure},
    feed::{News, State, feed},
    resolve::{resolve, unfinished},
    screen::Screen,
    shared::Shared,
    show::next_step,
    text,
};
use crate::cli::queue::WatchArgs;

/// A workflow that was watched was interrupted.
const EXIT_INTERRUPTED: u8 = 3;
/// How long queue-manager may be away while something is waited for.
pub(super) const PATIENCE: Duration = Duration::from_secs(300);
/// As many as one stream tells of; each is a few bars.
const MOST_WATCHED: usize = 100;
/// Between two looks at whether a line is due.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// News that may wait to be told.
const NEWS: usize = 64;

/// What is told of workflows that are followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Telling {
    /// Bars or lines on stderr; what came of each on stdout.
    People,
    /// Each change on stdout.
    JsonChanges,
    /// What came of each on stdout.
    JsonEnd,
}

impl Telling {
    /// Of something that began with another result.
    pub(super) fn of_end(output: Output) -> Self {
        if output.is_json() {
            Self::JsonEnd
        } else {
            Self::People
        }
    }
}

/// How workflows ended, taken together: the worst counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Ended {
    Finished,
    Interrupted,
    Failed,
}

impl Ended {
    fn of(state: &State) -> Self {
        use super::api::Status;
        match state.workflow.status {
            Status::Finished => Self::Finished,
            Status::Interrupted => Self::Interrupted,
            _ => Self::Failed,
        }
    }

    /// As `queue watch` has it.
    pub(super) fn exit_code(self) -> ExitCode {
        match self {
            Self::Finished => ExitCode::SUCCESS,
            Self::Interrupted => ExitCode::from(EXIT_INTERRUPTED),
            Self::Failed => ExitCode::from(EXIT_FAILED),
        }
    }
}

pub(super) async fn watch(client: &Client, args: &WatchArgs) -> Result<ExitCode, Failure> {
    let output = Output::new(args.json);
    let mut ids = Vec::new();
    for typed in &args.ids {
        let id = resolve(client, typed).await?;
        if !ids.contains(&id) {
            ids.push(id);
        }
    }
    if args.ids.is_empty() {
        let all = unfinished(client).await?;
        ids.extend(all.into_iter().map(|workflow| workflow.queue_id));
        if ids.is_empty() {
            output.say("No workflow runs.");
            return Ok(ExitCode::SUCCESS);
        }
    }
    let telling = if args.json {
        Telling::JsonChanges
    } else {
        Telling::People
    };
    let ended = follow(client, ids, args.patience.patience, telling).await?;
    Ok(ended.exit_code())
}

/// Follows workflows until all have ended, or are gone.
///
/// # Errors
/// There is none of an id; or queue-manager does not answer at first, or later for longer than `patience`.
pub(super) async fn follow(
    client: &Client,
    ids: Vec<String>,
    patience: Duration,
    telling: Telling,
) -> Result<Ended, Failure> {
    if ids.len() > MOST_WATCHED {
        return Err(Failure::Usage(format!(
            "{} workflows are more than can be watched at a time ({MOST_WATCHED}): name those that matter",
            ids.len()
        )));
    }
    let mut screen = Screen::new(telling == Telling::People);
    let mut watched = Watched {
        output: Output::new(telling != Telling::People),
        telling,
        ended: BTreeMap::new(),
    };
    let (sender, mut news) = mpsc::channel(NEWS);
    let mut feeds = JoinSet::new();
    let mut running = Vec::new();
    for id in ids {
        // Asked here first: what can't be asked for at all is said at once.
        let (raw, workflow) = client.workflow(&id).await?;
        let from = workflow.clone();
        watched.take(State { raw, workflow }, &mut screen)?;
        if !from.status.is_final() {
            running.push(from);
        }
    }
    let ids = running.iter().map(|workflow| workflow.queue_id.clone());
    let shared = Arc::new(Shared::new(client, ids));
    for from in running {
        let (client, shared, sender) = (client.clone(), Arc::clone(&shared), sender.clone());
        feeds.spawn(async move { feed(client, shared, &from, patience, sender).await });
    }
    drop(sender);
    let mut looks = tokio::time::interval(LOOK_INTERVAL);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            new = news.recv() => match new {
                None => break,
                Some(News::Is(state)) => watched.take(*state, &mut screen)?,
                Some(News::Gone { id }) => {
                    screen.say(&format!("{id} was deleted"));
                    watched.ended.insert(id, (Ended::Failed, None));
                }
                Some(News::Away(failure)) => screen.away(&failure),
                Some(News::Failed(failure)) => {
                    screen.close();
                    return Err(failure);
                }
            },
            _ = looks.tick() => screen.look(TimestampMs::now()),
        }
    }
    screen.close();
    watched.close()
}

/// What is followed, and how it ended.
struct Watched {
    output: Output,
    telling: Telling,
    ended: BTreeMap<String, (Ended, Option<State>)>,
}

impl Watched {
    fn take(&mut self, state: State, screen: &mut Screen) -> Result<(), Failure> {
        screen.take(&state.workflow, TimestampMs::now());
        if self.telling == Telling::JsonChanges {
            self.output.json(&state.raw)?;
        }
        if state.workflow.status.is_final() {
            let id = state.workflow.queue_id.clone();
            self.ended.insert(id, (Ended::of(&state), Some(state)));
        }
        Ok(())
    }

    fn close(self) -> Result<Ended, Failure> {
        let mut worst = Ended::Finished;
        for (ended, state) in self.ended.into_values() {
            worst = worst.max(ended);
            let Some(state) = state else { continue };
            match self.telling {
                Telling::JsonChanges => {}
                Telling::JsonEnd => self.output.json(&state.raw)?,
                Telling::People => {
                    let line = text::outcome(&state.workflow, TimestampMs::now());
                    self.output.print(&format!("{line}\n"))?;
                    if ended != Ended::Finished {
                        self.output.say(&next_step(&state.workflow));
                    }
                }
            }
        }
        Ok(worst)
    }
}
