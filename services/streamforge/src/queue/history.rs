//! `queue events`: what the workers of a workflow have said, and go on to say.

use std::{collections::HashSet, fmt::Write, time::Duration};

use anstyle::{AnsiColor, Style};
use serde_json::Value;
use streamforge_utils::protocol::TimestampMs;

use super::{
    Output,
    api::{EventPage, HistoryEvent, WorkerEvent},
    client::{Client, Request},
    failure::Failure,
    resolve::resolve,
};
use crate::cli::queue::EventsArgs;

const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// Most rows that queue-manager gives at a time.
const MOST_ROWS: u32 = 500;

pub(super) async fn events(client: &Client, args: &EventsArgs) -> Result<(), Failure> {
    let output = Output::new(args.output.json);
    let id = resolve(client, &args.id).await?;
    let mut history = History::default();
    loop {
        // Asked first: what a worker says before its workflow has ended is then read below.
        let (_, workflow) = client.workflow(&id).await?;
        let printed = history.print_new(client, &id, output).await?;
        if !args.follow {
            if printed == 0 {
                output.say("None of its workers has said anything yet.");
            }
            return Ok(());
        }
        if workflow.status.is_final() {
            return Ok(());
        }
        tokio::time::sleep(LOOK_INTERVAL).await;
    }
}

/// What was printed. The last page has no cursor of its own, so it is read again, and known events are passed over.
#[derive(Debug, Default)]
struct History {
    cursor: Option<String>,
    /// Instance and number of the events of the last page.
    seen: HashSet<(String, u64)>,
}

impl History {
    async fn print_new(
        &mut self,
        client: &Client,
        id: &str,
        output: Output,
    ) -> Result<usize, Failure> {
        let mut printed = 0;
        loop {
            let mut request = Request::get(&["queues", id, "events"]).query("limit", MOST_ROWS);
            if let Some(cursor) = &self.cursor {
                request = request.query("cursor", cursor);
            }
            let answer = client.ask(&request).await?;
            let page: EventPage = client.read(&answer.data)?;
            for row in &page.events {
                let HistoryEvent { event } = client.read(row)?;
                if self.seen.insert((event.instance.clone(), event.seq)) {
                    print(output, row, &event)?;
                    printed += 1;
                }
            }
            match page.next_cursor {
                Some(next) => {
                    self.cursor = Some(next);
                    self.seen.clear();
                }
                None => return Ok(printed),
            }
        }
    }
}

fn print(output: Output, row: &Value, event: &WorkerEvent) -> Result<(), Failure> {
    output.either(row, &line(event))
}

fn line(event: &WorkerEvent) -> String {
    let style = match event.event.as_str() {
        "error" => AnsiColor::Red.on_default(),
        "interrupted" => AnsiColor::Yellow.on_default(),
        "finished" => AnsiColor::Green.on_default(),
        _ => Style::new(),
    };
    let at = TimestampMs((event.timestamp * 1_000.0) as i64).to_jiff();
    let mut line = format!(
        "{} {}",
        at.strftime("%Y-%m-%dT%H:%M:%S.%3fZ"),
        event.producer
    );
    if event.run > 1 {
        let _ = write!(line, " run {}", event.run);
    }
    let _ = write!(line, " {style}{}{style:#}", event.event);
    if let Some(reason) = &event.reason {
        let _ = write!(line, " ({reason})");
    }
    let message = event.error_message.as_ref().unwrap_or(&event.message);
    if !message.is_empty() && *message != event.event {
        let _ = write!(line, ": {message}");
    }
    line
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::queue::api;

    #[test]
    fn an_event_is_a_line() {
        let lines = [
            json!({"event": "started", "message": "started"}),
            json!({"event": "interrupted", "reason": "stop", "message": "1440 of 44640 records", "run": 2}),
            json!({"event": "error", "message": "failed", "error_message": "no broker for 300 s"}),
        ]
        .map(|more| {
            let mut event = json!({"producer": "arango-candles__abc123", "run": 1, "instance": "018f", "seq": 1,
                "timestamp": 1_722_470_700.25});
            event.as_object_mut().unwrap().extend(more.as_object().cloned().unwrap());
            let event = api::read(&event).unwrap();
            anstream::adapter::strip_str(&line(&event)).to_string()
        });
        insta::assert_snapshot!(lines.join("\n"));
    }
}
