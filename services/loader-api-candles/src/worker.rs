//! From a checked configuration to an outcome: connects what a load needs, finds out what is left to do, does it.
//!
//! The exchange is asked first, so that an unknown symbol leaves no topic behind. The stream is opened in any case,
//! unless a signal ends the worker: a `stop` has to reach the writers as markers.

use std::time::Duration;

use prometheus::Registry;
use streamforge_utils::{
    kafka::{Target, TopicError, TopicReader, TopicSpec, Topics},
    protocol::{Grid, InterruptReason, TimestampMs},
    worker::{Failure, Outcome, WorkerContext},
};

use crate::{
    SERVICE,
    binance::{BinanceClient, BinanceError, HttpSettings},
    config::{Config, Replication},
    fetch::CandleSource,
    gaps::GapTracker,
    grace::Grace,
    load::{self, LoadError, Reporter},
    message::Message,
    metrics::Metrics,
    plan::{self, Plan},
    publish::Publisher,
    replay::LookBack,
    resume::{self, ResumeError},
    stream::{CandleSink, PartitionState, StreamSpec},
};

/// The data topic, open for writing, and what it holds.
struct OpenStream {
    reader: TopicReader,
    sink: CandleSink,
    /// As it was found.
    states: Vec<PartitionState>,
}

/// Loads what `config` asks for.
///
/// # Errors
/// See the crate's README for what can pass and what can't.
pub async fn body(
    config: Config,
    registry: Registry,
    context: WorkerContext,
) -> Result<Outcome, Failure> {
    let WorkerContext { stop, progress, .. } = context;
    let metrics = Metrics::new(&registry).map_err(Failure::permanent)?;
    let reporter = Reporter::new(progress, metrics.clone());
    let grace = Grace::new(stop, config.ops.shutdown_grace());
    let stop = grace.stop();
    let asked = tokio::select! {
        biased;
        () = stop.cancelled() => None,
        asked = ask_exchange(&config, metrics.clone(), reporter.message()) => Some(asked?),
    };
    let opened = tokio::select! {
        biased;
        () = give_up_opening(&grace) => return Ok(Outcome::Stopped),
        opened = open_stream(&config, metrics) => opened?,
    };
    let OpenStream {
        reader,
        mut sink,
        states,
    } = opened;
    reporter.published(&sink);
    let Some((source, plan)) = asked.filter(|_| !stop.is_cancelled()) else {
        let stopped = load::stopped(&grace, &mut sink, &reporter).await;
        return stopped.map_err(|error| load_failure(error.into()));
    };
    reporter.expected(&plan, &GapTracker::new(&plan));
    let prepared = tokio::select! {
        biased;
        () = stop.cancelled() => None,
        prepared = look_back(&config, &reader, &source, &plan, &sink, &states, &reporter) => Some(prepared?),
    };
    drop(reader);
    let ended = match prepared {
        None => load::stopped(&grace, &mut sink, &reporter)
            .await
            .map_err(LoadError::from),
        Some(Past::Complete { tracker, more }) => {
            reporter.complete(&sink, &tracker, more);
            let finished = load::finish(&grace, &mut sink, &reporter).await;
            finished.map_err(LoadError::from)
        }
        Some(Past::GoOn { from, mut tracker }) => {
            let in_flight = config.source.fetch_in_flight.get() as usize;
            let pages = source.pages(&plan, from, in_flight);
            load::run(&grace, pages, &mut sink, &plan, &mut tracker, &reporter).await
        }
    };
    ended.map_err(load_failure)
}

/// What earlier attempts mean for this one.
enum Past {
    /// There is nothing left but markers. The exchange may have more by now.
    Complete {
        tracker: GapTracker,
        more: Option<TimestampMs>,
    },
    /// Ask for what opens from `from` on.
    GoOn {
        from: TimestampMs,
        tracker: GapTracker,
    },
}

/// Waits for a signal, or until it is too late for the markers that a `stop` command asks for.
async fn give_up_opening(grace: &Grace) {
    grace.stop().cancelled().await;
    if grace.stop().reason() != Some(InterruptReason::Signal) {
        grace.spent().await;
        tracing::warn!("Kafka did not answer in time: the end of the stream is not marked");
    }
}

/// Finds out from the exchange what the range holds.
async fn ask_exchange(
    config: &Config,
    metrics: Metrics,
    message: Message,
) -> Result<(CandleSource, Plan), Failure> {
    let settings = HttpSettings {
        confirm_after: config.confirm_after,
        ..HttpSettings::new(config.ops.retry_deadline())
    };
    let client = BinanceClient::new(
        config.source.binance_api_url.url(),
        settings,
        metrics,
        message,
    )
    .map_err(Failure::permanent)?;
    let (symbol, interval) = (&config.queue.symbol, config.interval);
    let (range, grace) = (
        &config.source.time_range,
        config.source.candle_close_grace_secs.duration(),
    );
    let failed = |error: BinanceError| {
        let permanent = !error.may_pass();
        let error =
            anyhow::Error::from(error).context(format!("ask the exchange for {symbol} {interval}"));
        Failure::new(error, !permanent)
    };
    let mut now = client.server_time().await.map_err(failed)?;
    client.exchange_info(symbol).await.map_err(failed)?;
    plan::check_begun(range, now).map_err(Failure::permanent)?;
    let source = CandleSource::new(client, symbol.clone(), interval, grace);
    let first_open = source.first_candle(range, now).await.map_err(failed)?;
    let grid = Grid::new(interval, first_open.unwrap_or_default());
    if let Some(wait) = plan::until_final(range, grid, now, grace) {
        wait_until_final(source.client().message(), wait).await;
        now = source.client().server_time().await.map_err(failed)?;
    }
    let plan = Plan::new(range, grid, first_open, now, grace).map_err(Failure::permanent)?;
    tracing::info!(
        expected = plan.expected(),
        start = %plan.start,
        end = %plan.end,
        server_time = %now,
        "Planned the load"
    );
    Ok((source, plan))
}

async fn wait_until_final(message: &Message, duration: Duration) {
    tracing::info!(
        wait_ms = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX),
        "Waiting until the last candle of the range is final"
    );
    let wait = message.wait();
    wait.says("waiting until the last candle of the range is final".to_owned());
    tokio::time::sleep(duration).await;
}

/// Finds or makes the data topic, and looks at what it holds.
async fn open_stream(config: &Config, metrics: Metrics) -> Result<OpenStream, Failure> {
    let (publish, queue) = (&config.publish, &config.queue);
    let topic = publish.kafka_topic.as_str();
    let asked = publish.topic_partitions.get_i32();
    let producer = queue.producer_id(SERVICE);
    let deadline = config.ops.retry_deadline();
    let topics = Topics::new(&config.kafka, &producer).map_err(Failure::permanent)?;
    let wanted = TopicSpec {
        name: topic.to_owned(),
        partitions: asked,
        replication: publish.topic_replication.map(Replication::get_i32),
        retention_hours: publish.topic_retention_hours.get().into(),
    };
    let found = topics.ensure(&wanted, deadline).await;
    let found = found.map_err(topic_failure)?;
    let settings = topics.check_settings(topic).await.map_err(topic_failure)?;
    let spec = StreamSpec {
        queue_id: queue.queue_id.clone(),
        run: queue.run,
        producer: producer.clone(),
        symbol: queue.symbol.clone(),
        interval: config.interval,
        numbers: publish.numbers,
        time_range: config.source.time_range.clone(),
        partition_key: publish.partition_key,
        partitions: partitions_to_use(topic, asked, found)?,
    };
    let group = format!("{}-{}", queue.queue_id, crate::SERVICE);
    let reader = TopicReader::new(&config.kafka, &producer, &group).map_err(Failure::permanent)?;
    let states = resume::read(&reader, topic, &spec, deadline)
        .await
        .map_err(resume_failure)?;
    let target = Target::new(topic, settings, deadline, topics);
    let publisher =
        Publisher::new(&config.kafka, &producer, target, metrics).map_err(Failure::permanent)?;
    let sink = CandleSink::new(spec, publisher, states.clone());
    Ok(OpenStream {
        reader,
        sink,
        states,
    })
}

/// A topic may have more partitions than asked for, as they may have been added later; it can't have fewer.
fn partitions_to_use(topic: &str, asked: i32, found: i32) -> Result<i32, Failure> {
    if asked > found {
        return Err(Failure::permanent(anyhow::anyhow!(
            "topic {topic:?} has {found} partitions, and TOPIC_PARTITIONS is {asked}; expected at most {found}"
        )));
    }
    if asked < found {
        tracing::warn!(
            topic,
            asked,
            found,
            "The topic has more partitions than TOPIC_PARTITIONS; the others stay empty"
        );
    }
    Ok(asked)
}

/// Compares what the topic holds with the plan, and finds where to go on and what was missing so far.
async fn look_back(
    config: &Config,
    reader: &TopicReader,
    source: &CandleSource,
    plan: &Plan,
    sink: &CandleSink,
    states: &[PartitionState],
    reporter: &Reporter,
) -> Result<Past, Failure> {
    let (topic, spec) = (config.publish.kafka_topic.as_str(), sink.spec());
    let mut tracker = GapTracker::new(plan);
    let complete = resume::is_complete(states);
    let any = resume::last_in_any(states, spec);
    if any.is_some() {
        let first = source.first_open(plan, plan.start).await;
        if let Some(first) = first.map_err(|error| load_failure(error.into()))? {
            resume::check_beginning(topic, states, spec, first).map_err(resume_failure)?;
        }
    }
    // When all is published, partitions differ only in which of them got the last record.
    let seen = if complete {
        any
    } else {
        resume::last_in_all(states, spec)
    };
    if let Some(through) = seen {
        let look_back = LookBack {
            reader,
            topic,
            spec,
            states,
            plan,
            through,
            deadline: config.ops.retry_deadline(),
        };
        tracker = look_back.run(reporter).await.map_err(resume_failure)?;
    }
    if complete {
        // What the exchange has after the last one was not final when the load finished, or the exchange hid it. If it
        // has nothing, that is missing.
        let rest = seen.map_or(plan.start, |last| last + 1);
        let more = source.first_open(plan, rest).await;
        let more = more.map_err(|error| load_failure(error.into()))?;
        if more.is_none()
            && let Some(gap) = tracker.end(plan)
        {
            reporter.gap(&gap);
        }
        return Ok(Past::Complete { tracker, more });
    }
    let Some(any) = any else {
        return Ok(Past::GoOn {
            from: plan.start,
            tracker,
        });
    };
    let from = seen.map_or(plan.start, |last| last + 1);
    tracing::info!(
        published = sink.published(),
        missing = tracker.missing(),
        published_until = %any,
        from = %from,
        "Going on after an earlier attempt"
    );
    Ok(Past::GoOn { from, tracker })
}

fn topic_failure(error: TopicError) -> Failure {
    let permanent = error.is_permanent();
    Failure::new(error, !permanent)
}

fn load_failure(error: LoadError) -> Failure {
    let permanent = error.is_permanent();
    Failure::new(error, !permanent)
}

fn resume_failure(error: ResumeError) -> Failure {
    let permanent = error.is_permanent();
    let error = anyhow::Error::from(error).context("look at what earlier attempts have published");
    Failure::new(error, !permanent)
}
