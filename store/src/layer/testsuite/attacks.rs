//! Attacks: the cases TAR-01 to TAR-35 of the specification, on every form of a layer.
//!
//! Beside the layer lies a canary that symbolic links and hard links reach for. Whatever becomes of the layer, the canary and the folder around
//! it are as they were.

use std::{
    fs,
    os::unix::{
        ffi::OsStrExt,
        fs::{MetadataExt, PermissionsExt},
    },
    path::Path,
};

use Outcome::{Lands, Refused};
use buildd_oci::error::chain;
use tar::EntryType::{Block, Char, Directory, Fifo, Link, Regular, Symlink, XGlobalHeader};

use super::{as_file, as_folder, corpus::Tar};
use crate::{chunks, layer::parse::each_change};

/// What a hostile layer comes to.
enum Outcome {
    /// It is made, and these paths of it are there.
    Lands(&'static [&'static str]),
    /// It is refused with these words.
    Refused(&'static str),
}

type Case = (&'static str, Tar, Outcome);

fn entry(name: &str, kind: tar::EntryType, link: &str) -> Tar {
    Tar::new().entry(name.as_bytes(), kind, link.as_bytes(), b"")
}

/// TAR-01 to TAR-08: names and links that lead out.
fn ways_out(canary: &str) -> Vec<Case> {
    let file = &format!("{canary}/file");
    let link = |target: &str| Tar::new().link("d", target);
    let later = Tar::new().hard("h", "later").file("later", b"");
    vec![
        ("01 up", Tar::new().file("../evil", b"x"), Lands(&["evil"])),
        ("01 down and up", Tar::new().file("a/../../evil", b"x"), Lands(&["evil"])),
        ("01 up alone", entry("..", Directory, ""), Lands(&[])),
        ("01 up alone, a file", Tar::new().file("./..", b"x"), Lands(&[])),
        ("02 absolute", Tar::new().file("/etc/x", b"x"), Lands(&["etc/x"])),
        ("03 through an absolute link", link(canary).file("d/x", b"x"), Refused("")),
        ("03 through the root", link("/").file("d/x", b"x"), Lands(&["x"])),
        ("04 a chain of links", link("..").link("b", "d/..").file("b/x", b"x"), Lands(&["x"])),
        ("04 up to the canary", link("../canary").file("d/x", b"x"), Refused("")),
        ("05 a folder over a link", link(canary).mode(0o777).folder("d"), Lands(&["d"])),
        ("05 a folder in a link", link(canary).mode(0o777).folder("d/."), Lands(&["d"])),
        ("06 a hard link out", Tar::new().hard("h", file), Refused("")),
        ("06 a hard link up", Tar::new().hard("h", "../../canary/file"), Refused("")),
        ("06 a hard link through a link", link(canary).hard("h", "d/file"), Refused("")),
        ("06 a hard link to a link", link(file).hard("h", "d").mode(0o777).file("h", b""), Lands(&["h"])),
        ("07 a hard link to what comes later", later, Refused("hard link to later")),
        ("07 a hard link to itself", Tar::new().hard("h", "h"), Refused("hard link to h")),
        ("07 a hard link to a folder", Tar::new().folder("d").hard("h", "d"), Refused("hard link to")),
        (
            "08 a folder, a link, a file",
            Tar::new().folder("d").file("d/f", b"").link("d", canary).file("d", b"x"),
            Lands(&["d"]),
        ),
        ("08 a link, a folder, a file in it", link(canary).folder("d").file("d/f", b"x"), Lands(&["d/f"])),
    ]
}

/// TAR-10 to TAR-19: kinds, sizes and numbers.
fn numbers() -> Vec<Case> {
    let huge = vec![b'v'; 8 << 20];
    let many: Vec<(String, &[u8])> = (0..100_000).map(|n| (format!("k{n}"), b"v".as_slice())).collect();
    let global = |tar: Tar| tar.entry(b"g", XGlobalHeader, b"", &[b'x'; 60_000]);
    let size = |bytes: [u8; 12]| {
        let mut header = Tar::new().header(b"f", Regular, b"", 0);
        header.as_old_mut().size = bytes;
        Tar::new().put(header, b"")
    };
    let other = |kind: u8| entry("o", tar::EntryType::new(kind), "");
    let mut minus = [0xff; 12];
    minus[11] = 0xfe;
    vec![
        ("10 a device", Tar::new().device("c", 1, 1).entry(b"b", Block, b"", b""), Lands(&["c", "b"])),
        ("10 a major that would wrap", Tar::new().device("c", 0x1001, 1), Refused("out of range")),
        ("10 a minor that would wrap", Tar::new().device("c", 1, 0x10_0001), Refused("out of range")),
        (
            "11 a pipe for a file",
            Tar::new().folder("etc").entry(b"etc/passwd", Fifo, b"", b""),
            Lands(&["etc/passwd"]),
        ),
        ("12 a volume", other(b'V'), Refused("entry type 'V'")),
        ("12 a part of a file", other(b'M'), Refused("entry type 'M'")),
        ("12 a dump", other(b'D'), Refused("entry type 'D'")),
        ("12 nothing known", other(b'Z'), Refused("entry type 'Z'")),
        ("13 all bits of a mode", Tar::new().mode(0o17_7777).file("f", b""), Lands(&["f"])),
        (
            "14 a value of 8 MiB",
            Tar::new().record("SCHILY.xattr.user.a", &huge).file("f", b""),
            Refused("headers of one entry"),
        ),
        ("14 100,000 records", Tar::new().pax(&many).file("f", b""), Refused("headers of one entry")),
        (
            "14 headers without end",
            (0..20).fold(Tar::new(), |tar, _| global(tar)).file("f", b""),
            Refused("headers of one entry"),
        ),
        (
            "14 records before records",
            Tar::new().record("a", b"1").record("b", b"2").file("f", b""),
            Refused("two sets"),
        ),
        (
            "15 a size of its own",
            Tar::new().record("size", b"3").file("f", b"abc").file("g", b""),
            Lands(&["f", "g"]),
        ),
        ("16 an exbibyte of holes", Tar::new().sparse("s", &[], 1 << 60), Refused("sparse file")),
        (
            "16 pieces that overlap",
            Tar::new().sparse("s", &[(1024, &[1; 512]), (0, &[2; 512])], 4096),
            Refused("overlap"),
        ),
        ("17 a size below zero", size(minus), Refused("")),
        ("17 a size that is no number", size(*b"zzzzzzzzzzz\0"), Refused("")),
        (
            "17 a size beyond all",
            size([0x80, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]),
            Refused("overflows"),
        ),
        ("17 an end in the middle", Tar::new().file("f", b"").raw(&[0; 1024]).file("g", b""), Lands(&["f"])),
        (
            "19 one name 20,000 times",
            (0..20_000).fold(Tar::new(), |tar, _| tar.file("f", b"x")),
            Lands(&["f"]),
        ),
    ]
}

/// TAR-20 to TAR-26: whiteouts.
fn whiteouts(canary: &str) -> Vec<Case> {
    let hide = |name: &str| Tar::new().file(name, b"");
    let link = |target: &str| Tar::new().link("l", target);
    let own = "it would remove its own folder";
    let redirect = [
        ("SCHILY.xattr.trusted.overlay.opaque".to_owned(), b"y".as_slice()),
        ("SCHILY.xattr.trusted.overlay.redirect".to_owned(), b"/etc"),
        ("SCHILY.xattr.trusted.overlay.metacopy".to_owned(), b""),
        ("SCHILY.xattr.trusted.overlay.origin".to_owned(), b"1"),
        ("SCHILY.xattr.user.overlay.upper".to_owned(), b"1"),
    ];
    vec![
        ("20 the parent", hide(".wh..."), Refused(own)),
        ("20 the folder", hide(".wh.."), Refused(own)),
        ("20 nothing", hide(".wh."), Refused(own)),
        ("20 nothing, absolute", hide("/.wh."), Refused(own)),
        ("20 the parent of a folder", hide("d/.wh..."), Refused(own)),
        ("20 not a whiteout", hide("..wh."), Lands(&["..wh."])),
        ("20 in a folder called like one", hide(".wh.../x"), Refused("\".wh.\"")),
        ("21 through a link", link(canary).file("l/.wh.file", b""), Refused("")),
        ("21 through a link up", link("../canary").file("l/.wh.file", b""), Refused("")),
        ("21 through a dangling link", link("nowhere").file("l/.wh.file", b""), Refused("")),
        ("22 opaque in the root", hide(".wh..wh..opq"), Refused("the root")),
        (
            "22 opaque before and after",
            hide("d/a").file("d/.wh..wh..opq", b"").file("d/b", b""),
            Lands(&["d/a", "d/b"]),
        ),
        ("22 opaque through a link", link(canary).file("l/.wh..wh..opq", b""), Refused("")),
        ("22 opaque in a file", hide("f").file("f/.wh..wh..opq", b""), Refused("")),
        (
            "23 marks of old unions",
            hide(".wh..wh.plnk").file(".wh..wh.aufs", b"").file(".wh..wh.plnk/1.2", b""),
            Lands(&[]),
        ),
        ("25 an overlay's own whiteout", entry("w", Char, ""), Refused("0:0")),
        (
            "26 an overlay's own attributes",
            Tar::new().pax(&redirect).folder("d").pax(&redirect).file("d/f", b""),
            Lands(&["d/f"]),
        ),
    ]
}

/// TAR-27 to TAR-35: attributes, names, owners and times.
fn names(canary: &str) -> Vec<Case> {
    let attribute =
        |name: &str, value: &[u8]| Tar::new().record(&format!("SCHILY.xattr.{name}"), value).file("f", b"");
    let called = |name: &[u8]| Tar::new().record("path", name).file("x", b"");
    let owned = |uid: u64, gid: u64| Tar::new().owned(uid, gid).file("f", b"");
    let time = |text: &[u8]| Tar::new().record("mtime", text).file("f", b"");
    let thousand: Vec<_> = (0..1000).map(|n| (format!("SCHILY.xattr.user.n{n}"), [7; 900])).collect();
    let thousand: Vec<(String, &[u8])> =
        thousand.iter().map(|(name, value)| (name.clone(), &value[..])).collect();
    let long = "folder-of-20-letters/".repeat(250);
    let cases = vec![
        (
            "27 a capability",
            attribute("security.capability", &[1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
            Lands(&["f"]),
        ),
        ("27 half a capability", attribute("security.capability", &[1, 0, 0, 2, 0, 4]), Refused("malformed")),
        ("27 a capability of no version", attribute("security.capability", &[9; 20]), Refused("malformed")),
        (
            "27 labels of other systems",
            attribute("security.selinux", b"x").record("SCHILY.xattr.security.ima", b"x").file("g", b""),
            Lands(&["f", "g"]),
        ),
        ("27 a thousand attributes", Tar::new().pax(&thousand).file("f", b""), Refused("f")),
        ("28 bytes, lines and escapes", called(b"\xff\n\x1b[2J\xe2\x80\xae").file("g", b""), Lands(&["g"])),
        ("28 a NUL", called(b"a\0b"), Refused("NUL")),
        ("28 a NUL in a link", Tar::new().record("linkpath", b"a\0b").link("l", "x"), Refused("")),
        ("29 a long name", called(&[b'n'; 256]), Refused("")),
        ("29 a long path", called(long.as_bytes()), Refused("4095 bytes")),
        ("29 10,000 folders", called("d/".repeat(10_000).as_bytes()), Refused("deeper than")),
        (
            "30 upper and lower case",
            Tar::new().file("A", b"").file("a", b"").file("e\u{301}", b"").file("\u{e9}", b""),
            Lands(&["A", "a", "e\u{301}", "\u{e9}"]),
        ),
        ("31 the owner that is none", owned(0xffff_ffff, 0), Refused("its owner is out of range")),
        ("31 the group that is none", owned(0, 0xffff_ffff), Refused("its group is out of range")),
        ("31 an owner that would wrap", owned(1 << 32, 0), Refused("its owner is out of range")),
        (
            "31 an owner beyond all",
            Tar::new().record("uid", b"9223372036854775808").file("f", b""),
            Refused("its owner"),
        ),
        ("31 an owner below zero", Tar::new().record("uid", b"-1").file("f", b""), Refused("its owner")),
        ("32 the far future", time(b"1000000000000000000"), Lands(&["f"])),
        ("32 before time", time(b"-1000000000000000000.5"), Lands(&["f"])),
        ("32 no time at all", time(b"soon"), Refused("its time")),
        ("33 a root without a mode", Tar::new().mode(0).folder("."), Lands(&[])),
        ("33 a root that is a link", entry(".", Symlink, canary), Lands(&[])),
        ("33 a root that is a hard link", entry("./", Link, canary), Lands(&[])),
    ];
    cases
}

/// Everything about the canary that an attack could change.
fn look(canary: &Path) -> String {
    let mut all = String::new();
    for path in [canary.to_owned(), canary.join("file")] {
        let meta = fs::symlink_metadata(&path).expect("the canary lives");
        let seen = (
            meta.ino(),
            meta.nlink(),
            meta.mode(),
            meta.uid(),
            meta.gid(),
            meta.mtime_nsec(),
            meta.ctime_nsec(),
        );
        all += &format!("{seen:?} ");
    }
    let names = fs::read_dir(canary).expect("the canary").map(|e| e.expect("it").file_name());
    format!("{all}{:?}{}", names.collect::<Vec<_>>(), fs::read_to_string(canary.join("file")).expect("it"))
}

fn attribute_names(path: &Path) -> Vec<String> {
    let mut list = vec![0; 1 << 16];
    let length = rustix::fs::llistxattr(path, &mut list).expect("the names");
    let names = list[..length].split(|byte| *byte == 0).filter(|name| !name.is_empty());
    names.map(|name| String::from_utf8_lossy(name).into_owned()).collect()
}

/// Nothing of the layer is an overlay's mark or another system's label, and its root is a folder of ours.
fn harmless(name: &str, tree: &Path) {
    // A mounted layer file is seen through a link to its descriptor.
    let root = fs::metadata(tree).expect("a root");
    assert!(root.is_dir() && root.permissions().mode() & 0o700 == 0o700, "{name}: {root:?}");
    let mut todo = vec![tree.to_owned()];
    while let Some(folder) = todo.pop() {
        for child in fs::read_dir(&folder).expect("a folder").map(|entry| entry.expect("it").path()) {
            let called = child.file_name().expect("a name").as_bytes();
            assert!(!called.starts_with(b".wh."), "{name}: {}", child.display());
            let opaque = name.starts_with("22");
            for attribute in attribute_names(&child) {
                let known = attribute.starts_with("user.n") || attribute == "security.capability";
                assert!(known || opaque && attribute == crate::layer::OPAQUE_XATTR, "{name}: {attribute}");
            }
            if fs::symlink_metadata(&child).expect("it").is_dir() {
                todo.push(child);
            }
        }
    }
}

#[test]
fn tar_01_to_35_hostile_layers_are_contained_or_refused() {
    let dir = tempfile::tempdir().expect("a folder");
    let canary = dir.path().join("canary");
    fs::create_dir(&canary).expect("a folder");
    fs::write(canary.join("file"), "alive").expect("a file");
    let path = canary.to_str().expect("a path of ours").to_owned();
    let cases = ways_out(&path).into_iter().chain(numbers()).chain(whiteouts(&path)).chain(names(&path));
    for (name, tar, outcome) in cases {
        let (tar, before) = (tar.end(), look(&canary));
        let forms = [as_folder, as_file];
        for (form, make) in forms.into_iter().enumerate() {
            let place = dir.path().join("place");
            fs::create_dir(&place).expect("a folder");
            match (make(&tar, &place), &outcome) {
                (Ok((seen, _)), Lands(paths)) => {
                    for path in *paths {
                        let found = fs::symlink_metadata(seen.tree.join(path));
                        assert!(found.is_ok_and(|meta| !meta.is_symlink()), "{name}, form {form}: {path}");
                    }
                    harmless(name, &seen.tree);
                }
                (Err(error), Refused(words)) => {
                    let said = chain(&error);
                    assert!(said.contains(words), "{name}, form {form}: {said}");
                }
                (Ok(_), Refused(_)) => panic!("{name}, form {form}: was made"),
                (Err(error), Lands(_)) => panic!("{name}, form {form}: {}", chain(&error)),
            }
            fs::remove_dir_all(&place).expect("remove it");
            assert_eq!(look(&canary), before, "{name}, form {form}");
            assert_eq!(fs::read_dir(dir.path()).expect("a folder").count(), 1, "{name}, form {form}");
        }
    }
}

/// One header over and over.
struct Endless {
    block: Vec<u8>,
    left: u64,
}

impl std::io::Read for Endless {
    fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
        let whole = buf.len() - buf.len() % self.block.len();
        // Readers of headers ask for one block, the rest for more.
        let take = usize::try_from(self.left).unwrap_or(usize::MAX).min(whole / self.block.len());
        buf[..take * self.block.len()]
            .chunks_mut(self.block.len())
            .for_each(|part| part.copy_from_slice(&self.block));
        self.left -= take as u64;
        Ok(take * self.block.len())
    }
}

#[test]
fn tar_18_entries_without_end_are_refused() {
    let header = Tar::new().header(b".wh..wh.x", Regular, b"", 0);
    let header = Tar::new().put(header, b"").end();
    let stream = Endless { block: header[..512].to_vec(), left: 6_000_000 };
    let error = each_change(chunks::of(stream), &mut |_, _| Ok(())).expect_err("more than five million");
    assert!(error.to_string().contains("more than 5000000 entries"), "{error}");
}

#[test]
fn tar_28_names_are_kept_byte_for_byte_and_escaped_where_they_are_shown() {
    let odd: &[u8] = b"\xff\n\x1b[2J\xe2\x80\xae";
    let dir = tempfile::tempdir().expect("a folder");
    for make in [as_folder, as_file] {
        let place = tempfile::tempdir_in(&dir).expect("a folder");
        let (seen, _) =
            make(&Tar::new().record("path", odd).file("x", b"").end(), place.path()).expect("a layer");
        let name = fs::read_dir(&seen.tree).expect("it").next().expect("one").expect("it").file_name();
        assert_eq!(name.as_bytes(), odd);
        let refused = Tar::new().record("path", b"\x1b[2J\n\xff").hard("x", "nowhere").end();
        let place = tempfile::tempdir_in(&dir).expect("a folder");
        let said = chain(&make(&refused, place.path()).map(drop).expect_err("a link to nothing"));
        assert!(!said.contains(|c: char| c.is_control()), "{said:?}");
        assert!(said.contains(r"\u{1b}[2J\n"), "{said}");
    }
}
