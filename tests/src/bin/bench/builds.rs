//! Builds: what a RUN step, a cached rebuild, very many stages and a container cost.

use std::{fmt::Write as _, path::Path, rc::Rc};

use buildd_tests::{
    daemon::run,
    fixture::{context, text},
};
use tempfile::TempDir;

use super::{Bench, Job};

/// RUN steps of the job that measures their overhead.
const STEPS: usize = 10;
/// Stages that do next to nothing, and how many of them one more collects: an image may not have 500 layers.
const STAGES: usize = 500;
const COLLECTED: usize = 20;
/// Layers below the step that is measured, with the base's: as many as an image may have, but for that step.
const DEEP: usize = 126;

/// The jobs.
pub(super) fn jobs(bench: &Bench) -> Vec<Job<'_>> {
    let steps = "RUN true\n".repeat(STEPS);
    vec![
        build(bench, "seed build, a new RUN", "ARG TURN\nRUN echo built $TURN > file\n", true),
        build(bench, "seed build, cached", "ARG TURN\nRUN echo built $TURN > file\n", false),
        build(bench, "ten RUN steps of `true`", &format!("ARG TURN\nENV TURN=$TURN\n{steps}"), true),
        Job { theirs: Vec::new(), ..whole(bench, "500 stages that copy a file", &stages(), true) },
        deep(bench, "a RUN on 126 layers", "RUN echo $TURN > /file\n"),
        deep(bench, "a COPY on 126 layers", "COPY Dockerfile /$TURN\n"),
        container(bench),
    ]
}

/// A step on very many layers, beside the same one on the first of them.
fn deep<'a>(bench: &'a Bench, name: &'static str, step: &str) -> Job<'a> {
    let layers: String = (1..DEEP).map(|n| format!("RUN echo {n} > /{n}\n")).collect();
    let context = |layers: &str| {
        let base = "FROM docker.io/library/alpine:latest\n";
        Rc::new(context(&[("Dockerfile", &format!("{base}{layers}ARG TURN\n{step}"))]))
    };
    let (high, low) = (context(&layers), context(""));
    let turn = |turn: usize| format!("TURN={turn}");
    Job {
        name,
        ours: Box::new(move |n| ours(bench, high.path(), &["--build-arg", &turn(n)])),
        theirs: vec![("on 1", Box::new(move |n| ours(bench, low.path(), &["--build-arg", &turn(n)])))],
        reset: Box::new(|_| {}),
    }
}

/// Stages that hang on nothing, and others that bring them together.
fn stages() -> String {
    let mut text = String::new();
    for n in 0..STAGES {
        let _ = writeln!(text, "FROM scratch AS s{n}\nARG TURN\nCOPY Dockerfile /$TURN/{n}");
    }
    for (n, stages) in (0..STAGES).collect::<Vec<_>>().chunks(COLLECTED).enumerate() {
        let _ = writeln!(text, "FROM scratch AS c{n}");
        text.extend(stages.iter().map(|stage| format!("COPY --from=s{stage} / /\n")));
    }
    text.push_str("FROM scratch\n");
    text.extend((0..STAGES / COLLECTED).map(|n| format!("COPY --from=c{n} / /\n")));
    text
}

/// A build on the base image; with `new`, no turn finds a step of an earlier one.
fn build<'a>(bench: &'a Bench, name: &'static str, lines: &str, new: bool) -> Job<'a> {
    whole(bench, name, &format!("FROM docker.io/library/alpine:latest\n{lines}"), new)
}

fn whole<'a>(bench: &'a Bench, name: &'static str, dockerfile: &str, new: bool) -> Job<'a> {
    let context: Rc<TempDir> = Rc::new(context(&[("Dockerfile", dockerfile)]));
    let theirs = context.clone();
    let turn = move |turn: usize| format!("TURN={}", if new { turn } else { 0 });
    Job {
        name,
        ours: Box::new(move |n| ours(bench, context.path(), &["--build-arg", &turn(n)])),
        theirs: vec![(
            "buildah",
            Box::new(move |n| self::theirs(bench, theirs.path(), &["--build-arg", &turn(n)])),
        )],
        reset: Box::new(|_| {}),
    }
}

/// Builds a context with us.
pub(super) fn ours(bench: &Bench, dir: &Path, args: &[&str]) {
    let args = [&["build", "-q", "-t", "bench"], args, &[text(dir)]].concat();
    bench.daemon.buildctl(&args).ok();
}

/// Builds a context with buildah.
pub(super) fn theirs(bench: &Bench, dir: &Path, args: &[&str]) {
    let mut command = bench.buildah.trusting("bud");
    command.args(["--isolation", "chroot", "--pull-never", "--layers", "-q", "-t", "bench"]);
    run(command.args(args).arg(dir)).ok();
}

fn container(bench: &Bench) -> Job<'_> {
    Job {
        name: "run --rm true",
        ours: Box::new(move |_| drop(bench.daemon.buildctl(&["run", "--rm", "alpine", "true"]).ok())),
        theirs: vec![(
            "containerd 2",
            Box::new(move |turn| {
                let args = ["run", "--rm", "docker.io/library/alpine:latest", &format!("c{turn}"), "true"];
                bench.containerd.ctr(&args).ok();
            }),
        )],
        reset: Box::new(|_| {}),
    }
}
