//! What is refused and what is evened out in a client's spec.

use std::path::Path;

use buildd_fs::mounts::Mount;
use serde_json::{Value, json};

use super::*;
use crate::task::Streams;

fn task(change: impl FnOnce(&mut Value)) -> TaskSpec {
    let mut spec = json!({
        "ociVersion": "1.1.0",
        "process": {"user": {"uid": 0, "gid": 0}, "args": ["true"], "cwd": "/", "noNewPrivileges": false},
        "root": {"path": "rootfs"},
        "linux": {},
    });
    change(&mut spec);
    let mount = Mount { kind: "bind".into(), source: "/x".into(), options: vec!["rbind".into()] };
    TaskSpec {
        namespace: "ns".into(),
        id: "c1".into(),
        spec,
        rootfs: vec![mount],
        streams: Streams::default(),
    }
}

fn adapted(change: impl FnOnce(&mut Value)) -> Result<Spec, String> {
    adapt(&task(change), Path::new("/state/tasks/ns/c1"))
}

#[test]
fn the_root_is_the_mounted_one_and_the_cgroup_has_a_place() {
    let spec = adapted(|_| {}).unwrap();
    assert_eq!(spec.root().as_ref().unwrap().path(), Path::new("/state/tasks/ns/c1/rootfs"));
    assert_eq!(spec.linux().as_ref().unwrap().cgroups_path().as_deref(), Some(Path::new("/ns/c1")));
    let spec = adapted(|spec| spec["linux"]["cgroupsPath"] = json!("/a/../../b")).unwrap();
    assert_eq!(spec.linux().as_ref().unwrap().cgroups_path().as_deref(), Some(Path::new("/b")));
}

#[test]
fn a_filter_comes_by_the_annotation_only_and_is_loaded_while_that_is_allowed() {
    let bare = adapted(|_| {}).unwrap();
    assert!(bare.linux().as_ref().unwrap().seccomp().is_none());
    let asked = |spec: &mut Value| spec["annotations"] = json!({"io.buildd.seccomp": "default"});
    let spec = adapted(asked).unwrap();
    assert!(spec.linux().as_ref().unwrap().seccomp().is_some());
    assert_eq!(spec.process().as_ref().unwrap().no_new_privileges(), None);
    let strict = adapted(|spec| {
        asked(spec);
        spec["process"]["noNewPrivileges"] = json!(true);
    });
    assert_eq!(strict.unwrap().process().as_ref().unwrap().no_new_privileges(), Some(true));
    let wrong = adapted(|spec| spec["annotations"] = json!({"io.buildd.seccomp": "unconfined"}));
    assert!(wrong.unwrap_err().contains("unconfined"));
}

#[test]
fn binds_that_reach_masked_files_are_refused() {
    let bind = |target: &str, source: &str| {
        let mount = json!([{"destination": target, "source": source, "type": "bind", "options": ["rbind"]}]);
        adapted(|spec| spec["mounts"] = mount).map(drop)
    };
    for target in ["/proc", "/proc/sys", "/", "/sys/firmware", "/tmp/../proc", "/sys/../proc/1"] {
        assert!(bind(target, "/tmp").unwrap_err().contains("must stay as it is"), "{target}");
    }
    for (target, source) in
        [("/tmp", "/tmp"), ("/process", "/tmp"), ("/sys", "/sys"), ("/etc/hosts", "/etc/hosts")]
    {
        bind(target, source).unwrap();
    }
    let kernel = json!([{"destination": "/proc", "source": "proc", "type": "proc", "options": ["nosuid"]}]);
    adapted(|spec| spec["mounts"] = kernel).unwrap();
}

#[test]
fn run_14_cgroups_that_are_to_be_read_only_are_so_by_their_paths() {
    let cgroup = |access: &str| {
        let mount = json!([{"destination": "/sys/fs/cgroup", "source": "cgroup", "type": "cgroup", "options": [access]}]);
        let spec = adapted(|spec| spec["mounts"] = mount).unwrap();
        spec.linux().as_ref().unwrap().readonly_paths().clone().unwrap_or_default()
    };
    let own = std::fs::read_dir("/sys/fs/cgroup").unwrap().count();
    let paths = cgroup("ro");
    assert_eq!((paths.len(), paths[0].as_str()), (own + 1, "/sys/fs/cgroup"));
    assert_eq!(cgroup("rw"), Vec::<String>::new());
}

#[test]
fn tar_31_the_user_that_is_none_is_refused() {
    for user in [
        json!({"uid": u32::MAX, "gid": 0}),
        json!({"uid": 0, "gid": u32::MAX}),
        json!({"uid": 0, "gid": 0, "additionalGids": [u32::MAX]}),
    ] {
        let refused = adapted(|spec| spec["process"]["user"] = user).unwrap_err();
        assert!(refused.contains("0 to 4294967294"), "{refused}");
    }
}

#[test]
fn a_spec_without_what_a_container_needs_is_refused() {
    let refused = |key: &str| {
        let key = key.to_owned();
        adapted(move |spec| drop(spec.as_object_mut().unwrap().remove(&key))).unwrap_err()
    };
    assert!(refused("root").contains("root"));
    assert!(refused("process").contains("process"));
    let mut nothing = task(|_| {});
    nothing.rootfs.clear();
    assert!(adapt(&nothing, Path::new("/x")).unwrap_err().contains("not absolute"));
}
