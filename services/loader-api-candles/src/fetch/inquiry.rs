//! Questions that belong together, and what becomes of answers that contradict each other.

use std::time::Duration;

use streamforge_utils::protocol::TimestampMs;

use super::CandleSource;
use crate::{
    binance::{Answer, BinanceError, Question, gave_up},
    kline::Kline,
    message::Wait,
    plan::Window,
};

/// Asks about one thing until the answers agree, or the deadline.
pub(super) struct Inquiry<'a> {
    pub(super) source: &'a CandleSource,
    /// The exchange's clock when the last question was sent.
    pub(super) asked_at: TimestampMs,
    /// Time spent since the last contradiction, without what the exchange's limits did.
    spent: Duration,
    /// Time spent in vain.
    in_vain: Duration,
    backoff: Duration,
    wait: Wait,
}

impl<'a> Inquiry<'a> {
    pub(super) fn new(source: &'a CandleSource) -> Self {
        Self {
            source,
            asked_at: TimestampMs(0),
            spent: Duration::ZERO,
            in_vain: Duration::ZERO,
            backoff: source.client.settings().first_backoff,
            wait: source.client.message().wait(),
        }
    }

    /// The first klines that open in `window`.
    pub(super) async fn first_in(
        &mut self,
        window: Window,
        limit: u16,
    ) -> Result<Vec<Kline>, BinanceError> {
        self.ask(Question::FirstIn(window), limit).await
    }

    /// The latest klines that open before `end`.
    pub(super) async fn latest_before(
        &mut self,
        end: TimestampMs,
        limit: u16,
    ) -> Result<Vec<Kline>, BinanceError> {
        self.ask(Question::LatestBefore(end), limit).await
    }

    async fn ask(&mut self, question: Question, limit: u16) -> Result<Vec<Kline>, BinanceError> {
        let CandleSource {
            client,
            symbol,
            interval,
            ..
        } = self.source;
        let Answer {
            klines,
            asked_at,
            spent,
        } = client.klines(symbol, *interval, question, limit).await?;
        self.asked_at = asked_at;
        self.spent += spent;
        Ok(klines)
    }

    /// Waits so long that the next answer confirms what the last one said: `what`, the end of a sentence.
    pub(super) async fn pause(&mut self, what: &str) {
        let pause = self.source.client.settings().confirm_after;
        tracing::debug!("The exchange {what}; asking again");
        self.wait
            .says(format!("asking the exchange again: it {what}"));
        tokio::time::sleep(pause).await;
        self.wait.over();
        self.spent += pause;
    }

    /// Waits until everything is asked for again, as two answers contradict each other.
    ///
    /// # Errors
    /// [`BinanceError::GaveUp`] if there is no time left for that.
    pub(super) async fn contradicted(&mut self, what: String) -> Result<(), BinanceError> {
        let settings = self.source.client.settings();
        self.in_vain += std::mem::take(&mut self.spent);
        let error = BinanceError::Contradiction { what };
        if self.in_vain >= settings.retry_deadline {
            return Err(gave_up(self.in_vain, error));
        }
        self.source.client.metrics().retried(error.kind());
        tracing::warn!(%error, "Asking the exchange again");
        self.wait.says(format!("trying again: {error}"));
        tokio::time::sleep(self.backoff).await;
        self.wait.over();
        self.in_vain += self.backoff;
        self.backoff = (self.backoff * 2).min(settings.longest_backoff);
        Ok(())
    }
}

pub(super) fn contradiction(what: String) -> BinanceError {
    BinanceError::Contradiction { what }
}
