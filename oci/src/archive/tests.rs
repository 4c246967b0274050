//! Tests of archives: what goes out comes back, and what comes from elsewhere is read by the rules or refused.

use std::{
    collections::HashMap,
    io::{Cursor, Read},
    sync::Mutex,
};

use proptest::prelude::*;

use super::{Absent, ExportImage, File, ImportSink, Kind, Platforms, export, import};
use crate::{
    blob::Provider,
    compress::{Compression, Writer},
    config::ImageConfig,
    descriptor::Descriptor,
    digest::Digest,
    error::Error,
    manifest::Manifest,
    media_type,
};

#[derive(Default)]
struct Memory {
    blobs: Mutex<HashMap<Digest, Vec<u8>>>,
}

impl Memory {
    fn add(&self, media_type: &str, bytes: Vec<u8>) -> Descriptor {
        let descriptor = Descriptor::new(media_type, Digest::of(&bytes), bytes.len() as u64);
        self.blobs.lock().expect("no panic").insert(descriptor.digest, bytes);
        descriptor
    }
}

impl Provider for Memory {
    fn open(&self, descriptor: &Descriptor) -> Result<Box<dyn Read + Send>, Error> {
        let blobs = self.blobs.lock().expect("no panic");
        let bytes = blobs.get(&descriptor.digest).ok_or(Error::BlobNotFound { digest: descriptor.digest })?;
        Ok(Box::new(Cursor::new(bytes.clone())))
    }
}

impl ImportSink for &Memory {
    fn put(&mut self, _: File, data: &mut dyn Read) -> Result<(Digest, u64), Error> {
        let mut bytes = Vec::new();
        data.read_to_end(&mut bytes)
            .map_err(|source| Error::ReadArchive { operation: "a file".into(), source })?;
        let stored = self.add("", bytes);
        Ok((stored.digest, stored.size))
    }
}

fn image(store: &Memory) -> ExportImage {
    let layer = store.add(media_type::OCI_LAYER, b"layer".to_vec());
    let mut config = ImageConfig::default();
    config.rootfs.diff_ids.push(layer.digest);
    let config = store.add(media_type::OCI_CONFIG, config.to_bytes());
    let manifest = Manifest::new(media_type::OCI_MANIFEST, config, vec![layer]);
    let target = store.add(media_type::OCI_MANIFEST, manifest.to_bytes());
    ExportImage { names: vec!["docker.io/library/one:v1".to_owned()], target }
}

fn exported(store: &Memory, image: &ExportImage) -> Vec<u8> {
    let mut archive = Vec::new();
    export(store, std::slice::from_ref(image), &Platforms::Present, Kind::Both, &mut archive)
        .expect("an export");
    archive
}

#[test]
fn what_goes_out_comes_back_in() {
    let store = Memory::default();
    let image = image(&store);
    let archive = exported(&store, &image);
    assert_eq!(archive, exported(&store, &image), "exports are reproducible");
    for compression in [Compression::Uncompressed, Compression::Gzip, Compression::Zstd] {
        let mut writer = Writer::new(Vec::new(), compression, None).expect("a writer");
        std::io::Write::write_all(&mut writer, &archive).expect("memory");
        let bytes = writer.finish().expect("memory");
        let other = Memory::default();
        let imported = import(bytes.as_slice(), &mut &other).expect("an import");
        assert_eq!(imported.len(), 1);
        assert_eq!(imported[0].name.as_deref(), Some("docker.io/library/one:v1"));
        assert_eq!(imported[0].target.digest, image.target.digest);
        assert!(other.blobs.lock().expect("no panic").len() >= 3);
    }
}

#[test]
fn damage_is_an_error() {
    let store = Memory::default();
    let archive = exported(&store, &image(&store));
    for cut in [0, 100, 600, archive.len() / 2] {
        assert!(import(&archive[..cut], &mut &Memory::default()).is_err(), "cut at {cut}");
    }
    let absent = ExportImage {
        names: Vec::new(),
        target: Descriptor::new(media_type::OCI_MANIFEST, Digest::of(b"?"), 1),
    };
    assert!(export(&store, &[absent], &Platforms::Present, Kind::Oci, &mut Vec::new()).is_err());
}

/// An uncompressed tar of files and, where the third part is set, symbolic links.
fn tar_of(entries: &[(&str, &[u8], Option<&str>)]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, data, link) in entries {
        let mut header = tar::Header::new_gnu();
        header.set_size(data.len() as u64);
        header.set_mode(0o644);
        match link {
            Some(target) => {
                header.set_entry_type(tar::EntryType::Symlink);
                builder.append_link(&mut header, name, target).expect("memory");
            }
            None => builder.append_data(&mut header, name, *data).expect("memory"),
        }
    }
    builder.into_inner().expect("memory")
}

#[test]
fn docker_archives_become_manifests() {
    let manifest =
        br#"[{"Config":"c.json","RepoTags":["two:v2","two"],"Layers":["a/layer.tar","b/layer.tar"]}]"#;
    let mut config = ImageConfig::default();
    config.rootfs.diff_ids = vec![Digest::of(b"one"), Digest::of(b"two")];
    let config = config.to_bytes();
    let entries: [(&str, &[u8], Option<&str>); 4] = [
        ("manifest.json", manifest, None),
        ("b/layer.tar", b"", Some("../a/layer.tar")),
        ("a/layer.tar", b"\x1f\x8bzipped", None),
        ("c.json", &config, None),
    ];
    let store = Memory::default();
    let images = import(tar_of(&entries).as_slice(), &mut &store).expect("an import");
    let names: Vec<_> = images.iter().filter_map(|image| image.name.as_deref()).collect();
    assert_eq!(names, ["docker.io/library/two:v2", "docker.io/library/two:latest"]);
    let bytes = crate::blob::read_document(&store, &images[0].target).expect("the manifest");
    let manifest = Manifest::parse(&bytes).expect("a manifest");
    assert_eq!(manifest.layers.len(), 2);
    assert_eq!(manifest.layers[0], manifest.layers[1], "the link leads to the first layer");
    assert_eq!(manifest.layers[0].media_type, media_type::DOCKER_LAYER_GZIP);

    for (broken, what) in [
        (vec![entries[0], entries[2], entries[3]], "a layer is absent"),
        (vec![entries[0], entries[1], entries[3]], "a link dangles"),
        (vec![entries[0], entries[1], ("a/layer.tar", b"", Some("../b/layer.tar")), entries[3]], "a loop"),
        (vec![entries[0], entries[1], entries[2], ("c.json", b"{}", None)], "no diff_ids"),
        (vec![entries[0], entries[1], ("a/layer.tar", b"plain", None), entries[3]], "another diff_id"),
        (vec![entries[3]], "no manifest"),
        (
            vec![("oci-layout", br#"{"imageLayoutVersion":"2.0.0"}"#, None), ("index.json", b"{}", None)],
            "a version",
        ),
        (vec![("oci-layout", super::LAYOUT, None)], "no index"),
    ] {
        assert!(import(tar_of(&broken).as_slice(), &mut &Memory::default()).is_err(), "{what}");
    }
}

#[test]
fn an_absent_platform_is_not_found() {
    let store = Memory::default();
    let mut child = image(&store).target;
    child.platform = Some("linux/riscv64".parse().expect("a platform"));
    let index = crate::manifest::Index::new(vec![child]);
    let target = store.add(media_type::OCI_INDEX, index.to_bytes());
    let images = [ExportImage { names: Vec::new(), target }];
    let wanted = Platforms::Only(vec!["linux/s390x".parse().expect("a platform")]);
    let error = export(&store, &images, &wanted, Kind::Both, &mut Vec::new()).expect_err("absent");
    assert_eq!(error.kind(), crate::ErrorKind::NotFound);
    let wanted = Platforms::Only(vec!["linux/riscv64".parse().expect("a platform")]);
    export(&store, &images, &wanted, Kind::Both, &mut Vec::new()).expect("present");
}

/// An index of two platforms over one layer each; the second one's layer.
fn two_platforms(store: &Memory) -> (ExportImage, Digest) {
    let mut children = Vec::new();
    for platform in ["linux/amd64", "linux/arm64"] {
        let layer = store.add(media_type::OCI_LAYER, platform.as_bytes().to_vec());
        let mut config = ImageConfig::default();
        config.rootfs.diff_ids.push(layer.digest);
        let config = store.add(media_type::OCI_CONFIG, config.to_bytes());
        let manifest = Manifest::new(media_type::OCI_MANIFEST, config, vec![layer]);
        let mut child = store.add(media_type::OCI_MANIFEST, manifest.to_bytes());
        child.platform = Some(platform.parse().expect("a platform"));
        children.push(child);
    }
    let index = crate::manifest::Index::new(children);
    let target = store.add(media_type::OCI_INDEX, index.to_bytes());
    let names = vec!["docker.io/library/one:v1".to_owned(), "example.com/two:v2".to_owned()];
    (ExportImage { names, target }, Digest::of(b"linux/arm64"))
}

/// Names and bytes of an archive's files.
fn unpacked(archive: &[u8]) -> HashMap<String, Vec<u8>> {
    let mut stream = crate::tar_stream::TarStream::new(archive);
    let mut files = HashMap::new();
    while let Some(entry) = stream.next_entry().expect("sound") {
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).expect("memory");
        files.insert(String::from_utf8(entry.path()).expect("UTF-8"), bytes);
    }
    files
}

#[test]
fn an_index_goes_out_whole_with_the_platforms_that_were_asked_for() {
    let store = Memory::default();
    let (image, arm) = two_platforms(&store);
    let has =
        |archive: &[u8], digest: &Digest| unpacked(archive).contains_key(&super::export::blob_path(digest));
    let all = exported(&store, &image);
    assert!(has(&all, &arm) && has(&all, &image.target.digest));
    let wanted = Platforms::Only(vec!["linux/amd64".parse().expect("a platform")]);
    let mut one = Vec::new();
    export(&store, std::slice::from_ref(&image), &wanted, Kind::Both, &mut one).expect("an export");
    assert!(!has(&one, &arm) && has(&one, &image.target.digest));
    // Rule 27 and 29: an entry for each name; docker's list has the one manifest that suits best.
    let files = unpacked(&one);
    let json = |name: &str| serde_json::from_slice::<serde_json::Value>(&files[name]).expect("JSON");
    assert_eq!(json("index.json")["manifests"].as_array().map(Vec::len), Some(2));
    let docker = &json("manifest.json")[0];
    assert_eq!(docker["RepoTags"], serde_json::json!(["one:v1", "example.com/two:v2"]));
    let layer = super::export::blob_path(&Digest::of(b"linux/amd64"));
    assert_eq!(docker["Layers"], serde_json::json!([layer]));
}

#[test]
fn rule_28_what_is_not_there_is_left_out_and_told_unless_it_was_asked_for() {
    let store = Memory::default();
    let (image, arm) = two_platforms(&store);
    let images = std::slice::from_ref(&image);
    let amd = Digest::of(b"linux/amd64");
    store.blobs.lock().expect("no panic").remove(&arm);
    let mut archive = Vec::new();
    let absent = export(&store, images, &Platforms::Present, Kind::Both, &mut archive).expect("an export");
    let name = "docker.io/library/one:v1".to_owned();
    assert_eq!(absent, [Absent { image: name, platform: "linux/arm64".to_owned(), blob: arm }]);
    let back = import(archive.as_slice(), &mut &Memory::default()).expect("an import");
    assert_eq!(back.len(), 2);
    assert_eq!(back[0].target.digest, image.target.digest, "the round trip keeps the digest");
    assert!(unpacked(&archive).contains_key(&super::export::blob_path(&amd)));
    let only = |platform: &str| Platforms::Only(vec![platform.parse().expect("a platform")]);
    for wanted in [Platforms::All, only("linux/arm64")] {
        let error = export(&store, images, &wanted, Kind::Both, &mut Vec::new()).expect_err("not whole");
        let text = error.to_string();
        assert!(text.contains("linux/arm64") && text.contains(&arm.to_string()), "{text}");
        assert_eq!(error.kind(), crate::ErrorKind::NotFound);
    }
    let absent = export(&store, images, &only("linux/amd64"), Kind::Both, &mut Vec::new()).expect("whole");
    assert!(absent.is_empty());
    store.blobs.lock().expect("no panic").remove(&amd);
    let error = export(&store, images, &Platforms::Present, Kind::Both, &mut Vec::new());
    let error = error.expect_err("nothing is whole");
    assert!(matches!(error, Error::PlatformAbsent { .. }), "{error}");
}

#[test]
fn names_in_an_index_are_whole_or_tags() {
    let store = Memory::default();
    let image = image(&store);
    for (annotations, name, tag) in [
        (
            &[(super::IMAGE_NAME, "example.com/a:v1"), (super::REF_NAME, "other")][..],
            Some("example.com/a:v1"),
            None,
        ),
        (&[(super::REF_NAME, "v2")], None, Some("v2")),
        (&[(super::REF_NAME, "one:v2")], Some("docker.io/library/one:v2"), None),
        (&[], None, None),
    ] {
        let mut target = image.target.clone();
        target.annotations = annotations.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let index = crate::manifest::Index::new(vec![target]).to_bytes();
        let mut files = unpacked(&exported(&store, &image));
        files.insert("index.json".to_owned(), index);
        // Rule 23: the order is free.
        let entries: Vec<_> =
            files.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice(), None)).collect();
        let entries: Vec<_> = entries.into_iter().filter(|(name, ..)| !name.ends_with('/')).collect();
        let imported = import(tar_of(&entries).as_slice(), &mut &Memory::default()).expect("an import");
        assert_eq!((imported[0].name.as_deref(), imported[0].tag.as_deref()), (name, tag));
    }
}

#[test]
fn a_header_that_would_fill_the_memory_is_refused() {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(tar::EntryType::GNULongName);
    header.set_size(1 << 40);
    header.set_cksum();
    let bomb = std::io::Read::chain(&header.as_bytes()[..], std::io::repeat(b'a'));
    let error = import(bomb, &mut &Memory::default()).expect_err("a bomb");
    assert_eq!(error.kind(), crate::ErrorKind::InvalidArgument);
}

/// An OCI layout of one image, as entries to be changed.
fn layout(store: &Memory) -> (Vec<(String, Vec<u8>)>, Descriptor) {
    let image = image(store);
    let mut files: Vec<_> = unpacked(&exported(store, &image)).into_iter().collect();
    files.retain(|(name, _)| !name.ends_with('/'));
    files.sort();
    (files, image.target)
}

fn read(files: &[(String, Vec<u8>)]) -> Result<Vec<super::Imported>, Error> {
    let entries: Vec<_> = files.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice(), None)).collect();
    import(tar_of(&entries).as_slice(), &mut &Memory::default())
}

#[test]
fn rules_4_5_and_22_what_counts_is_the_index_and_what_bytes_are() {
    let (mut files, target) = layout(&Memory::default());
    // A blob's name is not believed, nor needed; nor is a manifest.json beside an index looked at.
    for (name, bytes) in &mut files {
        if let Some(hex) = name.strip_prefix("blobs/sha256/") {
            *name = format!("anywhere/{}", hex.chars().rev().collect::<String>());
        } else if name == "manifest.json" {
            *bytes = b"no JSON".to_vec();
        }
    }
    // Of an index that comes twice the last one counts.
    files.insert(0, ("index.json".to_owned(), b"{".to_vec()));
    let images = read(&files).expect("an import");
    assert_eq!((images.len(), images[0].target.digest), (1, target.digest));
}

#[test]
fn man_17_a_blob_that_is_not_what_the_index_names_is_refused() {
    let (files, target) = layout(&Memory::default());
    let place = |name: &str| files.iter().position(|(file, _)| file.ends_with(name)).expect("a file");
    let manifest = place(&target.digest.hex());
    let mut flipped = files.clone();
    flipped[manifest].1[3] ^= 1;
    assert!(read(&flipped).expect_err("other bytes").to_string().contains(&target.digest.to_string()));
    let mut longer = files.clone();
    let index = place("index.json");
    let text = String::from_utf8(longer[index].1.clone()).expect("JSON");
    let size = format!("\"size\":{}", target.size);
    longer[index].1 = text.replace(&size, &format!("\"size\":{}", target.size + 1)).into_bytes();
    assert!(matches!(read(&longer), Err(Error::SizeMismatch { .. })));
    // What is no file is no blob: links of both kinds, devices, pipes.
    for kind in [tar::EntryType::Link, tar::EntryType::Fifo, tar::EntryType::Char, tar::EntryType::Symlink] {
        let mut builder = tar::Builder::new(Vec::new());
        for (name, bytes) in &files {
            let mut header = tar::Header::new_gnu();
            header.set_mode(0o644);
            if name.ends_with(&target.digest.hex()) {
                header.set_entry_type(kind);
                header.set_size(0);
                header.set_link_name("/etc/passwd").expect("short");
                builder.append_data(&mut header, name, std::io::empty()).expect("memory");
            } else {
                header.set_size(bytes.len() as u64);
                builder.append_data(&mut header, name, bytes.as_slice()).expect("memory");
            }
        }
        let archive = builder.into_inner().expect("memory");
        let error = import(archive.as_slice(), &mut &Memory::default()).expect_err("no blob");
        assert!(error.to_string().contains("is not in the archive"), "{kind:?}: {error}");
    }
}

#[test]
fn man_16_names_lead_nowhere_but_into_the_archive() {
    let store = Memory::default();
    let mut config = ImageConfig::default();
    config.rootfs.diff_ids = vec![Digest::of(b"layer")];
    let config = config.to_bytes();
    let manifest = |config: &str, layer: &str, tag: &str| {
        serde_json::json!([{"Config": config, "RepoTags": [tag], "Layers": [layer]}]).to_string().into_bytes()
    };
    for (configured, layer, tag, said) in [
        ("../../etc/passwd", "layer.tar", "a:b", "etc/passwd"),
        ("c.json", "../../../etc/shadow", "a:b", "etc/shadow"),
        ("c.json", "/proc/self/environ", "a:b", "proc/self/environ"),
        ("c.json", "layer.tar", "../../x", "../../x"),
        // Only a host may have capitals.
        ("c.json", "layer.tar", "x/UPPER:y", "UPPER"),
        ("c.json", "layer.tar", "a:b\r\nX-Header: y", "a:b"),
        ("layer.tar", "layer.tar", "a:b", "layer.tar"),
    ] {
        let document = manifest(configured, layer, tag);
        let entries: [(&str, &[u8], Option<&str>); 3] =
            [("manifest.json", &document, None), ("c.json", &config, None), ("layer.tar", b"layer", None)];
        let error = import(tar_of(&entries).as_slice(), &mut &store).expect_err(said);
        assert_eq!(error.kind(), crate::ErrorKind::InvalidArgument, "{error}");
        assert!(error.to_string().contains(said), "{error}");
    }
    let (mut files, _) = layout(&store);
    for (name, bytes) in &mut files {
        if name == "index.json" {
            let text = String::from_utf8(bytes.clone()).expect("JSON");
            *bytes = text.replace("docker.io/library/one:v1", "../../x").into_bytes();
        }
    }
    read(&files).expect_err("a name that is none");
}

#[test]
fn rules_32_and_33_several_images_and_nothing_else() {
    let store = Memory::default();
    let (both, _) = two_platforms(&store);
    let one = image(&store);
    let mut archive = Vec::new();
    export(&store, &[both.clone(), one.clone()], &Platforms::All, Kind::Both, &mut archive).expect("both");
    let back = import(archive.as_slice(), &mut &Memory::default()).expect("an import");
    let targets: Vec<_> = back.iter().map(|image| image.target.digest).collect();
    assert_eq!(targets, [both.target.digest, both.target.digest, one.target.digest]);
    let blob = store.add("text/plain", b"a note".to_vec());
    let note = ExportImage { names: vec!["example.com/note:v1".to_owned()], target: blob };
    let error = export(&store, &[note], &Platforms::All, Kind::Both, &mut Vec::new()).expect_err("a note");
    assert_eq!(error.kind(), crate::ErrorKind::InvalidArgument);
}

#[test]
fn rules_25_and_26_entries_are_sorted_and_say_nothing_of_their_maker() {
    let store = Memory::default();
    let archive = exported(&store, &image(&store));
    let mut names = Vec::new();
    let mut reader = tar::Archive::new(archive.as_slice());
    for entry in reader.entries().expect("sound") {
        let mut entry = entry.expect("sound");
        let name = entry.path().expect("UTF-8").display().to_string();
        let header = entry.header();
        assert_eq!(
            [header.uid().expect("one"), header.gid().expect("one"), header.mtime().expect("one")],
            [0; 3]
        );
        let mode = match name.as_str() {
            "index.json" | "manifest.json" => 0o644,
            _ if header.entry_type().is_dir() => 0o755,
            _ => 0o444,
        };
        assert_eq!(header.mode().expect("one"), mode, "{name}");
        if name == "oci-layout" {
            let mut text = String::new();
            entry.read_to_string(&mut text).expect("memory");
            assert_eq!(text, r#"{"imageLayoutVersion":"1.0.0"}"#);
        }
        names.push(name);
    }
    let mut sorted = names.clone();
    sorted.sort();
    sorted.dedup();
    assert_eq!(names, sorted);
}

#[test]
fn blob_16_what_changed_on_the_disk_does_not_go_out() {
    let store = Memory::default();
    let image = image(&store);
    let layer = Digest::of(b"layer");
    for bytes in [&b"lay3r"[..], b"laye", b"layers"] {
        store.blobs.lock().expect("no panic").insert(layer, bytes.to_vec());
        let images = std::slice::from_ref(&image);
        let error = export(&store, images, &Platforms::All, Kind::Oci, &mut Vec::new()).expect_err("changed");
        assert!(error.to_string().contains("read blob") || error.to_string().contains("write"), "{error}");
    }
}

/// A change of an archive: where, and what.
#[derive(Clone, Debug)]
enum Change {
    Bit(u8),
    Byte(u8),
    Cut,
    Repeat(usize),
}

fn any_change() -> impl Strategy<Value = (usize, Change)> {
    let change = prop_oneof![
        (0u8..8).prop_map(Change::Bit),
        any::<u8>().prop_map(Change::Byte),
        Just(Change::Cut),
        (0usize..1024).prop_map(Change::Repeat),
    ];
    (any::<usize>(), change)
}

proptest! {
    #![proptest_config(crate::properties::many())]

    /// Archives that were cut, turned and mixed end in an error or an image, never in a panic.
    #[test]
    fn any_archive_is_read_or_refused(changes in proptest::collection::vec(any_change(), 1..9)) {
        let store = Memory::default();
        let mut bytes = exported(&store, &image(&store));
        for (at, change) in changes {
            let at = at % bytes.len();
            match change {
                Change::Bit(bit) => bytes[at] ^= 1 << bit,
                Change::Byte(byte) => bytes[at] = byte,
                Change::Cut => bytes.truncate(at.max(1)),
                Change::Repeat(size) => {
                    let part = bytes[at..(at + size).min(bytes.len())].to_vec();
                    bytes.splice(at..at, part);
                }
            }
        }
        drop(import(bytes.as_slice(), &mut &Memory::default()));
    }
}
