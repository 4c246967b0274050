//! Which folders and options a PATH and a -f become.
use super::*;

#[test]
fn folders_and_files() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().to_str().expect("UTF-8");
    let missing = find(path, None).expect_err("no Dockerfile");
    assert!(format!("{missing:#}").contains(&format!("{path}/Dockerfile")), "{missing:#}");
    std::fs::write(dir.path().join("Dockerflie"), "FROM a").expect("write");
    let missing = find(path, None).expect_err("a slip");
    assert!(format!("{missing:#}").contains("did you mean \"Dockerflie\"?"), "{missing:#}");
    std::fs::remove_file(dir.path().join("Dockerflie")).expect("remove");
    std::fs::write(dir.path().join("dockerfile"), "FROM a").expect("write");
    let sources = find(path, None).expect("the lower-case name");
    assert_eq!(sources.opts["filename"], "dockerfile");
    assert_eq!(sources.locals["dockerfile"], dir.path());
    std::fs::write(dir.path().join("Dockerfile"), "FROM a").expect("write");
    assert_eq!(find(path, None).expect("both").opts["filename"], "Dockerfile");
    let other = dir.path().join("sub");
    std::fs::create_dir(&other).expect("a folder");
    std::fs::write(other.join("d.prod"), "FROM a").expect("write");
    let sources = find(path, other.join("d.prod").to_str()).expect("another file");
    assert_eq!(
        (sources.locals["dockerfile"].as_path(), sources.opts["filename"].as_str()),
        (other.as_path(), "d.prod")
    );
    assert_eq!(sources.locals["context"], dir.path());
    assert!(
        find(dir.path().join("Dockerfile").to_str().expect("UTF-8"), None).is_err(),
        "a file is no context"
    );
    assert!(find(path, other.to_str()).is_err(), "a folder is no Dockerfile");
    assert!(find("-", Some("-")).is_err());
}

#[test]
fn urls_are_the_daemons() {
    let sources = find("https://example.test/x.git", Some("d")).expect("a URL");
    assert!(sources.locals.is_empty());
    assert_eq!(sources.opts["context"], "https://example.test/x.git");
    assert_eq!(sources.opts["filename"], "d");
}

#[test]
fn archives_are_known_by_their_magic() {
    let mut tar = vec![0; 512];
    tar[257..262].copy_from_slice(b"ustar");
    assert!(is_archive(&tar));
    assert!(is_archive(b"\x1f\x8b\x08"));
    assert!(!is_archive(b"FROM alpine\n"));
    assert!(!is_archive(b""));
}
