use std::os::unix::fs::PermissionsExt;

use super::*;

/// `printf %s secret-a | sha256sum`
const A: &str = "23c57f37b6164ee2eec6e65d3b1b4c4d6cb0bab1a1e5ebfb5df6d5bbe7a5a6bb";

fn hash_of(token: &str) -> String {
    super::hash_of(token)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

fn write(path: &Path, text: &str) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
}

fn name_of(file: &TokenFile, token: &str) -> Option<String> {
    file.find(token).map(|caller| caller.name)
}

#[test]
fn each_token_has_its_name_and_its_rights() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tokens");
    let text = format!(
        "# who may ask\n\nui read {}\n  ops   full {}\n",
        hash_of("secret-a"),
        hash_of("secret-b").to_uppercase()
    );
    write(&path, &text);
    let file = TokenFile::open(&path).unwrap();
    let ui = file.find("secret-a").unwrap();
    assert_eq!((ui.name.as_str(), ui.rights), ("ui", Rights::Read));
    let ops = file.find("secret-b").unwrap();
    assert_eq!((ops.name.as_str(), ops.rights), ("ops", Rights::Full));
    for wrong in ["", "secret-", "secret-c", "ui", &hash_of("secret-a")] {
        assert_eq!(name_of(&file, wrong), None, "{wrong}");
    }
    assert!(!format!("{file:?}").contains(&hash_of("secret-a")));
}

#[test]
fn wrong_lines_are_named_by_number_and_not_repeated() {
    let table = [
        (
            "ui read",
            "line 1: expected a name, read or full, and the SHA-256 of the token",
        ),
        ("ui write AAAA", "line 1: a role is read or full"),
        (
            "ui read mypassword",
            "line 1: a SHA-256 has 64 hexadecimal digits",
        ),
        (
            &format!("u/i read {A}"),
            "line 1: a name has up to 64 of a-z A-Z 0-9 . _ -",
        ),
        (
            &format!("ui read {A}\nops full {A}"),
            "line 2: its token stands there twice",
        ),
        (
            &format!("ui read {A}\nui full {}", hash_of("b")),
            "line 2: its name stands there twice",
        ),
    ];
    for (text, expected) in table {
        let faults = parse(text).err().unwrap();
        assert_eq!(faults, [expected], "{text}");
        assert!(!faults[0].contains("mypassword"));
    }
}

#[test]
fn of_many_wrong_lines_some_are_named() {
    let faults = parse(&"x\n".repeat(30_000)).err().unwrap();
    assert_eq!(faults.len(), 21);
    assert_eq!(faults[20], "and 29980 more");
}

#[test]
fn a_file_without_tokens_or_none_lets_nobody_in() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tokens");
    let good = format!("ops full {}\n", hash_of("secret-a"));
    write(&path, &good);
    let mut file = TokenFile::open(&path).unwrap();
    file.look_every = Duration::ZERO;
    for emptied in ["", "\n \n", "# ops full\n"] {
        assert_eq!(name_of(&file, "secret-a").as_deref(), Some("ops"));
        write(&path, emptied);
        assert_eq!(name_of(&file, "secret-a"), None, "{emptied:?}");
        write(&path, &good);
    }
    assert_eq!(name_of(&file, "secret-a").as_deref(), Some("ops"));
    fs::remove_file(&path).unwrap();
    assert_eq!(name_of(&file, "secret-a"), None);
    // Neither a broken file nor one that can't be read brings a revoked token back.
    write(&path, "one would think");
    assert_eq!(name_of(&file, "secret-a"), None);
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    assert_eq!(name_of(&file, "secret-a"), None);
    fs::remove_dir(&path).unwrap();
    write(&path, &good);
    assert_eq!(name_of(&file, "secret-a").as_deref(), Some("ops"));
    fs::remove_dir_all(folder.path()).unwrap();
    assert_eq!(name_of(&file, "secret-a"), None);
    // One that starts with it does the same.
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tokens");
    write(&path, "# nobody\n");
    assert_eq!(name_of(&TokenFile::open(&path).unwrap(), "secret-a"), None);
}

#[test]
fn a_file_that_others_can_read_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tokens");
    write(&path, &format!("ui read {A}"));
    for (mode, is_fine) in [
        (0o600, true),
        (0o640, true),
        (0o440, true),
        (0o644, false),
        (0o602, false),
    ] {
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        let opened = TokenFile::open(&path);
        assert_eq!(opened.is_ok(), is_fine, "{mode:o}");
        if let Err(error) = opened {
            assert!(error.to_string().ends_with("chmod o= it"), "{error}");
        }
    }
}

#[test]
fn a_changed_file_counts_and_a_broken_one_does_not() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tokens");
    write(&path, &format!("old full {}\n", hash_of("secret-a")));
    let mut file = TokenFile::open(&path).unwrap();
    file.look_every = Duration::ZERO;
    write(&path, &format!("renewed full {}\n", hash_of("secret-b")));
    assert_eq!(name_of(&file, "secret-a"), None);
    assert_eq!(name_of(&file, "secret-b").as_deref(), Some("renewed"));
    write(&path, "no token at all in this line, one would think");
    assert_eq!(name_of(&file, "secret-b").as_deref(), Some("renewed"));
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    assert_eq!(name_of(&file, "secret-b").as_deref(), Some("renewed"));
    write(&path, &format!("third full {}\n", hash_of("secret-c")));
    assert_eq!(name_of(&file, "secret-c").as_deref(), Some("third"));
}
