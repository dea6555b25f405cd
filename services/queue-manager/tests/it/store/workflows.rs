//! States of workflows: revisions, lists and pages.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use queue_manager::store::{Cursor, Excerpt, Filter, Found, Row, StoreError, Workflows};
use serde::{Deserialize, Serialize};
use streamforge_devstack::arango::Fault;
use streamforge_utils::protocol::{QueueId, TimestampMs};

use super::{NOW, queue_id, replica, server};

/// What the store knows of a workflow, and something that it does not know.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct State {
    pub(crate) queue_id: QueueId,
    pub(crate) symbol: String,
    #[serde(rename = "type")]
    pub(crate) kind: String,
    pub(crate) status: String,
    pub(crate) created_at: TimestampMs,
    /// What was done to it.
    pub(crate) done: BTreeSet<String>,
    pub(crate) padding: String,
}

impl Excerpt for State {}

/// What is asked for of a state, and what is not.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Named {
    queue_id: QueueId,
    #[serde(default)]
    symbol: Option<String>,
}

impl Excerpt for Named {
    const ATTRIBUTES: &'static [&'static str] = &["queue_id", "created_at"];
}

const STATUSES: [&str; 5] = ["running", "finished", "stalled", "error", "interrupted"];
const SYMBOLS: [&str; 3] = ["BTCUSDT", "ETHUSDT", "SOLUSDT"];
const TYPES: [&str; 2] = ["api_candles_1m", "dummy"];

/// Every other one was made in the same millisecond as the one before.
pub(crate) fn state(number: usize) -> State {
    State {
        queue_id: queue_id(number),
        symbol: SYMBOLS[number % SYMBOLS.len()].to_owned(),
        kind: TYPES[number % TYPES.len()].to_owned(),
        status: STATUSES[number % STATUSES.len()].to_owned(),
        created_at: TimestampMs(NOW.as_millis() + (number / 2) as i64),
        done: BTreeSet::new(),
        padding: String::new(),
    }
}

async fn with(count: usize, workflows: &Workflows<State>) -> Vec<State> {
    let states: Vec<State> = (0..count).map(state).collect();
    for state in &states {
        workflows.insert(&state.queue_id, state).await.unwrap();
    }
    states
}

fn workflow<W: std::fmt::Debug>(row: Row<W>) -> W {
    match row {
        Row::Workflow(workflow) => workflow,
        other => panic!("{other:?}"),
    }
}

/// All pages of a list, one after the other.
async fn pages(workflows: &Workflows<State>, filter: &Filter, size: usize) -> Vec<State> {
    let (mut rows, mut after) = (Vec::new(), None::<Cursor>);
    loop {
        let page = workflows.list(filter, after.as_ref(), size).await.unwrap();
        assert!(page.rows.len() <= size);
        rows.extend(page.rows.into_iter().map(workflow));
        match page.next {
            // As a client hands it back.
            Some(next) => after = Some(next.to_string().parse().unwrap()),
            None => return rows,
        }
    }
}

#[tokio::test]
async fn only_what_is_wanted_is_read() {
    let server = server().await;
    let replica = replica(&server).await;
    let states = with(5, &replica.workflows::<State>()).await;
    let filter = Filter::default();
    let named = replica.workflows::<Named>();
    let page = named.list(&filter, None, 3).await.unwrap();
    assert!(page.next.is_some());
    let all = named.all(&filter).await.unwrap();
    assert_eq!(all.len(), 5);
    let listed: Vec<Named> = page.rows.into_iter().map(workflow).collect();
    for row in all.iter().map(|found| &found.content).chain(&listed) {
        assert_eq!(row.symbol, None, "nobody asked for it");
        assert!(states.iter().any(|state| state.queue_id == row.queue_id));
    }
    let revisions = named.revisions(&filter).await.unwrap();
    for (found, (queue_id, revision)) in all.iter().zip(&revisions) {
        assert_eq!(
            (&found.content.queue_id, &found.revision),
            (queue_id, revision)
        );
    }
    let of_one = Filter {
        symbol: Some(states[1].symbol.clone()),
        ..filter
    };
    assert_eq!(named.revisions(&of_one).await.unwrap().len(), 2);
}

#[tokio::test]
async fn a_state_is_replaced_only_by_who_read_the_last_one() {
    let server = server().await;
    let (one, two) = (replica(&server).await, replica(&server).await);
    let (one, two) = (one.workflows::<State>(), two.workflows::<State>());
    let mut state = state(1);
    let id = state.queue_id.clone();
    let first = one.insert(&id, &state).await.unwrap();
    let again = two.insert(&id, &state).await.unwrap_err();
    assert!(matches!(again, StoreError::AlreadyThere(_)), "{again}");

    let read = two.get(&id).await.unwrap();
    assert_eq!((&read.revision, &read.content), (&first, &state));
    state.done.insert("two".to_owned());
    two.replace(&id, &read.revision, &state).await.unwrap();
    let late = one.replace(&id, &first, &state).await.unwrap_err();
    assert!(matches!(late, StoreError::Conflict(_)), "{late}");
    assert_eq!(one.get(&id).await.unwrap().content, state);

    one.remove(&id).await.unwrap();
    for gone in [
        two.get(&id).await.err(),
        two.remove(&id).await.err(),
        two.replace(&id, &first, &state).await.err(),
    ] {
        assert!(matches!(gone, Some(StoreError::NotFound(_))), "{gone:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_two_replicas_change_at_once_is_changed_by_both() {
    let server = server().await;
    let replicas = [replica(&server).await, replica(&server).await];
    let id = queue_id(1);
    replicas[0]
        .workflows::<State>()
        .insert(&id, &state(1))
        .await
        .unwrap();
    // Each of these hits somebody, before or after the write.
    server.faults().next(Fault::DropAfterWrite, 3);
    server.faults().next(Fault::DropBeforeWrite, 3);
    let changes: Vec<_> = (0..8)
        .map(|task| {
            let (workflows, id) = (replicas[task % 2].workflows::<State>(), id.clone());
            tokio::spawn(async move {
                for number in 0..10 {
                    let change = format!("{task}-{number}");
                    let updated = workflows.update(&id, |state| state.done.insert(change.clone()));
                    updated.await.unwrap();
                }
            })
        })
        .collect();
    for change in changes {
        change.await.unwrap();
    }
    let stored = replicas[1].workflows::<State>().get(&id).await.unwrap();
    assert_eq!(stored.content.done.len(), 80);
    assert_eq!(server.faults().pending(), 0);
}

#[tokio::test]
async fn many_states_are_read_and_replaced_at_once() {
    let server = server().await;
    let workflows = replica(&server).await.workflows::<State>();
    let states = with(5, &workflows).await;
    let absent = queue_id(9);
    let mut ids: Vec<&QueueId> = states.iter().map(|state| &state.queue_id).collect();
    ids.push(&absent);
    let mut found = workflows.get_many(&ids).await.unwrap();
    assert_eq!(found.pop(), Some(Found::Absent));
    let found = found.into_iter().map(|found| found.document().unwrap());
    let mut found: Vec<_> = found.collect();
    workflows
        .update(&queue_id(2), |state| state.done.insert("other".to_owned()))
        .await
        .unwrap();
    for found in &mut found {
        found.content.done.insert("this".to_owned());
    }
    let changed: Vec<_> = found
        .iter()
        .map(|found| (&found.content.queue_id, &found.revision, &found.content))
        .collect();
    let replaced = workflows.replace_many(&changed).await.unwrap();
    for (number, replaced) in replaced.iter().enumerate() {
        let stored = workflows.get(&queue_id(number)).await.unwrap();
        let is_conflict = matches!(replaced, Err(StoreError::Conflict(_)));
        assert_eq!(is_conflict, number == 2, "{replaced:?}");
        assert_eq!(stored.content.done.contains("this"), number != 2);
    }
}

#[tokio::test]
async fn an_update_that_changes_nothing_writes_nothing() {
    let server = server().await;
    let workflows = replica(&server).await.workflows::<State>();
    let inserted = workflows.insert(&queue_id(1), &state(1)).await.unwrap();
    let written = server.counters().documents_written;
    let same = workflows.update(&queue_id(1), |_| false).await.unwrap();
    assert_eq!(same.revision, inserted);
    assert_eq!(server.counters().documents_written, written);
    let gone = workflows.update(&queue_id(2), |_| true).await.unwrap_err();
    assert!(matches!(gone, StoreError::NotFound(_)), "{gone}");
}

type Holds = fn(&State) -> bool;

/// Filters, and which states pass them.
fn filters() -> [(Filter, Holds); 8] {
    let at = |number: i64| Some(TimestampMs(NOW.as_millis() + number));
    let text = |text: &str| Some(text.to_owned());
    let texts = |texts: [&str; 2]| texts.map(str::to_owned).to_vec();
    let none = Filter::default;
    [
        (none(), |_| true),
        (
            Filter {
                statuses: texts(["running", "error"]),
                ..none()
            },
            |state| ["running", "error"].contains(&state.status.as_str()),
        ),
        (
            Filter {
                unfinished_only: true,
                ..none()
            },
            |state| ["running", "stalled"].contains(&state.status.as_str()),
        ),
        (
            Filter {
                symbol: text("ETHUSDT"),
                ..none()
            },
            |state| state.symbol == "ETHUSDT",
        ),
        (
            Filter {
                kind: text("dummy"),
                created_from: at(5),
                created_before: at(20),
                ..none()
            },
            |state| {
                let made = state.created_at.as_millis() - NOW.as_millis();
                state.kind == "dummy" && (5..20).contains(&made)
            },
        ),
        (
            Filter {
                statuses: texts(["finished", "running"]),
                unfinished_only: true,
                symbol: text("BTCUSDT"),
                ..none()
            },
            |state| state.status == "running" && state.symbol == "BTCUSDT",
        ),
        (
            Filter {
                symbol: text("x\" || true || \""),
                ..none()
            },
            |_| false,
        ),
        (
            Filter {
                created_from: at(20),
                created_before: at(5),
                ..none()
            },
            |_| false,
        ),
    ]
}

#[tokio::test]
async fn a_list_is_filtered_and_newest_first() {
    let server = server().await;
    let workflows = replica(&server).await.workflows::<State>();
    let mut states = with(60, &workflows).await;
    states.sort_by_key(|state| std::cmp::Reverse((state.created_at, state.queue_id.clone())));
    for (filter, holds) in filters() {
        let expected: Vec<State> = states
            .iter()
            .filter(|state| holds(state))
            .cloned()
            .collect();
        for size in [1, 7, 60, 100] {
            let found = pages(&workflows, &filter, size).await;
            assert_eq!(found, expected, "{filter:?} by {size}");
        }
        let all = workflows.all(&filter).await.unwrap();
        let all: Vec<State> = all.into_iter().map(|found| found.content).collect();
        assert_eq!(all, expected, "{filter:?}");
    }
}

#[tokio::test]
async fn pages_go_on_where_they_ended_whatever_comes_and_goes() {
    let server = server().await;
    let workflows = replica(&server).await.workflows::<State>();
    let states = with(10, &workflows).await;
    let filter = Filter::default();
    let mut first = workflows.list(&filter, None, 4).await.unwrap();
    // The last one of the page goes, and a newer one comes.
    let last = workflow(first.rows.pop().unwrap());
    workflows.remove(&last.queue_id).await.unwrap();
    let newer = state(11);
    workflows.insert(&newer.queue_id, &newer).await.unwrap();
    let second = workflows.list(&filter, first.next.as_ref(), 100).await;
    let second = second.unwrap();
    let expected: Vec<&State> = states[..6].iter().rev().collect();
    assert_eq!(second.next, None);
    let second: Vec<State> = second.rows.into_iter().map(workflow).collect();
    assert_eq!(second.iter().collect::<Vec<_>>(), expected);
    let of_another_list = Cursor::Event {
        partition: 0,
        offset: 0,
    };
    let refused = workflows.list(&filter, Some(&of_another_list), 4).await;
    assert!(matches!(refused, Err(StoreError::BadCursor)));
}

/// Prints what it measures, by hand and in a release build: a p99 under 50 ms is wanted.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "it measures, and takes a while"]
#[expect(clippy::print_stdout, reason = "it says what it measured")]
async fn measure_lists_of_ten_thousand_workflows() {
    let server = server().await;
    let workflows = replica(&server).await.workflows::<State>();
    for number in 0..10_000 {
        let mut state = state(number);
        state.padding = "x".repeat(4_000);
        workflows.insert(&state.queue_id, &state).await.unwrap();
    }
    let rare = Filter {
        statuses: vec!["error".to_owned()],
        symbol: Some("SOLUSDT".to_owned()),
        kind: Some("dummy".to_owned()),
        ..Filter::default()
    };
    let none = Filter {
        symbol: Some("NONE".to_owned()),
        ..Filter::default()
    };
    for (name, filter) in [("all", Filter::default()), ("rare", rare), ("none", none)] {
        let mut took: Vec<Duration> = Vec::new();
        for _ in 0..200 {
            let start = Instant::now();
            workflows.list(&filter, None, 50).await.unwrap();
            took.push(start.elapsed());
        }
        took.sort_unstable();
        println!("{name}: p50 {:?}, p99 {:?}", took[100], took[197]);
    }
}
