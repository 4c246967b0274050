//! Platforms: steps of a processor that this machine has not, without and with an interpreter for it.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use buildd_tests::{
    daemon::{Daemon, run},
    fixture::{context, import_base, text},
};

/// The head of a program for loong64, up to and with `e_machine`; the rest of the file is what it has to say.
const HEAD: &[u8] = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x02\0\x02\x01";
const DOCKERFILE: &str = "FROM --platform=linux/loong64 scratch
COPY --chmod=0755 foreign /bin/cat
RUN [\"/bin/cat\", \"/bin/cat\"]
";

/// An interpreter registered with the kernel for as long as this value lives.
struct Handler {
    mount: PathBuf,
}

impl Handler {
    fn register(daemon: &Daemon, interpreter: &Path) -> Self {
        let mount = daemon.path("binfmt");
        fs::create_dir(&mount).expect("a folder");
        run(Command::new("mount").args(["-t", "binfmt_misc", "none", text(&mount)])).ok();
        let escaped = |bytes: &[u8]| bytes.iter().map(|byte| format!("\\x{byte:02x}")).collect::<String>();
        let mut mask = vec![0xff; HEAD.len()];
        mask[16] = 0xfe;
        let (magic, mask) = (escaped(HEAD), escaped(&mask));
        let line = format!(":buildd-test-loong64:M::{magic}:{mask}:{}:F", text(interpreter));
        fs::write(mount.join("register"), line).expect("registered");
        Self { mount }
    }
}

impl Drop for Handler {
    fn drop(&mut self) {
        let forgotten = fs::write(self.mount.join("buildd-test-loong64"), "-1");
        run(Command::new("umount").arg(&self.mount)).ok();
        forgotten.expect("unregistered");
    }
}

#[test]
fn a_foreign_step_runs_where_a_handler_is_and_says_what_is_missing_where_none_is() {
    let daemon = Daemon::start();
    import_base(&daemon);
    let foreign = [HEAD, b"\nhello from afar\n"].concat();
    let dir = context(&[("Dockerfile", DOCKERFILE)]);
    fs::write(dir.path().join("foreign"), foreign).expect("a program");
    let build = || daemon.buildctl(&["build", "--progress=plain", "--no-cache", text(dir.path())]);
    build().fails(1, &["linux/loong64", "binfmt_misc", "qemu-user-static", "--platform=$BUILDPLATFORM"]);

    // busybox plays the interpreter: as `busybox /bin/cat FILE` it shows the file.
    let base = context(&[("Dockerfile", "FROM alpine\n")]);
    let tree = daemon.path("base");
    daemon.buildctl(&["build", "-o", &format!("type=local,dest={}", text(&tree)), text(base.path())]).ok();
    let _handler = Handler::register(&daemon, &tree.join("bin/busybox"));
    let ran = build().ok();
    assert!(ran.stderr.contains("hello from afar"), "{}", ran.stderr);
}
