//! What an operator sees with `curl localhost:8000/metrics`.

use dummy_service::metrics::{ERRORS, EVENTS, PINGS, PONGS, STATUS};
use streamforge_utils::{
    metrics,
    protocol::{CommandKind, EventKind},
};

use crate::rig::Rig;

const STATUSES: [&str; 5] = ["started", "loading", "finished", "interrupted", "error"];

fn status(name: &str) -> String {
    format!("{STATUS}{{status=\"{name}\"}}")
}

#[tokio::test]
async fn events_pings_and_the_last_status_are_there_from_the_start() {
    let rig = Rig::new();
    let mut dummy = rig.start("--loading-interval 0.1");
    rig.until(&dummy, EventKind::Started).await;
    let scraped = dummy.scrape().await;
    for kind in [
        "started",
        "loading",
        "finished",
        "interrupted",
        "error",
        "pong",
    ] {
        let expected = f64::from(u8::from(kind == "started"));
        assert_eq!(
            scraped[&format!("{EVENTS}{{event=\"{kind}\"}}")],
            expected,
            "{kind}"
        );
    }
    for name in STATUSES {
        let expected = f64::from(u8::from(name == "started"));
        assert_eq!(scraped[&status(name)], expected, "{name}");
    }
    assert_eq!(
        (scraped[PINGS], scraped[PONGS], scraped[ERRORS]),
        (0.0, 0.0, 0.0)
    );

    rig.until_it_listens(&dummy).await;
    rig.send(CommandKind::SimulateLoading).await;
    let scraped = dummy
        .until_scraped(|scraped| {
            scraped[metrics::RECORDS_WRITTEN] > 0.0 && scraped[&status("loading")] == 1.0
        })
        .await;
    let ones: f64 = STATUSES.iter().map(|name| scraped[&status(name)]).sum();
    assert_eq!(ones, 1.0, "one status at a time");
    assert!(scraped[PINGS] >= 1.0 && scraped[PINGS] == scraped[PONGS]);
    assert!(scraped[&format!("{}{{command=\"ping\"}}", metrics::COMMANDS)] >= 1.0);
    rig.send(CommandKind::Stop).await;
    dummy.ends_with(0).await;
}
