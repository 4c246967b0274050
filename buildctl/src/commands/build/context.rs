//! Context: what PATH and `-f` mean: folders to serve, a URL for the daemon, or standard input.

use std::{
    collections::BTreeMap,
    io::Read as _,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};
use buildd_fs::nearest::nearest;
use tempfile::TempDir;

use super::layout::Layout;
use crate::session::Upload;

/// Bytes that show whether standard input is an archive: the magic of a tar header ends at 262.
const HEAD_BYTES: usize = 512;
/// Largest Dockerfile.
const DOCKERFILE_BYTES: u64 = 16 << 20;

/// The sources of a build in docker's way.
#[derive(Debug, Default)]
pub(super) struct Sources {
    /// Folders to serve by name.
    pub(super) locals: BTreeMap<String, PathBuf>,
    /// OCI layouts to serve by name.
    pub(super) layouts: BTreeMap<String, PathBuf>,
    /// Options that say the same to the frontend.
    pub(super) opts: BTreeMap<String, String>,
    /// A tar on standard input.
    pub(super) upload: Option<Upload>,
    /// Folders that live as long as the build.
    pub(super) temporary: Vec<TempDir>,
}

/// Finds the context and the Dockerfile.
pub(super) fn find(path: &str, file: Option<&str>) -> Result<Sources> {
    let mut sources = Sources::default();
    if path == "-" {
        if file == Some("-") {
            bail!("context and Dockerfile cannot both come from standard input");
        }
        from_stdin(file, &mut sources)?;
        return Ok(sources);
    }
    if is_url(path) {
        sources.opts.insert("context".to_owned(), path.to_owned());
        if let Some(file) = file {
            sources.opts.insert("filename".to_owned(), file.to_owned());
        }
        return Ok(sources);
    }
    let context = Path::new(path);
    let metadata = std::fs::metadata(context).with_context(|| format!("read the build context {path}"))?;
    if !metadata.is_dir() {
        bail!("the build context {path} is not a folder");
    }
    sources.locals.insert("context".to_owned(), context.to_owned());
    match file {
        Some("-") => {
            let text = read_dockerfile(Vec::new())?;
            dockerfile_text(&text, &mut sources)?;
        }
        Some(file) => dockerfile(Path::new(file), &mut sources)?,
        None => dockerfile(&default_dockerfile(context), &mut sources)?,
    }
    Ok(sources)
}

/// A further context by name: a folder to serve, or what the daemon finds by itself.
pub(super) fn named(
    name: &str,
    value: &str,
    opts: &mut BTreeMap<String, String>,
    sources: &mut Sources,
) -> Result<()> {
    let key = format!("context:{name}");
    if is_url(value) || value.starts_with("docker-image://") || value == "scratch" {
        opts.insert(key, value.to_owned());
        return Ok(());
    }
    if let Some(text) = value.strip_prefix("oci-layout://") {
        let layout = Layout::find(text).with_context(|| format!("--build-context {name}"))?;
        // The daemon knows it by a name that says nothing of this machine.
        let store = crate::id::new_id();
        opts.insert(key, format!("oci-layout://{store}@{}", layout.digest));
        sources.layouts.insert(store, layout.folder);
        return Ok(());
    }
    if let Some((scheme, _)) = value.split_once("://") {
        bail!(
            "--build-context {name}: {scheme}:// is not supported: give a folder, a URL, a repository, docker-image://NAME or oci-layout://FOLDER"
        );
    }
    let folder = Path::new(value.strip_prefix("local:").unwrap_or(value));
    let metadata = std::fs::metadata(folder)
        .with_context(|| format!("--build-context {name}: read {}", folder.display()))?;
    if !metadata.is_dir() {
        bail!("--build-context {name}: {} is not a folder", folder.display());
    }
    // As the daemon asks for it; `context` and `dockerfile` are the build's own.
    let local = format!("named-{name}");
    opts.insert(key, format!("local:{local}"));
    sources.locals.insert(local, folder.to_owned());
    Ok(())
}

fn is_url(path: &str) -> bool {
    ["http://", "https://", "git://", "ssh://", "git@", "github.com/"]
        .iter()
        .any(|scheme| path.starts_with(scheme))
}

/// `Dockerfile`, else `dockerfile`, as docker finds it.
fn default_dockerfile(context: &Path) -> PathBuf {
    let (upper, lower) = (context.join("Dockerfile"), context.join("dockerfile"));
    if !upper.exists() && lower.exists() { lower } else { upper }
}

fn dockerfile(path: &Path, sources: &mut Sources) -> Result<()> {
    let metadata = std::fs::metadata(path).with_context(|| no_dockerfile(path))?;
    if metadata.is_dir() {
        bail!("the Dockerfile {} is a folder", path.display());
    }
    let name = path.file_name().and_then(|name| name.to_str());
    let name = name.with_context(|| format!("the name of {} is not UTF-8", path.display()))?;
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    sources.locals.insert("dockerfile".to_owned(), dir.to_owned());
    sources.opts.insert("filename".to_owned(), name.to_owned());
    Ok(())
}

/// That it is not there, and which file beside may be meant.
fn no_dockerfile(path: &Path) -> String {
    let shown = format!("no Dockerfile at {}", path.display());
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let names: Vec<String> = std::fs::read_dir(dir)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect();
    let near = path.file_name().and_then(|name| name.to_str()).and_then(|name| nearest(name, &names));
    match near {
        Some(near) => format!("{shown} (did you mean {near:?}? name it with -f)"),
        None => shown,
    }
}

fn dockerfile_text(text: &[u8], sources: &mut Sources) -> Result<()> {
    let dir = tempfile::Builder::new().prefix("buildctl-").tempdir().context("make a temporary folder")?;
    std::fs::write(dir.path().join("Dockerfile"), text).context("keep the Dockerfile of standard input")?;
    sources.locals.insert("dockerfile".to_owned(), dir.path().to_owned());
    sources.opts.insert("filename".to_owned(), "Dockerfile".to_owned());
    sources.temporary.push(dir);
    Ok(())
}

fn read_dockerfile(mut head: Vec<u8>) -> Result<Vec<u8>> {
    std::io::stdin().take(DOCKERFILE_BYTES + 1).read_to_end(&mut head).context("read standard input")?;
    if head.len() as u64 > DOCKERFILE_BYTES {
        bail!("the Dockerfile on standard input is larger than {DOCKERFILE_BYTES} bytes");
    }
    Ok(head)
}

fn from_stdin(file: Option<&str>, sources: &mut Sources) -> Result<()> {
    let mut head = Vec::new();
    std::io::stdin().take(HEAD_BYTES as u64).read_to_end(&mut head).context("read standard input")?;
    if head.is_empty() {
        bail!("standard input is empty: a tar or a Dockerfile is expected");
    }
    if is_archive(&head) {
        let upload = Upload { path: crate::id::new_id(), head };
        sources.opts.insert("context".to_owned(), upload.url());
        if let Some(file) = file {
            sources.opts.insert("filename".to_owned(), file.to_owned());
        }
        sources.upload = Some(upload);
        return Ok(());
    }
    if file.is_some() {
        bail!("-f names a file of a tar, but standard input is no tar");
    }
    let text = read_dockerfile(head)?;
    dockerfile_text(&text, sources)?;
    let empty = tempfile::Builder::new().prefix("buildctl-").tempdir().context("make a temporary folder")?;
    sources.locals.insert("context".to_owned(), empty.path().to_owned());
    sources.temporary.push(empty);
    Ok(())
}

/// Whether these bytes begin a tar, plain or compressed.
fn is_archive(head: &[u8]) -> bool {
    const MAGICS: [&[u8]; 4] = [b"\x1f\x8b", b"BZh", b"\xfd7zXZ\0", b"\x28\xb5\x2f\xfd"];
    MAGICS.iter().any(|magic| head.starts_with(magic)) || head.get(257..262) == Some(b"ustar")
}

#[cfg(test)]
mod tests;
