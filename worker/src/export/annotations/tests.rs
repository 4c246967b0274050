//! Annotations: their levels, platforms and keys, from the attributes of an exporter.

use super::*;

#[test]
fn attributes_are_levels_platforms_and_keys() {
    let mut notes = Annotations::default();
    for (attribute, value) in [
        ("annotation.org.example.a", "all"),
        ("annotation[linux/arm64].org.example.a", "arm"),
        ("annotation-manifest[linux/amd64].b", "amd"),
        ("annotation-manifest-descriptor.c", "entry"),
        ("annotation-index.d", "index"),
        ("annotation-index-descriptor.e", "layout"),
    ] {
        notes.add(attribute, value).expect(attribute);
    }
    let of = |level, platform: &str| {
        let found = notes.of(level, &platform.parse().expect("a platform"));
        found.into_iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(of(Level::Manifest, "linux/amd64"), "b=amd org.example.a=all");
    assert_eq!(of(Level::Manifest, "linux/arm64"), "org.example.a=arm");
    assert_eq!(of(Level::ManifestDescriptor, "linux/amd64"), "c=entry");
    assert_eq!(notes.of_index(Level::Index), BTreeMap::from([("d".to_owned(), "index".to_owned())]));
    assert_eq!(notes.of_index(Level::IndexDescriptor).len(), 1);
    for bad in [
        "annotation",
        "annotation.",
        "annotations.a",
        "annotation-layer.a",
        "annotation[linux/amd64.a",
        "annotation[linux/amd64]a",
        "annotation-index[linux/amd64].a",
        "annotation[!].a",
    ] {
        notes.add(bad, "x").expect_err(bad);
    }
}
