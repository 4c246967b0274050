//! `build`: parses flags, opens a session, solves, and reports what was made.
//!
//! Two ways of speaking meet here. Docker's: a PATH and flags such as `-t`. BuildKit's: `--frontend`, `--local` and `--opt`, or an LLB definition on
//! standard input. Both become one `Solve` and one session ([`plan`]); [`solve`] carries it out.

pub(super) mod call;
mod context;
mod layout;
pub(super) mod limits;
mod on_error;
mod output;
mod plan;
mod solve;

use std::{collections::HashMap, path::PathBuf, process::ExitCode};

use anyhow::{Context as _, Result, bail};

use crate::{client::Client, global::Global, output as out, progress::Mode};

use limits::Limits;

/// Flags of `build`.
#[derive(Debug, clap::Args)]
pub(crate) struct BuildArgs {
    /// The build context: a folder, a URL, or - for a tar or a Dockerfile on standard input.
    #[arg(value_name = "PATH|URL|-")]
    pub(super) path: Option<String>,
    /// Name of the image: NAME[:TAG]. May be repeated.
    #[arg(long = "tag", short = 't', value_name = "NAME", help_heading = "Docker's flags")]
    pub(super) tags: Vec<String>,
    /// The Dockerfile; PATH/Dockerfile by default, - for standard input.
    #[arg(long, short = 'f', value_name = "FILE", help_heading = "Docker's flags")]
    pub(super) file: Option<String>,
    /// Build up to this stage.
    #[arg(long, value_name = "STAGE", help_heading = "Docker's flags")]
    pub(super) target: Option<String>,
    /// A build argument: KEY=VALUE, or KEY from the environment. May be repeated.
    #[arg(long, value_name = "KEY[=VALUE]", help_heading = "Docker's flags")]
    pub(super) build_arg: Vec<String>,
    /// A label of the image: KEY=VALUE. May be repeated.
    #[arg(long, value_name = "KEY=VALUE", help_heading = "Docker's flags")]
    pub(super) label: Vec<String>,
    /// Run every step, whatever the cache knows.
    #[arg(long)]
    pub(super) no_cache: bool,
    /// Say of each step that runs why the cache had nothing for it.
    #[arg(long)]
    pub(super) explain_cache: bool,
    /// When a step fails: fail, or shell for a shell in its files, with its mounts and environment.
    #[arg(long, value_name = "WHAT", default_value = "fail", value_parser = ["fail", "shell"])]
    pub(super) on_error: String,
    /// Run every step of these stages.
    #[arg(long, value_name = "STAGE", value_delimiter = ',', help_heading = "Docker's flags")]
    pub(super) no_cache_filter: Vec<String>,
    /// Push the image to the registry of its name: short for --output type=registry.
    #[arg(long, help_heading = "Docker's flags")]
    pub(super) push: bool,
    /// Keep the image in the daemon's store, which is where it is anyway without --output.
    #[arg(long, help_heading = "Docker's flags", conflicts_with = "push")]
    pub(super) load: bool,
    /// Ask the registry for base images even if they are here.
    #[arg(long, help_heading = "Docker's flags")]
    pub(super) pull: bool,
    /// Platforms to build for: linux/amd64.
    #[arg(long, value_name = "PLATFORM", value_delimiter = ',', help_heading = "Docker's flags")]
    pub(super) platform: Vec<String>,
    /// A further host name: NAME:ADDRESS. May be repeated.
    #[arg(long, value_name = "NAME:ADDRESS", help_heading = "Docker's flags")]
    pub(super) add_host: Vec<String>,
    /// Network of RUN: default, none or host.
    #[arg(long, value_name = "MODE", value_parser = ["default", "none", "host"], help_heading = "Docker's flags")]
    pub(super) network: Option<String>,
    /// Size of /dev/shm in RUN: 64MB.
    #[arg(long, value_name = "SIZE", help_heading = "Docker's flags")]
    pub(super) shm_size: Option<String>,
    /// A limit in RUN: nofile=1024:2048. May be repeated.
    #[arg(long, value_name = "LIMIT", help_heading = "Docker's flags")]
    pub(super) ulimit: Vec<String>,
    /// The control group in which each RUN gets its own.
    #[arg(long, value_name = "PATH", help_heading = "Docker's flags")]
    pub(super) cgroup_parent: Option<String>,
    #[command(flatten)]
    pub(super) limits: Limits,
    /// Write the image's digest to this file.
    #[arg(long, value_name = "FILE", help_heading = "Docker's flags")]
    iidfile: Option<PathBuf>,
    /// Show no progress; print the image's digest.
    #[arg(long, short = 'q')]
    quiet: bool,
    /// What to make of the result: type=image|oci|docker|tar|local,dest=.., a folder, or -. May be repeated.
    #[arg(long, short = 'o', value_name = "OUTPUT")]
    pub(super) output: Vec<String>,
    /// How to show progress: auto, plain, tty, rawjson, quiet.
    #[arg(long, default_value = "auto", value_name = "MODE", value_parser = Mode::parse)]
    progress: Mode,
    /// A secret for RUN --mount=type=secret: id=ID,src=FILE or id=ID,env=NAME. May be repeated.
    #[arg(long, value_name = "SECRET")]
    pub(super) secret: Vec<String>,
    /// An ssh agent for RUN --mount=type=ssh and git: default, or ID=SOCKET, or ID=KEY. May be repeated.
    #[arg(long, value_name = "default|ID[=SOCKET|KEY]")]
    pub(super) ssh: Vec<String>,
    /// Another context for FROM, COPY --from and RUN --mount: NAME=DIR, or a URL, a git repository, docker-image://NAME,
    /// oci-layout://FOLDER[:TAG|@DIGEST]. May be repeated.
    #[arg(long, value_name = "NAME=VALUE", help_heading = "Docker's flags")]
    pub(super) build_context: Vec<String>,
    /// Grant an entitlement: network.host, security.insecure, device, device=NAME. May be repeated.
    #[arg(long, value_name = "ENTITLEMENT", value_delimiter = ',')]
    pub(super) allow: Vec<String>,
    /// Write what the exporters said, as JSON.
    #[arg(long, value_name = "FILE")]
    metadata_file: Option<PathBuf>,
    /// Ask about the Dockerfile instead of building: check, outline, targets, describe or convertllb, and `,format=json`.
    #[arg(long, value_name = "METHOD", conflicts_with = "check", help_heading = "Docker's flags")]
    pub(super) call: Option<String>,
    /// Check the Dockerfile instead of building: short for --call=check.
    #[arg(long, help_heading = "Docker's flags")]
    pub(super) check: bool,
    /// The frontend: dockerfile.v0.
    #[arg(long, value_name = "NAME", help_heading = "BuildKit's flags")]
    pub(super) frontend: Option<String>,
    /// A folder that the frontend may read: NAME=DIR. May be repeated.
    #[arg(long, value_name = "NAME=DIR", help_heading = "BuildKit's flags")]
    pub(super) local: Vec<String>,
    /// An OCI layout that the frontend may read images of: NAME=DIR. May be repeated.
    #[arg(long, value_name = "NAME=DIR", help_heading = "BuildKit's flags")]
    pub(super) oci_layout: Vec<String>,
    /// An option of the frontend: KEY=VALUE. May be repeated.
    #[arg(long, value_name = "KEY=VALUE", help_heading = "BuildKit's flags")]
    pub(super) opt: Vec<String>,
    #[command(flatten)]
    later: Later,
}

/// Flags that other clients know and that we refuse by name, so that nobody believes they did something.
#[derive(Debug, clap::Args)]
struct Later {
    #[arg(long, hide = true, num_args = 0..=1)]
    import_cache: Option<Vec<String>>,
    #[arg(long, hide = true, num_args = 0..=1)]
    export_cache: Option<Vec<String>>,
    #[arg(long, hide = true, num_args = 0..=1)]
    cache_from: Option<Vec<String>>,
    #[arg(long, hide = true, num_args = 0..=1)]
    cache_to: Option<Vec<String>>,
    #[arg(long, hide = true, num_args = 0..=1)]
    attest: Option<Vec<String>>,
    #[arg(long, hide = true, num_args = 0..=1)]
    sbom: Option<Vec<String>>,
    #[arg(long, hide = true, num_args = 0..=1)]
    provenance: Option<Vec<String>>,
    #[arg(long, hide = true, num_args = 0..=1)]
    source_policy_file: Option<Vec<String>>,
    #[arg(long, hide = true)]
    squash: bool,
}

impl Later {
    fn refuse(&self) -> Result<()> {
        let flags = [
            ("--import-cache", self.import_cache.is_some()),
            ("--export-cache", self.export_cache.is_some()),
            ("--cache-from", self.cache_from.is_some()),
            ("--cache-to", self.cache_to.is_some()),
            ("--attest", self.attest.is_some()),
            ("--sbom", self.sbom.is_some()),
            ("--provenance", self.provenance.is_some()),
            ("--source-policy-file", self.source_policy_file.is_some()),
            ("--squash", self.squash),
        ];
        match flags.iter().find(|(_, given)| *given) {
            Some((name, _)) => bail!("{name} is not supported yet"),
            None => Ok(()),
        }
    }
}

/// Builds.
pub(crate) async fn run(global: &Global, args: BuildArgs) -> Result<ExitCode> {
    args.later.refuse()?;
    let plan = plan::plan(&args).await?;
    let client = Client::connect(global).await?;
    let mode = if args.quiet { Mode::Quiet } else { args.progress };
    let made_nothing = plan.request.exporters.is_empty();
    let call = plan.call.clone();
    let response = solve::solve(&client, plan, mode).await?;
    if let Some(call) = call {
        return call.show(&response);
    }
    let digest = response.get("containerimage.digest");
    if let Some(path) = &args.iidfile {
        let digest = digest.context("--iidfile: this output has no image")?;
        std::fs::write(path, digest).with_context(|| format!("write {}", path.display()))?;
    }
    if let Some(path) = &args.metadata_file {
        let text = metadata(&response)?;
        std::fs::write(path, text).with_context(|| format!("write {}", path.display()))?;
    }
    match digest {
        Some(digest) if args.quiet => out::line(digest)?,
        _ if made_nothing && !args.quiet => {
            out::note(
                "note: the result stays in the build cache only; name an image with -t or an output with -o",
            );
        }
        _ => {}
    }
    Ok(ExitCode::SUCCESS)
}

/// The exporters' answers as one JSON object; values that are base64 of JSON are shown as JSON, as BuildKit does.
fn metadata(response: &HashMap<String, String>) -> Result<String> {
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    let mut map = serde_json::Map::new();
    for (key, text) in response {
        let decoded = STANDARD.decode(text).ok();
        let object = decoded.and_then(|bytes| serde_json::from_slice::<serde_json::Value>(&bytes).ok());
        let value = object.filter(|value| value.is_object() || value.is_array());
        let value = value.unwrap_or_else(|| serde_json::Value::String(text.clone()));
        map.insert(key.clone(), value);
    }
    Ok(serde_json::to_string_pretty(&map)? + "\n")
}
