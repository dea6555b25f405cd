//! Requests that come again.

use queue_manager::store::{
    ANSWERED_FOR, Fingerprint, RUNNING_FOR, Reservation, StoreError, Ticket,
};
use streamforge_devstack::arango::Fault;
use streamforge_utils::protocol::TimestampMs;

use super::{NOW, replica, server};

type Found = Reservation<String>;

fn fresh(found: Found) -> Ticket {
    match found {
        Reservation::Fresh(ticket) => ticket,
        other => panic!("{other:?}"),
    }
}

fn after(duration: std::time::Duration) -> TimestampMs {
    TimestampMs(NOW.as_millis() + duration.as_millis() as i64)
}

#[tokio::test]
async fn a_request_that_comes_again_gets_the_first_answer() {
    let server = server().await;
    let one = replica(&server).await.idempotency();
    let two = replica(&server).await.idempotency();
    let request = Fingerprint::of(&[b"POST", b"/queues/start", b"{}"]);
    server.faults().next(Fault::DropAfterWrite, 1);
    let ticket = fresh(one.reserve("ops", "k", &request, NOW).await.unwrap());
    let second: Found = two.reserve("ops", "k", &request, NOW).await.unwrap();
    assert_eq!(second, Reservation::Running);

    server.faults().next(Fault::DropAfterWrite, 1);
    let answer = "wf-1".to_owned();
    one.complete(ticket, &answer, NOW).await.unwrap();
    for replica in [&one, &two] {
        let later: Found = replica.reserve("ops", "k", &request, NOW).await.unwrap();
        assert_eq!(later, Reservation::Answered(answer.clone()));
    }
    let other = Fingerprint::of(&[b"POST", b"/queues/start", b"{ }"]);
    let found: Found = two.reserve("ops", "k", &other, NOW).await.unwrap();
    assert_eq!(found, Reservation::OtherRequest);
    // Another one's key of the same name is another key.
    fresh(two.reserve("ci", "k", &other, NOW).await.unwrap());
}

#[tokio::test]
async fn a_failed_request_gives_its_key_back() {
    let server = server().await;
    let store = replica(&server).await.idempotency();
    let request = Fingerprint::of(&[b"a"]);
    let ticket = fresh(store.reserve("ops", "k", &request, NOW).await.unwrap());
    store.release(ticket).await.unwrap();
    let other = Fingerprint::of(&[b"b"]);
    fresh(store.reserve("ops", "k", &other, NOW).await.unwrap());
}

#[tokio::test]
async fn a_reservation_that_nobody_ends_gives_way() {
    let server = server().await;
    let store = replica(&server).await.idempotency();
    let request = Fingerprint::of(&[b"a"]);
    let lost = fresh(store.reserve("ops", "k", &request, NOW).await.unwrap());
    let later = after(RUNNING_FOR);
    let ticket = fresh(store.reserve("ops", "k", &request, later).await.unwrap());
    let late = store.complete(lost, &"late", later).await.unwrap_err();
    assert!(matches!(late, StoreError::Conflict(_)), "{late}");
    store.complete(ticket, &"good", later).await.unwrap();
    let found: Found = store.reserve("ops", "k", &request, later).await.unwrap();
    assert_eq!(found, Reservation::Answered("good".to_owned()));
    let forgotten = after(RUNNING_FOR + ANSWERED_FOR);
    fresh(
        store
            .reserve("ops", "k", &request, forgotten)
            .await
            .unwrap(),
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_that_come_at_once_one_is_fresh() {
    let server = server().await;
    let stores = [replica(&server).await, replica(&server).await];
    // The second round takes over a reservation that has run out.
    for now in [NOW, after(RUNNING_FOR)] {
        let asked: Vec<_> = (0..20)
            .map(|number| {
                let store = stores[number % 2].idempotency();
                tokio::spawn(async move {
                    let request = Fingerprint::of(&[b"a"]);
                    let found: Found = store.reserve("ops", "k", &request, now).await.unwrap();
                    found
                })
            })
            .collect();
        let mut fresh = 0;
        for found in asked {
            match found.await.unwrap() {
                Reservation::Fresh(_) => fresh += 1,
                other => assert_eq!(other, Reservation::Running),
            }
        }
        assert_eq!(fresh, 1);
    }
}
