//! Names and numbers against a passwd and a group file.
use super::*;

const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\nweb:x:82:83:web:/var/www:/bin/false\nbroken\n";
const GROUP: &str = "root:x:0:\nwheel:x:10:root,web\nweb:x:83:web\nusers:x:100:\n";

#[test]
fn users_are_found() {
    let user =
        |uid, gid, groups: &[u32], home: &str| User { uid, gid, groups: groups.to_vec(), home: home.into() };
    for (wanted, expected) in [
        ("web", user(82, 83, &[10], "/var/www")),
        ("82", user(82, 83, &[10], "/var/www")),
        ("web:users", user(82, 100, &[], "/var/www")),
        ("web:7", user(82, 7, &[], "/var/www")),
        ("1234", user(1234, 0, &[], "/")),
        ("1234:users", user(1234, 100, &[], "/")),
    ] {
        assert_eq!(find(wanted, PASSWD, GROUP).expect(wanted), expected);
    }
    assert_eq!(resolve("", &[]).expect("root needs no mount").uid, 0);
}

#[test]
fn unknown_names_are_refused() {
    for wanted in ["nobody", "web:nogroup", "-1", "4294967296"] {
        assert!(find(wanted, PASSWD, GROUP).is_err(), "{wanted}");
    }
}
