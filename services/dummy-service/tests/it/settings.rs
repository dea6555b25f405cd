//! Documentation that is also a test.

use dummy_service::config::{Config, FLAGS, VARIABLES};
use dummy_service::metrics;
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
    for variable in VARIABLES.iter().copied().flatten() {
        let name = variable.name;
        assert!(EXAMPLE.contains(&format!("{name}=")), "{name}");
        assert!(README.contains(&format!("`{name}`")), "{name}");
    }
}

#[test]
fn the_readme_names_every_flag_and_metric() {
    for flag in FLAGS {
        assert!(
            README.contains(&format!("`--{}", flag.name)),
            "{}",
            flag.name
        );
    }
    for metric in [
        metrics::EVENTS,
        metrics::PINGS,
        metrics::PONGS,
        metrics::ERRORS,
        metrics::STATUS,
        metrics::PUBLISHED,
        metrics::PUBLISHED_BYTES,
        metrics::PUBLISH_RATE,
        metrics::DELIVERY_SECONDS,
        metrics::CONSUMED,
        metrics::CONSUMED_BYTES,
        metrics::CONSUME_RATE,
        metrics::CONSUME_SECONDS,
        metrics::MISSING,
        metrics::DUPLICATES,
        metrics::UNNUMBERED,
    ] {
        assert!(README.contains(&format!("`{metric}")), "{metric}");
    }
}
