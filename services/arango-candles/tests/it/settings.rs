//! Documentation that is also a test, and configuration that is refused before anything is connected.

use std::process::ExitCode;

use arango_candles::config::Config;
use streamforge_utils::config::Vars;

const EXAMPLE: &str = include_str!("../../.env.example");
const README: &str = include_str!("../../README.md");

#[test]
fn the_example_file_is_a_good_configuration() {
    let vars: Vars = EXAMPLE
        .lines()
        .filter(|line| !line.starts_with('#') && !line.trim().is_empty())
        .map(|line| {
            let (name, value) = line.split_once('=').expect("NAME=value");
            (name.to_owned(), value.to_owned())
        })
        .collect();
    Config::from_vars(&vars).unwrap();
}

#[test]
fn example_file_and_readme_name_every_variable() {
    for variable in arango_candles::config::VARIABLES.iter().copied().flatten() {
        assert!(
            EXAMPLE.contains(&format!("{}=", variable.name)),
            "{}",
            variable.name
        );
        assert!(
            README.contains(&format!("`{}`", variable.name)),
            "{}",
            variable.name
        );
    }
}

#[tokio::test]
async fn a_bad_configuration_ends_it_before_it_connects() {
    let args = || ["arango-candles".into()].into_iter();
    assert_eq!(
        arango_candles::run(args(), Vars::new()).await,
        ExitCode::from(78)
    );
    let flags = ["arango-candles".into(), "--fast".into()].into_iter();
    assert_eq!(
        arango_candles::run(flags, Vars::new()).await,
        ExitCode::from(78)
    );
}
