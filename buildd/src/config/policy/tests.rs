//! What a file says becomes rules in bytes.

use super::*;

const GB: u64 = 1_000_000_000;

fn worker(text: &str) -> OciWorker {
    toml::from_str(text).expect("a table")
}

#[test]
fn without_rules_the_sizes_make_four() {
    let rules = worker("").defaults(1000 * GB);
    assert_eq!(rules.len(), 4);
    assert_eq!((rules[0].filters.len(), rules[0].policy.max_used), (3, Some(512_000_000)));
    let sizes = Policy {
        reserved: Some(10 * GB),
        max_used: Some(100 * GB),
        min_free: Some(200 * GB),
        ..Policy::default()
    };
    assert_eq!(rules[2].policy, sizes);
    assert_eq!(rules[3].policy, Policy { all: true, ..sizes });
    let small = worker("").defaults(50 * GB)[2].policy;
    assert_eq!(
        (small.reserved, small.max_used, small.min_free),
        (Some(5 * GB), Some(40 * GB), Some(10 * GB))
    );
    let old = worker("gckeepstorage = \"9GB\"").defaults(50 * GB)[2].policy;
    assert_eq!(old, Policy { reserved: Some(9 * GB), ..Policy::default() });
    let new = worker("gckeepstorage = 1\nmaxUsedSpace = \"50%\"").defaults(50 * GB)[2].policy;
    assert_eq!(new, Policy { max_used: Some(25 * GB), ..Policy::default() });
}

#[test]
fn rules_are_taken_as_they_are() {
    let text = "[[gcpolicy]]\nkeepBytes = 7\nkeepDuration = 3600\nfilters = [\"type==source.local\"]\n\
                [[gcpolicy]]\nall = true\nkeepDuration = \"1h30m\"\nreservedSpace = \"10%\"\nmaxUsedSpace = \"3GB\"\nminFreeSpace = 1\n";
    let worker = worker(text);
    worker.check().expect("sound");
    let rules: Vec<Rule> = worker.gcpolicy.iter().map(|policy| policy.rule(GB)).collect();
    assert_eq!(rules[0].filters, ["type==source.local"]);
    assert_eq!(
        rules[0].policy,
        Policy { reserved: Some(7), keep_duration: Some(Duration::from_secs(3600)), ..Policy::default() }
    );
    let second = Policy {
        all: true,
        keep_duration: Some(Duration::from_secs(5400)),
        reserved: Some(GB / 10),
        max_used: Some(3 * GB),
        min_free: Some(1),
    };
    assert_eq!(rules[1].policy, second);
    let off = OciWorker { gc: Some(false), ..worker };
    assert!(off.rules(Path::new("/")).is_empty());
}

#[test]
fn mistakes_name_their_key() {
    for (text, key) in [
        ("[[gcpolicy]]\nkeepDuration = \"1w\"", "keepDuration"),
        ("[[gcpolicy]]\nkeepDuration = \"\"", "keepDuration"),
        ("[[gcpolicy]]\nkeepDuration = \"7\"", "keepDuration"),
        ("[[gcpolicy]]\nmaxUsedSpace = \"lots\"", "gcpolicy.maxUsedSpace"),
        ("[[gcpolicy]]\nfilters = [\"type=~=\"]", "filters"),
        ("minFreeSpace = \"101%\"", "oci.minFreeSpace"),
    ] {
        let error = worker(text).check().expect_err(text).to_string();
        assert!(error.contains(key), "{text}: {error}");
    }
    assert!(toml::from_str::<OciWorker>("[[gcpolicy]]\nkeepTime = 3").is_err());
}
