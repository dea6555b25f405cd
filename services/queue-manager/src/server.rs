//! The whole of queue-manager: what it needs is made ready, then the API is served and workflows are conducted until it
//! is told to end.

mod assemble;

use std::{process::ExitCode, sync::Arc, time::Duration};

use anyhow::{Context, bail};
use prometheus::{IntGauge, Registry};
use streamforge_utils::{
    config::Vars,
    logging,
    shutdown::{StopCause, StopSignal},
    worker::{About, EXIT_PERMANENT},
};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::{
    SERVICE,
    config::{self, Config, Listen},
    connections::{Bounds, Server, Tls},
    launcher::{LaunchError, Launcher},
    leading::lead,
    store::StoreError,
};
use assemble::Assembled;

/// How long Jobs that end with it may take, which is more than a worker's own grace.
const JOBS_END_WITHIN: Duration = Duration::from_secs(40);

/// Connections of probes and of Prometheus at a time.
const HEALTH_CONNECTIONS: usize = 32;

/// What it says about itself.
pub const ABOUT: About = About {
    service: SERVICE,
    version: env!("CARGO_PKG_VERSION"),
    summary: "Starts, watches, stops and heals whole workflows, over REST.",
    variables: config::VARIABLES,
    flags: &[],
};

/// Runs queue-manager from its environment to its exit code: 0 ended by a signal, 1 something did not answer in time, 70
/// something is wrong that no retry can mend, 78 bad configuration.
pub async fn run(args: impl IntoIterator<Item = std::ffi::OsString>, vars: Vars) -> ExitCode {
    let vars = match ABOUT.vars(args, vars) {
        Ok(vars) => vars,
        Err(answered) => return answered,
    };
    let config = match Config::from_vars(&vars) {
        Ok(config) => config,
        Err(error) => return ABOUT.refuse(&error),
    };
    logging::init(&config.ops, vars.contains_key("NO_COLOR"));
    tracing::info!(version = ABOUT.version, ?config, "Starting {SERVICE}");
    match serve(&config, &vars).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(error = format!("{error:#}"), "{SERVICE} ends");
            let by_store = error.downcast_ref::<StoreError>();
            let by_launcher = error.downcast_ref::<LaunchError>();
            let can_pass = by_store.is_none_or(StoreError::is_retryable)
                && !matches!(by_launcher, Some(LaunchError::Refused(_)));
            if can_pass {
                ExitCode::FAILURE
            } else {
                ExitCode::from(EXIT_PERMANENT)
            }
        }
    }
}

async fn serve(config: &Config, vars: &Vars) -> anyhow::Result<()> {
    let stop = StopSignal::new();
    stop.listen_for_signals().context("listen for signals")?;
    if config.jobs.end_with_stdin {
        end_with_stdin(stop.clone());
    }
    // First, so that a port that is taken is told before anything is made.
    let listener = listen(config.api.api_listen, "API_LISTEN").await?;
    let health_listener = match config.api.health_listen {
        None => None,
        Some(listen_on) => Some(listen(listen_on, "HEALTH_LISTEN").await?),
    };
    let tls = tls(config)?;
    let assembling = assemble::assemble(config, vars, stop.token(), Registry::new());
    let Assembled {
        conductor,
        lease,
        router,
        health,
        bounds,
        connections,
        hub,
        readiness,
        launcher,
    } = tokio::select! {
        assembled = assembling => assembled?,
        () = stop.cancelled() => return Ok(()),
    };
    let token = stop.token();
    let mut conducting = tokio::spawn({
        let token = token.clone();
        async move { lead(&conductor, lease, &token).await }
    });
    let watching = tokio::spawn({
        let hub = Arc::clone(&hub);
        async move { hub.run().await }
    });
    readiness.set_started();
    tracing::info!(address = %listener.local_addr()?, "Serving the API");
    let server = Server::new(listener, router, bounds, connections).over(tls);
    let served = tokio::spawn(server.run(token.clone()));
    if let (Some(listener), Some(router)) = (health_listener, health) {
        tracing::info!(address = %listener.local_addr()?, "Serving health and metrics");
        let server = Server::new(
            listener,
            router,
            Bounds::of(HEALTH_CONNECTIONS),
            uncounted(),
        );
        // Until the process ends, so that probes see it end.
        tokio::spawn(server.run(CancellationToken::new()));
    }
    tokio::select! {
        () = stop.cancelled() => {}
        _ = &mut conducting => bail!("conducting ended by itself"),
    }
    readiness.set_stopping();
    let grace = config.ops.shutdown_grace();
    let ended = async {
        let _ = conducting.await;
        let _ = watching.await;
        let _ = served.await;
    };
    tokio::select! {
        _ = tokio::time::timeout(grace, ended) => {}
        () = stop.at_once() => return Ok(()),
    }
    if config.jobs.stop_jobs_at_exit {
        tokio::select! {
            () = end_jobs(launcher.as_ref()) => {}
            () = stop.at_once() => {}
        }
    }
    tracing::info!("{SERVICE} has ended");
    Ok(())
}

async fn listen(on: Listen, variable: &str) -> anyhow::Result<TcpListener> {
    let address = on.address();
    TcpListener::bind(address)
        .await
        .with_context(|| format!("listen on {address} ({variable})"))
}

fn tls(config: &Config) -> anyhow::Result<Option<Tls>> {
    let api = &config.api;
    let (Some(certificate), Some(key)) = (&api.api_tls_cert_path, &api.api_tls_key_path) else {
        return Ok(None);
    };
    let tls =
        Tls::open(certificate, key).context("set up TLS (API_TLS_CERT_PATH, API_TLS_KEY_PATH)")?;
    Ok(Some(tls))
}

/// For connections that no metric shows.
fn uncounted() -> IntGauge {
    IntGauge::new("connections", "unregistered").expect("the name is legal")
}

/// Tells to end when stdin does. A thread that nobody waits for, since nothing can end its reading.
fn end_with_stdin(stop: StopSignal) {
    std::thread::spawn(move || {
        // A failure is an end, too.
        let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
        tracing::info!("Told to end by the end of stdin");
        stop.stop(StopCause::Terminate);
    });
}

/// Ends all Jobs and waits until nothing of them runs, for as long as a worker may take.
async fn end_jobs(launcher: &dyn Launcher) {
    let until = tokio::time::Instant::now() + JOBS_END_WITHIN;
    loop {
        let alive = match launcher.jobs().await {
            Ok(jobs) => jobs.into_iter().filter(|job| job.alive > 0).collect(),
            Err(error) => {
                tracing::warn!(%error, "Jobs can't be looked at, so they are not ended");
                return;
            }
        };
        let alive: Vec<crate::launcher::JobStatus> = alive;
        if alive.is_empty() {
            return;
        }
        if tokio::time::Instant::now() >= until {
            tracing::warn!(jobs = alive.len(), "Some Jobs have not ended in time");
            return;
        }
        for job in alive.iter().filter(|job| !job.is_deleting) {
            if let Err(error) = launcher.delete(&job.name).await {
                tracing::warn!(job = job.name, %error, "A Job was not ended");
            }
        }
        tokio::select! {
            () = launcher.changed() => {}
            () = tokio::time::sleep(Duration::from_secs(1)) => {}
        }
    }
}
