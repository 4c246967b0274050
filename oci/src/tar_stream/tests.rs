//! What others write is read as they mean it; what only an attacker writes costs nothing.

use std::io::Read;

use tar::{Builder, EntryType, Header};

use super::*;

fn header(kind: EntryType, size: u64) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_size(size);
    header.set_mode(0o644);
    header.set_path("name").expect("a short name");
    header.set_cksum();
    header
}

fn block(header: &Header, body: &[u8]) -> Vec<u8> {
    let mut bytes = header.as_bytes().to_vec();
    bytes.extend(body);
    bytes.resize(bytes.len().next_multiple_of(512), 0);
    bytes
}

fn record(key: &str, value: &[u8]) -> Vec<u8> {
    let rest = key.len() + value.len() + 3;
    let length = (rest + 1..).find(|length| rest + length.to_string().len() == *length).expect("a length");
    [format!("{length} {key}=").as_bytes(), value, b"\n"].concat()
}

fn pax(records: &[(&str, &[u8])]) -> Vec<u8> {
    let body: Vec<u8> = records.iter().flat_map(|(key, value)| record(key, value)).collect();
    block(&header(EntryType::XHeader, body.len() as u64), &body)
}

fn file(body: &[u8]) -> Vec<u8> {
    block(&header(EntryType::Regular, body.len() as u64), body)
}

/// Name and content of every entry.
fn list(archive: &[u8]) -> io::Result<Vec<(String, Vec<u8>)>> {
    let mut stream = TarStream::new(archive);
    let mut all = Vec::new();
    while let Some(entry) = stream.next_entry()? {
        let mut content = Vec::new();
        stream.read_to_end(&mut content)?;
        all.push((String::from_utf8_lossy(&entry.path()).into_owned(), content));
    }
    Ok(all)
}

#[track_caller]
fn refused(archive: &[u8], reason: &str) {
    let error = list(archive).expect_err(reason);
    assert!(error.to_string().contains(reason), "{error}, not {reason}");
}

#[test]
fn it_reads_what_the_tar_crate_writes() {
    let long = format!("{}/end", "folder".repeat(60));
    let mut builder = Builder::new(Vec::new());
    for (name, size) in [("a", 0), ("b", 1), ("c", 512), ("d", 1025), (long.as_str(), 3)] {
        let mut header = Header::new_gnu();
        header.set_size(size);
        builder.append_data(&mut header, name, io::repeat(7).take(size)).expect("memory");
    }
    let mut header = Header::new_gnu();
    header.set_entry_type(EntryType::Symlink);
    header.set_size(0);
    builder.append_link(&mut header, "link", &long).expect("memory");
    let archive = builder.into_inner().expect("memory");
    let names: Vec<(String, usize)> =
        list(&archive).expect("sound").into_iter().map(|(name, content)| (name, content.len())).collect();
    let expected = [("a", 0), ("b", 1), ("c", 512), ("d", 1025), (long.as_str(), 3), ("link", 0)];
    assert_eq!(names, expected.map(|(name, size)| (name.to_owned(), size)));
    let mut stream = TarStream::new(archive.as_slice());
    let mut last = None;
    while let Some(entry) = stream.next_entry().expect("sound, also without reading what is between") {
        last = entry.link();
    }
    assert_eq!(last, Some(long.into_bytes()));
}

#[test]
fn records_describe_the_next_entry_only() {
    let longname = block(&header(EntryType::GNULongName, 4), b"long");
    // The size is that of the file, not of the long name's header between.
    let smuggled = [pax(&[("size", b"600")]), longname, block(&header(EntryType::Regular, 0), &[1; 600])];
    assert_eq!(list(&smuggled.concat()).expect("sound"), [("long".to_owned(), vec![1; 600])]);
    let twice = [pax(&[("path", b"first"), ("path", b"last")]), file(b"x"), file(b"y")].concat();
    let expected = [("last".to_owned(), b"x".to_vec()), ("name".to_owned(), b"y".to_vec())];
    assert_eq!(list(&twice).expect("sound"), expected);
    let global = block(&header(EntryType::XGlobalHeader, 13), b"13 path=evil\n");
    assert_eq!(list(&[global, file(b"x")].concat()).expect("sound"), [("name".to_owned(), b"x".to_vec())]);
}

#[test]
fn binary_values_and_numbers_of_records() {
    let archive = [pax(&[("SCHILY.xattr.user.a", b"1\n2=\0"), ("uid", b"4294967297")]), file(b"")].concat();
    let mut stream = TarStream::new(archive.as_slice());
    let entry = stream.next_entry().expect("sound").expect("an entry");
    let records: Vec<_> = entry.records().collect();
    assert_eq!(records[0], (&b"SCHILY.xattr.user.a"[..], &b"1\n2=\0"[..]));
    assert_eq!(entry.uid().expect("a number"), 4_294_967_297, "nothing wraps");
    refused(&[pax(&[("size", b"-1")]), file(b"")].concat(), "not a number");
}

#[test]
fn blank_numbers_are_zero() {
    for blank in [b' ', 0] {
        let mut bytes = header(EntryType::Regular, 0).as_bytes().to_vec();
        for field in NUMBERS {
            bytes[field].fill(blank);
        }
        let mut header = Header::from_byte_slice(&bytes).clone();
        header.set_cksum();
        let archive = header.as_bytes().to_vec();
        let entry = TarStream::new(archive.as_slice()).next_entry().expect("sound").expect("an entry");
        let numbers = [entry.uid().expect("blank"), entry.gid().expect("blank"), entry.size()];
        assert_eq!((numbers, entry.header().mode().expect("blank")), ([0; 3], 0));
        assert_eq!(entry.header().mtime().expect("blank"), 0);
        assert_eq!(entry.header().device_major().expect("blank"), Some(0));
    }
}

#[test]
fn links_have_no_data() {
    let mut link = header(EntryType::Link, 512);
    link.set_link_name("a").expect("short");
    link.set_cksum();
    let names: Vec<_> = list(&[block(&link, b""), file(b"x")].concat()).expect("sound");
    assert_eq!(names.len(), 2, "the file is not taken for the link's data");
}

#[test]
fn huge_descriptions_are_refused_before_they_are_read() {
    let endless = |kind, size| [header(kind, size).as_bytes().as_slice(), &[b'a'; 4096]].concat();
    for kind in [EntryType::GNULongName, EntryType::GNULongLink, EntryType::XHeader, EntryType::XGlobalHeader]
    {
        for size in [MAX_DESCRIPTION, 1 << 40, u64::MAX >> 1] {
            refused(&endless(kind, size), "more than 1048576 bytes");
        }
    }
    // Many small ones are as bad as a large one.
    let globals = block(&header(EntryType::XGlobalHeader, 512), &[b'a'; 512]).repeat(2000);
    refused(&globals, "more than 1048576 bytes");
    let names = block(&header(EntryType::GNULongName, 4), b"long").repeat(2);
    refused(&names, "two long names");
    refused(&block(&header(EntryType::GNULongName, 4), b"long"), "ends after a header");
    let body = b"7 a=b\n8";
    refused(&[block(&header(EntryType::XHeader, 7), body), file(b"")].concat(), "malformed");
}

#[test]
fn damaged_headers_are_refused() {
    let mut flipped = file(b"x");
    flipped[0] ^= 1;
    refused(&flipped, "checksum");
    for cut in [100, 511] {
        assert_eq!(list(&file(b"x")[..cut]).expect_err("cut").kind(), io::ErrorKind::UnexpectedEof);
    }
    let archive = file(&[1; 600]);
    let mut stream = TarStream::new(&archive[..700]);
    stream.next_entry().expect("a whole header");
    assert_eq!(stream.next_entry().expect_err("cut").kind(), io::ErrorKind::UnexpectedEof);
}

/// A sparse file of these pieces (offset, length), with `real` bytes.
fn sparse(pieces: &[(u64, u64)], real: u64) -> Vec<u8> {
    let stored: u64 = pieces.iter().fold(0u64, |sum, (_, length)| sum.saturating_add(*length)).min(4096);
    let mut header = header(EntryType::GNUSparse, stored);
    let gnu = header.as_gnu_mut().expect("made so");
    let octal = |field: &mut [u8; 12], value: u64| {
        field[4..].copy_from_slice(&value.to_be_bytes());
        field[0] = 0x80;
    };
    for (slot, (offset, length)) in gnu.sparse.iter_mut().zip(pieces) {
        octal(&mut slot.offset, *offset);
        octal(&mut slot.numbytes, *length);
    }
    octal(&mut gnu.realsize, real);
    header.set_cksum();
    block(&header, &vec![1; usize::try_from(stored).expect("small")])
}

#[test]
fn sparse_files_are_filled_and_bounded() {
    let archive = [sparse(&[(2, 3), (8, 1), (10, 0)], 10), file(b"x")].concat();
    let read = list(&archive).expect("sound");
    assert_eq!(read[0].1, [0, 0, 1, 1, 1, 0, 0, 0, 1, 0]);
    assert_eq!(read[1].1, b"x");
    refused(&sparse(&[(0, 4), (2, 4)], 6), "overlap");
    refused(&sparse(&[(1 << 60, 1)], 1 << 61), "more than");
    refused(&sparse(&[(u64::MAX - 1, 5)], 3), "more than");
    refused(&sparse(&[(0, 4)], 5), "does not fit");
    let posix = [pax(&[("GNU.sparse.major", b"1")]), file(b"")].concat();
    refused(&posix, "--format=gnu");
}
