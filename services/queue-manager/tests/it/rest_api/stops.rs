//! Stop, retry, remove: what each does to a document, and when it is refused.

use queue_manager::state::Workflow;
use reqwest::Method;
use serde_json::json;
use streamforge_utils::protocol::{QueueId, TimestampMs};

use super::rig::{Rig, answered};

async fn stored(rig: &Rig, id: &QueueId) -> Workflow {
    let workflows = rig.store.workflows::<Workflow>();
    workflows.get(id).await.unwrap().content
}

/// As if its worker ran.
async fn running(rig: &Rig) -> QueueId {
    let id = rig.started().await;
    rig.change(&id, |workflow| {
        workflow.admit(TimestampMs::now());
        for part in &mut workflow.parts {
            part.attempts = 1;
        }
    })
    .await;
    id
}

#[tokio::test]
async fn a_stop_is_asked_for_once_and_may_be_hurried() {
    let rig = Rig::start().await;
    let id = running(&rig).await;
    let drain = json!({"queue_id": id.as_str(), "drain": true});
    let first = rig.post("/queues/stop", &drain).await;
    assert_eq!(first.code, 202, "{}", first.body);
    assert_eq!(first.body["message"], format!("{id} is being stopped"));
    let again = rig.post("/queues/stop", &drain).await;
    assert_eq!(again.code, 202);
    assert_eq!(
        again.body["message"],
        format!("{id} is being stopped already")
    );
    let path = format!("/queues/stop?queue_id={id}");
    let hurried = answered(rig.request(Method::POST, &path)).await;
    assert_eq!(hurried.code, 202);
    let stop = stored(&rig, &id).await.stop.unwrap();
    assert_eq!((stop.drain, stop.by.as_str()), (false, "loopback"));
    let both = rig.request(Method::POST, &path).json(&drain);
    assert_eq!(answered(both).await.code, 422);
}

#[tokio::test]
async fn what_was_never_launched_ends_at_once_and_can_be_run_again() {
    let rig = Rig::start().await;
    let id = rig.started().await;
    let retry = format!("/queues/{id}/retry");
    let early = answered(rig.request(Method::POST, &retry)).await;
    assert_eq!(early.code, 409);
    assert_eq!(
        early.body["message"],
        format!("{id} can't be run again: it has not ended yet: stop it, or wait")
    );
    let path = format!("/queues/stop?queue_id={id}");
    let stopped = answered(rig.request(Method::POST, &path)).await;
    assert_eq!(stopped.body["data"]["status"], "interrupted");
    let again = rig.request(Method::POST, &retry);
    let again = answered(again.header("Idempotency-Key", "r")).await;
    assert_eq!(again.code, 202, "{}", again.body);
    assert_eq!(again.body["data"]["run"], 2);
    let job = again.body["data"]["workers"][0]["job_name"]
        .as_str()
        .unwrap();
    assert!(job.ends_with("-r2"), "{job}");
    let repeated = rig.request(Method::POST, &retry);
    let repeated = answered(repeated.header("Idempotency-Key", "r")).await;
    assert_eq!((repeated.code, &repeated.body), (202, &again.body));
    assert_eq!(stored(&rig, &id).await.run, 2);
}

#[tokio::test]
async fn what_runs_is_removed_only_by_force() {
    let rig = Rig::start().await;
    let id = running(&rig).await;
    let path = format!("/queues/{id}");
    let refused = answered(rig.request(Method::DELETE, &path)).await;
    assert_eq!(refused.code, 409);
    assert!(stored(&rig, &id).await.removal.is_none());
    let forced = rig.request(Method::DELETE, &format!("{path}?force=true"));
    let forced = answered(forced).await;
    assert_eq!(forced.code, 202, "{}", forced.body);
    let workflow = stored(&rig, &id).await;
    assert_eq!(workflow.removal.unwrap().by, "loopback");
    assert!(!workflow.stop.unwrap().drain);
    // Once it is asked for, asking again is no error, and there is no way back.
    let again = answered(rig.request(Method::DELETE, &path)).await;
    assert_eq!(again.code, 202);
    let retry = answered(rig.request(Method::POST, &format!("{path}/retry"))).await;
    assert_eq!(retry.code, 409);
    assert_eq!(
        retry.body["message"],
        format!("{id} can't be run again: it is being removed")
    );
}
