//! The few flags that a worker has: it is configured by its environment.

use std::{ffi::OsString, fmt::Write, process::ExitCode};

use clap::{Command, error::ErrorKind};

use super::EXIT_CONFIG;
use crate::config::{ConfigError, Variable};

/// Columns of the table of variables: a name, a space, its meaning.
const NAME_WIDTH: usize = 26;
const MEANING_AT: usize = 2 + NAME_WIDTH + 1;
/// So that the table fits into 80 columns.
const MEANING_WIDTH: usize = 80 - MEANING_AT;

/// Breaks a text between words.
fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = vec![String::new()];
    for word in text.split(' ') {
        let line = lines.last_mut().expect("there is a first line");
        if line.is_empty() {
            line.push_str(word);
        } else if line.chars().count() + 1 + word.chars().count() <= width {
            line.push(' ');
            line.push_str(word);
        } else {
            lines.push(word.to_owned());
        }
    }
    lines
}

/// What a worker says about itself.
#[derive(Debug, Clone, Copy)]
pub struct About {
    /// Name of the service.
    pub service: &'static str,
    /// Its version.
    pub version: &'static str,
    /// What it does, in a sentence.
    pub summary: &'static str,
    /// Its variables, a list a section.
    pub variables: &'static [&'static [Variable]],
}

impl About {
    /// Answers `--help` and `--version`; the first of `args` is the program's name.
    ///
    /// # Errors
    /// The code to exit with: 0 after an answer, 78 after flags that it does not have.
    pub fn answer_flags(&self, args: impl IntoIterator<Item = OsString>) -> Result<(), ExitCode> {
        let error = match self.command().try_get_matches_from(args) {
            Ok(_) => return Ok(()),
            Err(error) => error,
        };
        let answered = matches!(
            error.kind(),
            ErrorKind::DisplayHelp | ErrorKind::DisplayVersion
        );
        // Nothing can be said if even the terminal is gone.
        let _ = error.print();
        Err(if answered {
            ExitCode::SUCCESS
        } else {
            ExitCode::from(EXIT_CONFIG)
        })
    }

    /// Says what is wrong with the configuration, on stderr.
    pub fn refuse(&self, error: &ConfigError) -> ExitCode {
        let text = format!(
            "{}: {error}\nSee {} --help for all variables.\n",
            self.service, self.service
        );
        let _ = std::io::Write::write_all(&mut std::io::stderr(), text.as_bytes());
        ExitCode::from(EXIT_CONFIG)
    }

    fn command(&self) -> Command {
        Command::new(self.service)
            .bin_name(self.service)
            .version(self.version)
            .about(self.summary)
            // The table is wrapped already.
            .term_width(0)
            .after_help(self.variables_help())
    }

    /// All variables, and an example with those that must be given.
    fn variables_help(&self) -> String {
        let mut help = String::from("It is configured by environment variables:\n");
        for variable in self.all_variables() {
            let default = match (variable.required, variable.default.or(variable.otherwise)) {
                (true, _) => " (required)".to_owned(),
                (false, Some(default)) => format!(" [default: {default}]"),
                (false, None) => String::new(),
            };
            let meaning = format!("{}{default}", variable.meaning);
            let lines = wrapped(&meaning, MEANING_WIDTH);
            let _ = writeln!(
                help,
                "  {:<NAME_WIDTH$} {}",
                variable.name,
                lines.join(&format!("\n{:MEANING_AT$}", ""))
            );
        }
        help.push_str("\nExample:\n  ");
        for variable in self.all_variables().filter(|variable| variable.required) {
            let value = if variable.secret {
                "…"
            } else {
                variable.example
            };
            let _ = write!(help, "{}={value} \\\n  ", variable.name);
        }
        help.push_str(self.service);
        help.push_str(
            "\n\nExit codes: 0 done or stopped, 1 failed and may be tried again, 70 failed for\n\
             good, 78 bad configuration, 130 and 143 ended by a signal.",
        );
        help
    }

    fn all_variables(&self) -> impl Iterator<Item = &'static Variable> {
        self.variables.iter().copied().flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{OpsConfig, QueueConfig, Section};

    const ABOUT: About = About {
        service: "some-worker",
        version: "0.1.0",
        summary: "Does something.",
        variables: &[QueueConfig::VARIABLES, OpsConfig::VARIABLES],
    };

    #[test]
    fn help_names_every_variable() {
        let help = ABOUT.command().render_help().to_string();
        for variable in ABOUT.all_variables() {
            assert!(
                help.contains(variable.name) && !variable.meaning.is_empty(),
                "{}",
                variable.name
            );
        }
        assert!(
            help.lines().all(|line| line.chars().count() <= 80),
            "{help}"
        );
        assert!(
            help.contains("QUEUE_ID=wf-btcusdt-api_candles_1m-20240801-abc123"),
            "{help}"
        );
    }

    #[test]
    fn flags_that_it_does_not_have_are_bad_configuration() {
        let answer = |args: &[&str]| ABOUT.answer_flags(args.iter().map(OsString::from));
        assert_eq!(answer(&["some-worker"]), Ok(()));
        assert_eq!(answer(&["some-worker", "--fast"]), Err(ExitCode::from(78)));
        assert_eq!(
            answer(&["some-worker", "--version"]),
            Err(ExitCode::SUCCESS)
        );
    }
}
