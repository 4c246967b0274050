//! Which filters match a thing.

use super::*;

struct Thing(BTreeMap<String, String>);

impl Fields for Thing {
    fn field(&self, name: &str) -> Option<String> {
        (name == "name").then(|| "a/b:c".to_owned())
    }
    fn labels(&self) -> &BTreeMap<String, String> {
        &self.0
    }
}

#[test]
fn table() {
    let thing = Thing(BTreeMap::from([("x.y".to_owned(), "1".to_owned())]));
    let cases: &[(&[&str], Option<bool>)] = &[
        (&[], Some(true)),
        (&[""], Some(true)),
        (&["name==a/b:c"], Some(true)),
        (&["name==\"a/b:c\""], Some(true)),
        (&["name!=a/b:c"], Some(false)),
        (&["name==d", "name==a/b:c"], Some(true)),
        (&["name==a/b:c,labels.\"x.y\"==1"], Some(true)),
        (&["name==a/b:c,labels.\"x.y\"==2"], Some(false)),
        (&["labels.\"x.y\""], Some(true)),
        (&["labels.none"], Some(false)),
        (&["==x"], None),
        (&["name==\"open"], None),
        (&["name~=^a/.:c$"], Some(true)),
        (&["name~=x"], Some(false)),
        (&["name~=["], None),
        (&["name~=a{1000}{1000}{1000}"], None),
        (&["name == a/b:c , labels.\"x.y\" == 1"], Some(true)),
    ];
    for (filters, expected) in cases {
        let texts: Vec<String> = filters.iter().map(|text| (*text).to_owned()).collect();
        let found = Filters::parse(&texts).ok().map(|filters| filters.matches(&thing));
        assert_eq!(found, *expected, "{filters:?}");
    }
}
