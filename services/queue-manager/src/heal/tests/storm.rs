//! Storms: workers that live, fail, die and vanish at random, a launcher that is asked by a queue-manager which crashes
//! at random, forgets what it had not stored, reads events again, and looks at Jobs as they were a while ago.

use std::collections::BTreeMap;

use proptest::prelude::*;
use streamforge_utils::protocol::{Event, EventKind, InterruptReason};

use super::*;
use crate::{
    launcher::{JobPhase, LaunchError, Trouble, TroubleKind},
    state::{
        Part, Position, Status,
        tests::{LOADER, WRITER, at, event, failed, finished, interrupted, loading, workflow},
    },
};

const PARTS: [&str; 2] = [LOADER, WRITER];

/// What happens next.
#[derive(Debug, Clone)]
enum Step {
    Wait(i64),
    /// Read so many events.
    Read(usize),
    /// Take a new list of Jobs.
    List,
    /// Look, store, and do so many of the actions before a crash; all if None.
    Observe(Option<usize>),
    /// Die: what was not stored is lost, and so many events more are read again.
    Crash(i64),
    Store,
    Stop(bool),
    /// Something happens to the Job of a part.
    Fate(usize, Fate),
}

#[derive(Debug, Clone, Copy)]
enum Fate {
    /// Its next process comes up.
    Up,
    Progress,
    Finish,
    Stopped,
    Signal,
    Retryable,
    Permanent,
    /// Its process dies without a word.
    Die,
    /// It fails of what can pass.
    NodeLost,
    /// It is deleted by somebody, with what runs.
    Vanish,
}

fn any_step() -> impl Strategy<Value = Step> {
    let fate = prop::sample::select(vec![
        Fate::Up,
        Fate::Up,
        Fate::Up,
        Fate::Progress,
        Fate::Finish,
        Fate::Stopped,
        Fate::Signal,
        Fate::Retryable,
        Fate::Permanent,
        Fate::Die,
        Fate::NodeLost,
        Fate::Vanish,
        Fate::Vanish,
    ]);
    prop_oneof![
        4 => prop::sample::select(vec![1, 5, 12, 30, 70, 400]).prop_map(Step::Wait),
        3 => (1_usize..6).prop_map(Step::Read),
        5 => Just(Step::List),
        5 => Just(Step::Observe(None)),
        1 => (0_usize..3).prop_map(|done| Step::Observe(Some(done))),
        1 => (0_i64..6).prop_map(Step::Crash),
        2 => Just(Step::Store),
        1 => prop::sample::select(vec![Step::Stop(true), Step::Stop(false), Step::Wait(60)]),
        8 => (0_usize..2, fate).prop_map(|(part, fate)| Step::Fate(part, fate)),
    ]
}

/// A Job as the launcher has it.
#[derive(Debug, Clone)]
struct Running {
    status: JobStatus,
    /// The number and the last event of its process, if one lives.
    process: Option<(u64, u64)>,
}

struct World {
    secs: i64,
    jobs: BTreeMap<String, Running>,
    log: Vec<(i64, Event)>,
    processes: u64,
    /// The number of each part's last Job.
    made: BTreeMap<String, u32>,
    document: Workflow,
    stored: Workflow,
    listed: Vec<JobStatus>,
    settings: HealSettings,
}

impl World {
    fn new() -> Self {
        Self {
            secs: 0,
            jobs: BTreeMap::new(),
            log: Vec::new(),
            processes: 0,
            made: BTreeMap::new(),
            document: workflow(1),
            stored: workflow(1),
            listed: Vec::new(),
            settings: HealSettings::default(),
        }
    }

    fn say(&mut self, telemetry_id: &str, make: impl Fn(u64) -> Event) {
        let secs = self.secs;
        let Some(job) = self.job_mut(telemetry_id) else {
            return;
        };
        let Some((nth, seq)) = &mut job.process else {
            return;
        };
        *seq += 1;
        let timestamp = at(secs).as_millis() as f64 / 1_000.0;
        let event = Event {
            seq: *seq,
            timestamp,
            ..make(*nth)
        };
        if event.event.is_terminal() {
            job.process = None;
            job.status.alive = 0;
        }
        self.log.push((secs, event));
    }

    fn job_mut(&mut self, telemetry_id: &str) -> Option<&mut Running> {
        self.jobs
            .values_mut()
            .find(|job| job.status.telemetry_id == telemetry_id)
    }

    fn end(&mut self, telemetry_id: &str, phase: JobPhase, trouble: Option<TroubleKind>) {
        let Some(job) = self.job_mut(telemetry_id) else {
            return;
        };
        (job.process, job.status.alive) = (None, 0);
        job.status.trouble = trouble.map(|kind| Trouble {
            kind,
            message: "x".to_owned(),
        });
        // A Job starts three processes, as its policy says.
        let is_over = phase != JobPhase::Running || job.status.starts >= 3;
        job.status.phase = match phase {
            JobPhase::Running if is_over => JobPhase::Failed,
            phase => phase,
        };
    }

    fn fate(&mut self, telemetry_id: &str, fate: Fate) {
        let Some(job) = self.job_mut(telemetry_id) else {
            return;
        };
        let (lives, phase) = (job.process.is_some(), job.status.phase);
        let is_open = matches!(phase, JobPhase::Pending | JobPhase::Running);
        match fate {
            Fate::Up if is_open && !lives => {
                self.processes += 1;
                let nth = self.processes;
                if let Some(job) = self.job_mut(telemetry_id) {
                    job.process = Some((nth, 0));
                    (job.status.phase, job.status.alive) = (JobPhase::Running, 1);
                    job.status.starts += 1;
                }
                self.say(telemetry_id, |nth| {
                    event(telemetry_id, nth, EventKind::Started)
                });
            }
            Fate::Vanish => self
                .jobs
                .retain(|_, job| job.status.telemetry_id != telemetry_id),
            _ if !lives => {}
            Fate::Up => {}
            Fate::Progress => {
                self.say(telemetry_id, |nth| loading(telemetry_id, nth, nth, Some(9)))
            }
            Fate::Finish => {
                self.say(telemetry_id, |nth| finished(telemetry_id, nth, 9));
                self.end(telemetry_id, JobPhase::Succeeded, None);
            }
            Fate::Stopped => {
                self.say(telemetry_id, |nth| {
                    interrupted(telemetry_id, nth, InterruptReason::Stop)
                });
                self.end(telemetry_id, JobPhase::Succeeded, None);
            }
            Fate::Signal => {
                self.say(telemetry_id, |nth| {
                    interrupted(telemetry_id, nth, InterruptReason::Signal)
                });
                self.end(
                    telemetry_id,
                    JobPhase::Running,
                    Some(TroubleKind::ExitCode(143)),
                );
            }
            Fate::Retryable => {
                self.say(telemetry_id, |nth| failed(telemetry_id, nth, true));
                self.end(
                    telemetry_id,
                    JobPhase::Running,
                    Some(TroubleKind::ExitCode(1)),
                );
            }
            Fate::Permanent => {
                self.say(telemetry_id, |nth| failed(telemetry_id, nth, false));
                self.end(
                    telemetry_id,
                    JobPhase::Failed,
                    Some(TroubleKind::ExitCode(70)),
                );
            }
            Fate::Die => self.end(
                telemetry_id,
                JobPhase::Running,
                Some(TroubleKind::Signal(9)),
            ),
            Fate::NodeLost => self.end(telemetry_id, JobPhase::Failed, Some(TroubleKind::NodeLost)),
        }
    }

    fn read(&mut self, count: usize) {
        let next = self.document.positions.get(&0).map_or(0, |last| last + 1);
        self.read_from(next, count);
    }

    fn read_from(&mut self, offset: i64, count: usize) {
        let begin = usize::try_from(offset).unwrap();
        let finals = finals(&self.document);
        for (offset, (secs, event)) in (offset..).zip(self.log.iter().skip(begin).take(count)) {
            let position = Position {
                partition: 0,
                offset,
                appended: at(*secs),
            };
            self.document.apply(position, event, at(self.secs));
        }
        assert_stay(&finals, &self.document);
    }

    fn observe(&mut self, done: Option<usize>) {
        let next = self.document.positions.get(&0).map_or(0, |last| last + 1);
        let unread = self.log.get(usize::try_from(next).unwrap());
        let events_until = at(unread.map_or(self.secs, |(secs, _)| *secs - 1));
        let finals = finals(&self.document);
        let seen = Seen {
            jobs: &self.listed,
            now: at(self.secs),
            events_until,
        };
        let actions = observe(&mut self.document, &seen, &self.settings);
        assert_stay(&finals, &self.document);
        for action in &actions {
            if let Action::Launch { telemetry_id, .. } = action {
                let lives = |job: &&JobStatus| job.telemetry_id == *telemetry_id && job.alive > 0;
                assert_eq!(self.listed.iter().find(lives), None, "{action:?}");
                assert!(
                    !finals.contains_key(telemetry_id),
                    "{action:?} of a part that is final"
                );
            }
        }
        self.stored = self.document.clone();
        let count = done.unwrap_or(actions.len());
        for action in actions.into_iter().take(count) {
            self.perform(action);
        }
    }

    fn perform(&mut self, action: Action) {
        match action {
            Action::Launch {
                telemetry_id,
                attempt,
            } => self.launch(&telemetry_id, attempt),
            Action::DeleteJob { name, .. } => {
                let job = self
                    .jobs
                    .get(&name)
                    .map(|job| job.status.telemetry_id.clone());
                if let Some(telemetry_id) = job {
                    self.fate(&telemetry_id, Fate::Signal);
                    self.jobs.remove(&name);
                }
            }
            Action::SendStop { telemetry_id, .. } => {
                // Every second stop is heard.
                if self.secs % 2 == 0 {
                    self.fate(&telemetry_id, Fate::Stopped);
                }
            }
            Action::Prepare | Action::DeleteTopics => {}
        }
    }

    fn launch(&mut self, telemetry_id: &str, attempt: u32) {
        let name = self.document.part(telemetry_id).unwrap().job_name.clone();
        if let Some(there) = self.jobs.get(&name) {
            if there.status.attempt != attempt {
                let error = LaunchError::Taken("another attempt".to_owned());
                self.document
                    .launch_failed(telemetry_id, &error, at(self.secs));
            }
            return;
        }
        self.made.insert(telemetry_id.to_owned(), attempt);
        let status = JobStatus {
            name: name.clone(),
            queue_id: self.document.queue_id.clone(),
            run: 1,
            attempt,
            telemetry_id: telemetry_id.to_owned(),
            phase: JobPhase::Pending,
            is_deleting: false,
            trouble: None,
            starts: 0,
            alive: 0,
            created: at(self.secs),
            ended: None,
        };
        let process = None;
        self.jobs.insert(name, Running { status, process });
    }

    fn list(&mut self) {
        self.listed = self.jobs.values().map(|job| job.status.clone()).collect();
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Wait(secs) => self.secs += secs,
            Step::Read(count) => self.read(*count),
            Step::List => self.list(),
            Step::Observe(done) => {
                self.observe(*done);
                if done.is_some() {
                    self.crash(0);
                }
            }
            Step::Crash(back) => self.crash(*back),
            Step::Store => self.stored = self.document.clone(),
            Step::Stop(drain) => {
                self.document.request_stop(*drain, "ann", at(self.secs));
                self.stored = self.document.clone();
            }
            Step::Fate(part, fate) => self.fate(PARTS[*part], *fate),
        }
    }

    fn crash(&mut self, back: i64) {
        let text = serde_json::to_string(&self.stored).unwrap();
        self.document = serde_json::from_str(&text).unwrap();
        assert_eq!(self.document, self.stored, "the store keeps all");
        let next = self.document.positions.get(&0).map_or(0, |last| last + 1);
        self.read_from((next - back).max(0), 3);
    }
}

fn finals(workflow: &Workflow) -> BTreeMap<String, Part> {
    let parts = workflow.parts.iter().filter(|part| part.is_final());
    parts
        .map(|part| (part.telemetry_id.clone(), part.clone()))
        .collect()
}

fn assert_stay(finals: &BTreeMap<String, Part>, workflow: &Workflow) {
    for (telemetry_id, before) in finals {
        let part = workflow.part(telemetry_id).unwrap();
        let of = |part: &Part| {
            (
                part.status,
                part.reason.clone(),
                part.seq,
                part.ended_at,
                part.attempts,
                part.progress.written,
            )
        };
        assert_eq!(of(part), of(before), "a final part changed");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn whatever_happens_every_workflow_ends_and_nothing_of_it_stays(
        steps in prop::collection::vec(any_step(), 1..150),
        last in prop::sample::select(vec![Fate::Die, Fate::NodeLost, Fate::Vanish]),
    ) {
        let mut world = World::new();
        for step in &steps {
            world.step(step);
            for (telemetry_id, attempt) in &world.made {
                prop_assert!(*attempt <= 1 + world.settings.max_relaunches, "{} of {}", attempt, telemetry_id);
            }
        }
        // From now on whatever is started ends at once, and all that is said is read.
        let mut rounds = 0;
        while !world.document.status.is_final() || !world.jobs.is_empty() {
            rounds += 1;
            prop_assert!(rounds < 500, "it never ends: {:#?}\n{:#?}", world.document, world.jobs);
            world.secs += 7;
            for part in PARTS {
                world.fate(part, Fate::Up);
                world.fate(part, last);
            }
            world.read(usize::MAX);
            world.list();
            world.observe(None);
            world.jobs.retain(|_, job| {
                let is_over = matches!(job.status.phase, JobPhase::Succeeded | JobPhase::Failed);
                let is_final = world.document.part(&job.status.telemetry_id).unwrap().is_final();
                !(is_over && is_final)
            });
        }
        for part in &world.document.parts {
            prop_assert!(part.ended_at.is_some());
            prop_assert!(part.status == Status::Finished || part.reason.is_some(), "{:?} has no reason", part);
        }
    }
}
