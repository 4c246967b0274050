//! Import: an archive from the client's stream into the store.
//!
//! Blobs come first, names last: an archive that breaks off leaves no image, and its blobs go again.

use std::{collections::BTreeMap, io::Read};

use buildd_api::containerd::containerd::types::transfer::{
    ImageImportStream, ImageReference, ImageStore, UnpackConfiguration,
};
use buildd_fs::pipeline::Limit;
use buildd_oci::{
    ErrorKind,
    archive::{self, Imported},
    descriptor::Descriptor,
    digest::Digest,
    platform::Platform,
};
use buildd_store::{
    Error,
    root::Store,
    snapshot::named::{SNAPSHOTTERS, Scope},
    transfer::{import::Intake, unpack},
};
use tonic::Status;

use super::{
    super::{Services, convert},
    Report, platform,
};

/// Archives that come from clients at once: stops clients that send slowly from taking all threads the daemon may have.
static IMPORTS: Limit = Limit::new("ctr-import", 128);
/// The event of a name that named something else before.
const REPLACED: &str = "replaced";

impl Services {
    /// Imports into what `to` describes, and reports the names.
    pub(super) async fn import(
        &self,
        ns: String,
        from: ImageImportStream,
        to: ImageStore,
        report: &Report,
    ) -> Result<(), Status> {
        let archive = self.streams.take(&ns, &from.stream).await?.into_reader();
        let labels = convert::labels(to.labels.clone())?;
        let names = self.pipeline(&IMPORTS, move |store| receive(store, &ns, archive, &to, &labels)).await?;
        for Saved { name, before } in names {
            if let Some(before) = before {
                tracing::info!(name, %before, "an import gave a name to another image");
                report.event(REPLACED, &format!("{name}, which was {before}"));
            }
            report.event("saved", &name);
        }
        Ok(())
    }
}

/// A name that an archive's image got.
#[derive(Debug)]
struct Saved {
    name: String,
    /// What it named before, if that was something else.
    before: Option<Digest>,
}

/// Stores what an archive has; one that breaks off leaves nothing.
fn receive(
    store: &Store,
    ns: &str,
    from: impl Read + Send,
    to: &ImageStore,
    labels: &BTreeMap<String, String>,
) -> Result<Vec<Saved>, Error> {
    // The names come last.
    let _kept = store.gc_guard();
    let mut intake = Intake::new(store, ns, !to.unpacks.is_empty());
    let done = archive::import(from, &mut intake)
        .map_err(Error::from)
        .and_then(|images| save(store, ns, images, to, labels));
    if done.is_err() {
        intake.undo()?;
    }
    done
}

/// Unpacks what was asked for, then names every image: what cannot be unpacked leaves no name, nor those beside it.
fn save(
    store: &Store,
    ns: &str,
    images: Vec<Imported>,
    to: &ImageStore,
    labels: &BTreeMap<String, String>,
) -> Result<Vec<Saved>, Error> {
    let single = images.iter().filter(|image| image.subject.is_none()).count() == 1;
    let (mut named, mut referring) = (Vec::new(), Vec::new());
    for image in images {
        unpack::label(store, ns, &image.target)?;
        referring.extend(image.subject.map(|subject| (image.target.clone(), subject)));
        if image.subject.is_some() && image.name.is_none() {
            continue;
        }
        let mut names = names_of(&image, &to.extra_references);
        if single && image.subject.is_none() && !to.name.is_empty() {
            names = vec![to.name.clone()];
        }
        if let Some(name) = names.first() {
            unpack_for(store, ns, name, &image.target, &to.unpacks)?;
        }
        named.extend(names.into_iter().map(|name| (name, image.target.clone())));
    }
    if named.is_empty() {
        return Err(Error::NotFound { what: "image name", name: "in the archive; give one".to_owned() });
    }
    for (referrer, subject) in &referring {
        unpack::refer(store, ns, referrer, subject)?;
    }
    let save = |(name, target): (String, Descriptor)| {
        let before = store.images.get(ns, &name).ok().map(|image| image.target.digest);
        store.images.put(ns, &name, &target, labels)?;
        Ok(Saved { name, before: before.filter(|before| *before != target.digest) })
    };
    named.into_iter().map(save).collect()
}

/// Unpacks an image for each platform and snapshotter that was asked for; platforms that it has not are passed over.
fn unpack_for(
    store: &Store,
    ns: &str,
    name: &str,
    target: &Descriptor,
    wanted: &[UnpackConfiguration],
) -> Result<(), Error> {
    for unpacking in wanted {
        let snapshotter = match unpacking.snapshotter.as_str() {
            "" => SNAPSHOTTERS[0],
            named => named,
        };
        let scope = Scope::new(ns, snapshotter)?;
        let platform = unpacking.platform.as_ref().map_or_else(Platform::host, platform);
        let found = match unpack::find_below(store, ns, name, target, &platform) {
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            found => found?,
        };
        if let Some(top) = unpack::unpack(store, ns, &found)? {
            unpack::name(store, &scope, &found, &top)?;
        }
    }
    Ok(())
}

/// The names of an image, each once.
///
/// Compat: every prefix of the client gives one. A whole name of the archive stays as it is, if it begins with the prefix or the client lets
/// others in; a bare tag is put after the prefix; with `add_digest`, so is the digest. Without a prefix whole names stay, and what has none
/// takes the names that the client gave.
fn names_of(image: &Imported, references: &[ImageReference]) -> Vec<String> {
    let (prefixes, given): (Vec<_>, Vec<_>) = references.iter().partition(|reference| reference.is_prefix);
    let mut names = Vec::new();
    if prefixes.is_empty() {
        names.extend(image.name.clone());
    }
    for prefix in prefixes {
        let name = match (&image.name, &image.tag) {
            (Some(name), _) => {
                Some(name).filter(|name| prefix.allow_overwrite || begins(name, &prefix.name)).cloned()
            }
            (None, tag) => tag.as_ref().map(|tag| format!("{}:{tag}", prefix.name)),
        };
        let digest = prefix.add_digest && !(prefix.skip_named_digest && name.is_some());
        names.extend(name);
        names.extend(digest.then(|| format!("{}@{}", prefix.name, image.target.digest)));
    }
    if names.is_empty() && image.name.is_none() {
        names.extend(given.into_iter().map(|reference| reference.name.clone()));
    }
    names.sort();
    names.dedup();
    names
}

/// Whether a name begins with a prefix that ends where a part of the name does.
fn begins(name: &str, prefix: &str) -> bool {
    name.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with(['/', ':', '@']))
}

#[cfg(test)]
mod tests;
