//! Subrequests: questions about a text, instead of its build: the option `requestid` of a client.
//!
//! Each answer is metadata without files: `result.json` for programs, `result.txt` for people, `version`, and of checks `result.statuscode`.
//!
//! # Sources
//! moby/buildkit `frontend/subrequests`.

use std::collections::BTreeMap;

use buildd_api::{
    error_detail::{Source, SourceText},
    llb,
};
use buildd_oci::platform::Platform;
use serde_json::{Value, json};

use super::{
    Program, args, build,
    lint::{self, Report, Subject},
    lower::Image,
    named::Named,
    options::Options,
    outline, parse, program, resolve,
    source::Sources,
    stage::{Base, ImageName, Names, Planned},
    syntax,
    variables::Walker,
};
use crate::{Bridge, Error, FrontendResult, REQUEST_OPTION};

/// What can be asked at all: the one question that is not about a text.
pub(super) const DESCRIBE: &str = "frontend.subrequests.describe";
/// The one that is answered by what a build would build.
const CONVERT: &str = "frontend.convertllb";
const OUTLINE: &str = "frontend.outline";
const TARGETS: &str = "frontend.targets";
const LINT: &str = "frontend.lint";
const VERSION: &str = "1.0.0";
/// That of `CONVERT`.
const CONVERT_VERSION: &str = "0.1.0";

/// Answers the request `name`.
pub(super) async fn answer(
    name: &str,
    sources: &Sources,
    options: &Options,
    bridge: &dyn Bridge,
) -> Result<FrontendResult, Error> {
    if ![OUTLINE, TARGETS, LINT, CONVERT].contains(&name) {
        return Err(Error::Subrequest { name: name.to_owned() });
    }
    if name == CONVERT {
        return convert(build(sources, options, bridge).await?);
    }
    if name == LINT {
        return lint(sources, options, bridge).await;
    }
    let program = program(sources, options).map_err(|fault| sources.error(fault))?;
    if name == TARGETS {
        let targets = outline::targets(&program.document).map_err(|fault| sources.error(fault))?;
        let mut rows = vec![vec!["TARGET".to_owned(), "DESCRIPTION".to_owned()]];
        rows.extend(targets.iter().map(outline::Target::row));
        let json = json!({ "targets": targets, "sources": [base64(&sources.text)] });
        return Ok(result(&json, columns(&rows, 1)));
    }
    let platform = &platforms(options, bridge)[0];
    let solved = resolve::solve_platform(&program, sources, options, platform, bridge).await?;
    let globals = globals(&program, options, platform, bridge).map_err(|fault| sources.error(fault))?;
    let walker =
        Walker { options, globals: &globals, images: &solved.images, escape: program.document.escape };
    let outline = outline::outline(&program.document, walker, &solved.plan, program.target)
        .map_err(|fault| sources.error(fault))?;
    let mut json = json!(outline);
    json["sources"] = json!([base64(&sources.text)]);
    let tables = outline.tables();
    let padding = |table: &[Vec<String>]| if table[0][0] == "TARGET:" { 1 } else { 3 };
    Ok(result(&json, tables.iter().map(|table| columns(table, padding(table)) + "\n").collect()))
}

/// The platforms that a client asks for; there is at least one.
pub(super) fn platforms(options: &Options, bridge: &dyn Bridge) -> Vec<Platform> {
    match options.platforms.as_slice() {
        [] => vec![bridge.build_platform()],
        list => list.to_vec(),
    }
}

fn globals(
    program: &Program,
    options: &Options,
    platform: &Platform,
    bridge: &dyn Bridge,
) -> Result<Named<String>, crate::error::Fault> {
    args::globals(&program.meta, options, &bridge.build_platform(), platform, program.document.escape)
}

/// Checks a text without asking anybody: its base images stay unknown.
pub fn check_text(
    text: &[u8],
    filename: &str,
    opts: &BTreeMap<String, String>,
    ignore: Option<&str>,
) -> Result<Report, Error> {
    let options = Options::parse(opts)?;
    let error = |fault| Error::in_text(fault, filename, text);
    let source = Source { info: source_text(filename, text), ranges: Vec::new() };
    let program = match syntax::check(text, &options).and_then(|()| parse(text, &options)) {
        Ok(program) => program,
        Err(fault) => return Ok(Report::of_fault(source, &fault)),
    };
    let build = Platform::host();
    let target = options.platforms.first().unwrap_or(&build);
    let escape = program.document.escape;
    let globals = args::globals(&program.meta, &options, &build, target, escape).map_err(error)?;
    let (stages, index) = (&program.stages, &program.names);
    let names = Names { stages, index, options: &options, globals: &globals, target, escape };
    let (mut plan, mut fault) = (BTreeMap::new(), None);
    for index in 0..program.stages.len() {
        match names.plan(index) {
            Ok(planned) => drop(plan.insert(index, planned)),
            Err(error) => fault = fault.or(Some(error)),
        }
    }
    let findings = lint::check(&Subject {
        document: &program.document,
        options: &options,
        globals: &globals,
        plan: &plan,
        images: &BTreeMap::new(),
        ignore,
        defaults: &lint::defaults(&program.meta, &options, &build, target, escape),
    })
    .map_err(error)?;
    let clean = Report { source, findings, fault: None };
    Ok(match fault {
        None => clean,
        Some(fault) => Report { findings: clean.findings, ..Report::of_fault(clean.source, &fault) },
    })
}

fn source_text(filename: &str, text: &[u8]) -> SourceText {
    SourceText { filename: filename.to_owned(), data: text.to_vec(), language: "Dockerfile".to_owned() }
}

/// What was found out about a text before it is checked.
#[derive(Default)]
struct Known {
    plan: BTreeMap<usize, Planned>,
    images: BTreeMap<ImageName, Image>,
}

async fn lint(sources: &Sources, options: &Options, bridge: &dyn Bridge) -> Result<FrontendResult, Error> {
    let source = sources.location(&[]);
    let program = match program(sources, options) {
        Ok(program) => program,
        Err(fault) => return Ok(report(&Report::of_fault(source, &fault))),
    };
    let mut known = Known::default();
    let failed = explore(&program, sources, options, bridge, &mut known).await.err();
    let found = check(&program, &known.plan, &known.images, sources, options, bridge);
    let findings = found.map_err(|fault| sources.error(fault))?;
    let fault = match failed {
        None => None,
        // Not the text's fault: the check itself failed.
        Some(error) if error.location().is_none() => return Err(error),
        Some(error) => {
            let ranges = error.location().map(|location| location.ranges.clone());
            Some((error.chain(), ranges.unwrap_or_default()))
        }
    };
    Ok(report(&Report { source, findings, fault }))
}

/// Finds out all that a check needs; without a target, of all stages.
async fn explore(
    program: &Program,
    sources: &Sources,
    options: &Options,
    bridge: &dyn Bridge,
    known: &mut Known,
) -> Result<(), Error> {
    let platform = &platforms(options, bridge)[0];
    let solved = resolve::solve_platform(program, sources, options, platform, bridge).await?;
    *known = Known { plan: solved.plan, images: solved.images };
    if !options.target.is_empty() {
        return Ok(());
    }
    let globals = globals(program, options, platform, bridge).map_err(|fault| sources.error(fault))?;
    let names = Names {
        stages: &program.stages,
        index: &program.names,
        options,
        globals: &globals,
        target: platform,
        escape: program.document.escape,
    };
    for (index, stage) in program.stages.iter().enumerate() {
        if known.plan.contains_key(&index) {
            continue;
        }
        let planned = names.plan(index).map_err(|fault| sources.error(fault))?;
        if let Base::Image(name) = &planned.base
            && !known.images.contains_key(name)
        {
            let image = resolve::resolve(name, stage.lines, sources, options, bridge).await?;
            known.images.insert(name.clone(), image);
        }
        known.plan.insert(index, planned);
    }
    Ok(())
}

/// Runs the checks over what is known.
pub(super) fn check(
    program: &Program,
    plan: &BTreeMap<usize, Planned>,
    images: &BTreeMap<ImageName, Image>,
    sources: &Sources,
    options: &Options,
    bridge: &dyn Bridge,
) -> Result<Vec<lint::Finding>, crate::error::Fault> {
    let platform = &platforms(options, bridge)[0];
    let globals = globals(program, options, platform, bridge)?;
    let (build, escape) = (bridge.build_platform(), program.document.escape);
    let defaults = lint::defaults(&program.meta, options, &build, platform, escape);
    lint::check(&Subject {
        document: &program.document,
        options,
        globals: &globals,
        plan,
        images,
        ignore: sources.ignore_text(),
        defaults: &defaults,
    })
}

fn report(report: &Report) -> FrontendResult {
    let mut answer = result(&report.json(), report.text());
    let code = if report.is_clean() { "0" } else { "1" };
    answer.metadata.insert("result.statuscode".to_owned(), code.into());
    answer
}

/// What a build would build, of the first platform.
fn convert(built: FrontendResult) -> Result<FrontendResult, Error> {
    let definition = built.refs.into_iter().next().and_then(|(_, definition)| definition).unwrap_or_default();
    let json = llb::json::definition(&definition).map_err(|error| Error::Option {
        option: REQUEST_OPTION.to_owned(),
        reason: format!("{CONVERT}: {error}"),
    })?;
    Ok(of_json(&json, CONVERT_VERSION))
}

/// The questions that are answered.
pub(super) fn describe() -> FrontendResult {
    let metadata = |code: bool| {
        let mut names = vec![json!({ "name": "result.json" }), json!({ "name": "result.txt" })];
        if code {
            names.push(json!({ "name": "result.statuscode" }));
        }
        names
    };
    let request = |name: &str, description: &str, opts: Value, code: bool| {
        json!({
            "name": name, "version": VERSION, "type": "rpc", "description": description,
            "opts": opts, "metadata": metadata(code),
        })
    };
    let target = json!([{ "name": "target", "description": "Target build stage" }]);
    let all = [
        request(OUTLINE, "List all parameters current build target supports", target, false),
        request(TARGETS, "List all targets current build supports", json!([]), false),
        request(LINT, "Lint a Dockerfile", json!([]), true),
        json!({
            "name": CONVERT, "version": CONVERT_VERSION, "type": "rpc", "description": "Convert Dockerfile to LLB",
            "opts": [], "metadata": [{ "name": "result.json" }],
        }),
        request(DESCRIBE, "List available subrequest types", json!([]), false),
    ];
    let mut rows = vec![["NAME", "VERSION", "DESCRIPTION"].map(str::to_owned).to_vec()];
    for request in &all {
        let text = |key: &str| request[key].as_str().unwrap_or_default().to_owned();
        let name = text("name").trim_start_matches("frontend.").to_owned();
        rows.push(vec![name, text("version"), text("description")]);
    }
    result(&json!(all), columns(&rows, 1))
}

fn result(json: &Value, text: String) -> FrontendResult {
    let mut answer = of_json(json, VERSION);
    answer.metadata.insert("result.txt".to_owned(), text.into_bytes());
    answer
}

fn of_json(json: &Value, version: &str) -> FrontendResult {
    let pretty = serde_json::to_vec_pretty(json).expect("values have a JSON form");
    let metadata = [("result.json", pretty), ("version", version.as_bytes().to_vec())];
    let metadata = metadata.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
    FrontendResult { refs: Vec::new(), metadata }
}

fn base64(bytes: &[u8]) -> String {
    json!(source_text("", bytes))["data"].as_str().unwrap_or_default().to_owned()
}

/// Rows with aligned columns, `padding` blanks between them.
fn columns(rows: &[Vec<String>], padding: usize) -> String {
    let count = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |at: usize| rows.iter().filter_map(|row| row.get(at)).map(|c| c.chars().count()).max();
    let widths: Vec<usize> = (0..count).map(|at| width(at).unwrap_or(0) + padding).collect();
    let mut out = String::new();
    for row in rows {
        for (at, cell) in row.iter().enumerate() {
            out.push_str(cell);
            if at + 1 < row.len() {
                out.push_str(&" ".repeat(widths[at] - cell.chars().count()));
            }
        }
        out.push('\n');
    }
    out
}
