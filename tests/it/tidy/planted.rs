//! Planted: for each rule a fault that it must find, in the forms that code gives it, and what it must leave alone.

use super::{
    circle::{Place, circles},
    reading::{Reading, read},
    rules,
};

fn module(path: &str) -> Vec<String> {
    path.split("::").filter(|part| !part.is_empty()).map(str::to_owned).collect()
}

fn parsed(path: &str, text: &str) -> Reading {
    read(text, &module(path), false).unwrap_or_else(|e| panic!("{e}: {text}"))
}

/// The paths that a file of module `a::b` names, each once.
fn named(text: &str) -> Vec<String> {
    let read = parsed("a::b", text);
    let mut paths: Vec<String> = read.named.iter().map(|named| named.path.join("::")).collect();
    paths.sort();
    paths.dedup();
    paths
}

#[test]
fn paths_are_found_however_they_are_written() {
    for (text, expected) in [
        ("use crate::{db::{self, Table}, gc as g};", vec!["crate::db", "crate::db::Table", "crate::gc"]),
        ("use super::super::{layer, self as up};", vec!["crate", "crate::layer"]),
        ("use self::inner::X;", vec!["crate::a::b::inner::X"]),
        ("mod inner { use super::super::c::*; }", vec!["crate::a::c::*"]),
        ("use crate::gc as g; fn f() { g::run(); }", vec!["crate::gc", "crate::gc::run"]),
        ("use std::{env as e}; use e as f; fn f() { f::var(0); }", vec!["e", "std::env", "std::env::var"]),
        ("fn f(x: Vec<crate::db::Row>) -> super::Y {}", vec!["crate::a::Y", "crate::db::Row"]),
        ("impl<T: crate::x::A> B for T {}", vec!["crate::x::A"]),
        ("fn f() { match x { crate::x::A::B => {} } }", vec!["crate::x::A::B"]),
        ("fn f() { <T as crate::x::A>::b() }", vec!["crate::x::A::b"]),
        ("fn f() { select!(a = crate::x::go(1) => [super::y::Z]); }", vec!["crate::a::y::Z", "crate::x::go"]),
        ("macro_rules! m { () => { $crate::x::go() } }", vec!["crate::x::go"]),
        ("m! { use crate::{db, gc::{run}}; }", vec!["crate::db", "crate::gc::run"]),
        ("#[derive(serde::Serialize)] struct A;", vec!["serde::Serialize"]),
        (r#"struct A { #[serde(with = "crate::time")] b: u8 }"#, vec!["crate::time"]),
        ("pub(in crate::a) fn f() {}", vec![]),
    ] {
        assert_eq!(named(text), expected, "{text}");
    }
}

#[test]
fn code_for_tests_is_told_apart() {
    for (text, expected) in [
        ("use crate::x::A;", false),
        ("#[cfg(test)] use crate::x::A;", true),
        ("#[cfg(test)] mod tests { use crate::x::A; }", true),
        ("#[cfg(all(test, unix))] fn f() { crate::x::a() }", true),
        ("#[cfg(any(test, unix))] fn f() { crate::x::a() }", false),
        ("#[cfg(not(test))] fn f() { crate::x::a() }", false),
        ("#[test] fn f() { crate::x::a() }", true),
        ("#[tokio::test] async fn f() { crate::x::a() }", true),
        ("impl A { #[cfg(test)] fn f() { crate::x::a() } }", true),
        ("fn f() { #[cfg(test)] let a = crate::x::a(); }", true),
    ] {
        let read = parsed("a", text);
        let named = read.named.iter().find(|named| named.path[..2] == ["crate", "x"]);
        assert_eq!(named.expect(text).test, expected, "{text}");
    }
    let declared = parsed("a", "#[cfg(test)] #[path = \"../r.rs\"] mod random; mod b { mod c; }").modules;
    assert_eq!(declared[0].file.as_deref(), Some("../r.rs"));
    assert!(declared[0].test && !declared[1].test);
    assert_eq!(declared[1].path, ["b", "c"]);
}

/// The circles among files given as module and text.
fn rings(files: &[(&str, &str)]) -> Vec<String> {
    let read: Vec<(String, Vec<String>, Reading)> =
        files.iter().map(|(path, text)| (format!("{path}.rs"), module(path), parsed(path, text))).collect();
    let places: Vec<Place<'_>> =
        read.iter().map(|(name, module, read)| Place { name, module, test: false, read }).collect();
    circles(&places)
}

#[test]
fn a_ring_is_found_and_told_with_its_places() {
    let found = rings(&[
        ("", "mod a; mod b; mod c;"),
        ("a::deep", "use super::super::{b::B};"),
        ("b", "\nfn f() { crate::c::go() }"),
        ("c", "use crate::{a, d};"),
        ("d", ""),
    ]);
    let expected = "a -> b -> c -> a (3 modules in the ring)
  a -> b: 1 times
    a::deep.rs:1: crate::b::B
  b -> c: 1 times
    b.rs:2: crate::c::go
  c -> a: 1 times
    c.rs:1: crate::a";
    assert_eq!(found, [expected]);
}

#[test]
fn rings_through_the_root_are_found_and_hidden_edges_refused() {
    let through =
        rings(&[("", "pub use error::Error;"), ("error", "use crate::db;"), ("db", "use crate::Error;")]);
    assert!(through.len() == 1 && through[0].starts_with("db -> error -> db"), "{through:?}");
    for hiding in ["use super::*;", "use crate::*;", "use crate as root;", "use super as root;"] {
        let found = rings(&[("", ""), ("a", hiding), ("b", "")]);
        assert!(found.len() == 1 && found[0].contains("hides"), "{hiding}: {found:?}");
    }
    let two = rings(&[
        ("a", "use crate::b;"),
        ("b", "use crate::a;"),
        ("c", "use crate::d;"),
        ("d", "use crate::c;"),
    ]);
    assert_eq!(two.len(), 2, "{two:?}");
}

#[test]
fn what_is_no_ring_is_left_alone() {
    let none: Vec<String> = Vec::new();
    assert_eq!(
        rings(&[("", "use a::A; use b::B;"), ("a", "use crate::b::B;"), ("b", "use b::own; use other::a;")]),
        none
    );
    assert_eq!(
        rings(&[("a", "use crate::b::B;"), ("b", "#[cfg(test)] mod tests { use crate::a::A; }")]),
        none
    );
    assert_eq!(rings(&[("a", "use crate::a::x;"), ("a::x", "use super::y; use crate::a;")]), none);
}

#[test]
fn an_edge_that_is_not_drawn_is_found() {
    let drawn: &[(&str, &[&str])] = &[("low", &[]), ("high", &["low"])];
    assert_eq!(rules::edges(drawn, "low", &["high"]), ["low must not use high"]);
    assert_eq!(rules::edges(drawn, "new", &["low"]), ["new must not use low"]);
    assert!(rules::edges(drawn, "high", &["low"]).is_empty());
}

#[test]
fn a_dependency_nobody_names_is_found() {
    for (text, tests, expected) in [
        ("use tokio_util::io;", false, true),
        ("fn f() { tokio_util::go() }", false, true),
        ("#[tokio_util::main] fn f() {}", false, true),
        ("fn f() { m!(tokio_util::go()) }", false, true),
        ("use tokio_util as t;", false, true),
        ("#[cfg(test)] use tokio_util::io;", false, false),
        ("#[cfg(test)] use tokio_util::io;", true, true),
        ("// use tokio_util::io;\nconst A: &str = \"tokio_util::io\";", false, false),
        ("use tokio::io; mod tokio_util {}", false, false),
    ] {
        let read = parsed("a", text);
        assert_eq!(rules::uses("tokio-util", tests, [&read].into_iter()), expected, "{text}");
    }
}

#[test]
fn what_belongs_in_a_binary_is_found() {
    for text in [
        "use tonic::Status;",
        "use {std::fs, clap::Parser};",
        "fn f() -> anyhow::Result<()> {}",
        "use std::env::var_os;",
        "use std::{env, fs}; fn f() { env::var(0); }",
        "use std::env::{self as e}; fn f() { e::set_var(0, 0); }",
        "fn f() { std::env::vars(); }",
        "use std::env::*;",
        "fn f() { println!(); }",
        "fn f() { select! { _ => std::eprintln!(\"x\") } }",
    ] {
        assert_eq!(rules::belongs_in_a_binary(&parsed("a", text)).len(), 1, "{text}");
    }
    for text in [
        "// println!()\n/// use tonic::Status;\nconst A: &str = \"println!\";",
        "#[cfg(test)] mod tests { fn f() { println!(); } }",
        "fn f() { env!(\"A\"); std::env::current_exe(); my::env::var(); }",
    ] {
        assert!(rules::belongs_in_a_binary(&parsed("a", text)).is_empty(), "{text}");
    }
}

#[test]
fn unsafe_is_found_wherever_it_may_stand() {
    for text in [
        "fn f() { unsafe { g() } }",
        "unsafe fn f() {}",
        "trait A { unsafe fn f(); }",
        "impl A { pub(crate) async unsafe fn f() {} }",
        "unsafe impl Send for A {}",
        "unsafe trait A {}",
        "unsafe extern \"C\" { }",
        "#[unsafe(no_mangle)] fn f() {}",
        "fn f() { m!(unsafe { g() }) }",
    ] {
        assert_eq!(rules::unsafes(&parsed("a", text)).len(), 1, "{text}");
    }
    for text in ["// unsafe {\nconst A: &str = \"unsafe {\";", "#[cfg(test)] fn f() { unsafe { g() } }"] {
        assert!(rules::unsafes(&parsed("a", text)).is_empty(), "{text}");
    }
}

#[test]
fn what_is_left_undone_is_found() {
    let comment = concat!("// TO", "DO: all of it");
    for text in [
        comment,
        "fn f() { todo!() }",
        "fn f() { m!(unimplemented!(\"later\")) }",
        "#[cfg(test)] mod tests { fn f() { std::todo!() } }",
        "#[test] #[ignore] fn f() {}",
        "#[test] #[ignore = \"slow\"] fn f() {}",
    ] {
        assert_eq!(rules::undone(text, &parsed("a", text)).len(), 1, "{text}");
    }
    let text = "const A: &str = \"todo!()\"; fn f() { todo.ignore() }";
    assert!(rules::undone(text, &parsed("a", text)).is_empty());
}

#[test]
fn a_long_function_is_found_by_its_lines() {
    let lines = |count: usize| "g();\n".repeat(count);
    let found = |text: &str| rules::long_functions(&parsed("a", text)).len();
    for (text, expected) in [
        (format!("fn f() {{\n{}}}", lines(58)), 0),
        (format!("fn f() {{\n{}}}", lines(59)), 1),
        (format!("#[inline]\nasync fn f(\n a: u8,\n) {{\n{}}}", lines(57)), 1),
        (format!("impl A {{ fn f() {{\n{}}} }}", lines(59)), 1),
        (format!("trait A {{ fn f() {{\n{}}} }}", lines(59)), 1),
        (format!("mod m {{ fn f() {{ if a {{\n{}}} }} }}", lines(59)), 1),
        (format!("fn f() {{ match a {{\n{} }} }}", "1 => 2,\n".repeat(90)), 0),
        (format!("fn f() {{ Ok(match a {{\n{} }}) }}", "1 => 2,\n".repeat(90)), 0),
        (format!("fn f() {{ match a {{\n{} }}\n{}}}", "1 => 2,\n".repeat(40), lines(40)), 1),
        (format!("#[cfg(test)] fn f() {{\n{}}}", lines(90)), 0),
    ] {
        assert_eq!(found(&text), expected, "{text}");
    }
}

#[test]
fn a_bad_file_and_a_high_median_are_found() {
    let long = "//! Doc.\n".repeat(501);
    assert_eq!(rules::file("a/b.rs", &long, false).len(), 1);
    assert!(rules::file("a/b.rs", &long, true).is_empty());
    assert_eq!(rules::file("a/b.rs", "use a;\n//! Doc.\n", false).len(), 1);
    assert_eq!(rules::file("a/util.rs", "//! Doc.\n", false).len(), 1);
    assert!(rules::file("a/utility.rs", "//! Doc.\n", false).is_empty());
    assert!(rules::median(vec![500, 1, 151]).is_some());
    assert!(rules::median(vec![500, 150, 1]).is_none());
}
