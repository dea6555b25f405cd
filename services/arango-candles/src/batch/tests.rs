//! What a batch holds, when it is due, and what must never be on its way twice.

use proptest::prelude::*;

use super::*;

fn limits(max_records: usize, max_bytes: usize) -> Limits {
    Limits {
        max_records,
        max_bytes,
        linger: Duration::from_millis(100),
    }
}

fn item(key: &str, bytes: usize, record: u32) -> Item<u32> {
    Item {
        key: key.into(),
        bytes,
        record,
    }
}

#[test]
fn a_batch_is_due_by_count_by_bytes_and_by_time() {
    let now = Instant::now();
    let mut batcher = Batcher::new(limits(2, 100));
    assert!(!batcher.is_due(now));
    batcher.offer(item("a", 10, 1), now).unwrap();
    assert!(!batcher.is_due(now + Duration::from_millis(99)));
    assert!(batcher.is_due(now + Duration::from_millis(100)));
    batcher.offer(item("b", 10, 2), now).unwrap();
    assert!(batcher.is_due(now));
    assert_eq!(batcher.offer(item("c", 10, 3), now).unwrap_err().record, 3);

    let mut batcher = Batcher::new(limits(10, 100));
    batcher.offer(item("a", 60, 1), now).unwrap();
    assert_eq!(batcher.offer(item("b", 60, 2), now).unwrap_err().record, 2);
    batcher.offer(item("b", 40, 2), now).unwrap();
    assert!(batcher.is_due(now));
}

#[test]
fn a_record_larger_than_a_batch_stands_alone() {
    let now = Instant::now();
    let mut batcher = Batcher::new(limits(10, 100));
    batcher.offer(item("a", 500, 1), now).unwrap();
    assert!(batcher.is_due(now));
    batcher.offer(item("b", 1, 2), now).unwrap_err();
    assert_eq!(batcher.take().unwrap().slots.len(), 1);
}

#[test]
fn the_last_record_of_a_key_wins() {
    let now = Instant::now();
    let mut batcher = Batcher::new(limits(10, 100));
    for (key, record) in [("a", 1), ("b", 2), ("a", 3), ("a", 4)] {
        batcher.offer(item(key, 10, record), now).unwrap();
    }
    let batch = batcher.take().unwrap();
    let records: Vec<u32> = batch.slots.iter().map(|slot| slot.item.record).collect();
    assert_eq!(records, [4, 2]);
    assert_eq!(batch.slots[0].replaced, [1, 3]);
}

#[test]
fn a_batch_waits_for_another_that_holds_one_of_its_keys() {
    let now = Instant::now();
    let mut batcher = Batcher::new(limits(10, 100));
    batcher.offer(item("a", 10, 1), now).unwrap();
    let first = batcher.take().unwrap();
    batcher.offer(item("b", 10, 2), now).unwrap();
    batcher.offer(item("a", 10, 3), now).unwrap();
    assert!(batcher.take().is_none());
    batcher.done(first.id);
    assert_eq!(batcher.take().unwrap().slots.len(), 2);
}

#[test]
fn what_was_forgotten_can_finish_without_harm() {
    let now = Instant::now();
    let mut batcher = Batcher::new(limits(10, 100));
    batcher.offer(item("a", 10, 1), now).unwrap();
    let forgotten = batcher.take().unwrap();
    batcher.clear();
    batcher.offer(item("a", 10, 2), now).unwrap();
    let second = batcher.take().unwrap();
    batcher.done(forgotten.id);
    batcher.offer(item("a", 10, 3), now).unwrap();
    assert!(batcher.take().is_none(), "{} still holds a", second.id);
}

#[derive(Debug, Clone)]
enum Step {
    Offer { key: u8, bytes: usize },
    Take,
    Done(usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0..12_u8, 1..80_usize).prop_map(|(key, bytes)| Step::Offer { key, bytes }),
        3 => Just(Step::Take),
        2 => (0..4_usize).prop_map(Step::Done),
    ]
}

proptest! {
    #[test]
    fn no_record_is_lost_and_no_key_is_on_its_way_twice(steps in prop::collection::vec(step(), 1..200)) {
        let now = Instant::now();
        let mut batcher = Batcher::new(limits(5, 100));
        let mut flying: Vec<Batch<u32>> = Vec::new();
        let mut stored: HashMap<Box<str>, u32> = HashMap::new();
        let mut last: HashMap<Box<str>, u32> = HashMap::new();
        let mut done: Vec<u32> = Vec::new();
        let mut taken: Vec<u32> = Vec::new();
        let land = |batch: Batch<u32>, stored: &mut HashMap<_, _>, done: &mut Vec<u32>| {
            for slot in batch.slots {
                done.extend(slot.replaced);
                done.push(slot.item.record);
                stored.insert(slot.item.key, slot.item.record);
            }
        };
        for (number, step) in (0..).zip(steps) {
            match step {
                Step::Offer { key, bytes } => {
                    let key: Box<str> = key.to_string().into();
                    if batcher.offer(Item { key: key.clone(), bytes, record: number }, now).is_ok() {
                        last.insert(key, number);
                        taken.push(number);
                    }
                }
                Step::Take => {
                    if let Some(batch) = batcher.take() {
                        prop_assert!(batch.slots.len() <= 5);
                        let bytes: usize = batch.slots.iter().map(|slot| slot.item.bytes).sum();
                        prop_assert!(bytes <= 100 || batch.slots.len() == 1);
                        flying.push(batch);
                        let mut keys: Vec<&str> = flying
                            .iter()
                            .flat_map(|batch| batch.slots.iter().map(|slot| &*slot.item.key))
                            .collect();
                        let all = keys.len();
                        keys.sort_unstable();
                        keys.dedup();
                        prop_assert_eq!(keys.len(), all, "a key is on its way twice");
                    }
                }
                Step::Done(which) if which < flying.len() => {
                    let batch = flying.swap_remove(which);
                    batcher.done(batch.id);
                    land(batch, &mut stored, &mut done);
                }
                Step::Done(_) => {}
            }
        }
        // Everything lands in the end, in whatever order.
        for batch in flying.drain(..).rev() {
            batcher.done(batch.id);
            land(batch, &mut stored, &mut done);
        }
        if let Some(batch) = batcher.take() {
            land(batch, &mut stored, &mut done);
        }
        done.sort_unstable();
        prop_assert_eq!(done, taken, "each record is done exactly once");
        prop_assert_eq!(stored, last, "the last record of each key is what is stored");
    }
}
