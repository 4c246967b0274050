//! Corpus: tars for the suite, written byte by byte because tar writers refuse what is hostile.

use tar::EntryType;

use crate::random::Random;

/// A tar in the making.
pub(super) struct Tar {
    bytes: Vec<u8>,
    mode: u32,
    ids: (u64, u64),
}

impl Tar {
    pub(super) fn new() -> Self {
        Self { bytes: Vec::new(), mode: 0o644, ids: (0, 0) }
    }

    /// The mode of what follows.
    pub(super) fn mode(mut self, mode: u32) -> Self {
        self.mode = mode;
        self
    }

    /// The owners of what follows.
    pub(super) fn owned(mut self, uid: u64, gid: u64) -> Self {
        self.ids = (uid, gid);
        self
    }

    pub(super) fn header(&self, name: &[u8], kind: EntryType, link: &[u8], size: usize) -> tar::Header {
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(kind);
        header.set_mode(self.mode);
        header.set_uid(self.ids.0);
        header.set_gid(self.ids.1);
        header.set_mtime(1_700_000_000);
        header.set_size(size as u64);
        let old = header.as_old_mut();
        old.name[..name.len()].copy_from_slice(name);
        old.linkname[..link.len()].copy_from_slice(link);
        header
    }

    pub(super) fn put(mut self, mut header: tar::Header, data: &[u8]) -> Self {
        header.set_cksum();
        self.bytes.extend_from_slice(header.as_bytes());
        self.bytes.extend_from_slice(data);
        self.bytes.resize(self.bytes.len().next_multiple_of(512), 0);
        self
    }

    pub(super) fn entry(self, name: &[u8], kind: EntryType, link: &[u8], data: &[u8]) -> Self {
        let header = self.header(name, kind, link, data.len());
        self.put(header, data)
    }

    pub(super) fn file(self, name: &str, data: &[u8]) -> Self {
        self.entry(name.as_bytes(), EntryType::Regular, b"", data)
    }

    pub(super) fn folder(self, name: &str) -> Self {
        self.entry(format!("{name}/").as_bytes(), EntryType::Directory, b"", b"")
    }

    pub(super) fn link(self, name: &str, target: &str) -> Self {
        self.entry(name.as_bytes(), EntryType::Symlink, target.as_bytes(), b"")
    }

    pub(super) fn hard(self, name: &str, target: &str) -> Self {
        self.entry(name.as_bytes(), EntryType::Link, target.as_bytes(), b"")
    }

    pub(super) fn device(self, name: &str, major: u32, minor: u32) -> Self {
        let mut header = self.header(name.as_bytes(), EntryType::Char, b"", 0);
        header.set_device_major(major).expect("ustar");
        header.set_device_minor(minor).expect("ustar");
        self.put(header, b"")
    }

    /// Records for the next entry.
    pub(super) fn pax(self, records: &[(String, &[u8])]) -> Self {
        let mut body = Vec::new();
        for (key, value) in records {
            let rest = key.len() + value.len() + 3;
            let length = (rest..).find(|total| rest + total.to_string().len() == *total).expect("a length");
            body.extend_from_slice(format!("{length} {key}=").as_bytes());
            body.extend_from_slice(value);
            body.push(b'\n');
        }
        self.entry(b"PaxHeaders/x", EntryType::XHeader, b"", &body)
    }

    pub(super) fn record(self, key: &str, value: &[u8]) -> Self {
        self.pax(&[(key.to_owned(), value)])
    }

    /// An old GNU sparse file of so many bytes, with up to four pieces of data.
    pub(super) fn sparse(self, name: &str, pieces: &[(u64, &[u8])], size: u64) -> Self {
        let data: Vec<u8> = pieces.iter().flat_map(|(_, data)| data.to_vec()).collect();
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(EntryType::GNUSparse);
        header.set_mode(self.mode);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(1_700_000_000);
        header.set_size(data.len() as u64);
        let gnu = header.as_gnu_mut().expect("GNU");
        gnu.name[..name.len()].copy_from_slice(name.as_bytes());
        let end = [(size, b"".as_slice())];
        for (slot, (offset, piece)) in gnu.sparse.iter_mut().zip(pieces.iter().chain(&end)) {
            number(&mut slot.offset, *offset);
            number(&mut slot.numbytes, piece.len() as u64);
        }
        number(&mut gnu.realsize, size);
        self.put(header, &data)
    }

    /// Bytes as they are.
    pub(super) fn raw(mut self, bytes: &[u8]) -> Self {
        self.bytes.extend_from_slice(bytes);
        self
    }

    pub(super) fn end(mut self) -> Vec<u8> {
        self.bytes.extend_from_slice(&[0; 1024]);
        self.bytes
    }
}

/// A field of twelve bytes: octal, or binary where that does not fit.
fn number(field: &mut [u8; 12], value: u64) {
    if value < 1 << 33 {
        field.copy_from_slice(format!("{value:011o}\0").as_bytes());
    } else {
        field[0] = 0x80;
        field[4..].copy_from_slice(&value.to_be_bytes());
    }
}

/// Layers that `tar` understands too.
pub(super) fn ordinary() -> Vec<(&'static str, Vec<u8>)> {
    let sizes = [0, 1, 511, 512, 513, 4095, 4096, 4097, 70_000];
    let mut files = Tar::new().mode(0o755).folder("d").mode(0o4711);
    for size in sizes {
        let data: Vec<u8> = (0..size).map(|n: usize| n.to_le_bytes()[0]).collect();
        files = files.owned(size as u64, 2_000_000).file(&format!("d/f{size}"), &data);
    }
    let times = Tar::new()
        .record("mtime", b"1700000000.123456789")
        .file("nanos", b"")
        .record("mtime", b"-5")
        .file("before", b"")
        .record("mtime", b"9999999999")
        .folder("far");
    let mut links = Tar::new();
    for length in [1, 100, 300, 440, 447, 448, 449, 600, 4000] {
        let target = "t".repeat(length);
        links = links.record("linkpath", target.as_bytes()).link(&format!("l{length}"), "t");
    }
    let value = [7; 3000];
    let capability = [1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let xattrs = Tar::new()
        .pax(&[("SCHILY.xattr.user.a".to_owned(), b"1"), ("SCHILY.xattr.user.bb".to_owned(), &value)])
        .file("f", b"with")
        .record("SCHILY.xattr.security.capability", &capability)
        .file("cap", b"")
        .record("SCHILY.xattr.user.on", b"folder")
        .mode(0o700)
        .folder("d");
    let mut many = Tar::new().mode(0o755).folder("many");
    for n in 0..3000 {
        many = many.record("path", format!("many/{n}-{}", "n".repeat(n % 240)).as_bytes()).file("x", b"data");
    }
    let names: [&[u8]; 7] = [b"!", b"-", b".a", b"..b", b"...", b"\xff\xfe", b"\xc3\xa9"];
    let names = names.iter().fold(Tar::new(), |tar, name| tar.entry(name, EntryType::Regular, b"", name));
    let mut deep = Tar::new().mode(0o755);
    for depth in 1..=300 {
        deep = deep.record("path", "d/".repeat(depth).as_bytes()).folder("x");
    }
    let hard = Tar::new()
        .file("a", b"one")
        .hard("b", "a")
        .hard("c", "b")
        .link("s", "a")
        .hard("t", "s")
        .hard("c", "a");
    let devices =
        Tar::new().device("c", 5, 1).device("wide", 4095, 0xf_ffff).entry(b"p", EntryType::Fifo, b"", b"");
    let sparse = Tar::new()
        .file("before", b"1")
        .sparse("s", &[(40_960, &[3; 512]), (900_000, &[4; 100])], 1 << 20)
        .sparse("empty", &[], 100_000)
        .file("after", b"2");
    let twice =
        Tar::new().file("f", b"first").file("f", b"second").mode(0o755).folder("d").mode(0o700).folder("d");
    [
        ("files", files),
        ("times", times),
        ("links", links),
        ("xattrs", xattrs),
        ("many", many),
        ("names", names),
        ("deep", deep),
        ("hard", hard),
        ("devices", devices),
        ("sparse", sparse),
        ("twice", twice),
        ("empty", Tar::new()),
    ]
    .map(|(name, tar)| (name, tar.end()))
    .into()
}

/// Layers with whiteouts, and such as unpackers disagree about.
pub(super) fn odd() -> Vec<(&'static str, Vec<u8>)> {
    let mut trailing = Tar::new().file("f", b"x").end();
    trailing.extend_from_slice(&[9; 300]);
    let mut all: Vec<_> = [
        ("whiteouts", Tar::new().folder("d").file("d/.wh.gone", b"").file("f", b"1").file(".wh.f", b"")),
        (
            "a whiteout is replaced",
            Tar::new().file(".wh.f", b"").file("f", b"1").file(".wh.d", b"").folder("d"),
        ),
        ("opaque after", Tar::new().folder("o").file("o/a", b"1").file("o/.wh..wh..opq", b"")),
        ("opaque before", Tar::new().file("o/.wh..wh..opq", b"").folder("o").file("o/a", b"1")),
        (
            "marks of old union mounts",
            Tar::new().folder("o").file("o/.wh..wh.plnk", b"").file(".wh..wh.aufs", b""),
        ),
        ("folder to file", Tar::new().folder("x").file("x/y", b"1").file("x", b"2")),
        ("file to folder", Tar::new().file("x", b"2").folder("x").file("x/y", b"1")),
        (
            "folder to link",
            Tar::new().folder("x").file("x/y", b"1").folder("z").link("x", "z").file("x/w", b"3"),
        ),
        ("folder to a link to itself", Tar::new().folder("x/y").link("x", "x")),
        ("link to folder", Tar::new().folder("z").link("x", "z").folder("x").file("x/w", b"3")),
        ("missing parents", Tar::new().file("a/b/c/f", b"1").folder("a/b")),
        (
            "parents are links",
            Tar::new().folder("usr/lib").link("lib", "usr/lib").file("lib/f", b"1").hard("h", "lib/f"),
        ),
        ("parents are absolute links", Tar::new().folder("r").link("l", "/../../r").file("l/f", b"1")),
        (
            "hard link to one that is replaced",
            Tar::new().file("a", b"1").hard("b", "a").file("a", b"2").hard("b", "a"),
        ),
        ("hidden attributes", Tar::new().record("SCHILY.xattr.trusted.overlay.redirect", b"/x").folder("d")),
        ("root", Tar::new().mode(0).entry(b"./", EntryType::Directory, b"", b"").file("f", b"1")),
    ]
    .map(|(name, tar)| (name, tar.end()))
    .into();
    all.push(("trailing", trailing));
    all
}

/// Hostile layers, and whether they can be made.
pub(super) fn hostile() -> Vec<(String, Vec<u8>, bool)> {
    use EntryType::{Char, Directory, Link, Regular, Symlink};
    type Case<'a> = (&'a [(&'a str, EntryType, &'a str)], bool);
    let cases: &[Case<'_>] = &[
        (&[("../evil", Regular, "")], true),
        (&[("a/../../evil", Regular, "")], true),
        (&[("/evil", Regular, "")], true),
        (&[("d", Symlink, "/"), ("d/evil", Regular, "")], true),
        (&[("d", Symlink, "../../.."), ("d/evil", Regular, "")], true),
        (&[("a", Symlink, ".."), ("b", Symlink, "a/.."), ("b/evil", Regular, "")], true),
        (&[("d", Symlink, "nowhere"), ("d/evil", Regular, "")], false),
        (&[("a", Symlink, "b"), ("b", Symlink, "a"), ("a/f", Regular, "")], false),
        (&[("f", Regular, ""), ("f/g", Regular, "")], false),
        (&[("x", Link, "../canary")], false),
        (&[("d", Directory, ""), ("x", Link, "d")], false),
        (&[("self", Link, "self")], false),
        (&[("a/b", Regular, ""), ("a", Link, "a/b")], false),
        (&[("a/b/c", Regular, ""), ("l", Symlink, "a/b"), ("a", Link, "l/c")], false),
        (&[("c", Symlink, "../canary"), ("c", Regular, "")], true),
        (&[("c", Symlink, ".."), ("c/", Directory, "")], true),
        (&[(".wh...", Regular, "")], false),
        (&[(".wh..", Regular, "")], false),
        (&[(".wh.", Regular, "")], false),
        (&[("l", Symlink, ".."), ("l/.wh.canary", Regular, "")], true),
        (&[("n", Char, "")], false),
        (&[("e", Symlink, "")], false),
    ];
    let tar = |entries: &[(&str, EntryType, &str)]| {
        let add = |tar: Tar, (name, kind, link): &(&str, EntryType, &str)| {
            tar.entry(name.as_bytes(), *kind, link.as_bytes(), b"")
        };
        entries.iter().fold(Tar::new(), add).end()
    };
    let mut all: Vec<_> =
        cases.iter().map(|(entries, works)| (format!("{entries:?}"), tar(entries), *works)).collect();
    let whole = Tar::new().file("f", &[1; 2000]).end();
    all.extend([100, 600, 1500].map(|cut| (format!("cut at {cut}"), whole[..cut].to_vec(), false)));
    let mut bent = whole;
    bent[3] ^= 0x40;
    all.push(("a wrong checksum".to_owned(), bent, false));
    let long = "n".repeat(256);
    all.push((
        "a long name".to_owned(),
        Tar::new().record("path", long.as_bytes()).file("x", b"").end(),
        false,
    ));
    all
}

/// A tar of a few entries with names that collide.
pub(super) fn random(seed: u64) -> Vec<u8> {
    let mut numbers = Random::seeded(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
    let mut next = |below: u64| (numbers.number() >> 20) % below;
    let mut tar = Tar::new();
    for _ in 0..=next(12) {
        let parts: Vec<&str> = (0..=next(2))
            .map(|_| ["a", "b", "c", ".."][usize::try_from(next(7) / 2).expect("small")])
            .collect();
        let (path, other) =
            (parts.join("/"), ["a", "b/a", "a/b", "../c", "/b"][usize::try_from(next(5)).expect("small")]);
        let data = path.repeat(usize::try_from(next(200)).expect("small"));
        tar = match next(12) {
            0..4 => tar.folder(&path),
            4..7 => tar.file(&path, data.as_bytes()),
            7 | 8 => tar.link(&path, other),
            9 => tar.hard(&path, other),
            10 => tar.file(&format!("{path}/.wh.a"), b""),
            _ => tar.file(&format!("{path}/.wh..wh..opq"), b""),
        };
    }
    tar.end()
}
