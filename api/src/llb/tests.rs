//! The builder: indexes, deduplication, determinism, long chains.

use std::collections::BTreeMap;

use super::*;

fn image(name: &str) -> State {
    State::source(&format!("docker-image://{name}"), BTreeMap::new(), OpOptions::default())
}

fn copy(from: &State, dest: &str) -> FileStep {
    let named = pb::NamedUserOpt { name: "me".into(), input: 99 };
    let user = pb::UserOpt { user: Some(pb::user_opt::User::ByName(named)) };
    let owner = Some(pb::ChownOpt { user: Some(user), group: None });
    FileStep::Copy {
        from: from.clone(),
        copy: pb::FileActionCopy { src: "/a".into(), dest: dest.into(), owner, ..Default::default() },
    }
}

#[test]
fn chained_copies_refer_to_each_other() {
    let (base, other) = (image("base"), image("other"));
    let built = base.file(vec![copy(&other, "/x"), copy(&other, "/y")], OpOptions::default());
    let text = dump::text(&built.marshal(None).expect("not scratch"));
    assert!(text.contains("copy 0+1->-1 /a /x"), "{text}");
    assert!(text.contains("copy 2+1->0 /a /y"), "{text}");
    assert!(text.contains("owner=me@0:") && text.contains("owner=me@2:"), "{text}");
}

#[test]
fn an_op_is_listed_once_and_its_key_is_its_digest() {
    let base = image("base");
    let left = base.file(vec![copy(&base, "/l")], OpOptions::default());
    let right = base.file(vec![copy(&base, "/r")], OpOptions::default());
    let definition = State::merge(&[left, right], OpOptions::default()).marshal(None).expect("not scratch");
    assert_eq!(definition.def.len(), 5);
    for bytes in &definition.def {
        assert!(definition.metadata.contains_key(&Digest::of(bytes).to_string()));
    }
}

#[test]
fn names_do_not_change_digests_but_platforms_do() {
    let named = OpOptions { name: "x".into(), ignore_cache: true, ..Default::default() };
    let platform = pb::Platform { os: "linux".into(), architecture: "arm64".into(), ..Default::default() };
    let other = OpOptions { platform: Some(platform), ..Default::default() };
    let digest = |options| State::source("local://c", BTreeMap::new(), options).digest().map(str::to_owned);
    assert_eq!(digest(named), digest(OpOptions::default()));
    assert_ne!(digest(other), digest(OpOptions::default()));
}

#[test]
fn scratch_has_no_definition_and_is_neutral() {
    assert!(State::scratch().marshal(None).is_none());
    let merged = State::merge(&[State::scratch(), image("a")], OpOptions::default());
    assert_eq!(merged.digest(), image("a").digest());
}

#[test]
fn a_very_long_chain_neither_recurses_nor_leaks() {
    let mut state = image("base");
    for i in 0..50_000 {
        state = state.file(vec![copy(&State::scratch(), &format!("/{i}"))], OpOptions::default());
    }
    assert_eq!(state.marshal(None).expect("not scratch").def.len(), 50_002);
}

#[test]
fn a_definition_is_gone_on_from_with_the_same_digests() {
    let base = image("base");
    let built =
        base.file(vec![copy(&image("other"), "/x")], OpOptions { name: "n".into(), ..Default::default() });
    let definition = built.marshal(None).expect("not scratch");
    let again = State::of_definition(&definition).expect("ours");
    assert_eq!(again.marshal(None).expect("not scratch"), definition);
    assert!(State::of_definition(&pb::Definition::default()).expect("nothing").is_scratch());
    let more = again.file(vec![copy(&base, "/y")], OpOptions::default());
    assert_eq!(
        more.marshal(None).expect("not scratch").def.len(),
        definition.def.len() + 1,
        "base is one op"
    );

    let mut broken = definition.clone();
    broken.def[0] = vec![0xff];
    let error = State::of_definition(&broken).expect_err("no op");
    assert!(matches!(error, DefinitionError::Decode { number: 0, .. }), "{error}");
    let mut broken = definition.clone();
    broken.def.swap(0, 2);
    let error = State::of_definition(&broken).expect_err("an input that comes later");
    assert!(matches!(error, DefinitionError::Input { number: 0, .. }), "{error}");
    let mut broken = definition;
    broken.def.pop();
    let error = State::of_definition(&broken).expect_err("two inputs");
    assert!(matches!(error, DefinitionError::Last { inputs: 2 }), "{error}");
}
