//! Properties of what is read from outside: any document and any text is a value that is written as it was read, or an error.
//!
//! Each parser meets valid documents of which parts were replaced by other JSON or other bytes. Parsers of one header or one file have such
//! tests beside them.

use proptest::{collection::vec, prelude::*};
use serde_json::{Value, json};

use crate::{
    archive::{self, ImportSink},
    config::ImageConfig,
    descriptor::Descriptor,
    digest::Digest,
    error::Error,
    manifest::{Index, Manifest},
    media_type,
    platform::Platform,
    reference::Reference,
};

/// JSON of any shape, with words that documents have.
fn any_json() -> impl Strategy<Value = Value> {
    let word = prop_oneof![
        Just("linux".to_owned()),
        Just(media_type::OCI_INDEX.to_owned()),
        Just(media_type::OCI_MANIFEST.to_owned()),
        Just(Digest::of(b"").to_string()),
        "[a-z0-9:/.+-]{0,80}",
        "\\PC{0,8}",
    ];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        // Halves, which are read as they are written: of others the last digit may differ.
        any::<i32>().prop_map(|half| Value::from(f64::from(half) / 2.0)),
        word.clone().prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 16, 4, move |inner| {
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(Value::from),
            vec((word.clone(), inner), 0..4).prop_map(|pairs| pairs.into_iter().collect()),
        ]
    })
}

/// Replaces what `path` leads to; each number takes one way down.
fn replace(document: &mut Value, path: &[usize], by: Value) {
    let Some((step, rest)) = path.split_first() else {
        *document = by;
        return;
    };
    let below = match document {
        Value::Object(map) => (step.checked_rem(map.len())).and_then(|step| map.values_mut().nth(step)),
        Value::Array(list) => (step.checked_rem(list.len())).and_then(|step| list.get_mut(step)),
        _ => None,
    };
    match below {
        Some(below) => replace(below, rest, by),
        None => *document = by,
    }
}

/// A manifest, an index and an image config, with all that they may have.
fn documents() -> [Value; 3] {
    let digest = Digest::of(b"").to_string();
    let descriptor = json!({
        "mediaType": media_type::OCI_LAYER, "digest": digest, "size": 7, "annotations": {"a": "b"}, "urls": ["http://x/"],
        "platform": {"os": "linux", "architecture": "arm", "variant": "v7"},
    });
    [
        json!({
            "schemaVersion": 2, "mediaType": media_type::OCI_MANIFEST, "config": descriptor, "layers": [descriptor, descriptor],
            "subject": descriptor, "annotations": {"a": "b"},
        }),
        json!({"schemaVersion": 2, "mediaType": media_type::OCI_INDEX, "manifests": [descriptor, descriptor], "annotations": {}}),
        json!({
            "os": "linux", "architecture": "amd64", "created": "2020-01-01T00:00:00Z",
            "config": {
                "Env": ["A=b"], "Cmd": ["sh"], "Entrypoint": null, "User": "1:2", "ExposedPorts": {"1/tcp": {}}, "Volumes": {"/v": {}},
                "Labels": {"l": "v"}, "WorkingDir": "/", "StopSignal": "TERM", "Healthcheck": {"Test": ["NONE"], "Interval": 5},
            },
            "rootfs": {"type": "layers", "diff_ids": [digest]}, "history": [{"created_by": "x", "empty_layer": true}],
        }),
    ]
}

/// What is read is written so that it is read as the same.
fn read_all(bytes: &[u8]) {
    if let Ok(manifest) = Manifest::parse(bytes) {
        assert_eq!(Manifest::parse(&manifest.to_bytes()).expect("our own"), manifest);
    }
    if let Ok(index) = Index::parse(bytes) {
        assert_eq!(Index::parse(&index.to_bytes()).expect("our own"), index);
    }
    if let Ok(config) = ImageConfig::parse(bytes) {
        let again = ImageConfig::parse(&config.to_bytes()).expect("our own");
        assert_eq!((again.to_bytes(), again.platform()), (config.to_bytes(), config.platform()));
    }
}

/// 2000 cases, or as many times that as `BUILDD_CASES` says.
pub(crate) fn many() -> ProptestConfig {
    ProptestConfig::with_cases(2000_u32.saturating_mul(crate::random::times()))
}

struct Nowhere;

impl ImportSink for Nowhere {
    fn put(&mut self, _: archive::File, data: &mut dyn std::io::Read) -> Result<(Digest, u64), Error> {
        let mut bytes = Vec::new();
        data.read_to_end(&mut bytes)
            .map_err(|source| Error::ReadArchive { operation: "a file".to_owned(), source })?;
        Ok((Digest::of(&bytes), bytes.len() as u64))
    }
}

/// An archive with these two documents at its top.
fn archive_of(layout: &[u8], index: &[u8], manifest: &[u8]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    let manifest_blob = format!("blobs/sha256/{}", Digest::of(manifest).hex());
    for (name, bytes) in [("oci-layout", layout), ("index.json", index), (&manifest_blob, manifest)] {
        let mut header = tar::Header::new_ustar();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        builder.append_data(&mut header, name, bytes).expect("memory");
    }
    builder.into_inner().expect("memory")
}

proptest! {
    #![proptest_config(many())]

    #[test]
    fn any_document_is_read_or_refused(which in 0usize..3, path in vec(0usize..8, 0..5), by in any_json()) {
        let mut document = documents()[which].clone();
        read_all(document.to_string().as_bytes());
        replace(&mut document, &path, by);
        read_all(document.to_string().as_bytes());
    }

    #[test]
    fn any_bytes_of_a_document_may_change(which in 0usize..3, changes in vec((any::<usize>(), any::<u8>()), 1..8), cut in any::<usize>()) {
        let mut bytes = documents()[which].to_string().into_bytes();
        for (at, byte) in changes {
            let at = at % bytes.len();
            bytes[at] = byte;
        }
        read_all(&bytes);
        read_all(&bytes[..cut % bytes.len()]);
    }

    #[test]
    fn any_index_of_an_archive_is_read_or_refused(path in vec(0usize..8, 0..4), by in any_json(), in_layout: bool) {
        let [manifest, mut index, _] = documents();
        let manifest = manifest.to_string();
        let target = Descriptor::new(media_type::OCI_MANIFEST, Digest::of(manifest.as_bytes()), manifest.len() as u64);
        index["manifests"] = json!([target]);
        let mut layout = json!({"imageLayoutVersion": "1.0.0"});
        replace(if in_layout { &mut layout } else { &mut index }, &path, by);
        let bytes = archive_of(layout.to_string().as_bytes(), index.to_string().as_bytes(), manifest.as_bytes());
        for image in archive::import(bytes.as_slice(), &mut Nowhere).unwrap_or_default() {
            prop_assert_eq!(image.target.digest, target.digest);
        }
    }

    #[test]
    fn any_media_type_has_one_kind_at_most(text in "(application/|vnd\\.|oci\\.|docker\\.|image\\.|layer\\.v1|\\.tar|\\+gzip|\\+zstd|manifest|index|\\.v2\\+json|[a-z;=/]){0,8}") {
        let kinds = [media_type::is_manifest, media_type::is_index, media_type::is_layer, media_type::is_config];
        prop_assert!(kinds.iter().filter(|kind| kind(&text)).count() <= 1, "{}", text);
        let _ = (media_type::is_foreign(&text), media_type::compression_of(&text));
    }

    #[test]
    fn any_text_is_a_name_or_is_refused(text in "[ab0:/@._\\-\\[\\]%A-Z \\n]{0,24}|[a-z0-9./:-]{1,12}(@sha256:[0-9a-f]{60,66})?") {
        if let Ok(name) = Reference::parse(&text) {
            let shown = name.to_string();
            prop_assert_eq!(Reference::parse(&shown).expect("our own").to_string(), shown.clone());
            prop_assert!(!shown.contains(char::is_whitespace));
        }
        if let Ok(digest) = text.parse::<Digest>() {
            prop_assert_eq!(digest.to_string(), text.clone());
        }
        if let Ok(platform) = text.parse::<Platform>() {
            prop_assert_eq!(platform.to_string().parse::<Platform>().expect("our own"), platform);
        }
    }
}
