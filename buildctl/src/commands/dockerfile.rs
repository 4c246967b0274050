//! `dockerfile`: looks at a Dockerfile without a daemon: its usual form, its checks, its parts, the LLB it means.
//!
//! The frontend is linked in; where it would ask the daemon, [`offline`] answers. A text that does not parse is told with all its faults,
//! each with its excerpt, and exit code 1.

mod graph;
mod offline;

use std::{
    collections::BTreeMap,
    io::{Read as _, Write as _},
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context as _, Result, bail};
use buildd_api::{buildkit::pb, llb::dump};
use buildd_frontend::{Error, FrontendRequest, dockerfile};
use prost::Message as _;

use super::build::call::Call;
use crate::output as out;

/// Largest Dockerfile.
const MAX_TEXT: u64 = 4 << 20;
const STDIN: &str = "-";

/// What to do with a Dockerfile.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum DockerfileCommand {
    /// Print it in its usual form, which means the same.
    Fmt(FmtArgs),
    /// Check it; base images are not looked up, so that nothing is said about variables they may set.
    Lint(LintArgs),
    /// Print its parts with their places, as JSON.
    Ast(FileArg),
    /// Print the LLB it means; base images count as empty.
    Llb(LlbArgs),
    /// Print the graph of that LLB, in DOT.
    Graph(TextArgs),
}

/// Flags of `fmt`.
#[derive(Debug, clap::Args)]
pub(crate) struct FmtArgs {
    /// The Dockerfiles; - for standard input.
    #[arg(value_name = "FILE", default_value = "Dockerfile")]
    files: Vec<String>,
    /// Rewrite the files instead of printing them.
    #[arg(long, short = 'w', conflicts_with = "check")]
    write: bool,
    /// Print the names of the files that are not in their usual form; then the exit code is 1.
    #[arg(long)]
    check: bool,
}

/// One Dockerfile.
#[derive(Debug, clap::Args)]
pub(crate) struct FileArg {
    /// The Dockerfile; - for standard input.
    #[arg(value_name = "FILE", default_value = "Dockerfile")]
    file: String,
}

/// One Dockerfile, and how it is to be read.
#[derive(Debug, clap::Args)]
pub(crate) struct TextArgs {
    #[command(flatten)]
    file: FileArg,
    /// Up to this stage.
    #[arg(long, value_name = "STAGE")]
    target: Option<String>,
    /// A build argument. May be repeated.
    #[arg(long, value_name = "KEY=VALUE")]
    build_arg: Vec<String>,
    /// Platforms to build for: linux/amd64.
    #[arg(long, value_name = "PLATFORM", value_delimiter = ',')]
    platform: Vec<String>,
    /// An option of the frontend. May be repeated.
    #[arg(long, value_name = "KEY=VALUE")]
    opt: Vec<String>,
}

/// Flags of `lint`.
#[derive(Debug, clap::Args)]
pub(crate) struct LintArgs {
    #[command(flatten)]
    text: TextArgs,
    /// text or json.
    #[arg(long, default_value = "text", value_parser = ["text", "json"])]
    format: String,
}

/// Flags of `llb`.
#[derive(Debug, clap::Args)]
pub(crate) struct LlbArgs {
    #[command(flatten)]
    text: TextArgs,
    /// text, or proto for `buildctl build`.
    #[arg(long, default_value = "text", value_parser = ["text", "proto"])]
    format: String,
}

/// Runs a command.
pub(crate) async fn run(command: DockerfileCommand) -> Result<ExitCode> {
    match command {
        DockerfileCommand::Fmt(args) => fmt(&args),
        DockerfileCommand::Lint(args) => lint(&args),
        DockerfileCommand::Ast(args) => {
            let text = read(&args.file)?;
            let ast = dockerfile::ast::Ast::read(&text)
                .map_err(|fault| Error::in_text(fault, &args.file, &text))?;
            out::line(&serde_json::to_string_pretty(&ast.json())?)?;
            Ok(ExitCode::SUCCESS)
        }
        DockerfileCommand::Llb(args) => {
            for (platform, definition) in definitions(&args.text).await? {
                if args.format == "proto" {
                    out::write(&definition.encode_to_vec())?;
                } else {
                    out::write(format!("# {platform}\n{}", dump::text(&definition)).as_bytes())?;
                }
            }
            Ok(ExitCode::SUCCESS)
        }
        DockerfileCommand::Graph(args) => {
            let list = definitions(&args).await?;
            out::write(graph::dot(&list).as_bytes())?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn read(file: &str) -> Result<Vec<u8>> {
    let mut text = Vec::new();
    if file == STDIN {
        std::io::stdin().take(MAX_TEXT + 1).read_to_end(&mut text).context("read standard input")?;
    } else {
        let open = std::fs::File::open(file).with_context(|| format!("open {file}"))?;
        open.take(MAX_TEXT + 1).read_to_end(&mut text).with_context(|| format!("read {file}"))?;
    }
    if text.len() as u64 > MAX_TEXT {
        bail!("{file} is larger than {MAX_TEXT} bytes: no Dockerfile");
    }
    Ok(text)
}

fn fmt(args: &FmtArgs) -> Result<ExitCode> {
    let mut unusual = false;
    for file in &args.files {
        let text = read(file)?;
        let formatted = dockerfile::fmt::format(&text).map_err(|fault| Error::in_text(fault, file, &text))?;
        let differs = formatted.as_bytes() != text;
        if args.check {
            if differs {
                out::line(file)?;
            }
            unusual |= differs;
        } else if args.write {
            if file == STDIN {
                bail!("--write needs a file, not standard input");
            }
            if differs {
                replace(Path::new(file), formatted.as_bytes()).with_context(|| format!("rewrite {file}"))?;
            }
        } else {
            out::write(formatted.as_bytes())?;
        }
    }
    Ok(ExitCode::from(u8::from(unusual)))
}

/// Replaces a file in one step: whatever happens, the old or the new text is there.
fn replace(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let path = path.canonicalize()?;
    let dir = path.parent().unwrap_or(Path::new("/"));
    let mut new = tempfile::Builder::new().prefix(".Dockerfile-").tempfile_in(dir)?;
    new.write_all(bytes)?;
    new.as_file().set_permissions(std::fs::metadata(&path)?.permissions())?;
    new.as_file().sync_all()?;
    new.persist(&path).map_err(|error| error.error)?;
    Ok(())
}

fn options(args: &TextArgs) -> Result<BTreeMap<String, String>> {
    let mut opts = BTreeMap::new();
    for (prefix, list) in [("build-arg:", &args.build_arg), ("", &args.opt)] {
        for text in list {
            let Some((key, value)) = text.split_once('=') else { bail!("{text:?} is not KEY=VALUE") };
            opts.insert(format!("{prefix}{key}"), value.to_owned());
        }
    }
    opts.extend(args.target.iter().map(|target| ("target".to_owned(), target.clone())));
    if !args.platform.is_empty() {
        opts.insert("platform".to_owned(), args.platform.join(","));
    }
    Ok(opts)
}

fn lint(args: &LintArgs) -> Result<ExitCode> {
    let file = &args.text.file.file;
    let text = read(file)?;
    let ignore = ignore_file(file);
    let report = dockerfile::check_text(&text, file, &options(&args.text)?, ignore.as_deref())?;
    let status = if report.is_clean() { "0" } else { "1" };
    let answer = [
        ("result.json", serde_json::to_string_pretty(&report.json())?),
        ("result.txt", report.text()),
        ("result.statuscode", status.to_owned()),
    ];
    let call = if args.format == "json" { Call::parse("check,format=json")? } else { None };
    let answer = answer.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
    call.unwrap_or_else(Call::check).show(&answer)
}

/// The ignore file of the folder that the Dockerfile is in.
fn ignore_file(file: &str) -> Option<String> {
    let own = PathBuf::from(format!("{file}.dockerignore"));
    let general = Path::new(file).with_file_name(".dockerignore");
    [own, general].iter().find_map(|path| std::fs::read_to_string(path).ok())
}

async fn definitions(args: &TextArgs) -> Result<Vec<(String, pb::Definition)>> {
    let file = &args.file.file;
    let bridge = offline::Offline::new(read(file)?, ignore_file(file));
    let request = FrontendRequest { opts: bridge.named(options(args)?, file), ..FrontendRequest::default() };
    let result = dockerfile::solve(&request, &bridge).await?;
    Ok(result
        .refs
        .into_iter()
        .map(|(platform, definition)| (platform, definition.unwrap_or_default()))
        .collect())
}
