//! Slow peers: registries that trickle and clients that stop reading. They hold up what is theirs, and nobody else.

use std::{
    fs,
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use buildd_oci::{descriptor::Descriptor, digest::Digest, media_type};
use buildd_tests::{
    daemon::{Daemon, eventually},
    fixture::{Noise, context, import_base, text},
    peers::peer,
    registry::{Act, Fault, Gate, Registry},
};
use rustix::process::{Pid, Signal, kill_process};

/// Layers of each image.
const LAYERS: usize = 8;
/// Layers that one pull fetches at once: `PARALLEL_LAYERS` of the store.
const AT_ONCE: usize = 4;
/// Bytes of the file in each layer: at a byte at a time it does not end by itself within a test.
const FILE: usize = 8 << 10;
/// How long a listing may take while others wait: a liveness deadline, which issue 16 states.
const ANSWER: Duration = Duration::from_secs(1);

/// A client at work; a test that fails ends it.
struct Client(Child);

impl Client {
    fn start(command: &mut Command) -> Self {
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::inherit());
        Self(command.spawn().expect("start a client"))
    }

    fn buildctl(daemon: &Daemon, args: &[&str]) -> Self {
        Self::start(daemon.command("buildctl").args(args))
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.0), signal).expect("signal our own child");
    }

    #[track_caller]
    fn succeeds(&mut self, what: &str) {
        let mut ended = None;
        eventually(&format!("the end of {what}"), || {
            ended = self.0.try_wait().expect("wait for a client");
            ended.is_some()
        });
        assert!(ended.is_some_and(|status| status.success()), "{what} ended with {ended:?}");
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        // One that has ended cannot be killed any more.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Puts an image into the registry, whose layers trickle until the gate opens; its name.
fn trickling(registry: &Registry, number: usize, annotation: &str, gate: &Gate) -> String {
    let repository = format!("slow/{number}");
    let mut noise = Noise::new(number as u64);
    let layer = |n: usize| {
        let mut data = vec![0; FILE];
        noise.fill(&mut data);
        let mut header = tar::Header::new_gnu();
        header.set_size(FILE as u64);
        header.set_mode(0o644);
        let mut archive = tar::Builder::new(Vec::new());
        archive.append_data(&mut header, format!("file{n}"), &*data).expect("a file");
        let mut layer = registry.put_blob(&repository, archive.into_inner().expect("an archive"));
        layer.media_type = "application/vnd.oci.image.layer.v1.tar".to_owned();
        layer.annotations.insert("note".to_owned(), annotation.to_owned());
        let path = format!("{repository}/blobs/{}", layer.digest);
        registry.fault(Fault::on(path, Act::Trickle(gate.clone())).method("GET"));
        layer
    };
    let layers: Vec<Descriptor> = (0..LAYERS).map(layer).collect();
    let diff_ids: Vec<Digest> = layers.iter().map(|layer| layer.digest).collect();
    let config = serde_json::json!({
        "architecture": "amd64", "os": "linux", "config": {},
        "rootfs": { "type": "layers", "diff_ids": diff_ids.iter().map(Digest::to_string).collect::<Vec<_>>() },
    });
    let mut config = registry.put_blob(&repository, config.to_string());
    config.media_type = "application/vnd.oci.image.config.v1+json".to_owned();
    let manifest = serde_json::json!({
        "schemaVersion": 2, "mediaType": media_type::OCI_MANIFEST, "config": config, "layers": layers,
    });
    registry.put_manifest(&repository, Some("v1"), media_type::OCI_MANIFEST, manifest.to_string());
    format!("{}/{repository}:v1", registry.authority())
}

/// Layers that were asked for.
fn begun(registry: &Registry) -> usize {
    registry.seen().iter().filter(|seen| seen.method == "GET" && seen.path.contains("/blobs/")).count()
}

#[test]
fn pulls_that_trickle_leave_threads_to_everybody_else() {
    const PULLS: usize = 32;
    let daemon = Daemon::start();
    import_base(&daemon);
    let (registry, gate) = (Registry::start(), Gate::closed());
    let names: Vec<String> = (0..PULLS).map(|n| trickling(&registry, n, "", &gate)).collect();
    let pull = |name: &String| Client::buildctl(&daemon, &["image", "pull", name]);
    let mut pulls: Vec<Client> = names.iter().map(pull).collect();
    let done = AtomicBool::new(false);
    let slowest = std::thread::scope(|scope| {
        let listing = scope.spawn(|| {
            let mut slowest = Duration::ZERO;
            while !done.load(Ordering::Relaxed) {
                let begun = Instant::now();
                Client::buildctl(&daemon, &["image", "ls"]).succeeds("a listing");
                slowest = slowest.max(begun.elapsed());
            }
            slowest
        });
        // A failure in here must end the listings too.
        let others = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            // Configs are asked for too, one an image.
            eventually("that every pull fetches", || begun(&registry) >= PULLS * (AT_ONCE + 1));
            work_beside(&daemon);
            gate.open();
            pulls.iter_mut().zip(&names).for_each(|(pull, name)| pull.succeeds(name));
        }));
        done.store(true, Ordering::Relaxed);
        let slowest = listing.join();
        others.and(slowest).unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    });
    assert!(slowest < ANSWER, "a listing took {slowest:?}");
    let listed = daemon.buildctl(&["image", "ls"]).ok().stdout;
    assert!(names.iter().all(|name| listed.contains(name.trim_end_matches(":v1"))), "{listed}");
}

/// Builds with a step, exported in each way.
fn work_beside(daemon: &Daemon) {
    let exports = ["type=image,name=beside", "type=tar,dest=", "type=oci,dest=", "type=local,dest="];
    let started: Vec<_> = exports
        .iter()
        .enumerate()
        .map(|(n, export)| {
            let dir = context(&[
                ("Dockerfile", "FROM alpine\nCOPY words /words\nRUN cat /words /words > /twice\n"),
                ("words", &format!("words {n}\n")),
            ]);
            let out = daemon.path(&format!("out{n}"));
            let output =
                if export.ends_with('=') { format!("{export}{}", text(&out)) } else { (*export).to_owned() };
            (Client::buildctl(daemon, &["build", "-o", &output, text(dir.path())]), dir, out)
        })
        .collect();
    for ((mut build, _dir, out), export) in started.into_iter().zip(exports) {
        build.succeeds(export);
        match export {
            "type=local,dest=" => {
                let twice = fs::read_to_string(out.join("twice")).expect("what the step wrote");
                assert_eq!(twice, "words 3\nwords 3\n");
            }
            "type=image,name=beside" => {
                let listed = daemon.buildctl(&["image", "ls"]).ok().stdout;
                assert!(listed.contains("beside"), "{listed}");
            }
            archive => {
                let mut archived = tar::Archive::new(fs::File::open(&out).expect(archive));
                assert!(archived.entries().expect("an archive").count() > 1, "{archive}");
            }
        }
    }
}

#[test]
fn a_suspended_client_that_pulls_holds_up_nobody() {
    let daemon = Daemon::start();
    let (registry, gate) = (Registry::start(), Gate::closed());
    // Every message of the progress has it: a few fill what a client that does not read takes.
    let name = trickling(&registry, 0, &"x".repeat(8 << 10), &gate);
    let mut ctr = peer("ctr2");
    ctr.arg("--address").arg(daemon.path("sock")).args(["images", "pull", "--plain-http", &name]);
    let mut pull = Client::start(&mut ctr);
    eventually("that the pull fetches", || begun(&registry) > AT_ONCE);
    pull.signal(Signal::STOP);
    let sent = gate.sent();
    // Each byte is progress: some dozen looks at it are more than the stream takes.
    eventually("that layers trickle", || gate.sent() > sent + 50 * AT_ONCE);
    let dir = context(&[("Dockerfile", &format!("FROM {name}\nCOPY words /\n")), ("words", "words\n")]);
    let mut build = Client::buildctl(&daemon, &["build", "-t", "onto", text(dir.path())]);
    gate.open();
    build.succeeds("the build of another client");
    pull.signal(Signal::CONT);
    pull.succeeds("the pull");
    let listed = daemon.buildctl(&["image", "ls"]).ok().stdout;
    assert!(listed.contains("slow/0") && listed.contains("onto"), "{listed}");
}
