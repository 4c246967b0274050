//! Groups of this machine, made, filled and removed.

use super::*;
use crate::{
    device::DeviceNode,
    passwd::StepUser,
    step::{Cpu, Network},
};

fn step(limits: StepLimits) -> StepSpec {
    StepSpec {
        rootfs: PathBuf::new(),
        args: Vec::new(),
        env: Vec::new(),
        cwd: String::new(),
        user: StepUser::default(),
        hostname: String::new(),
        stdin: false,
        terminal: false,
        mounts: Vec::new(),
        devices: Vec::new(),
        network: Network::None,
        security: Security::Sandbox,
        ulimits: Vec::new(),
        shm_size: 0,
        limits,
        cgroup_parent: String::new(),
    }
}

#[test]
fn a_group_has_its_limits_and_goes_with_its_value() {
    let path = format!("/buildd-unit-{}/step", std::process::id());
    let cpu = Cpu { shares: Some(512), period: Some(50_000), quota: Some(25_000), ..Cpu::default() };
    let limits = StepLimits { cpu, ..StepLimits::new(17, 64 << 20) };
    let group = Cgroup::create(&path, &step(limits)).expect("a group: root and a hierarchy are needed");
    let folders: Vec<PathBuf> = group.folders().map(|(folder, _)| folder.to_owned()).collect();
    let value = |names: &[&str]| {
        let mut files = folders.iter().flat_map(|folder| names.iter().map(|name| folder.join(name)));
        files.find_map(|file| fs::read_to_string(file).ok()).expect("one of these files").trim().to_owned()
    };
    assert_eq!(value(&["pids.max"]), "17");
    assert_eq!(value(&["memory.limit_in_bytes", "memory.max"]), (64 << 20).to_string());
    let rules = folders.iter().find_map(|folder| fs::read_to_string(folder.join("devices.list")).ok());
    if let Some(rules) = rules {
        assert!(rules.contains("c 1:3 rwm") && !rules.contains("a *:*"), "{rules}");
        assert_eq!(value(&["cpu.shares"]), "512");
        assert_eq!(value(&["cpu.cfs_quota_us"]), "25000");
    }
    // Whoever joins is in all of them until it ends, and they go after it.
    let mut child = std::process::Command::new("sleep").arg("600").spawn().expect("a process");
    for Joined { folder, join, .. } in &group.joined {
        fs::write(folder.join(join), child.id().to_string()).expect("moved");
    }
    assert_eq!(group.oom_kills(), 0);
    child.kill().and_then(|()| child.wait()).expect("killed");
    drop(group);
    for folder in folders {
        assert!(!folder.exists(), "{} is left", folder.display());
        fs::remove_dir(folder.parent().expect("the test's own group")).expect("nothing else is in it");
    }
}

#[test]
fn a_step_may_have_some_processors_only() {
    let path = format!("/buildd-unit-cpus-{}/deep/step", std::process::id());
    let cpu = Cpu { cpus: "0".to_owned(), ..Cpu::default() };
    let limits = StepLimits { cpu, ..StepLimits::new(17, 64 << 20) };
    let group = Cgroup::create(&path, &step(limits)).expect("a group: root and a hierarchy are needed");
    let folders: Vec<PathBuf> = group.folders().map(|(folder, _)| folder.to_owned()).collect();
    let cpus = folders.iter().find_map(|folder| fs::read_to_string(folder.join("cpuset.cpus")).ok());
    assert_eq!(cpus.expect("a group of processors").trim(), "0");
    drop(group);
    for folder in folders {
        for parent in folder.ancestors().skip(1).take(2) {
            fs::remove_dir(parent).expect("nothing else is in it");
        }
    }
}

#[test]
fn f_19_a_group_goes_with_what_was_made_in_it_and_when_nothing_runs_there() {
    let name = format!("unit-{}", std::process::id());
    let group = Cgroup::of_program(&name, &StepLimits::new(17, 64 << 20)).expect("a group: root is needed");
    let folder = group.folders().next().expect("a group").0.to_owned();
    let nested = folder.join("inner/most");
    fs::create_dir_all(&nested).expect("groups in it");
    let mut child = std::process::Command::new("sleep").arg("600").spawn().expect("a process");
    fs::write(nested.join("cgroup.procs"), child.id().to_string()).expect("moved");
    let removing = thread::spawn(move || drop(group));
    assert!(!remove(&folder) && nested.exists(), "something runs in it");
    assert!(!left(Duration::ZERO).contains(&nested), "and is told of only where nothing does");
    child.kill().and_then(|()| child.wait()).expect("killed");
    removing.join().expect("removed");
    assert!(!folder.exists());
}

#[test]
fn f_19_what_a_crash_left_is_told_of_and_swept_when_it_is_old_and_empty() {
    let name = format!("unit-left-{}", std::process::id());
    let mut group =
        Cgroup::of_program(&name, &StepLimits::new(17, 64 << 20)).expect("a group: root is needed");
    let folder = group.folders().next().expect("a group").0.to_owned();
    let all = std::mem::take(&mut group.joined);
    assert!(left(Duration::ZERO).contains(&folder) && !abandoned().contains(&folder));
    let mut child = std::process::Command::new("sleep").arg("600").spawn().expect("a process");
    fs::write(folder.join("cgroup.procs"), child.id().to_string()).expect("moved");
    assert!(!left(Duration::ZERO).contains(&folder), "something runs in it");
    child.kill().and_then(|()| child.wait()).expect("killed");
    drop(Cgroup { joined: all });
    assert!(!folder.exists());
}

#[test]
fn a_group_is_made_though_those_it_lies_in_go_with_the_last_of_them() {
    let parent = format!("/buildd-unit-parent-{}", std::process::id());
    let once = |path: &str| {
        let group = Cgroup::create(path, &step(StepLimits::new(17, 64 << 20))).expect("a group");
        let folders: Vec<PathBuf> = group.folders().map(|(folder, _)| folder.to_owned()).collect();
        drop(group);
        // As whoever removes a task does: the kernel refuses while there is another group.
        for folder in folders {
            let _ = fs::remove_dir(folder.parent().expect("a parent"));
        }
    };
    thread::scope(|scope| {
        for step in 0..4 {
            let path = format!("{parent}/step-{step}");
            scope.spawn(move || (0..200).for_each(|_| once(&path)));
        }
    });
    let mut trees = nested(Path::new(HIERARCHIES)).chain([HIERARCHIES.into()]);
    assert!(!trees.any(|tree| tree.join(&parent[1..]).exists()));
}

#[test]
fn a_group_that_cannot_be_limited_is_named() {
    let dir = tempfile::tempdir().expect("a folder");
    let limits = StepLimits::new(1, 1);
    fs::create_dir(dir.path().join("pids")).expect("a folder");
    let error = Cgroup::create_below(dir.path(), "/a/b", &step(limits)).expect_err("no kernel's files");
    assert!(error.to_string().contains("pids/a/b/pids.max"), "{error}");
}

/// A group in a tree of version 2, which machines of version 1 have beside the others.
struct Unified(PathBuf);

impl Unified {
    fn new() -> Self {
        let trees = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"].map(Path::new);
        let tree =
            trees.into_iter().find(|tree| tree.join("cgroup.procs").exists()).expect("a tree of version 2");
        let group = tree.join(format!("buildd-unit-devices-{}", std::process::id()));
        fs::create_dir(&group).expect("a group");
        Self(group)
    }
}

impl Drop for Unified {
    fn drop(&mut self) {
        drop(Cgroup { joined: vec![Joined { folder: self.0.clone(), tree: "", join: "cgroup.procs" }] });
    }
}

#[test]
fn a_program_opens_the_devices_that_the_rules_allow_and_no_others() {
    let group = Unified::new();
    let mut spec = step(StepLimits::new(1, 1));
    spec.devices.push(DeviceNode {
        path: "/dev/given".into(),
        kind: 'c',
        major: 1,
        minor: 11,
        mode: 0o600,
        uid: None,
        gid: None,
    });
    devices::restrict(&group.0, &devices::rules(&spec).expect("rules"))
        .expect("a program that the kernel takes");
    let dir = tempfile::tempdir().expect("a folder");
    let script = format!(
        "echo 0 > {}/cgroup.procs && cd {} || exit 9
        for node in 'null c 1 3' 'zero c 1 5' 'given c 1 11' 'mem c 1 1' 'disk b 7 0' 'fuse c 10 229'; do
            set -- $node; mknod $1 $2 $3 $4 || exit 8
            if (exec 3< $1) 2> why; then echo $1 opens; else grep -q 'not permitted' why && echo $1 is refused; fi
        done",
        group.0.display(),
        dir.path().display()
    );
    let ran = std::process::Command::new("sh").args(["-c", &script]).output().expect("a shell");
    let told = String::from_utf8_lossy(&ran.stdout);
    let wanted =
        ["null opens", "zero opens", "given opens", "mem is refused", "disk is refused", "fuse is refused"];
    assert_eq!(told.lines().collect::<Vec<_>>(), wanted, "{}", String::from_utf8_lossy(&ran.stderr));
}

#[test]
fn rules_are_written_as_version_1_reads_them() {
    let spec = step(StepLimits::new(1, 1));
    let rules: Vec<String> = devices::rules(&spec).expect("rules").iter().map(devices::Rule::text).collect();
    assert_eq!(
        (rules[0].as_str(), rules[8].as_str(), rules[10].as_str()),
        ("c 1:3 rwm", "c 136:* rwm", "b *:* m")
    );
}
