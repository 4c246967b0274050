//! The external data of a layer is as much a part of it as its own bytes.

use super::*;

#[test]
fn a_layer_is_damaged_with_what_it_borrows() {
    let known = &known();
    let all = ["damage layer 5", "follows snapshot 5"];
    let data_file = |root: &Path| root.join("layers/5.data");
    planted(known, "it is gone", |root| fs::remove_file(data_file(root)).expect("gone"), &all);
    let cut = |root: &Path| {
        let whole = fs::read(data_file(root)).expect("a file");
        // The client's own has the other name.
        fs::remove_file(data_file(root)).expect("gone");
        fs::write(data_file(root), &whole[..LARGE as usize]).expect("cut off");
    };
    planted(known, "it is cut off", cut, &all);
    planted(known, "a flipped bit in it", |root| flip(&data_file(root), 4096 + 9), &all);
    let end = fs::metadata(known.dir.path().join("layers/5")).expect("a layer").len();
    planted(known, "a flipped bit in the loans", |root| flip(&root.join("layers/5"), end - 24), &all);
    planted(known, "a flipped bit in its slot", |root| flip(&root.join("layers/5"), 1024 + 128 + 64), &all);
}
