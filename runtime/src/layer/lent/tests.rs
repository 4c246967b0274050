//! Loans as they are on disk: what is not inside tar and lender is refused.

use super::*;

fn read(loans: &[[u64; 3]], more: &[u8]) -> io::Result<Lent> {
    let mut file = tempfile::tempfile().expect("a file");
    let lender = tempfile::tempfile().expect("a file");
    lender.set_len(1000).expect("a size");
    file.write_all(b"before").expect("bytes");
    loans.iter().flatten().try_for_each(|number| file.write_all(&number.to_le_bytes())).expect("bytes");
    file.write_all(more).expect("bytes");
    Lent::read(&file, 6, 2000, lender)
}

#[test]
fn loans_lie_in_order_inside_tar_and_lender() {
    let lent = read(&[[512, 600, 400], [1112, 888, 0]], b"").expect("loans");
    assert_eq!(lent.loans[1], Loan { at: 1112, size: 888, from: 0 });
    let mut written = Vec::new();
    lent.write(&mut written).expect("memory");
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
