//! The grammar of --output, good and bad.
use super::*;

#[test]
fn good_outputs() {
    let check = |text: &str, kind: &str, attrs: &[(&str, &str)], target: Option<Target>| {
        let output = Output::parse(text).expect(text);
        assert_eq!(output.exporter.r#type, kind, "{text}");
        let attrs = attrs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        assert_eq!(output.exporter.attrs, attrs, "{text}");
        assert_eq!(output.target, target, "{text}");
    };
    check("type=local,dest=out", "local", &[], Some(Target::Directory("out".into())));
    check("out/dir", "local", &[], Some(Target::Directory("out/dir".into())));
    check("type=oci,dest=/no/x.tar", "oci", &[], Some(Target::File("/no/x.tar".into())));
    check("type=image,name=a:1,push=true", "image", &[("name", "a:1"), ("push", "true")], None);
    check("type=image,\"name=a,b\"", "image", &[("name", "a,b")], None);
}

#[test]
fn bad_outputs() {
    for text in [
        "type=local",
        "type=local,dest=-",
        "dest=x",
        "type=image,dest=x",
        "type=oci,dest=/tmp",
        "type=oci,tar=false,dest=x",
        "type=tar,novalue",
        "\"type=tar",
        "",
    ] {
        assert!(Output::parse(text).is_err(), "{text}");
    }
}

#[test]
fn quotes() {
    assert_eq!(split(r#"a,"b,c","d""e",f"g"#).expect("closed"), ["a", "b,c", "d\"e", "f\"g"]);
}
