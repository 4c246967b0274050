//! Groups of this machine, made, filled and removed.

use super::*;
use crate::step::{Cpu, Network, StepUser};

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
    let limits = StepLimits { pids: 17, memory: 64 << 20, swap: None, cpu };
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
    let limits = StepLimits { pids: 17, memory: 64 << 20, swap: None, cpu };
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
fn a_group_that_cannot_be_limited_is_named() {
    let dir = tempfile::tempdir().expect("a folder");
    let limits = StepLimits { pids: 1, memory: 1, swap: None, cpu: Cpu::default() };
    fs::create_dir(dir.path().join("pids")).expect("a folder");
    let error = Cgroup::create_below(dir.path(), "/a/b", &step(limits)).err().expect("no kernel's files");
    assert!(error.to_string().contains("pids/a/b/pids.max"), "{error}");
}
