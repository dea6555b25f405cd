//! When a challenger takes a lease: by what it has seen, and by its own clock.

use serde_json::json;

use super::*;

const LENGTH: Duration = Duration::from_secs(15);

fn claim(holder: Option<&str>, revision: &str) -> Document<Claim> {
    let document = json!({
        "_key": "reconciler", "_rev": revision, "holder": holder, "token": 3, "beat": 9,
    });
    serde_json::from_value(document).unwrap()
}

struct Challenger(Option<Seen>);

impl Challenger {
    fn look(&mut self, found: &Document<Claim>) -> Decision {
        Seen::look(&mut self.0, found, "me", LENGTH, Instant::now())
    }
}

#[tokio::test(start_paused = true)]
async fn a_claim_is_taken_when_it_was_seen_unchanged_for_the_whole_length() {
    let mut challenger = Challenger(None);
    let found = claim(Some("other"), "_a");
    assert_eq!(challenger.look(&found), Decision::Wait);
    tokio::time::advance(LENGTH - Duration::from_millis(1)).await;
    assert_eq!(challenger.look(&found), Decision::Wait);
    tokio::time::advance(Duration::from_millis(1)).await;
    assert_eq!(challenger.look(&found), Decision::Take);
}

#[tokio::test(start_paused = true)]
async fn every_renewal_begins_the_wait_anew() {
    let mut challenger = Challenger(None);
    for renewal in 0..100 {
        let found = claim(Some("other"), &format!("_{renewal}"));
        assert_eq!(challenger.look(&found), Decision::Wait);
        tokio::time::advance(LENGTH - Duration::from_millis(1)).await;
        assert_eq!(challenger.look(&found), Decision::Wait, "{renewal}");
    }
}

#[tokio::test(start_paused = true)]
async fn how_old_a_claim_was_when_it_was_first_seen_does_not_count() {
    let mut challenger = Challenger(None);
    tokio::time::advance(LENGTH * 100).await;
    assert_eq!(challenger.look(&claim(Some("other"), "_a")), Decision::Wait);
}

#[tokio::test(start_paused = true)]
async fn what_nobody_else_holds_is_taken_at_once() {
    for holder in [None, Some("me")] {
        let mut challenger = Challenger(None);
        assert_eq!(challenger.look(&claim(holder, "_a")), Decision::Take);
    }
}

#[tokio::test(start_paused = true)]
async fn a_lease_is_held_no_longer_than_it_was_renewed_for() {
    let until = Instant::now() + Duration::from_secs(10);
    let standing = Standing::Held { token: 3, until };
    tokio::time::advance(Duration::from_millis(9_999)).await;
    assert_eq!(standing.token(), Some(3));
    tokio::time::advance(Duration::from_millis(1)).await;
    assert_eq!(standing.token(), None);
    assert_eq!(Standing::NotHeld.token(), None);
}

#[test]
fn the_holder_stops_before_a_challenger_takes_over() {
    let times = LeaseTimes::default();
    assert!(times.held_for < times.length);
    assert!(times.every * 3 < times.held_for);
}
