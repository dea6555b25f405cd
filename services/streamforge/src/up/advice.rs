//! What a person can type next, in the words that work where they are: from a checkout as from an installed binary.

use std::{
    env,
    ffi::OsString,
    path::{Path, PathBuf},
};

/// Of the workflow in the examples.
const QUEUE_ID: &str = "wf-try";

/// What is said once the stack is up.
#[derive(Debug)]
pub(super) struct Advice<'a> {
    pub(super) places: &'a str,
    pub(super) data: Option<&'a Path>,
    /// From the root on.
    pub(super) env_file: &'a Path,
    /// What people read, where they are another user than workers.
    pub(super) operator_file: Option<&'a Path>,
    /// Where queue-manager is, and its log.
    pub(super) manager: Option<(&'a str, &'a Path)>,
}

impl Advice<'_> {
    pub(super) fn text(&self) -> String {
        let here = env::current_dir().unwrap_or_default();
        let program = program(env::args_os().next(), env::current_exe().ok(), &here);
        self.text_for(&program, &here)
    }

    fn text_for(&self, program: &str, here: &Path) -> String {
        let Self { places, .. } = self;
        let data = match self.data {
            Some(folder) => format!(
                "Topics are gone after that; the database is kept in {}.",
                folder.display()
            ),
            None => "Its data is in memory and gone after that.".to_owned(),
        };
        let broker = match self.operator_file {
            Some(_) => "",
            None => {
                "Its broker keeps some 60,000 unread candles a partition, then drops the oldest, and the workflow ends in error.\n\
                 queue-manager makes enough partitions; a loader by hand has one, unless TOPIC_PARTITIONS and PARTITION_KEY\n\
                 say more. Or use an Apache Kafka (in a checkout: make up KAFKA=apache).\n"
            }
        };
        let people = match self.operator_file {
            Some(file) => format!(
                "And a ping, to see that it answers, in a terminal for people, who are another user and see no data:\n\n    \
                 set -a; . {}; set +a",
                quoted(&below(file, here))
            ),
            None => "And in one more terminal a ping, to see that it answers:\n".to_owned(),
        };
        let manager = match self.manager {
            Some((url, log)) => format!(
                "\
queue-manager is on {url} (its log: {}). A whole workflow:

    {program} queue start --symbol BTCUSDT --type api_candles_1m --time-range 2024-08-01:2024-08-02
    {program} queue watch

A single ",
                log.display()
            ),
            None => "A ".to_owned(),
        };
        let (file, here) = (quoted(&below(self.env_file, here)), quoted(here));
        format!(
            "\
The dev stack is up: {places}
It stays up until Ctrl-C. {data}
{broker}
In every other terminal, first:

    cd {here}
    set -a; . {file}; set +a

{manager}worker, which stays until it is stopped:

    QUEUE_ID={QUEUE_ID} SYMBOL=BTCUSDT TYPE=dummy {program} worker dummy-service

{people}
    {program} debug ping --queue-id {QUEUE_ID}
"
        )
    }
}

/// What calls this program again: its name if a shell found it by that, else where it is.
fn program(typed: Option<OsString>, path: Option<PathBuf>, here: &Path) -> String {
    let typed = PathBuf::from(typed.unwrap_or_default());
    let by_name = typed.components().count() == 1;
    match path {
        Some(path) if !by_name => quoted(&below(&path, here)),
        _ => quoted(&typed),
    }
}

/// The same path as short as it can be from `here`, and still a path, not a name.
fn below(path: &Path, here: &Path) -> PathBuf {
    match path.strip_prefix(here) {
        Ok(rest) if rest.components().count() == 1 => Path::new(".").join(rest),
        Ok(rest) => rest.to_owned(),
        Err(_) => path.to_owned(),
    }
}

fn quoted(path: &Path) -> String {
    let text = path.to_string_lossy();
    shlex::try_quote(&text).map_or_else(|_| text.clone().into_owned(), |quoted| quoted.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_the_program_as_it_can_be_called() {
        let here = Path::new("/home/me/streamforge");
        for (typed, path, called) in [
            ("streamforge", "/usr/bin/streamforge", "streamforge"),
            (
                "target/release/streamforge",
                "/home/me/streamforge/target/release/streamforge",
                "target/release/streamforge",
            ),
            (
                "/home/me/streamforge/target/release/streamforge",
                "/home/me/streamforge/target/release/streamforge",
                "target/release/streamforge",
            ),
            (
                "./streamforge",
                "/home/me/streamforge/streamforge",
                "./streamforge",
            ),
            ("../b/streamforge", "/b c/streamforge", "'/b c/streamforge'"),
        ] {
            let found = program(Some(typed.into()), Some(path.into()), here);
            assert_eq!(found, called);
        }
    }

    #[test]
    fn says_what_to_type() {
        let mut advice = Advice {
            places: "Kafka on 127.0.0.1:1, ArangoDB on http://127.0.0.1:2, a stand-in of the exchange on http://127.0.0.1:3/",
            data: None,
            env_file: Path::new("/home/my self/streamforge.env"),
            operator_file: None,
            manager: None,
        };
        let here = Path::new("/home/my self");
        insta::assert_snapshot!(advice.text_for("target/release/streamforge", here));
        advice.data = Some(Path::new("arango"));
        let text = advice.text_for("streamforge", Path::new("/elsewhere"));
        assert!(text.contains("the database is kept in arango."), "{text}");
        assert!(
            text.contains(". '/home/my self/streamforge.env';"),
            "{text}"
        );
        advice.operator_file = Some(Path::new("/home/my self/streamforge-operator.env"));
        let text = advice.text_for("streamforge", here);
        let people = "set -a; . ./streamforge-operator.env; set +a\n    streamforge debug ping";
        assert!(text.contains(people), "{text}");
    }
}
