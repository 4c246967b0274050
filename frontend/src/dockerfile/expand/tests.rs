//! A table of words; values as in the reference's envVarTest.

use super::*;

fn env() -> Vec<(String, String)> {
    [
        ("PWD", "/home"),
        ("SHELL", "bash"),
        ("E", ""),
        ("FILE", "a/b/c.tar.gz"),
        ("KO", "한국어"),
        ("WORDS", "x y"),
    ]
    .map(|(k, v)| (k.to_owned(), v.to_owned()))
    .to_vec()
}

fn text(word: &str) -> String {
    match Lexer::new('\\').expand(word, env().as_slice()) {
        Ok(expanded) => expanded.text,
        Err(fault) => format!("! {}", fault.message),
    }
}

#[test]
fn expansions() {
    for (word, wanted) in [
        ("hello", "hello"),
        ("he'll'o", "hello"),
        ("he\"ll\"o", "hello"),
        ("he\\'llo", "he'llo"),
        ("he'llo", "! unexpected end of statement while looking for matching single-quote"),
        ("he\"llo", "! unexpected end of statement while looking for matching double-quote"),
        ("'$PWD'", "$PWD"),
        ("\"$PWD\"", "/home"),
        ("\\$PWD", "$PWD"),
        ("\"\\$PWD\"", "$PWD"),
        ("\"a\\xb\"", "a\\xb"),
        ("$PWD", "/home"),
        ("he$PWD.x", "he/home.x"),
        ("$PWDx", ""),
        ("${PWD}x", "/homex"),
        ("$", "$"),
        ("a$ b", "a$ b"),
        ("$1x", "x"),
        ("$@", ""),
        ("${PWD:-x}", "/home"),
        ("${E:-x}", "x"),
        ("${E-x}", ""),
        ("${NO-x}", "x"),
        ("${NO:-}", ""),
        ("${PWD:+x}", "x"),
        ("${E:+x}", ""),
        ("${E+x}", "x"),
        ("${NO+x}", ""),
        ("${NO:-${PWD}}", "/home"),
        ("${NO:-${NO:-${SHELL}}}", "bash"),
        ("${NO:-a\\}b}", "a}b"),
        ("${PWD?m}", "/home"),
        ("${NO?}", "! NO: is not allowed to be unset"),
        ("${NO:?}", "! NO: is not allowed to be unset"),
        ("${E:?}", "! E: is not allowed to be empty"),
        ("${E?}", ""),
        ("${NO:?my message}", "! NO: my message"),
        ("${}", "! syntax error: bad substitution"),
        ("${:}", "! syntax error: bad substitution"),
        ("${{", "! syntax error: bad substitution"),
        ("${", "! syntax error: missing '}'"),
        ("${PWD", "! syntax error: missing '}'"),
        ("${PWD:-x", "! syntax error: missing '}'"),
        ("${PWD:#x}", "! unsupported modifier (:#) in substitution"),
        ("${PWD,x}", "! unsupported modifier (,) in substitution"),
        ("${FILE#*/}", "b/c.tar.gz"),
        ("${FILE##*/}", "c.tar.gz"),
        ("${FILE%.*}", "a/b/c.tar"),
        ("${FILE%%.*}", "a/b/c"),
        ("${FILE#x}", "a/b/c.tar.gz"),
        ("${FILE#?/}", "b/c.tar.gz"),
        ("${FILE%?z}", "a/b/c.tar."),
        ("${FILE/\\//-}", "a-b/c.tar.gz"),
        ("${FILE//\\//-}", "a-b-c.tar.gz"),
        ("${FILE/b*r/x}", "a/x.gz"),
        ("${NO/a/b}", ""),
        ("$KO", "한국어"),
        ("${KO#?}", "국어"),
        ("${FILE//./}", "a/b/ctargz"),
    ] {
        assert_eq!(text(word), wanted, "{word}");
    }
}

/// The table in testdata; what bash has too, bash said.
#[test]
fn the_table() {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/expansion.txt");
    let table = std::fs::read_to_string(path).expect("the table");
    let (mut env, mut failures, mut count) = (Vec::new(), Vec::new(), 0);
    for line in table.lines().filter(|line| !line.starts_with("# ")) {
        if let Some((name, value)) = line.strip_prefix("set ").and_then(|pair| pair.split_once('=')) {
            env.push((name.to_owned(), value.to_owned()));
            continue;
        }
        let (word, wanted) = line.split_once(" => ").expect(line);
        let got = match Lexer::new('\\').expand(word, env.as_slice()) {
            Ok(expanded) => expanded.text,
            Err(fault) => format!("! {}", fault.message),
        };
        count += 1;
        if got != wanted {
            failures.push(format!("{word} => {got:?}, wanted {wanted:?}"));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    assert!(count >= 300, "{count} words");
}

#[test]
fn words_are_split_outside_of_quotes_and_inside_of_values() {
    for (line, wanted) in [
        ("a b", vec!["a", "b"]),
        ("'a b' c", vec!["a b", "c"]),
        ("a\\ b", vec!["a b"]),
        ("$WORDS", vec!["x", "y"]),
        ("\"$WORDS\"", vec!["x y"]),
        ("\"\"", vec![""]),
        ("$NO", vec![]),
        ("  a  ", vec!["a"]),
    ] {
        let words = Lexer::new('\\').expand(line, env().as_slice()).expect(line).words;
        assert_eq!(words, wanted, "{line}");
    }
}

#[test]
fn raw_keeps_quotes_and_unset_names() {
    let raw = Lexer::raw('\\');
    for (word, wanted) in [
        ("a 'b' \"c\" \\d", "a 'b' \"c\" \\d"),
        ("$PWD $NO ${NO} ${NO:-x} ${NO%.*} ${NO+x}", "/home $NO ${NO} ${NO:-x} ${NO%.*} ${NO+x}"),
    ] {
        assert_eq!(raw.expand(word, env().as_slice()).expect(word).text, wanted);
    }
}

#[test]
fn documents_have_quotes_as_text() {
    let lexer = Lexer::document('\\');
    for (body, wanted) in [
        ("it's $PWD \\$x \\n", "it's /home $x \\n"),
        ("${NO:-\"q\"} \\\\", "\"q\" \\"),
        ("\"$PWD", "\"/home"),
    ] {
        assert_eq!(lexer.expand(body, env().as_slice()).expect(body).text, wanted);
    }
}

#[test]
fn unset_names_are_told_and_growth_is_bounded() {
    let unset = Lexer::new('\\').expand("$A ${B} ${C:-x}", &Empty).expect("fine").unset;
    assert_eq!(unset.into_iter().collect::<Vec<_>>(), ["A", "B"]);
    let big = vec![("A".to_owned(), "x".repeat(MAX_WORD))];
    assert!(Lexer::new('\\').expand("$A$A$A", big.as_slice()).is_err());
    assert!(Lexer::new('\\').expand(&"${a:-".repeat(10_000), &Empty).is_err());
    let slow = vec![("A".to_owned(), "a".repeat(60_000))];
    assert!(Lexer::new('\\').expand("${A//a*a*b/x}", slow.as_slice()).is_err());
}
