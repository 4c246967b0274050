//! Parts: what the key of a RUN is made of, in the words of those who write them, so that a miss can say what changed.
//!
//! What is no part of the key (proxies, addresses of hosts, what caches are called) is none here; of each part only a fingerprint is kept.

use buildd_api::buildkit::pb;
use buildd_oci::platform::Platform;
use buildd_solver::op::{Parts, fingerprint};
use prost::Message as _;

/// The parts of a step, but for the files that it reads.
pub(super) fn of(op: &pb::ExecOp, meta: &pb::Meta, platform: &Platform) -> Parts {
    let mut parts = Parts::new();
    let mut put = |name: String, is: &str| parts.insert(name, fingerprint(is.as_bytes()));
    put("the command".to_owned(), &meta.args.join("\0"));
    put("the user".to_owned(), &meta.user);
    put("the working folder".to_owned(), &meta.cwd);
    put("the host name".to_owned(), &meta.hostname);
    put("the network".to_owned(), op.network().as_str_name());
    put("the security mode".to_owned(), op.security().as_str_name());
    put("the platform".to_owned(), &platform.to_string());
    put("the control group".to_owned(), &meta.cgroup_parent);
    for entry in &meta.env {
        let (name, value) = entry.split_once('=').unwrap_or((entry, ""));
        put(format!("variable {name}"), value);
    }
    for secret in &op.secretenv {
        put(format!("secret variable {}", secret.name), &secret.id);
    }
    for host in &meta.extra_hosts {
        put(format!("host {}", host.host), "");
    }
    for limit in &meta.ulimit {
        put(format!("limit {}", limit.name), &format!("{}:{}", limit.soft, limit.hard));
    }
    for device in &op.cdi_devices {
        put(format!("device {}", device.name), &device.optional.to_string());
    }
    for mount in op.mounts.iter().filter(|mount| mount.dest != "/") {
        let mut plain = mount.clone();
        // What it shows is an input, told as such.
        (plain.input, plain.output) = (0, 0);
        plain.selector.clear();
        plain.result_id.clear();
        if let Some(cache) = &mut plain.cache_opt {
            cache.id.clear();
            cache.sharing = 0;
        }
        parts.insert(format!("mount {}", mount.dest), fingerprint(&plain.encode_to_vec()));
    }
    parts
}

#[cfg(test)]
mod tests;
