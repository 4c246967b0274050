//! Compiles containerd's .proto files, as packaged by `containerd-client`, to tonic clients and servers.
use std::{path::PathBuf, process::Command};

use prost_types::{
    DescriptorProto, FieldDescriptorProto, FileDescriptorSet,
    field_descriptor_proto::{Label, Type},
};

const BASE: &str = "github.com/containerd/containerd/api";
const SERVICES: &[&str] = &[
    "containers/v1/containers",
    "content/v1/content",
    "diff/v1/diff",
    "events/v1/events",
    "images/v1/images",
    "introspection/v1/introspection",
    "leases/v1/leases",
    "namespaces/v1/namespace",
    "snapshots/v1/snapshots",
    "streaming/v1/streaming",
    "tasks/v1/tasks",
    "transfer/v1/transfer",
    "version/v1/version",
];
const EVENTS: &[&str] = &["container", "content", "image", "namespace", "snapshot", "task"];
const TRANSFER: &[&str] = &["imagestore", "importexport", "progress", "registry", "streaming"];

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed=Cargo.toml");
    let include = package_dir("containerd-client").join("vendor");
    let files = SERVICES
        .iter()
        .map(|s| format!("{BASE}/services/{s}.proto"))
        .chain(EVENTS.iter().map(|s| format!("{BASE}/events/{s}.proto")))
        .chain(TRANSFER.iter().map(|s| format!("{BASE}/types/transfer/{s}.proto")))
        .chain([format!("{BASE}/types/runc/options/oci.proto")]);
    let mut set = protox::compile(files, [&include]).expect("compile containerd's .proto files");
    // prost-build panics on the source info of a patched set.
    for file in &mut set.file {
        file.source_code_info = None;
    }
    patch(&mut set);
    let mut config = prost_build::Config::new();
    config.enable_type_names();
    tonic_prost_build::configure()
        .build_server(true)
        .build_client(true)
        .include_file("containerd.rs")
        .compile_fds_with_config(set, config)
        .expect("generate containerd's services");
}

/// Fields newer than the packaged files (containerd 2.x api).
fn patch(set: &mut FileDescriptorSet) {
    for file in &mut set.file {
        if file.package() != "containerd.types" {
            continue;
        }
        for message in &mut file.message_type {
            if message.name() == "Platform" {
                add(message, "os_features", 5, Type::String, Label::Repeated);
            }
        }
    }
}

fn add(message: &mut DescriptorProto, name: &str, number: i32, kind: Type, label: Label) {
    if message.field.iter().any(|f| f.number() == number) {
        return;
    }
    message.field.push(FieldDescriptorProto {
        name: Some(name.into()),
        number: Some(number),
        label: Some(label as i32),
        r#type: Some(kind as i32),
        json_name: Some(name.into()),
        ..Default::default()
    });
}

/// Where cargo unpacked a dependency of ours: from `cargo metadata`, which fetches it first if need be.
fn package_dir(name: &str) -> PathBuf {
    let manifest = format!("{}/Cargo.toml", std::env::var("CARGO_MANIFEST_DIR").expect("set by cargo"));
    let out = Command::new(std::env::var("CARGO").expect("set by cargo"))
        .args(["metadata", "--format-version", "1", "--locked", "--manifest-path", &manifest])
        .output()
        .expect("run cargo metadata");
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let metadata: serde_json::Value =
        serde_json::from_slice(&out.stdout).expect("cargo metadata prints JSON");
    let packages = metadata["packages"].as_array().expect("packages is a list");
    let package = packages.iter().find(|p| p["name"] == name).expect("listed in Cargo.toml");
    let manifest = package["manifest_path"].as_str().expect("a path");
    PathBuf::from(manifest).parent().expect("a file in a folder").to_owned()
}
