//! Extents as they are on disk: what is not inside tar and data file is refused.

use super::*;

fn read(extents: &[[u64; 3]], more: &[u8]) -> io::Result<ExternalData> {
    let file = written(extents, more);
    let data_file = tempfile::tempfile().expect("a file");
    data_file.set_len(1000).expect("a size");
    ExternalData::read(&file, 6, 2000, TarLayout::Holes, data_file)
}

fn written(extents: &[[u64; 3]], more: &[u8]) -> File {
    let mut file = tempfile::tempfile().expect("a file");
    file.write_all(b"before").expect("bytes");
    extents.iter().flatten().try_for_each(|number| file.write_all(&number.to_le_bytes())).expect("bytes");
    file.write_all(more).expect("bytes");
    file
}

#[test]
fn loans_lie_in_order_inside_tar_and_lender() {
    let external = read(&[[512, 600, 400], [1112, 888, 0]], b"").expect("loans");
    assert_eq!(external.extents[1].extent, ExternalExtent { at: 1112, size: 888, from: 0 });
    let mut written = Vec::new();
    external.write(&mut written).expect("memory");
    assert_eq!(written[..8], 512_u64.to_le_bytes());
    for wrong in [
        &[][..],
        &[[512, 601, 400]],
        &[[1500, 600, 0]],
        &[[512, 600, 0], [1111, 1, 0]],
        &[[512, u64::MAX, 0]],
        &[[u64::MAX, 1, 0]],
        &[[0, 1, u64::MAX]],
    ] {
        assert_eq!(read(wrong, b"").expect_err("refused").kind(), io::ErrorKind::InvalidData, "{wrong:?}");
    }
    assert!(read(&[[512, 600, 400]], b"x").is_err(), "a loan that is cut off");
}

/// A data file of this many bytes, none of them 0.
fn data_file(size: u64) -> (File, Vec<u8>) {
    let bytes: Vec<u8> = (0..size).map(|at| (at % 251) as u8 + 1).collect();
    let mut file = tempfile::tempfile().expect("a file");
    file.write_all(&bytes).expect("bytes");
    (file, bytes)
}

#[test]
fn what_is_lent_is_put_in_where_it_was_cut_out_or_left_a_hole() {
    // Two follow each other, one fills its block, one ends the tar.
    let extents = [[512, 100, 7], [1024, 512, 0], [2048, 1, 300], [3584, 512, 488]];
    let (data_file, external) = data_file(1000);
    let mut whole: Vec<u8> =
        (0..4096).map(|at| if at / 512 % 2 == 0 { 0xa0 } else { 0xb0 } + (at % 7) as u8).collect();
    let mut cut = Vec::new();
    let mut at = 0;
    for [begin, size, from] in extents.map(|extent| extent.map(|number| number as usize)) {
        cut.extend_from_slice(&whole[at..begin]);
        at = (begin + size).next_multiple_of(512);
        whole[begin..at].fill(0);
        whole[begin..begin + size].copy_from_slice(&external[from..from + size]);
    }
    let mut holes = whole.clone();
    extents.iter().for_each(|[at, size, _]| holes[*at as usize..(at + size) as usize].fill(0));
    for (form, own, missing) in [(TarLayout::Cut, cut, 2048), (TarLayout::Holes, holes, 0)] {
        let read = ExternalData::read(
            &written(&extents, b""),
            6,
            4096,
            form,
            data_file.try_clone().expect("a file"),
        );
        let read = read.expect("loans");
        assert_eq!(read.missing(), missing, "{form:?}");
        let mut file = tempfile::tempfile().expect("a file");
        file.write_all(b"before").and_then(|()| file.write_all(&own)).expect("bytes");
        for (at, size) in [0, 1, 511, 512, 611, 612, 1023, 1024, 1536, 2048, 2049, 2560, 3583, 3584, 4095]
            .into_iter()
            .flat_map(|at| [1, 2, 511, 512, 513, 1500, 4096].map(|size| (at, size)))
        {
            let mut some = vec![0xff; size.min(4096 - at)];
            assert_eq!(
                read.read_at(&file, 6, &mut some, at as u64).expect("bytes"),
                some.len(),
                "{at} {size}"
            );
            assert!(some == whole[at..at + some.len()], "{form:?} {at} {size}");
        }
    }
}

#[test]
fn what_is_cut_out_is_whole_blocks_inside_the_tar() {
    let (data_file, _) = data_file(1000);
    let read = |extents: &[[u64; 3]], tar| {
        ExternalData::read(
            &written(extents, b""),
            6,
            tar,
            TarLayout::Cut,
            data_file.try_clone().expect("a file"),
        )
    };
    assert!(read(&[[512, 1, 0], [1024, 1, 0]], 1536).is_ok());
    for (extents, tar) in [([[512, 1, 0], [1023, 1, 0]], 4096), ([[512, 1, 0], [1024, 1, 0]], 1535)] {
        assert_eq!(
            read(&extents, tar).expect_err("refused").kind(),
            io::ErrorKind::InvalidData,
            "{extents:?}"
        );
    }
}
