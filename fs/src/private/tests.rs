//! What others made or can change is refused before anything is put there.

use std::{
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt, chown, lchown, symlink},
    path::Path,
};

use super::*;

/// Some user that is not us.
const OTHER: u32 = 12_345;

fn mode(path: &Path) -> u32 {
    fs::metadata(path).expect("it").mode() & 0o7777
}

#[test]
fn host_01_and_02_folders_are_ours_and_closed() {
    let dir = Path::new("/tmp").join(format!("buildd-private-{}", std::process::id()));
    fs::create_dir(&dir).expect("a folder");
    let fresh = dir.join("a/b");
    own_folder(&fresh, 0o700).expect("a new one");
    assert_eq!(mode(&fresh), 0o700);
    fs::set_permissions(&fresh, fs::Permissions::from_mode(0o777)).expect("a mode");
    own_folder(&fresh, 0o711).expect("one of ours");
    assert_eq!(mode(&fresh), 0o711);
    symlink(&fresh, dir.join("link")).expect("a link");
    own_folder(&dir.join("link"), 0o700).expect("a link of ours");
    lchown(dir.join("link"), Some(OTHER), None).expect("the tests need root");
    let error = own_folder(&dir.join("link"), 0o700).expect_err("another's link");
    assert!(error.to_string().contains("belongs to user 12345"), "{error}");
    chown(&fresh, Some(OTHER), None).expect("root");
    assert!(own_folder(&fresh, 0o700).is_err(), "another's folder");
    assert!(matches!(claim_folder(&dir.join("none"), 0o700), Err(PrivateError::File { .. })));
    fs::remove_dir_all(&dir).expect("remove");
}

#[test]
fn host_03_a_file_that_others_can_change_is_not_gone_by() {
    let path = Path::new("/tmp").join(format!("buildd-private-file-{}", std::process::id()));
    fs::write(&path, "").expect("a file");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).expect("a mode");
    check_file(&path).expect("ours");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).expect("a mode");
    assert!(check_file(&path).expect_err("everybody's").to_string().contains("chmod o-w"));
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("a mode");
    chown(&path, Some(OTHER), None).expect("root");
    assert!(check_file(&path).is_err(), "another's");
    fs::remove_file(&path).expect("remove");
}
