//! `queue show`: a workflow and each worker, and what a person does next.

use std::fmt::Write;

use streamforge_utils::protocol::{Gap, TimestampMs};

use super::{
    Output,
    api::{Part, Status, Workflow},
    client::Client,
    failure::Failure,
    resolve::resolve,
    table::{Cell, table},
    text,
};
use crate::cli::queue::ShowArgs;

/// Gaps that people are shown; the JSON has all that the loader lists.
const GAPS_SHOWN: usize = 10;
/// A worker that refused its configuration.
const EXIT_CONFIG: i32 = streamforge_utils::worker::EXIT_CONFIG as i32;

pub(super) async fn show(client: &Client, args: &ShowArgs) -> Result<(), Failure> {
    let output = Output::new(args.output.json);
    let id = resolve(client, &args.id).await?;
    let (raw, workflow) = client.workflow(&id).await?;
    if output.is_json() {
        return output.json(&raw);
    }
    output.print(&text_of(&workflow, TimestampMs::now()))
}

fn text_of(workflow: &Workflow, now: TimestampMs) -> String {
    let ago = |at: TimestampMs| text::span(now.as_millis() - at.as_millis());
    let mut text = format!(
        "{}  {}\n",
        workflow.queue_id,
        text::coloured(&workflow.status)
    );
    let _ = writeln!(text, "  {}, run {}", workflow.what(), workflow.run);
    if let Some(at) = workflow.created_at {
        let _ = write!(text, "  asked for {at} ({} ago)", ago(at));
        if let Some(took) = text::took(workflow, now) {
            let verb = if workflow.status.is_final() {
                "ran"
            } else {
                "has run"
            };
            let _ = write!(text, ", {verb} for {took}");
        }
        text.push('\n');
    }
    let _ = write!(text, "  {}", text::counts(&workflow.totals));
    let pace = text::pace(&workflow.status, &workflow.totals, now);
    if !pace.is_empty() {
        let _ = write!(text, ", {pace}");
    }
    text.push('\n');
    if let Some(topic) = &workflow.kafka_topic {
        let deleted = match workflow.retention.deleted_at {
            Some(at) => format!(" (deleted {at})"),
            None => String::new(),
        };
        let _ = writeln!(text, "  topic {topic}{deleted}");
    }
    if let Some(why) = text::why(workflow) {
        let style = text::style(&workflow.status);
        let _ = writeln!(text, "  {style}{why}{style:#}");
    }
    write_workers(&mut text, workflow, now);
    write_gaps(&mut text, workflow);
    let _ = writeln!(text, "\n{}", next_step(workflow));
    text
}

fn write_workers(text: &mut String, workflow: &Workflow, now: TimestampMs) {
    if workflow.parts.is_empty() {
        return;
    }
    let rows: Vec<_> = workflow
        .parts
        .iter()
        .map(|part| worker(workflow, part, now))
        .collect();
    text.push('\n');
    *text += &table(
        [
            "worker", "status", ">records", ">of", ">rate", "end", ">Jobs", ">exit", "job",
        ],
        &rows,
    );
    for part in &workflow.parts {
        // The last event of a worker that runs is only its counts.
        let says = part.reason.as_ref().or_else(|| {
            let message = part.message.as_ref();
            message.filter(|_| part.status.is_final())
        });
        if let Some(says) = says {
            let style = text::style(&part.status);
            let _ = writeln!(text, "{}: {style}{says}{style:#}", part.telemetry_id);
        }
        if let Some(collection) = &part.collection {
            let _ = writeln!(
                text,
                "{}: writes to collection {collection}",
                part.telemetry_id
            );
        }
        if part.progress.rejected > 0
            && part.collection.is_some()
            && let Some(topic) = &workflow.kafka_topic
        {
            let rejected = text::count(part.progress.rejected);
            let _ = writeln!(
                text,
                "{}: {rejected} rejected, in topic {topic}-dlq",
                part.telemetry_id
            );
        }
    }
}

fn worker(workflow: &Workflow, part: &Part, now: TimestampMs) -> [Cell; 9] {
    let progress = &part.progress;
    let runs = !part.status.is_final();
    let end = text::end(progress, now).filter(|_| runs);
    [
        part.telemetry_id.as_str().into(),
        Cell::styled(part.status.as_str(), text::style(&part.status)),
        text::count(progress.written).into(),
        workflow.expected_of(part).map(text::count).into(),
        progress.rate.filter(|_| runs).map(text::rate).into(),
        end.map(|end| end.trim_start_matches("ends ").to_owned())
            .into(),
        part.attempts.to_string().into(),
        part.exit_code.map(|code| code.to_string()).into(),
        part.job_name.as_str().into(),
    ]
}

fn write_gaps(text: &mut String, workflow: &Workflow) {
    let gaps: Vec<&Gap> = workflow.parts.iter().flat_map(|part| &part.gaps).collect();
    if gaps.is_empty() {
        return;
    }
    let missing: u64 = gaps.iter().map(|gap| gap.missing).sum();
    let plural = if gaps.len() == 1 { "" } else { "s" };
    let spans: Vec<_> = gaps
        .iter()
        .take(GAPS_SHOWN)
        .map(|gap| gap.to_string())
        .collect();
    let more = if gaps.len() > GAPS_SHOWN { ", ..." } else { "" };
    let _ = writeln!(
        text,
        "\nThe exchange does not have {} in {} gap{plural}: {}{more}",
        text::count(missing),
        gaps.len(),
        spans.join(", ")
    );
}

/// What a person does next.
pub(super) fn next_step(workflow: &Workflow) -> String {
    let id = &workflow.queue_id;
    let culprit = workflow
        .parts
        .iter()
        .find(|part| part.status == workflow.status);
    let look = match culprit {
        Some(part) => format!("streamforge queue logs {id} --part {}", part.telemetry_id),
        None => format!("streamforge queue logs {id}"),
    };
    if workflow.removal.is_some() {
        return "It is being removed; after that there is nothing of it here any more.".to_owned();
    }
    if workflow.stop.is_some() && !workflow.status.is_final() {
        return format!("It is being stopped. Wait for its end: streamforge queue watch {id}");
    }
    match workflow.status {
        Status::Pending => format!(
            "It begins by itself when it is its turn. Follow it: streamforge queue watch {id}"
        ),
        Status::Starting | Status::Running | Status::Other(_) => {
            format!("Follow it: streamforge queue watch {id}")
        }
        Status::Stalled => format!(
            "It goes on by itself if what it waits for comes back. Look into it: {look}\n\
             Or end it: streamforge queue stop {id}"
        ),
        Status::Finished => {
            let all: Vec<_> = workflow
                .parts
                .iter()
                .filter_map(|part| part.collection.as_deref())
                .collect();
            match all.as_slice() {
                [] => "All is done.".to_owned(),
                all => format!(
                    "All is done: everything that the exchange has of it is in {}.",
                    all.join(", ")
                ),
            }
        }
        Status::Interrupted => {
            format!("Go on where it ended: streamforge queue retry {id}")
        }
        Status::Error => {
            let first = if culprit.is_some_and(|part| part.exit_code == Some(EXIT_CONFIG)) {
                "Its configuration is wrong; mend that first. What it says:"
            } else {
                "Look why:"
            };
            let then = if culprit.is_some_and(|part| part.retryable == Some(false)) {
                "Trying again alone can't mend that. Once its cause is gone,"
            } else {
                "Then"
            };
            format!(
                "{first} {look}\n{then} run again what did not finish: streamforge queue retry {id}"
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::queue::api::{
        read,
        tests::{NOW, workflow, workflow_json},
    };

    fn shown(more: serde_json::Value) -> String {
        anstream::adapter::strip_str(&text_of(&workflow(more), NOW)).to_string()
    }

    #[test]
    fn a_workflow_that_runs_is_shown_with_its_pace() {
        insta::assert_snapshot!(shown(json!({})));
    }

    #[test]
    fn a_workflow_that_waits_says_how_many_are_before_it() {
        let turn = json!({"before": 3, "waits_for": "exchange", "limit": 4});
        let shown = shown(
            json!({"status": "pending", "started_at": null, "totals": {}, "parts": [], "turn": turn}),
        );
        insta::assert_snapshot!(shown);
    }

    #[test]
    fn a_workflow_that_failed_says_why_and_what_to_do() {
        let part = |name: &str, more: serde_json::Value| {
            let mut part = json!({"telemetry_id": format!("{name}__abc123"), "job_name": format!("job-{name}"),
                "progress": {"written": 1000, "total": 1440, "rejected": 2}, "attempts": 2});
            part.as_object_mut()
                .unwrap()
                .extend(more.as_object().cloned().unwrap());
            part
        };
        insta::assert_snapshot!(shown(json!({
            "status": "error", "ended_at": NOW.0 - 5_000, "run": 2,
            "reason": "arango-candles__abc123: exit code 78: its configuration is wrong",
            "totals": {"written": 1000, "total": 1440, "rejected": 2, "missing": 60, "percentage": 73.7},
            "parts": [
                part("loader-api-candles", json!({"status": "finished", "message": "1380 records", "exit_code": 0,
                    "gaps": [{"start": NOW.0, "end": NOW.0 + 3_600_000, "missing": 60}]})),
                part("arango-candles", json!({"status": "error", "exit_code": 78, "collection": "candles",
                    "reason": "exit code 78: its configuration is wrong"})),
            ],
        })));
    }

    #[test]
    fn every_state_has_a_next_step() {
        let states = [
            "pending",
            "starting",
            "running",
            "stalled",
            "finished",
            "interrupted",
            "error",
            "paused",
        ];
        let mut text = states
            .map(|status| {
                format!(
                    "{status}: {}\n",
                    next_step(&workflow(json!({"status": status})))
                )
            })
            .concat();
        let mut for_good = workflow_json(json!({"status": "error"}));
        for field in [json!({"status": "error"}), json!({"retryable": false})] {
            let part = for_good["parts"][1].as_object_mut().unwrap();
            part.extend(field.as_object().cloned().unwrap());
        }
        let for_good = next_step(&read(&for_good).unwrap());
        let _ = writeln!(text, "error for good: {for_good}");
        let stopped = json!({"stop": {"at": 0, "drain": false, "by": "ops"}});
        let _ = writeln!(text, "stopped: {}", next_step(&workflow(stopped)));
        let removed = json!({"status": "error", "removal": {"at": 0, "by": "ops"}});
        let _ = write!(text, "deleted: {}", next_step(&workflow(removed)));
        insta::assert_snapshot!(text);
    }
}
