//! The flags of a worker. It is configured by its environment; a flag is another way to set one of its variables.

use std::{ffi::OsString, fmt::Write, process::ExitCode};

use clap::{Arg, ArgAction, Command, error::ErrorKind};

use super::EXIT_CONFIG;
use crate::config::{ConfigError, Variable, Vars};

/// Columns of the table of variables: a name, a space, its meaning.
const NAME_WIDTH: usize = 28;
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

/// A flag that sets a variable, and wins over the environment.
#[derive(Debug, Clone, Copy)]
pub struct Flag {
    /// Without the dashes.
    pub name: &'static str,
    /// The variable that it sets.
    pub variable: &'static str,
    /// What it sets it to.
    pub value: FlagValue,
    /// What it does.
    pub meaning: &'static str,
}

/// What a flag sets its variable to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FlagValue {
    /// Always to this.
    Sets(&'static str),
    /// To what follows the flag, which is called so in the help.
    Takes(&'static str),
}

impl Flag {
    fn arg(&self) -> Arg {
        let help = match self.value {
            FlagValue::Sets("true") => format!("{} [env: {}]", self.meaning, self.variable),
            FlagValue::Sets(value) => format!("{} [env: {}={value}]", self.meaning, self.variable),
            FlagValue::Takes(_) => format!("{} [env: {}=]", self.meaning, self.variable),
        };
        let arg = Arg::new(self.name).long(self.name).help(help);
        match self.value {
            FlagValue::Sets(_) => arg.action(ArgAction::SetTrue),
            FlagValue::Takes(name) => arg.value_name(name).allow_negative_numbers(true),
        }
    }
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
    /// Its flags beside `--help` and `--version`.
    pub flags: &'static [Flag],
}

impl About {
    /// The variables as flags leave them; the first of `args` is the program's name. Answers `--help` and `--version`.
    ///
    /// # Errors
    /// The code to exit with: 0 after an answer, 78 after flags that it does not have.
    pub fn vars(
        &self,
        args: impl IntoIterator<Item = OsString>,
        mut vars: Vars,
    ) -> Result<Vars, ExitCode> {
        let matches = match self.command().try_get_matches_from(args) {
            Ok(matches) => matches,
            Err(error) => {
                let answered = matches!(
                    error.kind(),
                    ErrorKind::DisplayHelp | ErrorKind::DisplayVersion
                );
                // Nothing can be said if even the terminal is gone.
                let _ = error.print();
                return Err(if answered {
                    ExitCode::SUCCESS
                } else {
                    ExitCode::from(EXIT_CONFIG)
                });
            }
        };
        for flag in self.flags {
            let value = match flag.value {
                FlagValue::Sets(value) => matches.get_flag(flag.name).then(|| value.to_owned()),
                FlagValue::Takes(_) => matches.get_one::<String>(flag.name).cloned(),
            };
            if let Some(value) = value {
                vars.insert(flag.variable.to_owned(), value);
            }
        }
        Ok(vars)
    }

    /// Says what is wrong with the configuration, on stderr.
    pub fn refuse(&self, error: &ConfigError) -> ExitCode {
        let text = self.refusal(error);
        let _ = std::io::Write::write_all(&mut std::io::stderr(), text.as_bytes());
        ExitCode::from(EXIT_CONFIG)
    }

    /// The faults, each variable with the flag that may have set it.
    fn refusal(&self, error: &ConfigError) -> String {
        let mut faults = error.to_string();
        for Flag { name, variable, .. } in self.flags {
            faults = faults.replace(variable, &format!("{variable} (--{name})"));
        }
        let service = self.service;
        format!("{service}: {faults}\nSee {service} --help for all variables.\n")
    }

    fn command(&self) -> Command {
        Command::new(self.service)
            .bin_name(self.service)
            .version(self.version)
            .about(self.summary)
            .args(self.flags.iter().map(Flag::arg))
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
        flags: &[
            Flag {
                name: "debug",
                variable: "LOG_LEVEL",
                value: FlagValue::Sets("debug"),
                meaning: "logs more",
            },
            Flag {
                name: "run",
                variable: "RUN",
                value: FlagValue::Takes("N"),
                meaning: "the run",
            },
        ],
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
    fn a_flag_sets_its_variable() {
        let help = ABOUT.command().render_help().to_string();
        assert!(
            help.contains("--run <N>") && help.contains("[env: RUN=]"),
            "{help}"
        );
        assert!(help.contains("[env: LOG_LEVEL=debug]"), "{help}");
        let vars = |args: &[&str]| {
            let given = Vars::from([("RUN".to_owned(), "1".to_owned())]);
            ABOUT.vars(args.iter().map(OsString::from), given).unwrap()
        };
        assert_eq!(vars(&["some-worker"])["RUN"], "1");
        assert_eq!(vars(&["some-worker", "--run", "-2"])["RUN"], "-2");
        let both = vars(&["some-worker", "--run=3", "--debug"]);
        assert_eq!(
            (both["RUN"].as_str(), both["LOG_LEVEL"].as_str()),
            ("3", "debug")
        );
    }

    #[test]
    fn a_fault_names_the_flag_too() {
        let args = ["some-worker", "--run", "x"].map(OsString::from);
        let vars = ABOUT.vars(args, Vars::new()).unwrap();
        let mut reader = crate::config::Reader::new(&vars);
        let _: Option<QueueConfig> = reader.section();
        let refusal = ABOUT.refusal(&reader.finish().unwrap_err());
        assert!(refusal.contains("RUN (--run) is \"x\""), "{refusal}");
    }

    #[test]
    fn flags_that_it_does_not_have_are_bad_configuration() {
        let answer = |args: &[&str]| ABOUT.vars(args.iter().map(OsString::from), Vars::new());
        assert_eq!(answer(&["some-worker"]), Ok(Vars::new()));
        assert_eq!(answer(&["some-worker", "--fast"]), Err(ExitCode::from(78)));
        assert_eq!(
            answer(&["some-worker", "--version"]),
            Err(ExitCode::SUCCESS)
        );
    }
}
