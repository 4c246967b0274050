//! Hostile files: the cases CP-01 to CP-18 and TAR-36 to TAR-37 of the specification: contexts, copies, archives and texts that mean harm.

use std::{fs, os::unix::fs::symlink, path::Path};

use buildd_tests::{
    daemon::{Daemon, Ran},
    files::{FileServer, Page},
    fixture::{context, text},
    oracles::Oracles,
};

fn build(daemon: &Daemon, dir: &Path, flags: &[&str]) -> Ran {
    daemon.buildctl(&[&["build", "--progress", "plain", text(dir)], flags].concat())
}

/// A context with links out of it, beside a file and a folder.
fn project(dockerfile: &str, canary: &str) -> tempfile::TempDir {
    let dir = context(&[("Dockerfile", dockerfile), ("file", "text"), ("folder/inner", "inner")]);
    symlink(format!("{canary}/file"), dir.path().join("out")).expect("a link");
    symlink("../../../../../../etc/passwd", dir.path().join("up")).expect("a link");
    symlink(canary, dir.path().join("way")).expect("a link");
    dir
}

#[test]
fn cp_01_to_15_copies_stay_in_their_trees() {
    let (daemon, oracles) = Oracles::ready();
    let canary = oracles.canary().to_owned();
    let not_found = "not found";
    let link = format!(
        "RUN ln -s {canary} /dst && ln -s ../../../../../..{canary} /up && ln -s /proc/1/root /magic"
    );
    let cases: Vec<(&str, String, Result<(), &str>)> = vec![
        ("CP-01 up", "COPY ../../../../../../etc/hostname /x".into(), Err(not_found)),
        ("CP-01 down and up", "COPY folder/../../../../etc/hostname /x".into(), Err(not_found)),
        (
            "CP-01 the root by its parent",
            "COPY /folder/.. /x\nRUN test -e /x/Dockerfile && ! ls /x/root".into(),
            Ok(()),
        ),
        ("CP-01 encoded", "COPY %2e%2e/hostname /x".into(), Err(not_found)),
        ("CP-02 a link out", "COPY out /x".into(), Err(not_found)),
        ("CP-02 a link up", "COPY up /x".into(), Err(not_found)),
        ("CP-02 through a link", "COPY way/file /x".into(), Err(not_found)),
        (
            "CP-02 links as they are",
            "COPY . /x/\nRUN test -L /x/out -a -L /x/up && ! cat /x/out".into(),
            Ok(()),
        ),
        ("CP-07 into a link out", format!("{link}\nCOPY file /dst/copied\nRUN ls {canary}/copied"), Ok(())),
        ("CP-07 into a link up", format!("{link}\nCOPY file /up/copied\nRUN ls {canary}/copied"), Ok(())),
        (
            "CP-07 into a magic link",
            format!("{link}\nCOPY file /magic/copied\nRUN ls /proc/1/root/copied || true"),
            Ok(()),
        ),
        (
            "CP-07 over a link out",
            format!("RUN ln -s {canary}/file /f\nCOPY file /f\nRUN grep text /f"),
            Ok(()),
        ),
        ("CP-10 a mode that is none", "COPY --chmod=9999999 file /x".into(), Err("9999999")),
        ("CP-10 a mode too large", "COPY --chmod=77777 file /x".into(), Err("77777")),
        ("CP-10 every bit", "COPY --chmod=07777 file /x\nRUN test $(stat -c %a /x) = 7777".into(), Ok(())),
        ("CP-10 words that are none", "COPY --chmod=u+zz file /x".into(), Err("u+zz")),
        ("CP-10 the owner that is none", "COPY --chown=4294967295 file /x".into(), Err("0 to 4294967294")),
        ("CP-10 the group that is none", "COPY --chown=0:4294967295 file /x".into(), Err("0 to 4294967294")),
        ("CP-10 an owner too large", "COPY --chown=99999999999 file /x".into(), Err("99999999999")),
        ("CP-10 an owner by path", "COPY --chown=../x file /x".into(), Err("../x")),
        ("CP-11 patterns that multiply", format!("COPY --exclude={}x . /x/", "**/".repeat(100)), Ok(())),
        (
            "CP-14 a value of a value",
            format!("ARG A={}x{}\nRUN true", "${A:-".repeat(10_000), "}".repeat(10_000)),
            Err("Dockerfile:2"),
        ),
        (
            "CP-15 stages in a circle",
            "COPY --from=b /x /\nFROM alpine AS b\nCOPY --from=0 /x /".into(),
            Err("circular"),
        ),
        ("CP-15 itself", "COPY --from=0 /x /".into(), Err("")),
        ("CP-16 a file of the host", "ADD file:///etc/hostname /x".into(), Err("")),
        ("CP-16 a socket", "ADD unix:///run/x /x".into(), Err("")),
        ("CP-16 the cloud's secrets", "ADD http://169.254.169.254/latest /x".into(), Err("169.254.169.254")),
    ];
    for (name, lines, outcome) in cases {
        let dir = project(&format!("FROM alpine\n{lines}\n"), &canary);
        let ran = build(&daemon, dir.path(), &[]);
        match outcome {
            Ok(()) => assert_eq!(ran.code, Some(0), "{name}:\n{}", ran.stderr),
            Err(words) => {
                assert_eq!(ran.code, Some(1), "{name}:\n{}", ran.stderr);
                assert!(ran.stderr.contains(words), "{name}: no {words:?} in\n{}", ran.stderr);
            }
        }
        assert!(!ran.stderr.contains("panic"), "{name}:\n{}", ran.stderr);
        oracles.check(&daemon, name);
    }
    oracles.finish(daemon);
}

#[test]
fn cp_12_and_13_texts_beyond_all_bounds_are_refused() {
    let (daemon, oracles) = Oracles::ready();
    let large = |name: &str, other: &str| {
        let dir = context(&[(other, "FROM alpine\n")]);
        fs::File::create(dir.path().join(name)).and_then(|file| file.set_len(1 << 30)).expect("holes");
        build(&daemon, dir.path(), &[])
    };
    large("Dockerfile", "x").fails(1, &["Dockerfile"]);
    oracles.check(&daemon, "CP-13 a gibibyte");
    large(".dockerignore", "Dockerfile").fails(1, &[".dockerignore"]);
    oracles.check(&daemon, "CP-12 a gibibyte");
    let texts = [
        ("CP-13 a line of 20 MiB", format!("FROM alpine\nRUN echo {}\n", "x".repeat(20 << 20))),
        ("CP-13 a million lines", "FROM alpine\n".to_owned() + &"RUN true\n".repeat(1_000_000)),
        (
            "CP-13 10,000 documents",
            "FROM alpine\n".to_owned() + &"RUN <<A <<B\nA\nB\n".repeat(10_000) + "RUN <<C\n",
        ),
        ("CP-13 a NUL", "FROM alpine\nRUN echo \0\n".to_owned()),
        ("CP-13 a line without end", "FROM alpine\nRUN <<EOF\n".to_owned() + &"\\\n".repeat(1000)),
    ];
    for (name, text) in texts {
        let dir = context(&[("Dockerfile", &text)]);
        let ran = build(&daemon, dir.path(), &[]);
        assert_eq!(ran.code, Some(1), "{name}");
        assert!(ran.stderr.len() < 64 << 10, "{name}: {} bytes of error", ran.stderr.len());
        oracles.check(&daemon, name);
    }
    // CP-12: what is left out cannot be had back from above.
    let dir = context(&[
        ("Dockerfile", "FROM alpine\nCOPY . /x\nRUN ! ls /x/a.log\n"),
        (".dockerignore", "*\n!../..\n!/..\n!Dockerfile\n"),
        ("a.log", ""),
    ]);
    build(&daemon, dir.path(), &[]).ok();
    oracles.finish(daemon);
}

/// A tar of raw entries: name, kind, link and data.
fn tar(entries: &[(&str, tar::EntryType, &str, &[u8])]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, kind, link, data) in entries {
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(*kind);
        header.set_mode(0o644);
        header.set_size(data.len() as u64);
        let old = header.as_old_mut();
        old.name[..name.len()].copy_from_slice(name.as_bytes());
        old.linkname[..link.len()].copy_from_slice(link.as_bytes());
        header.set_cksum();
        builder.append(&header, *data).expect("memory");
    }
    builder.into_inner().expect("memory")
}

#[test]
fn tar_36_and_37_added_archives_unpack_where_they_are_added() {
    use tar::EntryType::{Directory, Link, Regular, Symlink};
    let (daemon, oracles) = Oracles::ready();
    let canary = oracles.canary().to_owned();
    let file = format!("{canary}/file");
    let cases: Vec<(&str, Vec<u8>, &str)> = vec![
        (
            "a link out, then a file in it",
            tar(&[("l", Symlink, &canary, b""), ("l/evil", Regular, "", b"x")]),
            "true",
        ),
        (
            "nested absolute links",
            tar(&[("a/", Directory, "", b""), ("a/l", Symlink, "/a", b""), ("a/l/f", Regular, "", b"x")]),
            "true",
        ),
        (
            "a hard link through a link",
            tar(&[("l", Symlink, &canary, b""), ("h", Link, "l/file", b"")]),
            "! grep alive /d/h",
        ),
        ("a hard link out", tar(&[("h", Link, &file, b"")]), "! grep alive /d/h"),
        ("names that climb", tar(&[("../../../evil", Regular, "", b"x")]), "ls /d/evil && ! ls /evil"),
        ("a whiteout", tar(&[(".wh.bin", Regular, "", b"")]), "ls /bin"),
    ];
    for (name, archive, test) in cases {
        let lines = format!("FROM alpine\nADD a.tar /d/\nRUN {test}\n");
        let dir = context(&[("Dockerfile", &lines)]);
        fs::write(dir.path().join("a.tar"), archive).expect("an archive");
        let ran = build(&daemon, dir.path(), &[]);
        assert!(matches!(ran.code, Some(0 | 1)) && !ran.stderr.contains("WORKS"), "{name}: {ran:?}");
        assert!(ran.code == Some(0) || !ran.stderr.contains("did not complete"), "{name}: {}", ran.stderr);
        oracles.check(&daemon, name);
    }
    // TAR-37: what only its name calls an archive is a file.
    let lines = "FROM alpine\nADD a.tar.gz b.tar /d/\nRUN grep -q words /d/a.tar.gz && grep -q PK /d/b.tar\n";
    let dir = context(&[("Dockerfile", lines), ("a.tar.gz", "words"), ("b.tar", "PK\u{3}\u{4} and no more")]);
    build(&daemon, dir.path(), &[]).ok();
    oracles.finish(daemon);
}

#[test]
fn cp_16_a_server_does_not_say_where_its_file_goes() {
    let (daemon, oracles) = Oracles::ready();
    let server = FileServer::start();
    for (n, name) in ["../../x", "/x", ".", "..", "a/b"].into_iter().enumerate() {
        let page = Page::of("body").with("content-disposition", &format!("attachment; filename=\"{name}\""));
        server.put(&format!("/f{n}"), page);
    }
    for to in ["file:///etc/hostname", "unix:///run/x", "http://169.254.169.254/x", "gopher://x/"] {
        server.put(&format!("/to-{}", &to[..4]), Page::redirect(to));
    }
    server.put("/loop", Page::redirect("/loop"));
    for n in 0..5 {
        let dir = context(&[(
            "Dockerfile",
            &format!("FROM alpine\nADD {} /d/\nRUN ls /d/f{n} && ! ls /x\n", server.url(&format!("/f{n}"))),
        )]);
        build(&daemon, dir.path(), &[]).ok();
        oracles.check(&daemon, &format!("CP-16 name {n}"));
    }
    for path in ["/to-file", "/to-unix", "/to-http", "/to-goph", "/loop"] {
        let dir = context(&[("Dockerfile", &format!("FROM alpine\nADD {} /d/\n", server.url(path)))]);
        build(&daemon, dir.path(), &[]).fails(1, &[]);
        oracles.check(&daemon, path);
    }
    oracles.finish(daemon);
}
