//! What can be typed, and what it comes to.

use clap::{CommandFactory, Subcommand};

use super::{debug::DebugCommand, *};

fn parse(typed: &str) -> Result<Asked, String> {
    let typed = ["debug-producer"].into_iter().chain(typed.split(' '));
    Cli::try_parse_from(typed)
        .map_err(|error| error.to_string())?
        .asked()
}

fn debug(typed: &str) -> Result<Asked, String> {
    let command = DebugCommand::augment_subcommands(clap::Command::new("debug"));
    let matches = command.try_get_matches_from(["debug"].into_iter().chain(typed.split(' ')));
    let matches = matches.map_err(|error| error.to_string())?;
    Ok(clap::FromArgMatches::from_arg_matches(&matches)
        .map(DebugCommand::asked)
        .unwrap())
}

fn to() -> Address {
    Address {
        queue: "wf-try".parse().unwrap(),
        target: None,
        run: None,
    }
}

fn order(action: Action, timeout: u64, expect: Option<Count>) -> Request {
    Request::Order(Order {
        to: to(),
        action,
        timeout: Duration::from_secs(timeout),
        expect,
    })
}

#[test]
fn the_commands_are_well_formed() {
    Cli::command().debug_assert();
    DebugCommand::augment_subcommands(clap::Command::new("debug")).debug_assert();
}

#[test]
fn every_help_has_examples_and_exit_codes() {
    let texts = [
        Cli::command().render_help(),
        Cli::command().render_long_help(),
    ]
    .map(|text| text.to_string());
    let debug =
        ["ping", "stop", "events"].map(|name| debug(&format!("{name} --help")).unwrap_err());
    for help in texts.iter().chain(&debug) {
        assert!(help.contains("Examples:\n  "), "{help}");
        let (_, told) = help.split_once("Exit codes:").unwrap();
        for code in ["0", "1", "2", "78", "130", "143"] {
            assert!(
                told.split_whitespace().any(|word| word == code),
                "{code} is not in {help}"
            );
        }
    }
    assert!(texts[1].contains(VARIABLES_HELP));
}

#[test]
fn no_help_breaks_an_example_on_a_plain_terminal() {
    let command = Cli::command();
    let all = [command.get_after_help(), command.get_after_long_help()];
    for help in all.map(|help| help.expect("there is one").to_string()) {
        for line in help.lines().filter(|line| line.starts_with("  ")) {
            assert!(line.chars().count() <= 80, "{line}");
        }
    }
}

#[test]
fn what_is_typed_is_asked_for() {
    let stop = |drain| Action::Stop { drain };
    for (typed, request) in [
        ("--command stop", order(stop(false), 30, None)),
        (
            "--command stop --drain --expect-interrupted",
            order(stop(true), 300, Some(Count::Some)),
        ),
        (
            "--command simulate-loading --expect-loading",
            order(Action::SimulateLoading, 30, Some(Count::Some)),
        ),
        (
            "--command fail-after --seconds 2.5 --expect-error --expect-count 3 --timeout 7",
            order(
                Action::FailAfter { seconds: 2.5 },
                7,
                Some(Count::AtLeast(3)),
            ),
        ),
        (
            "--command fail-after --seconds 2",
            order(Action::FailAfter { seconds: 2.0 }, 12, None),
        ),
        (
            "--follow",
            Request::Follow(Follow {
                of: to(),
                timeout: None,
            }),
        ),
        (
            "--follow --timeout 0.5",
            Request::Follow(Follow {
                of: to(),
                timeout: Some(Duration::from_millis(500)),
            }),
        ),
    ] {
        let asked = parse(&format!("--queue-id wf-try {typed}")).unwrap();
        assert_eq!(asked.request, request, "{typed}");
        assert!(!asked.json);
    }
}

#[test]
fn both_commands_ask_for_the_same() {
    for (one, other) in [
        ("--command ping --expect-pong", "ping"),
        (
            "--command ping --expect-pong --repeat 5 --interval 0.01 --expect-count 2 --timeout 3 --target x --run 4",
            "ping --repeat 5 --interval 0.01 --expect-count 2 --timeout 3 --target x --run 4",
        ),
        ("--command stop --expect-interrupted", "stop"),
        ("--command stop --drain", "stop --drain --no-wait"),
        (
            "--command stop --drain --expect-interrupted --expect-count 2",
            "stop --drain --expect-count 2",
        ),
        ("--follow --timeout 1", "events --timeout 1"),
    ] {
        let rest = "--queue-id all --json --bootstrap-servers a:1";
        let (one, other) = (
            parse(&format!("{one} {rest}")).unwrap(),
            debug(&format!("{other} {rest}")).unwrap(),
        );
        assert_eq!(one.request, other.request);
        for asked in [one, other] {
            assert!(asked.json);
            assert_eq!(asked.bootstrap_servers.as_deref(), Some("a:1"));
        }
    }
}

#[test]
fn what_does_not_go_together_is_refused() {
    for (typed, message) in [
        ("", "required"),
        ("--command ping --follow", "cannot be used with"),
        ("--command dance", "invalid value"),
        ("--command start", "invalid value"),
        (
            "--command stop --expect-pong",
            "--expect-pong goes with --command ping, not with --command stop",
        ),
        (
            "--command stop --repeat 2",
            "--repeat goes with --command ping",
        ),
        ("--command ping --drain", "--drain goes with --command stop"),
        (
            "--command ping --expect-error",
            "--expect-error goes with --command fail-after",
        ),
        (
            "--command ping --seconds 1",
            "--seconds goes with --command fail-after",
        ),
        ("--command fail-after", "needs --seconds"),
        ("--command fail-after --seconds 0", "not between"),
        ("--command fail-after --seconds NaN", "not between"),
        (
            "--command simulate-loading --expect-interrupted",
            "goes with --command stop",
        ),
        (
            "--command ping --expect-loading",
            "goes with --command simulate-loading",
        ),
        ("--command ping --interval 1", "--repeat"),
        ("--command ping --repeat 0", "0 is not in"),
        ("--command ping --run 0", "0 is not in"),
        ("--command ping --timeout soon", "expected seconds"),
        (
            "--command ping --expect-count 2",
            "needs another --expect flag",
        ),
        ("--follow --expect-count 2", "needs another --expect flag"),
        ("--follow --expect-interrupted", "not with --follow"),
        ("--follow --repeat 2", "not with --follow"),
        ("--command ping --target=", "expected a service"),
    ] {
        let typed = format!("--queue-id wf-try {typed}");
        let refusal = parse(typed.trim()).unwrap_err();
        assert!(refusal.contains(message), "{typed} gave {refusal}");
    }
    for (typed, message) in [
        ("--command ping", "--queue-id"),
        ("--queue-id try --command ping", "is no queue id"),
    ] {
        assert!(parse(typed).unwrap_err().contains(message));
    }
    let refusal = debug("stop --queue-id all --no-wait --expect-count 2").unwrap_err();
    assert!(refusal.contains("cannot be used with"), "{refusal}");
}
