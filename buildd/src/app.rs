//! App: the only place where the parts are joined.
//!
//! Order matters: the locks of the root and the state folder, then the worker, then the services, and the sockets last, so that whoever can connect is served.

use std::{io, path::Path, sync::Arc, time::Duration};

use anyhow::{Context, Result};
use buildd_fs::lock::{FolderLock, LockError};
use buildd_runtime::step::Executor;
use buildd_store::{cleanup::Cleanup, root::Store, transfer::registries::Registries};
use futures::{StreamExt, stream::BoxStream};
use tokio::net::UnixStream;
use tokio_stream::wrappers::UnixListenerStream;
use tokio_util::sync::CancellationToken;
use tonic::{service::RoutesBuilder, transport::Server};

use crate::{
    activity::Activity,
    buildkit,
    cli::Serve,
    collect::Collector,
    config::Config,
    containerd::{Parts, Services},
    listen,
    session::{Sessions, transport},
    shutdown,
    solve::{Builds, BuildsOptions},
    worker,
};

/// Others may pass through the state folder, to the socket in it, and see nothing.
const STATE_MODE: u32 = 0o711;
/// How long nobody is let in after somebody could not be.
const PAUSE: Duration = Duration::from_millis(100);
/// How long calls in flight may take once the daemon leaves.
const DRAIN: Duration = Duration::from_secs(5);

/// What is left of a daemon that serves no more.
pub(crate) struct Served {
    executor: Arc<Executor>,
    cleanup: Arc<Cleanup>,
    /// Nobody else gets the folder before the steps have ended.
    _state: FolderLock,
}

impl Served {
    /// Waits for the ends of steps that were cancelled, and of their mounts; whether they came within the limit.
    pub(crate) fn wait_for_steps(&self, limit: Duration) -> bool {
        let ended = self.executor.wait_for_ends(limit);
        self.cleanup.settle();
        ended
    }
}

/// Makes the state folder ours alone: what an earlier daemon left there is removed next.
fn own_state(state: &Path) -> Result<FolderLock> {
    buildd_fs::private::own_folder(state, STATE_MODE).context("prepare the state folder")?;
    FolderLock::take(state).map_err(|error| match error {
        LockError::Busy { folder, holder } => anyhow::anyhow!(
            "another buildd{} uses the state folder {}: use the running daemon, or start this one with another --state",
            holder.map(|id| format!(" (process {id})")).unwrap_or_default(),
            folder.display()
        ),
        error => anyhow::Error::new(error).context("lock the state folder"),
    })
}

/// Serves until told to leave.
pub(crate) async fn serve(flags: &Serve, config: Config) -> Result<Served> {
    for flag in flags.ignored() {
        tracing::warn!("{flag} has no effect here");
    }
    let root = config.root.clone();
    let rules = worker::layer_rules(&config);
    let store = buildd_fs::blocking::run(move || Store::open_with(&root, rules)).await?;
    let state = own_state(&config.state())?;
    let sessions: Arc<Sessions> = Arc::default();
    let registries = Arc::new(Registries::new(config.hosts()?)?);
    let parts =
        worker::assemble(&config, Arc::clone(&store), Arc::clone(&sessions), Arc::clone(&registries))?;
    let uuid = parts.uuid.clone();
    let (executor, cleanup) = (Arc::clone(&parts.worker.executor), Arc::clone(store.snapshots.cleanup()));
    let collector = Collector::start(Arc::clone(&store), config.worker.oci.rules(&config.root));
    let builds = Builds::new(BuildsOptions {
        serve_frontend: buildkit::serve_frontend,
        sessions,
        worker: parts.worker,
        solver: parts.solver,
        collector: collector.clone(),
        entitlements: config.insecure_entitlements.clone(),
        uuid: uuid.clone(),
        labels: config.worker.oci.labels.clone(),
    });
    let mut routes = RoutesBuilder::default();
    buildkit::assemble(&mut routes, &builds);
    let leave = CancellationToken::new();
    let services = Services::new(Parts {
        store,
        tasks: Arc::clone(&parts.tasks),
        collector,
        registries,
        hosts_settings: config.hosts_settings(),
        uuid,
        leave: leave.clone(),
    });
    services.assemble(&mut routes);
    tokio::spawn(async move { services.watch_tasks().await });
    let activity = Activity::default();
    let (listeners, sockets) = open(&config)?;
    shutdown::on_signal(leave.clone()).context("wait for signals")?;
    activity.clone().watch(flags.idle_timeout.map(Duration::from_secs), leave.clone(), parts.tasks);
    let server = Server::builder()
        .initial_stream_window_size(transport::STREAM_WINDOW)
        .initial_connection_window_size(transport::CONNECTION_WINDOW)
        .max_frame_size(transport::FRAME)
        .layer(activity)
        .add_routes(routes.routes())
        .serve_with_incoming_shutdown(
            futures::stream::select_all(listeners).boxed(),
            leave.clone().cancelled_owned(),
        );
    tokio::select! {
        served = server => served.context("serve")?,
        () = drained(leave) => tracing::debug!("calls still in flight are dropped"),
    }
    drop(sockets);
    Ok(Served { executor, cleanup, _state: state })
}

/// Connections, or why there is none.
type Incoming = BoxStream<'static, io::Result<UnixStream>>;

/// Opens every socket; they close when their guards are dropped.
fn open(config: &Config) -> Result<(Vec<Incoming>, Vec<listen::Socket>)> {
    let mut opened = (Vec::new(), Vec::new());
    for address in config.addresses() {
        let (listener, socket) = listen::listen(&address)?;
        tracing::info!("listening on {address}");
        opened.0.push(UnixListenerStream::new(listener).then(patiently).boxed());
        opened.1.push(socket);
    }
    Ok(opened)
}

/// Waits where nobody could be let in: without descriptors, or memory, the next would not be either, at once and again (F-14).
async fn patiently(connection: io::Result<UnixStream>) -> io::Result<UnixStream> {
    if connection.is_err() {
        tokio::time::sleep(PAUSE).await;
    }
    connection
}

async fn drained(leave: CancellationToken) {
    leave.cancelled().await;
    tokio::time::sleep(DRAIN).await;
}
