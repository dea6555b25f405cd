//! The partitions that this writer has now, and only now.
//!
//! Pure. Each change of partitions is a new generation; an acknowledgement that belongs to an older one is ignored,
//! since others may have those partitions by then.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    consume::Commit,
    end::End,
    note::CommitNote,
    offsets::{MAX_OUTSTANDING, Outcome},
    partition::{Look, Partition, Resume},
};

/// The assigned partitions.
///
/// Each writer counts the records of its own partitions, so the counts of all writers add up to the whole run.
#[derive(Debug, Default)]
pub struct Assignment {
    generation: u64,
    is_assigned: bool,
    partitions: BTreeMap<i32, Partition>,
    /// Partitions that another writer finished, and counted, before it left them to us.
    counted_by_others: BTreeSet<i32>,
    /// The partitions of the last assignment and their counts, which stand until there is a new one.
    before: Option<Before>,
}

#[derive(Debug)]
struct Before {
    partitions: BTreeSet<i32>,
    written: u64,
    rejected: u64,
    replayed: u64,
}

impl Assignment {
    /// These partitions and no others, for a writer of run `run`.
    pub fn replace(&mut self, partitions: Vec<(i32, Resume)>, run: u32) {
        self.forget();
        self.partitions = partitions
            .into_iter()
            .map(|(number, resume)| (number, Partition::new(resume, run)))
            .collect();
        // At the first assignment what was finished was finished by an earlier attempt of ours.
        let before = self.before.take();
        let is_others = |number: i32, partition: &Partition| {
            let was_finished = partition.was_finished();
            before
                .as_ref()
                .is_some_and(|before| was_finished && !before.partitions.contains(&number))
        };
        self.counted_by_others = self
            .partitions
            .iter()
            .filter(|(number, partition)| {
                self.counted_by_others.contains(number) || is_others(**number, partition)
            })
            .map(|(number, _)| *number)
            .collect();
        self.is_assigned = true;
    }

    /// No partitions. The counts stay as they are until there are new ones.
    pub fn forget(&mut self) {
        self.generation += 1;
        if std::mem::take(&mut self.is_assigned) {
            self.before = Some(Before {
                written: self.written(),
                rejected: self.rejected(),
                replayed: self.replayed(),
                partitions: std::mem::take(&mut self.partitions).into_keys().collect(),
            });
        }
    }

    /// Names this set of partitions.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// Whether there is no partition.
    pub fn is_empty(&self) -> bool {
        self.partitions.is_empty()
    }

    /// Whether this partition is among them.
    pub fn has(&self, partition: i32) -> bool {
        self.partitions.contains_key(&partition)
    }

    /// One of them.
    pub fn partition_mut(&mut self, partition: i32) -> Option<&mut Partition> {
        self.partitions.get_mut(&partition)
    }

    /// Takes the acknowledgement of a record that was read in `generation`. `false` if it is not waited for.
    pub fn acknowledge(
        &mut self,
        generation: u64,
        partition: i32,
        offset: i64,
        outcome: Outcome,
    ) -> bool {
        generation == self.generation
            && self
                .partitions
                .get_mut(&partition)
                .is_some_and(|partition| partition.offsets_mut().acknowledge(offset, outcome))
    }

    /// Records written, of the whole run.
    pub fn written(&self) -> u64 {
        match &self.before {
            Some(before) => before.written,
            None => self
                .counted()
                .map(|partition| partition.offsets().written())
                .sum(),
        }
    }

    /// Records rejected, of the whole run.
    pub fn rejected(&self) -> u64 {
        match &self.before {
            Some(before) => before.rejected,
            None => self
                .counted()
                .map(|partition| partition.offsets().rejected())
                .sum(),
        }
    }

    /// Records rejected of these partitions, whoever counts them.
    pub fn rejected_of_all(&self) -> u64 {
        let partitions = self.partitions.values();
        partitions
            .map(|partition| partition.offsets().rejected())
            .sum()
    }

    /// How many of both were replayed.
    pub fn replayed(&self) -> u64 {
        match &self.before {
            Some(before) => before.replayed,
            None => self
                .counted()
                .map(|partition| partition.offsets().replayed())
                .sum(),
        }
    }

    /// What has to be looked up before partitions can end, with their numbers.
    pub fn looks(&self) -> Vec<(i32, Look)> {
        let look = |(number, partition): (&i32, &Partition)| Some((*number, partition.look()?));
        self.partitions.iter().filter_map(look).collect()
    }

    fn counted(&self) -> impl Iterator<Item = &Partition> {
        self.partitions
            .iter()
            .filter(|(number, _)| !self.counted_by_others.contains(number))
            .map(|(_, partition)| partition)
    }

    /// Commits that were not made yet.
    pub fn next_commits(&mut self) -> Vec<Commit> {
        let next = |(number, partition): (&i32, &mut Partition)| {
            Some(commit(*number, partition.next_commit()?))
        };
        self.partitions.iter_mut().filter_map(next).collect()
    }

    /// Commits that are not confirmed, made or not.
    pub fn unconfirmed(&self) -> Vec<Commit> {
        let unconfirmed = |(number, partition): (&i32, &Partition)| {
            Some(commit(*number, partition.unconfirmed()?))
        };
        self.partitions.iter().filter_map(unconfirmed).collect()
    }

    /// Whether a commit would show that a partition has ended.
    pub fn has_urgent_commit(&self) -> bool {
        self.partitions.values().any(Partition::has_urgent_commit)
    }

    /// The broker confirmed commits: partition and offset.
    pub fn confirm(&mut self, commits: &[(i32, i64)]) {
        for (number, offset) in commits {
            if let Some(partition) = self.partitions.get_mut(number) {
                partition.confirm(*offset);
            }
        }
    }

    /// The broker refused commits: they are to be made again.
    pub fn resubmit(&mut self) {
        self.partitions.values_mut().for_each(Partition::resubmit);
    }

    /// Those that have ended, and are committed past their marker.
    pub fn ended(&self) -> BTreeMap<i32, End> {
        let ended = |(number, partition): (&i32, &Partition)| Some((*number, partition.ended()?));
        self.partitions.iter().filter_map(ended).collect()
    }

    /// Whether nothing is left to read, write or commit, for now. Between two assignments nobody can tell.
    pub fn is_drained(&self) -> bool {
        self.is_assigned && self.partitions.values().all(Partition::is_drained)
    }

    /// Whether a partition waits for so many acknowledgements that no more messages are to be taken.
    pub fn is_full(&self) -> bool {
        self.partitions
            .values()
            .any(|partition| partition.offsets().outstanding() >= MAX_OUTSTANDING)
    }
}

fn commit(partition: i32, (offset, note): (i64, CommitNote)) -> Commit {
    Commit {
        partition,
        offset,
        note,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::record::{Content, Reading};

    fn candle(seq: u64) -> Reading {
        Reading {
            seq: Some(seq),
            is_replayed: false,
            content: Content::Candle {
                key: seq.to_string().into(),
            },
        }
    }

    #[test]
    fn an_acknowledgement_of_an_older_generation_is_ignored() {
        let mut assignment = Assignment::default();
        assignment.replace(vec![(0, Resume::AtFirst { low: 0 })], 1);
        let old = assignment.generation();
        assignment
            .partition_mut(0)
            .unwrap()
            .accept(0, candle(1))
            .unwrap();
        assignment.forget();
        assignment.replace(vec![(0, Resume::AtFirst { low: 0 })], 1);
        assignment
            .partition_mut(0)
            .unwrap()
            .accept(0, candle(1))
            .unwrap();
        assert!(!assignment.acknowledge(old, 0, 0, Outcome::Written));
        assert!(assignment.next_commits().is_empty());
        let new = assignment.generation();
        assert!(assignment.acknowledge(new, 0, 0, Outcome::Written));
        assert!(
            !assignment.acknowledge(new, 7, 0, Outcome::Written),
            "not ours"
        );
        assert_eq!(assignment.next_commits()[0].offset, 1);
    }

    fn finished(written: u64) -> Resume {
        let note = CommitNote {
            written,
            last_seq: written,
            eos: Some(streamforge_utils::protocol::MarkerOutcome::Finished),
            partitions: Some(2),
            run: 1,
            ..CommitNote::default()
        };
        let offset = i64::try_from(written).unwrap() + 1;
        Resume::AfterCommit {
            offset,
            note: Some(note),
        }
    }

    #[test]
    fn a_restarted_writer_counts_what_it_had_finished() {
        let mut assignment = Assignment::default();
        assignment.replace(vec![(0, finished(400)), (1, finished(300))], 1);
        assert_eq!(assignment.written(), 700);
    }

    #[test]
    fn what_another_writer_finished_and_left_is_not_counted_twice() {
        let mut assignment = Assignment::default();
        assignment.replace(vec![(0, Resume::AtFirst { low: 0 })], 1);
        assignment
            .partition_mut(0)
            .unwrap()
            .accept(0, candle(1))
            .unwrap();
        assignment.acknowledge(assignment.generation(), 0, 0, Outcome::Written);
        assert_eq!(assignment.written(), 1);
        assignment.forget();
        assert_eq!(assignment.written(), 1, "nobody else has it yet");
        for _ in 0..2 {
            assignment.replace(vec![(0, finished(1)), (1, finished(400))], 1);
            assert_eq!(
                assignment.written(),
                1,
                "the one who finished partition 1 has counted it"
            );
        }
        assignment.replace(vec![], 1);
        assert_eq!(assignment.written(), 0);
    }

    #[test]
    fn without_an_assignment_nothing_is_drained() {
        let mut assignment = Assignment::default();
        assert!(!assignment.is_drained());
        assignment.replace(vec![(0, Resume::AtFirst { low: 0 })], 1);
        assert!(!assignment.is_drained(), "its end was not reached");
        assignment.partition_mut(0).unwrap().reach_end();
        assert!(assignment.is_drained());
        assignment.forget();
        assert!(!assignment.is_drained(), "others may have unread records");
        assignment.replace(vec![], 1);
        assert!(assignment.is_drained(), "this writer has no share");
    }

    #[test]
    fn one_open_record_holds_up_a_bounded_number_of_others() {
        let mut assignment = Assignment::default();
        assignment.replace(vec![(0, Resume::AtFirst { low: 0 })], 1);
        let generation = assignment.generation();
        let most = i64::try_from(MAX_OUTSTANDING).unwrap();
        for offset in 0..most {
            assert!(!assignment.is_full());
            let seq = u64::try_from(offset).unwrap() + 1;
            let partition = assignment.partition_mut(0).unwrap();
            partition.accept(offset, candle(seq)).unwrap();
            if offset > 0 {
                assignment.acknowledge(generation, 0, offset, Outcome::Written);
            }
        }
        assert!(assignment.is_full());
        assignment.acknowledge(generation, 0, 0, Outcome::Written);
        assert!(!assignment.is_full());
        assert_eq!(assignment.next_commits()[0].offset, most);
    }

    #[derive(Debug, Clone)]
    enum Step {
        Read,
        Acknowledge(prop::sample::Index),
        Commit,
        Rebalance,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            5 => Just(Step::Read),
            5 => any::<prop::sample::Index>().prop_map(Step::Acknowledge),
            2 => Just(Step::Commit),
            1 => Just(Step::Rebalance),
        ]
    }

    proptest! {
        /// Whatever the order of acknowledgements, of commits and of rebalances: what is below a commit was written,
        /// and the counts that the commits carry are those of the records below them.
        #[test]
        fn a_commit_never_passes_what_was_not_written(steps in prop::collection::vec(step(), 1..300)) {
            let mut assignment = Assignment::default();
            assignment.replace(vec![(0, Resume::AtFirst { low: 0 })], 1);
            let (mut at, mut written) = (0_i64, std::collections::BTreeSet::new());
            let (mut pending, mut committed): (Vec<(u64, i64)>, Option<Commit>) = (Vec::new(), None);
            for step in steps {
                match step {
                    Step::Read => {
                        let seq = u64::try_from(at).unwrap() + 1;
                        assignment.partition_mut(0).unwrap().accept(at, candle(seq)).unwrap();
                        pending.push((assignment.generation(), at));
                        at += 1;
                    }
                    Step::Acknowledge(which) if !pending.is_empty() => {
                        let (generation, offset) = pending.swap_remove(which.index(pending.len()));
                        written.insert(offset);
                        assignment.acknowledge(generation, 0, offset, Outcome::Written);
                    }
                    Step::Acknowledge(_) => {}
                    Step::Commit => {
                        for commit in assignment.next_commits() {
                            prop_assert!((0..commit.offset).all(|offset| written.contains(&offset)));
                            prop_assert_eq!(commit.note.written, u64::try_from(commit.offset).unwrap());
                            assignment.confirm(&[(0, commit.offset)]);
                            committed = Some(commit);
                        }
                    }
                    Step::Rebalance => {
                        let resume = match committed {
                            None => Resume::AtFirst { low: 0 },
                            Some(commit) => Resume::AfterCommit { offset: commit.offset, note: Some(commit.note) },
                        };
                        assignment.forget();
                        assignment.replace(vec![(0, resume)], 1);
                        at = committed.map_or(0, |commit| commit.offset);
                    }
                }
            }
        }
    }
}
