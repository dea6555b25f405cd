//! `queue logs`: the last lines of each worker.

use super::{
    Output,
    api::{LogList, PartLog},
    client::{Client, Request},
    failure::Failure,
    resolve::resolve,
    text::BOLD,
};
use crate::cli::queue::LogsArgs;

pub(super) async fn logs(client: &Client, args: &LogsArgs) -> Result<(), Failure> {
    let output = Output::new(args.output.json);
    let id = resolve(client, &args.id).await?;
    let mut request = Request::get(&["queues", &id, "logs"]).query("lines", args.lines);
    if let Some(part) = &args.part {
        request = request.query("part", worker(client, &id, part).await?);
    }
    let answer = client.ask(&request).await?;
    let logs: LogList = client.read(&answer.data)?;
    let mut any = false;
    for log in &logs.logs {
        let PartLog {
            part,
            job_name,
            lines,
        } = client.read(log)?;
        any |= lines.is_some();
        if output.is_json() {
            output.json(log)?;
            continue;
        }
        let Some(lines) = lines else {
            output.say(&format!("{part} has no log, or none any more ({job_name})"));
            continue;
        };
        if logs.logs.len() > 1 {
            output.print(&format!("{BOLD}==> {part} ({job_name}) <=={BOLD:#}\n"))?;
        }
        for line in lines {
            output.print(&format!("{line}\n"))?;
        }
    }
    if any {
        Ok(())
    } else {
        Err(Failure::Nothing(format!("there is no log of {id}")))
    }
}

/// The worker that was meant: the name of its service is enough if there is one of it. What is none of them,
/// queue-manager refuses, and names those that there are.
async fn worker(client: &Client, id: &str, typed: &str) -> Result<String, Failure> {
    let (_, workflow) = client.workflow(id).await?;
    let start = format!("{typed}__");
    let parts = workflow.parts.iter().map(|part| &part.telemetry_id);
    let found: Vec<_> = parts.filter(|part| part.starts_with(&start)).collect();
    Ok(match found.as_slice() {
        [one] => (*one).clone(),
        _ => typed.to_owned(),
    })
}
