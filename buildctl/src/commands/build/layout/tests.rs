//! Which image of a layout a text names.
use super::*;

fn layout(entries: &[(&str, Option<&str>)]) -> (tempfile::TempDir, Vec<Digest>) {
    let dir = tempfile::tempdir().expect("a folder");
    let mut manifests = Vec::new();
    for (content, name) in entries {
        let digest = Digest::of(content.as_bytes());
        let path = dir.path().join(blob_path(&digest));
        std::fs::create_dir_all(path.parent().expect("in a folder")).expect("blobs");
        std::fs::write(path, content).expect("a blob");
        let mut entry = Descriptor::new("application/json", digest, content.len() as u64);
        entry.annotations.extend(name.map(|name| (REF_NAME.to_owned(), name.to_owned())));
        manifests.push(entry);
    }
    let digests = manifests.iter().map(|entry| entry.digest).collect();
    std::fs::write(dir.path().join("index.json"), Index::new(manifests).to_bytes()).expect("an index");
    (dir, digests)
}

#[test]
fn images_are_found_by_tag_by_digest_or_as_the_only_one() {
    let (several, digests) = layout(&[
        ("a", Some("v1")),
        ("b", Some("registry.example/b:v2")),
        ("c", Some("latest")),
        ("d", None),
    ]);
    let (one, only) = layout(&[("a", None)]);
    let (two, _) = layout(&[("a", None), ("b", Some("v1"))]);
    let (none, _) = layout(&[]);
    let path = |dir: &tempfile::TempDir| dir.path().to_str().expect("UTF-8").to_owned();
    for (text, expected) in [
        (format!("{}:v1", path(&several)), Ok(digests[0])),
        (format!("{}:v2", path(&several)), Ok(digests[1])),
        (path(&several), Ok(digests[2])),
        (format!("{}@{}", path(&several), digests[3]), Ok(digests[3])),
        (format!("{}:v1@{}", path(&several), digests[3]), Ok(digests[3])),
        (format!("{}:v3", path(&several)), Err("v1, v2, latest")),
        (path(&one), Ok(only[0])),
        (format!("{}:v1", path(&one)), Err("none has a tag")),
        (path(&two), Err("there: v1")),
        (path(&none), Err("no image in it")),
        (format!("{}@{}", path(&one), digests[1]), Err("blobs/sha256/")),
        ("/nowhere".to_owned(), Err("/nowhere/index.json")),
    ] {
        let found = Layout::find(&text);
        match (found, expected) {
            (Ok(found), Ok(digest)) => assert_eq!(found.digest, digest, "{text}"),
            (Err(error), Err(words)) => assert!(format!("{error:#}").contains(words), "{text}: {error:#}"),
            (found, expected) => panic!("{text}: {found:?}, not {expected:?}"),
        }
    }
}

#[test]
fn links_do_not_lead_out_of_a_layout() {
    let (dir, digests) = layout(&[("a", None)]);
    let blob = dir.path().join(blob_path(&digests[0]));
    std::fs::remove_file(&blob).expect("the blob");
    std::os::unix::fs::symlink("/etc/hostname", &blob).expect("a link");
    let text = dir.path().to_str().expect("UTF-8");
    let refused = Layout::find(text).expect_err("the link leads nowhere in the layout");
    assert!(format!("{refused:#}").contains("blobs/sha256/"), "{refused:#}");
}
