//! Git: `git http-backend` behind the server's `/git/`, and bare repositories made for a test.

use std::{
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use bytes::Bytes;
use hyper::Response;

use super::{Asked, Body, reply};
use crate::daemon::run;

/// Answers as git's own server program does.
pub(super) async fn answer(
    asked: &Asked,
    query: &str,
    body: Bytes,
    folder: &Path,
    wants: Option<&str>,
) -> Response<Body> {
    if wants.is_some() && wants != asked.headers.get("authorization").map(String::as_str) {
        return reply(401, &[("www-authenticate".into(), "Basic realm=\"x\"".into())], "who are you");
    }
    let header = |name: &str| asked.headers.get(name).cloned().unwrap_or_default();
    let mut command = git(folder);
    command
        .arg("http-backend")
        .env("GIT_PROJECT_ROOT", folder)
        .env("GIT_HTTP_EXPORT_ALL", "1")
        .env("PATH_INFO", asked.path.trim_start_matches("/git"))
        .env("REQUEST_METHOD", &asked.method)
        .env("QUERY_STRING", query)
        .env("CONTENT_TYPE", header("content-type"))
        .env("CONTENT_LENGTH", body.len().to_string())
        .env("HTTP_CONTENT_ENCODING", header("content-encoding"))
        .env("GIT_PROTOCOL", header("git-protocol"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped());
    let done = tokio::task::spawn_blocking(move || {
        let mut child = command.spawn().expect("start git http-backend");
        child.stdin.take().expect("piped").write_all(&body).expect("the request's body");
        child.wait_with_output().expect("the answer").stdout
    });
    let output = done.await.expect("git http-backend");
    let end = output.windows(4).position(|window| window == b"\r\n\r\n").unwrap_or(output.len());
    let (mut status, mut headers) = (200, Vec::new());
    for line in String::from_utf8_lossy(&output[..end]).lines() {
        let Some((name, value)) = line.split_once(": ") else { continue };
        match name {
            "Status" => status = value.split(' ').next().and_then(|code| code.parse().ok()).unwrap_or(500),
            _ => headers.push((name.to_lowercase(), value.to_owned())),
        }
    }
    reply(status, &headers, output.get(end + 4..).unwrap_or_default().to_vec())
}

/// git without anybody's settings.
fn git(folder: &Path) -> Command {
    let mut command = Command::new("git");
    command
        .current_dir(folder)
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("HOME", folder)
        .env_remove("GIT_DIR")
        .env_remove("GIT_INDEX_FILE")
        .env_remove("GIT_WORK_TREE");
    for (name, value) in [("NAME", "t"), ("EMAIL", "t@t.example"), ("DATE", "2001-02-03T04:05:06Z")] {
        command.env(format!("GIT_AUTHOR_{name}"), value).env(format!("GIT_COMMITTER_{name}"), value);
    }
    command
}

/// A repository of a test, with a work tree to commit from.
#[derive(Debug)]
pub struct Repository {
    folder: PathBuf,
    name: String,
}

impl Repository {
    /// An empty one, `<folder>/<name>.git`, with the work tree `<folder>/<name>`.
    pub fn new(folder: &Path, name: &str) -> Self {
        let repository = Self { folder: folder.to_owned(), name: name.to_owned() };
        run(git(folder).args(["init", "-q", "--bare", "-b", "main", &format!("{name}.git")])).ok();
        run(git(folder).args(["init", "-q", "-b", "main", name])).ok();
        repository.git(&["remote", "add", "origin", &format!("../{name}.git")]);
        repository
    }

    /// Runs git in the work tree; what it printed, without the line's end.
    pub fn git(&self, args: &[&str]) -> String {
        let tree = self.folder.join(&self.name);
        let mut command = git(&tree);
        command.args(["-c", "protocol.file.allow=always"]).args(args);
        run(&mut command).ok().stdout.trim_end().to_owned()
    }

    /// Writes files, commits all and pushes; the commit.
    pub fn commit(&self, files: &[(&str, &str)]) -> String {
        for (path, text) in files {
            let path = self.folder.join(&self.name).join(path);
            std::fs::create_dir_all(path.parent().expect("inside the tree")).expect("make parents");
            std::fs::write(path, text).expect("write a file of the repository");
        }
        self.git(&["add", "-A"]);
        self.git(&["commit", "-q", "-m", "change"]);
        self.git(&["push", "-q", "--all", "origin"]);
        self.git(&["rev-parse", "HEAD"])
    }

    /// The work tree.
    pub fn tree(&self) -> PathBuf {
        self.folder.join(&self.name)
    }

    /// The bare repository.
    pub fn bare(&self) -> PathBuf {
        self.folder.join(format!("{}.git", self.name))
    }
}
