use proptest::prelude::*;

use super::*;
use crate::state::tests::{T0, at, workflow};

fn claim(id: &str, secs: i64, is_admitted: bool, loaders: usize) -> Claim {
    Claim {
        queue_id: format!("wf-{id}").parse().unwrap(),
        queued_at: at(secs),
        is_admitted,
        exchange: (loaders > 0).then_some("binance"),
        loaders,
    }
}

const LIMITS: Limits = Limits {
    workflows: 3,
    loaders_per_exchange: 2,
};

fn names(ids: &[QueueId]) -> Vec<&str> {
    ids.iter()
        .map(|id| id.as_str().trim_start_matches("wf-"))
        .collect()
}

/// Claims as (id, second, admitted, loaders); who starts; who waits, in order.
type Case<'a> = (
    &'a str,
    &'a [(&'a str, i64, bool, usize)],
    &'a [&'a str],
    &'a [&'a str],
);

#[test]
fn they_start_in_order_as_far_as_the_limits_go() {
    let cases: &[Case<'_>] = &[
        ("nobody", &[], &[], &[]),
        (
            "in order of time, then of id",
            &[("b", 1, false, 1), ("a", 1, false, 1), ("c", 0, false, 1)],
            &["c", "a"],
            &["b"],
        ),
        (
            "places are full",
            &[
                ("a", 0, true, 0),
                ("b", 0, true, 0),
                ("c", 0, true, 0),
                ("d", 1, false, 0),
            ],
            &[],
            &["d"],
        ),
        (
            "others pass who need no loader",
            &[("a", 0, true, 2), ("b", 1, false, 1), ("c", 2, false, 0)],
            &["c"],
            &["b"],
        ),
        (
            "nobody overtakes for the same exchange",
            &[("a", 0, true, 1), ("b", 1, false, 2), ("c", 2, false, 1)],
            &[],
            &["b", "c"],
        ),
        (
            "more than the limit, alone",
            &[("a", 1, false, 3), ("b", 2, false, 1)],
            &["a"],
            &["b"],
        ),
        (
            "more than the limit, not alone",
            &[("a", 0, true, 1), ("b", 1, false, 3)],
            &[],
            &["b"],
        ),
    ];
    for (what, claims, start, waiting) in cases {
        let claims: Vec<Claim> = claims
            .iter()
            .map(|(id, secs, is_admitted, loaders)| claim(id, *secs, *is_admitted, *loaders))
            .collect();
        let admission = admit(&claims, &LIMITS);
        assert_eq!(names(&admission.start), *start, "{what}");
        let mut row: Vec<(usize, &QueueId)> = admission
            .waiting
            .iter()
            .map(|(id, turn)| (turn.before, id))
            .collect();
        row.sort();
        let places: Vec<usize> = row.iter().map(|(place, _)| *place).collect();
        assert_eq!(places, (0..waiting.len()).collect::<Vec<_>>(), "{what}");
        let row: Vec<QueueId> = row.into_iter().map(|(_, id)| id.clone()).collect();
        assert_eq!(names(&row), *waiting, "{what}");
    }
}

#[test]
fn who_waits_is_told_for_what() {
    let full = [
        claim("a", 0, true, 1),
        claim("b", 1, false, 2),
        claim("c", 2, false, 0),
        claim("d", 3, false, 0),
        claim("e", 4, false, 0),
        claim("f", 5, false, 1),
    ];
    let admission = admit(&full, &LIMITS);
    assert_eq!(names(&admission.start), ["c", "d"]);
    let turn = |id: &str| admission.waiting[&format!("wf-{id}").parse().unwrap()];
    let exchange = |before| Turn {
        before,
        waits_for: WaitsFor::Exchange,
        limit: LIMITS.loaders_per_exchange,
    };
    assert_eq!((turn("b"), turn("f")), (exchange(0), exchange(2)));
    let place = Turn {
        before: 1,
        waits_for: WaitsFor::Place,
        limit: LIMITS.workflows,
    };
    assert_eq!(turn("e"), place);
}

#[test]
fn a_document_has_the_claim_of_its_workflow() {
    for mut workflow in [workflow(1), workflow(2)] {
        for _ in 0..2 {
            let document = serde_json::to_value(&workflow).unwrap();
            let read: Claimant = serde_json::from_value(document).unwrap();
            assert_eq!(read.claim(), Claim::of(&workflow));
            workflow.admitted_at = None;
        }
        workflow.request_stop(false, "ann", T0);
        let document = serde_json::to_value(&workflow).unwrap();
        let read: Claimant = serde_json::from_value(document).unwrap();
        assert_eq!(read.claim(), None);
    }
}

#[test]
fn a_stopped_one_frees_its_place() {
    let mut waiting = workflow(1);
    waiting.admitted_at = None;
    assert_eq!(Claim::of(&waiting).unwrap().loaders, 1);
    assert!(!Claim::of(&waiting).unwrap().is_admitted);
    waiting.request_stop(false, "ann", T0);
    assert_eq!(Claim::of(&waiting), None);
}

proptest! {
    #[test]
    fn limits_hold_and_everyone_gets_a_turn(
        waiting in prop::collection::vec((0_i64..5, 0_usize..4), 1..20),
        workflows in 1_usize..4,
        loaders_per_exchange in 1_usize..4,
    ) {
        let limits = Limits { workflows, loaders_per_exchange };
        let mut claims: Vec<Claim> = waiting
            .iter()
            .enumerate()
            .map(|(index, (secs, loaders))| claim(&format!("{index:02}"), *secs, false, *loaders))
            .collect();
        // Whoever runs ends, one after the other, until nobody is left.
        for _ in 0..=claims.len() {
            let admission = admit(&claims, &limits);
            for claim in &mut claims {
                claim.is_admitted |= admission.start.contains(&claim.queue_id);
            }
            let running: Vec<&Claim> = claims.iter().filter(|claim| claim.is_admitted).collect();
            prop_assert!(running.len() <= workflows);
            let loaders: usize = running.iter().map(|claim| claim.loaders).sum();
            let loading = running.iter().filter(|claim| claim.loaders > 0).count();
            prop_assert!(loaders <= loaders_per_exchange || loading == 1);
            prop_assert_eq!(admission.waiting.len() + running.len(), claims.len());
            prop_assert!(admit(&claims, &limits).start.is_empty(), "asked twice it starts nobody else");
            let Some(over) = claims.iter().position(|claim| claim.is_admitted) else { break };
            claims.remove(over);
        }
        prop_assert!(claims.is_empty());
    }
}
