//! What the events of a load say: how far it is, why it waits for the exchange, and at last what became of it.
//!
//! Without this a load that is told to wait looks like one that hangs. What it says about a wait holds only as long as
//! the wait does. When events are published is not its job.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use streamforge_utils::telemetry::Progress;

/// The message of a load's events. Clones are the same message.
#[derive(Debug, Clone)]
pub struct Message {
    progress: Progress,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    /// What the requests that wait say, by their number.
    waits: BTreeMap<u64, String>,
    requests: u64,
    /// How far looking back at what earlier attempts have published is.
    looking_back: Option<String>,
    /// No request is waited for any more.
    is_over: bool,
    closing: Option<String>,
}

impl Message {
    /// Shows the counts of `progress`.
    pub fn new(progress: Progress) -> Self {
        Self {
            progress,
            state: Arc::default(),
        }
    }

    /// For one request, which may have to wait.
    pub fn wait(&self) -> Wait {
        let mut state = self.state();
        state.requests += 1;
        Wait {
            message: self.clone(),
            number: state.requests,
        }
    }

    /// Says how far looking back is, unless a request waits; `None` once that is over.
    pub fn look_back(&self, text: Option<String>) {
        let mut state = self.state();
        state.looking_back = text;
        self.show(state);
    }

    /// Says no more of requests.
    pub fn stop_waiting(&self) {
        let mut state = self.state();
        state.is_over = true;
        self.show(state);
    }

    /// Says at last what became of the load.
    pub fn close(&self, text: String) {
        let mut state = self.state();
        state.closing = Some(text);
        self.show(state);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The lock is held so that messages are set in the order of what they tell.
    fn show(&self, state: MutexGuard<'_, State>) {
        let wait = state.waits.values().next_back().filter(|_| !state.is_over);
        let doing = wait.or(state.looking_back.as_ref());
        match state.closing.as_ref().or(doing) {
            Some(text) => self.progress.set_message(text),
            None => self.progress.clear_message(),
        }
    }
}

/// A request that may have to wait. Dropped once it is answered, or given up.
#[derive(Debug)]
pub struct Wait {
    message: Message,
    number: u64,
}

impl Wait {
    /// Says why it waits.
    pub fn says(&self, text: String) {
        let mut state = self.message.state();
        state.waits.insert(self.number, text);
        self.message.show(state);
    }

    /// It waits no more.
    pub fn over(&self) {
        let mut state = self.message.state();
        if state.waits.remove(&self.number).is_some() {
            self.message.show(state);
        }
    }
}

impl Drop for Wait {
    fn drop(&mut self) {
        self.over();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_is_told_as_long_as_it_lasts() {
        let progress = Progress::default();
        let message = Message::new(progress.clone());
        progress.set_total(Some(10));
        let (first, second) = (message.wait(), message.wait());
        first.says("first".to_owned());
        second.says("second".to_owned());
        assert_eq!(progress.message(), "second");
        drop(second);
        assert_eq!(progress.message(), "first");
        first.over();
        assert_eq!(progress.message(), "0 of 10 records");
        progress.set_written(4);
        assert_eq!(progress.message(), "4 of 10 records");
    }

    #[test]
    fn the_last_word_stays() {
        let progress = Progress::default();
        let message = Message::new(progress.clone());
        let wait = message.wait();
        wait.says("waiting".to_owned());
        message.stop_waiting();
        assert_eq!(progress.message(), "0 records");
        wait.says("waiting".to_owned());
        assert_eq!(progress.message(), "0 records");
        message.close("done".to_owned());
        drop(wait);
        assert_eq!(progress.message(), "done");
    }
}
