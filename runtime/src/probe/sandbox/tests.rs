//! Every hole in a sandbox that the probe can see is named.

use super::*;

fn outside() -> BTreeMap<String, String> {
    ["pid", "ipc", "uts", "mnt", "net"].map(|name| (name.to_owned(), format!("{name}:[1]"))).into()
}

/// What a step of a sound worker finds.
fn sound() -> Facts {
    let caps = format!("{:016x}", CAPABILITIES.bits());
    let status = [
        ("Seccomp", "2"),
        ("CapBnd", &caps),
        ("CapPrm", &caps),
        ("CapEff", &caps),
        ("CapInh", "0000000000000000"),
        ("CapAmb", "0000000000000000"),
    ];
    Facts {
        status: status.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
        descriptors: vec![0, 1, 2],
        namespaces: outside().into_iter().map(|(name, link)| (name, link + "2")).collect(),
        processes: 1,
        threads: 14,
        ..Facts::default()
    }
}

#[test]
fn a_sound_sandbox_lacks_nothing() {
    assert_eq!(judge(&sound(), &outside(), Network::None), Vec::<String>::new());
    let mut host = sound();
    host.namespaces.insert("net".to_owned(), "net:[1]".to_owned());
    assert_eq!(judge(&host, &outside(), Network::Host), Vec::<String>::new());
}

#[test]
fn every_planted_hole_is_named_and_no_other() {
    type Plant = fn(&mut Facts);
    let plants: [(Plant, &str); 17] = [
        (|f| drop(f.status.insert("Seccomp".into(), "0".into())), "no seccomp filter"),
        (|f| drop(f.status.remove("Seccomp")), "no seccomp filter"),
        (|f| drop(f.status.insert("CapBnd".into(), "000001ffffffffff".into())), "CapBnd"),
        (|f| drop(f.status.insert("CapBnd".into(), "0".into())), "CapBnd"),
        (|f| drop(f.status.insert("CapEff".into(), "00000000a80425fb".into())), "CapEff"),
        (|f| drop(f.status.insert("CapInh".into(), "0000000000000001".into())), "CapInh"),
        (|f| drop(f.status.insert("CapAmb".into(), "0000000000000001".into())), "CapAmb"),
        (|f| f.descriptors.push(7), "open files"),
        (|f| f.descriptors.truncate(2), "open files"),
        (|f| f.readable.push("/proc/kcore".into()), "/proc/kcore can be read"),
        (|f| f.writable.push("/sys/fs/cgroup/pids".into()), "/sys/fs/cgroup/pids is on a mount"),
        (|f| f.bare.push("/proc/keys".into()), "/proc/keys has no mount over it"),
        (|f| f.allowed.push("a socket of AF_ALG".into()), "a socket of AF_ALG is not refused"),
        (|f| drop(f.namespaces.insert("pid".into(), "pid:[1]".into())), "pid is the host's"),
        (|f| drop(f.namespaces.remove("net")), "net is not the host's"),
        (|f| f.processes = 90, "processes"),
        (|f| f.threads = THREADS, "no limit of processes"),
    ];
    for (plant, said) in plants {
        let mut facts = sound();
        plant(&mut facts);
        let lacks = judge(&facts, &outside(), Network::None);
        assert!(lacks.len() == 1 && lacks[0].contains(said), "{said}: {lacks:?}");
    }
}
