//! `queue list`: pages of workflows as a table, or as they came.

use serde_json::Value;
use streamforge_utils::protocol::TimestampMs;

use super::{
    Output,
    api::{QueuePage, Workflow},
    client::{Client, Request},
    failure::Failure,
    table::{Cell, table},
    text,
};
use crate::cli::queue::ListArgs;

/// Most rows that queue-manager gives at a time.
const MOST_ROWS: u32 = 500;

pub(super) async fn list(client: &Client, args: &ListArgs) -> Result<(), Failure> {
    let output = Output::new(args.output.json);
    let limit = if args.all { MOST_ROWS } else { args.limit };
    let mut cursor = args.cursor.clone();
    let mut workflows: Vec<Workflow> = Vec::new();
    loop {
        let page = page(client, request(args, limit), cursor).await?;
        for queue in &page.queues {
            if output.is_json() {
                output.json(queue)?;
            } else {
                workflows.push(client.read(queue)?);
            }
        }
        cursor = page.next_cursor;
        if cursor.is_none() || !args.all {
            break;
        }
    }
    if !output.is_json() {
        if workflows.is_empty() {
            output.say("There is no such workflow. `streamforge queue start --help` says how to start one.");
        } else {
            output.print(&rows(&workflows, TimestampMs::now()))?;
        }
    }
    if let Some(cursor) = cursor {
        output.say(&format!("There are more: --all, or --cursor {cursor}"));
    }
    Ok(())
}

fn request(args: &ListArgs, limit: u32) -> Request {
    let mut request = Request::get(&["queues"]).query("limit", limit);
    if !args.statuses.is_empty() {
        let statuses: Vec<_> = args.statuses.iter().map(|status| status.as_str()).collect();
        request = request.query("status", statuses.join(","));
    }
    if let Some(symbol) = &args.symbol {
        request = request.query("symbol", symbol);
    }
    if let Some(kind) = &args.kind {
        request = request.query("type", kind);
    }
    for (name, instant) in [
        ("created_from", args.created_from),
        ("created_before", args.created_before),
    ] {
        if let Some(instant) = instant {
            request = request.query(name, instant.as_millis());
        }
    }
    request
}

/// A page of a list, from `cursor` on.
pub(super) async fn page(
    client: &Client,
    request: Request,
    cursor: Option<String>,
) -> Result<QueuePage, Failure> {
    let request = match cursor {
        Some(cursor) => request.query("cursor", cursor),
        None => request,
    };
    // Rows stay as they came; only the page itself is read here.
    let Value::Object(data) = client.ask(&request).await?.data else {
        return client.read(&Value::Null);
    };
    serde_json::from_value(Value::Object(data)).or_else(|_| client.read(&Value::Null))
}

fn rows(workflows: &[Workflow], now: TimestampMs) -> String {
    let rows: Vec<_> = workflows
        .iter()
        .map(|workflow| row(workflow, now))
        .collect();
    table(
        [
            "queue", "status", "symbol", "type", "range", ">done", ">rate", ">age", "end",
        ],
        &rows,
    )
}

fn row(workflow: &Workflow, now: TimestampMs) -> [Cell; 9] {
    let totals = &workflow.totals;
    let runs = !workflow.status.is_final();
    let age = workflow
        .created_at
        .map(|at| text::span(now.as_millis() - at.as_millis()));
    let end = match (runs, workflow.ended_at) {
        _ if workflow.removal.is_some() => Some("being removed".to_owned()),
        (true, _) if workflow.stop.is_some() => Some("being stopped".to_owned()),
        (true, _) if workflow.turn.is_some() => workflow.turn.as_ref().map(text::place),
        (false, Some(at)) => Some(format!(
            "{} ago",
            text::span(now.as_millis() - at.as_millis())
        )),
        _ => text::end(totals, now)
            .filter(|_| runs)
            .map(|end| end.trim_start_matches("ends ").to_owned()),
    };
    [
        workflow.queue_id.as_str().into(),
        Cell::styled(workflow.status.as_str(), text::style(&workflow.status)),
        workflow.symbol.as_str().into(),
        workflow.kind.as_str().into(),
        workflow.time_range.as_deref().into(),
        text::percentage(totals)
            .unwrap_or_else(|| text::count(totals.written))
            .into(),
        totals.rate.filter(|_| runs).map(text::rate).into(),
        age.into(),
        end.into(),
    ]
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::queue::api::tests::{NOW, workflow};

    #[test]
    fn a_table_has_what_a_person_asks_first() {
        let workflows = [
            workflow(json!({})),
            workflow(
                json!({"queue_id": "wf-ethusdt-api_candles_1h-20240731-zzz999", "symbol": "ETHUSDT",
                "type": "api_candles_1h", "status": "finished", "ended_at": NOW.0 - 7_200_000,
                "created_at": NOW.0 - 90_000_000, "totals": {"written": 744, "total": 744, "rate": 90.0, "percentage": 100.0}}),
            ),
            workflow(
                json!({"queue_id": "wf-btcusdt-dummy-20240801-q1w2e3", "type": "dummy", "time_range": null,
                "status": "pending", "started_at": null, "created_at": NOW.0, "totals": {"written": 0}}),
            ),
            workflow(
                json!({"queue_id": "wf-bnbusdt-dummy-20240801-a1b2c3", "symbol": "BNBUSDT", "type": "dummy",
                "time_range": null, "status": "pending", "started_at": null, "created_at": NOW.0,
                "totals": {"written": 0}, "turn": {"before": 3, "waits_for": "place", "limit": 50}}),
            ),
            workflow(json!({"stop": {"at": 0, "drain": true, "by": "ops"}})),
            workflow(
                json!({"status": "finished", "ended_at": NOW.0, "removal": {"at": 0, "by": "ops"},
                "totals": {"written": 0}}),
            ),
        ];
        let text = rows(&workflows, NOW);
        insta::assert_snapshot!(anstream::adapter::strip_str(&text).to_string());
    }
}
