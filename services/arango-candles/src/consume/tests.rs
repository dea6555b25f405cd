//! The consumer without its thread: the test says what the broker does.

use super::*;

/// Tells the consumer what happens, and sees what it asks for.
pub(crate) struct Broker {
    events: mpsc::UnboundedSender<Event>,
    requests: std_mpsc::Receiver<Request>,
}

/// An assignment, and what gives it messages.
pub(crate) fn assigned(
    generation: u64,
    partitions: &[i32],
) -> (Event, mpsc::UnboundedSender<Delivery>) {
    let (to_writer, deliveries) = mpsc::unbounded_channel();
    let first = |partition: &i32| (*partition, Resume::AtFirst { low: 0 });
    let event = Event::Assigned {
        generation,
        partitions: partitions.iter().map(first).collect(),
        deliveries,
    };
    (event, to_writer)
}

/// A revocation, and its answer.
pub(crate) fn revoked(limit: Duration) -> (Event, std_mpsc::Receiver<Vec<Commit>>) {
    let (answer, answered) = std_mpsc::channel();
    let until = Instant::now() + limit;
    (Event::Revoked(Revocation { answer, until }), answered)
}

impl Broker {
    pub(crate) fn tell(&self, event: Event) {
        self.events.send(event).unwrap();
    }
}

pub(crate) fn detached() -> (Broker, Consumer) {
    let (to_writer, events) = mpsc::unbounded_channel();
    let (requests, from_writer) = std_mpsc::channel();
    let broker = Broker {
        events: to_writer,
        requests: from_writer,
    };
    let consumer = Consumer {
        events,
        requests,
        generation: 0,
    };
    (broker, consumer)
}

fn commit(offset: i64) -> Commit {
    Commit {
        partition: 0,
        offset,
        note: CommitNote::default(),
    }
}

#[tokio::test]
async fn a_commit_says_of_which_assignment_it_is() {
    let (broker, mut consumer) = detached();
    broker.tell(assigned(3, &[0]).0);
    broker.tell(revoked(REVOKE_LIMIT).0);
    broker.tell(assigned(5, &[0]).0);
    for generation in [3, 3, 5] {
        consumer.next_event().await;
        consumer.commit(vec![commit(7)]);
        let request = broker.requests.try_recv().unwrap();
        assert!(
            matches!(&request, Request::Commit(of, _) if *of == generation),
            "{request:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn closing_answers_a_revocation_with_the_last_commits() {
    let (broker, consumer) = detached();
    let (event, answered) = revoked(REVOKE_LIMIT);
    broker.tell(event);
    consumer
        .close(vec![commit(7)], Duration::from_secs(2))
        .await;
    assert_eq!(answered.try_recv().unwrap(), [commit(7)]);
    let requests: Vec<Request> = broker.requests.try_iter().collect();
    assert!(
        matches!(
            &requests[..],
            [Request::CommitAndWait(0, ..), Request::Close(_)]
        ),
        "{requests:?}"
    );
}
