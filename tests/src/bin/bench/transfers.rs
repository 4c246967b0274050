//! Transfers: images between a registry, archives and the two daemons, as large ones and as many small layers.
//!
//! `main` adds these jobs to its own. Each turn begins without the image; what makes it so is not measured.

use std::{
    fs::{self, File},
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use buildd_tests::{
    daemon::{Daemon, run},
    fixture::{repository, text},
    registry::DockerRegistry,
};

use super::{Containerd, Job};

/// How large the images are.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sizes {
    /// Bytes of the large layer that do not compress.
    pub(super) large: usize,
    /// The same of each small one.
    pub(super) small: usize,
}

impl Sizes {
    /// Large enough that a difference shows.
    pub(super) const WHOLE: Self = Self { large: 300 << 20, small: 15 << 20 };
    /// Only to see that it works.
    pub(super) const SMOKE: Self = Self { large: 3 << 20, small: 150 << 10 };
}

/// Small layers of the second image.
const SMALL_LAYERS: usize = 20;
/// Pulls at once.
const AT_ONCE: usize = 10;

/// Images in a registry, and one of them as an archive.
#[derive(Debug)]
pub(super) struct Stock {
    registry: DockerRegistry,
    archive: PathBuf,
    out: PathBuf,
}

impl Stock {
    /// Makes them with a daemon of its own.
    pub(super) fn new(dir: &Path, sizes: Sizes) -> Self {
        let registry = DockerRegistry::start();
        let daemon = Daemon::start();
        let (layers, archive) = (dir.join("transfers"), dir.join("transfer.tar"));
        fs::create_dir_all(&layers).expect("a folder");
        let large = layer(&layers, 0, sizes.large);
        pack(&[large], &archive, "docker.io/library/one:latest");
        daemon.buildctl(&["image", "import", text(&archive)]).ok();
        let script: String = (1..=SMALL_LAYERS).map(|n| format!("COPY {n} /{n}\n")).collect();
        let context = layers.join("context");
        fs::create_dir_all(&context).expect("a folder");
        fs::write(context.join("Dockerfile"), format!("FROM scratch\n{script}")).expect("a Dockerfile");
        for n in 1..=SMALL_LAYERS {
            noise(&context.join(n.to_string()), n as u64, sizes.small);
        }
        daemon.buildctl(&["build", "-q", "-t", "many", text(&context)]).ok();
        let stock = Self { registry, archive: dir.join("one.tar"), out: dir.join("out.tar") };
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
}

/// The jobs.
pub(super) fn jobs<'a>(stock: &'a Stock, daemon: &'a Daemon, containerd: &'a Containerd) -> Vec<Job<'a>> {
    let forget = move |name: &str| {
        daemon.buildctl(&["image", "rm", "-f", name]).ok();
        daemon.buildctl(&["prune"]).ok();
        run(containerd.ctr(&["images", "rm", "--sync", name]));
    };
    let pull = move |job: &'static str, name: String, at_once: usize| {
        let (theirs, gone) = (name.clone(), name.clone());
        Job {
            name: job,
            peer: "containerd 2",
            ours: Box::new(move |_| {
                all(at_once, || {
                    let mut command = daemon.command("buildctl");
                    command.args(["image", "pull", "-q", "--plain-http", &name]);
                    command
                });
            }),
            theirs: Box::new(move |_| {
                all(at_once, || containerd.command(&["images", "pull", "--plain-http", &theirs]));
            }),
            reset: Box::new(move || forget(&gone)),
        }
    };
    let one = stock.name("one");
    vec![
        pull("pull of one layer of 300 MB", stock.name("one"), 1),
        pull("pull of twenty layers of 15 MB", stock.name("many"), 1),
        pull("ten pulls of the 300 MB at once", stock.name("one"), AT_ONCE),
        Job {
            name: "import of the 300 MB, unpacked",
            peer: "containerd 2",
            ours: Box::new(move |_| {
                daemon.buildctl(&["image", "import", text(&stock.archive)]).ok();
            }),
            theirs: Box::new(move |_| {
                run(&mut containerd.command(&["images", "import", text(&stock.archive)])).ok();
            }),
            reset: {
                let gone = one.clone();
                Box::new(move || forget(&gone))
            },
        },
        Job {
            name: "export of the 300 MB",
            peer: "containerd 2",
            ours: {
                let name = one.clone();
                Box::new(move |_| {
                    daemon.buildctl(&["image", "import", "-q", text(&stock.archive)]).ok();
                    daemon.buildctl(&["image", "export", "-o", text(&stock.out), &name]).ok();
                })
            },
            theirs: Box::new(move |_| {
                run(&mut containerd.command(&["images", "import", text(&stock.archive)])).ok();
                run(&mut containerd.command(&["images", "export", text(&stock.out), &one])).ok();
            }),
            reset: Box::new(|| {}),
        },
    ]
}

/// Runs so many commands at once to their ends.
fn all(count: usize, command: impl Fn() -> Command) {
    let start = |_| command().stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    let children: Vec<_> = (0..count).map(start).collect();
    for child in children {
        assert!(child.expect("a client").wait().expect("its end").success(), "a pull failed");
    }
}

/// A layer whose bytes compress to about `size`, and as many again by two thirds that are zeros.
fn layer(dir: &Path, seed: u64, size: usize) -> PathBuf {
    let (tree, layer) = (dir.join(format!("tree{seed}")), dir.join(format!("layer{seed}.tar")));
    fs::create_dir_all(&tree).expect("a folder");
    noise(&tree.join("noise"), seed, size);
    let zeros = File::create(tree.join("zeros")).expect("a file");
    let mut zeros = std::io::BufWriter::new(zeros);
    let block = vec![0; 1 << 20];
    (0..size * 2 / 3 / block.len()).for_each(|_| zeros.write_all(&block).expect("a disk"));
    zeros.flush().expect("a disk");
    run(Command::new("tar").arg("-C").arg(&tree).arg("-cf").arg(&layer).arg(".")).ok();
    layer
}

fn pack(layers: &[PathBuf], archive: &Path, name: &str) {
    let pack = repository().join("examples/pack");
    run(Command::new(pack).args(layers).arg(archive).arg(name)).ok();
}

/// A file that does not compress.
fn noise(path: &Path, seed: u64, size: usize) {
    let mut state = seed.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut file = std::io::BufWriter::new(File::create(path).expect("a file"));
    for _ in 0..size / 8 {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        file.write_all(&state.to_le_bytes()).expect("a disk");
    }
    file.flush().expect("a disk");
}
