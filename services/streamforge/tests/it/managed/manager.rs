//! A queue-manager as a process of its own, and its API as a client sees it.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use reqwest::{Method, StatusCode, header::RETRY_AFTER};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use streamforge_utils::config::Vars;
use tokio::process::{Child, Command};

use super::WORKFLOW_LIMIT;
use crate::process::LIMIT;

/// A queue-manager.
pub(crate) struct Manager {
    child: Child,
    pub(crate) url: String,
    pub(crate) http: reqwest::Client,
    log: PathBuf,
}

/// What it answers, whatever that is.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) retry_after: Option<String>,
    pub(crate) body: Value,
}

impl Manager {
    /// Starts it, and waits until it is ready.
    pub(crate) async fn start(program: &Path, vars: Vars, log: PathBuf) -> Self {
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = port.local_addr().unwrap().to_string();
        drop(port);
        let file = File::options().create(true).append(true).open(&log);
        let child = Command::new(program)
            .env_clear()
            .envs(vars)
            .env("API_LISTEN", &address)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(file.unwrap())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let manager = Self {
            child,
            url: format!("http://{address}"),
            http: reqwest::Client::builder().no_proxy().build().unwrap(),
            log,
        };
        manager
            .until("it is ready", "/health/ready", |_| true)
            .await;
        manager
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> Value {
        let answer = self.ask(Method::POST, path, &[], Some(body)).await.unwrap();
        let status = answer.status;
        assert!(
            status.is_success(),
            "{status}: {:#}\n{}",
            answer.body,
            self.said()
        );
        answer.body
    }

    /// Sends a request; what it is answered.
    pub(crate) async fn ask(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<&Value>,
    ) -> reqwest::Result<Answer> {
        let mut request = self.http.request(method, format!("{}{path}", self.url));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        if let Some(body) = body {
            request = request.json(body);
        }
        let answer = request.send().await?;
        let retry_after = answer.headers().get(RETRY_AFTER);
        Ok(Answer {
            status: answer.status(),
            retry_after: retry_after.map(|value| value.to_str().unwrap().to_owned()),
            body: answer.json().await?,
        })
    }

    /// Waits until what is at `path` is as wanted, and gives its `data`.
    pub(crate) async fn until(
        &self,
        what: &str,
        path: &str,
        wanted: impl Fn(&Value) -> bool,
    ) -> Value {
        let is_so = |answer: &Answer| answer.status.is_success() && wanted(&answer.body["data"]);
        let answer = self.until_answer(what, path, is_so).await;
        answer.body["data"].clone()
    }

    /// Waits until the answer at `path` is as wanted.
    pub(crate) async fn until_answer(
        &self,
        what: &str,
        path: &str,
        wanted: impl Fn(&Answer) -> bool,
    ) -> Answer {
        let mut last = None;
        let looking = async {
            loop {
                if let Ok(answer) = self.ask(Method::GET, path, &[], None).await {
                    if wanted(&answer) {
                        return answer;
                    }
                    last = Some(answer);
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        match tokio::time::timeout(WORKFLOW_LIMIT, looking).await {
            Ok(answer) => answer,
            Err(_) => panic!(
                "not until {what} within {WORKFLOW_LIMIT:?}: {last:#?}\n{}",
                self.said()
            ),
        }
    }

    /// Waits until it conducts, or no longer does.
    pub(crate) async fn until_conducts(&self, conducts: bool) {
        let url = format!("{}/metrics", self.url);
        let line = format!("streamforge_manager_conducts {}", u8::from(conducts));
        let looking = async {
            loop {
                if let Ok(answer) = self.http.get(&url).send().await
                    && let Ok(text) = answer.text().await
                    && text.lines().any(|found| found == line)
                {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        let looked = tokio::time::timeout(LIMIT, looking).await;
        assert!(looked.is_ok(), "not {line}:\n{}", self.said());
    }

    /// All that it has logged.
    pub(crate) fn said(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id().unwrap()).unwrap();
        kill_process(Pid::from_raw(pid).unwrap(), signal).unwrap();
    }

    /// Kills it, so that it can tidy up nothing.
    pub(crate) async fn kill(mut self) {
        self.child.kill().await.unwrap();
    }

    /// Ends it in order.
    pub(crate) async fn end(mut self) {
        self.signal(Signal::TERM);
        let ended = tokio::time::timeout(LIMIT, self.child.wait()).await;
        assert_eq!(ended.unwrap().unwrap().code(), Some(0), "{}", self.said());
    }
}
