//! The index of a layer file: places and sizes at the edges of their fields.

use std::path::PathBuf;

use super::{Layout, write_index};
use crate::layer::{
    Entry, EntryKind,
    tree::{DataLocation, Tree},
};

const LAYOUT: Layout = Layout { tar: 4096, expanded: 6 << 30, index: 7 << 30, data_file: None };

fn tree(size: u64, place: DataLocation) -> Tree {
    let mut tree = Tree::new();
    let mut entry = Entry::directory(PathBuf::from("f"));
    entry.kind = EntryKind::File { size };
    tree.insert(&entry, place).expect("an entry");
    tree
}

#[test]
fn places_beyond_four_gigabytes_are_exact() {
    for (place, at) in
        [(DataLocation::Tar(5 << 30), 4096 + (5 << 30)), (DataLocation::Expanded(512), (6_u64 << 30) + 512)]
    {
        let mut index = Vec::new();
        let superblock = write_index(&tree(5 << 30, place), LAYOUT, &mut index).expect("an index");
        let field = |bytes: &[u8], at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four"));
        assert_eq!(u64::from(field(&superblock, 40)) * 512, LAYOUT.index);
        assert_eq!(u64::from(field(&superblock, 36)) * 512, LAYOUT.index + index.len() as u64);
        // The root has slots 2 and 3, the file the next two.
        let inode = &index[128..192];
        assert_eq!(u64::from_le_bytes(inode[8..16].try_into().expect("eight")), 5 << 30);
        assert_eq!(u64::from(field(inode, 16)) * 512, at);
    }
}

#[test]
fn what_fits_no_field_is_an_error() {
    for (size, place) in
        [(1 << 41, DataLocation::Tar(0)), (1, DataLocation::Tar(1 << 41)), (u64::MAX, DataLocation::Tar(512))]
    {
        let failed = write_index(&tree(size, place), LAYOUT, &mut Vec::new());
        assert!(failed.expect_err("too large").to_string().contains("2 TiB"));
    }
}
