//! Identity: the names and numbers that a step is given, checked before they get into files and system calls.
//!
//! They come from a definition that anybody may have written. A host's name with a line end would be a line of its own in `/etc/hosts`
//! (RUN-13); a number that is no mode of ours must never mean less containment than the least (RUN-11).

use std::net::IpAddr;

use buildd_api::buildkit::pb;

/// Longest name of a host, as kernels and DNS have it.
const MAX_HOSTNAME: usize = 64;
/// Longest name in `/etc/hosts`, as DNS has it.
const MAX_HOST: usize = 253;
/// Most further names in `/etc/hosts`: the file is written anew for every step.
const MAX_HOSTS: usize = 1000;

/// What is wrong: the kind of thing, its name, and why.
type Fault<'a> = (&'static str, &'a str, &'static str);

/// Checks the names of a process's machine and of the hosts it is told.
pub(super) fn check(meta: &pb::Meta) -> Result<(), Fault<'_>> {
    if !meta.hostname.is_empty() && !is_name(&meta.hostname, MAX_HOSTNAME) {
        return Err((
            "host name",
            &meta.hostname,
            "it has letters, digits, dots and dashes, and at most 64 of them",
        ));
    }
    if meta.extra_hosts.len() > MAX_HOSTS {
        return Err(("hosts", "", "there are more than 1000"));
    }
    for host in &meta.extra_hosts {
        if !is_name(&host.host, MAX_HOST) {
            return Err((
                "host",
                &host.host,
                "its name has letters, digits, dots and dashes, and at most 253 of them",
            ));
        }
        if host.ip.parse::<IpAddr>().is_err() {
            return Err(("address of a host", &host.ip, "it is no IP address"));
        }
    }
    Ok(())
}

fn is_name(text: &str, most: usize) -> bool {
    let fine = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    !text.is_empty() && text.len() <= most && text.chars().all(fine)
}

/// Checks that every mode of a step is one that we know.
pub(super) fn check_modes(op: &pb::ExecOp) -> Result<(), &'static str> {
    pb::NetMode::try_from(op.network).map_err(|_| "its network mode is not known")?;
    pb::SecurityMode::try_from(op.security).map_err(|_| "its security mode is not known")?;
    for mount in &op.mounts {
        pb::MountType::try_from(mount.mount_type).map_err(|_| "the type of a mount is not known")?;
        let sharing = mount.cache_opt.as_ref().map_or(0, |options| options.sharing);
        pb::CacheSharingOpt::try_from(sharing).map_err(|_| "the sharing of a cache mount is not known")?;
    }
    for secret in &op.secretenv {
        if secret.name.is_empty() || secret.name.contains(['=', '\n', '\0']) {
            return Err("a secret's variable has a name that no environment can have");
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn run_11_modes_that_are_none_are_refused() {
        let mount = |kind, sharing| pb::Mount {
            mount_type: kind,
            cache_opt: Some(pb::CacheOpt { sharing, ..pb::CacheOpt::default() }),
            ..pb::Mount::default()
        };
        let secret = |name: &str| pb::SecretEnv { name: name.to_owned(), ..pb::SecretEnv::default() };
        let op = pb::ExecOp::default;
        let wrong = [
            pb::ExecOp { network: 99, ..op() },
            pb::ExecOp { network: -1, ..op() },
            pb::ExecOp { security: 2, ..op() },
            pb::ExecOp { security: -1, ..op() },
            pb::ExecOp { mounts: vec![mount(77, 0)], ..op() },
            pb::ExecOp { mounts: vec![mount(3, 9)], ..op() },
            pb::ExecOp { secretenv: vec![secret("A=B")], ..op() },
            pb::ExecOp { secretenv: vec![secret("A\nB")], ..op() },
            pb::ExecOp { secretenv: vec![secret("")], ..op() },
        ];
        for op in wrong {
            assert!(check_modes(&op).is_err(), "{op:?}");
        }
        let fine = pb::ExecOp { security: 1, network: 2, mounts: vec![mount(3, 2)], ..op() };
        assert_eq!(check_modes(&fine), Ok(()));
    }

    #[test]
    fn run_13_names_with_lines_and_paths_are_refused() {
        let host = |host: &str, ip: &str| pb::HostIp { host: host.to_owned(), ip: ip.to_owned() };
        let meta = |hostname: &str, extra_hosts| pb::Meta {
            hostname: hostname.to_owned(),
            extra_hosts,
            ..pb::Meta::default()
        };
        let long = "h".repeat(65);
        for hostname in ["a\nb", "../x", "a/b", "a b", long.as_str(), "\u{e9}"] {
            assert!(check(&meta(hostname, Vec::new())).is_err(), "{hostname:?}");
        }
        for (name, ip) in [
            ("x\n5.6.7.8 bank", "1.2.3.4"),
            ("x", "1.2.3.4 y\n5.6.7.8"),
            ("", "1.2.3.4"),
            ("x", ""),
            ("x y", "::1"),
        ] {
            assert!(check(&meta("", vec![host(name, ip)])).is_err(), "{name:?} {ip:?}");
        }
        let many = vec![host("x", "::1"); MAX_HOSTS + 1];
        assert!(check(&meta("", many)).is_err());
        assert!(
            check(&meta("build-1.local", vec![host("db_1", "10.0.0.1"), host("six", "fe80::1")])).is_ok()
        );
    }
}
