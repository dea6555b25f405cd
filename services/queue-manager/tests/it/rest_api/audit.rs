//! Every change leaves a line that says who asked for it, and no line holds a token.

use std::{
    io,
    sync::{Arc, Mutex},
};

use reqwest::Method;
use serde_json::{Value, json};
use tracing_subscriber::{filter::LevelFilter, fmt::MakeWriter};

use super::rig::{FULL, READ, Rig, Settings, answered};

/// Keeps what is logged on this thread, which is the only one that these tests run on.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

impl Log {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }

    /// The audit's lines: who, what, about what, what came of it, code.
    fn audit(&self) -> Vec<[String; 5]> {
        let lines = self.text();
        let lines = lines
            .lines()
            .map(|line| serde_json::from_str(line).unwrap());
        lines
            .filter(|line: &Value| line["target"] == "audit")
            .map(|line| {
                ["who", "what", "queue.id", "outcome", "code"].map(|field| {
                    let value = &line["fields"][field];
                    let text = value.as_str().map(str::to_owned);
                    text.unwrap_or_else(|| value.to_string())
                })
            })
            .collect()
    }
}

#[tokio::test]
async fn who_changed_what_is_known_and_tokens_are_not() {
    let log = Log::default();
    let subscriber = tracing_subscriber::fmt()
        .json()
        .with_max_level(LevelFilter::TRACE)
        .with_writer(log.clone())
        .finish();
    let _guard = tracing::subscriber::set_default(subscriber);
    // While there is only one subscriber, tracing asks the thread that meets a line first whether anyone wants it, and
    // threads of other tests have none.
    let _second = tracing::Dispatch::new(tracing_subscriber::registry());
    let settings = Settings {
        with_tokens: true,
        ..Settings::default()
    };
    let rig = Rig::start_with(settings).await;
    let id = rig.started().await;
    let id = id.as_str();
    let stop = json!({"queue_id": id});
    let by = |token: &str| {
        let request = rig.bare(Method::POST, "/queues/stop").json(&stop);
        request.bearer_auth(token)
    };
    assert_eq!(answered(by("guessed-token")).await.code, 401);
    assert_eq!(answered(by(READ)).await.code, 403);
    assert_eq!(answered(by(FULL)).await.code, 202);
    let path = format!("/queues/{id}");
    let removal = rig.bare(Method::DELETE, &path).bearer_auth(READ);
    assert_eq!(answered(removal).await.code, 403);
    let bad = rig.post("/queues/start", &json!({})).await;
    assert_eq!(bad.code, 422);
    // To look is no change.
    assert_eq!(rig.get(&path).await.code, 200);
    let line = |who: &str, what: &str, queue: &str, outcome: &str, code: &str| {
        [who, what, queue, outcome, code].map(str::to_owned)
    };
    let start = "POST /queues/start-test-flow";
    let expected = [
        line("ops", start, id, "done", "202"),
        line("nobody", "POST /queues/stop", "-", "refused", "401"),
        line("ui", "POST /queues/stop", "-", "refused", "403"),
        line("ops", "POST /queues/stop", id, "done", "202"),
        line("ui", "DELETE /queues/{queue_id}", id, "refused", "403"),
        line("ops", "POST /queues/start", "-", "refused", "422"),
    ];
    assert_eq!(log.audit(), expected, "{}", log.text());
    // Of every level, of every crate.
    for token in [READ, FULL, "guessed-token"] {
        assert!(!log.text().contains(token), "{token}");
    }
}
