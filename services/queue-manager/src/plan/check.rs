//! From a request to a [`Plan`]: every check that needs no one else, all faults at once. No I/O; whether the exchange has
//! the symbol is asked afterwards, by whoever launches.

use serde_json::Value;
use streamforge_utils::{
    config::Vars,
    protocol::{
        QueueId, Short, Symbol, TimeRange, TimestampMs, WorkflowKind, collection_name, data_topic,
        job_name, queue_id, telemetry_id,
    },
};

use super::{Plan, PlannedWorker, Role, pipeline};
use crate::{
    request::{FieldErrors, Microservice, Start, StartPipeline},
    targets::{TARGETS, Target, is_historical},
};

/// What the operator decides for all plans.
#[derive(Debug, Clone)]
pub struct Planner {
    /// Goes before the target's name in an image: `registry/loader-api-candles:tag`.
    pub image_registry: String,
    /// Goes behind it.
    pub image_tag: String,
    /// Images that a request may name: exact, or a prefix with `*` behind it. Empty: none.
    pub images_allowed: Vec<String>,
    /// Where commands go.
    pub control_topic: String,
    /// Where events come from.
    pub events_topic: String,
    /// Replicas of a data topic; None is the broker's default.
    pub replication: Option<u32>,
    /// Hours until records of a data topic are deleted.
    pub retention_hours: u32,
    /// Records that one of its partitions can keep; None is any number.
    pub partition_records: Option<u32>,
    /// What workers get as `METRICS_PORT`: 0 where several run on one machine.
    pub metrics_port: Option<u16>,
}

/// The request's values that are good, and examples in place of the others, so that the rest can still be checked.
struct Common {
    symbol: Symbol,
    kind: WorkflowKind,
    range: Option<TimeRange>,
    launched: TimestampMs,
    id: QueueId,
}

/// A worker whose target is known.
pub(super) struct Draft<'a> {
    pub(super) path: String,
    pub(super) asked: &'a Microservice,
    pub(super) target: &'static Target,
    pub(super) role: Role,
    pub(super) collection: Option<String>,
    pub(super) env: Vars,
}

impl Planner {
    /// What `POST /queues/start-pipeline` asks for.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn start_pipeline(
        &self,
        body: &Value,
        launched: TimestampMs,
        short: Short,
    ) -> Result<Plan, FieldErrors> {
        let mut errors = FieldErrors::default();
        let request = StartPipeline::read(body, &mut errors);
        let plan = self.plan(&request, launched, short, &mut errors);
        errors.or(plan)
    }

    /// What `POST /queues/start` asks for: one plan a symbol, in their order.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn start(
        &self,
        body: &Value,
        launched: TimestampMs,
        mut short: impl FnMut() -> Short,
    ) -> Result<Vec<Plan>, FieldErrors> {
        let mut errors = FieldErrors::default();
        let request = Start::read(body, &mut errors);
        let symbols = &request.symbol;
        let field = |nth: usize| match symbols.is_list {
            true => format!("symbol[{nth}]"),
            false => "symbol".to_owned(),
        };
        for (nth, symbol) in symbols.all.iter().enumerate() {
            if let Some(text) = symbol
                && symbols.all[..nth].contains(symbol)
            {
                errors.wrong(&field(nth), text, "each symbol once");
            }
        }
        let targets = self.targets_for(&request);
        let none = vec![None];
        // Without a symbol the rest is still checked.
        let all = if symbols.all.is_empty() {
            &none
        } else {
            &symbols.all
        };
        let mut plans = Vec::new();
        for (nth, symbol) in all.iter().enumerate() {
            let pipeline = StartPipeline {
                symbol: symbol.clone(),
                time_range: request.time_range.clone(),
                microservices: targets
                    .iter()
                    .map(|target| Microservice {
                        target: Some((*target).to_owned()),
                        kind: request.kind.clone(),
                        ..Microservice::default()
                    })
                    .collect(),
            };
            let mut of_one = FieldErrors::default();
            plans.extend(self.plan(&pipeline, launched, short(), &mut of_one));
            errors.add(of_one.renamed(|name| match name {
                "symbol" => field(nth),
                name if name.ends_with(".type") => "type".to_owned(),
                name => name.to_owned(),
            }));
        }
        // Of its workers each says the same of it.
        errors.once("type").or(Some(plans))
    }

    /// A loader and a writer for the type; those for candles where there are none, so that the answer says what they take.
    fn targets_for(&self, request: &Start) -> [&'static str; 2] {
        let kind = request.kind.as_deref().and_then(|kind| kind.parse().ok());
        let of = |role: Role| {
            let fits = |target: &&Target| {
                target.role(&Vars::new()) == role && kind.is_none_or(|kind| target.takes(kind))
            };
            TARGETS.iter().find(fits).map(|target| target.service)
        };
        [
            of(Role::Loader).unwrap_or(loader_api_candles::SERVICE),
            of(Role::Writer).unwrap_or(arango_candles::SERVICE),
        ]
    }

    /// A plan, unless something is noted in `errors`.
    pub(crate) fn plan(
        &self,
        request: &StartPipeline,
        launched: TimestampMs,
        short: Short,
        errors: &mut FieldErrors,
    ) -> Option<Plan> {
        let symbol = symbol(request.symbol.as_deref(), errors);
        let kind = pipeline::kind_of(&request.microservices, errors);
        let range = range(request.time_range.as_deref(), kind, launched, errors);
        let symbol = symbol.unwrap_or_else(|| example("BTCUSDT"));
        let common = Common {
            id: queue_id(
                &symbol,
                kind.unwrap_or_else(|| example("dummy")),
                launched,
                &short,
            ),
            symbol,
            kind: kind.unwrap_or_else(|| example("api_candles_1m")),
            range,
            launched,
        };
        let workers = request.microservices.iter().enumerate();
        let mut drafts: Vec<Draft<'_>> = workers
            .filter_map(|(nth, asked)| self.draft(nth, asked, &common, kind.is_some(), errors))
            .collect();
        // Rules about the whole would speak of workers that were left out.
        if drafts.len() == request.microservices.len() {
            pipeline::check_parts(&drafts, errors);
        }
        if let (Some(most), Some(range)) = (self.partition_records, &common.range) {
            pipeline::spread(&mut drafts, common.kind, range, launched, most);
        }
        let partitions = pipeline::share(&mut drafts, errors);
        // Loaders first; the order of the others is the request's.
        drafts.sort_by_key(|draft| draft.role != Role::Loader);
        let mut planned = Vec::new();
        for draft in &drafts {
            let same = |other: &&PlannedWorker| other.target == draft.target.service;
            let nth = planned.iter().filter(same).count() as u32 + 1;
            planned.push(self.worker(draft, &common, nth, errors));
        }
        let source = drafts.iter().find(|draft| draft.role == Role::Loader);
        let number = |name| source.and_then(|draft| draft.env.get(name)?.parse().ok());
        let moves = drafts.iter().any(|draft| draft.role != Role::Dummy);
        errors.is_empty().then(|| Plan {
            kafka_topic: moves.then(|| data_topic(&common.id)),
            queue_id: common.id,
            run: 1,
            symbol: common.symbol,
            kind: common.kind,
            time_range: common.range,
            launched,
            partitions,
            replication: number("TOPIC_REPLICATION").or(self.replication),
            retention_hours: number("TOPIC_RETENTION_HOURS").unwrap_or(self.retention_hours),
            workers: planned,
        })
    }

    /// One worker's own fields; None, with a note, if its target is not known.
    fn draft<'a>(
        &self,
        nth: usize,
        asked: &'a Microservice,
        common: &Common,
        knows_kind: bool,
        errors: &mut FieldErrors,
    ) -> Option<Draft<'a>> {
        let path = format!("microservices[{nth}]");
        let name = asked.target.as_deref()?;
        let Some(target) = Target::find(name) else {
            let expected = format!("one of {}", Target::known());
            errors.wrong(&format!("{path}.target"), name, &expected);
            return None;
        };
        if knows_kind && !target.takes(common.kind) {
            let expected = format!("{}, which is all that {name} takes", target.kinds());
            errors.wrong(&format!("{path}.type"), &common.kind.to_string(), &expected);
        }
        if knows_kind && let Some(interval) = &asked.interval {
            let expected = match common.kind.interval() {
                Some(of_kind) => format!("{of_kind}, as the type is {}", common.kind),
                None => format!("none, as {} has no interval", common.kind),
            };
            if Some(interval.as_str()) != common.kind.interval().map(|it| it.as_str()) {
                errors.wrong(&format!("{path}.interval"), interval, &expected);
            }
        }
        if let Some(image) = &asked.image
            && !self.allows(image)
        {
            let expected = match self.images_allowed.join(", ") {
                list if list.is_empty() => "none: the operator allows no images".to_owned(),
                list => format!("one that the operator allows: {list}"),
            };
            errors.wrong(&format!("{path}.image"), image, &expected);
        }
        let mut env = Vars::new();
        for (variable, value) in &asked.env {
            if target.settable().any(|known| known.name == variable) {
                // As the worker reads it: trimmed, and absent if blank.
                let value = value.trim();
                if !value.is_empty() {
                    env.insert(variable.clone(), value.to_owned());
                }
            } else {
                let names: Vec<_> = target.settable().map(|known| known.name).collect();
                let shown: String = variable.chars().take(64).collect();
                // Its value may be a password.
                errors.wrong(
                    &format!("{path}.env.{shown}"),
                    "a variable that a request can't set",
                    &format!("one of {}", names.join(", ")),
                );
            }
        }
        let collection = self.collection(&path, asked, target, common, errors);
        let role = target.role(&env);
        Some(Draft {
            path,
            asked,
            target,
            role,
            collection,
            env,
        })
    }

    fn collection(
        &self,
        path: &str,
        asked: &Microservice,
        target: &Target,
        common: &Common,
        errors: &mut FieldErrors,
    ) -> Option<String> {
        if let (Some(name), false) = (&asked.collection_name, target.has_collection()) {
            let expected = format!("none: {} writes no collection", target.service);
            errors.wrong(&format!("{path}.collection_name"), name, &expected);
        }
        target.has_collection().then(|| {
            let first = common
                .range
                .as_ref()
                .map_or(common.launched, TimeRange::start);
            let default = || collection_name(&common.symbol, common.kind, first);
            asked.collection_name.clone().unwrap_or_else(default)
        })
    }

    fn allows(&self, image: &str) -> bool {
        // An image's reference has neither blanks nor control characters, whatever a pattern's star would take.
        image.bytes().all(|byte| byte.is_ascii_graphic())
            && self
                .images_allowed
                .iter()
                .any(|allowed| match allowed.strip_suffix('*') {
                    Some(prefix) => image.starts_with(prefix),
                    None => image == allowed,
                })
    }

    /// The worker with its whole environment, which its own service has checked.
    fn worker(
        &self,
        draft: &Draft<'_>,
        common: &Common,
        nth: u32,
        errors: &mut FieldErrors,
    ) -> PlannedWorker {
        let target = draft.target;
        let telemetry_id = telemetry_id(target.service, &common.id, nth);
        let mut env = draft.env.clone();
        let mut set = |name: &str, value: Option<String>| {
            if let Some(value) = value
                && target.reads(name)
            {
                env.entry(name.to_owned()).or_insert(value);
            }
        };
        set("QUEUE_ID", Some(common.id.to_string()));
        set("SYMBOL", Some(common.symbol.to_string()));
        set("TYPE", Some(common.kind.to_string()));
        set("TELEMETRY_PRODUCER_ID", Some(telemetry_id.clone()));
        set("QUEUE_CONTROL_TOPIC", Some(self.control_topic.clone()));
        set("QUEUE_EVENTS_TOPIC", Some(self.events_topic.clone()));
        set(
            "METRICS_PORT",
            self.metrics_port.map(|port| port.to_string()),
        );
        set("TIME_RANGE", common.range.as_ref().map(ToString::to_string));
        set("COLLECTION_NAME", draft.collection.clone());
        if draft.role != Role::Dummy {
            set("KAFKA_TOPIC", Some(data_topic(&common.id)));
        }
        if draft.role == Role::Loader {
            set(
                "TOPIC_REPLICATION",
                self.replication.map(|it| it.to_string()),
            );
            set(
                "TOPIC_RETENTION_HOURS",
                Some(self.retention_hours.to_string()),
            );
        }
        check_as_it_will(draft, common.kind, &env, errors);
        let default = || {
            format!(
                "{}/{}:{}",
                self.image_registry, target.service, self.image_tag
            )
        };
        PlannedWorker {
            target: target.service.to_owned(),
            role: draft.role,
            job_name: job_name(target.service, &common.symbol, &common.id, nth, 1),
            telemetry_id,
            image: draft.asked.image.clone().unwrap_or_else(default),
            collection_name: draft.collection.clone(),
            env,
            is_historical: is_historical(common.kind),
        }
    }
}

/// A good value of our own.
fn example<T: std::str::FromStr<Err: std::fmt::Debug>>(text: &str) -> T {
    text.parse().expect("an example is well-formed")
}

fn symbol(text: Option<&str>, errors: &mut FieldErrors) -> Option<Symbol> {
    let text = text?;
    let symbol = text.parse().ok();
    if symbol.is_none() {
        errors.wrong("symbol", text, "2 to 20 of A-Z and 0-9, such as BTCUSDT");
    }
    symbol
}

fn range(
    text: Option<&str>,
    kind: Option<WorkflowKind>,
    now: TimestampMs,
    errors: &mut FieldErrors,
) -> Option<TimeRange> {
    const FORM: &str = "YYYY-MM-DD:YYYY-MM-DD, both days inclusive, or two ISO 8601 instants with a / between them";
    let wants = kind.map(is_historical);
    let Some(text) = text else {
        if wants == Some(true) {
            errors.missing("time_range", FORM);
        }
        return None;
    };
    if let (Some(kind), Some(false)) = (kind, wants) {
        errors.wrong("time_range", text, &format!("none, as {kind} has no range"));
        return None;
    }
    match text.parse::<TimeRange>() {
        Ok(range) if range.start() >= now => {
            errors.wrong(
                "time_range",
                text,
                &format!("a range that starts before now, {now}"),
            );
            None
        }
        Ok(range) if range.start() < TimestampMs(0) => {
            errors.wrong("time_range", text, "a range that starts in 1970 or later");
            None
        }
        Ok(range) => Some(range),
        Err(error) => {
            errors.wrong("time_range", text, &format!("{FORM} ({error})"));
            None
        }
    }
}

/// What would end the worker with 78, in words of the request.
///
/// A service checks what goes together only where each value can be read. So what is at fault is replaced by what is
/// good, and the rest is checked again.
fn check_as_it_will(draft: &Draft<'_>, kind: WorkflowKind, env: &Vars, errors: &mut FieldErrors) {
    const MOST_PASSES: usize = 3;
    let target = draft.target;
    let mut env = env.clone();
    if !target.takes(kind) {
        // Noted already; the other values are still checked.
        env.insert("TYPE".to_owned(), "api_candles_1m".to_owned());
    }
    for _ in 0..MOST_PASSES {
        let Err(error) = target.check(&env) else {
            return;
        };
        for fault in error.each() {
            let name = fault.variable();
            note(draft, name, fault.expected(), env.get(name), errors);
            match target.example(name) {
                Some(good) if !draft.env.contains_key(name) => {
                    env.insert(name.to_owned(), good.to_owned());
                }
                _ => _ = env.remove(name),
            }
        }
    }
}

fn note(
    draft: &Draft<'_>,
    variable: &str,
    expected: &str,
    found: Option<&String>,
    errors: &mut FieldErrors,
) {
    let path = &draft.path;
    let field = match variable {
        "COLLECTION_NAME" => format!("{path}.collection_name"),
        // Noted already, with a better reason.
        "SYMBOL" | "TYPE" | "INTERVAL" | "TIME_RANGE" if !errors.is_empty() => return,
        name => format!("{path}.env.{name}"),
    };
    let known = draft.target.settable().find(|known| known.name == variable);
    let expected = match (expected, known) {
        ("", Some(known)) => known.expected,
        (expected, _) => expected,
    };
    errors.wrong(&field, found.map_or("nothing", String::as_str), expected);
}
