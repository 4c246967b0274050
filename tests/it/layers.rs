//! Layers: what a user sees is the same whichever form they are stored in, and no form leaves anything behind.

use std::{fs, path::Path, process::Command};

use buildd_oci::digest::Digest;
use buildd_tests::{
    daemon::{Daemon, eventually, run},
    fixture::{Noise, context, import_base, text},
};
use rustix::process::Signal;

const DOCKERFILE: &str = "FROM alpine\nCOPY a.txt /etc/a.txt\n\
    RUN rm /etc/a.txt && echo made > /etc/made && mkdir /new && ln /etc/made /new/linked && ln -s /etc /link\n\
    COPY a.txt /link/through\n\
    FROM alpine\nCOPY --from=0 /etc/made /new /\nCOPY --from=0 /etc/through /deep/er/\n\
    WORKDIR /work\nCOPY --chown=3:4 --chmod=640 . here\nADD packed.tar /opt/\n";

/// An archive whose entries lead through a link of its own.
fn archive() -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    let mut put = |name: &str, kind, link: &str, data: &[u8]| {
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(kind);
        header.set_mode(0o755);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_size(data.len() as u64);
        if !link.is_empty() {
            header.set_link_name(link).expect("short");
        }
        tar.append_data(&mut header, name, data).expect("memory");
    };
    put("inner/", tar::EntryType::Directory, "", b"");
    put("absolute", tar::EntryType::Symlink, "/inner", b"");
    put("absolute/file", tar::EntryType::Regular, "", b"unpacked");
    put("hard", tar::EntryType::Link, "inner/file", b"");
    tar.into_inner().expect("memory")
}

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
        let dir = context(&[("Dockerfile", DOCKERFILE), ("a.txt", "a"), ("sub/b.txt", "b")]);
        fs::write(dir.path().join("packed.tar"), archive()).expect("an archive");
        let out = daemon.path("out.tar");
        let spec = format!("type=tar,dest={},source-date-epoch=0", text(&out));
        daemon.buildctl(&["build", "-o", &spec, text(dir.path())]).ok();
        exports.push(fs::read(&out).expect("a tar"));
        // Folders are what RUN wrote, and everything where no layer is a file.
        let folders = fs::read_dir(daemon.path("root/layers")).expect("layers").filter(|layer| {
            layer.as_ref().is_ok_and(|layer| layer.file_type().is_ok_and(|kind| kind.is_dir()))
        });
        assert_eq!(folders.count() == 1, file, "{form}");
        // Only what changed comes again, and beside it what stayed.
        fs::write(dir.path().join("a.txt"), "changed").expect("a change");
        daemon.buildctl(&["build", "-o", &spec, text(dir.path())]).ok();
        exports.push(fs::read(&out).expect("a tar"));
        daemon.buildctl(&["build", "-t", "made:v1", text(dir.path())]).ok();
        let archive = daemon.path("made.tar");
        daemon.buildctl(&["image", "export", "-o", text(&archive), "made:v1"]).ok();
        let seen = ["/made", "/linked", "/deep/er/through", "/work/here/sub/b.txt", "/opt/inner/file"];
        let ran = daemon.buildctl(&[&["run", "--rm", "made:v1", "cat"], &seen[..]].concat()).ok();
        assert_eq!(ran.stdout, "made\nmade\nchangedbunpacked", "{form}");
        assert_eq!(daemon.stop(Signal::TERM), Some(0));
        assert_eq!(mounted_below(&daemon.path("root")), [""; 0], "{form} leaves mounts");
        // What one form stored, a daemon that was told the other one reads.
        daemon.spawn(&[]);
        let ran = daemon.buildctl(&["run", "--rm", "made:v1", "cat", "/made"]).ok();
        assert_eq!(ran.stdout, "made\n", "{form}");
        daemon.buildctl(&["image", "import", text(&archive)]).ok();
    }
    assert!(exports[..2] == exports[2..], "the forms export different bytes");
    assert!(exports[0] != exports[1], "the change was not seen");
}

/// What the layers take on disk.
fn kilobytes(daemon: &Daemon) -> u64 {
    let all = run(Command::new("du").arg("-sk").arg(daemon.path("root/layers"))).ok().stdout;
    all.split_whitespace().next().and_then(|size| size.parse().ok()).expect("a size")
}

#[test]
fn a_large_file_of_a_client_is_on_disk_once_and_stays_when_the_client_changes_it() {
    let mut daemon = with_form("file");
    import_base(&daemon);
    let dir = context(&[("Dockerfile", "FROM alpine\nCOPY large small /\n"), ("small", "s")]);
    let mut bytes = vec![0; 24 << 20];
    Noise::new(1).fill(&mut bytes);
    fs::write(dir.path().join("large"), &bytes).expect("a file");
    let before = kilobytes(&daemon);
    let build =
        |daemon: &Daemon, tag: &str| daemon.buildctl(&["build", "-q", "-t", tag, text(dir.path())]).ok();
    build(&daemon, "one");
    let more = kilobytes(&daemon) - before;
    assert!((24 << 10..30 << 10).contains(&more), "{more} KiB more");
    let mut other = bytes.clone();
    other[12 << 20] ^= 1;
    fs::write(dir.path().join("large"), &other).expect("a file");
    build(&daemon, "two");
    daemon.buildctl(&["prune", "--all"]).ok();
    let sum = |daemon: &Daemon, image: &str| {
        daemon.buildctl(&["run", "--rm", "--net", "none", image, "sha256sum", "/large"]).ok().stdout
    };
    for (image, bytes) in [("one", &bytes), ("two", &other)] {
        assert!(sum(&daemon, image).starts_with(&Digest::of(bytes).hex()), "{image}");
    }
    daemon.buildctl(&["image", "rm", "two"]).ok();
    daemon.buildctl(&["prune", "--all"]).ok();
    eventually("what only the second had is gone", || kilobytes(&daemon) < before + (30 << 10));
    // Another daemon gets it whole.
    let archive = daemon.path("one.tar");
    daemon.buildctl(&["image", "export", "-o", text(&archive), "one"]).ok();
    let second = with_form("directory");
    second.buildctl(&["image", "import", text(&archive)]).ok();
    assert!(sum(&second, "one").starts_with(&Digest::of(&bytes).hex()));
    daemon.stop(Signal::TERM);
    assert!(daemon.fsck(&[]).ok().stdout.contains("clean"));
}

#[test]
fn small_files_of_a_client_are_on_disk_once_and_stay_when_one_changes() {
    const FILES: u64 = 4000;
    let mut daemon = with_form("file");
    import_base(&daemon);
    let dir = context(&[("Dockerfile", "FROM alpine\nCOPY files /files\nRUN echo more > /files/0001\n")]);
    fs::create_dir(dir.path().join("files")).expect("a folder");
    let mut noise = Noise::new(2);
    let mut all = Vec::new();
    for (number, size) in (0..FILES).zip([0, 1, 511, 512, 513, 1024, 3000, 9000].into_iter().cycle()) {
        let mut bytes = vec![0; size];
        noise.fill(&mut bytes);
        fs::write(dir.path().join(format!("files/{number:04}")), &bytes).expect("a file");
        all.push(bytes);
    }
    let payload = all.iter().map(|bytes| bytes.len().next_multiple_of(512) as u64).sum::<u64>() >> 10;
    let before = kilobytes(&daemon);
    daemon.buildctl(&["build", "-q", "-t", "one", text(dir.path())]).ok();
    let more = kilobytes(&daemon) - before;
    // A head for each file in the tar, and two indexes.
    let most = payload + FILES * 3 / 4;
    assert!((payload..most).contains(&more), "{more} KiB more for {payload}");
    all[17][0] ^= 1;
    fs::write(dir.path().join("files/0017"), &all[17]).expect("a change");
    daemon.buildctl(&["build", "-q", "-t", "two", text(dir.path())]).ok();
    daemon.buildctl(&["prune", "--all"]).ok();
    all[1] = b"more\n".to_vec();
    let sum = |daemon: &Daemon, image: &str| {
        let cat = "cat /files/* | sha256sum";
        daemon.buildctl(&["run", "--rm", "--net", "none", image, "sh", "-c", cat]).ok().stdout
    };
    assert!(sum(&daemon, "two").starts_with(&Digest::of(&all.concat()).hex()));
    all[17][0] ^= 1;
    let first = Digest::of(&all.concat()).hex();
    assert!(sum(&daemon, "one").starts_with(&first));
    // Another daemon gets them whole.
    let archive = daemon.path("one.tar");
    daemon.buildctl(&["image", "export", "-o", text(&archive), "one"]).ok();
    let second = with_form("directory");
    second.buildctl(&["image", "import", text(&archive)]).ok();
    assert!(sum(&second, "one").starts_with(&first));
    daemon.stop(Signal::TERM);
    assert!(daemon.fsck(&[]).ok().stdout.contains("clean"));
}
