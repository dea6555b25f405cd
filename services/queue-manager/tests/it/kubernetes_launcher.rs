//! The launcher of Kubernetes: what it asks, and what it makes of the answers.

mod asking;
mod ending;
mod following;
mod launching;
mod manifests;

use std::{collections::BTreeMap, time::Duration};

use queue_manager::launcher::{
    JobSpec, JobStatus, Launcher,
    kubernetes::{self, KubernetesLauncher, KubernetesSettings},
};

use streamforge_devstack::kubernetes::{Answer, ApiServer, Fault, NAMESPACE};

const LOADER: &str = "job-loader-api-candles-btcusdt-abc123";
/// For what should happen at once, on a machine that is busy.
const PATIENCE: Duration = Duration::from_secs(30);

fn spec() -> JobSpec {
    let env = [
        (
            "KAFKA_TOPIC",
            "wf-btcusdt-api_candles_1m-20240801-abc123-data",
        ),
        ("QUEUE_ID", "wf-btcusdt-api_candles_1m-20240801-abc123"),
        ("QUEUE_STARTED_AT", "1722500000"),
        ("RUN", "1"),
        ("SYMBOL", "BTCUSDT"),
        ("TELEMETRY_PRODUCER_ID", "loader-api-candles__abc123"),
        ("TIME_RANGE", "2024-08-01:2024-08-01"),
        ("TYPE", "api_candles_1m"),
    ];
    JobSpec {
        name: LOADER.to_owned(),
        queue_id: "wf-btcusdt-api_candles_1m-20240801-abc123".parse().unwrap(),
        run: 1,
        attempt: 1,
        target: "loader-api-candles".to_owned(),
        telemetry_id: "loader-api-candles__abc123".to_owned(),
        image: "registry.example/loader-api-candles:0.1.0".to_owned(),
        env: env
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into_iter()
            .collect::<BTreeMap<_, _>>(),
        deadline: Some(Duration::from_secs(3600)),
    }
}

fn launcher(server: &ApiServer) -> KubernetesLauncher {
    launcher_with(server, KubernetesSettings::default())
}

fn launcher_with(server: &ApiServer, settings: KubernetesSettings) -> KubernetesLauncher {
    let settings = KubernetesSettings {
        namespace: settings.namespace.or(Some(NAMESPACE.to_owned())),
        ..settings
    };
    let mut config = kube::Config::new(server.url().parse().unwrap());
    config.default_namespace = NAMESPACE.to_owned();
    KubernetesLauncher::new(kubernetes::client(config).unwrap(), settings)
}

/// A server and a launcher that has read it.
async fn ready() -> (ApiServer, KubernetesLauncher) {
    let server = ApiServer::start().await.unwrap();
    let launcher = launcher(&server);
    until(&launcher, |_| true).await;
    (server, launcher)
}

/// All Jobs, once they are as expected.
async fn until(
    launcher: &KubernetesLauncher,
    expected: impl Fn(&[JobStatus]) -> bool,
) -> Vec<JobStatus> {
    let mut last = None;
    let waiting = async {
        loop {
            let jobs = launcher.jobs().await;
            if let Ok(jobs) = &jobs
                && expected(jobs)
            {
                return jobs.clone();
            }
            last = Some(jobs);
            // What is waited for may depend on time alone, such as the age of a broken watch.
            let _ = tokio::time::timeout(Duration::from_millis(200), launcher.changed()).await;
        }
    };
    match tokio::time::timeout(PATIENCE, waiting).await {
        Ok(jobs) => jobs,
        Err(_) => panic!("not as expected: {last:?}"),
    }
}

/// The loader's Job, once it is as expected.
async fn until_job(
    launcher: &KubernetesLauncher,
    expected: impl Fn(&JobStatus) -> bool,
) -> JobStatus {
    let is_it = |job: &JobStatus| job.name == LOADER && expected(job);
    let jobs = until(launcher, |jobs| jobs.iter().any(is_it)).await;
    jobs.into_iter().find(is_it).unwrap()
}

/// The error of [`Launcher::jobs`], once there is one that is as expected.
async fn until_unknown(launcher: &KubernetesLauncher, expected: &str) {
    let waiting = async {
        loop {
            match launcher.jobs().await {
                Err(error) if error.to_string().contains(expected) => return,
                _ => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    };
    tokio::time::timeout(PATIENCE, waiting).await.unwrap();
}

/// Watches and lists fail from now on, and the last watch that was open is closed.
async fn deafen(server: &ApiServer) {
    for path in ["watch=true", "limit="] {
        server.fault(Fault {
            method: "GET",
            path,
            times: usize::MAX,
            answer: Answer::Status(400, None),
        });
    }
    let asked = server.requests().len();
    server.cut();
    let both_closed = async {
        let is_asked_again = |kind: &str| {
            let requests = server.requests();
            requests[asked..]
                .iter()
                .any(|request| request.contains(kind))
        };
        while !is_asked_again("/jobs?") || !is_asked_again("/pods?") {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, both_closed).await.unwrap();
}
