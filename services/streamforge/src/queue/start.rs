//! `queue start`: workflows by symbol and type, by the name of a flow, or as a pipeline in a file.

use std::{collections::BTreeMap, io::Read, path::Path, process::ExitCode};

use reqwest::Method;
use serde_json::{Value, json};

use super::{
    Output,
    api::{Started, Workflow},
    client::{Client, Request},
    failure::Failure,
    watch::{PATIENCE, Telling, follow},
};
use crate::cli::queue::StartArgs;

pub(super) async fn start(client: &Client, args: &StartArgs) -> Result<ExitCode, Failure> {
    let output = Output::new(args.output.json);
    let (route, body) = asked(args)?;
    let request = Request::new(Method::POST, &["queues", route])
        .body(body)
        .once();
    let answer = client.ask(&request).await?;
    let started = serde_json::from_value(answer.data).map(Started::queues);
    let started = started.or_else(|_| client.read::<Vec<Value>>(&Value::Null))?;
    let mut ids = Vec::new();
    for queue in &started {
        let workflow: Workflow = client.read(queue)?;
        output.either(queue, &workflow.queue_id)?;
        output.say(&format!("Started {}", workflow.what()));
        ids.push(workflow.queue_id);
    }
    if args.watch {
        let telling = Telling::of_end(output);
        return Ok(follow(client, ids, PATIENCE, telling).await?.exit_code());
    }
    output.say(&format!(
        "Follow it: streamforge queue watch {}",
        ids.join(" ")
    ));
    Ok(ExitCode::SUCCESS)
}

/// Route and body.
fn asked(args: &StartArgs) -> Result<(&'static str, Value), Failure> {
    if let Some(path) = &args.file {
        return Ok(("start-pipeline", read(path)?));
    }
    let range = args.time_range.as_ref().map(ToString::to_string);
    if let Some(flow) = &args.flow {
        let symbol = match args.symbols.as_slice() {
            [] => None,
            [one] => Some(one),
            _ => {
                let refused = "a flow takes one --symbol; with --type there may be several";
                return Err(Failure::Usage(refused.to_owned()));
            }
        };
        let mut params = BTreeMap::new();
        for (key, value) in &args.params {
            if params.insert(key, value).is_some() {
                return Err(Failure::Usage(format!("--param {key} was given twice")));
            }
        }
        let mut body = json!({"flow_name": flow, "extra_params": params});
        set(&mut body, "symbol", symbol.map(ToString::to_string));
        set(&mut body, "time_range", range);
        return Ok(("start-test-flow", body));
    }
    let symbols: Vec<_> = args.symbols.iter().map(ToString::to_string).collect();
    let symbol = match symbols.as_slice() {
        [one] => json!(one),
        several => json!(several),
    };
    let mut body = json!({"symbol": symbol});
    set(
        &mut body,
        "type",
        args.kind.as_ref().map(ToString::to_string),
    );
    set(&mut body, "time_range", range);
    Ok(("start", body))
}

fn set(body: &mut Value, name: &str, value: Option<String>) {
    if let Some(value) = value {
        body[name] = Value::String(value);
    }
}

fn read(path: &Path) -> Result<Value, Failure> {
    let refused = |why: String| Failure::Usage(format!("--file {}: {why}", path.display()));
    let mut text = String::new();
    let read = if path == Path::new("-") {
        std::io::stdin().read_to_string(&mut text)
    } else {
        std::fs::File::open(path).and_then(|mut file| file.read_to_string(&mut text))
    };
    read.map_err(|error| refused(error.to_string()))?;
    serde_json::from_str(&text).map_err(|error| refused(format!("no JSON: {error}")))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::{Cli, Command, queue::QueueCommand};

    fn body(line: &str) -> Result<(&'static str, Value), String> {
        let typed = ["streamforge", "queue", "start"]
            .into_iter()
            .chain(line.split(' '));
        let Command::Queue(args) = Cli::parse_from(typed).command else {
            unreachable!("queue was typed")
        };
        let QueueCommand::Start(args) = args.command else {
            unreachable!("start was typed")
        };
        asked(&args).map_err(|failure| failure.to_string())
    }

    #[test]
    fn what_was_typed_becomes_a_request() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), r#"{"symbol":"BTCUSDT"}"#).unwrap();
        let lines = [
            "--symbol BTCUSDT --type api_candles_1m --time-range 2024-08-01:2024-08-02".to_owned(),
            "--symbol BTCUSDT --symbol ETHUSDT --type api_candles_1M".to_owned(),
            "--flow dummy_flow".to_owned(),
            "--flow f --symbol BTCUSDT --time-range 2024-08-01:2024-08-02 --param A=1 --param B=x=y".to_owned(),
            format!("--file {}", file.path().display()),
        ];
        let all = lines.map(|line| {
            let (route, body) = body(&line).unwrap();
            format!("{route} {body}")
        });
        insta::assert_snapshot!(all.join("\n"));
    }

    #[test]
    fn what_can_not_become_one_is_refused() {
        for (line, said) in [
            ("--flow f --symbol BTCUSDT --symbol ETHUSDT", "one --symbol"),
            (
                "--flow f --param A=1 --param A=2",
                "--param A was given twice",
            ),
            ("--file /no/such/file", "/no/such/file"),
        ] {
            let refused = body(line).unwrap_err();
            assert!(refused.contains(said), "{line} gave {refused}");
        }
    }
}
