//! Files: contexts of very many small files and of one large one, copied, rebuilt and exported.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    rc::Rc,
};

use buildd_tests::{daemon::run, fixture::text};

use super::{Bench, Job, Turn, builds, corpus, disk};

/// Small files.
const MANY: usize = 20_000;
/// Bytes of each.
const SMALL: usize = 2048;
/// Bytes of the large one.
const LARGE: usize = 512 << 20;

/// The jobs.
pub(super) fn jobs(bench: &Bench) -> Vec<Job<'_>> {
    let many = Rc::new(Tree::new(bench, "many", |dir| {
        for n in 0..MANY / bench.divisor {
            let folder = dir.join(format!("d{}", n / 100));
            fs::create_dir_all(&folder).expect("a folder");
            fs::write(folder.join(format!("f{n}")), format!("{n:0SMALL$}")).expect("a file");
        }
    }));
    let large = Rc::new(Tree::new(bench, "large", |dir| {
        corpus::write(&dir.join("file"), 0, LARGE / bench.divisor);
    }));
    vec![
        cold(bench, &many, "COPY of 20,000 files, cold"),
        rebuilt(bench, &many, "COPY of 20,000 files, one touched", |tree, turn| {
            fs::write(tree.join("d0/f0"), format!("turn {turn}")).expect("a change");
        }),
        rebuilt(bench, &many, "COPY of 20,000 files, unchanged", |_, _| {}),
        import(bench, &many),
        cold(bench, &large, "COPY of 512 MB, cold"),
        export(bench, &large, "COPY of 512 MB, exported uncompressed", "uncompressed"),
        export(bench, &large, "COPY of 512 MB, exported as gzip", "gzip"),
    ]
}

/// A context whose files lie in `src`.
#[derive(Debug)]
struct Tree {
    context: PathBuf,
    copy: PathBuf,
}

impl Tree {
    fn new(bench: &Bench, name: &str, fill: impl Fn(&Path)) -> Self {
        let context = bench.dir.join(name);
        fs::create_dir_all(context.join("src")).expect("a folder");
        let text = "FROM docker.io/library/alpine:latest\nARG TURN\nENV TURN=$TURN\nCOPY src /src\n";
        fs::write(context.join("Dockerfile"), text).expect("a Dockerfile");
        fill(&context.join("src"));
        Self { context, copy: bench.dir.join(format!("{name}-copy")) }
    }
}

/// All of it anew: nothing of an earlier build is there, neither the files nor the layer.
fn cold<'a>(bench: &'a Bench, tree: &Rc<Tree>, name: &'static str) -> Job<'a> {
    let [ours, buildah, plain, reset] = [(); 4].map(|()| tree.clone());
    Job {
        name,
        ours: Box::new(move |_| builds::ours(bench, &ours.context, &[])),
        theirs: vec![
            ("buildah", Box::new(move |_| builds::theirs(bench, &buildah.context, &["--no-cache"]))),
            (
                "cp -r",
                Box::new(move |_| {
                    run(Command::new("cp").arg("-r").arg(plain.context.join("src")).arg(&plain.copy)).ok();
                }),
            ),
        ],
        reset: Box::new(move |_| {
            run(bench.daemon.command("buildctl").args(["image", "rm", "-f", "bench"]));
            bench.daemon.buildctl(&["prune", "--all"]).ok();
            let _ = fs::remove_dir_all(&reset.copy);
            run(&mut Command::new("sync")).ok();
            disk::warm_memory(bench.divisor);
        }),
    }
}

fn rebuilt<'a>(bench: &'a Bench, tree: &Rc<Tree>, name: &'static str, change: fn(&Path, usize)) -> Job<'a> {
    let [ours, theirs] = [(); 2].map(|()| tree.clone());
    Job {
        name,
        ours: Box::new(move |turn| {
            change(&ours.context.join("src"), turn);
            builds::ours(bench, &ours.context, &[]);
        }),
        theirs: vec![(
            "buildah",
            Box::new(move |turn| {
                change(&theirs.context.join("src"), turn + 1000);
                builds::theirs(bench, &theirs.context, &[]);
            }),
        )],
        reset: Box::new(|_| {}),
    }
}

/// The same files as an image's layer.
fn import<'a>(bench: &'a Bench, tree: &Tree) -> Job<'a> {
    let (name, archive) = ("docker.io/library/large:latest", bench.dir.join("many.tar"));
    bench.pack(&tree.context.join("src"), &archive, name);
    let theirs = archive.clone();
    Job {
        name: "import and unpack, 20,000 files",
        ours: Box::new(move |_| drop(bench.daemon.buildctl(&["image", "import", text(&archive)]).ok())),
        theirs: vec![(
            "containerd 2",
            Box::new(move |_| drop(bench.containerd.ctr(&["images", "import", text(&theirs)]).ok())),
        )],
        reset: Box::new(move |_| bench.forget(name)),
    }
}

/// What was built, as an OCI archive, compressed anew each time.
fn export<'a>(bench: &'a Bench, tree: &Rc<Tree>, name: &'static str, compression: &'static str) -> Job<'a> {
    let out = bench.dir.join("export.tar");
    let (ours, theirs, archive, gone) = (out.clone(), out.clone(), out.clone(), out);
    let [context, other, plain, built] = [(); 4].map(|()| tree.clone());
    let turn = move |n: usize| format!("TURN={compression}{n}");
    Job {
        name,
        ours: Box::new(move |n| {
            let output = format!("type=oci,dest={},compression={compression}", text(&ours));
            let args = ["build", "-q", "--build-arg", &turn(n), "-o", &output, text(&context.context)];
            bench.daemon.buildctl(&args).ok();
        }),
        theirs: vec![
            ("buildah", buildah(bench, other, theirs, compression)),
            (
                "tar",
                Box::new(move |_| {
                    let how = if compression == "gzip" { "-czf" } else { "-cf" };
                    let source = plain.context.join("src");
                    run(Command::new("tar").arg(how).arg(&archive).arg("-C").arg(source).arg(".")).ok();
                }),
            ),
        ],
        reset: Box::new(move |_| {
            // What was compressed for the last turn is gone, what was built is there.
            bench.daemon.buildctl(&["prune", "--all"]).ok();
            builds::ours(bench, &built.context, &[]);
            let _ = fs::remove_file(&gone);
            run(&mut Command::new("sync")).ok();
            disk::warm_memory(bench.divisor);
        }),
    }
}

fn buildah<'a>(bench: &'a Bench, tree: Rc<Tree>, out: PathBuf, compression: &'static str) -> Turn<'a> {
    Box::new(move |n| {
        builds::theirs(bench, &tree.context, &["--build-arg", &format!("TURN={compression}{n}")]);
        let compress =
            if compression == "gzip" { "--disable-compression=false" } else { "--disable-compression=true" };
        let mut push = bench.buildah.trusting("push");
        run(push.args([compress, "-q", "bench"]).arg(format!("oci-archive:{}", text(&out)))).ok();
    })
}
