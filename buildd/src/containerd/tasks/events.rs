//! Told: the events of tasks. What a client asks for is told when it is done; how a process ended, when it has.
//!
//! A watcher waits for every process that was started, and for those of tasks that outlived another daemon. A client may delete a process
//! before its watcher knows that it ended: then the deletion tells it, so that an exit comes once and always before the deletion.

use std::sync::PoisonError;

use buildd_api::containerd::containerd::{
    events::{
        TaskCreate, TaskDelete, TaskExecAdded, TaskExecStarted, TaskExit, TaskIo, TaskPaused, TaskResumed,
        TaskStart,
    },
    types::Mount,
};
use buildd_runtime::task::{Exit, Process, Status, TaskSpec};

use super::super::{Services, convert};

/// A process whose end was not told yet.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Watched {
    ns: String,
    id: String,
    exec: String,
}

impl Services {
    /// Waits for the processes of tasks that were there before us.
    pub(crate) async fn watch_tasks(&self) {
        let all = match self.tasks.all() {
            Ok(all) => all,
            Err(error) => return tracing::warn!(%error, "look for tasks to watch"),
        };
        for (ns, id) in all {
            match self.tasks.state(&ns, &id, "").await {
                Ok(process) if process.status != Status::Stopped => {
                    self.watch(ns, id, String::new(), process.pid)
                }
                _ => {}
            }
        }
    }

    /// Tells of a process's end, once it comes.
    pub(super) fn watch(&self, ns: String, id: String, exec: String, pid: u32) {
        let process = Watched { ns, id, exec };
        self.watched.lock().unwrap_or_else(PoisonError::into_inner).insert(process.clone());
        let services = self.clone();
        tokio::spawn(async move {
            match services.tasks.wait(&process.ns, &process.id, &process.exec).await {
                Ok(exit) => services.publish_ended(&process, pid, exit),
                Err(error) => tracing::debug!(%error, ?process, "not watched any more"),
            }
        });
    }

    /// Tells of an end once, whoever learns of it first.
    fn publish_ended(&self, process: &Watched, pid: u32, exit: Exit) {
        if !self.watched.lock().unwrap_or_else(PoisonError::into_inner).remove(process) {
            return;
        }
        let ended = TaskExit {
            id: process_id(&process.id, &process.exec),
            container_id: process.id.clone(),
            pid,
            exit_status: exit.code,
            exited_at: convert::timestamp(exit.time()),
        };
        self.store.events().publish(&process.ns, "/tasks/exit", &ended);
    }

    pub(super) fn publish_created(&self, task: &TaskSpec, pid: u32) {
        let mount = |mount: &buildd_fs::mounts::Mount| Mount {
            r#type: mount.kind.clone(),
            source: mount.source.clone(),
            options: mount.options.clone(),
            ..Mount::default()
        };
        let made = TaskCreate {
            container_id: task.id.clone(),
            rootfs: task.rootfs.iter().map(mount).collect(),
            io: Some(TaskIo {
                stdin: task.streams.stdin.clone(),
                stdout: task.streams.stdout.clone(),
                stderr: task.streams.stderr.clone(),
                terminal: task.streams.terminal,
            }),
            pid,
            ..TaskCreate::default()
        };
        self.store.events().publish(&task.namespace, "/tasks/create", &made);
    }

    pub(super) fn publish_started(&self, ns: String, id: String, exec: String, pid: u32) {
        let (container_id, exec_id) = (id.clone(), exec.clone());
        match exec.is_empty() {
            true => self.store.events().publish(&ns, "/tasks/start", &TaskStart { container_id, pid }),
            false => {
                let started = TaskExecStarted { container_id, exec_id, pid };
                self.store.events().publish(&ns, "/tasks/exec-started", &started);
            }
        }
        self.watch(ns, id, exec, pid);
    }

    pub(super) fn publish_added(&self, ns: &str, container_id: String, exec_id: String) {
        self.store.events().publish(ns, "/tasks/exec-added", &TaskExecAdded { container_id, exec_id });
    }

    pub(super) fn publish_paused(&self, ns: &str, container_id: String) {
        self.store.events().publish(ns, "/tasks/paused", &TaskPaused { container_id });
    }

    pub(super) fn publish_resumed(&self, ns: &str, container_id: String) {
        self.store.events().publish(ns, "/tasks/resumed", &TaskResumed { container_id });
    }

    pub(super) fn publish_deleted(&self, ns: &str, container: &str, exec: &str, process: &Process) {
        let watched = Watched { ns: ns.to_owned(), id: container.to_owned(), exec: exec.to_owned() };
        if let Some(exit) = process.exit {
            self.publish_ended(&watched, process.pid, exit);
        }
        self.watched.lock().unwrap_or_else(PoisonError::into_inner).remove(&watched);
        let gone = TaskDelete {
            container_id: container.to_owned(),
            pid: process.pid,
            exit_status: process.exit.map_or(0, |exit| exit.code),
            exited_at: process.exit.and_then(|exit| convert::timestamp(exit.time())),
            id: process_id(container, exec),
        };
        self.store.events().publish(ns, "/tasks/delete", &gone);
    }
}

/// The first process of a container has its name.
fn process_id(container: &str, exec: &str) -> String {
    if exec.is_empty() { container.to_owned() } else { exec.to_owned() }
}
