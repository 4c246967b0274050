//! Each component of a step is a part of its own.

use super::*;

type Step = (pb::ExecOp, pb::Meta, Platform);
type Change = (&'static str, fn(&mut Step));

fn step() -> Step {
    let mount = |dest: &str, kind: pb::MountType| pb::Mount {
        dest: dest.to_owned(),
        mount_type: kind as i32,
        cache_opt: Some(pb::CacheOpt::default()),
        ..pb::Mount::default()
    };
    let mounts = vec![
        mount("/", pb::MountType::Bind),
        mount("/a", pb::MountType::Bind),
        mount("/c", pb::MountType::Cache),
    ];
    let meta =
        pb::Meta { env: vec!["A=1".into(), "B=1".into()], args: vec!["sh".into()], ..pb::Meta::default() };
    (pb::ExecOp { mounts, ..pb::ExecOp::default() }, meta, Platform::new("linux", "amd64", ""))
}

#[test]
fn what_changes_is_told_and_nothing_else() {
    let before = step();
    let before = of(&before.0, &before.1, &before.2);
    let changes: [Change; 15] = [
        ("the command", |step| step.1.args.push("-x".into())),
        ("the user", |step| step.1.user = "me".into()),
        ("the working folder", |step| step.1.cwd = "/w".into()),
        ("the network", |step| step.0.network = pb::NetMode::None as i32),
        ("the security mode", |step| step.0.security = pb::SecurityMode::Insecure as i32),
        ("the platform", |step| step.2 = Platform::new("linux", "arm64", "")),
        ("variable B", |step| step.1.env[1] = "B=2".into()),
        ("variable C", |step| step.1.env.push("C=".into())),
        ("variable A", |step| drop(step.1.env.remove(0))),
        ("mount /a", |step| step.0.mounts[1].readonly = true),
        ("mount /c", |step| drop(step.0.mounts.pop())),
        ("device x/y=z", |step| {
            step.0.cdi_devices.push(pb::CdiDevice { name: "x/y=z".into(), optional: false });
        }),
        ("secret variable S", |step| {
            step.0.secretenv.push(pb::SecretEnv { id: "s".into(), name: "S".into(), optional: false });
        }),
        ("host h", |step| step.1.extra_hosts.push(pb::HostIp { host: "h".into(), ip: "192.0.2.1".into() })),
        ("limit nofile", |step| {
            step.1.ulimit.push(pb::Ulimit { name: "nofile".into(), soft: 1, hard: 2 });
        }),
    ];
    for (part, change) in changes {
        let mut changed = step();
        change(&mut changed);
        let now = of(&changed.0, &changed.1, &changed.2);
        let names = now.keys().chain(before.keys()).collect::<std::collections::BTreeSet<_>>();
        let told: Vec<_> = names.into_iter().filter(|name| now.get(*name) != before.get(*name)).collect();
        assert_eq!(told, [part]);
    }
}

#[test]
fn what_is_no_part_of_the_key_is_none_here() {
    let before = step();
    let mut now = step();
    now.0.mounts[2].cache_opt = Some(pb::CacheOpt { id: "other".into(), sharing: 1 });
    now.0.mounts[1].selector = "/elsewhere".into();
    now.1.proxy_env = Some(pb::ProxyEnv { http_proxy: "http://u:p@proxy".into(), ..pb::ProxyEnv::default() });
    assert_eq!(of(&now.0, &now.1, &now.2), of(&before.0, &before.1, &before.2));
}
