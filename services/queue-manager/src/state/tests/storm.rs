//! Storms: events that are repeated, late, and read again after a crash.

use std::collections::BTreeMap;

use proptest::prelude::*;
use streamforge_utils::protocol::{Event, EventKind, InterruptReason};

use super::*;

/// One event of a storm: which part, which process, and what it says.
fn any_event() -> impl Strategy<Value = Event> {
    let producers = prop::sample::select(vec![LOADER, WRITER, LOADER, WRITER, "stranger__abc123"]);
    (producers, 1_u64..5, 1_u64..9, 0_usize..9, 0_u64..50).prop_map(
        |(producer, nth, seq, kind, written)| {
            let event = match kind {
                0 => event(producer, nth, EventKind::Started),
                1 => failed(producer, nth, true),
                2 => interrupted(producer, nth, InterruptReason::Signal),
                3 => finished(producer, nth, written),
                4 => failed(producer, nth, false),
                5 => event(producer, nth, EventKind::Pong),
                _ => loading(producer, nth, written, Some(50)),
            };
            let timestamp = event.timestamp + seq as f64;
            Event {
                seq,
                timestamp,
                ..event
            }
        },
    )
}

fn positioned(events: &[Event]) -> Vec<(Position, &Event)> {
    let partition = |event: &Event| i32::from(event.producer == LOADER);
    let position = |(offset, event)| Position {
        partition: partition(event),
        offset,
        appended: at(offset),
    };
    (0..)
        .zip(events)
        .map(|(offset, event)| (position((offset, event)), event))
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn crashes_and_replays_do_not_show(
        events in prop::collection::vec(any_event(), 1..60),
        crashes in prop::collection::vec((any::<prop::sample::Index>(), 0_usize..20), 0..12),
    ) {
        let log = positioned(&events);
        let mut straight = workflow(1);
        for (position, event) in &log {
            straight.apply(*position, event, at(1_000));
        }
        // Read up to a point, stored, read on, and then begun again from somewhere before what was stored.
        let mut stormy = workflow(1);
        for (stop, back) in crashes {
            let stop = stop.index(log.len());
            let begin = stop.saturating_sub(back);
            for (position, event) in &log[begin..=stop] {
                // What was skipped is not known to anyone; a consumer never skips.
                let applied = stormy.positions.values().max().map_or(-1, |last| *last);
                if position.offset <= applied + 1 {
                    stormy.apply(*position, event, at(1_000));
                }
            }
            stormy = serde_json::from_str(&serde_json::to_string(&stormy).unwrap()).unwrap();
        }
        for (position, event) in &log {
            stormy.apply(*position, event, at(1_000));
        }
        prop_assert_eq!(stormy, straight);
    }

    #[test]
    fn repeated_events_do_not_show_and_final_parts_stay(
        events in prop::collection::vec(any_event(), 1..40),
        repeats in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>()), 0..20),
    ) {
        let mut once: Vec<Event> = Vec::new();
        for event in &events {
            // A process has one event of each number.
            let same = |other: &Event| (&other.instance, other.seq, &other.producer)
                == (&event.instance, event.seq, &event.producer);
            if !once.iter().any(same) {
                once.push(event.clone());
            }
        }
        let mut repeated: Vec<(usize, Event)> = once.iter().cloned().enumerate().collect();
        for (which, to) in repeats {
            let (original, event) = repeated[which.index(repeated.len())].clone();
            let first = repeated.iter().position(|(index, _)| *index == original).unwrap();
            let to = first + 1 + to.index(repeated.len() - first);
            repeated.insert(to, (original, event));
        }
        let run = |events: &[(usize, Event)]| {
            let mut workflow = workflow(1);
            let mut finals: BTreeMap<String, Part> = BTreeMap::new();
            for (offset, (index, event)) in (0..).zip(events) {
                let position = Position { partition: 0, offset, appended: at(*index as i64) };
                workflow.apply(position, event, at(1_000));
                for part in workflow.parts.iter().filter(|part| part.is_final()) {
                    let known = finals.entry(part.telemetry_id.clone()).or_insert_with(|| part.clone());
                    // The forecast of a writer follows its loader; nothing else moves.
                    let progress = part.progress;
                    assert_eq!(*part, Part { progress, ..known.clone() });
                    assert_eq!(part.progress.written, known.progress.written);
                }
            }
            workflow.positions.clear();
            workflow.updated_at = T0;
            workflow.unknown_events = 0;
            workflow
        };
        let straight: Vec<(usize, Event)> = once.into_iter().enumerate().collect();
        prop_assert_eq!(run(&repeated), run(&straight));
    }
}
