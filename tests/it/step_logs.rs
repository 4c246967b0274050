//! Output of steps that is too long to be shown: both ends are, and the whole is on the disk.

use std::fs;

use buildd_tests::{
    daemon::Daemon,
    fixture::{context, import_base, text},
};

/// Prints 40,000 numbered lines of 100 bytes, almost 4 MiB.
const TALK: &str = "i=0; while [ $i -lt 40000 ]; do printf '%-99s\\n' \"line $i\"; i=$((i+1)); done";

#[test]
fn long_output_is_shown_by_its_ends_and_kept_whole() {
    let daemon = Daemon::start();
    import_base(&daemon);
    for (after, code) in [("true", 0), ("echo the last words && exit 3", 1)] {
        let dir = context(&[("Dockerfile", &format!("FROM alpine\nRUN {TALK}; {after}\n"))]);
        let ran = daemon.buildctl(&["build", "--progress", "plain", text(dir.path())]);
        assert_eq!(ran.code, Some(code), "{}", &ran.stderr[ran.stderr.len().saturating_sub(2000)..]);
        let shown = |line: usize| {
            ran.stderr.lines().any(|shown| shown.trim_end().ends_with(&format!(" line {line}")))
        };
        assert!(shown(0) && shown(10_000) && shown(39_999) && !shown(25_000), "both ends, not the middle");
        let word =
            ran.stderr.lines().find(|line| line.contains("the output is longer than")).expect("a word");
        let (_, path) = word.split_once("all of it is in ").expect("the file");
        let path = path.split_once(" where buildd runs").expect("the place").0;
        assert!(path.starts_with(text(&daemon.path("root"))), "{path}");
        let whole = fs::read_to_string(path).expect("the log");
        let lines = (0..40_000).map(|line| format!("{:<99}\n", format!("line {line}"))).collect::<String>();
        assert!(whole.starts_with(&lines), "{} bytes of {}", whole.len(), lines.len());
        if code != 0 {
            assert!(whole.ends_with("the last words\n"));
            let (_, error) = ran.stderr.split_once("did not complete successfully").expect("the error");
            assert!(error.contains("exit code: 3"), "{error}");
            assert!(ran.stderr.matches("the last words").count() >= 2, "again under the error");
        }
    }
}
