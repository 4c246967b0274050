//! What watchers see of long output, and what is on the disk.

use buildd_api::buildkit::moby::buildkit::v1::Vertex;

use super::*;
use crate::solve::event::timestamp;

fn line(vertex: &str, text: &str) -> StatusResponse {
    let log = VertexLog { vertex: vertex.to_owned(), msg: text.as_bytes().to_vec(), ..VertexLog::default() };
    StatusResponse { logs: vec![log], ..StatusResponse::default() }
}

fn ended(vertex: &str) -> StatusResponse {
    let completed = Some(timestamp(SystemTime::now()));
    let vertex = Vertex { digest: vertex.to_owned(), completed, ..Vertex::default() };
    StatusResponse { vertexes: vec![vertex], ..StatusResponse::default() }
}

/// All that is shown, in order; an end shows as `<vertex>`.
fn shown(messages: Vec<StatusResponse>) -> String {
    let mut text = String::new();
    for message in messages {
        message.logs.iter().for_each(|log| text.push_str(&String::from_utf8_lossy(&log.msg)));
        message.vertexes.iter().for_each(|vertex| text.push_str(&format!("<{}>", vertex.digest)));
    }
    text
}

fn files(root: &Path) -> Vec<PathBuf> {
    let folders = fs::read_dir(root.join(FOLDER)).into_iter().flatten();
    let folders = folders.map(|entry| entry.expect("a folder").path());
    let mut files: Vec<PathBuf> = folders
        .flat_map(|folder| fs::read_dir(folder).expect("files"))
        .map(|f| f.expect("a file").path())
        .collect();
    files.sort();
    files
}

#[test]
fn both_ends_are_shown_and_the_whole_is_kept() {
    let root = tempfile::tempdir().expect("a root");
    let mut logs = StepLogs::new(root.path(), "build/../x");
    let piece = "0123456789abcdef".repeat(2048);
    let pieces = 200;
    let mut all = String::new();
    let mut seen = String::new();
    for number in 0..pieces {
        let text = format!("line {number}\n{piece}\n");
        all.push_str(&text);
        let message = line("long", &text);
        assert_eq!(logs.blocks(&message), all.len() > HEAD, "{number}");
        seen.push_str(&shown(logs.pass(message)));
        // Another step is not concerned.
        assert_eq!(shown(logs.pass(line("short", "x"))), "x");
    }
    let [file] = files(root.path()).try_into().expect("one file");
    assert!(file.starts_with(root.path().join(FOLDER)));
    assert_eq!(fs::read_to_string(&file).expect("the log"), all);
    let end = shown(logs.pass(ended("long")));
    let (head, word) = seen.split_at(seen.find("\n[the output").expect("a word where it is clipped"));
    assert!(all.starts_with(head) && head.len() <= HEAD && head.len() + piece.len() + 20 > HEAD);
    assert!(word.contains("longer than 2 MiB") && word.contains(&file.display().to_string()), "{word}");
    let (left_out, tail) = end[2..].split_once("]\n").expect("a word before the end");
    let tail = tail.strip_suffix("<long>").expect("the end of the vertex comes last");
    assert!(all.ends_with(tail) && (TAIL..TAIL + 2 * piece.len()).contains(&tail.len()));
    let bytes = all.len() - head.len() - tail.len();
    assert!(left_out.contains(&format!("{bytes} bytes are not shown")), "{left_out}");
    assert!(left_out.contains(&file.display().to_string()), "{left_out}");
    assert_eq!(shown(logs.pass(ended("short"))), "<short>");
}

#[test]
fn what_cannot_be_written_is_told() {
    let root = tempfile::tempdir().expect("a root");
    fs::write(root.path().join(FOLDER), "in the way").expect("a file");
    let mut logs = StepLogs::new(root.path(), "b");
    let word = shown(logs.pass(line("v", &"x".repeat(HEAD + 1))));
    assert!(word.contains("the rest is lost") && word.contains("cannot be written"), "{word}");
    assert!(shown(logs.pass(line("v", "the end"))).is_empty());
    let end = shown(logs.pass(ended("v")));
    assert!(end.ends_with("the end<v>"), "{} bytes", end.len());

    let root = tempfile::tempdir().expect("a root");
    let mut logs = StepLogs::new(root.path(), "b");
    logs.pass(line("v", &"x".repeat(HEAD + 1)));
    logs.written = MAX_WRITTEN;
    let word = shown(logs.pass(line("v", "more")));
    assert!(word.contains("no more is written to") && word.contains("longer than 1024 MiB"), "{word}");
    assert!(shown(logs.pass(line("v", "still more"))).is_empty(), "told once");
}

#[test]
fn logs_of_old_builds_go() {
    let root = tempfile::tempdir().expect("a root");
    let build = |number: u64| {
        let mut logs = StepLogs::new(root.path(), &number.to_string());
        logs.pass(line("v", &"x".repeat(HEAD + 1)));
        let folder = File::open(&logs.folder).expect("the folder");
        let time = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000 + number);
        folder.set_modified(time).expect("a time");
        logs.folder
    };
    let folders: Vec<PathBuf> = (0..KEPT_BUILDS as u64 + 2).map(build).collect();
    let there: Vec<bool> = folders.iter().map(|folder| folder.exists()).collect();
    assert_eq!(there.iter().filter(|there| **there).count(), KEPT_BUILDS);
    assert_eq!(&there[..3], [false, false, true]);
    // However large: a sparse file of the newest pushes out all others.
    let large = File::create(folders[5].join("9.log")).expect("a file");
    large.set_len(KEPT_BYTES + 1).expect("a size");
    let newest = build(1000);
    assert!(newest.exists() && !folders[5].exists() && folders[KEPT_BUILDS + 1].exists());
}
