//! The stream of changes: Server-Sent Events, read as they come.
//!
//! Comments and fields other than `data` are passed over. It ends with an error when it breaks, when nothing comes for
//! longer than the server's own signs of life are apart, or when an event is larger than any can be.

use std::{
    collections::{BTreeSet, VecDeque},
    time::Duration,
};

use reqwest::{Method, header};
use serde_json::Value;

use super::{Client, chain};
use crate::queue::{api::Told, failure::Failure};

/// The server says something every 15 s, if only that it is there.
const SILENCE_LIMIT: Duration = Duration::from_secs(45);
/// A workflow with many workers is far below.
const MOST_BYTES: usize = 16 << 20;

/// Changes of workflows.
pub(in crate::queue) struct Stream {
    client: Client,
    response: reqwest::Response,
    events: Events,
}

impl Client {
    /// Listens to workflows: first what they are, then every change.
    ///
    /// # Errors
    /// There is no stream to be had.
    pub(in crate::queue) async fn listen(&self, ids: &BTreeSet<String>) -> Result<Stream, Failure> {
        let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
        let path = ["queues".to_owned(), "stream".to_owned()];
        let builder = self
            .prepare(&Method::GET, &path)
            .query(&[("queue_id", ids.join(","))])
            .header(header::ACCEPT, "text/event-stream");
        let sent = tokio::time::timeout(self.timeout, builder.send()).await;
        let response = match sent {
            Ok(response) => response.map_err(|error| self.away(&error))?,
            Err(_) => return Err(self.silent()),
        };
        if !response.status().is_success() {
            return match self.answer(response).await {
                Err(failure) => Err(failure),
                Ok(_) => Err(self.not_the_api("a refusal that is none".to_owned())),
            };
        }
        Ok(Stream {
            client: self.clone(),
            response,
            events: Events::default(),
        })
    }

    fn silent(&self) -> Failure {
        Failure::Away {
            url: self.place.url.clone(),
            cause: "no answer in time".to_owned(),
        }
    }
}

impl Stream {
    /// The next message.
    ///
    /// # Errors
    /// It is over.
    pub(in crate::queue) async fn next(&mut self) -> Result<Told, Failure> {
        loop {
            while let Some(data) = self.events.next() {
                let value: Value = serde_json::from_str(&data)
                    .map_err(|error| self.client.not_the_api(error.to_string()))?;
                // Not cleaned here: a state is passed on as it came.
                let told = serde_json::from_value(value)
                    .map_err(|error| self.client.not_the_api(error.to_string()))?;
                if !matches!(told, Told::Unknown) {
                    return Ok(told);
                }
            }
            let read = tokio::time::timeout(SILENCE_LIMIT, self.response.chunk()).await;
            let broken = |cause: String| Failure::Away {
                url: self.client.place.url.clone(),
                cause,
            };
            match read {
                Ok(Ok(Some(bytes))) => self.events.take(&bytes),
                Ok(Ok(None)) => return Err(broken("the stream ended".to_owned())),
                Ok(Err(error)) => return Err(broken(chain(&error))),
                Err(_) => return Err(broken("the stream fell silent".to_owned())),
            }
            if self.events.is_too_large() {
                return Err(broken("an event of the stream has no end".to_owned()));
            }
        }
    }
}

/// Events in a row of bytes.
#[derive(Debug, Default)]
struct Events {
    /// What has no end of line yet.
    rest: Vec<u8>,
    data: Option<String>,
    whole: VecDeque<String>,
}

impl Events {
    fn take(&mut self, bytes: &[u8]) {
        self.rest.extend_from_slice(bytes);
        let Some(end) = self.rest.iter().rposition(|&byte| byte == b'\n') else {
            return;
        };
        let after = self.rest.split_off(end + 1);
        let lines = std::mem::replace(&mut self.rest, after);
        for line in String::from_utf8_lossy(&lines).lines() {
            if line.is_empty() {
                self.whole.extend(self.data.take());
            } else if let Some(text) = line.strip_prefix("data:") {
                let text = text.strip_prefix(' ').unwrap_or(text);
                match &mut self.data {
                    Some(data) => {
                        data.push('\n');
                        data.push_str(text);
                    }
                    None => self.data = Some(text.to_owned()),
                }
            }
        }
    }

    fn next(&mut self) -> Option<String> {
        self.whole.pop_front()
    }

    fn is_too_large(&self) -> bool {
        self.rest.len() + self.data.as_ref().map_or(0, String::len) > MOST_BYTES
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str =
        ": hello\n\nevent: change\ndata: {\"a\":\ndata: 1}\nid: 7\n\r\ndata:é\r\n\r\ndata: cut";

    #[test]
    fn events_are_whole_however_the_bytes_are_cut() {
        for size in 1..TEXT.len() {
            let mut events = Events::default();
            let mut found = Vec::new();
            for bytes in TEXT.as_bytes().chunks(size) {
                events.take(bytes);
                found.extend(std::iter::from_fn(|| events.next()));
            }
            assert_eq!(found, ["{\"a\":\n1}", "é"], "{size} bytes at a time");
        }
    }
}
