//! HttpRequest: what a build asks of a URL: the attributes of the source, checked.

use std::collections::HashMap;

use buildd_oci::{digest::Digest, registry::file};

use crate::error::{Error, Result};

/// The file's mode where none is asked for.
const MODE: u32 = 0o600;
/// Longest file name, as Linux has it.
const MAX_NAME: usize = 255;
/// The name of a file whose URL has none.
const NAMELESS: &str = "download";
/// Headers that a build may choose; any other could lie about who asks.
const HEADERS: [&str; 2] = ["accept", "user-agent"];

/// A file of a server.
#[derive(Clone, Debug)]
pub(super) struct HttpRequest {
    pub(super) url: String,
    name: Option<String>,
    pub(super) mode: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) checksum: Option<Digest>,
    pub(super) headers: Vec<(String, String)>,
    /// The secret that is the value of `Authorization`.
    pub(super) secret: Option<String>,
}

impl HttpRequest {
    /// Reads the attributes; one that is not what it should be is the client's mistake.
    pub(super) fn parse(url: &str, attrs: &HashMap<String, String>) -> Result<Self> {
        let invalid = |key: &'static str, text: &str, reason: &str| Error::Invalid {
            what: key,
            name: text.to_owned(),
            reason: reason.to_owned(),
        };
        let number = |key: &'static str, radix, default| match attrs.get(key) {
            None => Ok(default),
            Some(text) => {
                u32::from_str_radix(text, radix).map_err(|_| invalid(key, text, "it is no such number"))
            }
        };
        let name = match attrs.get("http.filename") {
            None => None,
            Some(text) if is_name(text) => Some(text.clone()),
            Some(text) => return Err(invalid("http.filename", text, "it is not a plain file name")),
        };
        let checksum = match attrs.get("http.checksum") {
            None => None,
            Some(text) => Some(text.parse().map_err(|_| {
                invalid("http.checksum", text, "it is not sha256: and 64 hexadecimal digits")
            })?),
        };
        let mut headers = Vec::new();
        for name in HEADERS {
            let value = attrs.get(&format!("http.header.{name}"));
            headers.extend(value.map(|value| (name.to_owned(), value.clone())));
        }
        Ok(Self {
            url: url.to_owned(),
            name,
            mode: number("http.perm", 8, MODE)? & 0o7777,
            uid: number("http.uid", 10, 0)?,
            gid: number("http.gid", 10, 0)?,
            checksum,
            headers,
            secret: attrs.get("http.authheadersecret").filter(|id| !id.is_empty()).cloned(),
        })
    }

    /// What the file is called in the tree: as asked for, else as the server says, else as the URL ends.
    pub(super) fn name(&self, disposition: Option<&str>) -> String {
        let told = || disposition.and_then(told_name).filter(|name| is_name(name));
        let last = || file::base_name(&self.url).filter(|name| is_name(name));
        self.name.clone().or_else(told).or_else(last).unwrap_or_else(|| NAMELESS.to_owned())
    }

    /// The URL without what may be secret.
    pub(super) fn shown(&self) -> String {
        file::shown(&self.url)
    }

    /// An answer that is none.
    pub(super) fn not_whole(&self, reason: &str) -> Error {
        Error::Precondition { what: "file", name: self.shown(), reason: reason.to_owned() }
    }
}

/// The last part of the file name in a `Content-Disposition`: whatever folders it names are not ours.
fn told_name(disposition: &str) -> Option<String> {
    let parameters = disposition.split(';').skip(1);
    let pairs = parameters.filter_map(|parameter| parameter.trim().split_once('='));
    let name = pairs.filter(|(key, _)| key.trim().eq_ignore_ascii_case("filename")).map(|(_, name)| name);
    let name = name.last()?.trim().trim_matches('"');
    name.rsplit(['/', '\\']).next().map(str::to_owned)
}

fn is_name(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= MAX_NAME
        && name != "."
        && name != ".."
        && !name.contains('/')
        && !name.chars().any(char::is_control)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stay_in_their_folder() {
        let of = |attrs: &[(&str, &str)], url: &str, disposition: Option<&str>| {
            let attrs = attrs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
            HttpRequest::parse(url, &attrs).map(|wanted| wanted.name(disposition)).map_err(|e| e.to_string())
        };
        let url = "https://files.example/dir/a%20b.tar?x=1";
        for (disposition, expected) in [
            (None, "a b.tar"),
            (Some("attachment; filename=\"c.tar\""), "c.tar"),
            (Some("attachment; filename=../../etc/passwd"), "passwd"),
            (Some("attachment; filename=\"..\""), "a b.tar"),
            (Some("attachment; filename=\"/\""), "a b.tar"),
            (Some("attachment; filename=\"a\tb\""), "a b.tar"),
            (Some("attachment"), "a b.tar"),
        ] {
            assert_eq!(of(&[], url, disposition).as_deref(), Ok(expected), "{disposition:?}");
        }
        assert_eq!(of(&[("http.filename", "x")], url, Some("a; filename=y")).as_deref(), Ok("x"));
        assert_eq!(of(&[], "https://files.example/", None).as_deref(), Ok("download"));
        assert_eq!(of(&[], "https://files.example/..%2f..%2fetc", None).as_deref(), Ok("download"));
        for (key, value) in [
            ("http.filename", "a/b"),
            ("http.filename", ".."),
            ("http.checksum", "md5:1"),
            ("http.perm", "9"),
            ("http.uid", "-1"),
        ] {
            let refused = of(&[(key, value)], url, None).expect_err(key);
            assert!(refused.contains(key) && refused.contains(value), "{refused}");
        }
    }
}
