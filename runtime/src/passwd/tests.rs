//! Users of hostile images: nobody becomes root who did not ask for root.

use std::fs;

use super::{checked, group_id, step_user, user_ids};

const PASSWD: &str = "root:x:0:0::/root:/bin/sh\napp:x:1000:1001::/:/bin/sh\nnone:x:4294967295:4294967295::/:\n\
                      huge:x:4294967296:1::/:\nshort:x\nminus:x:-1:-1::/:\n";
const GROUP: &str = "root:x:0:\nteam:x:50:other,app\nnone:x:4294967295:app\nwrong:x:x:app\n";

fn root() -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a folder");
    fs::create_dir(dir.path().join("etc")).expect("a folder");
    fs::write(dir.path().join("etc/passwd"), PASSWD).expect("a file");
    fs::write(dir.path().join("etc/group"), GROUP).expect("a file");
    dir
}

#[test]
fn tar_31_and_man_06_users_are_who_was_meant_or_nobody() {
    let dir = root();
    let fine: [(&str, u32, u32, &[u32]); 7] = [
        ("", 0, 0, &[]),
        ("app", 1000, 1001, &[50]),
        ("1000", 1000, 1001, &[50]),
        ("1000:team", 1000, 50, &[50]),
        ("2000", 2000, 0, &[]),
        ("2000:4294967294", 2000, 4_294_967_294, &[]),
        ("root:50", 0, 50, &[]),
    ];
    for (text, uid, gid, groups) in fine {
        let user = step_user(dir.path(), text).expect(text);
        assert_eq!((user.uid, user.gid, user.groups.as_slice()), (uid, gid, groups), "{text}");
    }
    let refused = [
        "4294967295",
        "4294967296",
        "-1",
        "+0",
        "0x0",
        "root\nx",
        "none",
        "huge",
        "short",
        "minus",
        "ghost",
        "app:4294967295",
        "app:-1",
        "app:none",
        "app:wrong",
        "app:ghost",
        "1000:",
        ":",
    ];
    for text in refused {
        let user = step_user(dir.path(), text);
        assert!(user.is_err(), "{text:?}: {user:?}");
    }
    assert!(user_ids(dir.path(), "none").is_err() && group_id(dir.path(), "none").is_err());
    assert!(checked("user", u32::MAX).is_err());
    assert_eq!(checked("user", u32::MAX - 1).expect("the largest"), u32::MAX - 1);
}

#[test]
fn tar_11_and_man_05_what_is_no_file_is_not_read_and_does_not_hang() {
    let dir = tempfile::tempdir().expect("a folder");
    fs::create_dir(dir.path().join("etc")).expect("a folder");
    let passwd = dir.path().join("etc/passwd");
    let fifo = rustix::fs::FileType::Fifo;
    rustix::fs::mknodat(rustix::fs::CWD, &passwd, fifo, rustix::fs::Mode::RUSR, 0).expect("a pipe");
    assert_eq!(step_user(dir.path(), "7").expect("a number").uid, 7);
    assert!(step_user(dir.path(), "app").is_err());
    fs::remove_file(&passwd).expect("remove");
    for target in ["/proc/kcore", "/dev/zero", "passwd", "../../../../etc/shadow"] {
        std::os::unix::fs::symlink(target, &passwd).expect("a link");
        assert!(step_user(dir.path(), "app").is_err(), "{target}");
        fs::remove_file(&passwd).expect("remove");
    }
    let large = fs::File::create(&passwd).expect("a file");
    large.set_len(1 << 40).expect("holes");
    assert!(step_user(dir.path(), "app").is_err(), "a tebibyte of nothing");
}

#[test]
fn random_files_make_nobody_root_who_is_not() {
    let mut numbers = crate::random::Random::new();
    let mut random = move |below: usize| numbers.below(below);
    let words = [
        "root",
        "app",
        "x",
        "0",
        "7",
        "4294967295",
        "4294967296",
        "-1",
        "+0",
        "",
        ":",
        "\n",
        "\0",
        ",",
        " ",
        "\u{ff}",
    ];
    let dir = root();
    for _ in 0..2000 * crate::random::times() {
        let mut text =
            |most: usize| (0..random(most)).map(|_| words[random(words.len())]).collect::<String>();
        let (passwd, group, user) = (text(24), text(24), text(4));
        fs::write(dir.path().join("etc/passwd"), &passwd).expect("a file");
        fs::write(dir.path().join("etc/group"), &group).expect("a file");
        let Ok(found) = step_user(dir.path(), &user) else { continue };
        let name = user.split(':').next().unwrap_or_default();
        let zero = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte == b'0');
        let said = user.is_empty() || zero(name);
        let listed = passwd.lines().any(|line| {
            let mut fields = line.split(':');
            fields.next() == Some(name) && fields.nth(1).is_some_and(zero)
        });
        assert!(found.uid != 0 || said || listed, "{user:?} is root by {passwd:?}");
        assert!(found.uid != u32::MAX && found.gid != u32::MAX && !found.groups.contains(&u32::MAX));
    }
}
