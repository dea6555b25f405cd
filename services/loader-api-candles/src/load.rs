//! The load itself: page, map, publish, report; and how it ends.
//!
//! Everything it needs is an argument. It returns once all that it queued is acknowledged and, unless it was told to
//! end by a signal, the markers are too; so what it reports is in the topic. Told to end while the broker is away, it
//! drops what is queued before the grace is over.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use futures::StreamExt;
use streamforge_utils::{
    protocol::{Gap, InterruptReason, MarkerOutcome, TimestampMs},
    telemetry::Progress,
    worker::Outcome,
};

use crate::{
    binance::BinanceError, fetch::Pages, gaps::GapTracker, grace::Grace, kline::Kline,
    message::Message, metrics::Metrics, plan::Plan, publish::PublishError, stream::CandleSink,
};

/// The load failed. What was acknowledged stays, and a restart goes on after it.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// At the exchange.
    #[error(transparent)]
    Exchange(#[from] BinanceError),
    /// At the broker.
    #[error(transparent)]
    Publish(#[from] PublishError),
}

impl LoadError {
    /// Whether no retry can mend it.
    pub fn is_permanent(&self) -> bool {
        match self {
            Self::Exchange(error) => !error.may_pass(),
            Self::Publish(error) => error.is_permanent(),
        }
    }
}

/// Where a load reports how far it is.
#[derive(Debug, Clone)]
pub struct Reporter {
    progress: Progress,
    message: Message,
    metrics: Metrics,
    suspect: Arc<AtomicU64>,
}

/// How many implausible candles are logged; more are only counted.
const LOGGED_SUSPECTS: u64 = 20;

impl Reporter {
    /// Reports to events and metrics.
    pub fn new(progress: Progress, metrics: Metrics) -> Self {
        progress.set_gaps(Vec::new());
        Self {
            message: Message::new(progress.clone()),
            progress,
            metrics,
            suspect: Arc::default(),
        }
    }

    /// What events say.
    pub fn message(&self) -> Message {
        self.message.clone()
    }

    /// Reports what is in the topic.
    pub fn published(&self, sink: &CandleSink) {
        self.progress.set_written(sink.published());
        self.metrics.published(sink.published_now());
    }

    /// Reports what is expected and what is missing. Two candles in one slot are one more than expected.
    pub fn expected(&self, plan: &Plan, tracker: &GapTracker) {
        self.progress
            .set_total(Some(plan.expected() + tracker.extra()));
        self.missing(tracker);
    }

    /// Reports how many of `total` messages of earlier attempts were read to find gaps. That is progress too.
    pub fn looked_back(&self, messages: u64, total: u64) {
        self.progress.note();
        let text = format!("looking back at what was published: {messages} of {total} messages");
        self.message.look_back(Some(text));
    }

    /// Looking back is over.
    pub fn done_looking_back(&self) {
        self.progress.note();
        self.message.look_back(None);
    }

    /// Logs a gap.
    pub fn gap(&self, gap: &Gap) {
        tracing::warn!(
            start = %gap.start,
            end = %gap.end,
            candles = gap.missing,
            "The exchange has no candles here"
        );
    }

    /// Counts a candle that is published although `what` is implausible.
    fn suspect(&self, kline: &Kline, what: &str) {
        let count = self.suspect.fetch_add(1, Ordering::Relaxed) + 1;
        self.progress.set_suspect(count);
        if count <= LOGGED_SUSPECTS {
            tracing::warn!(
                open_time = %kline.open_time,
                what,
                "The exchange has an implausible candle; published it as it is"
            );
        }
        if count == LOGGED_SUSPECTS {
            tracing::warn!("Further implausible candles are only counted, as records_suspect");
        }
    }

    /// Says that an earlier attempt has published all that it found, which `tracker` has seen. `more` is the first
    /// candle that the exchange has beyond that.
    pub fn complete(&self, sink: &CandleSink, tracker: &GapTracker, more: Option<TimestampMs>) {
        let published = sink.published();
        self.missing(tracker);
        self.progress.set_total(Some(published + tracker.missing()));
        let Some(more) = more else {
            let summary = tracker.summary(published);
            self.message
                .close(format!("{summary}; all were published before"));
            return;
        };
        tracing::warn!(
            from = %more,
            "The exchange has candles of this range beyond those of the finished load"
        );
        let found = tracker.summary_so_far(published);
        self.message.close(format!(
            "{found}, published before; the exchange has more from {more} on, which only a new workflow loads"
        ));
    }

    fn summary(&self, plan: &Plan, tracker: &GapTracker, sink: &CandleSink) -> String {
        let published = sink.published();
        let mut summary = match plan.emptiness() {
            Some(reason) => format!("{published} candles: {reason}"),
            None => tracker.summary(published),
        };
        let suspect = self.suspect.load(Ordering::Relaxed);
        if suspect > 0 {
            summary = format!("{summary}; {suspect} with implausible values");
        }
        summary
    }

    fn missing(&self, tracker: &GapTracker) {
        self.progress.set_missing(tracker.missing());
        self.progress.set_gaps(tracker.gaps().to_vec());
        self.metrics.missing(tracker.missing());
    }
}

/// Publishes every final candle of `pages`, in order, until they end or a stop says so.
///
/// # Errors
/// The exchange or the broker failed for good, or for too long.
pub async fn run(
    grace: &Grace,
    mut pages: Pages,
    sink: &mut CandleSink,
    plan: &Plan,
    tracker: &mut GapTracker,
    reporter: &Reporter,
) -> Result<Outcome, LoadError> {
    let stop = grace.stop();
    reporter.expected(plan, tracker);
    reporter.published(sink);
    loop {
        let klines = tokio::select! {
            biased;
            () = stop.cancelled() => return Ok(stopped(grace, sink, reporter).await?),
            delivered = sink.next_delivery(), if sink.is_waiting() => {
                delivered?;
                reporter.published(sink);
                continue;
            }
            page = pages.next() => match page {
                Some(Ok(klines)) => klines,
                Some(Err(error)) => {
                    keep_fetched(grace, sink, reporter).await;
                    return Err(error.into());
                }
                None => break,
            },
        };
        for kline in &klines {
            let published = tokio::select! {
                biased;
                () = stop.cancelled() => return Ok(stopped(grace, sink, reporter).await?),
                published = publish(kline, sink, plan, tracker, reporter) => published,
            };
            published?;
        }
    }
    if let Some(gap) = tracker.end(plan) {
        reporter.gap(&gap);
    }
    reporter.expected(plan, tracker);
    let outcome = finish(grace, sink, reporter).await?;
    if outcome == Outcome::Done {
        reporter
            .message
            .close(reporter.summary(plan, tracker, sink));
    }
    Ok(outcome)
}

async fn publish(
    kline: &Kline,
    sink: &mut CandleSink,
    plan: &Plan,
    tracker: &mut GapTracker,
    reporter: &Reporter,
) -> Result<(), PublishError> {
    if kline.close_time >= plan.closed_before {
        tracing::debug!(open_time = %kline.open_time, "Left out a candle that is not final");
        return Ok(());
    }
    sink.publish(kline).await?;
    if let Some(what) = kline.implausible() {
        reporter.suspect(kline, what);
    }
    let extra = tracker.extra();
    let gap = tracker.seen(kline.open_time);
    if let Some(gap) = &gap {
        reporter.gap(gap);
    }
    if gap.is_some() || tracker.extra() > extra {
        reporter.expected(plan, tracker);
    }
    reporter.published(sink);
    Ok(())
}

/// Waits until all records are acknowledged, and ends the stream as `finished`: also after a stop, if there is time.
///
/// # Errors
/// The broker did not take a record or a marker.
pub async fn finish(
    grace: &Grace,
    sink: &mut CandleSink,
    reporter: &Reporter,
) -> Result<Outcome, PublishError> {
    let finished = grace.within(async {
        settle(sink, reporter).await?;
        sink.end(MarkerOutcome::Finished).await
    });
    match finished.await {
        Some(finished) => finished.map(|()| Outcome::Done),
        None => Ok(given_up(sink, reporter)),
    }
}

/// Waits until all records that are queued are acknowledged. After a `stop` command the stream ends as
/// `interrupted`; after a signal it does not end, as a restart goes on.
///
/// # Errors
/// The broker did not take a record or a marker.
pub async fn stopped(
    grace: &Grace,
    sink: &mut CandleSink,
    reporter: &Reporter,
) -> Result<Outcome, PublishError> {
    reporter.message.stop_waiting();
    let ended = grace.within(async {
        settle(sink, reporter).await?;
        if grace.stop().reason() == Some(InterruptReason::Stop) {
            sink.end(MarkerOutcome::Interrupted).await?;
        }
        Ok(Outcome::Stopped)
    });
    match ended.await {
        Some(ended) => ended,
        None => Ok(given_up(sink, reporter)),
    }
}

/// Ends without what the broker did not acknowledge in time.
fn given_up(sink: &mut CandleSink, reporter: &Reporter) -> Outcome {
    sink.abandon();
    reporter.published(sink);
    tracing::warn!(
        published = sink.published(),
        "Kafka did not acknowledge all in time: dropped what was queued, and the end of the stream is not marked. \
         A restart goes on after what was published"
    );
    Outcome::Stopped
}

/// Gives what was fetched before a failure the chance to be acknowledged, so that no restart asks for it again.
async fn keep_fetched(grace: &Grace, sink: &mut CandleSink, reporter: &Reporter) {
    match grace.briefly(settle(sink, reporter)).await {
        Some(Ok(())) => {}
        Some(Err(error)) => tracing::warn!(%error, "Not all that was fetched could be published"),
        None => {
            sink.abandon();
            tracing::warn!("Not all that was fetched could be published in time");
        }
    }
    reporter.published(sink);
}

async fn settle(sink: &mut CandleSink, reporter: &Reporter) -> Result<(), PublishError> {
    while sink.is_waiting() {
        sink.next_delivery().await?;
        reporter.published(sink);
    }
    reporter.published(sink);
    Ok(())
}
