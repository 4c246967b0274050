//! What a mask changes.

use super::*;

fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
}

#[test]
fn masks() {
    let old = map(&[("a", "1"), ("b", "2")]);
    let new = || HashMap::from([("a".to_owned(), "9".to_owned()), ("b".to_owned(), String::new())]);
    let apply = |paths: &[&str]| {
        let mask = FieldMask { paths: paths.iter().map(|p| (*p).to_owned()).collect() };
        masked(Some(mask), &["target"], &old, new())
    };
    assert_eq!(apply(&[]).expect("all").labels, Some(map(&[("a", "9")])));
    assert_eq!(apply(&["labels.a"]).expect("one").labels, Some(map(&[("a", "9"), ("b", "2")])));
    assert_eq!(apply(&["labels.b"]).expect("removed").labels, Some(map(&[("a", "1")])));
    assert_eq!(
        apply(&["target"]).expect("field"),
        Masked { labels: None, fields: vec!["target".to_owned()] }
    );
    assert!(apply(&["name"]).is_err());
}
