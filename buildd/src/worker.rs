//! Worker: what does the work, put together from the configuration.

use std::{
    ffi::OsString,
    io::{self, Write},
    path::Path,
    process::ExitCode,
    sync::Arc,
};

use anyhow::{Context, Result};
use buildd_oci::compress::Growth;
use buildd_runtime::{
    device::Devices,
    probe,
    step::{self, Executor, Network, StepLimits},
    task::{self, Tasks},
};
use buildd_solver::{
    op::OpResolver,
    scheduler::{Solver, SolverOptions},
};
use buildd_store::{
    layer::{LayerFormat, LayerRules},
    root::Store,
    transfer::registries::Registries,
};
use buildd_worker::{cache_store::SqliteCacheStore, doctor, resolver::Resolver};

use crate::{
    config::{Amount, Config, disk_size},
    session::Sessions,
};

pub(crate) use buildd_worker::worker::Worker;

/// Steps that run at once where the configuration names no number.
const PARALLEL_STEPS: usize = 4;

/// The parts that do the work.
#[derive(Debug)]
pub(crate) struct Parts {
    pub(crate) worker: Arc<Worker>,
    pub(crate) solver: Arc<Solver>,
    pub(crate) tasks: Arc<Tasks>,
    pub(crate) uuid: String,
}

/// How the configuration wants layers made.
pub(crate) fn layer_rules(config: &Config) -> LayerRules {
    let form = match config.worker.layer_form.as_str() {
        "file" => LayerFormat::File,
        "directory" => LayerFormat::Directory,
        _ => LayerFormat::Auto,
    };
    let usual = Growth::default();
    let free = config.worker.layer_growth.bytes(disk_size(&config.root)).unwrap_or(usual.free);
    LayerRules { form, growth: Growth { free, ..usual } }
}

/// Puts the parts together.
pub(crate) fn assemble(
    config: &Config,
    store: Arc<Store>,
    sessions: Arc<Sessions>,
    registries: Arc<Registries>,
) -> Result<Parts> {
    // Nobody waits for what earlier daemons left.
    let sweep = std::thread::Builder::new().name("sweep".to_owned()).spawn(step::sweep_groups);
    sweep.context("start a thread")?;
    let exe = std::env::current_exe().context("find our own binary")?;
    let worker = Worker::new(buildd_worker::worker::WorkerOptions {
        store: Arc::clone(&store),
        executor: Arc::new(Executor::new(&config.state(), &exe).context("prepare the steps' folder")?),
        sessions,
        registries,
        namespace: config.worker.namespace.clone(),
        limits: StepLimits::new(
            i64::from(config.worker.step_processes),
            step_memory(&config.worker.step_memory),
        ),
        proxies: proxies(),
        devices: Devices::new(config.cdi.folders()),
        default_network: match config.worker.default_network.as_str() {
            "none" => Network::None,
            _ => Network::Host,
        },
    });
    let resolver: Arc<dyn OpResolver> = Arc::new(Resolver::new(Arc::clone(&worker)));
    let solver = Solver::new(SolverOptions {
        store: Arc::new(SqliteCacheStore::new(store)),
        resolver,
        max_parallelism: config.worker.oci.max_parallelism.unwrap_or(PARALLEL_STEPS),
    });
    let tasks = Arc::new(Tasks::new(&config.state(), &exe).context("look for tasks")?);
    Ok(Parts { worker, solver, tasks, uuid: identity(&config.root)? })
}

/// Lets a step look whether it is contained, the first time that somebody asks: before, and if it is not, the worker is not called sandboxed.
pub(crate) async fn prove_sandbox(worker: &Worker) {
    match std::env::current_exe() {
        Ok(exe) => doctor::prove(&worker.executor, &exe, worker.default_network).await,
        Err(error) => tracing::warn!(%error, "this worker is not sandboxed: find our own binary"),
    }
}

/// The proxies that this daemon was started with.
fn proxies() -> Vec<(OsString, OsString)> {
    let known = ["http_proxy", "https_proxy", "all_proxy", "no_proxy"];
    let names = known.iter().flat_map(|name| [(*name).to_owned(), name.to_uppercase()]);
    names.filter_map(|name| Some((OsString::from(&name), std::env::var_os(&name)?))).collect()
}

/// Bytes that a step may take of this machine's memory.
fn step_memory(amount: &Amount) -> i64 {
    let info = rustix::system::sysinfo();
    let all = info.totalram * u64::from(info.mem_unit);
    amount.bytes(all).and_then(|bytes| i64::try_from(bytes).ok()).unwrap_or(i64::MAX)
}

/// The name of this root, made once: both APIs tell it, so that clients see that they talk to one daemon.
fn identity(root: &Path) -> Result<String> {
    let path = root.join("uuid");
    if let Ok(uuid) = std::fs::read_to_string(&path) {
        return Ok(uuid.trim().to_owned());
    }
    let bytes: u128 = rand::random();
    let hex = format!("{bytes:032x}");
    let uuid = format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]);
    std::fs::write(&path, &uuid).with_context(|| format!("write {}", path.display()))?;
    Ok(uuid)
}

/// Runs a hidden subcommand, if this process was started for one.
pub(crate) fn helper() -> Option<ExitCode> {
    let mut args = std::env::args_os().skip(1);
    let main = match args.next()?.to_str()? {
        step::SPAWNER => step::spawner_main,
        task::SHIM => task::shim_main,
        task::EXEC => task::exec_main,
        probe::PROBE => probe::probe_main,
        _ => return None,
    };
    Some(main(Path::new(&args.next()?)))
}

/// Says what the machine offers.
pub(crate) fn doctor() -> Result<()> {
    let mut out = io::stdout();
    let mut lacks = 0;
    let exe = std::env::current_exe().context("find our own binary")?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    let sandbox = runtime.context("start a thread")?.block_on(doctor::try_step(&exe));
    for finding in doctor::examine().into_iter().chain(sandbox) {
        let mark = if finding.remedy.is_none() { "ok  " } else { "LACK" };
        writeln!(out, "{mark}  {:<10} {}", finding.subject, finding.fact).context("print")?;
        if let Some(remedy) = finding.remedy {
            lacks += 1;
            writeln!(out, "      {:<10} -> {remedy}", "").context("print")?;
        }
    }
    match lacks {
        0 => Ok(()),
        lacks => anyhow::bail!("{lacks} of the things above must be mended"),
    }
}
