//! Content digest: how an entry of a tree enters a digest: its name, kind, mode, owner, link target, attributes and bytes, and no times.
//!
//! `checksum` hashes trees that it reads, a session those that a client sends: both by this, so that they agree.
//!
//! # Sources
//! design cache-model.md; spec solver 2.2, "contenthash".

use std::os::unix::ffi::OsStrExt;

use buildd_oci::digest::{Digest, Digester};
use buildd_store::layer::{Entry, EntryKind};

/// What stands for the bytes of a file.
pub(crate) type ContentHash = blake3::Hash;

/// Digest of a whole tree that is known entry by entry, in the order of their paths; files with the digests of their bytes.
pub(crate) fn listed<'a>(entries: impl Iterator<Item = (&'a Entry, Option<ContentHash>)>) -> Digest {
    let mut digester = Digester::default();
    for (entry, content) in entries {
        header(entry, &mut digester);
        if let Some(content) = content {
            digester.update(content.as_bytes());
        }
        if let EntryKind::Hardlink(target) = &entry.kind {
            digester.update(target.as_os_str().as_bytes());
            digester.update(&[0]);
        }
    }
    digester.finish()
}

/// What of an entry is not its bytes.
pub(crate) fn header(entry: &Entry, digester: &mut Digester) {
    let mut field = |bytes: &[u8]| {
        digester.update(&(bytes.len() as u64).to_le_bytes());
        digester.update(bytes);
    };
    field(entry.path.as_os_str().as_bytes());
    match &entry.kind {
        EntryKind::Directory | EntryKind::OpaqueDirectory => field(b"d"),
        EntryKind::File { .. } | EntryKind::Hardlink(_) => field(b"f"),
        EntryKind::Symlink(target) => {
            field(b"l");
            field(target.as_os_str().as_bytes());
        }
        EntryKind::Char(major, minor) => field(format!("c{major}:{minor}").as_bytes()),
        EntryKind::Block(major, minor) => field(format!("b{major}:{minor}").as_bytes()),
        EntryKind::Fifo => field(b"p"),
        EntryKind::Whiteout | EntryKind::Opaque => field(b"w"),
    }
    // A link's own mode means nothing and differs between file systems.
    let mode = if matches!(entry.kind, EntryKind::Symlink(_)) { 0 } else { entry.mode };
    for number in [mode, entry.uid, entry.gid] {
        field(&number.to_le_bytes());
    }
    for (name, value) in &entry.xattrs {
        field(name.as_bytes());
        field(value);
    }
}
