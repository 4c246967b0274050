//! RUN to an exec op.
//!
//! The environment is that of the image and the ARGs so far. Proxies travel apart from it: they are no part of what the step is.

use buildd_api::{
    buildkit::pb,
    llb::{ExecMount, ExecSpec, FileStep, State},
};

use super::{Lowering, copy::owner, join};
use crate::{
    dockerfile::{
        args,
        image::Layer,
        instruction::{Located, Mount, MountKind, Run, Security, Sharing},
    },
    error::{Fault, Lines},
};

const SCRIPTS: &str = "/dev/pipes";

impl Lowering<'_> {
    pub(super) fn run(&mut self, run: &Run, located: &Located) -> Result<(), Fault> {
        let title = format!("{}{}", self.prefix(), self.display(located));
        let mut caps = vec!["exec.meta.base", "exec.mount.bind"];
        let mut spec = ExecSpec { network: self.network(run), ..ExecSpec::default() };
        let mut arguments = self.command_line(&run.command);
        if let Some(script) = &run.script {
            arguments = vec![format!("{SCRIPTS}/{}", script.name)];
            spec.mounts.push(self.script(&script.name, script.content.clone(), located));
        }
        let mut env: Vec<String> = self.built.env.iter().map(|(k, v)| format!("{k}={v}")).collect();
        for (index, mount) in run.mounts.iter().enumerate() {
            self.mount(mount, index, located.lines, &mut spec, &mut env)?;
            caps.push(cap(mount.kind));
        }
        let step = &self.inputs.options.step;
        if step.shm_size > 0 {
            let mount = pb::Mount {
                dest: "/dev/shm".to_owned(),
                mount_type: pb::MountType::Tmpfs as i32,
                tmpfs_opt: Some(pb::TmpfsOpt { size: step.shm_size }),
                input: -1,
                ..pb::Mount::default()
            };
            spec.mounts.push(ExecMount { from: State::scratch(), mount });
        }
        spec.security = match run.security {
            Security::Sandbox => pb::SecurityMode::Sandbox,
            Security::Insecure => pb::SecurityMode::Insecure,
        };
        let devices = run.devices.iter();
        spec.devices = devices
            .map(|device| pb::CdiDevice { name: device.name.clone(), optional: !device.required })
            .collect();
        if !spec.devices.is_empty() {
            caps.push("exec.meta.cdi");
        }
        let created_by = format!("RUN {} # buildkit", self.run_text(&arguments));
        self.done.budget.step(created_by.len() + env.iter().map(String::len).sum::<usize>())?;
        spec.meta = pb::Meta {
            args: arguments,
            env,
            cwd: self.workdir_path().to_owned(),
            user: self.built.image.config.user.clone(),
            proxy_env: args::proxies(self.inputs.options),
            extra_hosts: step.extra_hosts.clone(),
            hostname: step.hostname.clone(),
            ulimit: step.ulimits.clone(),
            cgroup_parent: step.cgroup_parent.clone(),
            ..pb::Meta::default()
        };
        let mut options = self.op(title, &[located.lines], &caps);
        options.description.extend(step.limits.iter().cloned());
        self.built.state = self.built.state.exec(spec, options);
        self.record(created_by, Layer::Made);
        Ok(())
    }

    fn network(&self, run: &Run) -> pb::NetMode {
        match run.network.as_str() {
            "host" => pb::NetMode::Host,
            "none" => pb::NetMode::None,
            _ => self.inputs.options.step.network,
        }
    }

    /// `|2 A=1 B=2 /bin/sh -c …`: the ARGs in sight, then the command.
    fn run_text(&self, arguments: &[String]) -> String {
        let mut words = Vec::new();
        if !self.built.args.is_empty() {
            words.push(format!("|{}", self.built.args.len()));
        }
        for (name, declared) in self.built.args.iter() {
            let value = self.built.env.get(name).or(declared.as_ref()).map_or("", String::as_str);
            words.push(format!("{name}={value}"));
        }
        words.extend(arguments.iter().cloned());
        words.join(" ")
    }

    /// A script with a `#!` line, as a file of its own.
    fn script(&self, name: &str, content: String, located: &Located) -> ExecMount {
        let file = pb::FileActionMkFile {
            path: join("/", name),
            mode: 0o755,
            data: content.into_bytes(),
            owner: None,
            timestamp: -1,
        };
        let title = format!("{}preparing inline document", self.prefix_of_step());
        let options = self.op(title, &[located.lines], &["file.base"]);
        let from = State::scratch().file(vec![FileStep::MakeFile(file)], options);
        let mount = pb::Mount { dest: SCRIPTS.to_owned(), readonly: true, ..pb::Mount::default() };
        ExecMount { from, mount }
    }

    fn mount(
        &mut self,
        mount: &Mount,
        index: usize,
        lines: Lines,
        spec: &mut ExecSpec,
        env: &mut Vec<String>,
    ) -> Result<(), Fault> {
        let target = self.expand(&mount.target)?;
        let dest = if target.is_empty() { String::new() } else { join(self.workdir_path(), &target) };
        if dest == "/" {
            return Err(Fault::new(format!("invalid mount target {target:?}")));
        }
        let mut wire = pb::Mount { dest, mount_type: wire_kind(mount.kind) as i32, ..pb::Mount::default() };
        let mut from = State::scratch();
        match mount.kind {
            MountKind::Bind => {
                from = self.from(mount.from.as_deref(), lines)?;
                wire.selector = self.mount_source(mount)?;
                wire.readonly = mount.readonly.unwrap_or(true);
                if mount.from.is_none() {
                    self.done.context_paths.insert(join("/", &wire.selector));
                }
            }
            MountKind::Cache => {
                from = self.cache(mount, &mut wire, lines)?;
                wire.readonly = mount.readonly.unwrap_or(false);
            }
            MountKind::Tmpfs => wire.tmpfs_opt = Some(pb::TmpfsOpt { size: mount.size }),
            MountKind::Secret => {
                if !self.secret(mount, &mut wire, spec)? {
                    return Ok(());
                }
            }
            MountKind::Ssh => {
                if wire.dest.is_empty() {
                    wire.dest = format!("/run/buildkit/ssh_agent.{index}");
                }
                let id = if mount.id.is_empty() { "default".to_owned() } else { self.expand(&mount.id)? };
                wire.ssh_opt = Some(pb::SshOpt {
                    id,
                    uid: mount.uid.unwrap_or(0),
                    gid: mount.gid.unwrap_or(0),
                    mode: mount.mode.unwrap_or(0o600),
                    optional: !mount.required,
                });
                if !env.iter().any(|entry| entry.starts_with("SSH_AUTH_SOCK=")) {
                    env.push(format!("SSH_AUTH_SOCK={}", wire.dest));
                }
            }
        }
        spec.mounts.push(ExecMount { from, mount: wire });
        Ok(())
    }

    fn mount_source(&self, mount: &Mount) -> Result<String, Fault> {
        let source = join("/", &self.expand(&mount.source)?);
        Ok(if source == "/" { String::new() } else { source })
    }

    /// A fresh cache has the files of `from`; or it is an empty folder with the owner and mode asked for.
    fn cache(&self, mount: &Mount, wire: &mut pb::Mount, lines: Lines) -> Result<State, Fault> {
        let id = if mount.id.is_empty() { wire.dest.clone() } else { self.expand(&mount.id)? };
        let build_args = &self.inputs.options.build_args;
        let namespace = build_args.get("BUILDKIT_CACHE_MOUNT_NS").map_or("", String::as_str);
        let sharing = match mount.sharing {
            Sharing::Shared => pb::CacheSharingOpt::Shared,
            Sharing::Private => pb::CacheSharingOpt::Private,
            Sharing::Locked => pb::CacheSharingOpt::Locked,
        };
        wire.cache_opt = Some(pb::CacheOpt { id: format!("{namespace}/{id}"), sharing: sharing as i32 });
        if mount.from.is_some() {
            wire.selector = self.mount_source(mount)?;
            return self.from(mount.from.as_deref(), lines);
        }
        if mount.uid.is_none() && mount.gid.is_none() && mount.mode.is_none() {
            return Ok(State::scratch());
        }
        const FRESH: &str = "/cache";
        let user = format!("{}:{}", mount.uid.unwrap_or(0), mount.gid.unwrap_or(0));
        let dir = pb::FileActionMkDir {
            path: FRESH.to_owned(),
            mode: i32::try_from(mount.mode.unwrap_or(0o755) & 0o7777).expect("twelve bits"),
            make_parents: false,
            owner: Some(owner(&user)),
            timestamp: -1,
        };
        wire.selector = FRESH.to_owned();
        let title = "[internal] setting cache mount permissions".to_owned();
        let options = self.op(title, &[lines], &["file.base"]);
        Ok(State::scratch().file(vec![FileStep::MakeDir(dir)], options))
    }

    /// A secret as variable, as file, or as both; whether it is a file.
    fn secret(&self, mount: &Mount, wire: &mut pb::Mount, spec: &mut ExecSpec) -> Result<bool, Fault> {
        let given = if mount.id.is_empty() { &mount.source } else { &mount.id };
        let mut id = self.expand(given)?;
        if id.is_empty() {
            id = wire.dest.rsplit('/').next().unwrap_or_default().to_owned();
        }
        if id.is_empty() {
            return Err(Fault::new("one of source, target required"));
        }
        if let Some(name) = &mount.env {
            let name = self.expand(name)?;
            if name.is_empty() || name.contains(|c: char| c == '=' || c.is_control()) {
                return Err(Fault::new(format!("invalid secret mount: {name:?} is no name of a variable")));
            }
            spec.secret_env.push(pb::SecretEnv { id: id.clone(), name, optional: !mount.required });
            if wire.dest.is_empty() {
                return Ok(false);
            }
        }
        if wire.dest.is_empty() {
            let name = id.rsplit('/').next().unwrap_or(&id);
            wire.dest = format!("/run/secrets/{name}");
        }
        wire.secret_opt = Some(pb::SecretOpt {
            id,
            uid: mount.uid.unwrap_or(0),
            gid: mount.gid.unwrap_or(0),
            mode: mount.mode.unwrap_or(0o400),
            optional: !mount.required,
        });
        Ok(true)
    }
}

fn wire_kind(kind: MountKind) -> pb::MountType {
    match kind {
        MountKind::Bind => pb::MountType::Bind,
        MountKind::Cache => pb::MountType::Cache,
        MountKind::Tmpfs => pb::MountType::Tmpfs,
        MountKind::Secret => pb::MountType::Secret,
        MountKind::Ssh => pb::MountType::Ssh,
    }
}

fn cap(kind: MountKind) -> &'static str {
    match kind {
        MountKind::Bind => "exec.mount.bind",
        MountKind::Cache => "exec.mount.cache",
        MountKind::Tmpfs => "exec.mount.tmpfs",
        MountKind::Secret => "exec.mount.secret",
        MountKind::Ssh => "exec.mount.ssh",
    }
}
