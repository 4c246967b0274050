//! Failures: an error of a build as its client needs it, with the place in the Dockerfile, the vertex and the exit code.

use buildd_api::{
    buildkit::pb,
    error_detail::{Detail, Position, Range, Source, SourceText},
};
use buildd_oci::ErrorKind;
use buildd_solver::{op::OpError, scheduler::SolveError};
use tonic::Status;

use crate::status;

/// What a user can do where something is used up.
const FULL: &str = "free some space: `buildctl prune`, or `buildctl image rm`";

/// A frontend's error; `hint` is the remedy if it knows none itself.
pub(crate) fn of_frontend(error: &buildd_frontend::Error, hint: Option<String>) -> Status {
    let details: Vec<Detail> = error.location().cloned().map(Detail::Source).into_iter().collect();
    status::detailed(error.kind(), &status::text(error, error.hint().or(hint)), &details)
}

/// The error of a definition, or of one of its vertexes; `hint` is a better remedy than its own, `kept` names what a step left.
pub(crate) fn of_solver(
    error: &SolveError,
    definition: &pb::Definition,
    hint: Option<String>,
    kept: Option<Detail>,
) -> Status {
    match error {
        SolveError::Vertex { vertex, error, .. } => {
            let full = || (error.kind == ErrorKind::ResourceExhausted).then(|| FULL.to_owned());
            let hint = hint.or_else(|| error.hint.clone()).or_else(full);
            of_vertex(&vertex.to_string(), error, definition, hint, kept)
        }
        SolveError::Definition(_) | SolveError::Output { .. } => {
            Status::invalid_argument(status::text(error, None))
        }
    }
}

/// The error of an export.
pub(crate) fn of_op(error: &OpError) -> Status {
    status::detailed(error.kind, &status::text(error, error.hint.clone()), &[])
}

fn of_vertex(
    vertex: &str,
    error: &OpError,
    definition: &pb::Definition,
    hint: Option<String>,
    kept: Option<Detail>,
) -> Status {
    let mut details: Vec<Detail> = locations(definition, vertex).into_iter().map(Detail::Source).collect();
    details.extend(kept);
    details.push(Detail::Vertex(vertex.to_owned()));
    let text = status::text(error, hint);
    if let Some(code) = error.exit_code {
        details.push(Detail::Exit { code, error: text.clone() });
    }
    status::detailed(error.kind, &text, &details)
}

/// Where a vertex stands in the texts that its definition came from.
fn locations(definition: &pb::Definition, vertex: &str) -> Vec<Source> {
    let Some(source) = &definition.source else { return Vec::new() };
    let Some(found) = source.locations.get(vertex) else { return Vec::new() };
    let info = |index: i32| usize::try_from(index).ok().and_then(|index| source.infos.get(index));
    let locations =
        found.locations.iter().filter_map(|location| Some((location, info(location.source_index)?)));
    locations
        .map(|(location, info)| Source {
            info: SourceText {
                filename: info.filename.clone(),
                data: info.data.clone(),
                language: info.language.clone(),
            },
            ranges: location.ranges.iter().map(range).collect(),
        })
        .collect()
}

fn range(range: &pb::Range) -> Range {
    let position = |position: Option<pb::Position>| {
        let position = position.unwrap_or_default();
        Position { line: position.line, character: position.character }
    };
    Range { start: position(range.start), end: position(range.end) }
}
