//! Missing: why the source of a COPY is not in the context, or no Dockerfile where it was sought, and what may have been meant.
//!
//! The worker knows only the files that came. Whether a rule of the ignore file kept the wanted one out is told by the text that the
//! frontend described the context with; names beside it are asked of the client.

use std::collections::HashMap;

use buildd_api::buildkit::pb;
use buildd_frontend::dockerfile::ignore;
use buildd_fs::nearest::nearest;
use buildd_oci::{ErrorKind, digest::Digest};
use buildd_solver::scheduler::SolveError;
use buildd_worker::{
    Error,
    session::{Sessions, SyncRequest},
};
use prost::Message;

/// Folders that a client is asked about for one hint.
const MAX_ASKED: usize = 8;

/// A context that a vertex reads.
struct Context {
    name: String,
    exclude: Vec<String>,
    ignore: Option<(String, String)>,
}

/// The remedy for a source that is not there; None for other failures.
pub(super) async fn hint(
    error: &SolveError,
    definition: &pb::Definition,
    sessions: &dyn Sessions,
    session: &str,
) -> Option<String> {
    let SolveError::Vertex { vertex, error, .. } = error else { return None };
    let Error::MissingSource { path, nearest: beside } = error.source.downcast_ref::<Error>()? else {
        return None;
    };
    let context = context_of(definition, &vertex.to_string())?;
    if let Some((file, text)) = &context.ignore
        && let Some((line, rule)) = ignore::explain_missing(path, text)
    {
        return Some(format!("line {line} of {file} keeps it out of the context: {rule}"));
    }
    if beside.is_some() {
        return None;
    }
    let near = beside_it(path, context.name, context.exclude, sessions, session).await?;
    Some(format!("did you mean {near:?}?"))
}

/// The remedy for a Dockerfile that is not there; None for other failures.
pub(super) async fn dockerfile_hint(
    error: &buildd_frontend::Error,
    sessions: &dyn Sessions,
    session: &str,
) -> Option<String> {
    let buildd_frontend::Error::Read { what, source } = error else { return None };
    if source.kind != ErrorKind::NotFound {
        return None;
    }
    let near = beside_it(what, "dockerfile".to_owned(), Vec::new(), sessions, session).await?;
    Some(format!("did you mean {near:?}? name it with -f"))
}

/// The client's path nearest to `path`: in the same folder, or beside the first folder on the way there that is missing.
async fn beside_it(
    path: &str,
    local: String,
    exclude: Vec<String>,
    sessions: &dyn Sessions,
    session: &str,
) -> Option<String> {
    let client = sessions.any(&[session.to_owned()]).await.ok()?;
    let mut path = path.trim_matches('/');
    for _ in 0..MAX_ASKED {
        let (folder, name) = path.rsplit_once('/').map_or(("", path), |(folder, name)| (folder, name));
        let pattern = if folder.is_empty() { "*".to_owned() } else { format!("{folder}/*") };
        let (name_of, include, exclude) = (local.clone(), vec![pattern], exclude.clone());
        let request = SyncRequest { name: name_of, include, exclude, ..SyncRequest::default() };
        let listed = client.list_files(request).await.ok()?;
        let names = listed.iter().filter_map(|path| {
            let (above, name) = path.rsplit_once('/').unwrap_or(("", path));
            (above == folder).then_some(name)
        });
        let names: Vec<&str> = names.collect();
        if !names.is_empty() || folder.is_empty() {
            let near = nearest(name, &names)?;
            return Some(if folder.is_empty() { near.to_owned() } else { format!("{folder}/{near}") });
        }
        path = folder;
    }
    None
}

/// The context that a vertex reads, if it reads one.
fn context_of(definition: &pb::Definition, vertex: &str) -> Option<Context> {
    // Once for all: a vertex may have thousands of inputs.
    let ops: HashMap<String, &Vec<u8>> =
        definition.def.iter().map(|bytes| (Digest::of(bytes).to_string(), bytes)).collect();
    let op = |digest: &str| pb::Op::decode(ops.get(digest)?.as_slice()).ok();
    let described = |digest: &str, key: &str| {
        definition.metadata.get(digest).and_then(|metadata| metadata.description.get(key)).cloned()
    };
    op(vertex)?.inputs.iter().find_map(|input| {
        let Some(pb::op::Op::Source(source)) = op(&input.digest)?.op else { return None };
        let exclude = source.attrs.get("local.excludepatterns");
        Some(Context {
            name: source.identifier.strip_prefix("local://")?.to_owned(),
            exclude: exclude.and_then(|list| serde_json::from_str(list).ok()).unwrap_or_default(),
            ignore: described(&input.digest, ignore::NAME_KEY)
                .zip(described(&input.digest, ignore::TEXT_KEY)),
        })
    })
}
