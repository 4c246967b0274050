//! Streams that others wrote, rightly and wrongly.

use super::*;

fn packed(compression: Compression, bytes: &[u8]) -> Vec<u8> {
    let mut writer = Writer::new(Vec::new(), compression, None).expect("a writer");
    writer.write_all(bytes).expect("memory");
    writer.finish().expect("memory")
}

fn unpacked(bytes: &[u8]) -> io::Result<Vec<u8>> {
    let mut all = Vec::new();
    reader(bytes, Growth::default())?.read_to_end(&mut all)?;
    Ok(all)
}

#[test]
fn what_was_packed_is_unpacked_and_packed_the_same_again() {
    for compression in [Compression::Uncompressed, Compression::Gzip, Compression::Zstd] {
        for size in [0, 1, 3, 4, 100_000] {
            let bytes: Vec<u8> = (0..size).map(|n: usize| (n * n % 251) as u8).collect();
            let made = packed(compression, &bytes);
            assert_eq!(made, packed(compression, &bytes), "{compression:?} of {size} bytes");
            assert_eq!(unpacked(&made).expect("ours"), bytes, "{compression:?} of {size} bytes");
        }
    }
}

#[test]
fn blob_01_a_stream_may_become_so_many_bytes_or_so_many_times_its_own() {
    let zeros = vec![0; 1 << 20];
    let mut xz = liblzma::write::XzEncoder::new(Vec::new(), 1);
    xz.write_all(&zeros).expect("memory");
    let mut bzip2 = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
    bzip2.write_all(&zeros).expect("memory");
    for bomb in [
        packed(Compression::Gzip, &zeros),
        packed(Compression::Zstd, &zeros),
        xz.finish().expect("memory"),
        bzip2.finish().expect("memory"),
    ] {
        let read = |free, ratio| {
            let mut stream = reader(&bomb[..], Growth { free, ratio })?;
            io::copy(&mut stream, &mut io::sink())
        };
        let needed = (zeros.len() - 1000).div_ceil(bomb.len()) as u64;
        assert_eq!(read(1 << 20, 0).expect("just so many bytes"), 1 << 20);
        assert_eq!(read(1000, needed).expect("just so many times"), 1 << 20);
        for (free, ratio) in [((1 << 20) - 1, 0), (1000, needed - 1), (0, 1)] {
            let error = read(free, ratio).expect_err("a bomb");
            assert!(Outgrown::is(&error), "{error}");
        }
    }
    let plain = vec![1; 1 << 20];
    let mut stream = reader(&plain[..], Growth { free: 0, ratio: 0 }).expect("a stream");
    assert_eq!(io::copy(&mut stream, &mut io::sink()).expect("no growth at all"), 1 << 20);
}

#[test]
fn blob_02_zstd_takes_no_more_memory_than_its_usual_most() {
    // A frame of one byte whose window would be 2^log bytes.
    let frame = |log: u8, described: u8, dictionary: &[u8]| {
        let head = [0x28, 0xb5, 0x2f, 0xfd, described, (log - 10) << 3];
        [&head[..], dictionary, &[9, 0, 0, b'x']].concat()
    };
    assert_eq!(unpacked(&frame(27, 0, &[])).expect("128 MiB"), b"x");
    for log in [28, 31, 41] {
        unpacked(&frame(log, 0, &[])).expect_err("more");
    }
    unpacked(&frame(20, 1, &[7])).expect_err("a dictionary that nobody has");
    // Frames that say nothing cost nothing but their reading.
    let skipped = [0x50, 0x2a, 0x4d, 0x18, 0, 0, 0, 0].repeat(100_000);
    let all = [packed(Compression::Zstd, b"before"), skipped, packed(Compression::Zstd, b"after")].concat();
    assert_eq!(unpacked(&all).expect("sound"), b"beforeafter");
}

#[test]
fn blob_03_gzip_is_read_as_go_reads_it() {
    let one = packed(Compression::Gzip, b"one");
    let two = packed(Compression::Gzip, b"two");
    assert_eq!(unpacked(&[one.clone(), two].concat()).expect("two members"), b"onetwo");
    unpacked(&[&one[..], b"garbage"].concat()).expect_err("what follows is no member");
    for at in [one.len() - 8, one.len() - 1] {
        let mut wrong = one.clone();
        wrong[at] ^= 1;
        unpacked(&wrong).expect_err("checksum and size are looked at");
    }
    for cut in 4..one.len() {
        unpacked(&one[..cut]).expect_err("cut off");
    }
    // Long names and fields before the data.
    let field = vec![b'f'; 65_535];
    let mut long = vec![0x1f, 0x8b, 8, 4 | 8, 0, 0, 0, 0, 0, 255, 255, 255];
    long.extend(field);
    long.extend(vec![b'n'; 60_000]);
    long.push(0);
    long.extend(&one[10..]);
    assert_eq!(unpacked(&long).expect("sound"), b"one");
}

#[test]
fn blob_11_the_bytes_decide_whatever_the_media_type_says() {
    for (bytes, expected) in [
        (packed(Compression::Gzip, b"data"), Compression::Gzip),
        (packed(Compression::Zstd, b"data"), Compression::Zstd),
        (b"data".to_vec(), Compression::Uncompressed),
        (Vec::new(), Compression::Uncompressed),
        (vec![0x1f], Compression::Uncompressed),
    ] {
        assert_eq!(Compression::detect(&bytes), expected);
    }
    assert_eq!(unpacked(&packed(Compression::Zstd, b"data")).expect("sound"), b"data");
}
