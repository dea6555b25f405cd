//! Ids as people type them: the last part of one is enough where it is the only one.

use std::collections::BTreeSet;

use super::{
    api::Workflow,
    client::{Client, Request},
    failure::Failure,
    list::page,
};
use crate::cli::queue::StatusName;

/// Of those that have ended, so many of the newest are looked through.
const RECENT: u32 = 500;

/// The whole id of what was typed.
///
/// # Errors
/// There is none, or there are several; or queue-manager can't say.
pub(super) async fn resolve(client: &Client, typed: &str) -> Result<String, Failure> {
    if typed.starts_with("wf-") {
        return Ok(typed.to_owned());
    }
    if typed.is_empty() {
        return Err(Failure::Usage("an id is empty".to_owned()));
    }
    let request = || Request::get(&["queues"]).query("limit", RECENT);
    let mut found = BTreeSet::new();
    for workflow in unfinished(client).await? {
        found.insert(workflow.queue_id);
    }
    for queue in page(client, request(), None).await?.queues {
        found.insert(client.read::<Workflow>(&queue)?.queue_id);
    }
    choose(typed, &found)
}

/// All workflows that have not ended, newest first.
///
/// # Errors
/// queue-manager can't say.
pub(super) async fn unfinished(client: &Client) -> Result<Vec<Workflow>, Failure> {
    let statuses = StatusName::UNFINISHED.map(StatusName::as_str).join(",");
    let (mut all, mut cursor) = (Vec::new(), None);
    loop {
        let request = Request::get(&["queues"])
            .query("status", &statuses)
            .query("limit", RECENT);
        let page = page(client, request, cursor).await?;
        for queue in &page.queues {
            all.push(client.read(queue)?);
        }
        cursor = page.next_cursor;
        if cursor.is_none() {
            return Ok(all);
        }
    }
}

fn choose(typed: &str, all: &BTreeSet<String>) -> Result<String, Failure> {
    let end = format!("-{typed}");
    let found: Vec<&str> = all
        .iter()
        .map(String::as_str)
        .filter(|id| id.ends_with(&end))
        .collect();
    match found.as_slice() {
        [one] => Ok((*one).to_owned()),
        [] => Err(Failure::NotFound(format!(
            "no workflow that runs, and none of the last {RECENT}, ends in {typed}"
        ))),
        several => Err(Failure::Usage(format!(
            "several workflows end in {typed}: {}",
            several.join(", ")
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_part_is_enough_if_it_is_the_only_one() {
        let all = [
            "wf-a-dummy-20240801-abc123",
            "wf-b-dummy-20240801-abc123",
            "wf-b-dummy-20240801-xyz789",
        ];
        let all = all.map(str::to_owned).into();
        assert_eq!(
            choose("xyz789", &all).unwrap(),
            "wf-b-dummy-20240801-xyz789"
        );
        assert_eq!(
            choose("b-dummy-20240801-abc123", &all).unwrap(),
            "wf-b-dummy-20240801-abc123"
        );
        let several = choose("abc123", &all).unwrap_err().to_string();
        assert!(
            several.contains("wf-a") && several.contains("wf-b-dummy-20240801-abc123"),
            "{several}"
        );
        assert!(
            matches!(choose("789", &all), Err(Failure::NotFound(_))),
            "not half of a part"
        );
    }
}
