//! Tasks: the processes of containers. The runtime keeps each under a shim; here requests become its words.
//!
//! Checkpoints, limits changed while a task runs, and metrics are not offered: such calls are refused as unimplemented.
//!
//! # Sources
//! containerd `core/runtime/v2` and `plugins/services/tasks`, for the codes.

pub(super) mod events;

use std::time::SystemTime;

use buildd_api::containerd::containerd::{
    services::tasks::v1::{
        CheckpointTaskRequest, CheckpointTaskResponse, CloseIoRequest, CreateTaskRequest, CreateTaskResponse,
        DeleteProcessRequest, DeleteResponse, DeleteTaskRequest, ExecProcessRequest, GetRequest, GetResponse,
        KillRequest, ListPidsRequest, ListPidsResponse, ListTasksRequest, ListTasksResponse, MetricsRequest,
        MetricsResponse, PauseTaskRequest, ResizePtyRequest, ResumeTaskRequest, StartRequest, StartResponse,
        UpdateTaskRequest, WaitRequest, WaitResponse, tasks_server::Tasks,
    },
    v1::types::{Process as WireProcess, ProcessInfo, Status as WireStatus},
};
use buildd_fs::mounts::Mount as RootMount;
use buildd_runtime::task::{Process, Status as TaskStatus, Streams, TaskSpec};
use prost_types::Any;
use tonic::{Request, Response, Status};

use super::{Services, containers, convert, namespace};
use crate::status::Answer;

/// A process as containerd's clients see it.
fn wire(container_id: &str, exec: &str, process: Process) -> WireProcess {
    let status = match process.status {
        TaskStatus::Created => WireStatus::Created,
        TaskStatus::Running => WireStatus::Running,
        TaskStatus::Paused => WireStatus::Paused,
        TaskStatus::Stopped => WireStatus::Stopped,
    };
    WireProcess {
        container_id: container_id.to_owned(),
        id: if exec.is_empty() { container_id.to_owned() } else { exec.to_owned() },
        pid: process.pid,
        status: status.into(),
        stdin: process.streams.stdin,
        stdout: process.streams.stdout,
        stderr: process.streams.stderr,
        terminal: process.streams.terminal,
        exit_status: process.exit.map_or(0, |exit| exit.code),
        exited_at: process.exit.and_then(|exit| convert::timestamp(exit.time())),
    }
}

fn deleted(id: String, process: &Process) -> DeleteResponse {
    DeleteResponse {
        id,
        pid: process.pid,
        exit_status: process.exit.map_or(0, |exit| exit.code),
        exited_at: process.exit.and_then(|exit| convert::timestamp(exit.time())),
    }
}

/// A runtime spec travels as JSON in an `Any`.
fn json(any: Option<Any>, what: &str) -> Result<serde_json::Value, Status> {
    let any = any.ok_or_else(|| Status::invalid_argument(format!("{what} is required")))?;
    serde_json::from_slice(&any.value)
        .map_err(|error| Status::invalid_argument(format!("{what} ({}): {error}", any.type_url)))
}

fn size(name: &str, value: u32) -> Result<u16, Status> {
    u16::try_from(value).map_err(|_| Status::invalid_argument(format!("{name} {value} is not a terminal's")))
}

#[tonic::async_trait]
impl Tasks for Services {
    async fn create(
        &self,
        request: Request<CreateTaskRequest>,
    ) -> Result<Response<CreateTaskResponse>, Status> {
        let ns = namespace(&request)?;
        let request = request.into_inner();
        if request.checkpoint.is_some_and(|checkpoint| !checkpoint.digest.is_empty()) {
            return Err(Status::unimplemented("tasks are not restored from checkpoints"));
        }
        let id = request.container_id;
        let (scope, container) = (ns.clone(), id.clone());
        let record = self.with_store(move |store| store.containers.get(&scope, &container)).await?;
        let mounts = request.rootfs.into_iter();
        let task = TaskSpec {
            namespace: ns,
            id: id.clone(),
            spec: json(containers::wire(&record)?.spec, "the container's spec")?,
            rootfs: mounts
                .map(|mount| RootMount { kind: mount.r#type, source: mount.source, options: mount.options })
                .collect(),
            streams: Streams {
                stdin: request.stdin,
                stdout: request.stdout,
                stderr: request.stderr,
                terminal: request.terminal,
            },
        };
        let pid = self.tasks.create(&task).await.or_status()?;
        self.publish_created(&task, pid);
        Ok(Response::new(CreateTaskResponse { container_id: id, pid }))
    }

    async fn start(&self, request: Request<StartRequest>) -> Result<Response<StartResponse>, Status> {
        let ns = namespace(&request)?;
        let StartRequest { container_id, exec_id } = request.into_inner();
        let pid = self.tasks.start(&ns, &container_id, &exec_id).await.or_status()?;
        self.publish_started(ns, container_id, exec_id, pid);
        Ok(Response::new(StartResponse { pid }))
    }

    async fn delete(&self, request: Request<DeleteTaskRequest>) -> Result<Response<DeleteResponse>, Status> {
        let ns = namespace(&request)?;
        let id = request.into_inner().container_id;
        let process = self.tasks.delete(&ns, &id, "").await.or_status()?;
        self.publish_deleted(&ns, &id, "", &process);
        Ok(Response::new(deleted(id, &process)))
    }

    async fn delete_process(
        &self,
        request: Request<DeleteProcessRequest>,
    ) -> Result<Response<DeleteResponse>, Status> {
        let ns = namespace(&request)?;
        let DeleteProcessRequest { container_id, exec_id } = request.into_inner();
        if exec_id.is_empty() {
            return Err(Status::invalid_argument("a process id is required"));
        }
        let process = self.tasks.delete(&ns, &container_id, &exec_id).await.or_status()?;
        self.publish_deleted(&ns, &container_id, &exec_id, &process);
        Ok(Response::new(deleted(exec_id, &process)))
    }

    async fn get(&self, request: Request<GetRequest>) -> Result<Response<GetResponse>, Status> {
        let ns = namespace(&request)?;
        let GetRequest { container_id, exec_id } = request.into_inner();
        let process = self.tasks.state(&ns, &container_id, &exec_id).await.or_status()?;
        Ok(Response::new(GetResponse { process: Some(wire(&container_id, &exec_id, process)) }))
    }

    async fn list(&self, request: Request<ListTasksRequest>) -> Result<Response<ListTasksResponse>, Status> {
        let ns = namespace(&request)?;
        let mut tasks = Vec::new();
        for id in self.tasks.list(&ns).or_status()? {
            // One that was deleted meanwhile is not in the list any more.
            if let Ok(process) = self.tasks.state(&ns, &id, "").await {
                tasks.push(wire(&id, "", process));
            }
        }
        Ok(Response::new(ListTasksResponse { tasks }))
    }

    async fn kill(&self, request: Request<KillRequest>) -> Result<Response<()>, Status> {
        let ns = namespace(&request)?;
        let KillRequest { container_id, exec_id, signal, all } = request.into_inner();
        let signal = i32::try_from(signal)
            .map_err(|_| Status::invalid_argument(format!("{signal} is not a signal")))?;
        self.tasks.kill(&ns, &container_id, &exec_id, signal, all).await.or_status()?;
        Ok(Response::new(()))
    }

    async fn exec(&self, request: Request<ExecProcessRequest>) -> Result<Response<()>, Status> {
        let ns = namespace(&request)?;
        let request = request.into_inner();
        if request.exec_id.is_empty() {
            return Err(Status::invalid_argument("a process id is required"));
        }
        let process = json(request.spec, "the process's spec")?;
        let streams = Streams {
            stdin: request.stdin,
            stdout: request.stdout,
            stderr: request.stderr,
            terminal: request.terminal,
        };
        let done = self.tasks.exec(&ns, &request.container_id, &request.exec_id, process, streams).await;
        done.or_status()?;
        self.publish_added(&ns, request.container_id, request.exec_id);
        Ok(Response::new(()))
    }

    async fn resize_pty(&self, request: Request<ResizePtyRequest>) -> Result<Response<()>, Status> {
        let ns = namespace(&request)?;
        let ResizePtyRequest { container_id, exec_id, width, height } = request.into_inner();
        let (width, height) = (size("width", width)?, size("height", height)?);
        self.tasks.resize(&ns, &container_id, &exec_id, width, height).await.or_status()?;
        Ok(Response::new(()))
    }

    async fn close_io(&self, request: Request<CloseIoRequest>) -> Result<Response<()>, Status> {
        let ns = namespace(&request)?;
        let CloseIoRequest { container_id, exec_id, stdin } = request.into_inner();
        if stdin {
            self.tasks.close_stdin(&ns, &container_id, &exec_id).await.or_status()?;
        }
        Ok(Response::new(()))
    }

    async fn pause(&self, request: Request<PauseTaskRequest>) -> Result<Response<()>, Status> {
        let ns = namespace(&request)?;
        let id = request.into_inner().container_id;
        self.tasks.pause(&ns, &id).await.or_status()?;
        self.publish_paused(&ns, id);
        Ok(Response::new(()))
    }

    async fn resume(&self, request: Request<ResumeTaskRequest>) -> Result<Response<()>, Status> {
        let ns = namespace(&request)?;
        let id = request.into_inner().container_id;
        self.tasks.resume(&ns, &id).await.or_status()?;
        self.publish_resumed(&ns, id);
        Ok(Response::new(()))
    }

    async fn list_pids(
        &self,
        request: Request<ListPidsRequest>,
    ) -> Result<Response<ListPidsResponse>, Status> {
        let ns = namespace(&request)?;
        let pids = self.tasks.pids(&ns, &request.into_inner().container_id).await.or_status()?;
        let processes = pids.into_iter().map(|pid| ProcessInfo { pid, info: None }).collect();
        Ok(Response::new(ListPidsResponse { processes }))
    }

    async fn checkpoint(
        &self,
        _: Request<CheckpointTaskRequest>,
    ) -> Result<Response<CheckpointTaskResponse>, Status> {
        Err(Status::unimplemented("tasks are not checkpointed"))
    }

    async fn update(&self, _: Request<UpdateTaskRequest>) -> Result<Response<()>, Status> {
        Err(Status::unimplemented("limits of a running task are not changed"))
    }

    async fn metrics(&self, _: Request<MetricsRequest>) -> Result<Response<MetricsResponse>, Status> {
        Err(Status::unimplemented("tasks are not measured"))
    }

    async fn wait(&self, request: Request<WaitRequest>) -> Result<Response<WaitResponse>, Status> {
        let ns = namespace(&request)?;
        let WaitRequest { container_id, exec_id } = request.into_inner();
        let exit = self.tasks.wait(&ns, &container_id, &exec_id).await.or_status()?;
        let exited_at: SystemTime = exit.time();
        Ok(Response::new(WaitResponse { exit_status: exit.code, exited_at: convert::timestamp(exited_at) }))
    }
}
