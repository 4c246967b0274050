//! Large builds: very many steps, stages and mounts, of which none may end the daemon.
//!
//! A solver that recurses over the graph overflows a thread's stack on the first two, and one that walks every path of it takes the
//! machine's memory on the third.

use std::{fmt::Write, path::Path};

use buildd_api::buildkit::{
    moby::buildkit::v1::{SolveRequest, control_client::ControlClient},
    pb,
};
use buildd_oci::digest::Digest;
use buildd_tests::{
    daemon::{Daemon, Ran},
    fixture::{context, import_base, text},
};
use prost::Message;

use crate::{
    gateway::connect,
    hostile_api::{definition, image},
};

/// Builds a Dockerfile beside a file `in` into a folder.
fn build(daemon: &Daemon, dockerfile: &str, into: &Path) -> Ran {
    let dir = context(&[("Dockerfile", dockerfile), ("in", "x")]);
    let output = format!("type=local,dest={}", text(into));
    daemon.buildctl(&["build", "-o", &output, text(dir.path())])
}

/// What a Dockerfile gives: the tree's files, by name. The daemon lives on.
fn built(dockerfile: &str) -> Vec<String> {
    let daemon = Daemon::start();
    let tree = tempfile::tempdir().expect("a folder");
    build(&daemon, dockerfile, tree.path()).ok();
    daemon.buildctl(&["image", "ls"]).ok();
    let entries = std::fs::read_dir(tree.path()).expect("a tree");
    let name = |entry: std::io::Result<std::fs::DirEntry>| entry.expect("an entry").file_name();
    let mut names: Vec<String> = entries.map(|entry| name(entry).into_string().expect("our names")).collect();
    names.sort();
    names
}

fn names(count: usize) -> Vec<String> {
    (0..count).map(|number| format!("f{number:04}")).collect()
}

fn copies(names: &[String]) -> String {
    names.iter().map(|name| format!("COPY in /{name}\n")).collect()
}

#[test]
fn as_many_copies_one_after_the_other_as_the_kernel_stacks() {
    // Overlayfs takes 500 layers.
    let names = names(499);
    assert_eq!(built(&format!("FROM scratch\n{}", copies(&names))), names);
}

#[test]
fn a_thousand_copies_in_stages() {
    let names = names(1_000);
    let mut dockerfile = String::new();
    for (stage, part) in names.chunks(200).enumerate() {
        let _ = write!(dockerfile, "FROM scratch AS s{stage}\n{}", copies(part));
    }
    dockerfile.push_str("FROM scratch\n");
    for stage in 0..5 {
        let _ = writeln!(dockerfile, "COPY --from=s{stage} / /");
    }
    assert_eq!(built(&dockerfile), names);
}

#[test]
fn more_copies_than_the_kernel_stacks_fail_alone() {
    let daemon = Daemon::start();
    let tree = tempfile::tempdir().expect("a folder");
    let dockerfile = format!("FROM scratch\n{}", copies(&names(1_000)));
    build(&daemon, &dockerfile, tree.path()).fails(1, &["501 layers, overlayfs stacks at most 500"]);
    build(&daemon, "FROM scratch\nCOPY in /\n", tree.path()).ok();
}

#[test]
fn three_hundred_stages_that_one_collects() {
    let names = names(300);
    let mut dockerfile = String::new();
    for name in &names {
        let _ = writeln!(dockerfile, "FROM scratch AS {name}\nCOPY in /{name}");
    }
    dockerfile.push_str("FROM scratch\n");
    for name in &names {
        let _ = writeln!(dockerfile, "COPY --from={name} /{name} /");
    }
    assert_eq!(built(&dockerfile), names);
}

/// A step that adds a line to a file of each mount; `below` is the step whose mounts it goes on with.
fn step(number: usize, mounts: i64, below: Option<&pb::Op>) -> pb::Op {
    let digest = |op: &pb::Op| Digest::of(&op.encode_to_vec()).to_string();
    let mut inputs = vec![pb::Input { digest: digest(&image()), index: 0 }];
    if let Some(below) = below {
        inputs.extend((0..mounts).map(|index| pb::Input { digest: digest(below), index }));
    }
    let script = format!(
        "for m in /m*; do [ \"$(cat $m/log | wc -l)\" = {number} ] || exit 9; echo {number} >> $m/log; done 2>&1"
    );
    let meta = pb::Meta {
        args: vec!["sh".to_owned(), "-c".to_owned(), script],
        env: vec!["PATH=/usr/sbin:/usr/bin:/sbin:/bin".to_owned()],
        cwd: "/".to_owned(),
        ..pb::Meta::default()
    };
    let root = pb::Mount { dest: "/".to_owned(), output: -1, ..pb::Mount::default() };
    let handed_on = |index: i64| pb::Mount {
        dest: format!("/m{index}"),
        input: if below.is_some() { index + 1 } else { -1 },
        output: index,
        ..pb::Mount::default()
    };
    let mounts = std::iter::once(root).chain((0..mounts).map(handed_on)).collect();
    let exec = pb::ExecOp { meta: Some(meta), mounts, ..pb::ExecOp::default() };
    pb::Op { inputs, op: Some(pb::op::Op::Exec(exec)), ..pb::Op::default() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn ten_steps_that_hand_on_ten_writable_mounts() {
    let daemon = Daemon::start();
    import_base(&daemon);
    let mut ops = vec![image(), step(0, 10, None)];
    for number in 1..10 {
        ops.push(step(number, 10, ops.last()));
    }
    let mut control = ControlClient::new(connect(&daemon).await);
    let request = SolveRequest {
        r#ref: "mounts".to_owned(),
        definition: Some(definition(&ops)),
        ..SolveRequest::default()
    };
    control.solve(request).await.expect("each step found what the one before left");
    daemon.buildctl(&["image", "ls"]).ok();
}
