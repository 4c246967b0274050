//! Hostile load: steps that want all of the machine at once, files without number, clients that look alike, and trees that a client should not
//! take as they are (RES-03, RES-07, API-07, CP-18 of the specification).

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    process::{Command, Stdio},
};

use buildd_api::buildkit::moby::buildkit::v1::{BytesMessage, control_client::ControlClient};
use buildd_tests::{
    daemon::{Daemon, Ran, binaries, run},
    fixture::{context, import_base, text},
};
use tonic::{Code, Request};

use crate::{gateway::connect, limits::Disk};

#[test]
fn res_03_steps_at_their_limit_wait_for_a_place_and_none_is_killed() {
    const STEPS: usize = 8;
    let config = tempfile::NamedTempFile::new().expect("a file");
    fs::write(config.path(), "[worker]\nstep-memory = \"64MB\"\n").expect("write");
    let daemon = Daemon::start_with(&["--config", text(config.path()), "--oci-max-parallelism", "2"]);
    import_base(&daemon);
    let mount = "--mount=type=cache,id=log,target=/c";
    let stage = |n: usize| {
        format!(
            "FROM alpine AS s{n}\nRUN {mount} echo + >> /c/log && head -c 40000000 /dev/zero | tail -c 30000000 | wc -c > /s{n} \
             && echo - >> /c/log\n"
        )
    };
    let stages: String = (0..STEPS).map(stage).collect();
    let copies: String = (0..STEPS).map(|n| format!("COPY --from=s{n} /s{n} /\n")).collect();
    let dockerfile = format!("{stages}FROM alpine\n{copies}RUN {mount} cp /c/log /log\n");
    let (dir, out) = (context(&[("Dockerfile", &dockerfile)]), daemon.path("out"));
    daemon.buildctl(&["build", "-o", &format!("type=local,dest={}", text(&out)), text(dir.path())]).ok();
    let log = fs::read_to_string(out.join("log")).expect("what the steps wrote");
    let (mut running, mut most) = (0_i32, 0);
    for line in log.lines() {
        running += if line == "+" { 1 } else { -1 };
        most = most.max(running);
    }
    assert_eq!((running, log.lines().count()), (0, 2 * STEPS), "{log}");
    assert!(most <= 2, "{most} at once: {log}");
}

#[test]
fn res_07_files_without_number_end_their_step_and_nothing_else() {
    let place = tempfile::tempdir().expect("a folder");
    let disk = Disk::mount(&place.path().join("disk"), 48);
    let daemon = Daemon::start_with(&["--root", text(&disk.0.join("root"))]);
    import_base(&daemon);
    let all = rustix::fs::statvfs(&disk.0).expect("a disk").f_files;
    let line = "mkdir /many && cd /many && i=0; while : > $i; do i=$((i+1)); done";
    let dir = context(&[("Dockerfile", &format!("FROM alpine\nRUN {line}\n"))]);
    daemon
        .buildctl(&["build", "--progress", "plain", "-t", "never", text(dir.path())])
        .fails(1, &["No space left on device", "Dockerfile:2"]);
    let free = rustix::fs::statvfs(&disk.0).expect("a disk").f_ffree;
    assert!(free > all / 2, "{free} of {all} inodes are free again");
    let dir = context(&[("Dockerfile", "FROM alpine\nRUN echo fine > /fine\n")]);
    daemon.buildctl(&["build", "-t", "next", text(dir.path())]).ok();
    assert_eq!(daemon.buildctl(&["run", "--rm", "next", "cat", "/fine"]).ok().stdout, "fine\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn api_07_each_build_asks_its_own_client_and_an_id_has_one_owner() {
    const CLIENTS: usize = 10;
    let daemon = Daemon::start();
    import_base(&daemon);
    let folder = tempfile::tempdir().expect("a folder");
    let clients: Vec<_> = (0..CLIENTS)
        .map(|n| {
            // The step of each is another one; the id of the secret is the same.
            let step = format!("FROM alpine\nRUN --mount=type=secret,id=mine cat /run/secrets/mine > /{n}\n");
            let (dir, out) = (context(&[("Dockerfile", &step)]), folder.path().join(n.to_string()));
            let mut build = daemon.command("buildctl");
            let (secret, output) = ("id=mine,env=MINE", format!("type=local,dest={}", text(&out)));
            build.args(["build", "--secret", secret, "-o", &output, text(dir.path())]);
            build.env("MINE", format!("of {n}")).stdout(Stdio::piped()).stderr(Stdio::piped());
            (build.spawn().expect("start buildctl"), dir)
        })
        .collect();
    for (n, (client, _dir)) in clients.into_iter().enumerate() {
        let ran: Ran = client.wait_with_output().expect("it ends").into();
        ran.ok();
        let seen = fs::read_to_string(folder.path().join(format!("{n}/{n}"))).expect("what the step saw");
        assert_eq!(seen, format!("of {n}"));
    }
    let mut control = ControlClient::new(connect(&daemon).await);
    let session = || {
        let mut request = Request::new(futures::stream::pending::<BytesMessage>());
        let metadata = request.metadata_mut();
        metadata.insert("x-docker-expose-session-uuid", "somebody's".parse().expect("a word"));
        request
    };
    let first = control.session(session()).await.expect("it is nobody's yet");
    let second = control.session(session()).await.map(drop).expect_err("it is the first one's");
    assert_eq!(second.code(), Code::AlreadyExists, "{second:?}");
    drop(first);
}

#[test]
fn cp_18_a_client_takes_no_devices_and_without_being_root_no_set_user_bits() {
    let daemon = Daemon::start();
    import_base(&daemon);
    let make = "mkdir /made && cd /made && mknod null c 1 3 && mkfifo pipe && cp /bin/busybox suid && chmod 4755 suid && echo x > file";
    let dir = context(&[("Dockerfile", &format!("FROM alpine\nRUN {make}\n"))]);
    let open = |path: &std::path::Path| {
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("a folder of ours");
    };
    // Outside of folders that only root may enter.
    let place = tempfile::Builder::new().prefix("buildd-client-").tempdir_in("/tmp").expect("a folder");
    open(place.path());
    open(daemon.path("sock").parent().expect("a folder"));
    open(dir.path());
    fs::copy(binaries().join("buildctl"), place.path().join("buildctl")).expect("a program");
    for (root, bits, words) in [(true, 0o4755, None), (false, 0o755, Some("set-user"))] {
        let out = place.path().join(if root { "root" } else { "other" });
        fs::create_dir(&out).expect("a folder");
        let mut client = Command::new("setpriv");
        if !root {
            std::os::unix::fs::chown(&out, Some(65534), None).expect("its own folder");
            // The socket is its group's.
            client.args(["--reuid", "65534", "--regid", "0", "--clear-groups"]);
        }
        client.arg(place.path().join("buildctl")).env("HOME", &out).env("BUILDKIT_HOST", daemon.address());
        client.current_dir("/").args([
            "build",
            "-o",
            &format!("type=local,dest={}", text(&out)),
            text(dir.path()),
        ]);
        let ran = run(&mut client).ok();
        assert!(ran.stderr.contains("left out 2 devices"), "{}", ran.stderr);
        assert!(words.is_none_or(|words| ran.stderr.contains(words)), "{}", ran.stderr);
        let mut names: Vec<_> = fs::read_dir(out.join("made"))
            .expect("what was made")
            .map(|entry| entry.expect("an entry").file_name().into_string().expect("UTF-8"))
            .collect();
        names.sort();
        assert_eq!(names, ["file", "suid"]);
        let mode = fs::metadata(out.join("made/suid")).expect("a file").permissions().mode() & 0o7777;
        assert_eq!(mode, bits, "{mode:o}");
    }
}
