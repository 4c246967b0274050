//! Directives, continuations, heredocs and their line numbers.

use super::*;

fn rests(text: &str) -> Vec<String> {
    let document = read(text.as_bytes()).expect("a Dockerfile");
    let show = |s: &Statement| format!("{}-{} {}|{}", s.lines.first, s.lines.last, s.keyword, s.rest);
    document.statements.iter().map(show).collect()
}

fn fault(text: &str) -> String {
    read(text.as_bytes()).expect_err("faulty").message
}

#[test]
fn continuations_and_comments() {
    let cases: &[(&str, &[&str])] = &[
        ("FROM a\r\nRUN b\r\n", &["1-1 FROM|a", "2-2 RUN|b"]),
        ("\u{feff}FROM a", &["1-1 FROM|a"]),
        ("RUN a \\\n  b\n", &["1-2 RUN|a   b"]),
        ("RUN a \\ \n# c\n\n  && b\nUSER x", &["1-4 RUN|a   && b", "5-5 USER|x"]),
        ("RUN a \\\\\nUSER b", &["1-1 RUN|a \\\\", "2-2 USER|b"]),
        ("# escape=`\nRUN a `\nb\\\n", &["2-3 RUN|a b\\"]),
        ("  # c\n\n  RUN a", &["3-3 RUN|a"]),
        ("RUN a \\", &["1-1 RUN|a"]),
    ];
    for (text, wanted) in cases {
        assert_eq!(&rests(text), wanted, "{text:?}");
    }
}

#[test]
fn directives_end_at_the_first_other_line() {
    let document = read(b"# syntax = a/b:1 x\n# escape=`\nFROM a\n# check=skip=all").expect("fine");
    assert_eq!((document.syntax.as_deref(), document.escape), (Some("a/b:1 x"), '`'));
    assert_eq!(document.check, None);
    assert_eq!(read(b"# hi\n# escape=`\nFROM a").expect("fine").escape, '\\');
}

#[test]
fn heredoc_bodies() {
    let document = read(b"COPY <<A <<-\"B\" /d/\none $x\nA\n\ttwo\n\tB\nRUN [\"<<A\"]\n").expect("fine");
    let bodies: Vec<_> = document.statements[0]
        .heredocs
        .iter()
        .map(|h| (h.name.as_str(), h.expand, h.content.as_str()))
        .collect();
    assert_eq!(bodies, [("A", true, "one $x\n"), ("B", false, "two\n")]);
    assert_eq!(document.statements[0].lines, Lines { first: 1, last: 5 });
    assert!(document.statements[1].heredocs.is_empty());
}

#[test]
fn faults() {
    for (text, wanted) in [
        ("", "the Dockerfile cannot be empty"),
        ("# c\n", "file with no instructions"),
        (
            "# escape=x\nFROM a",
            "dockerfile parse error on line 1: invalid escape token 'x' does not match ` or \\",
        ),
        (
            "# escape=`\n# escape=`\nFROM a",
            "dockerfile parse error on line 2: only one escape parser directive can be used",
        ),
        ("FROM a\nRUN <<E\nx", "dockerfile parse error on line 2: unterminated heredoc"),
    ] {
        assert_eq!(fault(text), wanted);
    }
    assert!(fault(&format!("FROM a\nRUN {}", "x".repeat(70_000))).contains("max allowed size of 65535"));
}
