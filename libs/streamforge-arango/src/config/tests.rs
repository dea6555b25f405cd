//! Every way in which the variables of the database can be wrong.

use streamforge_utils::config::{ConfigError, Reader, Vars};

use super::*;

const GOOD: &[(&str, &str)] = &[
    ("ARANGO_URL", "http://127.0.0.1:8529"),
    ("ARANGO_DB", "streamforge"),
    ("ARANGO_USER", "writer"),
    ("ARANGO_PASSWORD", "hunter2"),
];

fn read(changes: &[(&str, &str)]) -> Result<ArangoConfig, ConfigError> {
    let vars: Vars = GOOD
        .iter()
        .chain(changes)
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect();
    let mut reader = Reader::new(&vars);
    let config = reader.section();
    reader.finish()?;
    Ok(config.expect("a section that can't be read is a fault"))
}

/// The one fault of a good configuration with these changes.
fn fault(changes: &[(&str, &str)]) -> String {
    let error = read(changes).unwrap_err();
    let faults: Vec<String> = error.faults().collect();
    assert_eq!(faults.len(), 1, "{faults:?}");
    faults[0].clone()
}

#[test]
fn a_password_is_never_shown_and_never_sent_without_tls() {
    let config = read(&[]).unwrap();
    assert!(!format!("{config:?}").contains("hunter2"));
    let plain = fault(&[("ARANGO_URL", "http://arangodb:8529")]);
    assert!(plain.contains("not sent without TLS"), "{plain}");
    let embedded = fault(&[("ARANGO_URL", "https://root:hunter2@arangodb:8529")]);
    assert!(!embedded.contains("hunter2"), "{embedded}");
    for leaking in [
        "https://root:hunter2@arangodb:port",
        "https://root:hunter2@[arangodb",
        "root:hunter2@arangodb:8529",
        "root:hunter2@",
        "//root:hunter2@arangodb:8529",
        "https://arangodb:8529/?password=hunter2",
        "https://arangodb:8529/root:hunter2@",
        "ftp://root:hunter2@arangodb",
    ] {
        let fault = fault(&[("ARANGO_URL", leaking)]);
        assert!(fault.starts_with("ARANGO_URL is "), "{fault}");
        assert!(!fault.contains("hunter2"), "{fault}");
    }
    for good in [
        "https://arangodb:8529",
        "http://localhost:8529",
        "http://[::1]:8529/",
        "https://gateway.example/data/arango-1",
        "https://gateway.example/data/arango-1/",
    ] {
        read(&[("ARANGO_URL", good)]).unwrap();
    }
}

#[test]
fn urls_that_are_no_server_are_refused() {
    for (wrong, said) in [
        ("ftp://127.0.0.1", "\"ftp://127.0.0.1\""),
        ("http://127.0.0.1:8529/_db/x", "http://127.0.0.1:8529/..."),
        ("http://127.0.0.1:8529/?a=b", "http://127.0.0.1:8529/..."),
        ("http://127.0.0.1:8529/#a", "http://127.0.0.1:8529/..."),
        ("http://127.0.0.1:8529/a%20b", "http://127.0.0.1:8529/..."),
        ("http://127.0.0.1:8529/x/_api", "http://127.0.0.1:8529/..."),
        ("unix:/run/arango", "a URL without a server"),
        ("arangodb", "malformed"),
    ] {
        let fault = fault(&[("ARANGO_URL", wrong)]);
        assert!(fault.contains(said), "{fault}");
    }
}

#[test]
fn names_that_the_database_would_refuse_are_refused_here() {
    for wrong in ["1db", ".db", "a/b", "a:b", "a\nb", &"d".repeat(129)] {
        let fault = fault(&[("ARANGO_DB", wrong)]);
        assert!(fault.starts_with("ARANGO_DB"), "{fault}");
    }
    for good in ["_system", "streamforge", "mötör 🚗%?#", &"d".repeat(128)] {
        assert_eq!(read(&[("ARANGO_DB", good)]).unwrap().database, good);
    }
}

#[test]
fn a_ca_file_must_be_there_and_hold_certificates() {
    let fault = fault(&[("ARANGO_CA_PATH", "/no/such/file.pem")]);
    assert!(fault.contains("/no/such/file.pem"), "{fault}");
    let here = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");
    assert!(read(&[("ARANGO_CA_PATH", here)]).is_err());
}
