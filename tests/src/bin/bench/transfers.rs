//! Transfers: images between a registry, archives and the daemons, as one large layer and as many smaller ones.
//!
//! Each turn begins without the image; what makes it so is not measured.

use std::{
    cell::RefCell,
    fs,
    path::PathBuf,
    process::{Command, Stdio},
    rc::Rc,
};

use buildd_tests::{
    daemon::{Daemon, run},
    fixture::text,
    registry::DockerRegistry,
};

use super::{Bench, Job, Turn, corpus};

/// Bytes of the large layer.
const LARGE: usize = 512 << 20;
/// Bytes of each of the small ones: 15 MB compressed.
const SMALL: usize = 25 << 20;
/// Small layers of the second image.
const SMALL_LAYERS: usize = 20;
/// Pulls at once.
const AT_ONCE: usize = 10;

/// Images in a registry, and one of them as an archive.
#[derive(Debug)]
struct Stock {
    registry: DockerRegistry,
    /// Where pushes go: an empty one each time.
    target: RefCell<Option<DockerRegistry>>,
    archive: PathBuf,
    out: PathBuf,
}

impl Stock {
    /// Makes them with a daemon of its own.
    fn new(bench: &Bench) -> Self {
        let registry = DockerRegistry::start();
        let daemon = Daemon::start();
        let (layers, archive) = (bench.dir.join("transfers"), bench.dir.join("transfer.tar"));
        fs::create_dir_all(&layers).expect("a folder");
        let tree = layers.join("tree");
        fs::create_dir_all(&tree).expect("a folder");
        corpus::write(&tree.join("file"), 0, LARGE / bench.divisor);
        bench.pack(&tree, &archive, "docker.io/library/one:latest");
        daemon.buildctl(&["image", "import", text(&archive)]).ok();
        let script: String = (1..=SMALL_LAYERS).map(|n| format!("COPY {n} /{n}\n")).collect();
        let context = layers.join("context");
        fs::create_dir_all(&context).expect("a folder");
        fs::write(context.join("Dockerfile"), format!("FROM scratch\n{script}")).expect("a Dockerfile");
        for n in 1..=SMALL_LAYERS {
            corpus::write(&context.join(n.to_string()), n as u64, SMALL / bench.divisor);
        }
        daemon.buildctl(&["build", "-q", "-t", "many", text(&context)]).ok();
        let (archived, out) = (bench.dir.join("one.tar"), bench.dir.join("out.tar"));
        let stock = Self { registry, target: RefCell::default(), archive: archived, out };
        for name in ["one", "many"] {
            let remote = stock.name(name);
            daemon.buildctl(&["image", "convert", "--compression", "gzip", name, &remote]).ok();
            daemon.buildctl(&["image", "push", "-q", &remote]).ok();
        }
        daemon.buildctl(&["image", "export", "-o", text(&stock.archive), &stock.name("one")]).ok();
        fs::remove_dir_all(&layers).expect("what is not needed any more");
        fs::remove_file(&archive).expect("what is not needed any more");
        stock
    }

    fn name(&self, name: &str) -> String {
        format!("{}/{name}:latest", self.registry.authority())
    }

    /// A name in the registry that pushes go to.
    fn target(&self) -> String {
        let target = self.target.borrow();
        format!("{}/pushed:latest", target.as_ref().expect("made before the turn").authority())
    }
}

/// The jobs.
pub(super) fn jobs(bench: &Bench) -> Vec<Job<'_>> {
    let stock = Rc::new(Stock::new(bench));
    vec![
        pull(bench, &stock, "pull and unpack, one layer of 512 MB", "one", 1),
        pull(bench, &stock, "pull and unpack, twenty of 25 MB", "many", 1),
        pull(bench, &stock, "ten such pulls of the 512 MB at once", "one", AT_ONCE),
        import(bench, &stock),
        export(bench, &stock),
        push(bench, &stock),
    ]
}

fn pull<'a>(bench: &'a Bench, stock: &Rc<Stock>, job: &'static str, image: &str, at_once: usize) -> Job<'a> {
    let name = stock.name(image);
    let (theirs, gone) = (name.clone(), name.clone());
    // The registry lives as long as the job.
    let stock = stock.clone();
    Job {
        name: job,
        ours: Box::new(move |_| {
            all(at_once, || {
                let mut command = bench.daemon.command("buildctl");
                command.args(["image", "pull", "-q", "--plain-http", &name]);
                command
            });
        }),
        theirs: vec![(
            "containerd 2",
            Box::new(move |_| {
                all(at_once, || bench.containerd.command(&["images", "pull", "--plain-http", &theirs]));
            }),
        )],
        reset: Box::new(move |_| {
            let _alive = &stock;
            bench.forget(&gone);
        }),
    }
}

fn import<'a>(bench: &'a Bench, stock: &Rc<Stock>) -> Job<'a> {
    let (name, archive) = (stock.name("one"), stock.archive.clone());
    let theirs = archive.clone();
    Job {
        name: "import and unpack, 512 MB",
        ours: Box::new(move |_| drop(bench.daemon.buildctl(&["image", "import", text(&archive)]).ok())),
        theirs: vec![(
            "containerd 2",
            Box::new(move |_| drop(bench.containerd.ctr(&["images", "import", text(&theirs)]).ok())),
        )],
        reset: Box::new(move |_| bench.forget(&name)),
    }
}

fn export<'a>(bench: &'a Bench, stock: &Rc<Stock>) -> Job<'a> {
    let turn = |run| with(bench, stock, run);
    Job {
        name: "export, 512 MB",
        ours: turn(|bench, stock| {
            drop(
                bench.daemon.buildctl(&["image", "export", "-o", text(&stock.out), &stock.name("one")]).ok(),
            );
        }),
        theirs: vec![(
            "containerd 2",
            turn(|bench, stock| {
                drop(bench.containerd.ctr(&["images", "export", text(&stock.out), &stock.name("one")]).ok());
            }),
        )],
        reset: turn(|bench, stock| {
            let _ = fs::remove_file(&stock.out);
            have(bench, stock);
        }),
    }
}

fn push<'a>(bench: &'a Bench, stock: &Rc<Stock>) -> Job<'a> {
    let turn = |run| with(bench, stock, run);
    Job {
        name: "push, 512 MB",
        ours: turn(|bench, stock| {
            drop(bench.daemon.buildctl(&["image", "push", "-q", "--plain-http", &stock.target()]).ok());
        }),
        theirs: vec![(
            "containerd 2",
            turn(|bench, stock| {
                drop(bench.containerd.ctr(&["images", "push", "--plain-http", &stock.target()]).ok());
            }),
        )],
        reset: turn(|bench, stock| {
            have(bench, stock);
            stock.target.replace(Some(DockerRegistry::start()));
            let (from, to) = (stock.name("one"), stock.target());
            bench.daemon.buildctl(&["image", "tag", &from, &to]).ok();
            bench.containerd.ctr(&["images", "tag", &from, &to]).ok();
        }),
    }
}

/// A turn that needs the stock.
fn with<'a>(bench: &'a Bench, stock: &Rc<Stock>, run: fn(&Bench, &Stock)) -> Turn<'a> {
    let stock = stock.clone();
    Box::new(move |_| run(bench, &stock))
}

/// Both daemons have the large image.
fn have(bench: &Bench, stock: &Stock) {
    if run(bench.daemon.command("buildctl").args(["image", "inspect", &stock.name("one")])).code != Some(0) {
        bench.daemon.buildctl(&["image", "import", text(&stock.archive)]).ok();
    }
    bench.containerd.ctr(&["images", "import", text(&stock.archive)]).ok();
}

/// Runs so many commands at once to their ends.
fn all(count: usize, command: impl Fn() -> Command) {
    let start = |_| command().stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    let children: Vec<_> = (0..count).map(start).collect();
    for child in children {
        assert!(child.expect("a client").wait().expect("its end").success(), "a pull failed");
    }
}
