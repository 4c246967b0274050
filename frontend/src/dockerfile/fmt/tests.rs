//! The usual form; that it is stable; that it means the same.

use super::*;
use crate::dockerfile::tests::{cases, llb, random_texts};

#[test]
fn the_usual_form() {
    for (text, wanted) in [
        ("from a", "FROM a\n"),
        (
            "From   --platform=linux/amd64  a   as   b  \n\n\n\nuser  x\n\n",
            "FROM --platform=linux/amd64 a AS b\n\nUSER x\n",
        ),
        ("#syntax = a/b\r\n#c\r\nFROM a\r\n", "# syntax=a/b\n#c\nFROM a\n"),
        ("\u{feff}  # c  \nFROM a", "# c\nFROM a\n"),
        ("FROM a\nENV a=1  b=2 \\\n c=\"x  y\"", "FROM a\nENV a=1  b=2 \\\n    c=\"x  y\"\n"),
        (
            "FROM a\nENV a=1   b=2 \\\n\n# why\n       c=3\\\n d=4\n",
            "FROM a\nENV a=1 b=2 \\\n    # why\n    c=3 \\\n    d=4\n",
        ),
        ("FROM a\nrun  echo   a  &&  \\\n  b\\\n\n  c\n", "FROM a\nRUN echo   a  &&  \\\n  b\\\n  c\n"),
        ("FROM a\nENV a=1\\\nb=2  c=3", "FROM a\nENV a=1\\\nb=2  c=3\n"),
        ("FROM a\nCOPY   a   b   /x/", "FROM a\nCOPY a b /x/\n"),
        ("FROM a\ncopy <<E /x\n  body  \n\n\nE\nuser y", "FROM a\nCOPY <<E /x\n  body  \n\n\nE\nUSER y\n"),
        ("FROM a\nCMD  [\"a\",   \"b  c\"]  ", "FROM a\nCMD [\"a\",   \"b  c\"]\n"),
        ("# escape=`\nFROM a\nENV a=1`\n b=2", "# escape=`\nFROM a\nENV a=1 `\n    b=2\n"),
        ("FROM a\nONBUILD  run  x", "FROM a\nONBUILD run  x\n"),
        ("FROM a\nLABEL a=\"1 \\\n  2\"", "FROM a\nLABEL a=\"1 \\\n  2\"\n"),
        ("\n# escape=`\nFROM a\n", "\n# escape=`\nFROM a\n"),
    ] {
        assert_eq!(format(text.as_bytes()).as_deref(), Ok(wanted), "{text:?}");
    }
}

#[test]
fn what_does_not_parse_is_not_touched() {
    let fault = format(b"FROM a\nRUM x\nCOPI y\n").expect_err("two faults");
    assert_eq!(fault.lines.len(), 2, "{fault}");
    assert!(format(b"FROM a\nRUN \xff\n").is_err());
}

/// Everything that this crate can build or nearly build, before and after.
#[test]
fn the_corpus_keeps_its_meaning() {
    let mut changed = 0;
    for (case, text) in cases() {
        let Ok(formatted) = format(&text) else { continue };
        changed += usize::from(formatted.as_bytes() != text);
        assert_eq!(format(formatted.as_bytes()).as_deref(), Ok(formatted.as_str()), "{case}: not stable");
        assert_eq!(
            llb(&case, &text),
            llb(&case, formatted.as_bytes()),
            "{case}: another meaning:\n{formatted}"
        );
    }
    assert!(changed > 5, "{changed} cases changed");
}

#[test]
fn random_texts_keep_their_meaning() {
    let mut formatted = 0;
    for text in random_texts(20_000) {
        let Ok(once) = format(&text) else { continue };
        formatted += 1;
        let shown = String::from_utf8_lossy(&text).into_owned();
        assert_eq!(format(once.as_bytes()).as_deref(), Ok(once.as_str()), "{shown:?}");
        let (before, after) =
            (Ast::read(&text).expect("parsed"), Ast::read(once.as_bytes()).expect("parses"));
        assert!(same(&before, &once), "{shown:?}");
        assert_eq!(before.document.statements.len(), after.document.statements.len());
    }
    assert!(formatted > 500, "{formatted} texts parse");
}
