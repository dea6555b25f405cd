//! What `run_worker` promises, line by line. Signals are tried on real processes, by the services.

use std::{process::ExitCode, time::Duration};

use rdkafka::message::Message;
use streamforge_utils::{
    kafka::headers,
    protocol::{Command, CommandKind, CommandPayload, EventKind, InterruptReason},
    worker::{Failure, Outcome},
};

use crate::probe::{LIMIT, Probe, seconds_from_now, until_stopped};

#[tokio::test]
async fn a_worker_that_is_done_says_started_loading_finished() {
    let probe = Probe::start();
    let worker = probe.spawn(probe.settings("some-worker", &[]), |ctx| async move {
        ctx.progress.set_total(Some(3));
        for written in 1..=3 {
            ctx.progress.set_written(written);
            tokio::time::sleep(Duration::from_millis(120)).await;
        }
        Ok(Outcome::Done)
    });
    assert_eq!(worker.await.unwrap(), ExitCode::SUCCESS);
    let events = probe.until_ended().await;
    let kinds: Vec<_> = events.iter().map(|event| event.event).collect();
    assert_eq!(
        (kinds[0], kinds[kinds.len() - 1]),
        (EventKind::Started, EventKind::Finished)
    );
    assert!(
        kinds[1..kinds.len() - 1]
            .iter()
            .all(|kind| *kind == EventKind::Loading)
            && kinds.len() > 2,
        "{kinds:?}"
    );
    assert!(
        events.iter().zip(1..).all(|(event, seq)| event.seq == seq),
        "numbered from 1 without a hole"
    );
    assert!(
        events
            .iter()
            .all(|event| event.instance == events[0].instance)
    );
    let last = events.last().unwrap();
    assert_eq!(
        (last.records.written, last.records.total),
        (3, Some(3)),
        "final totals stand in the last event"
    );
    assert_eq!(last.message, "3 of 3 records");
    assert!(
        last.last_progress_at
            .is_some_and(|at| at <= last.timestamp && at > 1.7e9),
        "wall clocks"
    );
}

#[tokio::test]
async fn every_message_has_the_key_and_the_schema() {
    let probe = Probe::apart().await;
    let worker = probe.spawn(probe.settings("some-worker", &[]), |_| async {
        Ok(Outcome::Done)
    });
    worker.await.unwrap();
    probe.until_ended().await;
    let messages = probe.kafka.read_topic(&probe.events).await.unwrap();
    assert!(!messages.is_empty());
    for message in &messages {
        assert_eq!(message.key(), Some(probe.queue.as_str().as_bytes()));
        assert_eq!(headers::get(message, "streamforge-schema"), Some("1"));
    }
}

#[tokio::test]
async fn a_stop_reaches_all_workers_of_a_queue() {
    let probe = Probe::start();
    let one = probe.spawn(probe.settings("one", &[]), until_stopped);
    let two = probe.spawn(probe.settings("two", &[]), until_stopped);
    let elsewhere = crate::probe::queue_id();
    let other = [("QUEUE_ID", elsewhere.as_str())];
    let other = probe.spawn(probe.settings("other", &other), until_stopped);
    probe.events(|events| events.len() >= 2).await;
    probe
        .events_of(&elsewhere, |events| !events.is_empty())
        .await;
    probe.stop_all().await;
    assert_eq!(one.await.unwrap(), ExitCode::SUCCESS);
    assert_eq!(two.await.unwrap(), ExitCode::SUCCESS);
    let events = probe
        .events(|events| events.iter().filter(|event| event.finished).count() == 2)
        .await;
    for event in events.iter().filter(|event| event.finished) {
        assert_eq!(
            (event.event, event.reason),
            (EventKind::Interrupted, Some(InterruptReason::Stop))
        );
    }
    assert!(!other.is_finished(), "another queue goes on");
    other.abort();
}

#[tokio::test]
async fn a_stop_from_before_the_start_is_obeyed_and_an_old_ping_is_not_answered() {
    let probe = Probe::start();
    probe.send(probe.order(CommandKind::Ping)).await;
    probe.stop_all().await;
    let launched = seconds_from_now(-1);
    let worker = probe.spawn(
        probe.settings("some-worker", &[("QUEUE_STARTED_AT", &launched)]),
        until_stopped,
    );
    tokio::time::timeout(LIMIT, worker).await.unwrap().unwrap();
    let events = probe.until_ended().await;
    assert!(
        events.iter().all(|event| event.event != EventKind::Pong),
        "{events:?}"
    );
}

#[tokio::test]
async fn a_stop_from_before_the_start_comes_before_the_body() {
    let probe = Probe::start();
    for _ in 0..5 {
        probe.send(probe.order(CommandKind::Ping)).await;
    }
    probe.stop_all().await;
    let launched = seconds_from_now(-1);
    let settings = probe.settings("some-worker", &[("QUEUE_STARTED_AT", &launched)]);
    let worker = probe.spawn(settings, |ctx| async move {
        if ctx.stop.is_cancelled() {
            Ok(Outcome::Stopped)
        } else {
            Ok(Outcome::Done)
        }
    });
    tokio::time::timeout(LIMIT, worker).await.unwrap().unwrap();
    let last = probe.until_ended().await.pop().unwrap();
    assert_eq!(last.event, EventKind::Interrupted, "{last:?}");
}

#[tokio::test]
async fn a_worker_that_does_not_listen_hears_nothing() {
    let probe = Probe::start();
    let launched = seconds_from_now(-1);
    let settings = streamforge_utils::worker::WorkerSettings {
        listens: false,
        ..probe.settings("deaf", &[("QUEUE_STARTED_AT", &launched)])
    };
    probe.stop_all().await;
    let other = probe.spawn(probe.settings("other", &[]), until_stopped);
    let deaf = probe.spawn(settings, |mut ctx| async move {
        assert!(ctx.commands.recv().await.is_none(), "no command ever comes");
        tokio::select! {
            () = ctx.stop.cancelled() => Ok(Outcome::Stopped),
            () = tokio::time::sleep(Duration::from_secs(2)) => Ok(Outcome::Done),
        }
    });
    probe.events(|events| events.len() >= 2).await;
    probe.stop_all().await;
    assert_eq!(other.await.unwrap(), ExitCode::SUCCESS);
    assert_eq!(deaf.await.unwrap(), ExitCode::SUCCESS);
    let events = probe
        .events(|events| events.iter().filter(|event| event.finished).count() == 2)
        .await;
    let deaf = events
        .iter()
        .find(|event| event.finished && event.service == "deaf");
    assert_eq!(deaf.unwrap().event, EventKind::Finished);
}

#[tokio::test]
async fn an_observer_sees_what_kafka_gets() {
    let probe = Probe::start();
    let seen = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let observer = streamforge_utils::telemetry::Observer::new({
        let seen = std::sync::Arc::clone(&seen);
        move |event| seen.lock().unwrap().push((event.seq, event.event))
    });
    let settings = streamforge_utils::worker::WorkerSettings {
        observer: Some(observer),
        ..probe.settings("some-worker", &[])
    };
    let worker = probe.spawn(settings, until_stopped);
    probe.events(|events| !events.is_empty()).await;
    probe.send(probe.order(CommandKind::Ping)).await;
    probe.stop_all().await;
    worker.await.unwrap();
    let published = probe.until_ended().await;
    let published: Vec<_> = published
        .iter()
        .map(|event| (event.seq, event.event))
        .collect();
    assert_eq!(*seen.lock().unwrap(), published);
    assert_eq!(published.len(), 3, "{published:?}");
}

#[tokio::test]
async fn a_ping_is_answered_with_its_own_time() {
    let probe = Probe::apart().await;
    let worker = probe.spawn(probe.settings("some-worker", &[]), until_stopped);
    probe.events(|events| !events.is_empty()).await;
    let ping = Command {
        sent_at: Some(1234.5),
        ..Command::new(CommandKind::Ping, "*")
    };
    probe.send(ping).await;
    let events = probe
        .events(|events| events.iter().any(|event| event.event == EventKind::Pong))
        .await;
    let pong = events
        .iter()
        .find(|event| event.event == EventKind::Pong)
        .unwrap();
    assert_eq!(
        (pong.ping_ts, pong.status, pong.finished),
        (Some(1234.5), None, false)
    );
    assert_eq!(pong.ponged_at, Some(pong.timestamp));
    probe.stop_all().await;
    worker.await.unwrap();
}

#[tokio::test]
async fn what_is_no_command_is_survived() {
    let probe = Probe::apart().await;
    let worker = probe.spawn(probe.settings("some-worker", &[]), until_stopped);
    probe.events(|events| !events.is_empty()).await;
    // About all that a broker takes by default.
    let garbage = "x".repeat(1_048_300);
    for payload in [
        "not json",
        "[]",
        r#"{"command":7}"#,
        r#"{"command":"stop","queue_id":["*"]}"#,
        "",
        garbage.as_str(),
    ] {
        probe.command(payload).await;
    }
    probe.stop_all().await;
    let code = tokio::time::timeout(LIMIT, worker).await.unwrap().unwrap();
    assert_eq!(code, ExitCode::SUCCESS);
}

#[tokio::test]
async fn a_panic_is_an_error_and_the_only_ending() {
    let probe = Probe::start();
    let worker = probe.spawn(probe.settings("some-worker", &[]), |ctx| async move {
        ctx.progress.set_written(1);
        panic!("the {} broke", "axle")
    });
    assert_eq!(worker.await.unwrap(), ExitCode::from(1));
    let events = probe.until_ended().await;
    let last = events.last().unwrap();
    assert_eq!((last.event, last.retryable), (EventKind::Error, Some(true)));
    assert_eq!(
        last.error_message.as_deref(),
        Some("panicked: the axle broke")
    );
    assert_eq!(events.iter().filter(|event| event.finished).count(), 1);
}

#[tokio::test]
async fn a_failure_says_whether_trying_again_can_help() {
    for (retryable, code) in [(true, 1), (false, 70)] {
        let probe = Probe::start();
        let worker = probe.spawn(probe.settings("some-worker", &[]), move |_| async move {
            Err(Failure::new(
                anyhow::anyhow!("no such symbol").context("load BTCUSDT"),
                retryable,
            ))
        });
        assert_eq!(worker.await.unwrap(), ExitCode::from(code));
        let last = probe.until_ended().await.pop().unwrap();
        assert_eq!(last.retryable, Some(retryable));
        assert_eq!(
            last.error_message.as_deref(),
            Some("load BTCUSDT: no such symbol")
        );
    }
}

#[tokio::test]
async fn a_body_that_does_not_end_is_aborted_after_the_grace() {
    let probe = Probe::start();
    let settings = probe.settings("some-worker", &[("SHUTDOWN_GRACE_SECS", "0.2")]);
    let worker = probe.spawn(settings, |_| std::future::pending());
    probe.events(|events| !events.is_empty()).await;
    probe.stop_all().await;
    assert_eq!(
        tokio::time::timeout(LIMIT, worker).await.unwrap().unwrap(),
        ExitCode::from(1)
    );
    let last = probe.until_ended().await.pop().unwrap();
    assert_eq!(last.event, EventKind::Error);
    assert!(
        last.error_message
            .unwrap()
            .contains("did not end within 200ms")
    );
}

#[tokio::test]
async fn nothing_follows_the_last_event() {
    let probe = Probe::start();
    let worker = probe.spawn(probe.settings("some-worker", &[]), |ctx| async move {
        let progress = ctx.progress.clone();
        tokio::spawn(async move {
            for written in 1.. {
                progress.set_written(written);
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        });
        Ok(Outcome::Done)
    });
    worker.await.unwrap();
    probe.send(probe.order(CommandKind::Ping)).await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    let events = probe.until_ended().await;
    assert!(events.last().unwrap().finished, "{events:?}");
}

#[tokio::test]
async fn a_drain_is_left_to_workers_that_drain() {
    let probe = Probe::start();
    let writer = streamforge_utils::worker::WorkerSettings {
        drains: true,
        ..probe.settings("writer", &[])
    };
    let writer = probe.spawn(writer, |ctx| async move {
        ctx.stop.drain_requested().await;
        assert!(!ctx.stop.is_cancelled());
        Ok(Outcome::Stopped)
    });
    let loader = probe.spawn(probe.settings("loader", &[]), until_stopped);
    probe.events(|events| events.len() >= 2).await;
    let payload = Some(CommandPayload {
        drain: true,
        seconds: None,
    });
    probe
        .send(Command {
            payload,
            ..probe.order(CommandKind::Stop)
        })
        .await;
    assert_eq!(
        tokio::time::timeout(LIMIT, writer).await.unwrap().unwrap(),
        ExitCode::SUCCESS
    );
    assert_eq!(
        tokio::time::timeout(LIMIT, loader).await.unwrap().unwrap(),
        ExitCode::SUCCESS
    );
}

#[tokio::test]
async fn commands_of_its_own_reach_the_body() {
    let probe = Probe::start();
    let worker = probe.spawn(probe.settings("some-worker", &[]), |mut ctx| async move {
        let command = ctx.commands.recv().await.unwrap();
        assert_eq!(command.command, CommandKind::FailAfter);
        assert_eq!(command.payload.unwrap().seconds, Some(2.5));
        Ok(Outcome::Done)
    });
    probe.events(|events| !events.is_empty()).await;
    let payload = Some(CommandPayload {
        seconds: Some(2.5),
        drain: false,
    });
    probe
        .send(Command {
            payload,
            ..probe.order(CommandKind::FailAfter)
        })
        .await;
    assert_eq!(
        tokio::time::timeout(LIMIT, worker).await.unwrap().unwrap(),
        ExitCode::SUCCESS
    );
}

#[tokio::test]
async fn a_port_that_was_asked_for_and_is_taken_is_bad_configuration() {
    let probe = Probe::start();
    let taken = std::net::TcpListener::bind("0.0.0.0:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let worker = probe.spawn(
        probe.settings("some-worker", &[("METRICS_PORT", &port)]),
        until_stopped,
    );
    assert_eq!(worker.await.unwrap(), ExitCode::from(78));
}

#[tokio::test]
async fn without_a_broker_it_still_ends() {
    let probe = Probe::start();
    let away = [
        ("KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:1"),
        ("RETRY_DEADLINE_SECS", "5"),
    ];
    let settings = probe.settings("some-worker", &away);
    let worker = probe.spawn(settings, |_| async {
        Err(Failure::retryable(anyhow::anyhow!("no broker")))
    });
    let code = tokio::time::timeout(Duration::from_secs(15), worker)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(code, ExitCode::from(1));
}

#[tokio::test]
async fn a_text_of_any_length_does_not_lose_the_last_event() {
    let probe = Probe::start();
    let worker = probe.spawn(probe.settings("some-worker", &[]), |ctx| async move {
        ctx.progress.set_message("é".repeat(300_000));
        ctx.progress.set_written(1);
        tokio::time::sleep(Duration::from_millis(200)).await;
        Err(Failure::permanent(anyhow::anyhow!(
            "unknown interval {}",
            "é".repeat(300_000)
        )))
    });
    assert_eq!(worker.await.unwrap(), ExitCode::from(70));
    let events = probe.until_ended().await;
    assert!(events.len() > 2, "{}", events.len());
    for event in &events {
        assert!(event.message.chars().count() <= 1_000);
    }
    let error = events.last().unwrap().error_message.clone().unwrap();
    assert!(error.starts_with("unknown interval é") && error.ends_with('…'));
    assert_eq!(error.chars().count(), 1_000);
}

#[tokio::test]
async fn a_worker_that_kafka_does_not_hear_is_started_once_its_body_has_begun() {
    let probe = Probe::start();
    let port = {
        let free = std::net::TcpListener::bind("0.0.0.0:0").unwrap();
        free.local_addr().unwrap().port().to_string()
    };
    let away = [
        ("KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:1"),
        ("METRICS_PORT", port.as_str()),
    ];
    let worker = probe.spawn(probe.settings("some-worker", &away), until_stopped);
    let until_started = async {
        loop {
            let asked = reqwest::get(format!("http://127.0.0.1:{port}/health/startup")).await;
            match asked {
                Ok(answer) if answer.status().is_success() => return,
                _ => tokio::time::sleep(Duration::from_millis(100)).await,
            }
        }
    };
    tokio::time::timeout(LIMIT, until_started).await.unwrap();
    worker.abort();
}
