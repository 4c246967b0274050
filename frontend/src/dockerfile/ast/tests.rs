//! Nothing is lost, and everything has its place.

use super::*;
use crate::dockerfile::tests::{cases, random_texts};

fn whole(ast: &Ast) -> Vec<u8> {
    ast.pieces.iter().flat_map(|piece| ast.text[piece.bytes.clone()].to_vec()).collect()
}

#[test]
fn the_pieces_are_the_text() {
    let mut read = 0;
    let texts = cases().into_iter().map(|(_, text)| text).chain(random_texts(20_000));
    for text in texts {
        let Ok(ast) = Ast::read(&text) else { continue };
        read += 1;
        assert_eq!(whole(&ast), text, "{}", String::from_utf8_lossy(&text));
        let mut next = 1;
        for piece in &ast.pieces {
            assert_eq!(piece.lines.first, next, "{ast:?}");
            next = piece.lines.last + 1;
        }
    }
    assert!(read > 500, "{read} texts parse");
}

#[test]
fn places_are_exact() {
    let text = b"\xef\xbb\xbf# syntax=x\n# note\n\nRUN --network=none a \\\n# in\n  b <<E\nbody\nE\n# end";
    let ast = Ast::read(&text[..]).expect("fine");
    let kinds: Vec<String> = ast
        .pieces
        .iter()
        .map(|piece| {
            let json = ast.piece_json(piece);
            format!("{} {}", json["kind"].as_str().expect("a kind"), json["lines"])
        })
        .collect();
    assert_eq!(
        kinds,
        ["directive [1,1]", "comment [2,2]", "blank [3,3]", "instruction [4,8]", "comment [9,9]"]
    );
    let run = &ast.json()["pieces"][3];
    assert_eq!(run["keyword"], "RUN");
    assert_eq!(run["flags"], json!(["--network=none"]));
    assert_eq!(run["arguments"], "a   b <<E");
    assert_eq!(run["head"], json!([4, 6]));
    assert_eq!(run["heredocs"][0]["lines"], json!([7, 8]));
    assert_eq!(run["bytes"], json!([22, 65]));
}
