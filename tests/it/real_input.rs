//! Real input: a Debian root with apt, a compiler in a RUN, a source tree of thousands of files.

use std::{fs, path::Path, process::Command};

use buildd_tests::{
    daemon::{Daemon, run},
    fixture::{context, import_base, repository, text},
};

#[test]
fn debian_installs_a_compiler_and_the_program_runs_from_scratch() {
    let daemon = Daemon::start();
    let archive = daemon.path("debian.tar");
    run(Command::new(repository().join("examples/debian")).arg(&archive)).ok();
    daemon.buildctl(&["image", "import", text(&archive)]).ok();
    let example = repository().join("examples/c-program");
    daemon.buildctl(&["build", "-t", "program", text(&example)]).ok();
    let said = daemon.buildctl(&["run", "--rm", "program"]).ok().stdout;
    assert_eq!(said, "compiled in one stage, run from another\n");
    let out = daemon.path("out");
    let output = format!("type=local,dest={}", text(&out));
    daemon.buildctl(&["build", "-o", &output, text(&example)]).ok();
    let names: Vec<_> =
        fs::read_dir(&out).expect("the tree").map(|e| e.expect("an entry").file_name()).collect();
    assert_eq!(names, ["hello"]);
}

/// A tree like a project's: sources, notes and tests in 60 folders.
fn project(root: &Path) -> usize {
    let mut sources = 0;
    for folder in 0..60 {
        let dir = root.join(format!("crates/c{folder}"));
        for sub in ["src", "tests", "target/debug"] {
            fs::create_dir_all(dir.join(sub)).expect("a folder");
        }
        for file in 0..40 {
            fs::write(dir.join(format!("src/f{file}.rs")), format!("// {folder} {file}\n")).expect("a file");
            sources += 1;
        }
        for file in 0..5 {
            fs::write(dir.join(format!("tests/t{file}.rs")), "").expect("a file");
            fs::write(dir.join(format!("target/debug/o{file}")), "object").expect("a file");
        }
        fs::write(dir.join("NOTES.md"), "notes").expect("a file");
        fs::write(dir.join("README.md"), "read me").expect("a file");
    }
    sources
}

#[test]
fn thousands_of_files_pass_the_ignore_file() {
    let daemon = Daemon::start();
    import_base(&daemon);
    let dockerfile = "FROM alpine\nCOPY . /src\nRUN find /src -type f | sort > /list\n";
    let ignore = "# what is not source\n**/target\n*/*/tests\n**/*.md\n!**/README.md\ncrates/c7\n!crates/c7/src/f1.rs\nDockerfile\n";
    let dir = context(&[("Dockerfile", dockerfile), (".dockerignore", ignore)]);
    let sources = project(dir.path());
    let out = daemon.path("out");
    let output = format!("type=local,dest={}", text(&out));
    let build = || daemon.buildctl(&["build", "--progress", "plain", "-o", &output, text(dir.path())]).ok();
    build();
    let list = fs::read_to_string(out.join("list")).expect("the list");
    let count = |part: &str| list.lines().filter(|line| line.contains(part)).count();
    assert_eq!(count(".rs"), sources - 39, "all sources but those of c7, of which one came back");
    assert_eq!(count("/c7/"), 1);
    assert_eq!((count("/tests/"), count("/target/"), count("NOTES.md"), count("README.md")), (0, 0, 0, 59));
    assert_eq!(count(".dockerignore"), 1);
    let again = build();
    assert!(again.stderr.matches("CACHED").count() == 2, "{}", again.stderr);
    // A file that looks as it did is not read again, as with BuildKit: here its bytes are others, of the same length and time.
    let quiet = dir.path().join("crates/c8/src/f8.rs");
    let time = fs::metadata(&quiet).and_then(|meta| meta.modified()).expect("its time");
    fs::write(&quiet, "// 9 9\n").expect("a change");
    fs::File::options().write(true).open(&quiet).and_then(|f| f.set_modified(time)).expect("its time again");
    assert_eq!(build().stderr.matches("CACHED").count(), 2);
    // With another change the tree is made anew, and still only that file comes.
    fs::write(dir.path().join("crates/c9/src/f9.rs"), "// changed\n").expect("a change");
    let output = format!("type=local,dest={}", text(&daemon.path("tree")));
    fs::write(dir.path().join("Dockerfile"), "FROM scratch\nCOPY . /\n").expect("another Dockerfile");
    daemon.buildctl(&["build", "-o", &output, text(dir.path())]).ok();
    let read = |name: &str| fs::read_to_string(daemon.path("tree").join(name)).expect("a file of the tree");
    assert_eq!(read("crates/c9/src/f9.rs"), "// changed\n");
    assert_eq!(read("crates/c8/src/f8.rs"), "// 8 8\n");
    let listed = run(Command::new("find").arg(daemon.path("tree")).args(["-name", "*.rs"])).stdout;
    assert_eq!(listed.lines().count(), sources - 39);
}
