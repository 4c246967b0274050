//! Did you mean: the known word nearest to a misspelt one, for messages about instructions, flags, attributes and files.
//!
//! Nearness is Damerau's edit distance without case: a swap of neighbours (`FORM`) is one mistake.

/// The nearest of `known`, if at most a third of the word is wrong, and two letters.
pub fn nearest<'a, S: AsRef<str>>(word: &str, known: &'a [S]) -> Option<&'a str> {
    /// Longer words take too long to compare, and are hardly misspelt.
    const MAX_WORD: usize = 255;
    if word.len() > MAX_WORD {
        return None;
    }
    let near = |k: &&S| k.as_ref().len().abs_diff(word.len()) <= 8;
    let (distance, best) = known
        .iter()
        .filter(near)
        .map(|k| (distance(word, k.as_ref()), k.as_ref()))
        .min_by_key(|(d, _)| *d)?;
    (distance <= 2 && distance * 3 <= word.chars().count().max(3)).then_some(best)
}

fn distance(a: &str, b: &str) -> usize {
    let a: Vec<char> = a.to_lowercase().chars().collect();
    let b: Vec<char> = b.to_lowercase().chars().collect();
    let mut rows = vec![(0..=b.len()).collect::<Vec<usize>>()];
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let change = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut best = change.min(rows[i - 1][j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            row.push(best);
        }
        rows.push(row);
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::nearest;

    #[test]
    fn a_slip_is_mended_and_another_word_is_not() {
        let known = ["FROM", "main.c", "compression", "Makefile"];
        for (word, expected) in [
            ("FORM", Some("FROM")),
            ("mian.c", Some("main.c")),
            ("compresion", Some("compression")),
            ("makefile", Some("Makefile")),
            ("docs", None),
            ("", None),
        ] {
            assert_eq!(nearest(word, &known), expected, "{word}");
        }
    }
}
