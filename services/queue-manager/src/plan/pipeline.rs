//! Rules about a workflow as a whole: its type, its parts, and what several writers share.

use std::collections::BTreeMap;

use streamforge_utils::protocol::{Grid, TimeRange, TimestampMs, WorkflowKind};

use super::{Role, check::Draft};
use crate::request::{FieldErrors, Microservice};

/// As many partitions as a range alone gets. What is more than they keep has to be read in time.
const MOST_PARTITIONS: u64 = 64;

/// The type of all workers: None if there is none, or they contradict each other.
pub(super) fn kind_of(workers: &[Microservice], errors: &mut FieldErrors) -> Option<WorkflowKind> {
    let mut kind: Option<WorkflowKind> = None;
    let mut agree = true;
    for (nth, worker) in workers.iter().enumerate() {
        let Some(text) = worker.kind.as_deref() else {
            continue;
        };
        let field = format!("microservices[{nth}].type");
        match (text.parse::<WorkflowKind>(), kind) {
            (Err(_), _) => {
                let expected = "api_candles_<interval>, api_trades, ws_candles_<interval>, ws_trades, ws_orderbook or \
                                dummy, with an interval of 1s 1m 3m 5m 15m 30m 1h 2h 4h 6h 8h 12h 1d 3d 1w 1M";
                errors.wrong(&field, text, expected);
            }
            (Ok(other), Some(first)) if other != first => {
                let expected =
                    format!("{first}, as the workers before it have: a workflow moves one type");
                errors.wrong(&field, text, &expected);
                agree = false;
            }
            (Ok(read), _) => kind = Some(read),
        }
    }
    kind.filter(|_| agree)
}

/// One part fills the topic and others empty it, or all are dummies that use none.
pub(super) fn check_parts(drafts: &[Draft<'_>], errors: &mut FieldErrors) {
    if drafts.is_empty() {
        return;
    }
    let count = |role| drafts.iter().filter(|draft| draft.role == role).count();
    let (loaders, writers) = (count(Role::Loader), count(Role::Writer));
    let only_dummies = drafts.iter().all(|draft| draft.target.is_dummy());
    let found = format!("{loaders} that fill the topic, {writers} that empty it");
    if loaders > 1 {
        let expected =
            "one worker that fills the topic: numbers of records are one worker's to give";
        errors.wrong("microservices", &found, expected);
    } else if loaders == 0 && writers > 0 {
        errors.wrong("microservices", &found, "a loader too");
    } else if writers == 0 && !only_dummies {
        errors.wrong("microservices", &found, "a writer too");
    }
}

/// Where a partition keeps so many records only, a loader of more gets as many as it needs, unless the request says how
/// many.
pub(super) fn spread(
    drafts: &mut [Draft<'_>],
    kind: WorkflowKind,
    range: &TimeRange,
    launched: TimestampMs,
    most: u32,
) {
    let Some(interval) = kind.interval() else {
        return;
    };
    let start = range.start();
    let end = range.end().min(launched).max(start);
    let records = Grid::new(interval, start).count(start, end);
    let needed = records.div_ceil(most.into()).min(MOST_PARTITIONS);
    if needed < 2 {
        return;
    }
    // Writers that share them want one each.
    let needed = needed.max(drafts.len() as u64);
    let spreads =
        |draft: &&mut Draft<'_>| draft.role == Role::Loader && draft.target.reads("PARTITION_KEY");
    if let Some(loader) = drafts.iter_mut().find(spreads) {
        for (name, value) in [
            ("TOPIC_PARTITIONS", needed.to_string()),
            ("PARTITION_KEY", "record".to_owned()),
        ] {
            loader.env.entry(name.to_owned()).or_insert(value);
        }
    }
}

/// Writers of one service and collection share a consumer group: then records must be spread over enough partitions.
/// Gives the number of partitions.
pub(super) fn share(drafts: &mut [Draft<'_>], errors: &mut FieldErrors) -> u32 {
    let mut groups: BTreeMap<(&str, String), Vec<usize>> = BTreeMap::new();
    for (nth, draft) in drafts.iter().enumerate() {
        if let Some(collection) = &draft.collection {
            let key = (draft.target.service, collection.clone());
            groups.entry(key).or_default().push(nth);
        }
    }
    for members in groups.values() {
        const MODE: &str = "ARANGO_OVERWRITE_MODE";
        let mode_of = |nth: usize| drafts[nth].env.get(MODE).map_or("replace", String::as_str);
        let first = mode_of(members[0]);
        for &nth in &members[1..] {
            if mode_of(nth) != first {
                let expected = format!("{first}, as the first writer of this collection has it");
                let field = format!("{}.env.{MODE}", drafts[nth].path);
                errors.wrong(&field, mode_of(nth), &expected);
            }
        }
    }
    let sharing = groups.values().map(Vec::len).max().unwrap_or(1) as u32;
    let Some(source) = drafts.iter_mut().find(|draft| draft.role == Role::Loader) else {
        return 1;
    };
    if sharing > 1 {
        let because = format!("as {sharing} writers share one collection");
        if source.target.reads("PARTITION_KEY") {
            let key = source.env.entry("PARTITION_KEY".to_owned());
            let key = key.or_insert_with(|| "record".to_owned());
            if key == "symbol" {
                let field = format!("{}.env.PARTITION_KEY", source.path);
                errors.wrong(&field, key, &format!("record, {because}"));
            }
        }
        let least = sharing.to_string();
        let found = source
            .env
            .entry("TOPIC_PARTITIONS".to_owned())
            .or_insert(least);
        if found
            .parse()
            .is_ok_and(|partitions: u32| partitions < sharing)
        {
            let field = format!("{}.env.TOPIC_PARTITIONS", source.path);
            errors.wrong(&field, found, &format!("at least {sharing}, {because}"));
        }
    }
    // What is no number is noted when the loader's environment is checked.
    let partitions = source.env.get("TOPIC_PARTITIONS");
    partitions
        .and_then(|text| text.trim().parse().ok())
        .unwrap_or(1)
}
