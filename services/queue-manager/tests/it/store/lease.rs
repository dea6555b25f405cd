//! One holder at a time, whoever dies, and a token that only grows.

use std::time::{Duration, Instant};

use queue_manager::store::{Lease, LeaseTimes, Standing, Store};
use streamforge_devstack::arango::{Fault, FaultScope};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{DATABASE, replica, server};

/// Short, so that a test does not take long, and long enough for a busy machine.
const TIMES: LeaseTimes = LeaseTimes {
    length: Duration::from_secs(4),
    held_for: Duration::from_secs(3),
    every: Duration::from_millis(200),
};
/// Nothing takes longer.
const LIMIT: Duration = Duration::from_secs(30);

fn lease(store: &Store, holder: &str, times: LeaseTimes) -> Lease {
    store.lease("reconciler", holder, times)
}

#[tokio::test]
async fn one_takes_it_and_the_other_waits_until_it_is_given_back() {
    let server = server().await;
    // So long that nobody loses it by waiting.
    let times = LeaseTimes {
        length: LIMIT * 3,
        held_for: LIMIT * 2,
        every: LIMIT,
    };
    let mut one = lease(&replica(&server).await, "one", times);
    let mut two = lease(&replica(&server).await, "two", times);
    assert_eq!(one.step().await.unwrap().token(), Some(1));
    assert_eq!(two.step().await.unwrap(), Standing::NotHeld);
    assert_eq!(one.step().await.unwrap().token(), Some(1));
    assert_eq!(two.step().await.unwrap(), Standing::NotHeld);
    two.release().await.unwrap();
    assert_eq!(one.step().await.unwrap().token(), Some(1));
    one.release().await.unwrap();
    assert_eq!(two.step().await.unwrap().token(), Some(2));
    assert_eq!(one.step().await.unwrap(), Standing::NotHeld);
}

#[tokio::test]
async fn a_renewal_whose_answer_was_lost_is_known_as_ones_own() {
    let server = server().await;
    let mut one = lease(&replica(&server).await, "one", LeaseTimes::default());
    let mut two = lease(&replica(&server).await, "two", LeaseTimes::default());
    for fault in [Fault::DropAfterWrite, Fault::DropBeforeWrite] {
        server.faults().next(fault.clone(), 1);
        assert_eq!(one.step().await.unwrap().token(), Some(1), "{fault:?}");
        assert_eq!(two.step().await.unwrap(), Standing::NotHeld, "{fault:?}");
    }
}

#[tokio::test]
async fn who_can_not_renew_stops_before_another_one_takes_over() {
    let server = server().await;
    let mut one = lease(&replica(&server).await, "one", TIMES);
    let mut two = lease(&replica(&server).await, "two", TIMES);
    let Standing::Held { token: 1, until } = one.step().await.unwrap() else {
        panic!("nobody else wants it");
    };
    let start = Instant::now();
    let token = loop {
        assert!(start.elapsed() < LIMIT);
        if let Some(token) = two.step().await.unwrap().token() {
            break token;
        }
        tokio::time::sleep(TIMES.every).await;
    };
    assert_eq!(token, 2);
    assert!(tokio::time::Instant::now() > until);
    // It finds out, and does not take it back.
    assert_eq!(one.step().await.unwrap(), Standing::NotHeld);
}

#[tokio::test]
async fn a_database_that_is_away_ends_the_lease_by_the_clock() {
    let server = server().await;
    let mut one = lease(&replica(&server).await, "one", TIMES);
    let held = one.step().await.unwrap();
    assert_eq!(held.token(), Some(1));
    server.faults().scope(FaultScope::Everything);
    server.faults().always(Fault::UnavailablePlainText);
    let start = Instant::now();
    while held.token().is_some() {
        assert!(start.elapsed() < LIMIT);
        one.step().await.unwrap_err();
    }
    server.faults().clear();
    // Nobody took it meanwhile; it is a new term all the same.
    assert_eq!(one.step().await.unwrap().token(), Some(2));
}

/// Keeps a lease until told to end.
struct Keeper {
    standing: watch::Receiver<Standing>,
    stop: CancellationToken,
    task: tokio::task::JoinHandle<()>,
}

impl Keeper {
    fn start(store: &Store, holder: &str) -> Self {
        let (sender, standing) = watch::channel(Standing::NotHeld);
        let stop = CancellationToken::new();
        let lease = lease(store, holder, TIMES);
        let task = tokio::spawn(lease.keep(sender, stop.clone()));
        Self {
            standing,
            stop,
            task,
        }
    }

    async fn holds(&mut self) -> u64 {
        let held = self
            .standing
            .wait_for(|standing| standing.token().is_some());
        let held = tokio::time::timeout(LIMIT, held).await.unwrap().unwrap();
        held.token().unwrap()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_several_replicas_one_holds_it_at_a_time_with_a_token_that_grows() {
    let server = server().await;
    let stores = [replica(&server).await, replica(&server).await];
    let mut first = Keeper::start(&stores[0], "one");
    let mut tokens = vec![first.holds().await];
    let mut second = Keeper::start(&stores[1], "two");

    // Killed: nothing is given back.
    first.task.abort();
    tokens.push(second.holds().await);
    assert_eq!(first.standing.borrow().token(), None);

    // Told to end: given back, and taken at once.
    let mut third = Keeper::start(&stores[0], "three");
    second.stop.cancel();
    second.task.await.unwrap();
    assert_eq!(second.standing.borrow().token(), None);
    tokens.push(third.holds().await);
    assert!(
        tokens.is_sorted_by(|left, right| left < right),
        "{tokens:?}"
    );
    let document = &server.documents(DATABASE, "streamforge-lease").unwrap()["reconciler"];
    assert_eq!(document["holder"], "three");
}
