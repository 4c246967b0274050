//! Hostile steps: the cases RUN-01 to RUN-24 and MNT-01 to MNT-14 of the specification, by Dockerfiles against one daemon.
//!
//! Most steps look for themselves whether they are contained and fail if they are not. After each the oracles are asked.

use std::{fs, os::unix::fs::symlink, path::Path, process::Stdio};

use buildd_tests::{
    daemon::{Daemon, Ran, eventually},
    fixture::{context, import_base, text},
    oracles::Oracles,
    processes::Sleep,
};

/// What becomes of a build.
enum Outcome {
    /// It is built.
    Built,
    /// It fails with these words.
    Refused(&'static [&'static str]),
}

use Outcome::{Built, Refused};

/// A case: its name, and what follows the base's `FROM`.
type Case = (&'static str, String, Outcome);

/// A variable of the daemon's environment that no step may see.
const MARKER: (&str, &str) = ("HOST_MARKER", "planted-in-the-daemon");

fn build(daemon: &Daemon, dir: &Path, flags: &[&str]) -> Ran {
    daemon.buildctl(&[&["build", "--progress", "plain", text(dir)], flags].concat())
}

fn attack(daemon: &Daemon, oracles: &Oracles, cases: Vec<Case>) {
    for (name, dockerfile, outcome) in cases {
        let dir = context(&[("Dockerfile", &format!("FROM alpine\n{dockerfile}\n")), ("file", "text")]);
        let ran = build(daemon, dir.path(), &[]);
        match outcome {
            Built => assert_eq!(ran.code, Some(0), "{name}:\n{}", ran.stderr),
            Refused(texts) => {
                assert_eq!(ran.code, Some(1), "{name}:\n{}", ran.stderr);
                for text in texts {
                    assert!(ran.stderr.contains(text), "{name}: no {text:?} in\n{}", ran.stderr);
                }
            }
        }
        assert!(!ran.stderr.contains("panic"), "{name}:\n{}", ran.stderr);
        oracles.check(daemon, name);
    }
}

/// Fails unless every one of these commands fails.
fn none_of(commands: &[&str]) -> String {
    let each = commands
        .iter()
        .enumerate()
        .map(|(n, command)| format!("if ( {command} ) 2>/dev/null; then echo WORKS: number {n}; exit 1; fi"));
    format!("RUN {}", each.collect::<Vec<_>>().join("; "))
}

fn steps(daemon: &Daemon, sleep: &Sleep) -> Vec<Case> {
    let sleep = sleep.command();
    let run = |script: &str| format!("RUN {script}");
    let kernel = [
        "echo x > /proc/sys/kernel/core_pattern",
        "echo x > /proc/self/../sys/kernel/domainname",
        "echo x > /proc/1/root/proc/sys/kernel/domainname",
        "echo b > /proc/sysrq-trigger",
        "echo exec x > /proc/self/attr/exec",
        "echo x > /sys/kernel/uevent_helper",
        "ln /proc/sys/kernel/domainname /d",
        "touch /sys/x",
        "mkdir /sys/fs/cgroup/x /sys/fs/cgroup/*/x",
        "for f in $(find /sys/fs/cgroup/ -name release_agent -o -name pids.max -o -name cgroup.procs); do echo 1 > $f && exit 0; done; false",
        "mount | grep cgroup | grep -v '(ro'",
        "ls /sys/kernel/tracing /sys/kernel/debug /sys/fs/bpf /sys/kernel/security | grep -v : | grep .",
    ];
    let masked = "for p in /proc/kcore /proc/keys /proc/timer_list /proc/sched_debug /proc/interrupts /proc/acpi /proc/scsi /sys/firmware \
                  /sys/devices/virtual/powercap; do [ -d $p ] && n=$(ls $p | wc -l) || n=$(head -c 9 $p 2>/dev/null | wc -c); \
                  [ $n = 0 ] || { echo $p shows $n; exit 1; }; done";
    let calls = [
        "unshare -U true",
        "unshare -m true",
        "unshare -n true",
        "mount -t tmpfs none /mnt",
        "mount --bind /bin /mnt",
        "mount -o remount,rw /sys",
        "umount /proc/sys",
        "nsenter -t 1 -m true",
        "swapoff -a && swapon /file",
        "hostname other",
        "mknod /w c 0 0",
        "chroot / mount -t proc p /mnt",
        "date -s 2000-01-01 && test $(date +%Y) = 2000",
        "insmod /x.ko",
    ];
    let status = "test \"$(grep -E '^(Seccomp|Cap...|NoNewPrivs|Groups):' /proc/self/status | tr -d '\\t\\n ')\" = \
                  Groups:CapInh:0000000000000000CapPrm:00000000880405fbCapEff:00000000880405fbCapBnd:00000000880405fb\
                  CapAmb:0000000000000000NoNewPrivs:0Seccomp:2 || { cat /proc/self/status; exit 1; }";
    let disk = "set -- $(sed -n 3p /proc/partitions); mknod /disk b $1 $2 && ! head -c 1 /disk && rm /disk && mknod /mem c 1 1 && ! head -c 1 /mem";
    let reach = format!(
        "! ls {} && ! grep -a buildd /proc/net/unix && ! tr '\\0' '\\n' < /proc/1/environ | grep {}",
        text(&daemon.path("sock")),
        MARKER.0
    );
    vec![
        (
            "RUN-01 the runtime's program",
            "RUN [\"/proc/self/exe\", \"fsck\"]".to_owned(),
            Refused(&["exit code: 126"]),
        ),
        (
            "RUN-01 writing to it",
            run("for f in /proc/1/exe /proc/self/exe; do (echo x >> $f); done; true"),
            Built,
        ),
        ("RUN-02 descriptors", run("test \"$(ls /proc/self/fd | tr '\\n' ' ')\" = '0 1 2 3 '"), Built),
        ("RUN-03, RUN-16 the host's environment and sockets", run(&reach), Built),
        ("RUN-06, RUN-07, RUN-14 the kernel's files", none_of(&kernel), Built),
        ("RUN-07, RUN-08 masked files", run(masked), Built),
        ("RUN-09 what it may", run(status), Built),
        ("RUN-10, RUN-21 calls", none_of(&calls), Built),
        (
            "RUN-12 no fence",
            "RUN --security=insecure true".to_owned(),
            Refused(&["security.insecure is not allowed"]),
        ),
        (
            "RUN-12 the host's network",
            "RUN --network=host true".to_owned(),
            Refused(&["network.host is not allowed"]),
        ),
        (
            "RUN-17 who does not want to end",
            run(&format!(
                "trap '' TERM HUP; (setsid {sleep} &); setsid sh -c \"trap '' TERM; {sleep}\" & true"
            )),
            Built,
        ),
        ("RUN-18 who holds the output", run(&format!("{sleep} & echo bye")), Built),
        ("RUN-17 who stops itself", run(&format!("sh -c 'kill -STOP $$' & {sleep} & true")), Built),
        ("RUN-19 disks and memory", run(disk), Built),
        (
            "RUN-20 files of the network",
            none_of(&["echo x > /etc/resolv.conf", "echo x >> /etc/hosts", "rm /etc/hosts", "mv /etc /e"]),
            Built,
        ),
        (
            "RUN-23 who else is there",
            run("test $(ls -d /proc/[0-9]* | wc -l) -lt 8 && ! kill -0 $(($$ + 1000))"),
            Built,
        ),
        ("TAR-31 the user that is none", "USER 4294967295\nRUN true".to_owned(), Refused(&["4294967295"])),
        ("MAN-06 a group that is none", "USER 0:4294967295\nRUN true".to_owned(), Refused(&["4294967295"])),
        (
            "MAN-09 a folder by descriptor",
            "WORKDIR /proc/self/fd/7\nRUN pwd -P".to_owned(),
            Refused(&["/proc/self/fd/7"]),
        ),
    ]
}

#[test]
fn run_01_to_24_steps_stay_in_their_containers() {
    let daemon = Daemon::start_in(&[MARKER], &[]);
    import_base(&daemon);
    let oracles = Oracles::new(&daemon);
    let program = |name: &str| {
        let meta = fs::metadata(buildd_tests::daemon::binaries().join(name)).expect("a binary");
        (meta.len(), meta.modified().expect("a time"))
    };
    let before = [program("buildd"), program("buildctl")];
    let sleep = Sleep::default();
    attack(&daemon, &oracles, steps(&daemon, &sleep));
    assert_eq!([program("buildd"), program("buildctl")], before, "RUN-01: the runtime was written to");
    assert_eq!(sleep.running(), 0, "RUN-17: processes are left");
    // RUN-20: nothing that only stood for a mount is in the layer.
    let dir = context(&[(
        "Dockerfile",
        "FROM alpine AS base\nFROM scratch\nCOPY --from=base /bin /bin\nRUN [\"/bin/true\"]\n",
    )]);
    let out = daemon.path("out");
    build(&daemon, dir.path(), &["-o", &format!("type=local,dest={}", text(&out))]).ok();
    let names: Vec<_> =
        fs::read_dir(&out).expect("the tree").map(|entry| entry.expect("it").file_name()).collect();
    assert_eq!(names, ["bin"], "RUN-20");
    oracles.nowhere(MARKER.1, &daemon.path("root"));
    oracles.finish(daemon);
}

fn mounts(canary: &str) -> Vec<Case> {
    let on = |target: &str| format!("RUN --mount=type=tmpfs,target={target} true");
    let stay: &[&str] = &["must stay as it is"];
    let link = |line: &str| {
        format!(
            "RUN ln -s {canary} /host && ln -s /proc/sys /kernel && ln -s ../../../..{canary} /up\n{line}"
        )
    };
    let from = |line: &str| {
        format!(
            "RUN mkdir /own && ln -s {canary} /own/out && ln -s ../../../../.. /own/up\nFROM alpine\n{line}"
        )
    };
    let long = "i".repeat(4096);
    let stub = |script: &str| {
        format!("RUN --mount=type=cache,target=/a/b/c --mount=type=cache,target=/d/empty true; {script}")
    };
    let many: String = (0..300).map(|n| format!("--mount=type=tmpfs,size=1m,target=/m/{n} ")).collect();
    vec![
        ("MNT-01 an id that climbs", "RUN --mount=type=cache,id=../../../../../etc,target=/c touch /c/x && ! ls /c/passwd".to_owned(), Built),
        ("MNT-01 a long id", format!("RUN --mount=type=cache,id={long},target=/c touch /c/x"), Built),
        ("MNT-02 a cache of a link", from("RUN --mount=type=cache,from=0,source=/own/out,target=/c ! ls /c/file"), Refused(&["not found"])),
        ("MNT-02 a bind of a link", from("RUN --mount=type=bind,from=0,source=/own/out,target=/c true"), Refused(&["not found"])),
        ("MNT-02 a bind of a link up", from("RUN --mount=type=bind,from=0,source=/own/up,target=/c ! ls /c/root/w && ls /c/own"), Built),
        ("MNT-02 a bind of what is above", from("RUN --mount=type=bind,from=0,source=../../..,target=/c ls /c/own"), Built),
        ("MNT-03 the root", on("/"), Refused(&[])),
        ("MNT-03 /proc", on("/proc"), Refused(stay)),
        ("MNT-03 /proc/self", on("/proc/self"), Refused(stay)),
        ("MNT-03 /sys/fs/cgroup", on("/sys/fs/cgroup"), Refused(stay)),
        ("MNT-03 /dev", on("/dev"), Refused(stay)),
        ("MNT-03 /dev/pts", on("/dev/pts"), Refused(stay)),
        ("MNT-03 /dev/shm", "RUN --mount=type=tmpfs,target=/dev/shm,size=1m ! head -c 2000000 /dev/zero > /dev/shm/x".to_owned(), Built),
        ("MNT-03 above the root", "RUN --mount=type=tmpfs,target=/../x mount | grep -q ' /x '".to_owned(), Built),
        ("MNT-03 a file of the network", on("/etc/resolv.conf"), Refused(&["mount on /etc/resolv.conf"])),
        ("MNT-04 a link out", link("RUN --mount=type=cache,target=/host touch /host/x"), Built),
        ("MNT-04 a link up", link("RUN --mount=type=cache,target=/up/new touch /up/new/x"), Built),
        ("MNT-04 a link to the kernel", link("RUN --mount=type=cache,target=/kernel true"), Refused(stay)),
        ("MNT-05 a stub's folder becomes a link", stub(&format!("mv /a /gone; ln -s {canary} /a; mv /d /left; ln -s {canary} /d; true")), Built),
        ("MNT-05 a stub's folder becomes a link up", stub(&format!("mv /a /gone; ln -s ../../../..{canary} /a; true")), Built),
        ("MNT-06 what is written to a bind", from("RUN --mount=type=bind,from=0,target=/m,rw echo x > /m/f && cat /m/f\nRUN --mount=type=bind,from=0,target=/m ! ls /m/f"), Built),
        ("MNT-07 less than nothing", "RUN --mount=type=tmpfs,target=/t,size=-1 true".to_owned(), Refused(&["size"])),
        ("MNT-07 more than it takes", "RUN --mount=type=tmpfs,target=/t,size=1m ! head -c 2000000 /dev/zero > /t/f".to_owned(), Built),
        ("MNT-08 a variable that is none", "RUN --mount=type=secret,id=s,env=A=B true".to_owned(), Refused(&[])),
        ("MNT-08 a secret that is not there", "RUN --mount=type=secret,id=none,required=true true".to_owned(), Refused(&["none", "not found"])),
        ("MNT-10 300 mounts", format!("RUN {many} test $(mount | grep -c ' /m/') = 300"), Built),
        ("MNT-12 devices and privileges in a cache", "RUN --mount=type=cache,target=/c mknod /c/zero c 1 5; ! head -c 1 /c/zero && mount | grep ' /c ' | grep nosuid | grep -q nodev".to_owned(), Built),
        ("MNT-13 a mount that stays", "RUN --mount=type=cache,target=/c ! mount -t tmpfs none /c".to_owned(), Built),
    ]
}

#[test]
fn mnt_01_to_14_mounts_lead_nowhere_else() {
    let (daemon, oracles) = Oracles::ready();
    attack(&daemon, &oracles, mounts(oracles.canary()));
    for entry in fs::read_dir(daemon.path("root/cache-mounts")).expect("a folder") {
        let name = entry.expect("it").file_name().into_string().expect("ASCII");
        assert!(
            name.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'.') && !name.starts_with('.'),
            "MNT-01: {name}"
        );
    }
    // MNT-08 and O6: a secret is where it was wanted, and nowhere else.
    let secret = "marker-of-a-secret-7c1f";
    let lines = "FROM alpine\nRUN --mount=type=secret,id=s,target=/etc/passwd cat /etc/passwd | wc -c\n\
                 RUN --mount=type=secret,id=s,target=/../x test -e /x && test ! -s /file\n\
                 RUN --mount=type=secret,id=s,env=S sh -c 'test -n \"$S\"'\nRUN ! cat /x && grep -q root /etc/passwd\n";
    let dir = context(&[("Dockerfile", lines)]);
    let file = tempfile::NamedTempFile::new().expect("a file");
    fs::write(file.path(), secret).expect("write");
    build(&daemon, dir.path(), &["--secret", &format!("id=s,src={}", text(file.path()))]).ok();
    oracles.nowhere(secret, &daemon.path("root"));
    oracles.nowhere(secret, &daemon.path("state"));
    assert!(!daemon.log().contains(secret), "O6: the log has the secret");
    oracles.finish(daemon);
}

#[test]
fn mnt_10_very_many_layers_are_mounted() {
    let (daemon, oracles) = Oracles::ready();
    let layers: String = (0..130).map(|n| format!("COPY file /f{n}\n")).collect();
    let test = "RUN --mount=type=bind,from=deep,target=/m test -e /m/f0 -a -e /m/f129\n";
    let dir = context(&[
        ("Dockerfile", &format!("FROM scratch AS deep\n{layers}FROM alpine\n{test}")),
        ("file", "x"),
    ]);
    build(&daemon, dir.path(), &[]).ok();
    oracles.finish(daemon);
}

#[test]
fn mnt_11_who_waits_for_a_cache_may_leave() {
    let (daemon, oracles) = Oracles::ready();
    let (one, two) = (Sleep::default(), Sleep::default());
    let start = |sleep: &Sleep| {
        let command = sleep.command();
        let line = format!("FROM alpine\nRUN --mount=type=cache,id=l,sharing=locked,target=/c {command}\n");
        let dir = context(&[("Dockerfile", &line)]);
        let mut command = daemon.command("buildctl");
        command
            .args(["build", text(dir.path())])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        (command.spawn().expect("start buildctl"), dir)
    };
    let (mut first, _one) = start(&one);
    eventually("the step that has the cache", || one.running() == 1);
    let (mut second, _two) = start(&two);
    second.kill().expect("our own child");
    second.wait().expect("it ends");
    assert_eq!((one.running(), two.running()), (1, 0));
    first.kill().expect("our own child");
    first.wait().expect("it ends");
    oracles.finish(daemon);
}

#[test]
fn tar_34_and_run_04_images_whose_folders_are_links_reach_nothing() {
    let (daemon, oracles) = Oracles::ready();
    let canary = oracles.canary().to_owned();
    let up = format!("../../../../../..{canary}");
    for name in [
        "etc",
        "dev",
        "proc",
        "sys",
        "tmp",
        "run",
        "dev/null",
        "dev/ptmx",
        "etc/resolv.conf",
        "etc/hosts",
        "etc/passwd",
    ] {
        for target in [canary.as_str(), &up] {
            let lines = "FROM alpine AS base\nFROM scratch\nCOPY --from=base /bin /bin\nCOPY links /\nWORKDIR /tmp/x\n\
                         RUN test -c /dev/null && : > /dev/null && test ! -s /proc/keys && ! echo x > /proc/sys/kernel/domainname\n";
            let dir = context(&[("Dockerfile", lines), ("links/keep", "")]);
            let place = dir.path().join("links").join(name);
            fs::create_dir_all(place.parent().expect("a folder")).expect("folders");
            symlink(target, &place).expect("a link");
            let ran = build(&daemon, dir.path(), &[]);
            // WORKDIR makes folders below /tmp, and finds none behind a link out of the root.
            let (code, word) = if name == "tmp" { (1, "resolve /tmp/x") } else { (0, "") };
            assert_eq!(ran.code, Some(code), "{name} -> {target}: {ran:?}");
            assert!(ran.stderr.contains(word), "{name} -> {target}: {ran:?}");
            oracles.check(&daemon, &format!("{name} -> {target}"));
        }
    }
    oracles.finish(daemon);
}
