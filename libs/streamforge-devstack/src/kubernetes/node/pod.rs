//! The life of one pod: from its image to its end.

use std::{
    fs::{self, File},
    path::PathBuf,
    process::{ExitStatus, Stdio},
    sync::Arc,
    time::Duration,
};

use k8s_openapi::api::core::v1::{Container, Pod};
use kube::ResourceExt;
use rustix::process::{Pid, Signal, kill_process};
use tokio::{
    process::{Child, Command},
    sync::mpsc::UnboundedReceiver,
    time::Instant,
};

use super::{
    super::store::at,
    Order, Own, environment, logs,
    status::{self, OfPod},
};

/// Between two tries to pull an image, or to find what a container's environment lacks.
const TRY_AGAIN: Duration = Duration::from_secs(1);
/// As many lines and bytes of a log stand in a pod's status, and as many bytes of a termination message.
const SAID_LINES: usize = 80;
const SAID_BYTES: usize = 2048;
const MESSAGE_BYTES: usize = 4096;

type Orders = UnboundedReceiver<Order>;

/// Runs it, and says what becomes of it.
pub(super) async fn live(own: Arc<Own>, pod: Pod, mut orders: Orders) {
    let name = pod.name_any();
    let phase = pod.status.as_ref().and_then(|status| status.phase.clone());
    let spec = pod.spec.clone().unwrap_or_default();
    let Some(container) = spec.containers.first() else {
        return;
    };
    let shown = OfPod {
        container: &container.name,
        image: container.image.as_deref().unwrap_or_default(),
    };
    let is_told = pod.metadata.deletion_timestamp.is_some();
    match phase.as_deref() {
        Some("Succeeded" | "Failed") => {}
        // It was running when another node of this name went down, or was told to go before this one heard of it.
        Some("Running") => own.say(&pod, &shown.never_ran()).await,
        _ if is_told => own.say(&pod, &shown.never_ran()).await,
        _ => {
            let life = Life {
                own: &own,
                pod: &pod,
                container,
                shown,
            };
            if life.run(&mut orders).await == Left::Forgotten {
                return;
            }
        }
    }
    if !is_told {
        loop {
            match orders.recv().await {
                Some(Order::Go(_)) => break,
                Some(Order::Evict(_)) => {}
                Some(Order::Forget) | None => return,
            }
        }
    }
    tracing::debug!(pod = %name, "A pod is gone");
    own.remove(&pod).await;
}

/// What is left of a pod that is over.
#[derive(PartialEq, Eq)]
enum Left {
    /// It is to be removed once it is told to go.
    Ended,
    /// It was told to go.
    Told,
    /// The API server has none of it any more.
    Forgotten,
}

struct Life<'a> {
    own: &'a Own,
    pod: &'a Pod,
    container: &'a Container,
    shown: OfPod<'a>,
}

impl Life<'_> {
    async fn run(&self, orders: &mut Orders) -> Left {
        let (own, pod) = (self.own, self.pod);
        let image = self.shown.image;
        let Some(target) = own.target(image) else {
            let message = format!("failed to pull and unpack image \"{image}\": not found");
            own.say(pod, &self.shown.waiting("ErrImagePull", &message))
                .await;
            let message = format!("Back-off pulling image \"{image}\"");
            let waiting = self.shown.waiting("ImagePullBackOff", &message);
            if let Some(left) = self.wait(orders, TRY_AGAIN * 2).await {
                return left;
            }
            own.say(pod, &waiting).await;
            loop {
                if let Some(left) = self.wait(orders, TRY_AGAIN).await {
                    return left;
                }
            }
        };
        let folder = self.folder();
        let variables = loop {
            let found = environment::of(&own.client, pod, self.container, &folder).await;
            match found {
                Ok(variables) => break variables,
                Err(missing) => {
                    let waiting = self.shown.waiting("CreateContainerConfigError", &missing);
                    own.say(pod, &waiting).await;
                }
            }
            if let Some(left) = self.wait(orders, TRY_AGAIN).await {
                return left;
            }
        };
        let started = File::create(self.log()).and_then(|log| {
            Command::new(&own.settings.program)
                .args(["worker", target])
                .env_clear()
                .envs(variables)
                .stdin(Stdio::null())
                .stdout(log.try_clone()?)
                .stderr(log)
                .kill_on_drop(true)
                .spawn()
        });
        let left = match started {
            Ok(child) => self.follow(child, orders).await,
            Err(error) => {
                let ended = self.shown.ended(&at(0), 128, &error.to_string());
                own.say(pod, &ended).await;
                Left::Ended
            }
        };
        // There may be nothing mounted.
        let _ = fs::remove_dir_all(folder);
        left
    }

    /// Until its end.
    async fn follow(&self, mut child: Child, orders: &mut Orders) -> Left {
        let since = at(0);
        self.own.say(self.pod, &self.shown.running(&since)).await;
        let pid = child
            .id()
            .and_then(|pid| Pid::from_raw(i32::try_from(pid).ok()?));
        let mut left = Left::Ended;
        let mut evicted = None;
        let mut kill_at: Option<Instant> = None;
        let ended = loop {
            let until = kill_at.unwrap_or_else(|| Instant::now() + Duration::from_secs(3600));
            let order = tokio::select! {
                ended = child.wait() => break ended,
                () = tokio::time::sleep_until(until), if kill_at.is_some() => {
                    signal(pid, Signal::KILL);
                    kill_at = None;
                    continue;
                }
                order = orders.recv() => order,
            };
            match order {
                Some(Order::Evict(message)) => {
                    signal(pid, Signal::KILL);
                    evicted = Some(message);
                }
                Some(Order::Go(grace)) => {
                    // Told again, it may be given less time.
                    if left != Left::Told {
                        signal(pid, Signal::TERM);
                    }
                    left = Left::Told;
                    let grace = Duration::from_secs(u64::try_from(grace).unwrap_or(0));
                    let until = Instant::now() + grace;
                    kill_at = Some(kill_at.map_or(until, |at| at.min(until)));
                }
                Some(Order::Forget) | None => {
                    signal(pid, Signal::KILL);
                    left = Left::Forgotten;
                    break child.wait().await;
                }
            }
        };
        if left != Left::Forgotten {
            let status = self.ended(&since, ended);
            let status = match &evicted {
                Some(message) => status::evicted(status, message),
                None => status,
            };
            self.own.say(self.pod, &status).await;
        }
        if left == Left::Told {
            self.own.remove(self.pod).await;
            return Left::Forgotten;
        }
        left
    }

    fn ended(&self, since: &str, ended: std::io::Result<ExitStatus>) -> serde_json::Value {
        let code = ended.map_or(-1, status::exit_code);
        let message = fs::read(environment::termination_message(&self.folder()));
        let message = message.unwrap_or_default();
        if !message.is_empty() {
            let kept = &message[..message.len().min(MESSAGE_BYTES)];
            return self
                .shown
                .ended(since, code, &String::from_utf8_lossy(kept));
        }
        let log = fs::read(self.log()).unwrap_or_default();
        let said = logs::tail(&log, SAID_LINES);
        let said = &said[said.len().saturating_sub(SAID_BYTES)..];
        let said = String::from_utf8_lossy(said);
        let wants = self.container.termination_message_policy.as_deref();
        let is_wanted = code != 0 && wants == Some("FallbackToLogsOnError");
        self.shown
            .ended(since, code, if is_wanted { &said } else { "" })
    }

    /// While there is nothing to run.
    async fn wait(&self, orders: &mut Orders, time: Duration) -> Option<Left> {
        match tokio::time::timeout(time, orders.recv()).await {
            Err(_) => None,
            Ok(Some(Order::Evict(message))) => {
                let status = status::evicted(self.shown.never_ran(), &message);
                self.own.say(self.pod, &status).await;
                Some(Left::Ended)
            }
            Ok(Some(Order::Go(_))) => {
                self.own.say(self.pod, &self.shown.never_ran()).await;
                self.own.remove(self.pod).await;
                Some(Left::Forgotten)
            }
            Ok(Some(Order::Forget) | None) => Some(Left::Forgotten),
        }
    }

    /// What it has for itself while it lives.
    fn folder(&self) -> PathBuf {
        let uid = self.pod.uid().unwrap_or_default();
        self.own.settings.folder.join(uid)
    }

    fn log(&self) -> PathBuf {
        let namespace = self.pod.namespace().unwrap_or_default();
        logs::path(&self.own.settings.folder, &namespace, &self.pod.name_any())
    }
}

/// It may have ended by itself.
fn signal(pid: Option<Pid>, signal: Signal) {
    if let Some(pid) = pid {
        let _ = kill_process(pid, signal);
    }
}
