//! Each reason for a miss, from the records that lead to it.

use buildd_oci::digest::Digest;

use super::{Record, missed};
use crate::op::InputKey;

fn record(op: &str, inputs: &[&str]) -> Record {
    let digest = |text: &str| Digest::of(text.as_bytes());
    Record { name: "RUN make".to_owned(), op: digest(op), inputs: inputs.iter().map(|x| digest(x)).collect() }
}

#[test]
fn a_miss_names_what_differs_from_the_closest_record() {
    let inputs = [
        ("FROM base".to_owned(), InputKey::Definition),
        ("load build context".to_owned(), InputKey::Content { selector: "/src".to_owned() }),
    ];
    let now = record("make", &["base", "files"]);
    let check = |same: Option<Record>, alike: Option<Record>, expected: &str| {
        assert_eq!(missed(&now, same.as_ref(), alike.as_ref(), &inputs), expected);
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
    assert_eq!(missed(&source, None, Some(&record("other pin", &[])), &[]), "its source is not what it was");
}
