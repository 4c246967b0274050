//! Each reason for a miss, from the records that lead to it.

use buildd_oci::digest::Digest;

use super::{Earlier, Record, missed};
use crate::op::{InputKey, fingerprint};

fn record(op: &str, inputs: &[&str]) -> Record {
    let digest = |text: &str| Digest::of(text.as_bytes());
    let inputs = inputs.iter().map(|x| digest(x)).collect();
    Record { name: "RUN make".to_owned(), op: digest(op), inputs, parts: Default::default() }
}

#[test]
fn a_miss_names_what_differs_from_the_closest_record() {
    let inputs = [
        ("FROM base".to_owned(), InputKey::Definition),
        ("load build context".to_owned(), InputKey::Content { selector: "/src".to_owned() }),
    ];
    let now = record("make", &["base", "files"]);
    let check = |same: Option<Record>, alike: Option<Record>, expected: &str| {
        assert_eq!(missed(&now, &Earlier { same, alike, beside: None }, &inputs), expected);
    };
    let before = |inputs: &[&str]| Some(record("make", inputs));
    check(None, None, "it was never built here");
    check(
        None,
        Some(record("make -j", &["base", "files"])),
        "the step itself changed: its command, options, environment or mounts",
    );
    check(before(&["base", "files"]), None, "its result of before was removed or cannot be read");
    check(before(&["base", "old"]), None, "files that it reads changed (load build context)");
    check(before(&["old", "files"]), None, "what it stands on changed (FROM base)");
    check(
        before(&["old", "old"]),
        before(&["base", "files"]),
        "what it stands on changed (FROM base); files that it reads changed (load build context)",
    );
    check(before(&["base"]), None, "it has more or fewer inputs than before");
    let source = record("pin", &[]);
    let alike = Some(record("other pin", &[]));
    let earlier = Earlier { alike, ..Earlier::default() };
    assert_eq!(missed(&source, &earlier, &[]), "its source is not what it was");
}

#[test]
fn parts_name_what_changed() {
    let with = |op: &str, inputs: &[&str], parts: &[(&str, &str)]| {
        let parts = parts.iter().map(|(name, is)| ((*name).to_owned(), fingerprint(is.as_bytes()))).collect();
        Record { parts, ..record(op, inputs) }
    };
    let inputs = [
        ("FROM base".to_owned(), InputKey::Definition),
        ("load build context".to_owned(), InputKey::Content { selector: "/src".to_owned() }),
    ];
    let now = with("b", &["base", "files"], &[("command", "make"), ("variable A", "1"), ("variable B", "1")]);
    let before = with("a", &["base", "files"], &[("command", "make"), ("variable A", "0"), ("mount /x", "")]);
    let alike = Earlier { alike: Some(before.clone()), ..Earlier::default() };
    assert_eq!(
        missed(&now, &alike, &inputs),
        "the step itself changed: variable A changed, variable B is new, mount /x is gone"
    );
    let beside = Earlier { beside: Some(before), ..Earlier::default() };
    assert!(missed(&now, &beside, &inputs).ends_with("mount /x is gone; it was RUN make"));
    let now = with("a", &["base", "files"], &[("file a", "1"), ("file b", "1"), ("file c", "1")]);
    let before = with("a", &["base", "old"], &[("file a", "1"), ("file b", "0"), ("file d", "1")]);
    let same = Earlier { same: Some(before), ..Earlier::default() };
    assert_eq!(
        missed(&now, &same, &inputs),
        "files that it reads changed (load build context): file b changed, file c is new, file d is gone"
    );
    let many: Vec<String> = (0..9).map(|number| format!("file {number}")).collect();
    let many: Vec<(&str, &str)> = many.iter().map(|name| (name.as_str(), "1")).collect();
    let same = Earlier { same: Some(with("a", &["base", "old"], &[])), ..Earlier::default() };
    let told = missed(&with("a", &["base", "files"], &many), &same, &inputs);
    assert!(told.ends_with("file 4 is new, and 4 more"), "{told}");
}
