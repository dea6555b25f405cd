//! `queue stop`, `retry`, `delete`: what changes a workflow that is there.

use std::process::ExitCode;

use reqwest::Method;
use serde_json::json;

use super::{
    Output,
    api::Workflow,
    client::{Client, Request},
    failure::{EXIT_FAILED, Failure},
    resolve::resolve,
    watch::{Ended, PATIENCE, Telling, follow},
};
use crate::cli::queue::{DeleteArgs, RetryArgs, StopArgs};

pub(super) async fn stop(client: &Client, args: &StopArgs) -> Result<ExitCode, Failure> {
    let output = Output::new(args.output.json);
    let id = resolve(client, &args.id).await?;
    let request = Request::new(Method::POST, &["queues", "stop"])
        .body(json!({"queue_id": id, "drain": args.drain}))
        .repeatable();
    let answer = client.ask(&request).await?;
    if !args.wait {
        output.either(&answer.data, &answer.message)?;
        return Ok(ExitCode::SUCCESS);
    }
    output.say(&answer.message);
    let telling = Telling::of_end(output);
    let ended = follow(client, vec![id], args.patience.patience, telling).await?;
    Ok(match ended {
        // That is what was asked for; or it was faster.
        Ended::Interrupted | Ended::Finished => ExitCode::SUCCESS,
        Ended::Failed => ExitCode::from(EXIT_FAILED),
    })
}

pub(super) async fn retry(client: &Client, args: &RetryArgs) -> Result<ExitCode, Failure> {
    let output = Output::new(args.output.json);
    let id = resolve(client, &args.id).await?;
    let request = Request::new(Method::POST, &["queues", &id, "retry"]).once();
    let answer = client.ask(&request).await?;
    let workflow: Workflow = client.read(&answer.data)?;
    output.either(&answer.data, &answer.message)?;
    let id = workflow.queue_id;
    if args.watch {
        let telling = Telling::of_end(output);
        return Ok(follow(client, vec![id], PATIENCE, telling)
            .await?
            .exit_code());
    }
    output.say(&format!("Follow it: streamforge queue watch {id}"));
    Ok(ExitCode::SUCCESS)
}

pub(super) async fn delete(client: &Client, args: &DeleteArgs) -> Result<(), Failure> {
    let output = Output::new(args.output.json);
    let id = resolve(client, &args.id).await?;
    let mut request = Request::new(Method::DELETE, &["queues", &id]).repeatable();
    if args.force {
        request = request.query("force", true);
    }
    let answer = client.ask(&request).await.map_err(|failure| match failure {
        Failure::Conflict {
            message,
            retry_after: None,
        } if !args.force => Failure::Conflict {
            message: format!(
                "{message}\nThat is: streamforge queue stop {id} --wait, or streamforge queue delete {id} --force"
            ),
            retry_after: None,
        },
        other => other,
    })?;
    output.either(&answer.data, &answer.message)
}
