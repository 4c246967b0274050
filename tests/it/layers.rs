//! Layers: what a user sees is the same whichever form they are stored in, and no form leaves anything behind.

use std::{fs, path::Path};

use buildd_tests::{
    daemon::Daemon,
    fixture::{context, import_base, text},
};
use rustix::process::Signal;

const DOCKERFILE: &str = "FROM alpine\nCOPY a.txt /etc/a.txt\n\
    RUN rm /etc/a.txt && echo made > /etc/made && mkdir /new && ln /etc/made /new/linked\n\
    FROM alpine\nCOPY --from=0 /etc/made /new /\n";

fn with_form(form: &str) -> Daemon {
    let config = tempfile::NamedTempFile::new().expect("a file");
    fs::write(config.path(), format!("[worker]\nlayer-form = \"{form}\"\n")).expect("a configuration");
    Daemon::start_with(&["--config", text(config.path())])
}

fn mounted_below(dir: &Path) -> Vec<String> {
    let table = fs::read_to_string("/proc/self/mountinfo").expect("the table");
    table.lines().filter(|line| line.contains(text(dir))).map(str::to_owned).collect()
}

#[test]
fn both_forms_build_run_and_export_the_same() {
    let mut exports = Vec::new();
    for (form, file) in [("file", true), ("directory", false)] {
        let mut daemon = with_form(form);
        import_base(&daemon);
        let layers: Vec<_> = fs::read_dir(daemon.path("root/layers"))
            .expect("layers")
            .map(|entry| entry.expect("it"))
            .collect();
        assert!(!layers.is_empty());
        for layer in layers {
            assert_eq!(layer.file_type().expect("a type").is_file(), file, "{form}: {:?}", layer.path());
        }
        let dir = context(&[("Dockerfile", DOCKERFILE), ("a.txt", "a")]);
        let out = daemon.path("out.tar");
        let spec = format!("type=tar,dest={},source-date-epoch=0", text(&out));
        daemon.buildctl(&["build", "-o", &spec, text(dir.path())]).ok();
        exports.push(fs::read(&out).expect("a tar"));
        daemon.buildctl(&["build", "-t", "made:v1", text(dir.path())]).ok();
        let archive = daemon.path("made.tar");
        daemon.buildctl(&["image", "export", "-o", text(&archive), "made:v1"]).ok();
        let ran = daemon.buildctl(&["run", "--rm", "made:v1", "cat", "/made", "/linked"]).ok();
        assert_eq!(ran.stdout, "made\nmade\n", "{form}");
        assert_eq!(daemon.stop(Signal::TERM), Some(0));
        assert_eq!(mounted_below(&daemon.path("root")), [""; 0], "{form} leaves mounts");
        // What one form stored, a daemon that was told the other one reads.
        daemon.spawn(&[]);
        let ran = daemon.buildctl(&["run", "--rm", "made:v1", "cat", "/made"]).ok();
        assert_eq!(ran.stdout, "made\n", "{form}");
        daemon.buildctl(&["image", "import", text(&archive)]).ok();
    }
    assert!(exports[0] == exports[1], "the forms export different bytes");
}
