//! Capabilities: what clients may ask of us. Each one listed works today; clients act on every one.
//!
//! # Sources
//! moby/buildkit: `frontend/gateway/pb/caps.go`, `solver/pb/caps.go`.

use buildd_api::buildkit::moby::buildkit::v1::apicaps::ApiCap;

const FRONTEND: &[&str] = &[
    "solve.base",
    "solve.inlinereturn",
    "resolveimage",
    "resolveimage.resolvemode",
    "readfile",
    "return",
    "returnmap",
    "readdir",
    "statfile",
    "proto.refarray",
    "reference.output",
    "frontend.inputs",
    "gateway.solve.metadata",
    "gateway.evaluate.solve",
    "gateway.evaluate",
    "gateway.warnings",
    "source.metaresolver",
];

const LLB: &[&str] = &[
    "source.image",
    "source.image.resolvemode",
    "source.ocilayout",
    "source.local",
    "source.local.unique",
    "source.local.sessionid",
    "source.local.includepatterns",
    "source.local.followpaths",
    "source.local.excludepatterns",
    "source.local.sharedkeyhint",
    "source.local.differ",
    "source.git",
    "source.git.keepgitdir",
    "source.git.fullurl",
    "source.git.httpauth",
    "source.git.knownsshhosts",
    "source.git.mountsshsock",
    "source.git.subdir",
    "source.git.checksum",
    "source.git.skipsubmodules",
    "source.git.mtime",
    "source.git.fetchbycommit",
    "source.http",
    "source.http.auth",
    "source.http.checksum",
    "source.http.perm",
    // Compat: the name as everybody else has it.
    "soruce.http.uidgid",
    "exec.meta.base",
    "exec.meta.cwd",
    "exec.meta.env",
    "exec.meta.user",
    "exec.meta.network",
    "exec.meta.extrahosts",
    "exec.meta.cdi",
    "exec.mount.bind",
    "exec.mount.bind.readwrite.nooutput",
    "exec.mount.cache",
    "exec.mount.cache.sharing",
    "exec.mount.selector",
    "exec.mount.tmpfs",
    "exec.mount.tmpfs.size",
    "exec.mount.secret",
    "exec.mount.ssh",
    "file.base",
    "file.rm.wildcard",
    "file.copy.includeexcludepatterns",
    "file.copy.alwaysreplaceexistingdestpaths",
    "mergeop",
    "constraints",
    "platform",
    "meta.ignorecache",
    "meta.description",
    "meta.exportcache",
    "exporter.image.annotations",
    "exporter.multiple",
];

fn enabled(ids: &[&str]) -> Vec<ApiCap> {
    ids.iter().map(|id| ApiCap { id: (*id).to_owned(), enabled: true, ..ApiCap::default() }).collect()
}

/// What `LLBBridge` answers.
pub(crate) fn frontend() -> Vec<ApiCap> {
    enabled(FRONTEND)
}

/// What definitions may contain.
pub(crate) fn llb() -> Vec<ApiCap> {
    enabled(LLB)
}
