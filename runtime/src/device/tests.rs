//! What requests find in CDI specs, and what of them a step gets.
use super::*;

const SPEC: &str = r#"
cdiVersion: "0.6.0"
kind: "vendor.example/gadget"
annotations:
  org.mobyproject.buildkit.device.autoallow: true
containerEdits:
  env: [ALL=1]
devices:
- name: b
  annotations: {org.mobyproject.buildkit.device.class: fast}
  containerEdits:
    deviceNodes:
    - {path: /dev/gadget, hostPath: /dev/null, fileMode: 416}
    mounts:
    - {hostPath: /etc/hostname, containerPath: /etc/gadget, options: [ro, bind]}
    additionalGids: [44, 0]
- name: a
  annotations: {org.mobyproject.buildkit.device.autoallow: "false"}
  containerEdits:
    env: [A=1]
"#;
const OTHER: &str = r#"{"cdiVersion": "0.5.0", "kind": "other.example/x", "devices": [
  {"name": "hooked", "containerEdits": {"hooks": [{"hookName": "prestart", "path": "/bin/true"}]}},
  {"name": "netted", "containerEdits": {"netDevices": []}},
  {"name": "outside", "containerEdits": {"deviceNodes": [{"path": "/etc/passwd"}]}},
  {"name": "above", "containerEdits": {"deviceNodes": [{"path": "/dev/../etc/x", "hostPath": "/dev/null"}]}},
  {"name": "file", "containerEdits": {"deviceNodes": [{"path": "/dev/x", "hostPath": "/etc/hostname"}]}},
  {"name": "gone", "containerEdits": {"mounts": [{"hostPath": "/nowhere", "containerPath": "/x"}]}},
  {"name": "root", "containerEdits": {"mounts": [{"hostPath": "/etc", "containerPath": "/"}]}},
  {"name": "tmpfs", "containerEdits": {"mounts": [{"hostPath": "x", "containerPath": "/x", "type": "tmpfs"}]}}
]}"#;

fn devices() -> (tempfile::TempDir, Devices) {
    let dir = tempfile::tempdir().expect("a folder");
    let (low, high) = (dir.path().join("low"), dir.path().join("high"));
    for (folder, name, text) in [
        (&low, "gadget.yaml", SPEC),
        (&low, "other.json", OTHER),
        (&low, "notes.txt", "no spec"),
        (
            &high,
            "more.yml",
            "kind: vendor.example/gadget\ndevices:\n- {name: c, containerEdits: {env: [C=1]}}\n",
        ),
        (
            &high,
            "same.yaml",
            "kind: vendor.example/gadget\ndevices:\n- {name: a, containerEdits: {env: [A=2]}}\n",
        ),
        (&high, "broken.yaml", "kind: [\n"),
    ] {
        std::fs::create_dir_all(folder).expect("a folder");
        std::fs::write(folder.join(name), text).expect("a spec");
    }
    (dir, Devices::new(vec![low, high, "/nowhere".into()]))
}

fn grant(devices: &Devices, names: &[&str]) -> Result<Granted> {
    let request = |name: &&str| DeviceRequest { name: (*name).to_owned(), optional: false };
    devices.grant(&names.iter().map(request).collect::<Vec<_>>())
}

#[test]
fn requests_name_one_device_or_several() {
    let (_dir, devices) = devices();
    for (names, env) in [
        (&["vendor.example/gadget=a"][..], "A=2"),
        (&["vendor.example/gadget=b"], "ALL=1"),
        (&["vendor.example/gadget"], "A=2"),
        (&["vendor.example/gadget=*"], "A=2 ALL=1 C=1"),
        (&["fast"], "ALL=1"),
        (&["fast", "vendor.example/gadget=b", "vendor.example/gadget=c"], "ALL=1 C=1"),
    ] {
        assert_eq!(grant(&devices, names).expect("found").env.join(" "), env, "{names:?}");
    }
    let granted = grant(&devices, &["fast"]).expect("found");
    assert_eq!(granted.groups, [44], "not the group of root");
    let node = DeviceNode {
        path: "/dev/gadget".into(),
        kind: 'c',
        major: 1,
        minor: 3,
        mode: 0o640,
        uid: None,
        gid: None,
    };
    assert_eq!(granted.nodes, [node]);
    let [mount] = granted.mounts.as_slice() else { panic!("{:?}", granted.mounts) };
    assert_eq!(mount.target, Path::new("/etc/gadget"));
    assert!(matches!(mount.kind, StepMountKind::Bind { writable: false, nodev: true, .. }), "{mount:?}");
}

#[test]
fn what_is_missing_or_would_reach_the_host_is_refused_by_name() {
    let (_dir, devices) = devices();
    for (name, words) in [
        ("vendor.example/gadget=d", "broken.yaml"),
        ("vendor.example/gadgets=a", "did you mean vendor.example/gadget=a?"),
        ("slow", "no CDI spec"),
        ("other.example/x=hooked", "hooks"),
        ("other.example/x=netted", "netDevices"),
        ("other.example/x=outside", "not below /dev"),
        ("other.example/x=above", "not below /dev"),
        ("other.example/x=file", "no device node"),
        ("other.example/x=gone", "/nowhere"),
        ("other.example/x=root", "no plain path"),
        ("other.example/x=tmpfs", "tmpfs"),
    ] {
        let refused = grant(&devices, &[name]).expect_err(name).to_string();
        assert!(refused.contains(name) && refused.contains(words), "{name}: {refused}");
    }
    let optional = [DeviceRequest { name: "vendor.example/gadget=d".to_owned(), optional: true }];
    assert!(devices.grant(&optional).expect("done without").env.is_empty());
    assert!(grant(&devices, &["fast"; MAX_DEVICES + 1]).is_err());
    let none = grant(&Devices::default(), &["fast"]).expect_err("none").to_string();
    assert!(none.contains("there are no CDI specs"), "{none}");
}

#[test]
fn an_administrator_allows_devices_to_every_build() {
    let (_dir, devices) = devices();
    for (name, allowed) in [
        ("vendor.example/gadget=b", true),
        ("fast", true),
        // Of a file that says nothing, and of several that do not all say so.
        ("vendor.example/gadget=c", false),
        ("vendor.example/gadget=*", false),
        ("other.example/x=hooked", false),
        ("nowhere", false),
    ] {
        assert_eq!(devices.allowed(name), allowed, "{name}");
    }
}
