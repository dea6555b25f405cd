use std::os::unix::fs::PermissionsExt;

use tempfile::TempDir;

use super::*;

fn place() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("stack.env");
    (folder, path)
}

fn refusal(path: &Path) -> String {
    format!("{:#}", EnvFile::reserve(path).unwrap_err())
}

fn files(folder: &TempDir) -> usize {
    fs::read_dir(folder.path()).unwrap().count()
}

#[test]
fn values_are_quoted_for_a_shell() {
    let vars: Vars = [
        ("PLAIN", "127.0.0.1:9092"),
        ("EMPTY", ""),
        ("SPACED", "it's $HOME; `true` \"x\" \\ *"),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .into();
    let lines = lines(&vars).unwrap();
    assert!(lines.contains("PLAIN=127.0.0.1:9092\n"), "{lines}");
    for line in lines.lines() {
        let (name, quoted) = line.split_once('=').unwrap();
        assert_eq!(shlex::split(quoted).unwrap(), [vars[name].as_str()]);
    }
    let vars: Vars = [("NUL".to_owned(), "\0".to_owned())].into();
    assert!(format!("{:#}", super::lines(&vars).unwrap_err()).contains("quote NUL"));
}

#[test]
fn is_there_as_a_whole_for_its_owner_only_and_then_gone() {
    let (folder, path) = place();
    let reserved = EnvFile::reserve(&path).unwrap();
    assert!(!path.exists(), "nothing to read before it is complete");
    let published = reserved.publish("A=1\n").unwrap();
    let text = fs::read_to_string(&path).unwrap();
    assert!(
        text.starts_with(HEADER) && text.ends_with("\nA=1\n"),
        "{text}"
    );
    let mode = fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert_eq!(published.path(), path);
    drop(published);
    assert_eq!(files(&folder), 0);
}

#[test]
fn what_was_only_reserved_leaves_nothing() {
    let (folder, path) = place();
    drop(EnvFile::reserve(&path).unwrap());
    assert_eq!(files(&folder), 0);
}

#[test]
fn a_file_that_was_left_is_replaced_and_one_in_use_is_not() {
    let (_folder, path) = place();
    for left in [String::new(), format!("{HEADER}, process 1\nA=old\n")] {
        fs::write(&path, left).unwrap();
        let published = EnvFile::reserve(&path).unwrap().publish("A=new\n").unwrap();
        assert!(fs::read_to_string(&path).unwrap().ends_with("\nA=new\n"));
        assert!(refusal(&path).contains("belongs to a dev stack that is up"));
        drop(published);
        assert!(!path.exists());
    }
}

#[test]
fn what_is_not_ours_stays() {
    let (folder, path) = place();
    fs::write(&path, "SECRET=mine\n").unwrap();
    assert!(refusal(&path).contains("is something else, and is not replaced"));
    assert_eq!(fs::read_to_string(&path).unwrap(), "SECRET=mine\n");
    assert_eq!(files(&folder), 1);
    fs::remove_file(&path).unwrap();

    let published = EnvFile::reserve(&path).unwrap().publish("A=1\n").unwrap();
    fs::remove_file(&path).unwrap();
    fs::write(&path, "SECRET=mine\n").unwrap();
    drop(published);
    assert_eq!(fs::read_to_string(&path).unwrap(), "SECRET=mine\n");
}

#[test]
fn a_place_that_can_not_be_written_is_named() {
    let (folder, path) = place();
    let nowhere = folder.path().join("no/such/stack.env");
    let shown = format!("can't write {}", nowhere.display());
    assert!(
        refusal(&nowhere).starts_with(&shown),
        "{}",
        refusal(&nowhere)
    );
    assert!(refusal(folder.path()).contains("no plain file"));
    assert!(refusal(Path::new("")).starts_with("can't write "));
    fs::write(&path, "").unwrap();
    let below_a_file = path.join("stack.env");
    assert!(refusal(&below_a_file).starts_with("can't write "));
}
